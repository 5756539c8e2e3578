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


def find_clusters(households: Sequence[str], people: Sequence[dict[str, Any]], earlier: int = 0) -> np.ndarray:
    """The cluster number of every persona, shape (personas,).

    households: SERIALNO of each. people: their attribute values; a null is a value like another. earlier: so many of the first have their
    groups, and what links them to each other is left out.
    """
    columns = [[str(compared_value(name, person[name])) for person in people] for name in COMPARED]
    codes = np.column_stack([np.unique(column, return_inverse=True)[1] for column in columns])
    pairs = [np.array([(i, i) for i in range(len(households))]).reshape(-1, 2), *near_clones(codes, earlier)]
    first_of: dict[str, int] = {}
    pairs.append(np.array([(i, first_of.setdefault(h, i)) for i, h in enumerate(households)]).reshape(-1, 2))
    left, right = np.concatenate(pairs).T
    graph = coo_array((np.ones(len(left), dtype=np.int8), (left, right)), shape=(len(households),) * 2)
    return connected_components(graph, directed=False)[1]


def compared_value(attribute: str, value: Any) -> Any:
    return bisect_left(INCOME_BANDS, value) if attribute == "income" and value is not None else value


def near_clones(codes: np.ndarray, first: int = 0) -> Iterator[np.ndarray]:
    """Index pairs, shape (n, 2), of rows of `codes` (personas, attributes) that differ in at most CLONE_DIFFERENCES columns.

    The lower index comes first in a pair; pairs of two rows before `first` are left out. Rows that differ in two columns agree on at least
    one of three blocks of columns as a whole, so only rows that agree on a block are compared. A pair may come more than once.
    """
    for block in blocks_of_columns(codes, CLONE_DIFFERENCES + 1):
        same = np.unique(codes[:, block], axis=0, return_inverse=True)[1].reshape(-1)
        order = np.argsort(same, kind="stable")
        for members in np.split(order, np.flatnonzero(np.diff(same[order])) + 1):
            asked = int(np.searchsorted(members, first))
            if asked == len(members):
                continue
            for start in range(0, len(members) - 1, ROWS_AT_ONCE):
                rows = members[start : start + ROWS_AT_ONCE]
                skipped = max(0, asked - start - 1)
                others = members[start + 1 + skipped :]
                different = np.zeros((len(rows), len(others)), dtype=np.int8)
                for column in codes.T:
                    different += column[rows][:, None] != column[others][None, :]
                # Every pair once: only partners that come later among the members.
                a, b = np.nonzero(np.triu(different <= CLONE_DIFFERENCES, -skipped))
                yield np.column_stack([rows[a], others[b]])


class Neighbours:
    """Who can join the personas of an earlier version, whose groups stand: everyone but the links between the two groups.

    A candidate goes where those go to whom it is linked, as a near-clone or by household: earlier personas, and clusters of candidates that
    were let in. Only where these stand in both groups it has no place.
    """

    def __init__(self, groups: Sequence[str], people: Sequence[dict[str, Any]]):
        self._numbers: list[dict[str, int]] = [{} for _ in COMPARED]
        self._codes = self._encode(people)
        self._group: list[str | None] = list(groups)  # of the cluster, where the persona stands for one
        self._leads_to = list(range(len(people)))
        self._turned_away: set[int] = set()
        self._home: dict[str, int] = {}

    def let_in(self, households: Sequence[str], people: Sequence[dict[str, Any]]) -> list[bool]:
        """Whether each has a place, in order. Calls add up: who was let in before counts for those who come now."""
        first = len(self._codes)
        self._codes = np.concatenate([self._codes, self._encode(people)])
        linked: dict[int, set[int]] = {}
        for pairs in near_clones(self._codes, first):
            for one, other in pairs.tolist():
                linked.setdefault(other, set()).add(one)
        for index, household in enumerate(households, start=first):
            known = linked.get(index, set()) - self._turned_away
            clusters = {
                self._leader(i) for i in (*known, *([self._home[household]] if household in self._home else ()))
            }
            groups = {self._group[leader] for leader in clusters} - {None}
            self._leads_to.append(index)
            self._group.append(next(iter(groups), None))
            if len(groups) > 1:
                self._turned_away.add(index)
                continue
            self._home.setdefault(household, index)
            for leader in clusters:
                self._leads_to[leader] = index
        return [index not in self._turned_away for index in range(first, len(self._codes))]

    def _leader(self, index: int) -> int:
        while self._leads_to[index] != index:
            self._leads_to[index] = self._leads_to[self._leads_to[index]]
            index = self._leads_to[index]
        return index

    def _encode(self, people: Sequence[dict[str, Any]]) -> np.ndarray:
        columns = [
            [numbers.setdefault(str(compared_value(name, person[name])), len(numbers)) for person in people]
            for name, numbers in zip(COMPARED, self._numbers, strict=True)
        ]
        return np.column_stack([np.array(column, dtype=np.int64) for column in columns])


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
