"""Intervals for shares of rows that come in clusters (several rows of one persona)."""

from collections.abc import Hashable, Sequence

import numpy as np

from builder.randomness import rng_for


def clustered_interval(
    values: Sequence[float], clusters: Sequence[Hashable], seed: int, key: str, draws: int = 2000, level: float = 0.95
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean of `values`, whole clusters drawn with replacement.

    Rows of one persona are not independent, so an interval over rows would be too narrow. The order of the rows does not matter.
    """
    if not len(values):
        return (float("nan"), float("nan"))
    totals: dict[str, list[float]] = {}
    for value, cluster in zip(values, clusters, strict=True):
        entry = totals.setdefault(str(cluster), [0.0, 0.0])
        entry[0] += value
        entry[1] += 1
    table = np.array([totals[name] for name in sorted(totals)])
    picks = rng_for(seed, "bootstrap", key).integers(len(table), size=(draws, len(table)))
    sums = table[picks].sum(axis=1)
    means = sums[:, 0] / sums[:, 1]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
