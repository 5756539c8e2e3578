"""Shares and differences of shares with the interval that they deserve, and the rules for when to give none.

Personas are resampled (builder.statistics). A share of a few rows is withheld, and so is an interval that would claim a
certainty which is only a lack of variety.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from builder.statistics import Cluster, cluster_sums, resampled_means

MINIMUM_ROWS = 20  # a share of fewer rows is not printed
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
