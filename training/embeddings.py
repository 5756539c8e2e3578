"""Frozen embeddings of (question, answer) under a causal base model that is shown no persona, each computed once and kept in a folder.

phi is the mean of the last layer's hidden states (after its norm) over the answer's tokens. Not the last token's state alone: in a model
that no reward was trained on, it stands after the end of turn and foresees what comes next, which is the same after every answer.
The question acts through attention: what comes before the answer is the neutral text and the question, never a persona.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from builder.errors import InputError
from builder.files import write_atomically
from builder.schema import assistant_message
from training.arguments import TrainingRun
from training.base_model import context_of
from training.conditioning import LabelledPair, chat_template_hash
from training.data import TRAIN_SPLIT
from training.evaluation import Candidate
from training.prepare import Prepared
from training.prompts import PersonaPrompts, draw_examples
from training.reference import item_key
from training.scoring import (
    Item,
    ScoringModel,
    base_of,
    batches,
    check_tokenizer,
    encode,
    forward_answers,
    load_base_model,
    members,
)
from training.tokens import token_ids

Text = tuple[str, str]  # question, answer
Values = npt.NDArray[Any]  # of floats

POOLING = "mean of the last layer over the answer"
NO_QUESTION = ""  # labelled pairs are drawn once a persona, whatever the question that is then scored
# Texts computed between two files of the cache: what an interrupted run loses at most.
BLOCK = 4096


class HiddenStates:
    """The causal model's body in the place of the model: its last hidden states where the logits would be."""

    def __init__(self, model: Any):
        self.body, self.config = model.base_model, model.config

    def parameters(self) -> Any:
        return self.body.parameters()

    def __call__(self, logits_to_keep: int | None = None, **inputs: Any) -> SimpleNamespace:
        return SimpleNamespace(logits=self.body(**inputs).last_hidden_state)


def check_base(run: TrainingRun) -> None:
    """Raises InputError where the recipe asks for a base at lower precision: batch size would then move the embeddings."""
    if run.config.bf16 or run.model.dtype not in (None, "auto", "float32"):
        raise InputError(
            f"Frozen embeddings are computed in float32, and the recipe has dtype {run.model.dtype}, bf16 {run.config.bf16}. Set dtype: "
            "float32 and bf16: false."
        )
    if run.model.load_in_4bit or run.model.load_in_8bit or run.model.use_peft:
        raise InputError(
            "Frozen embeddings come from the base model's own weights. Remove load_in_4bit, load_in_8bit and use_peft."
        )


def embed(
    model: ScoringModel,
    prompts: PersonaPrompts,
    texts: Sequence[Text],
    batch_size: int = 16,
    cache: Path | None = None,
) -> Values:
    """(texts, hidden size), float32. Different texts are computed once; batch size and order move a value by less than 1e-4.

    prompts: where the neutral text stands. cache: a folder; what is found there is not computed again, and what is computed is added.
    Raises InputError for a text longer than the model reads, and for a base whose hidden states are not finite.
    """
    distinct = sorted(set(texts))  # answers to one question share the pass over it
    items = [neutral_item(prompts, *text) for text in distinct]
    places = {item_key(item): place for place, item in enumerate(items)}
    keys = list(places)
    values = np.zeros((len(items), model.model.config.hidden_size), np.float32)
    known = np.zeros(len(items), bool)
    name = cache_name(model)
    if cache:
        _read_cache(cache, name, places, values, known)
    missing = np.flatnonzero(~known)
    for start in range(0, len(missing), BLOCK):
        block = missing[start : start + BLOCK]
        values[block] = _computed(model, [items[place] for place in block], batch_size)
        if not np.isfinite(values[block]).all():
            raise InputError(
                f"{model.record['base_model']['model_id']} gives hidden states that are not finite, so there is nothing to learn from. "
                "Give another base model."
            )
        if cache:
            _write_cache(cache, name, [keys[place] for place in block], values[block])
    place_of = {text: place for place, text in enumerate(distinct)}
    return values[[place_of[text] for text in texts]]


@dataclass(frozen=True)
class EmbeddedPairs:
    """The training pairs in front of a frozen base. embeddings: (texts, hidden size), each different text once: an answer shared by many
    personas is no more typical than another. mean, scale: of each dimension. pairs: (rows, 2), the places of chosen and rejected.
    """

    base: ScoringModel
    embeddings: Values
    mean: Values
    scale: Values
    pairs: npt.NDArray[np.int64]


def embedded_pairs(prepared: Prepared, cache: Path | None) -> EmbeddedPairs:
    """The base loaded, and the kept training rows embedded. cache: as in `embed`."""
    run, rows = prepared.run, prepared.rows[TRAIN_SPLIT]
    base = load_base_model(str(prepared.base.folder), "cpu" if run.config.use_cpu else None)
    base.record["base_model"] = prepared.base.declared()
    texts = {side: [(row["question"], row[side][0]["content"]) for row in rows] for side in ("chosen", "rejected")}
    distinct = sorted({*texts["chosen"], *texts["rejected"]})
    embeddings = embed(base, prepared.prompts, distinct, run.data.eval_batch_texts, cache)
    place = {text: i for i, text in enumerate(distinct)}
    pairs = np.array([[place[text] for text in texts[side]] for side in ("chosen", "rejected")]).T
    return EmbeddedPairs(base, embeddings, *standardisation(embeddings), pairs)


def standardisation(values: Values) -> tuple[Values, Values]:
    """(mean, scale) of each dimension over the rows of `values`, the scale 1 where nothing varies; float64."""
    mean, scale = values.mean(axis=0, dtype=np.float64), values.std(axis=0, dtype=np.float64)
    return mean, np.where(scale > 1e-6, scale, 1.0)


def neutral_item(prompts: PersonaPrompts, question: str, answer: str) -> Item:
    return prompts.messages(None, "", question), answer


def text_of(candidate: Candidate) -> Text:
    return candidate.question, candidate.answer


def load_frozen_base(
    folder: Path, record: dict[str, Any], base_model: str | None, device: str | None, dtype: str
) -> ScoringModel:
    """The base whose embeddings the head was trained on. Raises InputError for another one."""
    found = base_of(folder, record, base_model)
    base = load_base_model(str(found.folder), device, dtype)
    check_tokenizer(base.tokenizer, record)
    base.record["base_model"] = found.declared()
    return base


def drawn_examples(
    prompts: PersonaPrompts, candidates: Sequence[Candidate], learned: Mapping[str, Any]
) -> dict[str, list[LabelledPair]]:
    """The `few_shot_pairs` labelled pairs of each persona among the candidates that is not learned. Raises InputError for too few."""
    unknown = sorted({c.persona_id for c in candidates if c.persona_id is not None and c.persona_id not in learned})
    count, seed = prompts.conditioning.few_shot_pairs, prompts.conditioning.seed
    return {
        persona: draw_examples(prompts.labelled.get(persona, ()), persona, NO_QUESTION, count, seed)
        for persona in unknown
    }


def example_texts(examples: Mapping[str, Sequence[LabelledPair]]) -> list[Text]:
    return [
        (pair.question, answer)
        for pairs in examples.values()
        for pair in pairs
        for answer in (pair.preferred, pair.other)
    ]


def usable_by_base(
    base: ScoringModel, prompts: PersonaPrompts, learned: Mapping[str, Any], looks_at_pairs: bool
) -> Callable[[Candidate], bool]:
    """Whether the base reads the text whole, and the persona is learned or has labelled pairs on as many questions as are drawn."""

    def usable(candidate: Candidate) -> bool:
        persona = candidate.persona_id
        if looks_at_pairs and persona is not None and persona not in learned:
            questions = {pair.prompt_id for pair in prompts.labelled.get(persona, ())}
            if len(questions) < prompts.conditioning.few_shot_pairs:
                return False
        return _fits(base, prompts, candidate)

    return usable


def _fits(model: ScoringModel, prompts: PersonaPrompts, candidate: Candidate) -> bool:
    """Whether the base model reads the text whole."""
    limit = context_of(model.model)
    messages, answer = neutral_item(prompts, candidate.question, candidate.answer)
    return limit is None or len(token_ids(model.tokenizer, messages + assistant_message(answer))) <= limit


def _computed(model: ScoringModel, items: Sequence[Item], batch_size: int) -> Values:
    hidden = HiddenStates(model.model)
    sequences, positions = encode(model, items)
    values = np.zeros((len(sequences), model.model.config.hidden_size), np.float32)
    for batch in batches(sequences, batch_size, "Embeddings"):
        states = forward_answers(hidden, model.tokenizer, sequences, batch)
        for row, index in enumerate(members(batch)):
            # The first state belongs to the last token before the answer.
            length = len(sequences[index].ids) - sequences[index].start
            values[index] = states[row, 1 : 1 + length].float().mean(dim=0).cpu().numpy()
    return values[positions]


def cache_name(model: ScoringModel) -> str:
    """What decides an embedding beside the text: weights, precision, chat template, pooling."""
    base = model.record["base_model"]
    dtype = str(next(model.model.parameters()).dtype)
    deciding = [base["model_id"], base["content_hash"], dtype, chat_template_hash(model.tokenizer), POOLING]
    return f"embeddings-{hashlib.sha256(json.dumps(deciding).encode('utf-8')).hexdigest()[:16]}"


def _read_cache(cache: Path, name: str, places: dict[str, int], values: Values, known: Values) -> None:
    """Fill the rows of `values` that are found, and mark them as known."""
    for path in sorted(cache.glob(f"{name}-*.parquet")):
        table = pq.read_table(path)
        found = np.stack(table["embedding"].to_numpy()) if len(table) else values[:0]
        for row, key in enumerate(table["key"].to_pylist()):
            if key in places:
                values[places[key]], known[places[key]] = found[row], True


def _write_cache(cache: Path, name: str, keys: Sequence[str], values: Values) -> None:
    cache.mkdir(parents=True, exist_ok=True)
    content = hashlib.sha256("".join(keys).encode("utf-8")).hexdigest()[:16]
    rows = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])
    table = pa.table({"key": list(keys), "embedding": rows})
    write_atomically(cache / f"{name}-{content}.parquet", lambda path: pq.write_table(table, path))
