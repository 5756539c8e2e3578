"""The answers that are judged: asked for by mode and condition, drawn again where a reply is of no use, kept with the reason where none is.

One row is one answer of one sample. Under `wrong` the same question is answered for the persona that the published row names for this
control, and judged under the true one. Under `none` it is answered once for all modes: the baseline.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from builder.llm.drawing import draw_until_readable
from builder.llm.messages import ChatRequest
from eval.bench.modes import (
    ANSWERS,
    BASELINE,
    FIRST_CALLS,
    messages_of,
    read_answer,
    sampling_for,
    summary_text,
    template_label,
)
from eval.calls import MODEL_ROLE
from eval.items import Item, Persona
from eval.language_models import LanguageModel, shown_persona_text

MAX_RETRIES = 2
Row = dict[str, Any]

# item_id: of the transcript, unique. shown_persona_id: whose profile the model was shown, null for none. thought: the reasoning or
# summary before the answer. failure: why there is no answer, else empty; then `text` is what came back, if anything did.
ANSWER_COLUMNS = {
    "item_id": "string",
    "persona_id": "string",
    "shown_persona_id": "string",
    "prompt_id": "string",
    "question": "string",
    "persona_group": "string",
    "split": "string",
    "mode": "string",
    "condition": "string",
    "sample": "int64",
    "text": "string",
    "thought": "string",
    "failure": "string",
}


@dataclasses.dataclass(frozen=True)
class _Asked:
    item: Item
    mode: str
    condition: str
    sample: int

    @property
    def shown(self) -> str | None:
        return {"true": self.item.persona_id, "wrong": self.item.wrong_persona_id, "none": None}[self.condition]

    @property
    def key(self) -> str:
        return f"{self.item.key}/{self.mode}/{self.condition}/{self.sample}"


@dataclasses.dataclass(frozen=True)
class _Written:
    text: str
    thought: str = ""
    failure: str = ""


def write_answers(
    calls: Any,
    model: LanguageModel,
    items: Sequence[Item],
    personas: Mapping[str, Persona],
    modes: Sequence[str],
    form: str,
    samples: int,
    temperature: float,
    seed: int,
) -> list[Row]:
    """A row of ANSWER_COLUMNS for every (item, mode, condition, sample), in this order; the baseline first."""
    rows: list[Row] = []
    for mode in [BASELINE, *(mode for mode in modes if mode != BASELINE)]:
        conditions = ("none",) if mode == BASELINE else ("true", "wrong")
        asked = [
            _Asked(item, mode, condition, sample)
            for item in items
            for condition in conditions
            for sample in range(samples)
        ]
        written = _write_mode(calls, model, asked, personas, mode, form, temperature, seed)
        rows += [_row(one, answer) for one, answer in zip(asked, written, strict=True)]
    return rows


def _write_mode(
    calls: Any,
    model: LanguageModel,
    asked: Sequence[_Asked],
    personas: Mapping[str, Persona],
    mode: str,
    form: str,
    temperature: float,
    seed: int,
) -> list[_Written]:
    shown = [
        shown_persona_text(model, None if one.shown is None else personas[one.shown].profile, one.item.question)
        for one in asked
    ]
    thoughts = [_Written("")] * len(asked)
    first = FIRST_CALLS[form].get(mode)
    if first is not None:
        thoughts = _draw(
            calls,
            [
                _request(first, model, persona, one, form, temperature, seed, is_answer=False)
                for persona, one in zip(shown, asked, strict=True)
            ],
            first,
            f"{mode}, first call",
        )
    name = ANSWERS[form][mode]
    ready = [place for place, thought in enumerate(thoughts) if not thought.failure]
    written = [dataclasses.replace(thought, failure=f"first call {thought.failure}") for thought in thoughts]
    summarised = mode == "demographic_summary"
    answers = _draw(
        calls,
        [
            _request(
                name,
                model,
                summary_text(thoughts[place].text) if summarised else shown[place],
                asked[place],
                form,
                temperature,
                seed,
                thought="" if summarised else thoughts[place].text,
            )
            for place in ready
        ],
        name,
        f"{mode}, answers",
    )
    for place, answer in zip(ready, answers, strict=True):
        written[place] = dataclasses.replace(answer, thought=answer.thought or thoughts[place].text)
    return written


def _request(
    name: str,
    model: LanguageModel,
    persona: str | None,
    one: _Asked,
    form: str,
    temperature: float,
    seed: int,
    thought: str = "",
    is_answer: bool = True,
) -> ChatRequest:
    return ChatRequest(
        messages_of(name, model, persona, one.item.question, thought),
        sampling_for(form, temperature, is_answer),
        template_label(name, model),
        seed,
        sample_index=one.sample,
    )


def _draw(calls: Any, requests: Sequence[ChatRequest], name: str, label: str) -> list[_Written]:
    """What is written for each request. A reply that was cut off, refused, empty or lacks its marker is drawn again, MAX_RETRIES times."""

    def read(_: int, text: str) -> _Written | None:
        found = read_answer(name, text)
        return None if found is None else _Written(*found)

    drawn = draw_until_readable(calls, MODEL_ROLE, requests, read, MAX_RETRIES, label)
    return [one.read or _Written(one.reply.text, failure=one.failure) for one in drawn]


def _row(one: _Asked, written: _Written) -> Row:
    return {
        "item_id": one.key,
        "persona_id": one.item.persona_id,
        "shown_persona_id": one.shown,
        "prompt_id": one.item.prompt_id,
        "question": one.item.question,
        "persona_group": one.item.persona_group,
        "split": one.item.split,
        "mode": one.mode,
        "condition": one.condition,
        "sample": one.sample,
        "text": written.text,
        "thought": written.thought,
        "failure": written.failure,
    }
