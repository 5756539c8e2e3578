"""Which texts resemble each other: Jaccard similarity of their pairs of neighbouring words, found exactly and without comparing all.

A text can only reach similarity t with another if they share t of its word pairs. So among its rarest pairs, one more than it can do
without, at least one must be shared, and only the texts that hold one of those are compared (prefix filtering, Chaudhuri et al. 2006).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from builder.prompts.filters import jaccard, shingles


@dataclass(frozen=True)
class ShingleIndex:
    """`members`: the word pairs of each text. `holders`: word pair -> the texts that have it."""

    members: list[frozenset[str]]
    holders: dict[str, list[int]]


def index_texts(texts: Sequence[str]) -> ShingleIndex:
    members = [shingles(text) for text in texts]
    holders: dict[str, list[int]] = {}
    for number, pairs in enumerate(members):
        for pair in pairs:
            holders.setdefault(pair, []).append(number)
    return ShingleIndex(members, holders)


def find_similar(index: ShingleIndex, pairs: frozenset[str], similarity: float) -> list[tuple[int, float]]:
    """(text, Jaccard similarity) of all indexed texts that reach `similarity` (0 < similarity <= 1), by number of the text."""
    shared_at_least = math.ceil(similarity * len(pairs) - 1e-9)
    rarest = sorted(pairs, key=lambda pair: (len(index.holders.get(pair, ())), pair))
    candidates: set[int] = set()
    for pair in rarest[: len(pairs) - shared_at_least + 1]:
        candidates.update(index.holders.get(pair, ()))
    scored = ((number, jaccard(pairs, index.members[number])) for number in sorted(candidates))
    return [(number, score) for number, score in scored if score >= similarity]


def similar_clusters(texts: Sequence[str], similarity: float) -> np.ndarray:
    """The cluster number of every text, shape (texts,): linked are those at or above `similarity`."""
    index = index_texts(texts)
    links = [
        (number, other)
        for number, pairs in enumerate(index.members)
        for other, _ in find_similar(index, pairs, similarity)
        if other > number
    ]
    return joined(len(texts), links)


def joined(count: int, links: Sequence[tuple[int, int]]) -> np.ndarray:
    """Connected components of `count` things, numbered in order of their first member."""
    left, right = np.array(links, dtype=np.int64).reshape(-1, 2).T
    graph = coo_array((np.ones(len(left), dtype=np.int8), (left, right)), shape=(count, count))
    return connected_components(graph, directed=False)[1]
