"""Cluster bootstrap: intervals for means of rows that come in clusters (several rows of one persona).

Rows of one persona are not independent, so an interval over rows would be too narrow; whole clusters are drawn with replacement.
"""

from collections.abc import Hashable, Sequence

import numpy as np

from builder.randomness import rng_for

RESAMPLES = 2000


def clustered_interval(
    values: Sequence[float], clusters: Sequence[Hashable], seed: int, key: str, level: float = 0.95
) -> tuple[float, float]:
    """Percentile interval of the mean of `values`, which is not empty. The order of the rows does not matter."""
    sums, counts = cluster_sums(np.asarray(values, dtype=float)[:, None], clusters)
    means = resampled_means(sums, counts, rng_for(seed, "bootstrap", key))
    low, high = np.quantile(means[:, 0], [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def cluster_sums(values: np.ndarray, clusters: Sequence[Hashable]) -> tuple[np.ndarray, np.ndarray]:
    """Sum and number of the counted values (not NaN) of each cluster, both of shape (clusters, columns).

    `values` has shape (rows, columns). Clusters come in the order of their names, so the order of rows changes nothing.
    """
    names, membership = np.unique(np.asarray([str(cluster) for cluster in clusters]), return_inverse=True)
    present = ~np.isnan(values)
    sums = np.zeros((len(names), values.shape[1]))
    counts = np.zeros_like(sums)
    np.add.at(sums, membership, np.where(present, values, 0.0))
    np.add.at(counts, membership, present.astype(float))
    return sums, counts


def resampled_means(sums: np.ndarray, counts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Column means of RESAMPLES draws of whole clusters, shape (RESAMPLES, columns); NaN where a draw holds no counted row."""
    clusters = len(sums)
    shares = np.full(clusters, 1.0 / clusters)
    block = max(1, min(RESAMPLES, 4_000_000 // clusters))  # bounds the memory with very many clusters
    parts = []
    for start in range(0, RESAMPLES, block):
        draws = rng.multinomial(clusters, shares, size=min(block, RESAMPLES - start)).astype(float)
        with np.errstate(invalid="ignore", divide="ignore"):
            parts.append((draws @ sums) / (draws @ counts))
    return np.concatenate(parts)
