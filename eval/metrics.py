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
from builder.statistics import Cluster, cluster_sums, resampled_means
from eval.rows import EvaluatedRow
from eval.scores import PairScore

MINIMUM_ROWS = 20  # a share of fewer rows is not printed
FEW_CLUSTERS = 10  # below this many clusters a cluster bootstrap is known to give intervals that are too narrow
CELLS = ("all", "seen/seen_test", "seen/heldout_test", "unseen/seen_test", "unseen/heldout_test")
# `flipped`: the judge that labelled the rows changes sides with the persona; `flipped_second`: another judge does.
SUBSETS = {"dpf": ("all",), "contrast": ("all", "flipped", "flipped_second")}
GAPS = (("true", "wrong"), ("true", "none"))
WORTH = {"chosen": 1.0, "tie": 0.5, "rejected": 0.0, "unscored": math.nan}  # of a verdict
NORMAL_QUANTILE = 1.959964  # of 0.975


@dataclass(frozen=True)
class Estimate:
    """A share or a difference of shares, in [-1, 1], with its 95 % interval."""

    value: float | None
    low: float | None
    high: float | None
    n: int  # rows
    clusters: int  # personas with a counted row
    withheld: str | None = None  # why `value`, or only the interval, is not given


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


def estimate_columns(
    values: np.ndarray, clusters: Sequence[Cluster], rng: np.random.Generator, differences: int = 0
) -> list[Estimate]:
    """The mean of each column with a percentile interval from resampling personas.

    `values` has shape (rows, columns), NaN = not counted in this column; the last `differences` columns are differences
    of shares, the others shares. All columns share the same resamples, and the clusters are taken in the order of their
    names, so the order of rows changes nothing.
    """
    sums = cluster_sums(values, clusters)
    means = resampled_means(sums, rng)
    shares = values.shape[1] - differences
    return [
        _estimate(
            values[~np.isnan(values[:, column]), column],
            sums.personas_counted(column),
            means[:, column],
            column >= shares,
        )
        for column in range(values.shape[1])
    ]


def _estimate(counted: np.ndarray, clusters: int, resampled: np.ndarray, is_difference: bool) -> Estimate:
    n = len(counted)
    if n < MINIMUM_ROWS:
        return Estimate(None, None, None, n, clusters, f"n < {MINIMUM_ROWS}")
    value = float(counted.mean())
    if clusters < 2:
        return Estimate(value, None, None, n, clusters, "no interval: one cluster")
    if not is_difference and value in (0.0, 1.0):
        # Resampling rows that are all alike says nothing of how sure the share is.
        low, high = _wilson_interval(value, clusters)
    elif np.nanmax(resampled) - np.nanmin(resampled) < 1e-12:
        # An interval without width would claim certainty. It is certain only where it holds by construction.
        return Estimate(value, None, None, n, clusters, "no interval: alike for all personas")
    else:
        low, high = np.nanpercentile(resampled, (2.5, 97.5))
    # The percentile interval of a skewed ratio can miss its own point; an interval that does is of no use to a reader.
    return Estimate(value, min(float(low), value), max(float(high), value), n, clusters)


def _wilson_interval(share: float, n: int) -> tuple[float, float]:
    """Wilson's score interval at 95 %, each cluster taken as a single observation (the cautious extreme)."""
    z2 = NORMAL_QUANTILE**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = NORMAL_QUANTILE / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


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
