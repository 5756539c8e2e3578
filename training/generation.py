"""What a finished DPO model, or a base model, writes for a persona: the conditioning is the one that its checkpoint carries."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from tqdm import tqdm
from transformers import LogitsProcessorList, TemperatureLogitsWarper

from builder.errors import InputError, few
from builder.llm.sampling import GumbelNoise
from builder.randomness import rng_for
from training import scoring
from training.base_model import EMBEDDED, context_of
from training.conditioning import Conditioning, LabelledPair, from_record
from training.data import labelled_pairs, load_preference_data
from training.prepare import evaluation_prompts
from training.prompts import PersonaPrompts
from training.record import finished_record
from training.scoring import ScoringModel
from training.tokens import token_ids

Question = tuple[str | None, str, str]  # persona id (None: no persona), prompt id, question


NOBODY = "none"  # in place of a persona's id


@dataclass(frozen=True)
class Written:
    """finished: whether the model ended the answer itself, within the tokens that it was given."""

    text: str
    finished: bool


def answer_question(
    model: str,
    dataset: str,
    personas: Sequence[str],
    question: str,
    base_model: str | None = None,
    max_new_tokens: int = 256,
    temperature: float = 0.0,
    seed: int = 0,
) -> list[Written]:
    """What `model` answers as each of `personas` of the dataset (an id, or NOBODY for the neutral text), in their order.

    model: the folder of a finished DPO model, or `embedded`, which is shown whole profiles. A question of the dataset is asked by its
    prompt id, so that no labelled pair on it is shown. Raises InputError for a persona that the dataset does not have, a question without
    a word, and as `generate_answers` and `write_answers` do.
    """
    if not question.strip():
        raise InputError("--question is empty. Give a question.")
    # Of a dataset the base model needs the profiles alone, which every config brings.
    configs = ["dpf"] if model == EMBEDDED else _record(Path(model))["data"]["configs"]
    data = load_preference_data(dataset, configs)
    for persona in personas:
        if persona != NOBODY and persona not in data.profiles:
            raise InputError(
                f"There is no persona {persona!r} in {dataset}. Give {NOBODY}, or one of {few(sorted(data.profiles))}."
            )
    ids = {row["question"]: row["prompt_id"] for rows in data.splits.values() for row in _questions(rows)}
    prompt_id = ids.get(question, "")
    asked = [(None if persona == NOBODY else persona, prompt_id, question) for persona in personas]
    if model == EMBEDDED:
        prompts = PersonaPrompts(Conditioning(), data.profiles, {})
        return write_answers(scoring.load_base_model(EMBEDDED), prompts, asked, max_new_tokens, temperature, seed)
    return generate_answers(
        Path(model),
        asked,
        data.profiles,
        labelled_pairs(data),
        base_model,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        seed=seed,
    )


def generate_answers(
    folder: Path,
    questions: Sequence[Question],
    profiles: Mapping[str, str],
    labelled: Mapping[str, Sequence[LabelledPair]],
    base_model: str | None = None,
    device: str | None = None,
    dtype: str = "float32",
    max_new_tokens: int = 256,
    temperature: float = 0.0,
    seed: int = 0,
    batch_size: int = 8,
) -> list[Written]:
    """An answer to each question by the finished DPO model in `folder` (an adapter or full weights); see `write_answers`.

    profiles, labelled: of the personas asked about. base_model: where an adapter's base is, as in training.scoring. Raises InputError for
    a model that writes nothing.
    """
    record = _record(folder)
    if record["adapter"]:
        model = scoring.load_dpo_model(folder, base_model, device, dtype)
    else:  # the base is only the reference, which does not write
        model = scoring.load_base_model(str(folder), device, dtype)
    scoring.check_tokenizer(model.tokenizer, record)
    prompts = evaluation_prompts(PersonaPrompts(from_record(record), profiles, labelled))
    return write_answers(model, prompts, questions, max_new_tokens, temperature, seed, batch_size)


def _record(folder: Path) -> dict[str, Any]:
    """training.json of a model that writes."""
    record = finished_record(folder, f"Give the folder of a DPO model, or `{EMBEDDED}`.")
    if record["kind"] != "dpo":
        raise InputError(
            f"{folder} is a {record['kind']} model, which is used to score answers and writes none. Give the folder of a DPO model."
        )
    return record


def _questions(rows: Dataset) -> Dataset:
    return rows.select_columns(["question", "prompt_id"])


def write_answers(
    model: ScoringModel,
    prompts: PersonaPrompts,
    questions: Sequence[Question],
    max_new_tokens: int = 256,
    temperature: float = 0.0,
    seed: int = 0,
    batch_size: int = 8,
) -> list[Written]:
    """An answer to each question by a loaded causal model (of a base model: scoring.load_base_model), in their order.

    temperature 0: the most likely token each time. Above: a draw from the generator of `seed`, persona and question, so that neither the
    other questions nor the order of work changes it. Padding is masked; the batch moves a logit in its last bits alone, which decides
    only between tokens that are equally likely. Raises InputError for a prompt that leaves no room for the answer.
    """
    if model.kind == "reward":
        raise InputError("A reward model scores answers and writes none. Give a DPO or base model.")
    if max_new_tokens < 1 or temperature < 0 or batch_size < 1:
        raise InputError(
            f"max_new_tokens is {max_new_tokens}, temperature {temperature} and batch_size {batch_size}; give at least 1, 0 and 1."
        )
    ids = [token_ids(model.tokenizer, prompts.messages(*question), open_answer=True) for question in questions]
    limit = context_of(model.model)
    longest = max(map(len, ids), default=0)
    if limit is not None and longest + max_new_tokens > limit:
        raise InputError(
            f"A prompt has {longest} tokens and max_new_tokens is {max_new_tokens}, but the model reads {limit} in all. A prompt is never "
            "cut: lower max_new_tokens, or leave the long prompts out."
        )
    written: dict[int, Written] = {}
    by_length = sorted(range(len(ids)), key=lambda place: len(ids[place]))  # like lengths together: little is padded
    for start in tqdm(range(0, len(ids), batch_size), desc="Answers", unit="batch", disable=None):
        batch = by_length[start : start + batch_size]
        keys = ["|".join(part or "" for part in questions[place]) for place in batch]
        written |= dict(
            zip(
                batch,
                _write_batch(model, [ids[place] for place in batch], keys, max_new_tokens, temperature, seed),
                strict=True,
            )
        )
    return [written[place] for place in range(len(ids))]


@torch.inference_mode()
def _write_batch(
    model: ScoringModel, ids: list[list[int]], keys: list[str], max_new_tokens: int, temperature: float, seed: int
) -> list[Written]:
    tokenizer, causal = model.tokenizer, model.model
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    width = max(map(len, ids))
    # On the left, so that all prompts end where the answers begin.
    inputs = torch.tensor([[pad] * (width - len(row)) + row for row in ids], device=causal.device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in ids], device=causal.device)
    processors = LogitsProcessorList()
    if temperature > 0:
        noise = GumbelNoise([rng_for(seed, "generated_answer", key) for key in keys])
        processors += [TemperatureLogitsWarper(temperature), noise]
    # Some models end a turn with another token than the tokenizer's end token.
    ends = causal.generation_config.eos_token_id
    ends = {tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])} - {None}
    output = causal.generate(
        input_ids=inputs,
        attention_mask=mask,
        max_new_tokens=max_new_tokens,
        do_sample=False,
        logits_processor=processors,
        pad_token_id=pad,
        eos_token_id=sorted(ends),
    )
    answers = []
    for row in output[:, width:].tolist():
        length = next((place for place, token in enumerate(row) if token in ends), len(row))
        answers.append(Written(tokenizer.decode(row[:length], skip_special_tokens=True).strip(), length < len(row)))
    return answers
