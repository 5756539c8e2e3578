"""From kept answers and kept replies of a judge to outcomes, and from outcomes to estimates: the same for every part of the bench."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from builder.judge.critique import CritiqueVerdict
from builder.judge.judge import Judge
from builder.lexical import words
from builder.randomness import rng_for
from eval.results import row_counts, too_many_unscored
from eval.transcripts import reread
from training.conditioning import CONDITIONS
from training.estimates import Estimate, estimate_columns

Row = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """One judged answer. passed: 1 or 0; score: what the judge gave, in [0, 1]; both NaN where unscored, and `reason` says why."""

    persona_id: str
    prompt_id: str
    cell: str
    mode: str
    condition: str
    sample: int
    passed: float
    score: float
    reason: str | None
    words: int

    @property
    def item(self) -> tuple[str, str]:
        return self.persona_id, self.prompt_id


def outcomes_of(answers: Sequence[Row], transcript: Sequence[Row], judge: Judge, label: str) -> list[Outcome]:
    """One outcome an answer. transcript: of all judges; label: of the one whose replies are read, by `judge`'s parser."""
    verdicts = reread(judge, [row for row in transcript if row["judge"] == label])
    return [_outcome(row, verdicts.get(row["item_id"])) for row in answers]


def _outcome(row: Row, verdict: Any) -> Outcome:
    reason: str | None = None
    if row["failure"]:
        reason = f"answer {row['failure']}"
    elif not isinstance(verdict, CritiqueVerdict):
        reason = "not judged"
    elif verdict.score is None:
        reason = f"judge {verdict.reason}"
    scored = reason is None
    return Outcome(
        persona_id=row["persona_id"],
        prompt_id=row["prompt_id"],
        cell=f"{row['persona_group']}/{row['split']}",
        mode=row["mode"],
        condition=row["condition"],
        sample=row["sample"],
        passed=float(verdict.verdict == "pass") if scored else math.nan,
        score=float(verdict.score) if scored else math.nan,
        reason=reason,
        words=len(words(row["text"])),
    )


def rows_by_condition(outcomes: Sequence[Outcome]) -> dict[str, dict[str, Any]]:
    """condition -> {scored, unscored: {reason: n}, mean_words: of the answers that there are}."""
    found = {}
    for condition in CONDITIONS:
        own = [one for one in outcomes if one.condition == condition]
        if own:
            lengths = [one.words for one in own if not (one.reason or "").startswith("answer ")]
            mean = float(np.mean(lengths)) if lengths else None
            found[condition] = {**row_counts(one.reason for one in own), "mean_words": mean}
    return found


def withheld_conditions(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """condition -> why its figures are withheld: too many of its rows are unscored."""
    reasons = {condition: too_many_unscored(dict(counts)) for condition, counts in rows.items()}
    return {condition: reason for condition, reason in reasons.items() if reason is not None}


def condition_estimates(
    values: Mapping[str, Mapping[tuple[str, str], float]], withheld: Mapping[str, str], seed: int, key: str
) -> dict[str, dict[str, Any]]:
    """{true, none, wrong, gap, gain} as plain Estimates. values: condition -> item -> a share, NaN where there is none.

    gap: true - wrong, gain: true - none, each over the items that have both. Personas and prompts are resampled.
    """
    items = sorted({item for own in values.values() for item in own})
    shares = np.array([[values.get(condition, {}).get(item, math.nan) for condition in CONDITIONS] for item in items])
    true, none, wrong = shares.T
    columns = np.column_stack([shares, true - wrong, true - none])
    estimates = estimate_columns(
        columns,
        [(persona,) for persona, _ in items],
        rng_for(seed, "bench/bootstrap", key),
        differences=2,
        prompts=[prompt for _, prompt in items],
    )
    named = dict(zip((*CONDITIONS, "gap", "gain"), estimates, strict=True))
    needs = {"gap": ("true", "wrong"), "gain": ("true", "none")}
    found = {}
    for name, estimate in named.items():
        reason = next((withheld[c] for c in needs.get(name, (name,)) if c in withheld), None)
        found[name] = dataclasses.asdict(estimate if reason is None else without_value(estimate, reason))
    return found


def without_value(estimate: Estimate, reason: str) -> Estimate:
    return dataclasses.replace(estimate, value=None, low=None, high=None, withheld=reason)


def by_condition(outcomes: Sequence[Outcome], field: str = "passed") -> dict[str, dict[tuple[str, str], float]]:
    """condition -> item -> the field of its one sample."""
    found: dict[str, dict[tuple[str, str], float]] = {}
    for one in outcomes:
        found.setdefault(one.condition, {})[one.item] = float(getattr(one, field))
    return found
