"""A choice between words by a model that need not write: each word is scored as the continuation after a marker."""

import json
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from builder.llm.drawing import UNREADABLE
from builder.llm.messages import Failure, Message, ScoreRequest


@dataclass(frozen=True)
class Menu:
    """A choice to be made. template: the label of the messages' template. marker: what the words stand behind."""

    messages: tuple[Message, ...]
    template: str
    marker: str
    words: tuple[str, ...]


def score_words(calls: Any, role: str, menus: Sequence[Menu], label: str) -> list[tuple[str, str]]:
    """(JSON object of log-probabilities in nats by word, "") of each menu, in order; ("", reason) where a word could not be scored."""
    requests = [
        ScoreRequest(menu.messages, f"{menu.marker} {word}", menu.template) for menu in menus for word in menu.words
    ]
    replies = iter(calls.score(role, requests, label))
    said = []
    for menu in menus:
        own = [next(replies) for _ in menu.words]
        failed = next((reply for reply in own if isinstance(reply, Failure)), None)
        if failed is not None:
            said.append(("", failed.reason))
            continue
        sums = {word: math.fsum(reply.log_probabilities) for word, reply in zip(menu.words, own, strict=True)}
        said.append((json.dumps(sums), ""))
    return said


def word_weights(raw: str, words: Collection[str]) -> tuple[dict[str, float], str]:
    """(word -> probability relative to the likeliest word's, "") from a kept JSON of `score_words`; ({}, reason) where it cannot be read.

    words: those that may stand in it. A word that does not stand in it has no weight.
    """
    try:
        sums = {word: float(value) for word, value in json.loads(raw).items()}
    except (ValueError, AttributeError, TypeError, OverflowError, RecursionError):
        return {}, UNREADABLE
    if not sums or not sums.keys() <= set(words):
        return {}, UNREADABLE
    if not all(map(math.isfinite, sums.values())):
        return {}, "the model gives a word no probability at all"
    highest = max(sums.values())
    return {word: math.exp(value - highest) for word, value in sums.items()}, ""
