"""How far two distributions are apart, and the joint tables of all attributes and pairs at once.

Total variation distance: half the sum of absolute differences of shares; the share of people who would have to change their answer. Jensen-
Shannon divergence: the mean Kullback-Leibler divergence of both from their average, in bits, 0 to 1 (the divergence, not its square root).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import entr

CELLS_AT_ONCE = 2_000_000


def total_variation(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """p, q: shares along the last axis, which is summed."""
    return np.abs(p - q).sum(axis=-1) / 2


def jensen_shannon(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """p, q: shares along the last axis, which is summed. In bits."""
    return jensen_shannon_terms(p, q).sum(axis=-1).clip(0.0, 1.0)


def jensen_shannon_terms(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    # The entropy of the average less the average entropy, cell by cell.
    return (entr((p + q) / 2) - (entr(p) + entr(q)) / 2) / np.log(2)


@dataclass(frozen=True)
class Cells:
    """The bins of all attributes side by side. starts: where each attribute's bins begin; size: how many bins there are in all."""

    starts: np.ndarray
    size: int

    @staticmethod
    def of(bins: Sequence[int]) -> "Cells":
        ends = np.cumsum(bins)
        return Cells(ends - np.asarray(bins), int(ends[-1]))

    def joint_shares(self, codes: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
        """The share of people in every pair of bins, shape (size, size): the block (a, b) is the joint table of two attributes, and the
        diagonal holds the marginals.

        codes: bin within its attribute, shape (people, attributes). weights: shape (people,), all alike where absent.
        """
        counts = np.zeros(self.size**2)
        first, second = np.triu_indices(len(self.starts))
        at_once = max(1, CELLS_AT_ONCE // len(first))
        for start in range(0, len(codes), at_once):
            part = codes[start : start + at_once] + self.starts
            pairs = part[:, first] * self.size + part[:, second]
            weight = None if weights is None else np.repeat(weights[start : start + at_once], len(first))
            counts += np.bincount(pairs.ravel(), weight, self.size**2)
        upper = counts.reshape(self.size, self.size)
        both = upper + upper.T - np.diag(upper.diagonal())
        return both / (len(codes) if weights is None else weights.sum())

    def distances(self, p: np.ndarray, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Total variation and Jensen-Shannon of every joint table, both of shape (attributes, attributes), marginals on the diagonal."""
        return self.sum_blocks(np.abs(p - q)) / 2, self.sum_blocks(jensen_shannon_terms(p, q)).clip(0.0, 1.0)

    def sum_blocks(self, cells: np.ndarray) -> np.ndarray:
        return np.add.reduceat(np.add.reduceat(cells, self.starts, axis=0), self.starts, axis=1)
