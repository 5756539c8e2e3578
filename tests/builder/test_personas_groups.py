"""Seen and unseen: the clusters that must not be divided, against a slow and obvious way of finding them."""

from typing import Any
from unittest.mock import patch

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.personas.groups import (
    COMPARED,
    Neighbours,
    assign_groups,
    compared_value,
    describe_clusters,
    find_clusters,
    near_clones,
)
from builder.personas.personas import build_personas
from builder.recipe import BuildRecipe, CensusRecipe, PersonasRecipe


def count_words(texts: list[str]) -> list[int]:
    return [len(text.split()) for text in texts]


def person(**values: Any) -> dict[str, Any]:
    return {**dict.fromkeys(COMPARED), "age": 40, "income": 20_000, **values}


@settings(max_examples=150, deadline=None)
@given(
    rows=st.lists(st.lists(st.integers(0, 2), min_size=6, max_size=6), min_size=1, max_size=30),
    first=st.integers(0, 30),
    at_once=st.sampled_from([1, 2, 3, 256]),
)
def test_near_clones_are_exactly_the_pairs_that_differ_in_at_most_two_columns(
    rows: list[list[int]], first: int, at_once: int
) -> None:
    codes = np.array(rows)
    with patch("builder.personas.groups.ROWS_AT_ONCE", at_once):
        found = {tuple(pair) for pairs in near_clones(codes, first) for pair in pairs.tolist()}
    later = range(first, len(rows))
    expected = {(i, j) for j in later for i in range(j) if (codes[i] != codes[j]).sum() <= 2}
    assert found == expected


def test_clusters_join_clones_of_clones_and_households() -> None:
    people = [
        person(),
        person(age=41, sex="Female"),  # two differences to the first
        person(age=42, sex="Female", race="Asian", education="Preschool"),  # three to the second, four to the first
        person(age=41, sex="Female", race="Asian"),  # one to the second, two to the third: the link
        person(age=70, sex="Female", race="White", education="GED", citizenship="x"),  # lives with the last
        person(age=71, sex="Male", race="Black", education="PhD", citizenship="y", disability="z"),
    ]
    clusters = find_clusters(["a", "b", "c", "d", "e", "e"], people)
    assert len({clusters[i] for i in range(4)}) == 1
    assert clusters[4] == clusters[5] != clusters[0]


def test_incomes_differ_by_band() -> None:
    assert compared_value("income", 31_000) == compared_value("income", 50_000) != compared_value("income", 51_000)
    assert compared_value("income", 0) != compared_value("income", 100)
    assert compared_value("income", None) is None


@settings(max_examples=80, deadline=None)
@given(clusters=st.lists(st.integers(0, 9), max_size=40), data=st.data(), seed=st.integers(0, 2**31))
def test_groups_meet_the_number_and_divide_at_most_one_cluster(
    clusters: list[int], data: st.DataObject, seed: int
) -> None:
    seen = data.draw(st.integers(0, len(clusters)))
    groups = assign_groups(clusters, seen, seed)
    assert groups.count("seen") == seen
    described = describe_clusters(np.array(clusters, dtype=int), groups, [str(n) for n in clusters])
    assert described["divided"] <= 1
    assert sum(int(size) * n for size, n in described["clusters_by_size"].items()) == len(clusters)


def test_no_unseen_persona_has_a_near_clone_or_a_relative_in_seen() -> None:
    settings_ = PersonasRecipe(count=1586, seen=1000, enrichment="none")
    table = build_personas(BuildRecipe("t", 11, CensusRecipe(), settings_), None, count_words)
    groups = np.array([row["group"] for row in table.rows])
    assert (groups == "seen").sum() == 1000
    assert table.details["clusters"]["divided"] == 0
    assert table.details["clusters"]["personas_in_clusters"] > 50  # there is something to keep together
    values = [[str(compared_value(name, row[name])) for name in COMPARED] for row in table.rows]
    codes = np.array([np.unique(column, return_inverse=True)[1] for column in zip(*values, strict=True)])
    unseen = np.flatnonzero(groups == "unseen")
    for index in unseen:
        differences = (codes[:, groups == "seen"] != codes[:, [index]]).sum(axis=0)
        assert differences.min() >= 3
    households = np.array(table.records["SERIALNO"].to_pylist())
    assert not set(households[groups == "seen"]) & set(households[groups == "unseen"])


def test_members_of_a_cluster_go_together() -> None:
    """Groups are decided by cluster alone, whatever the order in which its members come."""
    first = assign_groups([0, 1, 2, 0, 1, 2], 4, 3)
    assert all(first[i] == first[i + 3] for i in range(3))


def differ(one: dict[str, Any], other: dict[str, Any]) -> int:
    return sum(one[name] != other[name] for name in COMPARED)


@settings(max_examples=150, deadline=None)
@given(
    values=st.lists(st.lists(st.integers(0, 3), min_size=5, max_size=5), min_size=2, max_size=24),
    data=st.data(),
)
def test_only_who_links_both_groups_is_turned_away(values: list[list[int]], data: st.DataObject) -> None:
    """Against the obvious way: everyone in turn, with a walk over all who are linked to it."""
    names = ("race", "education", "citizenship", "disability", "marital_status")
    people = [person(**dict(zip(names, map(str, row), strict=True))) for row in values]
    count = data.draw(st.integers(1, len(people) - 1))
    groups = data.draw(st.lists(st.sampled_from(["seen", "unseen"]), min_size=count, max_size=count))
    homes = [f"old {n}" for n in range(count)] + data.draw(
        st.lists(st.sampled_from("abcdefghijklmnop"), min_size=len(people) - count, max_size=len(people) - count)
    )
    middle = data.draw(st.integers(count, len(people)))

    neighbours = Neighbours(groups, people[:count])
    parts = (slice(count, middle), slice(middle, None))
    found = [has_place for part in parts for has_place in neighbours.let_in(homes[part], people[part])]

    stay: list[int] = []
    for index in range(count, len(people)):
        reached, waiting = {index}, [index]
        while waiting:
            here = waiting.pop()
            # An earlier persona's own links are of no account: its group stands.
            others = {*range(count), *stay} - reached if here >= count else set()
            linked = {i for i in others if differ(people[here], people[i]) <= 2 or homes[here] == homes[i]}
            reached |= linked
            waiting += linked
        has_place = len({groups[i] for i in reached if i < count}) < 2
        assert found[index - count] == has_place
        stay += [index] * has_place


def test_a_new_persona_goes_where_its_own_near_clone_is() -> None:
    """Also where near-clones stand in both groups, because the earlier version had to divide a cluster."""
    seen, unseen = person(), person(age=41, sex="Female")
    new = person(race="Asian", education="GED")  # two differences to the first, four to the second
    clusters = find_clusters(["a", "b", "c"], [seen, unseen, new], earlier=2)
    assert assign_groups(clusters, 1, 5, ["seen", "unseen"]) == ["seen", "unseen", "seen"]
