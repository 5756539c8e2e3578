"""The figures of `main` and `pass_at_k`, from kept answers and replies alone, so that rescoring runs the very same lines."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from builder.judge.judge import Judge
from builder.randomness import rng_for
from eval.bench.modes import BASELINE
from eval.bench.outcomes import (
    Outcome,
    Row,
    by_condition,
    condition_estimates,
    outcomes_of,
    rows_by_condition,
    withheld_conditions,
    without_value,
)
from eval.bench.pass_at_k import ks_for, pass_at_k
from training.estimates import estimate_columns

TOO_FEW_SAMPLES = "fewer than k scored answers"


def main_content(
    answers: Sequence[Row],
    transcript: Sequence[Row],
    judges: Mapping[str, Judge],
    settings: Mapping[str, Any],
    seed: int,
) -> dict[str, Any]:
    """{"judges": label -> {"modes": mode -> figures, "between_modes": differences}}. judges: label -> the judge that reads its replies."""
    found = {}
    for label, judge in judges.items():
        outcomes = outcomes_of(answers, transcript, judge, label)
        modes = {mode: _mode_content(_own(outcomes, mode), judge, seed, mode) for mode in settings["modes"]}
        found[label] = {"modes": modes, "between_modes": _between_modes(outcomes, settings["modes"], seed)}
    return {"judges": found}


def pass_at_k_content(
    answers: Sequence[Row],
    transcript: Sequence[Row],
    judges: Mapping[str, Judge],
    settings: Mapping[str, Any],
    seed: int,
) -> dict[str, Any]:
    """{"judges": label -> {"modes": mode -> {"rows", "k": k -> estimates, "too_few": condition -> k -> items}}}."""
    found = {}
    for label, judge in judges.items():
        outcomes = outcomes_of(answers, transcript, judge, label)
        found[label] = {
            "modes": {mode: _curve(_own(outcomes, mode), settings["samples"], seed, mode) for mode in settings["modes"]}
        }
    return {"judges": found}


def _own(outcomes: Sequence[Outcome], mode: str) -> list[Outcome]:
    """A mode's outcomes with the baseline as its condition `none`."""
    return [one for one in outcomes if one.mode in (mode, BASELINE)]


def _mode_content(outcomes: Sequence[Outcome], judge: Judge, seed: int, mode: str) -> dict[str, Any]:
    rows = rows_by_condition(outcomes)
    withheld = withheld_conditions(rows)
    cells = sorted({one.cell for one in outcomes})
    return {
        "rows": rows,
        "withheld": withheld,
        "pass": condition_estimates(by_condition(outcomes), withheld, seed, mode),
        # A verdict in words is 0 or 1, and then the mean score is the pass rate.
        "score": condition_estimates(by_condition(outcomes, "score"), withheld, seed, f"{mode}/score")
        if judge.parser == "verdict_tokens"
        else None,
        "cells": {
            cell: condition_estimates(
                by_condition([one for one in outcomes if one.cell == cell]), withheld, seed, f"{mode}/{cell}"
            )
            for cell in cells
        },
    }


def _between_modes(outcomes: Sequence[Outcome], modes: Sequence[str], seed: int) -> dict[str, dict[str, Any]]:
    """`a - b` -> Estimate of the difference of pass rates under the true persona, over the items that both have."""
    own = [mode for mode in modes if mode != BASELINE]
    passed = {
        mode: {one.item: one.passed for one in outcomes if one.mode == mode and one.condition == "true"} for mode in own
    }
    withheld = {
        mode: withheld_conditions(rows_by_condition([one for one in outcomes if one.mode == mode])).get("true")
        for mode in own
    }
    found = {}
    for place, first in enumerate(own):
        for second in own[:place]:
            items = sorted(passed[first])
            differences = np.array([[passed[first][item] - passed[second].get(item, math.nan)] for item in items])
            estimate = estimate_columns(
                differences,
                [(persona,) for persona, _ in items],
                rng_for(seed, "bench/between_modes", f"{first}/{second}"),
                differences=1,
                prompts=[prompt for _, prompt in items],
            )[0]
            reason = withheld[first] or withheld[second]
            found[f"{first} - {second}"] = dataclasses.asdict(
                estimate if reason is None else without_value(estimate, reason)
            )
    return found


def _curve(outcomes: Sequence[Outcome], samples: int, seed: int, mode: str) -> dict[str, Any]:
    rows = rows_by_condition(outcomes)
    withheld = withheld_conditions(rows)
    counts: dict[str, dict[tuple[str, str], list[int]]] = {}
    for one in outcomes:
        scored_passed = counts.setdefault(one.condition, {}).setdefault(one.item, [0, 0])
        if one.reason is None:
            scored_passed[0] += 1
            scored_passed[1] += int(one.passed)
    points, too_few = {}, {condition: {} for condition in counts}  # type: dict[str, Any], dict[str, dict[str, int]]
    for k in ks_for(samples):
        values = {
            condition: {item: pass_at_k(scored, passed, k) for item, (scored, passed) in own.items()}
            for condition, own in counts.items()
        }
        points[str(k)] = condition_estimates(values, withheld, seed, f"{mode}/{k}")
        for condition, own in values.items():
            too_few[condition][str(k)] = sum(math.isnan(value) for value in own.values())
    return {"rows": rows, "withheld": withheld, "k": points, "too_few": too_few, "too_few_reason": TOO_FEW_SAMPLES}
