"""Scores of texts under trained models: scalar rewards, and the two log-probabilities of a DPO model's implicit reward.

An item is (messages before the answer, answer text). Each different item is scored once. Items with the same messages
share one pass over them (their keys and values are kept and reused), and a score does not depend on batch size, order
or padding (float32: to 1e-4).
"""

import contextlib
import importlib.util
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, BitsAndBytesConfig, DynamicCache
from transformers.utils import logging as transformers_logging

from builder.errors import InputError
from builder.schema import assistant_message
from training.base_model import BaseModel, context_of, load_tokenizer, resolve_base_model
from training.conditioning import Messages, chat_template_hash
from training.record import read_record
from training.tokens import common_prefix_length, token_ids

Item = tuple[Messages, str]


@dataclass(frozen=True)
class ScoringModel:
    """A model ready to score. `reference` is None where the reference is `model` with its adapter disabled."""

    model: Any
    tokenizer: Any
    kind: str  # `reward`, `dpo` or `base`
    beta: float = 0.0  # dpo: implicit reward = beta * (policy - reference)
    reference: Any = None
    record: dict[str, Any] = field(default_factory=dict)  # training.json


@dataclass(frozen=True)
class _Sequence:
    """`ids`: tokens of messages and answer. `start`: index of the answer's first token."""

    ids: tuple[int, ...]
    start: int


@dataclass(frozen=True)
class _Group:
    """Sequences that begin with the same tokens. `prefix` ends one token before the answer, whose prediction needs that
    token.
    """

    prefix: tuple[int, ...]
    members: list[int]  # indices of sequences


def load_reward_model(
    folder: str | Path, base_model: str | None = None, device: str | None = None, dtype: str = "float32"
) -> ScoringModel:
    """A reward model that training.reward wrote (adapter or full weights).

    `base_model`: `embedded`, a folder or a Hub id; by default the base that training.json declares. Raises InputError
    if the folder is no such checkpoint, or was trained with another prompt template or another base.
    """
    record = read_record(folder, "reward")
    # With all weights in the folder the base is not needed, and may not be on this machine.
    adapter = (Path(folder) / "adapter_config.json").is_file()
    base = base_of(Path(folder), record, base_model) if adapter else None
    return reward_model_on(Path(folder), record, base, device, dtype)


def load_dpo_model(
    folder: str | Path, base_model: str | None = None, device: str | None = None, dtype: str = "float32"
) -> ScoringModel:
    """A DPO model that training.dpo wrote, with its reference. Arguments and errors as in `load_reward_model`."""
    record = read_record(folder, "dpo")
    base = base_of(Path(folder), record, base_model)
    return dpo_model_on(Path(folder), record, base, device, dtype)


def load_base_model(base_model: str, device: str | None = None, dtype: str = "float32") -> ScoringModel:
    """An untrained causal model (`embedded`, a folder or a Hub id), for `score_log_probabilities`."""
    base = resolve_base_model(base_model)
    model = AutoModelForCausalLM.from_pretrained(
        base.folder, dtype=torch_dtype(dtype), use_safetensors=True, trust_remote_code=False
    )
    tokenizer = load_tokenizer(base.folder, for_reward=False)
    return ScoringModel(ready(model, device), tokenizer, "base", record={"base_model": base.declared()})


def score_rewards(
    model: ScoringModel, items: Sequence[Item], batch_size: int = 16, description: str = "Rewards"
) -> list[float]:
    """The raw scalar reward (a logit, no sigmoid) of each item, in the items' order."""
    if model.kind != "reward":
        raise InputError(f"Rewards come from a reward model, and this is a {model.kind} model.")
    sequences, positions = encode(model, items)
    rewards = [0.0] * len(sequences)
    for batch in batches(sequences, batch_size, description):
        logits = forward_answers(model.model, model.tokenizer, sequences, batch)
        for row, index in enumerate(members(batch)):
            rewards[index] = logits[row, 0].float().item()
    return [rewards[position] for position in positions]


def score_implicit_rewards(
    model: ScoringModel, items: Sequence[Item], batch_size: int = 16, description: str = "Implicit rewards"
) -> list[tuple[float, float]]:
    """(policy, reference) log-probability of each answer, in nats, summed over its tokens with the end of turn.

    Both see the same messages. Implicit reward = beta * (policy - reference). The second figure is exactly the
    untrained model's, so the prompted baseline needs no run of its own.
    """
    if model.kind != "dpo":
        raise InputError(f"Implicit rewards come from a DPO model, and this is a {model.kind} model.")
    sequences, positions = encode(model, items)
    scores = [(0.0, 0.0)] * len(sequences)
    for batch in batches(sequences, batch_size, description):
        policy = _log_probabilities(model.model, model.tokenizer, sequences, batch)
        with _reference(model) as reference_model:
            reference = _log_probabilities(reference_model, model.tokenizer, sequences, batch)
        for row, index in enumerate(members(batch)):
            scores[index] = (policy[row], reference[row])
    return [scores[position] for position in positions]


def score_log_probabilities(
    model: ScoringModel,
    items: Sequence[Item],
    batch_size: int = 16,
    description: str = "Log-probabilities",
    reference: bool = False,
) -> list[float]:
    """Log-probability of each answer under a causal model as it stands, or under its reference (nats, summed over its tokens with the
    end of turn).
    """
    if model.kind == "reward":
        raise InputError("A reward model gives no log-probabilities. Give a DPO or base model.")
    sequences, positions = encode(model, items)
    scores = [0.0] * len(sequences)
    with _reference(model) if reference else contextlib.nullcontext(model.model) as scored:
        for batch in batches(sequences, batch_size, description):
            values = _log_probabilities(scored, model.tokenizer, sequences, batch)
            for row, index in enumerate(members(batch)):
                scores[index] = values[row]
    return [scores[position] for position in positions]


def answer_tokens(model: ScoringModel, items: Sequence[Item]) -> list[int]:
    """The number of tokens of each answer, with the end of turn."""
    sequences, positions = encode(model, items)
    return [len(sequences[position].ids) - sequences[position].start for position in positions]


def base_of(folder: Path, record: dict[str, Any], base_model: str | None) -> BaseModel:
    declared = record["base_model"]
    if base_model is None:
        if declared["given"] == "folder":
            raise InputError(
                f"{folder} was trained from a model in a local folder ({declared['model_id']}). Say where that folder "
                "is: base_model=PATH."
            )
        base_model = "embedded" if declared["given"] == "embedded" else declared["model_id"]
    # Another place than the declared one has no such revision.
    revision = declared["revision"] if base_model == declared["model_id"] else None
    base = resolve_base_model(base_model, revision)
    # Content hashes of different origins are taken over different files, so only like is compared with like.
    if base.given == declared["given"] and base.content_hash != declared["content_hash"]:
        raise InputError(
            f"{folder} was trained from {declared['model_id']} with content hash {declared['content_hash'][:12]}, but "
            f"{base_model} has "
            f"{base.content_hash[:12]}. Its adapter does not fit these weights. Give the base that it was trained from."
        )
    return base


def reward_model_on(
    folder: Path, record: dict[str, Any], base: BaseModel | None, device: str | None, dtype: str
) -> ScoringModel:
    tokenizer = load_tokenizer(folder, for_reward=True)
    check_tokenizer(tokenizer, record)
    # num_labels is not in adapter_config.json; without it the saved head does not fit.
    with quiet_loading():
        model = AutoModelForSequenceClassification.from_pretrained(
            base.folder if base else folder,
            num_labels=1,
            pad_token_id=tokenizer.pad_token_id,
            dtype=torch_dtype(dtype),
            use_safetensors=True,
            trust_remote_code=False,
            **_quantised(record, device),
        )
    if base is not None:
        model = with_adapter(model, folder)
    return ScoringModel(ready(model, device), tokenizer, "reward", record=record)


def dpo_model_on(folder: Path, record: dict[str, Any], base: BaseModel, device: str | None, dtype: str) -> ScoringModel:
    tokenizer = load_tokenizer(folder, for_reward=False)
    check_tokenizer(tokenizer, record)
    model = AutoModelForCausalLM.from_pretrained(
        base.folder,
        dtype=torch_dtype(dtype),
        use_safetensors=True,
        trust_remote_code=False,
        **_quantised(record, device),
    )
    reference = None
    if (folder / "adapter_config.json").is_file():
        model = with_adapter(model, folder)
    else:
        reference = ready(model, device)
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch_dtype(dtype), use_safetensors=True, trust_remote_code=False
        )
    return ScoringModel(ready(model, device), tokenizer, "dpo", record["beta"], reference, record)


def _quantised(record: dict[str, Any], device: str | None) -> dict[str, Any]:
    """How the base is loaded for an adapter that was trained on quantised weights: on the same ones. Rounding moves every weight, so on
    others the adapter would score as another model than the one trained.
    """
    if not record.get("quantization"):
        return {}
    if importlib.util.find_spec("bitsandbytes") is None:
        raise InputError(
            "The model was trained on a base quantised by bitsandbytes, which is not installed. Run `pip install bitsandbytes`."
        )
    return {
        "quantization_config": BitsAndBytesConfig.from_dict(record["quantization"]),
        "device_map": {"": device or _usual_device()},
    }


def _usual_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def with_adapter(model: Any, folder: Path) -> Any:
    from peft import PeftModel

    return PeftModel.from_pretrained(model, str(folder))


@contextlib.contextmanager
def quiet_loading() -> Iterator[None]:
    """Without the report that the head is missing in the base model: the adapter brings it."""
    level = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)


def check_tokenizer(tokenizer: Any, record: dict[str, Any]) -> None:
    if record["chat_template_hash"] != chat_template_hash(tokenizer):
        raise InputError(
            "The checkpoint's chat template is not the one it was trained with. Restore its tokenizer files."
        )


def ready(model: Any, device: str | None) -> Any:
    if getattr(model, "is_quantized", False) or getattr(getattr(model, "base_model", None), "is_quantized", False):
        return model.eval()  # it is where it was loaded, and 8-bit weights cannot be moved
    return model.to(device or _usual_device()).eval()


def torch_dtype(name: str) -> torch.dtype:
    dtypes = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if name not in dtypes:
        raise InputError(f"dtype is {name!r}; choose one of {', '.join(dtypes)}.")
    return dtypes[name]


@contextlib.contextmanager
def _reference(model: ScoringModel) -> Iterator[Any]:
    if model.reference is not None:
        yield model.reference
    else:
        with model.model.disable_adapter():
            yield model.model


def encode(model: ScoringModel, items: Sequence[Item]) -> tuple[list[_Sequence], list[int]]:
    """The different sequences among the items, and for each item the index of its sequence."""
    prompts: dict[str, list[int]] = {}
    known: dict[tuple[str, str], int] = {}
    sequences: list[_Sequence] = []
    positions = []
    limit = context_of(model.model)
    for messages, text in items:
        prompt_key = json.dumps(messages)
        key = (prompt_key, text)
        if key not in known:
            if prompt_key not in prompts:
                prompts[prompt_key] = token_ids(model.tokenizer, messages, open_answer=True)
            ids = token_ids(model.tokenizer, messages + assistant_message(text))
            if limit is not None and len(ids) > limit:
                raise InputError(
                    f"A text of {len(ids)} tokens was given, but the model reads {limit}. It is not cut; leave it out."
                )
            known[key] = len(sequences)
            sequences.append(_Sequence(tuple(ids), common_prefix_length(prompts[prompt_key], ids)))
        positions.append(known[key])
    return sequences, positions


def batches(sequences: list[_Sequence], batch_size: int, description: str) -> Iterator[list[_Group]]:
    """Groups of like length together, so that little is padded; at most `batch_size` sequences (a larger group is
    divided).
    """
    by_prefix: dict[tuple[int, ...], list[int]] = {}
    for index, sequence in enumerate(sequences):
        by_prefix.setdefault(sequence.ids[: sequence.start - 1], []).append(index)
    groups = []
    for prefix, members in by_prefix.items():
        members = sorted(members, key=lambda index: len(sequences[index].ids))
        groups += [_Group(prefix, members[i : i + batch_size]) for i in range(0, len(members), batch_size)]
    groups.sort(key=lambda group: (len(group.prefix), len(sequences[group.members[-1]].ids)))
    with tqdm(total=len(sequences), desc=description, unit="text", disable=None) as progress:
        batch: list[_Group] = []
        for group in groups:
            if batch and sum(len(g.members) for g in batch) + len(group.members) > batch_size:
                yield batch
                progress.update(sum(len(g.members) for g in batch))
                batch = []
            batch.append(group)
        if batch:
            yield batch
            progress.update(sum(len(g.members) for g in batch))


def members(batch: list[_Group]) -> list[int]:
    return [index for group in batch for index in group.members]


def _log_probabilities(model: Any, tokenizer: Any, sequences: list[_Sequence], batch: list[_Group]) -> list[float]:
    logits = forward_answers(model, tokenizer, sequences, batch)
    values = []
    for row, index in enumerate(members(batch)):
        sequence = sequences[index]
        answer = torch.tensor(sequence.ids[sequence.start :], device=logits.device)
        # One row at a time: float32 logits of a whole batch over a vocabulary of 150,000 would be gigabytes.
        losses = torch.nn.functional.cross_entropy(logits[row, : len(answer)].float(), answer, reduction="sum")
        values.append(-losses.item())
    return values


@torch.no_grad()
def forward_answers(model: Any, tokenizer: Any, sequences: list[_Sequence], batch: list[_Group]) -> torch.Tensor:
    """Logits over the answers, the tokens before them computed once a group.

    Causal model: (sequences, longest answer + 1, vocabulary), position t predicts the answer's token t. Reward model:
    (sequences, 1).
    """
    device = next(model.parameters()).device
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    causal = hasattr(model.config, "architectures") and not _is_classifier(model)

    # The shared beginnings, padded on the left so that all end at the same place.
    width = max(len(group.prefix) for group in batch)
    prefix_ids = torch.full((len(batch), width), pad)
    prefix_mask = torch.zeros((len(batch), width), dtype=torch.long)
    for row, group in enumerate(batch):
        prefix_ids[row, width - len(group.prefix) :] = torch.tensor(group.prefix)
        prefix_mask[row, width - len(group.prefix) :] = 1
    prefix_ids, prefix_mask = prefix_ids.to(device), prefix_mask.to(device)
    cache = DynamicCache(config=model.config)
    model(
        input_ids=prefix_ids,
        attention_mask=prefix_mask,
        position_ids=(prefix_mask.cumsum(dim=1) - 1).clamp(min=0),
        past_key_values=cache,
        use_cache=True,
        **({"logits_to_keep": 1} if causal else {}),
    )

    # Each group's keys and values once for each of its answers, then the answers, padded on the right.
    owner = torch.tensor([row for row, group in enumerate(batch) for _ in group.members], device=device)
    cache.batch_select_indices(owner)
    rests = [sequences[index].ids[sequences[index].start - 1 :] for index in members(batch)]
    longest = max(len(rest) for rest in rests)
    rest_ids = torch.full((len(rests), longest), pad)
    rest_mask = torch.zeros((len(rests), longest), dtype=torch.long)
    for row, rest in enumerate(rests):
        rest_ids[row, : len(rest)] = torch.tensor(rest)
        rest_mask[row, : len(rest)] = 1
    lengths = prefix_mask.sum(dim=1)[owner]
    outputs = model(
        input_ids=rest_ids.to(device),
        attention_mask=torch.cat([prefix_mask[owner], rest_mask.to(device)], dim=1),
        position_ids=lengths[:, None] + torch.arange(longest, device=device)[None, :],
        past_key_values=cache,
        use_cache=True,
    )
    return outputs.logits


def _is_classifier(model: Any) -> bool:
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    return type(inner).__name__.endswith("ForSequenceClassification")
