"""Preferences that a rule decides: who sees the persona finds the rule, who does not stays at chance, and false labels teach nothing."""

import json
from pathlib import Path

import pytest

from builder.schema import assistant_message
from tests.planted import KINDS, build_planted_model, planted_tables, write_planted_folder
from training import dpo, reward

CELLS = ("seen/seen_test", "seen/heldout_test", "unseen/seen_test", "unseen/heldout_test")
MAIN = {"dpo": dpo.main, "reward": reward.main}
# Twice what the rule takes to learn.
STEPS = {"dpo": "100", "reward": "150"}


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return build_planted_model(tmp_path_factory.mktemp("planted") / "model")


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> Path:
    return write_planted_folder(tmp_path_factory.mktemp("planted") / "data")


def trained(kind: str, base: Path, data: Path, output: Path, *more: str) -> dict:
    """training.json of a model trained with all weights."""
    fixed = ["--config", f"demo_{kind}", "--dataset", str(data), "--model_name_or_path", str(base)]
    fixed += ["--dataset_configs", "contrast", "--eval_max_rows", "1000", "--output_dir", str(output)]
    fixed += ["--use_peft", "false", "--learning_rate", "2e-3", "--lr_scheduler_type", "constant_with_warmup"]
    fixed += ["--per_device_train_batch_size", "16", "--max_steps", STEPS[kind], "--logging_steps", "10"]
    return json.loads((MAIN[kind]([*fixed, *more]) / "training.json").read_text())


def accuracies(record: dict) -> dict[tuple[str, str], float]:
    """(cell, condition) -> accuracy, a tie counted as half."""
    return {
        (entry["cell"], condition): (outcome["wins"] + outcome["ties"] / 2) / entry["rows"]
        for entry in record["results"]
        for condition, outcome in entry["conditions"].items()
    }


def test_the_persona_and_nothing_else_decides_the_planted_pairs():
    tables = planted_tables()
    profiles = {row["persona_id"]: row["profile"] for row in tables["personas"]["train"]}
    rows = [row for split in tables["contrast"].values() for row in split]
    pairs = {row["pair_id"]: row for row in rows}

    def kind(text: str) -> str:
        (found,) = [kind for kind in KINDS if text.endswith(f"{kind}.")]
        return found

    for row in rows:
        assert row["prompt"][0]["content"] == profiles[row["persona_id"]]
        own, other = kind(row["chosen"][0]["content"]), kind(row["rejected"][0]["content"])
        assert own == kind(profiles[row["persona_id"]]) != other
        assert kind(profiles[row["wrong_persona_id"]]) == other
        assert row["wrong_persona_id"] not in (row["persona_id"], row["partner_persona_id"])
        mirror = pairs[row["mirror_pair_id"]]
        assert (mirror["chosen"], mirror["rejected"]) == (row["rejected"], row["chosen"])
    texts = {row["chosen"][0]["content"] for row in rows}
    assert len(texts) == 8, "four wordings of each kind"
    assert {row["prompt"][-1]["content"] for row in tables["contrast"]["train"]}.isdisjoint(
        row["prompt"][-1]["content"] for row in tables["contrast"]["heldout_test"]
    )
    assert all(row["rejected"] == assistant_message("Everyone works.") for row in tables["dpf"]["train"])


@pytest.mark.parametrize("kind", MAIN)
def test_a_conditioned_model_recovers_the_rule(base, planted, tmp_path, kind):
    """On personas and questions that it has not seen as well, and it follows whichever persona is shown."""
    found = accuracies(trained(kind, base, planted, tmp_path / "model"))
    for cell in CELLS:
        assert found[cell, "true"] >= 0.95
        assert found[cell, "wrong"] <= 0.05
        assert found[cell, "none"] == 0.5


@pytest.mark.parametrize("kind", MAIN)
def test_a_blind_model_stays_at_chance(base, planted, tmp_path, kind):
    """Exactly without a persona. Shown one all the same, it has no use for it."""
    record = trained(kind, base, planted, tmp_path / "model", "--persona", "none")
    found = accuracies(record)
    for cell in CELLS:
        assert found[cell, "none"] == 0.5
    assert found["all", "true"] == pytest.approx(0.5, abs=0.1)
    assert found["all", "wrong"] == pytest.approx(0.5, abs=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("kind", MAIN)
def test_shuffled_labels_teach_nothing(base, tmp_path, kind):
    """Same rows, same steps, and the labels of half of the mirrored sets swapped: a score above chance would come from elsewhere."""
    data = write_planted_folder(tmp_path / "data", shuffled=True)
    record = trained(kind, base, data, tmp_path / "model")
    found = accuracies(record)
    assert found["all", "true"] == pytest.approx(0.5, abs=0.15)
    assert found["all", "none"] == 0.5
