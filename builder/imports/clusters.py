"""Which imported personas are too much alike to stand on both sides of seen and unseen."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from builder.imports.similarity import joined, similar_clusters
from builder.personas.groups import COMPARED, find_clusters

# Two personas of whom little is known agree in what is not: below half of the compared attributes their profiles are compared instead.
FEWEST_COMPARED = len(COMPARED) // 2
SIMILAR_PROFILES = 0.7


def cluster_imported(rows: Sequence[dict[str, Any]]) -> np.ndarray:
    """The cluster number of every persona, shape (personas,).

    rows: columns of schema.features("personas"). Those with at least half of the compared attributes are linked by
    groups.find_clusters, as census personas are; the others by the word pairs of their profiles. Equal profiles are linked in any case.
    Households are not known, so each persona counts as one of its own.
    """
    described = [n for n, row in enumerate(rows) if sum(row[name] is not None for name in COMPARED) >= FEWEST_COMPARED]
    others = [n for n in range(len(rows)) if n not in set(described)]
    links: list[tuple[int, int]] = []
    if described:
        households = [str(n) for n in described]
        links += linked(described, find_clusters(households, [rows[n] for n in described]))
    links += linked(others, similar_clusters([rows[n]["profile"] for n in others], SIMILAR_PROFILES))
    first_of: dict[str, int] = {}
    links += [(first_of.setdefault(row["profile"], n), n) for n, row in enumerate(rows)]
    return joined(len(rows), links)


def linked(members: Sequence[int], clusters: np.ndarray) -> list[tuple[int, int]]:
    """Every member with the first of its cluster."""
    first_of: dict[int, int] = {}
    return [(first_of.setdefault(int(cluster), n), n) for n, cluster in zip(members, clusters, strict=True)]
