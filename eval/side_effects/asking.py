"""Putting a text to the evaluated model under a condition, and reading a reply that is a choice between words.

The text stands where a question stands in the prompts that the model was trained with (training.conditioning.persona_messages), so that
conditions differ in the persona and in nothing else.
"""

import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from typing import Any

from builder.llm.calls import ModelCalls
from builder.llm.messages import ChatRequest, Failure, Message, Sampling, ScoreRequest
from builder.llm.templates import PromptTemplate, load_template, section_name
from eval.calls import MODEL_ROLE

# In this process an answer ends with a sentence, because small models seldom end by themselves. Endpoints have no such rule.
SAMPLING_IN_PROCESS = Sampling(max_tokens=120, temperature=0.7, top_p=0.95, end_sentence_after=60)
SAMPLING_OF_ENDPOINTS = Sampling(max_tokens=1000, temperature=0.7, top_p=0.95)
CHOICE_SAMPLING = Sampling(max_tokens=300, temperature=0.0)
ANSWER_RETRIES = 1
CHOICE_RETRIES = 2
UNREADABLE = "unreadable"
PARSERS = ("verdict_tokens", "markers")


@dataclasses.dataclass(frozen=True)
class Asked:
    """A choice to be made. words: the menu."""

    messages: tuple[Message, ...]
    template: str
    words: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Said:
    """raw: the reply, or the JSON of log-probabilities by word. failure: why there is nothing to be read, else empty."""

    raw: str
    failure: str


def write_answers(
    calls: ModelCalls, requests: Sequence[ChatRequest], label: str, again: Callable[[str], bool]
) -> list[Any]:
    """Answers or Failures in order. again: of a Failure's reason, whether another draw is made."""
    replies = list(calls.generate(MODEL_ROLE, requests, label))
    for attempt in range(1, ANSWER_RETRIES + 1):
        open_places = [
            place
            for place, reply in enumerate(replies)
            if isinstance(reply, Failure) and reply.worth_another_attempt and again(reply.reason)
        ]
        if not open_places or calls.dry_run:
            break
        retried = [dataclasses.replace(requests[place], attempt=attempt) for place in open_places]
        for place, reply in zip(open_places, calls.generate(MODEL_ROLE, retried, label), strict=True):
            replies[place] = reply
    return replies


def ask_choices(calls: ModelCalls, asked: Sequence[Asked], parser: str, seed: int, label: str) -> list[Said]:
    """In process the words are scored (`verdict_tokens`); an endpoint writes one after the template's marker (`markers`)."""
    return (_score if parser == "verdict_tokens" else _write)(calls, asked, seed, label)


def read_choice(parser: str, template: str, words: Sequence[str], said: Said) -> tuple[dict[str, float] | None, str]:
    """(word -> probability among the menu, reason). None with the reason where the reply cannot be read. Written: 1 for the word."""
    if said.failure:
        return None, said.failure
    if parser == "markers":
        loaded = with_menu(template, words)
        word = (loaded.read(said.raw) or {}).get(section_name(loaded.markers[0]))
        return ({w: float(w == word) for w in words}, "") if word else (None, UNREADABLE)
    try:
        sums = {word: float(json.loads(said.raw)[word]) for word in words}
    except (ValueError, KeyError, TypeError):
        return None, UNREADABLE
    if not all(map(math.isfinite, sums.values())):
        return None, "the model gives a word no probability at all"
    highest = max(sums.values())
    weights = {word: math.exp(value - highest) for word, value in sums.items()}
    return {word: weight / math.fsum(weights.values()) for word, weight in weights.items()}, ""


def with_menu(template: str, words: Sequence[str]) -> PromptTemplate:
    """The template with these words as its only choices, so that a reply is read as any other verdict: the last marker, one word."""
    loaded = load_template(template)
    return dataclasses.replace(loaded, choices={loaded.markers[0]: tuple(words)})


def text_of(template: str, **values: str) -> str:
    """What the template says, as the user's text: its only message."""
    return load_template(template).render(**values)[-1]["content"]


def _score(calls: ModelCalls, asked: Sequence[Asked], seed: int, label: str) -> list[Said]:
    requests = [
        ScoreRequest(
            one.messages, f"{load_template(one.template).markers[0]} {word}", load_template(one.template).label
        )
        for one in asked
        for word in one.words
    ]
    replies = iter(calls.score(MODEL_ROLE, requests, label))
    said = []
    for one in asked:
        own = [next(replies) for _ in one.words]
        failed = next((reply for reply in own if isinstance(reply, Failure)), None)
        if failed is not None:
            said.append(Said("", failed.reason))
            continue
        sums = {word: math.fsum(reply.log_probabilities) for word, reply in zip(one.words, own, strict=True)}
        said.append(Said(json.dumps(sums), ""))
    return said


def _write(calls: ModelCalls, asked: Sequence[Asked], seed: int, label: str) -> list[Said]:
    said = [Said("", "not asked")] * len(asked)
    open_places = list(range(len(asked)))
    for attempt in range(1 if calls.dry_run else CHOICE_RETRIES + 1):
        requests = [
            ChatRequest(
                asked[place].messages,
                CHOICE_SAMPLING,
                load_template(asked[place].template).label,
                seed,
                attempt=attempt,
            )
            for place in open_places
        ]
        unread = []
        for place, reply in zip(open_places, calls.generate(MODEL_ROLE, requests, label), strict=True):
            said[place] = Said(reply.text, reply.reason if isinstance(reply, Failure) else "")
            readable = read_choice("markers", asked[place].template, asked[place].words, said[place])[0] is not None
            if not readable and (not isinstance(reply, Failure) or reply.worth_another_attempt):
                unread.append(place)
        open_places = unread
        if not open_places:
            break
    return said
