"""Bootstrap over personas: intervals for means of rows that belong to personas, one or (on contrast pairs) two each.

Rows of one persona are not independent, so an interval over rows would be too narrow. Personas are drawn with replacement; a row counts as
often as its persona was drawn, and a row of two personas as often as the product says. Two contrast pairs that share a persona are thus not
taken for independent, and mirrors (the same two personas) always stay together.

Rows of one question are not independent either. With `prompts` those are drawn too, independently of the personas, and a row counts as
often as the product of both says (the pigeonhole bootstrap: Owen 2007, The Annals of Applied Statistics 1(2)). It errs on the wide side:
what is left of a row once persona and prompt are known is counted up to three times.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from builder.randomness import rng_for

RESAMPLES = 2000
Cluster = tuple[str, ...]  # the one or two personas of a row, in sorted order


@dataclass(frozen=True)
class ClusterSums:
    """Sum and number of the counted values (not NaN), both of shape (clusters, columns), and who belongs to each cluster.

    `members` has shape (clusters, 2): indices of personas, the same twice for a row of one persona. membership: (rows,), the cluster of
    each row. With prompts a cluster is what one persona (or pair of them) has on one prompt; prompt_of: (clusters,), else None.
    """

    sums: np.ndarray
    counts: np.ndarray
    members: np.ndarray
    personas: int
    membership: np.ndarray
    prompt_of: np.ndarray | None = None
    prompts: int = 0

    def personas_counted(self, column: int) -> int:
        """How many personas have a counted row in this column."""
        return len(np.unique(self.members[self.counts[:, column] > 0]))

    def prompts_counted(self, column: int) -> int:
        """How many prompts have one; 0 where prompts are not drawn."""
        return 0 if self.prompt_of is None else len(np.unique(self.prompt_of[self.counts[:, column] > 0]))


def clustered_interval(
    values: Sequence[float],
    clusters: Sequence[Cluster],
    seed: int,
    key: str,
    level: float = 0.95,
    prompts: Sequence[str] | None = None,
) -> tuple[float, float]:
    """Percentile interval of the mean of `values`, which is not empty. The order of the rows does not matter.

    prompts: each row's; with them prompts are drawn as well as personas.
    """
    sums = cluster_sums(np.asarray(values, dtype=float)[:, None], clusters, prompts)
    means = resampled_means(sums, rng_for(seed, "bootstrap", key))
    low, high = np.nanquantile(means[:, 0], [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def cluster_sums(values: np.ndarray, clusters: Sequence[Cluster], prompts: Sequence[str] | None = None) -> ClusterSums:
    """`values` has shape (rows, columns). Clusters come in the order of their names, so the order of rows changes nothing.

    prompts: each row's, where prompts are to be drawn too.
    """
    keys = list(zip(clusters, [""] * len(clusters) if prompts is None else prompts, strict=True))
    names = sorted(set(keys))
    place = {name: index for index, name in enumerate(names)}
    membership = np.array([place[key] for key in keys])
    present = ~np.isnan(values)
    sums = np.zeros((len(names), values.shape[1]))
    counts = np.zeros_like(sums)
    np.add.at(sums, membership, np.where(present, values, 0.0))
    np.add.at(counts, membership, present.astype(float))
    personas = {persona: index for index, persona in enumerate(sorted({p for name, _ in names for p in name}))}
    members = np.array([(personas[name[0]], personas[name[-1]]) for name, _ in names])
    if prompts is None:
        return ClusterSums(sums, counts, members, len(personas), membership)
    known = {prompt: index for index, prompt in enumerate(sorted({prompt for _, prompt in names}))}
    prompt_of = np.array([known[prompt] for _, prompt in names])
    return ClusterSums(sums, counts, members, len(personas), membership, prompt_of, len(known))


def resampled_means(clusters: ClusterSums, rng: np.random.Generator) -> np.ndarray:
    """Column means of RESAMPLES draws of personas (and prompts), shape (RESAMPLES, columns); NaN where a draw holds no counted row."""
    parts = []
    for weights in resampled_weights(clusters, rng):
        with np.errstate(invalid="ignore", divide="ignore"):
            parts.append((weights @ clusters.sums) / (weights @ clusters.counts))
    return np.concatenate(parts)


def resampled_weights(clusters: ClusterSums, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """How often each cluster counts in RESAMPLES draws, in blocks of shape (draws, clusters), which bound the memory."""
    block = max(1, min(RESAMPLES, 4_000_000 // len(clusters.sums)))
    first, second = clusters.members.T
    for start in range(0, RESAMPLES, block):
        size = min(block, RESAMPLES - start)
        drawn = _draws(clusters.personas, size, rng)
        weights = np.where(first == second, drawn[:, first], drawn[:, first] * drawn[:, second])
        if clusters.prompt_of is not None:
            weights *= _draws(clusters.prompts, size, rng)[:, clusters.prompt_of]
        yield weights


def _draws(count: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """How often each of `count` is drawn when `count` are drawn with replacement; shape (size, count)."""
    return rng.multinomial(count, np.full(count, 1.0 / count), size=size).astype(float)
