"""Who is `seen` and who `unseen`: near-clones and people of one household always go to the same group.

Otherwise an unseen persona could have a double in training, and generalising to it would prove nothing. Two personas are near-clones
where fewer than three census attributes differ; whoever is linked by near-clones or a household belongs to one cluster.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from builder.randomness import rng_for

# What every census file says of a person. Ancestry and birthplace stay out, because most files lack them and what is imputed by chance
# does not tell two people apart; so does the job description, which says other attributes again.
COMPARED = (
    *("age", "sex", "race", "household_language", "education", "employment_status", "class_of_worker"),
    *("industry_category", "occupation_category", "income", "marital_status", "household_type"),
    *("family_presence_and_age", "citizenship", "veteran_status", "disability", "health_insurance"),
    *("cognitive_difficulty", "ability_to_speak_english", "vision_difficulty", "fertility", "hearing_difficulty"),
)
# A thousand dollars more do not make another person: incomes differ where their bands do (upper ends, dollars a year).
INCOME_BANDS = (0, 15_000, 30_000, 50_000, 75_000, 100_000, 150_000)
CLONE_DIFFERENCES = 2
ROWS_AT_ONCE = 256


def find_clusters(households: Sequence[str], people: Sequence[dict[str, Any]]) -> np.ndarray:
    """The cluster number of every persona, shape (personas,).

    households: SERIALNO of each. people: their attribute values; a null is a value like another.
    """
    columns = [[str(compared_value(name, person[name])) for person in people] for name in COMPARED]
    codes = np.column_stack([np.unique(column, return_inverse=True)[1] for column in columns])
    pairs = [np.array([(i, i) for i in range(len(households))]).reshape(-1, 2), *near_clones(codes)]
    first_of: dict[str, int] = {}
    pairs.append(np.array([(i, first_of.setdefault(h, i)) for i, h in enumerate(households)]).reshape(-1, 2))
    left, right = np.concatenate(pairs).T
    graph = coo_array((np.ones(len(left), dtype=np.int8), (left, right)), shape=(len(households),) * 2)
    return connected_components(graph, directed=False)[1]


def compared_value(attribute: str, value: Any) -> Any:
    return bisect_left(INCOME_BANDS, value) if attribute == "income" and value is not None else value


def near_clones(codes: np.ndarray) -> Iterator[np.ndarray]:
    """Index pairs, shape (n, 2), of rows of `codes` (personas, attributes) that differ in at most CLONE_DIFFERENCES columns.

    Rows that differ in two columns agree on at least one of three blocks of columns as a whole, so only rows that agree on a block are
    compared. A pair may come more than once.
    """
    for block in blocks_of_columns(codes, CLONE_DIFFERENCES + 1):
        same = np.unique(codes[:, block], axis=0, return_inverse=True)[1].reshape(-1)
        order = np.argsort(same, kind="stable")
        for members in np.split(order, np.flatnonzero(np.diff(same[order])) + 1):
            for start in range(0, len(members) - 1, ROWS_AT_ONCE):
                rows = members[start : start + ROWS_AT_ONCE]
                others = members[start + 1 :]
                different = np.zeros((len(rows), len(others)), dtype=np.int8)
                for column in codes.T:
                    different += column[rows][:, None] != column[others][None, :]
                # Every pair once: only partners that come later among the members.
                a, b = np.nonzero(np.triu(different <= CLONE_DIFFERENCES))
                yield np.column_stack([rows[a], others[b]])


def blocks_of_columns(codes: np.ndarray, count: int) -> list[list[int]]:
    """The columns in `count` blocks that tell rows apart about equally well: the most varied first, each to the weakest block."""
    varied = []
    for column in range(codes.shape[1]):
        share = np.bincount(codes[:, column]) / len(codes)
        varied.append(float(-(share[share > 0] * np.log(share[share > 0])).sum()))
    blocks: list[list[int]] = [[] for _ in range(count)]
    strength = [0.0] * count
    for column in sorted(range(codes.shape[1]), key=lambda c: (-varied[c], c)):
        weakest = strength.index(min(strength))
        blocks[weakest].append(column)
        strength[weakest] += varied[column]
    return [block for block in blocks if block]


def assign_groups(clusters: Sequence[int] | np.ndarray, seen: int, seed: int, earlier: Sequence[str] = ()) -> list[str]:
    """`seen` for exactly `seen` personas, else `unseen`: a seeded permutation of the clusters that looks at nothing else.

    clusters: cluster number of each persona. A cluster is divided only where the number cannot be met otherwise. earlier: the groups of
    the first personas, which stay; who is in a cluster with one of them goes where that one is.
    """
    groups = [*earlier, *["unseen"] * (len(clusters) - len(earlier))]
    fixed: dict[int, str] = {}
    for cluster, group in zip(clusters, earlier, strict=False):
        fixed[int(cluster)] = group
    members: dict[int, list[int]] = {}
    for index, cluster in list(enumerate(clusters))[len(earlier) :]:
        if int(cluster) in fixed:
            groups[index] = fixed[int(cluster)]
        else:
            members.setdefault(int(cluster), []).append(index)
    order = rng_for(seed, "persona_groups", "permutation").permutation(len(members))
    units = list(members.values())
    places = max(0, seen - groups.count("seen"))
    passed_over: list[int] = []
    for number in order:
        unit = units[int(number)]
        if len(unit) <= places:
            for index in unit:
                groups[index] = "seen"
            places -= len(unit)
        else:
            passed_over += unit
    for index in passed_over[:places]:
        groups[index] = "seen"
    return groups


def describe_clusters(clusters: np.ndarray, groups: Sequence[str], households: Sequence[str]) -> dict[str, Any]:
    """How many personas stand in clusters, the clusters' sizes, and how many clusters had to be divided between the groups."""
    sizes = Counter(Counter(clusters.tolist()).values())
    in_groups: dict[int, set[str]] = {}
    for cluster, group in zip(clusters.tolist(), groups, strict=True):
        in_groups.setdefault(cluster, set()).add(group)
    shared = Counter(Counter(households).values())
    return {
        "personas_in_clusters": sum(size * n for size, n in sizes.items() if size > 1),
        "personas_sharing_a_household": sum(size * n for size, n in shared.items() if size > 1),
        "clusters_by_size": {str(size): n for size, n in sorted(sizes.items())},
        "largest": max(sizes, default=0),
        "divided": sum(len(found) > 1 for found in in_groups.values()),
    }
