"""Accuracy after k answers, regret against knowing everything, and the area under it. Pure functions of the kept rows."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from builder.judge.judge import WORTH
from builder.randomness import rng_for
from eval.results import row_counts, too_many_unscored
from training.estimates import Estimate, estimate_columns

STEPS = (0, 1, 2, 4, 8)  # answers, or labelled pairs
ALL = -1  # in a row's `k`: the whole profile, or all labelled pairs
CONDITIONS = ("true", "wrong")

Rows = Sequence[Mapping[str, Any]]  # of SCORE_COLUMNS in rows.py, with `margin` and `reason` filled in


def content_of(rows: Rows, counts: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """`Result.content`: `withheld`, `ends` (nothing and everything known, by config), `curves` (by order and config) and `interviews`.

    counts: what the interviews took, which is passed on. No figure is given where too many rows are unscored.
    """
    withheld = too_many_unscored(reasons_of(rows))
    found: dict[str, Any] = {"withheld": withheld, "ends": [], "curves": [], "interviews": dict(counts)}
    if withheld:
        return found
    for config in sorted({row["config"] for row in rows}):
        own = [row for row in rows if row["config"] == config]
        pairs = sorted({row["pair_id"]: row for row in own}.values(), key=lambda row: row["pair_id"])
        outcomes = _outcomes(own, {row["pair_id"]: place for place, row in enumerate(pairs)})
        found["ends"].append({"config": config, **_ends(pairs, outcomes, seed)})
        for order in sorted({row["order"] for row in own if row["order"]}):
            found["curves"].append({"config": config, "order": order, **_curve(own, pairs, outcomes, order, seed)})
    return found


def reasons_of(rows: Rows) -> dict[str, Any]:
    """`Result.rows`."""
    return row_counts(row["reason"] for row in rows)


def worth(margin: float | None) -> float:
    """Of one verdict: 1 for the preferred answer, half for a tie, NaN where there is none."""
    if margin is None:
        return math.nan
    return WORTH["A" if margin > 0 else "B" if margin < 0 else "tie"]


def _outcomes(rows: Rows, place: Mapping[str, int]) -> dict[tuple[str, str, int], np.ndarray]:
    """(order, condition, k) -> (pairs,), NaN where the pair has no such row or no score."""
    found: dict[tuple[str, str, int], np.ndarray] = {}
    for row in rows:
        key = (row["order"], row["condition"], row["k"])
        found.setdefault(key, np.full(len(place), np.nan))[place[row["pair_id"]]] = worth(row["margin"])
    return found


def _ends(pairs: Rows, outcomes: Mapping[tuple[str, str, int], np.ndarray], seed: int) -> dict[str, Any]:
    nothing, missing = outcomes.get(("", "none", 0)), np.full(len(pairs), np.nan)
    true, wrong = (outcomes.get(("", condition, ALL), missing) for condition in CONDITIONS)
    none = missing if nothing is None else nothing
    estimates = _estimates([none, true, wrong], [true - wrong, true - none], pairs, seed)
    return dict(zip(("none", "all", "all_wrong", "all_minus_wrong", "all_minus_none"), estimates, strict=True))


def _curve(
    rows: Rows, pairs: Rows, outcomes: Mapping[tuple[str, str, int], np.ndarray], order: str, seed: int
) -> dict[str, Any]:
    missing = np.full(len(pairs), np.nan)
    everything = outcomes.get(("", "true", ALL), missing)
    points, regrets = [], {}
    for k in STEPS:
        if k == 0:
            true = wrong = outcomes.get(("", "none", 0), missing)
        else:
            true, wrong = (outcomes.get((order, condition, k), missing) for condition in CONDITIONS)
        regrets[k] = everything - true
        estimates = _estimates([true, wrong], [true - wrong, regrets[k]], pairs, seed)
        points.append(
            {"k": k, **dict(zip(("accuracy", "wrong", "gap", "regret"), estimates, strict=True))}
            | _reached(rows, order, k)
        )
    area = trapezoid(regrets)
    columns = [area]
    if order != "random" and ("random", "true", STEPS[-1]) in outcomes:
        other = {
            k: everything - outcomes.get(("", "none", 0) if k == 0 else ("random", "true", k), missing) for k in STEPS
        }
        columns.append(area - trapezoid(other))
    estimates = _estimates([], columns, pairs, seed)
    return {"points": points, "area": estimates[0], "area_minus_random": estimates[1] if len(columns) > 1 else None}


def trapezoid(regrets: Mapping[int, np.ndarray]) -> np.ndarray:
    """(pairs,): the area under the regret from the first step to the last, divided by their distance: the mean regret on the way.

    NaN for a pair that lacks one of the steps.
    """
    steps = sorted(regrets)
    parts = [(regrets[a] + regrets[b]) / 2 * (b - a) for a, b in itertools.pairwise(steps)]
    total: np.ndarray = np.sum(parts, axis=0) / (steps[-1] - steps[0])
    return total


def _reached(rows: Rows, order: str, k: int) -> dict[str, Any]:
    """How many personas gave k answers, how many ended before, and how many questions it took on average."""
    everybody = {row["persona_id"] for row in rows}
    if k == 0:
        return {"personas": len(everybody), "personas_short": 0, "asked": 0.0}
    took = {
        row["persona_id"]: row["asked"]
        for row in rows
        if row["order"] == order and row["condition"] == "true" and row["k"] == k
    }
    mean = math.fsum(took.values()) / len(took) if took else None
    return {"personas": len(took), "personas_short": len(everybody) - len(took), "asked": mean}


def _estimates(
    shares: Sequence[np.ndarray], differences: Sequence[np.ndarray], pairs: Rows, seed: int
) -> list[dict[str, Any]]:
    """Personas and questions are resampled; on contrast a pair belongs to two personas. All orders and steps share the draws."""
    clusters = [tuple(sorted(filter(None, (row["persona_id"], row["partner_persona_id"])))) for row in pairs]
    found: list[Estimate] = estimate_columns(
        np.column_stack([*shares, *differences]),
        clusters,
        rng_for(seed, "elicitation/bootstrap", pairs[0]["config"]),
        differences=len(differences),
        prompts=[row["prompt_id"] for row in pairs],
    )
    return [asdict(estimate) for estimate in found]
