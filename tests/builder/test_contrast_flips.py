"""Flip rates: what is counted, and what is withheld."""

import json

import numpy as np
import pytest

from builder.judge.judge import Verdict
from builder.judge.judge_file import load_judge
from builder.llm.model_recipe import ModelRecipe
from builder.pairs.contrast import judged_table, said_by
from builder.pairs.flips import flip_rates
from builder.pairs.partners import Candidate
from builder.randomness import rng_for
from builder.schema import dpf_pair_id
from builder.statistics import cluster_sums, resampled_means
from builder.summary import build_summary, judge_check_line
from tests.builder.test_contrast import QUESTIONS, person

FIRST = load_judge("roleplay", ModelRecipe(provider="scripted", model="one"), 1)
SECOND = load_judge("roleplay", ModelRecipe(provider="scripted", model="two"), 1, "second_judge")
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
        "reversed": 5,
        "unscored": 4,
        "rate": 0.25,
        "interval": rated["flips"]["judges"][0]["interval"],
        "difference": 0.125,
        "difference_interval": rated["flips"]["judges"][0]["difference_interval"],
        "judge_selected_the_revisions": False,
    }
    (judge,) = rated["flips"]["judges"]
    low, high = judge["difference_interval"]
    assert low < 0.125 < high
    assert (judge["n"], judge["flipped"], judge["reversed"], judge["unscored"]) == (40, 10, 5, 4)
    assert judge["interval"][0] < 0.25 < judge["interval"][1]
    assert judge["mean_margin"] == pytest.approx((10 * 0.5 - 5 * 0.5 + 5 * 0.125) / 40)
    assert rated["flips"]["agreement"] is None
    json.dumps(rated)


def test_a_judge_that_ignores_the_persona_never_flips_and_has_no_margin():
    (judge,) = rates([SAME] * 40)["flips"]["judges"]
    assert (judge["rate"], judge["mean_margin"], judge["interval"]) == (0.0, 0.0, [0.0, 0.0])


def test_a_judge_at_random_flips_as_often_as_it_reverses_whatever_its_ties():
    """A coin for every call and a tie where the two orders disagree: far from a quarter flips, and the difference is none."""
    rng = rng_for(1, "test", "coin")

    def coin():
        calls = rng.integers(2, size=2)
        return Verdict("tie", 0.5) if calls[0] != calls[1] else Verdict("AB"[calls[0]], 1.0 - calls[0])

    (judge,) = rates([(coin(), coin()) for _ in range(600)])["flips"]["judges"]
    assert judge["rate"] == pytest.approx(1 / 16, abs=0.03)
    assert judge["interval"][1] < 0.25
    assert judge["difference_interval"][0] < 0 < judge["difference_interval"][1]


def test_pairs_without_a_distance_are_in_no_third_and_agree_in_nothing():
    free = [person(n) | {"profile": "Somebody."} for n in range(25)] + PEOPLE[25:]
    rows = [
        c._asdict()
        | {"distance": None if "p00000" in c.first_pair_id else c.distance, "judged": [said_by(FIRST, *FLIP, False)]}
        for c in candidates(96)
    ]
    (judge,) = flip_rates(1, judged_table(rows), free, QUESTIONS)["flips"]["judges"]
    without = sum(row["distance"] is None for row in rows)
    assert without > 0
    assert sum(third["pairs"]["n"] for third in judge["by_distance"].values()) == len(rows) - without
    told = sum(row["first_pair_id"][4:10] > "p00024" for row in rows)
    assert sum(part["n"] for part in judge["by_attribute"]["sex"].values()) == told < len(rows)


def test_the_summary_shows_the_reverse_and_no_rate_of_a_judge_that_chose():
    def said(selected, preferred_rate):
        stages = {
            "pairs": {
                "judge_prefers_revision": preferred | {"rate": preferred_rate, "judge_selected_the_revision": selected}
            },
            "contrast": rates([FLIP] * 30 + [REVERSED] * 10 + [SAME] * 20, selector=selected),
        }
        counts = {"in": 1, "out": 1, "seconds": 0.0, "dropped": {}}
        usage = dict.fromkeys(("calls", "hits", "prompt_tokens", "completion_tokens", "cost_usd"), 0)
        return build_summary({"stages": {name: counts | stage for name, stage in stages.items()}, "usage": usage})

    preferred = {"n": 144, "preferred": 144, "ties": 0, "unscored": 0}
    shown, withheld = said(False, 1.0), said(True, None)
    assert "prefers the revision in 144 of 144 pairs = 100.0%" in shown
    assert (
        "flips between the two personas in 30 of 60 = 50.0%, and turns the wrong way in 10; the difference is 33.3% ["
        in shown
    )
    assert "144 of 144 pairs (no rate: it also chose among the candidates)" in withheld
    assert "in 30 of 60 (no rate: it also chose among the candidates), and turns the wrong way in 10" in withheld
    assert "%" not in withheld
    assert "25 %" not in shown
    # A rate that should not have been given is not repeated.
    assert "100.0%" not in said(True, 1.0)


def test_two_judges_of_one_model_have_two_names_in_the_summary():
    check = {
        "judge_model": "m",
        "judge_wrote_it": False,
        "rate": 0.8,
        "rate_interval": [0.7, 0.9],
        "preferred": 8,
        "n": 10,
        "ties": 0,
    }
    lines = [judge_check_line(check | {"judge": label}) for label in ("roleplay@1:m", "strict@2:m")]
    assert "roleplay@1:m" in lines[0]
    assert "strict@2:m" in lines[1]


def test_nothing_is_said_of_a_second_judge_that_chose_too():
    rows = [
        c._asdict() | {"judged": [said_by(FIRST, *FLIP, True), said_by(SECOND, *FLIP, True)]} for c in candidates(40)
    ]
    agreement = flip_rates(1, judged_table(rows), PEOPLE, QUESTIONS)["flips"]["agreement"]
    assert (agreement["n"], agreement["flipped_by_both"]) == (40, 40)
    assert {agreement[name] for name in ("rate_both", "second_among_first", "first_among_second")} == {None}


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


def test_the_draws_of_an_interval_are_those_of_the_seed():
    patterns = [FLIP] * 10 + [REVERSED] * 5 + [SAME] * 15
    (judge,) = rates(patterns)["flips"]["judges"]
    flip = np.array([float(pattern is FLIP) for pattern in patterns])
    values = np.column_stack([flip, flip - [float(pattern is REVERSED) for pattern in patterns]])
    clusters = [tuple(i.split("/")[1] for i in candidate[:2]) for candidate in candidates(30)]
    means = resampled_means(cluster_sums(values, clusters), rng_for(1, "bootstrap", "contrast/flips"))
    expected = np.quantile(means, [0.025, 0.975], axis=0).T.tolist()
    assert [judge["interval"], judge["difference_interval"]] == [pytest.approx(pair) for pair in expected]


def test_thirds_hold_whole_candidates_and_equal_distances_together():
    def thirds(distances):
        rows = [
            c._asdict() | {"distance": distance, "judged": [said_by(FIRST, *FLIP, False)]}
            for c, distance in zip(candidates(len(distances)), distances, strict=True)
        ]
        (judge,) = flip_rates(1, judged_table(rows), PEOPLE, QUESTIONS)["flips"]["judges"]
        return {name: (part["up_to"], part["pairs"]["n"]) for name, part in judge["by_distance"].items()}

    assert thirds([0.5, 0.1, 0.4, 0.2, 0.3]) == {"near": (0.2, 2), "middle": (0.4, 2), "far": (0.5, 1)}
    assert thirds([0.1, 0.2, 0.2, 0.2]) == {"near": (0.2, 4)}
    assert thirds([None, None]) == {}


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
    # Twenty are enough, and nineteen too few.
    for number, share in ((20, 1.0), (19, None)):
        agreement = rates([FLIP] * number, [FLIP] * number)["flips"]["agreement"]
        assert {agreement[name] for name in ("rate_both", "second_among_first", "first_among_second")} == {share}


def test_nothing_judged_is_no_rate():
    assert rates([]) == {"flip": {}, "flips": {"judges": [], "agreement": None}}
