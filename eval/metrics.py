"""Accuracy, the specificity gap and agreement with the judge, each with n and a bootstrap interval clustered by
persona.

A tie counts half and is also reported apart. An unscored row counts nowhere, and is reported with its reason. A
contrast row counts only where its mirror is scored too: on complete mirrored sets a scorer that ignores the persona
then comes out at exactly 0.5.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from builder.randomness import rng_for
from eval.rows import EvaluatedRow
from eval.scores import PairScore
from training.estimates import Estimate, estimate_columns
from training.metrics import CELLS

FEW_CLUSTERS = 10  # below this many clusters a cluster bootstrap is known to give intervals that are too narrow
# `flipped`: the judge that labelled the rows changes sides with the persona; `flipped_second`: another judge does.
SUBSETS = {"dpf": ("all",), "contrast": ("all", "flipped", "flipped_second")}
GAPS = (("true", "wrong"), ("true", "none"))
WORTH = {"chosen": 1.0, "tie": 0.5, "rejected": 0.0, "unscored": math.nan}  # of a verdict


@dataclass(frozen=True)
class Measurement:
    """One condition on one (config, subset, cell)."""

    config: str
    subset: str
    cell: str
    condition: str
    rows: int  # in this cell, scored or not
    unscored: dict[str, int]  # reason -> rows
    mirrors_dropped: int  # scored contrast rows left out because their mirror is unscored or absent
    ties: int
    personas: int
    accuracy: Estimate
    judge_agreement: Estimate  # with the judge's own verdict, over the rows that have one


@dataclass(frozen=True)
class Gap:
    """accuracy(true) - accuracy(`against`), over the rows counted under both conditions."""

    config: str
    subset: str
    cell: str
    against: str
    difference: Estimate


def measure(
    rows: Sequence[EvaluatedRow],
    scores: Mapping[str, Sequence[PairScore]],
    seed: int,
) -> tuple[list[Measurement], list[Gap]]:
    """Every measurement of one scorer.

    `scores` holds for each condition one PairScore per row, in the order of `rows`.
    """
    outcomes = {condition: counted_outcomes(rows, values) for condition, values in scores.items()}
    agreements = {condition: judge_agreements(rows, values) for condition, values in outcomes.items()}
    measurements: list[Measurement] = []
    gaps: list[Gap] = []
    for config in SUBSETS:
        for subset in SUBSETS[config]:
            for cell in CELLS:
                places = np.flatnonzero(_membership(rows, config, subset, cell)).tolist()
                if not places:
                    continue
                pairs = [pair for pair in GAPS if pair[0] in outcomes and pair[1] in outcomes]
                columns = [outcomes[c][places] for c in outcomes]
                columns += [agreements[c][places] for c in outcomes]
                columns += [outcomes[left][places] - outcomes[right][places] for left, right in pairs]
                clusters = [rows[place].cluster for place in places]
                key = f"{config}/{subset}/{cell}"
                generator = rng_for(seed, "eval/bootstrap", key)
                estimates = estimate_columns(np.stack(columns, axis=1), clusters, generator, differences=len(pairs))
                for index, condition in enumerate(outcomes):
                    measurements.append(
                        _measurement(
                            (config, subset, cell, condition),
                            [rows[place] for place in places],
                            [scores[condition][place] for place in places],
                            outcomes[condition][places],
                            estimates[index],
                            estimates[len(outcomes) + index],
                        )
                    )
                for (_, against), estimate in zip(pairs, estimates[2 * len(outcomes) :], strict=True):
                    gaps.append(Gap(config, subset, cell, against, estimate))
    return measurements, gaps


def counted_outcomes(rows: Sequence[EvaluatedRow], scores: Sequence[PairScore]) -> np.ndarray:
    """1 where the chosen text scores higher, 0.5 for a tie, 0 otherwise; NaN where the row does not count. Shape
    (rows,).
    """
    outcomes = np.array([WORTH[score.verdict] for score in scores], dtype=float)
    scored = {row.pair_id for row, outcome in zip(rows, outcomes, strict=True) if not math.isnan(outcome)}
    for place, row in enumerate(rows):
        if row.mirror_pair_id is not None and row.mirror_pair_id not in scored:
            outcomes[place] = math.nan
    return outcomes


def judge_agreements(rows: Sequence[EvaluatedRow], outcomes: np.ndarray) -> np.ndarray:
    """1 where scorer and judge prefer the same text, 0 where not, 0.5 where either ties; NaN without a verdict."""
    judged = np.array([WORTH[row.judge_verdict] for row in rows], dtype=float)
    return (1.0 + np.sign(judged - 0.5) * np.sign(outcomes - 0.5)) / 2.0


def _measurement(
    key: tuple[str, str, str, str],
    rows: Sequence[EvaluatedRow],
    scores: Sequence[PairScore],
    outcomes: np.ndarray,
    accuracy: Estimate,
    judge_agreement: Estimate,
) -> Measurement:
    counted = ~np.isnan(outcomes)
    unscored = Counter(score.reason for score in scores if score.reason is not None)
    return Measurement(
        *key,
        rows=len(rows),
        unscored=dict(sorted(unscored.items())),
        mirrors_dropped=len(rows) - sum(unscored.values()) - int(counted.sum()),
        ties=int((outcomes[counted] == 0.5).sum()),
        personas=len({row.persona_id for row, counts in zip(rows, counted, strict=True) if counts}),
        accuracy=accuracy,
        judge_agreement=judge_agreement,
    )


def _membership(rows: Sequence[EvaluatedRow], config: str, subset: str, cell: str) -> np.ndarray:
    flipped = {row.pair_id for row in rows if (row.second_flip if subset == "flipped_second" else row.flip)}
    return np.array(
        [
            row.config == config
            and (cell == "all" or row.cell == cell)
            # Both mirrors or neither, even where only one of them carries the mark.
            and (subset == "all" or (row.pair_id in flipped and row.mirror_pair_id in flipped))
            for row in rows
        ],
        dtype=bool,
    )
