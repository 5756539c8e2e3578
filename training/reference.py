"""The log-probabilities that a DPO model is compared with, computed once and shared by all runs on the same base.

They do not change in training, so that the trainer need not compute them at every step, nor every run of a sweep anew. The prompt of the
reference may be another than the policy's: with `reference_persona: false` it is the neutral one.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from datasets import Dataset

from builder.errors import InputError
from builder.files import write_atomically
from training.conditioning import Messages, chat_template_hash
from training.prepare import Prepared
from training.scoring import Item, ScoringModel, load_base_model, score_log_probabilities

REFERENCE_FOLDER = "reference"  # in the working folder


def reference_log_probabilities(
    model: ScoringModel, items: Sequence[Item], cache: Path | None = None, batch_size: int = 16
) -> list[float]:
    """Of each answer, in nats, under the base that `model` was or will be trained from (a base model, or a DPO model's reference).

    cache: a folder; what is found there is not computed again, and what is computed is added as one file.
    """
    keys = [item_key(item) for item in items]
    name = cache_name(model)
    known = read_cache(cache, name) if cache else {}
    missing = {key: item for key, item in zip(keys, items, strict=True) if key not in known}
    if missing:
        values = score_log_probabilities(
            model, list(missing.values()), batch_size, "Reference", reference=model.kind == "dpo"
        )
        fresh = dict(zip(missing, values, strict=True))
        if cache:
            write_cache(cache, name, fresh)
        known |= fresh
    return [known[key] for key in keys]


def with_reference(prepared: Prepared, datasets: Mapping[str, Dataset]) -> dict[str, Dataset]:
    """The trainer's rows with `ref_chosen_logps` and `ref_rejected_logps`, computed by the main process for all.

    The values are kept beside the checkpoints, so that a resumed run does not compute them again. Raises InputError for a quantised base.
    """
    run = prepared.run
    if run.model.load_in_4bit or run.model.load_in_8bit:
        raise InputError(
            "The reference's log-probabilities are computed on the base's own weights, and this base is quantised. Set "
            "precompute_ref_log_probs: false and reference_persona: true."
        )
    state = PartialState()
    values: list[Any] = [None]
    if state.is_main_process:
        model = load_base_model(str(prepared.base.folder), str(state.device), run.loading_dtype)
        model.record["base_model"] = prepared.base.declared()
        cache = run.cache or prepared.working / REFERENCE_FOLDER
        items = [item for split, rows in datasets.items() for item in _items(prepared, split, rows)]
        values = [reference_log_probabilities(model, items, cache, run.data.eval_batch_texts)]
    broadcast_object_list(values)
    remaining = iter(values[0])
    with_columns = {}
    for split, rows in datasets.items():
        pairs = [(next(remaining), next(remaining)) for _ in range(len(rows))]
        chosen, rejected = ([pair[side] for pair in pairs] for side in (0, 1))
        with_columns[split] = rows.add_column("ref_chosen_logps", chosen).add_column("ref_rejected_logps", rejected)
    return with_columns


def _items(prepared: Prepared, split: str, rows: Dataset) -> list[Item]:
    """Chosen and rejected of each row, with what the reference sees before them."""
    items: list[Item] = []
    for row, kept in zip(rows, prepared.rows[split], strict=True):
        messages: Messages = row["prompt"]
        if not prepared.run.data.reference_persona:
            messages = prepared.prompts.messages(None, kept["prompt_id"], kept["question"])
        items += [(messages, row[side][0]["content"]) for side in ("chosen", "rejected")]
    return items


def item_key(item: Item) -> str:
    return hashlib.sha256(json.dumps(item, ensure_ascii=False).encode("utf-8")).hexdigest()


def cache_name(model: ScoringModel) -> str:
    """What decides a log-probability beside the text: weights, their rounding, precision, chat template."""
    base: Mapping[str, Any] = model.record["base_model"]
    dtype = str(next(model.model.parameters()).dtype)
    # accelerate keeps a model's own forward there while it computes under autocast, as in the midst of a training.
    autocast = hasattr(model.model, "_original_forward")
    rounding = str(getattr(model.model.config, "quantization_config", None))
    template = chat_template_hash(model.tokenizer)
    deciding = json.dumps([base["model_id"], base["content_hash"], dtype, autocast, rounding, template])
    return hashlib.sha256(deciding.encode("utf-8")).hexdigest()[:16]


def read_cache(cache: Path, name: str) -> dict[str, float]:
    known: dict[str, float] = {}
    for path in sorted(cache.glob(f"{name}-*.parquet")):
        table = pq.read_table(path)
        known |= dict(zip(table["key"].to_pylist(), table["log_probability"].to_pylist(), strict=True))
    return known


def write_cache(cache: Path, name: str, fresh: Mapping[str, float]) -> None:
    cache.mkdir(parents=True, exist_ok=True)
    content = hashlib.sha256("".join(fresh).encode("utf-8")).hexdigest()[:16]
    table = pa.table({"key": list(fresh), "log_probability": pa.array(fresh.values(), pa.float64())})
    write_atomically(cache / f"{name}-{content}.parquet", lambda path: pq.write_table(table, path))
