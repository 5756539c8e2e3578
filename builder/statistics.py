"""Bootstrap over personas: intervals for means of rows that belong to personas, one or (on contrast pairs) two each.

Rows of one persona are not independent, so an interval over rows would be too narrow. Personas are drawn with replacement; a row counts as
often as its persona was drawn, and a row of two personas as often as the product says. Two contrast pairs that share a persona are thus not
taken for independent, and mirrors (the same two personas) always stay together.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from builder.randomness import rng_for

RESAMPLES = 2000
Cluster = tuple[str, ...]  # the one or two personas of a row, in sorted order


@dataclass(frozen=True)
class ClusterSums:
    """Sum and number of the counted values (not NaN), both of shape (clusters, columns), and who belongs to each cluster.

    `members` has shape (clusters, 2): indices of personas, the same twice for a row of one persona.
    """

    sums: np.ndarray
    counts: np.ndarray
    members: np.ndarray
    personas: int

    def personas_counted(self, column: int) -> int:
        """How many personas have a counted row in this column."""
        return len(np.unique(self.members[self.counts[:, column] > 0]))


def clustered_interval(
    values: Sequence[float], clusters: Sequence[Cluster], seed: int, key: str, level: float = 0.95
) -> tuple[float, float]:
    """Percentile interval of the mean of `values`, which is not empty. The order of the rows does not matter."""
    sums = cluster_sums(np.asarray(values, dtype=float)[:, None], clusters)
    means = resampled_means(sums, rng_for(seed, "bootstrap", key))
    low, high = np.nanquantile(means[:, 0], [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def cluster_sums(values: np.ndarray, clusters: Sequence[Cluster]) -> ClusterSums:
    """`values` has shape (rows, columns). Clusters come in the order of their names, so the order of rows changes nothing."""
    names = sorted(set(clusters))
    place = {name: index for index, name in enumerate(names)}
    membership = np.array([place[cluster] for cluster in clusters])
    present = ~np.isnan(values)
    sums = np.zeros((len(names), values.shape[1]))
    counts = np.zeros_like(sums)
    np.add.at(sums, membership, np.where(present, values, 0.0))
    np.add.at(counts, membership, present.astype(float))
    personas = {persona: index for index, persona in enumerate(sorted({p for name in names for p in name}))}
    members = np.array([(personas[name[0]], personas[name[-1]]) for name in names])
    return ClusterSums(sums, counts, members, len(personas))


def resampled_means(clusters: ClusterSums, rng: np.random.Generator) -> np.ndarray:
    """Column means of RESAMPLES draws of personas, shape (RESAMPLES, columns); NaN where a draw holds no counted row."""
    shares = np.full(clusters.personas, 1.0 / clusters.personas)
    first, second = clusters.members.T
    block = max(1, min(RESAMPLES, 4_000_000 // len(clusters.sums)))  # bounds the memory with very many clusters
    parts = []
    for start in range(0, RESAMPLES, block):
        drawn = rng.multinomial(clusters.personas, shares, size=min(block, RESAMPLES - start)).astype(float)
        weights = np.where(first == second, drawn[:, first], drawn[:, first] * drawn[:, second])
        with np.errstate(invalid="ignore", divide="ignore"):
            parts.append((weights @ clusters.sums) / (weights @ clusters.counts))
    return np.concatenate(parts)
