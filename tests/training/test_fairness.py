import json

import pytest

from training.fairness import persona_groups, spread
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
