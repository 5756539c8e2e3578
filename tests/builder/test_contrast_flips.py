"""Flip rates: what is counted, and what is withheld."""

import json

import pytest

from builder.judge.judge import Verdict, load_judge
from builder.pairs.contrast import judged_table, said_by
from builder.pairs.flips import flip_rates
from builder.pairs.partners import Candidate
from builder.schema import dpf_pair_id
from tests.builder.test_contrast import QUESTIONS, person

FIRST = load_judge("roleplay", "scripted", "one", 1)
SECOND = load_judge("roleplay", "scripted", "two", 1, "second_judge")
# Of the first and of the second persona, each about (own text, the other's).
FLIP, REVERSED, SAME, TIED, UNSCORED = (
    (Verdict("A", 1.0), Verdict("A", 1.0)),
    (Verdict("B", 0.0), Verdict("B", 0.0)),
    (Verdict("A", 1.0), Verdict("B", 0.0)),
    (Verdict("A", 0.75), Verdict("tie", 0.5)),
    (Verdict("A", 1.0), Verdict("unscored", None)),
)
PEOPLE = [
    person(n, religion="Hindu" if n % 2 else "Sikh", sex="Male" if n < 25 else "Female", ancestry="Thai")
    for n in range(50)
]


def candidates(count):
    """Number n: two neighbours; with n even they differ in religion, otherwise in nothing but perhaps sex."""
    for n in range(count):
        first, second = n % 24 * 2, n % 24 * 2 + (1 if n % 2 == 0 else 2)
        yield Candidate(*(dpf_pair_id(f"p{p:05d}", f"q{n % 60:05d}") for p in (first, second)), 0.5 if n % 2 else 1.0)


def rates(patterns, second=None, selector=False):
    """`patterns`: one per candidate, of the first judge; `second`: of a second judge."""
    rows = []
    for place, candidate in enumerate(candidates(len(patterns))):
        judged = [said_by(FIRST, *patterns[place], selector)]
        if second:
            judged.append(said_by(SECOND, *second[place], False))
        rows.append(candidate._asdict() | {"judged": judged})
    return flip_rates(1, judged_table(rows), PEOPLE, QUESTIONS)


def test_known_patterns_are_counted_as_they_are():
    rated = rates([FLIP] * 10 + [REVERSED] * 5 + [SAME] * 20 + [TIED] * 5 + [UNSCORED] * 4)
    assert rated["flip"] == {
        "judge": FIRST.label,
        "n": 40,
        "flipped": 10,
        "unscored": 4,
        "rate": 0.25,
        "rate_by_chance": 0.25,
        "judge_selected_the_revisions": False,
    }
    (judge,) = rated["flips"]["judges"]
    assert (judge["n"], judge["flipped"], judge["reversed"], judge["unscored"]) == (40, 10, 5, 4)
    assert judge["interval"][0] < 0.25 < judge["interval"][1]
    assert judge["mean_margin"] == pytest.approx((10 * 0.5 - 5 * 0.5 + 5 * 0.125) / 40)
    assert rated["flips"]["agreement"] is None
    json.dumps(rated)


def test_a_judge_that_ignores_the_persona_never_flips_and_has_no_margin():
    (judge,) = rates([SAME] * 40)["flips"]["judges"]
    assert (judge["rate"], judge["mean_margin"], judge["interval"]) == (0.0, 0.0, [0.0, 0.0])


def test_rates_by_topic_distance_and_attribute():
    (judge,) = rates([SAME if n % 2 else FLIP for n in range(96)])["flips"]["judges"]
    assert {topic: (part["n"], part["rate"]) for topic, part in judge["by_topic"].items()} == {
        "topic 0": (48, 1.0),
        "topic 1": (48, 0.0),
    }
    near, far = judge["by_distance"]["near"], judge["by_distance"]["middle"]
    assert (near["up_to"], near["pairs"]["rate"], far["up_to"], far["pairs"]["rate"]) == (0.5, 0.0, 1.0, 1.0)
    religion = judge["by_attribute"]["religion"]
    assert {side: (part["n"], part["rate"]) for side, part in religion.items()} == {
        "differ": (48, 1.0),
        "agree": (48, 0.0),
    }
    # All agree in it: nothing to say about those who differ, and what no profile states is not there at all.
    assert judge["by_attribute"]["ancestry"]["differ"]["rate"] is None
    assert set(judge["by_attribute"]) == {"religion", "sex", "ancestry"}


def test_rates_of_few_pairs_are_withheld():
    (judge,) = rates([FLIP] * 19)["flips"]["judges"]
    assert (judge["n"], judge["flipped"], judge["rate"], judge["interval"], judge["mean_margin"]) == (
        19,
        19,
        None,
        None,
        None,
    )
    (judge,) = rates([FLIP] * 20)["flips"]["judges"]
    assert judge["rate"] == 1.0
    assert judge["by_topic"]["topic 0"]["rate"] is None


def test_a_selectors_rates_are_withheld_and_its_counts_are_not():
    rated = rates([FLIP] * 30 + [SAME] * 30, [FLIP] * 20 + [SAME] * 40, selector=True)
    first, second = rated["flips"]["judges"]
    assert (first["selected_by_this_judge"], first["n"], first["flipped"], first["rate"]) == (True, 60, 30, None)
    assert first["interval"] is None
    assert "withheld" in first
    assert "by_topic" not in first
    assert (rated["flip"]["rate"], rated["flip"]["judge_selected_the_revisions"]) == (None, True)
    assert (second["selected_by_this_judge"], second["rate"]) == (False, 20 / 60)
    assert rated["flips"]["agreement"] == {
        "judges": [FIRST.label, SECOND.label],
        "n": 60,
        "flipped_by_first": 30,
        "flipped_by_second": 20,
        "flipped_by_both": 20,
        "rate_both": None,
        "second_among_first": 20 / 30,
        "first_among_second": None,
    }


def test_two_judges_that_chose_nothing_are_compared_both_ways():
    agreement = rates([FLIP] * 40 + [SAME] * 20, [SAME] * 15 + [FLIP] * 25 + [UNSCORED] * 20)["flips"]["agreement"]
    assert (agreement["n"], agreement["flipped_by_first"], agreement["flipped_by_both"]) == (40, 40, 25)
    assert (agreement["rate_both"], agreement["first_among_second"]) == (25 / 40, 1.0)


def test_nothing_judged_is_no_rate():
    assert rates([]) == {"flip": {}, "flips": {"judges": [], "agreement": None}}
