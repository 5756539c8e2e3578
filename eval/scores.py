"""Scoring of pairs: every candidate once, then each pair's two scores looked up under each condition.

A scorer turns a list of candidates (an answer, and the persona that is shown) into one score each, higher = preferred. Models and
baselines share this shape, so they are measured by the same code.

training.evaluation plans the same candidates, but leaves out what its one model cannot score. Here many scorers share one plan, and a
row that one of them cannot score stays, with the reason.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from builder.errors import InputError
from eval.rows import EvaluatedRow
from training.conditioning import CONDITIONS
from training.evaluation import Candidate, shown_persona

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
    """`candidates` are distinct; `places` says for each condition and row where its two answers stand in `candidates`, or why the row
    cannot be scored.
    """

    candidates: list[Candidate]
    places: dict[str, list[tuple[int, int] | str]]


def plan_scoring(rows: Sequence[EvaluatedRow], personas: Collection[str]) -> ScoringPlan:
    """What has to be scored. personas: the ids that have a profile. Answers shared by several pairs (a base answer, both mirrors) are
    scored once, so they cannot differ.
    """
    known: dict[Candidate, int] = {}

    def place(row: EvaluatedRow, condition: str) -> tuple[int, int] | str:
        if row.chosen is None or row.rejected is None:
            return "chosen text missing" if row.chosen is None else "rejected text missing"
        persona = shown_persona(row.published, condition)
        if persona is not None and persona not in personas:
            return f"no profile for the {condition} persona"
        prompt = row.published["prompt_id"]
        chosen, rejected = (Candidate(persona, prompt, row.question, text) for text in (row.chosen, row.rejected))
        return known.setdefault(chosen, len(known)), known.setdefault(rejected, len(known))

    places = {condition: [place(row, condition) for row in rows] for condition in CONDITIONS}
    return ScoringPlan(list(known), places)


def pair_scores(plan: ScoringPlan, values: Sequence[Score]) -> dict[str, list[PairScore]]:
    """`values` holds one score per `plan.candidates`; the result one PairScore per row, for each condition."""
    if len(values) != len(plan.candidates):
        raise InputError(
            f"A scorer returned {len(values)} scores for {len(plan.candidates)} texts. It must return one each, in order."
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
