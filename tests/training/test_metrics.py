import pytest

from training.evaluation import plan_evaluation
from training.metrics import control_metrics, sample_rows


def pairs(kind: str, count: int, split: str = "seen_test", group: str = "seen") -> list[dict]:
    """`count` rows: on contrast, mirrors behind one another, each of two personas of its own."""
    rows = []
    for i in range(count):
        other = i + 1 if i % 2 == 0 else i - 1
        names = f"p{i}-p{other}", f"p{other}-p{i}"
        rows.append(
            {
                "split": split,
                "pair_kind": kind,
                "persona_group": group,
                "persona_id": f"p{i}",
                "pair_id": f"{kind}/{names[0] if kind == 'contrast' else f'p{i}'}/{split}",
                "mirror_pair_id": f"contrast/{names[1]}/{split}" if kind == "contrast" else None,
            }
        )
    return rows


def test_ties_count_half_and_gaps_are_differences_of_the_same_rows():
    rows = pairs("dpf", 40)
    margins = {"true": [1.0] * 30 + [-1.0] * 10, "none": [0.0] * 40, "wrong": [1.0] * 10 + [-1.0] * 30}
    everything, cell = control_metrics(rows, margins, seed=0)
    assert (everything["cell"], cell["cell"]) == ("all", "seen/seen_test")
    conditions = everything["conditions"]
    assert [conditions[c]["accuracy"] for c in ("true", "none", "wrong")] == [0.75, 0.5, 0.25]
    assert [conditions[c]["ties"] for c in ("true", "none", "wrong")] == [0, 40, 0]
    assert conditions["true"]["low"] < 0.75 < conditions["true"]["high"]
    assert everything["gaps"]["wrong"]["difference"] == 0.5
    assert everything["gaps"]["none"]["difference"] == 0.25
    assert everything["gaps"]["wrong"]["low"] > 0
    # An interval around a half that holds for everyone by construction would say nothing.
    assert (conditions["none"]["low"], conditions["none"]["withheld"]) == (None, "no interval: alike for all personas")
    assert control_metrics(rows[::-1], {c: m[::-1] for c, m in margins.items()}, seed=0)[0] == everything


def test_few_pairs_have_counts_and_no_share():
    entry = control_metrics(pairs("dpf", 19), {c: [1.0] * 19 for c in ("true", "none", "wrong")}, seed=0)[0]
    assert entry["conditions"]["true"]["wins"] == 19
    assert entry["conditions"]["true"]["accuracy"] is None
    assert entry["gaps"]["wrong"] == {"difference": None, "low": None, "high": None, "withheld": "n < 20"}


def test_contrast_pairs_are_resampled_by_both_personas():
    rows = pairs("contrast", 40)
    margins = [1.0 if i % 4 < 2 else -1.0 for i in range(40)]
    by_both = control_metrics(rows, dict.fromkeys(("true", "none", "wrong"), margins), seed=0)[0]
    assert by_both["personas"] == 40
    alone = [row | {"pair_kind": "dpf", "mirror_pair_id": None} for row in rows]
    by_one = control_metrics(alone, dict.fromkeys(("true", "none", "wrong"), margins), seed=0)[0]

    def width(entry):
        return entry["conditions"]["true"]["high"] - entry["conditions"]["true"]["low"]

    assert width(by_both) > 1.2 * width(by_one)


def test_mirrors_are_drawn_together():
    rows = pairs("contrast", 4)
    drawn = {row["pair_id"] for row in sample_rows(rows, 3, seed=0)}
    assert drawn in ({row["pair_id"] for row in rows[:2]}, {row["pair_id"] for row in rows[2:]})


@pytest.fixture(scope="module")
def data(place):
    from training.data import load_preference_data

    return load_preference_data(str(place.data), ["dpf", "contrast"])


def splits_of(data):
    from training.data import TEST_SPLITS

    return {split: list(data.splits[split]) for split in TEST_SPLITS}


def test_every_condition_is_planned_and_each_candidate_once(data):
    plan = plan_evaluation(splits_of(data), None, 0, lambda candidate: True)
    assert len(plan.rows) == 48
    assert len(set(plan.candidates)) == len(plan.candidates) < 48 * 2 * 3
    for place_of_row, row in enumerate(plan.rows):
        shown = {c: plan.candidates[plan.places[c][place_of_row][0]].persona_id for c in plan.places}
        assert shown == {"true": row["persona_id"], "none": None, "wrong": row["wrong_persona_id"]}
    margins = plan.margins([float(len(candidate.answer)) for candidate in plan.candidates])
    assert margins["true"] == margins["none"] == margins["wrong"]
    assert margins["true"][0] == len(plan.rows[0]["chosen"][0]["content"]) - len(plan.rows[0]["rejected"][0]["content"])


def test_a_wrong_persona_too_long_for_the_model_takes_the_row_and_its_mirror_out(place, data):
    from training.base_model import load_tokenizer
    from training.conditioning import Conditioning
    from training.prompts import PersonaPrompts
    from training.trained import usable_by

    splits = splits_of(data)
    profiles = data.profiles | {"p00001": "very long words " * 300}
    tokenizer = load_tokenizer(place.base, for_reward=False)
    own = {row["pair_id"] for rows in splits.values() for row in rows if row["persona_id"] == "p00001"}
    plan = plan_evaluation(
        splits, None, 0, usable_by(tokenizer, PersonaPrompts(Conditioning(), profiles, {}), context=512)
    )
    assert plan.left_out == 48 - len(plan.rows) > len(own)
    kept = {row["pair_id"] for row in plan.rows}
    assert not [row for row in plan.rows if row["mirror_pair_id"] is not None and row["mirror_pair_id"] not in kept]
    assert not [row for row in plan.rows if "p00001" in (row["persona_id"], row["wrong_persona_id"])]
