"""Putting a text to the evaluated model under a condition, and reading a reply that is a choice between words.

The text stands where a question stands in the prompts that the model was trained with (training.conditioning.persona_messages), so that
conditions differ in the persona and in nothing else.
"""

import dataclasses
import math
from collections.abc import Sequence

from builder.llm.calls import ModelCalls
from builder.llm.drawing import UNREADABLE, draw_until_readable
from builder.llm.messages import ChatRequest, Failure, Message, Sampling
from builder.llm.templates import PromptTemplate, load_template, section_name
from builder.llm.word_scores import Menu, score_words, word_weights
from eval.calls import MODEL_ROLE

# In this process an answer ends with a sentence, because small models seldom end by themselves. Endpoints have no such rule.
SAMPLING_IN_PROCESS = Sampling(max_tokens=120, temperature=0.7, top_p=0.95, end_sentence_after=60)
SAMPLING_OF_ENDPOINTS = Sampling(max_tokens=1000, temperature=0.7, top_p=0.95)
CHOICE_SAMPLING = Sampling(max_tokens=300, temperature=0.0)
ANSWER_RETRIES = 1
CHOICE_RETRIES = 2
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
    weights, failure = word_weights(said.raw, words)
    if not failure and weights.keys() != set(words):
        failure = UNREADABLE
    if failure:
        return None, failure
    return {word: weights[word] / math.fsum(weights.values()) for word in words}, ""


def with_menu(template: str, words: Sequence[str]) -> PromptTemplate:
    """The template with these words as its only choices, so that a reply is read as any other verdict: the last marker, one word."""
    loaded = load_template(template)
    return dataclasses.replace(loaded, choices={loaded.markers[0]: tuple(words)})


def text_of(template: str, **values: str) -> str:
    """What the template says, as the user's text: its only message."""
    return load_template(template).render(**values)[-1]["content"]


def _score(calls: ModelCalls, asked: Sequence[Asked], seed: int, label: str) -> list[Said]:
    menus = []
    for one in asked:
        template = load_template(one.template)
        menus.append(Menu(one.messages, template.label, template.markers[0], one.words))
    return [Said(raw, failure) for raw, failure in score_words(calls, MODEL_ROLE, menus, label)]


def _write(calls: ModelCalls, asked: Sequence[Asked], seed: int, label: str) -> list[Said]:
    requests = [ChatRequest(one.messages, CHOICE_SAMPLING, load_template(one.template).label, seed) for one in asked]

    def read(place: int, text: str) -> dict[str, float] | None:
        return read_choice("markers", asked[place].template, asked[place].words, Said(text, ""))[0]

    # A stand-in of a dry run does not know the menu, and would be drawn again for nothing.
    retries = 0 if calls.dry_run else CHOICE_RETRIES
    drawn = draw_until_readable(calls, MODEL_ROLE, requests, read, retries, label)
    # What is kept is the reply: whether it can be read is today's parser's to say.
    return [Said(one.reply.text, one.reply.reason if isinstance(one.reply, Failure) else "") for one in drawn]
