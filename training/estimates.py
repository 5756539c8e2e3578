"""Shares and differences of shares with the interval that they deserve, and the rules for when to give none.

Personas are resampled, and prompts where they are given (builder.statistics). A share of a few rows is withheld, and so
is an interval that would claim a certainty which is only a lack of variety.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from builder.statistics import Cluster, ClusterSums, cluster_sums, resampled_means

MINIMUM_ROWS = 20  # a share of fewer rows is not printed
CONSTANT_RATER = "undefined: one of the two gives one answer throughout"  # why there is no kappa
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
class Resampled:
    """Columns of values with the means of their resamples; from `resample`."""

    values: np.ndarray  # (rows, columns), NaN = not counted in this column
    sums: ClusterSums
    means: np.ndarray  # (resamples, columns)


def estimate_columns(
    values: np.ndarray,
    clusters: Sequence[Cluster],
    rng: np.random.Generator,
    differences: int = 0,
    prompts: Sequence[str] | None = None,
) -> list[Estimate]:
    """The mean of each column with a percentile interval from resampling personas, and with `prompts` (each row's) also prompts.

    `values` has shape (rows, columns), NaN = not counted in this column; the last `differences` columns are differences
    of shares, the others shares. All columns share the same resamples, and the clusters are taken in the order of their
    names, so the order of rows changes nothing.
    """
    resampled = resample(values, clusters, rng, prompts)
    shares = values.shape[1] - differences
    return [estimate_mean(resampled, column, column >= shares) for column in range(values.shape[1])]


def resample(
    values: np.ndarray, clusters: Sequence[Cluster], rng: np.random.Generator, prompts: Sequence[str] | None = None
) -> Resampled:
    """Arguments as in `estimate_columns`."""
    sums = cluster_sums(values, clusters, prompts)
    return Resampled(values, sums, resampled_means(sums, rng))


def estimate_mean(resampled: Resampled, column: int, is_difference: bool = False) -> Estimate:
    """Of one column: a share, or a difference of shares."""
    values, sums = resampled.values[:, column], resampled.sums
    counted = values[~np.isnan(values)]
    n, clusters, means = len(counted), sums.personas_counted(column), resampled.means[:, column]
    if n < MINIMUM_ROWS:
        return Estimate(None, None, None, n, clusters, f"n < {MINIMUM_ROWS}")
    value = float(counted.mean())
    if clusters < 2:
        return Estimate(value, None, None, n, clusters, "no interval: one cluster")
    if not is_difference and value in (0.0, 1.0):
        # Resampling rows that are all alike says nothing of how sure the share is.
        low, high = _wilson_interval(value, min(clusters, sums.prompts_counted(column) or clusters))
        return Estimate(value, min(low, value), max(high, value), n, clusters)
    return interval_of(value, means, n, clusters)


def estimate_derived(
    resampled: Resampled,
    columns: Sequence[int],
    statistic: Callable[[np.ndarray], np.ndarray],
    undefined: str,
) -> Estimate:
    """A figure that follows from the means of some columns: a ratio, Cohen's kappa.

    columns: they count the same rows. statistic: (..., len(columns)) -> (...), not finite where there is none. undefined: the reason that
    stands where the figure does not exist.
    """
    values = resampled.values[:, list(columns)]
    counted = values[~np.isnan(values).any(axis=1)]
    rows, clusters = len(counted), resampled.sums.personas_counted(columns[0])
    if rows < MINIMUM_ROWS:
        return Estimate(None, None, None, rows, clusters, f"n < {MINIMUM_ROWS}")
    with np.errstate(invalid="ignore", divide="ignore"):
        value = float(statistic(counted.mean(axis=0)))
        drawn = statistic(resampled.means[:, list(columns)])
    if not math.isfinite(value):
        return Estimate(None, None, None, rows, clusters, undefined)
    if clusters < 2:
        return Estimate(value, None, None, rows, clusters, "no interval: one cluster")
    drawn = drawn[np.isfinite(drawn)]
    if len(drawn) < len(resampled.means) / 2:
        return Estimate(value, None, None, rows, clusters, "no interval: undefined in most resamples")
    return interval_of(value, drawn, rows, clusters)


def cohens_kappa(shares: np.ndarray) -> np.ndarray:
    """Cohen's kappa (1960) of two raters. shares: (..., k * k), how often the first gives answer i and the second j at place i * k + j.

    NaN (reason: CONSTANT_RATER) where either gives one answer throughout: whatever the other says, kappa is then 0 or 0 / 0 and says
    nothing of agreement. Shape (...).
    """
    k = math.isqrt(shares.shape[-1])
    table = shares.reshape(*shares.shape[:-1], k, k)
    agreed = np.trace(table, axis1=-2, axis2=-1)
    first, second = table.sum(axis=-1), table.sum(axis=-2)
    by_chance = (first * second).sum(axis=-1)
    constant = (first.max(axis=-1) > 1 - 1e-9) | (second.max(axis=-1) > 1 - 1e-9)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(constant, np.nan, (agreed - by_chance) / (1 - by_chance))


def interval_of(value: float, resampled: np.ndarray, n: int, clusters: int) -> Estimate:
    """The figure with the percentile interval of its resamples, shape (resamples,)."""
    if np.nanmax(resampled) - np.nanmin(resampled) < 1e-12:
        # An interval without width would claim certainty. It is certain only where it holds by construction.
        return Estimate(value, None, None, n, clusters, "no interval: alike for all personas")
    low, high = np.nanpercentile(resampled, (2.5, 97.5))
    # The percentile interval of a skewed ratio can miss its own point; an interval that does is of no use to a reader.
    return Estimate(value, min(float(low), value), max(float(high), value), n, clusters)


def _wilson_interval(share: float, n: int) -> tuple[float, float]:
    """Wilson's score interval at 95 %, each cluster taken as a single observation (the cautious extreme)."""
    z2 = NORMAL_QUANTILE**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = NORMAL_QUANTILE / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)
