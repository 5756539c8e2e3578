"""An adapter a persona: what each learns, which rows count, and that the saved adapters are the trained ones."""

import json
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest

from builder.errors import InputError
from tests.published_folder import write_published_folder
from tests.training.test_p_dpo import plant_a_rule, record_of, shares
from training import own_loop, per_persona
from training.data import load_preference_data
from training.evaluation import Candidate
from training.per_persona import most_rows
from training.trained import load_scorer
from training.trainers import NamedSplitsRewardTrainer

pytestmark = pytest.mark.thorough

CHOSEN = ["p00000", "p00001", "p00002"]


@pytest.fixture(scope="module")
def folder(place, tmp_path_factory) -> Path:
    return per_persona.main(place.arguments("demo_per_persona", tmp_path_factory.mktemp("models") / "model"))


def scorer_of(folder: Path, place):
    profiles = load_preference_data(str(place.data), ["dpf"]).profiles
    return load_scorer(folder, profiles, {}, str(place.base), device="cpu")


def test_personas_with_the_most_rows_ties_by_id():
    assert most_rows(["b", "c", "a", "c", "b", "d"], 3) == ["b", "c", "a"]
    with pytest.raises(InputError, match="have 4 personas"):
        most_rows(["b", "c", "a", "c", "b", "d"], 5)


def test_the_folder_holds_one_adapter_a_persona_and_nothing_of_this_machine(folder, place):
    names = {path.name for path in folder.rglob("*")}
    assert {path.name for path in (folder / "adapters").iterdir()} == {*CHOSEN, "generic"}
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pth", ".pkl"))]
    assert len(list(folder.rglob("README.md"))) == 1
    for path in folder.rglob("*"):
        assert path.is_dir() or str(place.base).encode() not in path.read_bytes(), path
    weights = {(path / "adapter_model.safetensors").read_bytes() for path in (folder / "adapters").iterdir()}
    assert len(weights) == 4


def test_rows_count_where_both_personas_have_an_adapter(folder, place):
    data = load_preference_data(str(place.data), ["dpf", "contrast"])
    scored = {row["pair_id"] for row in pq.read_table(folder / "scores.parquet").to_pylist()}
    record = record_of(folder)
    assert record["run"]["rows_outside"]["train"] == 9, "of four personas with nine rows each"
    assert record["data"]["train_rows"] == 27
    for split in ("seen_test", "heldout_test"):
        rows = list(data.splits[split])
        known = {r["pair_id"] for r in rows if r["persona_id"] in CHOSEN and r["wrong_persona_id"] in CHOSEN}
        whole = {r["pair_id"] for r in rows if r["pair_id"] in known and (r["mirror_pair_id"] or r["pair_id"]) in known}
        assert whole
        assert {r["pair_id"] for r in rows} & scored == whole
        assert record["run"]["rows_outside"][split] == len(rows) - len(whole)


def test_the_adapters_read_back_score_as_recorded(folder, place):
    scorer = scorer_of(folder, place)
    data = load_preference_data(str(place.data), ["dpf", "contrast"])
    rows = {row["pair_id"]: row for split in ("seen_test", "heldout_test") for row in data.splits[split]}
    candidates, margins = [], []
    for saved in pq.read_table(folder / "scores.parquet").to_pylist():
        row = rows[saved["pair_id"]]
        for condition, persona in (("true", row["persona_id"]), ("none", None), ("wrong", row["wrong_persona_id"])):
            texts = [row[side][0]["content"] for side in ("chosen", "rejected")]
            candidates += [Candidate(persona, row["prompt_id"], row["question"], text) for text in texts]
            margins.append(saved[f"margin_{condition}"])
    scores = scorer.score(candidates)
    assert [a - b for a, b in zip(scores[::2], scores[1::2], strict=True)] == pytest.approx(margins, abs=1e-5)
    # Each persona's own adapter is active for it, whatever was scored before.
    backwards = scorer.score(candidates[::-1])[::-1]
    assert backwards == pytest.approx(scores, abs=1e-5)
    assert len({round(scorer.score([Candidate(p, "q", "Why?", "So.")])[0], 6) for p in (*CHOSEN, None)}) == 4


def test_who_has_no_adapter_cannot_be_scored(folder, place):
    usable = scorer_of(folder, place).usable
    answers = {p: usable(Candidate(p, "q", "Why?", "So.")) for p in ("p00000", None, "p00003", "p00004")}
    assert answers == {"p00000": True, None: True, "p00003": False, "p00004": False}
    assert not usable(Candidate("p00000", "q", "Why? " * 200, "So."))


def test_none_is_the_pooled_adapter_and_wins_half_of_complete_mirrored_sets(folder):
    assert shares(record_of(folder), "all")["none"] == 0.5


def test_an_adapter_depends_on_its_personas_rows_alone(folder, place, tmp_path):
    fewer = per_persona.main(place.arguments("demo_per_persona", tmp_path / "fewer", "--personas", "2"))
    for persona in ("p00000", "p00001"):
        weights = Path("adapters") / persona / "adapter_model.safetensors"
        assert (fewer / weights).read_bytes() == (folder / weights).read_bytes()
    pooled = Path("adapters") / "generic" / "adapter_model.safetensors"
    assert (fewer / pooled).read_bytes() != (folder / pooled).read_bytes()


def test_a_rule_that_the_persona_decides_is_learned_by_its_adapter(place, tmp_path):
    data = write_published_folder(tmp_path / "data", change=plant_a_rule)
    learning = ["--personas", "4", "--max_steps", "15", "--per_device_train_batch_size", "4"]
    planted = ["--dataset", str(data), "--dataset_configs", "contrast", "--eval_max_rows", "1000"]
    record = record_of(per_persona.main([*place.arguments("demo_per_persona", tmp_path / "m"), *learning, *planted]))
    for cell in ("seen/seen_test", "seen/heldout_test"):
        assert shares(record, cell) == {"true": 1.0, "none": 0.5, "wrong": 0.0}
    assert not [entry for entry in record["results"] if entry["cell"].startswith("unseen/")]


def test_a_loss_that_is_no_number_stops_the_run(place, tmp_path, monkeypatch):
    original = NamedSplitsRewardTrainer.compute_loss
    monkeypatch.setattr(
        NamedSplitsRewardTrainer, "compute_loss", lambda self, *a, **k: original(self, *a, **k) * float("nan")
    )
    with pytest.raises(InputError, match="loss is nan at step 1"):
        per_persona.main(place.arguments("demo_per_persona", tmp_path / "model"))
    assert not (tmp_path / "model").exists()


def test_several_processes_are_refused(place, tmp_path, monkeypatch):
    monkeypatch.setattr(own_loop, "PartialState", lambda: SimpleNamespace(num_processes=2))
    with pytest.raises(InputError, match="one process"):
        per_persona.main(place.arguments("demo_per_persona", tmp_path / "model"))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--persona", "full"], "persona: none"),
        (["--personas", "1"], "at least 2"),
        (["--personas", "5"], "have 4 personas"),
        (["--use_peft", "false"], "use_peft: true"),
        (["--dtype", "bfloat16"], "float32"),
        (["--save_strategy", "steps"], "save_strategy"),
        (["--merge_adapter", "true"], "merge_adapter"),
    ],
)
def test_recipes_that_are_refused(place, tmp_path, arguments, named):
    with pytest.raises(InputError, match=named):
        per_persona.main(place.arguments("demo_per_persona", tmp_path / "model", *arguments))
    assert not (tmp_path / "model").exists()


def test_the_card_names_no_base_by_a_path(folder):
    for config in (folder / "adapters").rglob("adapter_config.json"):
        assert json.loads(config.read_text())["base_model_name_or_path"] == "persona-testbed/tiny"
