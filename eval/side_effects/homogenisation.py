"""Homogenisation: are answers to one question more alike within a group than across groups?

Alike is the share of longer words that two answers have in common (Jaccard). Each row compares an answer with the answers to the same
question for other personas of its group, and for personas of other groups. A model that answers a whole group alike, and other groups
otherwise, has a large difference; under none, where nobody's group is known, it is zero up to chance.

Limits. The words are counted, not what they say. Two rows share the pairs between them, so that the interval is somewhat too narrow.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from builder.lexical import SHORTEST_CONTENT_WORD, words
from eval.side_effects.paired import paired


def homogenisation(
    texts: Mapping[str, Sequence[str | None]],
    questions: Sequence[str],
    personas: Sequence[str],
    groups: Mapping[str, str],
    seed: int,
    key: str,
) -> dict[str, Any]:
    """{within, across, difference}, each of `paired`; rows whose question has an answer of their own group and of another one."""
    measured: dict[str, dict[str, list[float]]] = {"within": {}, "across": {}, "difference": {}}
    for condition, answers in texts.items():
        within, across = _overlaps(answers, questions, personas, groups)
        measured["within"][condition] = within
        measured["across"][condition] = across
        measured["difference"][condition] = [a - b for a, b in zip(within, across, strict=True)]
    return {
        name: paired(values, personas, questions, seed, f"homogenisation/{key}/{name}")
        for name, values in measured.items()
    }


def overlap(first: frozenset[str], second: frozenset[str]) -> float:
    union = first | second
    return len(first & second) / len(union) if union else 0.0


def content_words(text: str) -> frozenset[str]:
    return frozenset(word for word in words(text) if len(word) >= SHORTEST_CONTENT_WORD)


def _overlaps(
    answers: Sequence[str | None], questions: Sequence[str], personas: Sequence[str], groups: Mapping[str, str]
) -> tuple[list[float], list[float]]:
    by_question: dict[str, list[int]] = {}
    told = [None if answer is None else content_words(answer) for answer in answers]
    for place, question in enumerate(questions):
        if told[place] is not None and personas[place] in groups:
            by_question.setdefault(question, []).append(place)
    within, across = [np.nan] * len(answers), [np.nan] * len(answers)
    for places in by_question.values():
        for place in places:
            alike: dict[bool, list[float]] = {True: [], False: []}
            own = told[place]
            for other in places:
                theirs = told[other]
                if personas[other] != personas[place] and own is not None and theirs is not None:
                    same = groups[personas[other]] == groups[personas[place]]
                    alike[same].append(overlap(own, theirs))
            if alike[True] and alike[False]:
                within[place] = float(np.mean(alike[True]))
                across[place] = float(np.mean(alike[False]))
    return within, across
