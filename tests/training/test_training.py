"""Real runs of both trainers on a tiny model, through their public entry points."""

import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

from builder.errors import InputError
from builder.llm.weights import find_model
from builder.schema import NEUTRAL_SYSTEM_TEXT
from tests.published_folder import write_published_folder
from tests.tiny_model import build_tiny_model
from tests.training.conftest import TINY_ID
from training import dpo, reward
from training.data import condition_rows, load_preference_data, rows_hash, trainer_rows
from training.metrics import preference_metrics, sample_rows
from training.trainers import NamedSplitsDPOTrainer, NamedSplitsRewardTrainer

REPOSITORY = Path(__file__).parents[2]


def record_of(folder: Path) -> dict:
    return json.loads((folder / "training.json").read_text())


def test_training_changes_the_adapter_and_not_the_base(place, dpo_folder, reward_folder):
    for folder in (dpo_folder, reward_folder):
        weights = load_file(folder / "adapter_model.safetensors")
        moved = [tensor for name, tensor in weights.items() if "lora_B" in name]
        assert moved
        assert all(tensor.abs().max() > 0 for tensor in moved), "lora_B starts at zero"
        base_hash = record_of(folder)["base_model"]["content_hash"]
        assert base_hash == find_model("tiny", str(place.base)).content_hash


def test_both_trainers_take_the_same_rows(dpo_folder, reward_folder):
    first, second = record_of(dpo_folder)["data"], record_of(reward_folder)["data"]
    assert first["train_rows_sha256"] == second["train_rows_sha256"]
    assert first["splits"] == second["splits"]
    assert first["splits"]["train"]["kept"] == 36


def test_the_finished_folder_names_no_path_of_this_machine(place, dpo_folder, reward_folder):
    places = [str(place.base), str(place.data), str(dpo_folder.parent), str(REPOSITORY), tempfile.gettempdir() + "/"]
    for folder in (dpo_folder, reward_folder):
        names = {path.name for path in folder.rglob("*")}
        assert {"README.md", "training.json", "adapter_config.json", "adapter_model.safetensors"} <= names
        assert not [name for name in names if name.endswith((".bin", ".pt", ".pth", ".pkl"))]
        for path in folder.rglob("*"):
            if path.is_file():
                content = path.read_bytes()
                assert not [p for p in (*places, str(Path.home())) if f"{p}/".replace("//", "/").encode() in content], (
                    path
                )
        config = json.loads((folder / "adapter_config.json").read_text())
        assert config["base_model_name_or_path"] == TINY_ID
        assert not list(folder.parent.glob(".*partial"))


def test_record_and_card(dpo_folder, reward_folder):
    record = record_of(dpo_folder)
    assert record["beta"] == 0.1
    assert record["recipe"]["max_steps"] == 3
    assert record["run"]["steps"] == 3
    assert record["reload_difference"] < 1e-3
    assert record["versions"]["trl"]
    assert record["metrics"]["heldout_test/rows"] <= 24
    assert record["metrics"]["seen_test/contrast/accuracy"] * record["metrics"]["seen_test/contrast/rows"] % 0.5 == 0
    assert {"seen_test/dpf/seen/accuracy", "seen_test/dpf/unseen/accuracy"} <= set(record["metrics"])
    for folder, tag in ((dpo_folder, "dpo"), (reward_folder, "reward-model")):
        card = (folder / "README.md").read_text()
        assert f"base_model: {TINY_ID}" in card
        assert f"- {tag}" in card
        assert "| seen_test/contrast |" in card
        assert card.count("```") == 2


def test_a_finished_folder_is_never_overwritten(place, dpo_folder):
    before = sorted(p.stat().st_mtime_ns for p in dpo_folder.rglob("*"))
    with pytest.raises(InputError, match="exists already"):
        dpo.main(place.arguments("demo_dpo", dpo_folder))
    assert sorted(p.stat().st_mtime_ns for p in dpo_folder.rglob("*")) == before


def test_the_saved_reward_head_loads_with_plain_peft(place, reward_folder):
    base = AutoModelForSequenceClassification.from_pretrained(place.base, num_labels=1)
    head = PeftModel.from_pretrained(base, str(reward_folder)).base_model.model.score
    saved = load_file(reward_folder / "adapter_model.safetensors")
    name = next(name for name in saved if name.endswith("score.weight"))
    assert torch.equal(head.modules_to_save["default"].weight, saved[name])


def flip_heldout(tables):
    for row in tables["dpf"]["heldout_test"]:
        row["chosen"], row["rejected"] = row["rejected"], row["chosen"]


@pytest.mark.parametrize("kind", ["dpo", "reward"])
def test_a_flipped_split_keeps_its_own_figure(tmp_path, place, kind):
    """One split at 100 %, the flipped one at 0 %, in the record and in the learning curve."""
    folder = write_published_folder(tmp_path / "data", change=flip_heldout)
    main = dpo.main if kind == "dpo" else reward.main
    arguments = place.arguments(f"demo_{kind}", tmp_path / "model", "--dataset_configs", "dpf", "--max_steps", "20")
    curve = ["--eval_strategy", "steps", "--eval_steps", "20", "--per_device_train_batch_size", "8"]
    record = record_of(main([*arguments, *curve, "--dataset", str(folder)]))
    assert record["metrics"]["seen_test/accuracy"] == 1.0
    assert record["metrics"]["heldout_test/accuracy"] == 0.0
    name = "rewards/accuracies" if kind == "dpo" else "accuracy"
    logged = {key: value for entry in record["run"]["history"] for key, value in entry.items()}
    assert logged[f"seen_test/{name}"] == 1.0
    assert logged[f"heldout_test/{name}"] == 0.0
    assert not [key for key in logged if key.startswith("eval_")]


def test_blind_training_never_shows_a_profile(tmp_path, place):
    folder = reward.main(place.arguments("demo_reward", tmp_path / "blind", "--persona", "none", "--max_steps", "1"))
    record = record_of(folder)
    assert record["persona"] == "none"
    blind = condition_rows(load_preference_data(str(place.data), ["dpf", "contrast"]).splits["train"], "none")
    assert {row["prompt"][0]["content"] for row in blind} == {NEUTRAL_SYSTEM_TEXT}
    assert record["data"]["train_rows_sha256"] == rows_hash(trainer_rows(blind))
    assert "persona-blind baseline" in (folder / "README.md").read_text()
    # Mirrors have the same two texts, so a blind model wins exactly one of the two.
    assert record["metrics"]["seen_test/contrast/accuracy"] == 0.5


def test_full_fine_tuning(tmp_path, place):
    arguments = ["--use_peft", "false", "--max_steps", "1", "--eval_max_rows", "2"]
    for main, recipe in ((dpo.main, "demo_dpo"), (reward.main, "demo_reward")):
        folder = main(place.arguments(recipe, tmp_path / recipe, *arguments))
        record = record_of(folder)
        assert not record["adapter"]
        assert (folder / "model.safetensors").is_file()
        assert record["run"]["trainable_parameters"] == record["run"]["parameters"]


def test_interrupted_runs_are_resumed_and_never_lost(tmp_path, place, monkeypatch):
    arguments = place.arguments("demo_reward", tmp_path / "model", "--save_strategy", "steps", "--save_steps", "2")
    original = NamedSplitsRewardTrainer.training_step

    def interrupted(self, *args, **kwargs):
        if self.state.global_step == 2:
            raise KeyboardInterrupt
        return original(self, *args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(NamedSplitsRewardTrainer, "training_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            reward.main(arguments)
    with pytest.raises(InputError, match="resume_from_checkpoint"):
        reward.main(arguments)
    folder = reward.main([*arguments, "--resume_from_checkpoint", "true"])
    assert record_of(folder)["run"]["steps"] == 3
    assert not list(folder.glob("checkpoint-*"))


def test_a_loss_that_is_no_number_stops_the_run(tmp_path, place, monkeypatch):
    original = NamedSplitsDPOTrainer.compute_loss

    def spoilt(self, *args, **kwargs):
        return original(self, *args, **kwargs) * float("nan")

    monkeypatch.setattr(NamedSplitsDPOTrainer, "compute_loss", spoilt)
    with pytest.raises(InputError, match=r"loss is nan at step 1"):
        dpo.main(place.arguments("demo_dpo", tmp_path / "model"))
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--lora_task_type", "CAUSAL_LM"], "SEQ_CLS"),
        (["--push_to_hub", "true"], "hf upload"),
        (["--trust_remote_code", "true"], "trust_remote_code"),
        (["--max_length", "20"], "profiles"),
        (["--max_length", "70"], "max_dropped_share"),
        (["--output_dir", "trainer_output"], "output_dir"),
    ],
)
def test_recipes_that_are_refused_before_training(tmp_path, place, arguments, named):
    with pytest.raises(InputError, match=named):
        reward.main([*place.arguments("demo_reward", tmp_path / "model"), *arguments])
    assert not (tmp_path / "model").exists()


def test_accelerate_launch_runs_the_module(tmp_path, place):
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", "accelerate_configs/cpu.yaml"]
    arguments = place.arguments("training/recipes/demo_reward.yaml", tmp_path / "model", "--eval_max_rows", "0")
    done = subprocess.run(
        [*launch, "-m", "training.reward", *arguments],
        cwd=REPOSITORY,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert re.search(r"\[preflight\] train: 36 rows, 36 kept", done.stdout)
    assert (tmp_path / "model" / "training.json").is_file()


def test_input_errors_exit_with_code_2(tmp_path):
    code = "from training.run_as_script import run_as_script; from training.dpo import main; run_as_script(main)"
    done = subprocess.run(
        [sys.executable, "-c", code, "--config", "demo_dpo", "--dataset", "no-such-folder"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 2
    assert "error:" in done.stderr
    assert "Traceback" not in done.stderr


def test_ties_count_half_and_mirrors_are_drawn_together():
    rows = [
        {"pair_id": f"c/{a}-{b}", "mirror_pair_id": f"c/{b}-{a}", "pair_kind": "contrast", "persona_group": "seen"}
        for a, b in (("1", "2"), ("2", "1"), ("3", "4"), ("4", "3"))
    ]
    figures = preference_metrics("seen_test", rows, [1.0, -1.0, 0.0, 0.0])
    assert (figures["seen_test/accuracy"], figures["seen_test/ties"], figures["seen_test/wins"]) == (0.5, 2, 1)
    drawn = {row["pair_id"] for row in sample_rows(rows, 3, seed=0)}
    assert drawn in ({"c/1-2", "c/2-1"}, {"c/3-4", "c/4-3"})


def test_projecting_answers_only_changes_nothing_but_time(tmp_path, place, dpo_folder, monkeypatch):
    monkeypatch.setattr("training.run.answers_only_head", lambda device: contextlib.nullcontext())
    whole = dpo.main(place.arguments("demo_dpo", tmp_path / "whole"))
    first, second = (load_file(folder / "adapter_model.safetensors") for folder in (whole, dpo_folder))
    assert all(torch.allclose(first[name], second[name], atol=1e-5) for name in first)


def test_padding_equal_to_end_is_mended_in_the_saved_tokenizer(tmp_path, place):
    base = build_tiny_model(tmp_path / "tiny", pad_token="<|im_end|>")
    arguments = [
        *place.arguments("demo_reward", tmp_path / "model", "--max_steps", "1"),
        "--model_name_or_path",
        str(base),
    ]
    record = record_of(reward.main(arguments))
    assert record["run"]["pad_token"] == "<|endoftext|>"
