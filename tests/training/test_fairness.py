import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.fairness import gini, inequality, persona_groups, spread
from training.metrics import control_metrics


def profile(**values: str) -> str:
    return "\n".join(["About the person asking:", *(f"{name}: {value}" for name, value in values.items())])


def test_worst_persona_tenth_percentile_and_worst_group():
    # Ten personas of ten rows each; persona i wins i of them. The first three are of one faith.
    outcomes = [1.0 if row < i else 0.0 for i in range(10) for row in range(10)]
    personas = [f"p{i}" for i in range(10) for _ in range(10)]
    groups = {f"p{i}": {"religion": "Old" if i < 3 else "New", "sex": "Female"} for i in range(10)}
    assert spread(outcomes, personas, groups) == {
        "personas": 10,
        "minimum_rows": 5,
        "worst_persona": 0.0,
        "tenth_percentile": 0.0,
        "worst_group": {"attribute": "religion", "value": "Old", "rows": 30, "accuracy": pytest.approx(0.1)},
    }


def test_a_shuffle_may_find_its_largest_gap_in_an_attribute_that_has_none_as_it_is():
    """Two personas of one faith have ten rows, too few to count; dealt out anew they may get the only persona that is served, with 60."""
    personas = ["served"] * 60 + [f"p{i}" for i in range(10) for _ in range(5)]
    outcomes = [1.0] * 60 + [0.0] * 50
    sexes = {name: {"sex": "M" if name in ("served", "p7", "p8", "p9") else "F"} for name in personas}
    both = {name: own | {"religion": "Rare" if name in ("p0", "p1") else "Other"} for name, own in sexes.items()}
    alone, beside = (
        inequality(outcomes, personas, groups, np.random.default_rng(0))["largest_gap"] for groups in (sexes, both)
    )
    assert (alone["attribute"], beside["attribute"]) == ("sex", "sex")
    assert alone["difference"] == beside["difference"] == 0.8
    assert alone["p_value"] == pytest.approx(4 / 11, abs=0.06)  # where the served one is dealt to the four
    assert beside["p_value"] == pytest.approx(6 / 11, abs=0.06)  # or to the two


def test_what_has_too_few_rows_is_left_out():
    # One persona with four rows, all lost, and one with twenty, of which half are ties.
    outcomes = [0.0] * 4 + [1.0] * 10 + [0.5] * 10
    personas = ["rare"] * 4 + ["common"] * 20
    groups = {"rare": {"race": "A"}, "common": {"race": "B"}}
    figures = spread(outcomes, personas, groups)
    assert (figures["personas"], figures["worst_persona"], figures["tenth_percentile"]) == (1, 0.75, 0.75)
    assert figures["worst_group"] == {"attribute": "race", "value": "B", "rows": 20, "accuracy": 0.75}
    nothing = spread([1.0], ["rare"], groups)
    assert (nothing["personas"], nothing["worst_persona"], nothing["worst_group"]) == (0, None, None)


def test_groups_are_read_from_profiles_with_ages_in_bands():
    profiles = {
        "young": profile(Age="29", Sex="Male", Occupation="Nurse"),
        "old": profile(Age="65", Religion="None"),
        "prose": "You are a nurse.",
    }
    assert persona_groups(profiles) == {
        "young": {"age": "18 to 29", "sex": "Male"},
        "old": {"age": "65 and over", "religion": "None"},
        "prose": {},
    }


def test_every_condition_has_its_spread_and_the_order_of_rows_changes_nothing():
    rows = [
        {
            "split": "seen_test",
            "pair_kind": "dpf",
            "persona_group": "seen",
            "persona_id": f"p{i % 4}",
            "pair_id": f"pair{i}",
            "mirror_pair_id": None,
        }
        for i in range(40)
    ]
    margins = {
        "true": [1.0 if i % 4 else -1.0 for i in range(40)],
        "none": [1.0] * 40,
        "wrong": [0.0] * 40,
    }
    profiles = {f"p{i}": profile(Sex="Female" if i < 2 else "Male") for i in range(4)}
    entries = control_metrics(rows, margins, 0, profiles)
    spreads = {name: outcome["spread"] for name, outcome in entries[0]["conditions"].items()}
    assert [spreads[name]["worst_persona"] for name in ("true", "none", "wrong")] == [0.0, 1.0, 0.5]
    assert spreads["true"]["worst_group"] == {"attribute": "sex", "value": "Female", "rows": 20, "accuracy": 0.5}
    assert json.loads(json.dumps(entries)) == entries
    backwards = control_metrics(rows[::-1], {name: values[::-1] for name, values in margins.items()}, 0, profiles)
    assert backwards == entries
    assert control_metrics(rows, margins, 0)[0]["conditions"]["true"]["spread"]["worst_group"] is None


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0.01, 1), min_size=1, max_size=12))
def test_gini_is_the_mean_difference_of_two_over_twice_the_mean(shares: list[float]):
    expected = np.mean([abs(a - b) for a in shares for b in shares]) / (2 * np.mean(shares))
    assert gini(np.array(shares)) == pytest.approx(expected, abs=1e-12)


def test_gini_of_all_alike_is_nothing_and_of_nobody_undefined():
    assert gini(np.full(7, 0.3)) == pytest.approx(0)
    assert gini(np.array([])) is None
    assert gini(np.zeros(3)) is None


def test_the_largest_gap_stands_beside_what_chance_gives():
    rng = np.random.default_rng(0)
    personas = [f"p{i:02}" for i in range(40) for _ in range(10)]
    groups = {f"p{i:02}": {"sex": "Female" if i % 2 else "Male", "race": f"r{i % 4}"} for i in range(40)}
    planted = [1.0 if int(name[1:]) % 2 and rng.random() < 0.9 else 0.0 for name in personas]
    found = inequality(planted, personas, groups, np.random.default_rng(0))
    largest = found["largest_gap"]
    assert largest["p_value"] < 0.01
    assert largest["by_chance"] < 0.5 < largest["difference"]
    assert found["worst_intersection"]["attribute"] == "race and sex"
    noise = inequality([float(rng.random() < 0.5) for _ in personas], personas, groups, np.random.default_rng(0))
    assert noise["largest_gap"]["p_value"] > 0.05
    assert noise["largest_gap"]["by_chance"] == pytest.approx(noise["largest_gap"]["difference"], abs=0.1)


def test_inequality_does_not_depend_on_the_order_and_holds_what_spread_does():
    outcomes, personas = [float(i % 3 == 0) for i in range(60)], [f"p{i % 6}" for i in range(60)]
    groups = {f"p{i}": {"sex": "Male" if i < 3 else "Female"} for i in range(6)}
    found = inequality(outcomes, personas, groups, np.random.default_rng(0))
    assert inequality(outcomes[::-1], personas[::-1], groups, np.random.default_rng(0)) == found
    assert spread(outcomes, personas, groups).items() <= found.items()
    nobody = inequality([], [], {}, np.random.default_rng(0))
    assert (nobody["gini"], nobody["largest_gap"], nobody["worst_intersection"]) == (None, None, None)
