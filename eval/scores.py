"""Scoring of pairs: every (prompt, text) once, then each pair's two scores looked up under each condition.

A scorer is anything that turns a list of (messages, text) into one score each, higher = preferred. Models and baselines
share this shape, so they are measured by the same code.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from builder.errors import InputError
from eval.rows import EvaluatedRow
from training.conditioning import CONDITIONS, prompt_messages

Item = tuple[list[dict[str, str]], str]
Score = float | str  # a number, or why there is none


@dataclass(frozen=True)
class PairScore:
    """The two scores of one pair under one condition; `reason` says why there are none."""

    chosen: float | None
    rejected: float | None
    reason: str | None = None

    @property
    def verdict(self) -> str:
        """`chosen`, `rejected`, `tie` or `unscored`."""
        if self.reason is not None or self.chosen is None or self.rejected is None:
            return "unscored"
        if self.chosen == self.rejected:
            return "tie"
        return "chosen" if self.chosen > self.rejected else "rejected"


@dataclass(frozen=True)
class ScoringPlan:
    """`items` are the distinct (messages, text); `places` says for each condition and row where its two texts stand in
    `items`, or why the row cannot be scored.
    """

    items: list[Item]
    places: dict[str, list[tuple[int, int] | str]]


def plan_scoring(
    rows: Sequence[EvaluatedRow], profiles: Mapping[str, str], conditions: Sequence[str] = CONDITIONS
) -> ScoringPlan:
    """What has to be scored. Texts shared by several pairs (a base answer, both mirrors) are scored once, so they
    cannot differ.
    """
    items: list[Item] = []
    known: dict[tuple[str, ...], int] = {}

    def place(messages: list[dict[str, str]], text: str) -> int:
        key = (*(part for message in messages for part in (message["role"], message["content"])), text)
        if key not in known:
            known[key] = len(items)
            items.append((messages, text))
        return known[key]

    places: dict[str, list[tuple[int, int] | str]] = {condition: [] for condition in conditions}
    for row in rows:
        for condition in conditions:
            chosen, rejected = row.chosen, row.rejected
            if chosen is None or rejected is None:
                places[condition].append("chosen text missing" if chosen is None else "rejected text missing")
                continue
            try:
                messages = prompt_messages(condition, row.published, profiles)
            except InputError:
                places[condition].append(f"no profile for the {condition} persona")
                continue
            places[condition].append((place(messages, chosen), place(messages, rejected)))
    return ScoringPlan(items, places)


def pair_scores(plan: ScoringPlan, values: Sequence[Score]) -> dict[str, list[PairScore]]:
    """`values` holds one score per `plan.items`; the result one PairScore per row, for each condition."""
    if len(values) != len(plan.items):
        raise InputError(
            f"A scorer returned {len(values)} scores for {len(plan.items)} texts. It must return one each, in order."
        )
    return {condition: [_pair_score(place, values) for place in places] for condition, places in plan.places.items()}


def _pair_score(place: tuple[int, int] | str, values: Sequence[Score]) -> PairScore:
    if isinstance(place, str):
        return PairScore(None, None, place)
    chosen, rejected = values[place[0]], values[place[1]]
    if isinstance(chosen, str) or isinstance(rejected, str):
        return PairScore(None, None, chosen if isinstance(chosen, str) else str(rejected))
    if not (math.isfinite(chosen) and math.isfinite(rejected)):
        return PairScore(None, None, "score is not a finite number")
    return PairScore(float(chosen), float(rejected))
