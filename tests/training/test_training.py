"""Real runs of both trainers on a tiny model, through their public entry points."""

import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification

from builder.errors import InputError
from builder.llm.weights import find_model
from builder.schema import NEUTRAL_SYSTEM_TEXT, preference_messages
from tests.published_folder import write_published_folder
from tests.tiny_model import build_tiny_model
from tests.training.conftest import TINY_ID
from training import dpo, reward, run
from training.conditioning import Conditioning
from training.data import load_preference_data, rows_hash, trainer_rows
from training.metrics import CELLS
from training.prompts import PersonaPrompts
from training.run_as_script import run_as_script
from training.scoring import (
    load_dpo_model,
    load_reward_model,
    score_implicit_rewards,
    score_log_probabilities,
    score_rewards,
)
from training.selection import condition_rows
from training.trainers import NamedSplitsDPOTrainer, NamedSplitsRewardTrainer

REPOSITORY = Path(__file__).parents[2]


def record_of(folder: Path) -> dict:
    return json.loads((folder / "training.json").read_text())


def wins(record: dict, config: str, split: str) -> tuple[int, int]:
    """(pairs won, pairs) of a split, both persona groups together, with the true persona shown."""
    entries = [e for e in record["results"] if e["config"] == config and e["cell"].endswith(f"/{split}")]
    return sum(e["conditions"]["true"]["wins"] for e in entries), sum(e["rows"] for e in entries)


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
    assert record["recipe"]["save_strategy"] == "no"
    assert record["run"]["steps"] == 3
    assert record["reload_difference"] < 1e-3
    assert record["versions"]["trl"]
    assert record["evaluation"]["rows"]["heldout_test"] == 32
    assert {entry["cell"] for entry in record["results"]} == set(CELLS)
    assert {entry["config"] for entry in record["results"]} == {"dpf", "contrast"}
    assert record["run"]["trained_rows"] == 36
    assert record["run"]["truncated_rows"] == 0


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
    assert wins(record, "dpf", "seen_test") == (6, 6)
    assert wins(record, "dpf", "heldout_test") == (0, 12)
    name = "rewards/accuracies" if kind == "dpo" else "accuracy"
    logged = {key: value for entry in record["run"]["history"] for key, value in entry.items()}
    assert logged[f"seen_test/{name}"] == 1.0
    assert logged[f"heldout_test/{name}"] == 0.0
    assert not [key for key in logged if key.startswith("eval_")]


def test_blind_training_never_shows_a_profile(tmp_path, place):
    folder = reward.main(place.arguments("demo_reward", tmp_path / "blind", "--persona", "none", "--max_steps", "1"))
    record = record_of(folder)
    assert record["persona"] == "none"
    data = load_preference_data(str(place.data), ["dpf", "contrast"])
    blind = condition_rows(data.splits["train"], PersonaPrompts(Conditioning("none"), data.profiles, {}))
    assert {row["prompt"][0]["content"] for row in blind} == {NEUTRAL_SYSTEM_TEXT}
    assert record["data"]["train_rows_sha256"] == rows_hash(trainer_rows(blind))
    assert "persona-blind baseline" in (folder / "README.md").read_text()
    # Without a persona mirrors have the same prompt and the same two texts, so the model wins exactly one of the two.
    contrast = next(entry for entry in record["results"] if (entry["config"], entry["cell"]) == ("contrast", "all"))
    assert contrast["rows"] >= 20
    assert contrast["conditions"]["none"]["accuracy"] == 0.5
    # What it would do with a profile is shown all the same.
    assert contrast["conditions"]["true"]["mean_margin"] != 0.0


@pytest.mark.parametrize("kind", ["dpo", "reward"])
def test_the_scores_in_the_folder_are_those_that_the_results_count(dpo_folder, reward_folder, kind):
    folder = dpo_folder if kind == "dpo" else reward_folder
    record, rows = record_of(folder), pq.read_table(folder / "scores.parquet").to_pylist()
    assert len(rows) == sum(record["evaluation"]["rows"].values()) == len({row["pair_id"] for row in rows})
    for entry in record["results"]:
        own = [
            row
            for row in rows
            if row["pair_kind"] == entry["config"]
            and entry["cell"] in ("all", f"{row['persona_group']}/{row['split']}")
        ]
        assert len(own) == entry["rows"]
        for condition, outcome in entry["conditions"].items():
            margins = [row[f"margin_{condition}"] for row in own]
            assert sum(margin > 0 for margin in margins) == outcome["wins"]
            assert sum(margins) / len(margins) == pytest.approx(outcome["mean_margin"], abs=1e-9)
    mirrors = {row["pair_id"]: row["margin_none"] for row in rows if row["mirror_pair_id"]}
    assert all(mirrors[r["mirror_pair_id"]] == -r["margin_none"] for r in rows if r["mirror_pair_id"])


def test_a_reference_that_sees_no_persona_is_another_margin(tmp_path, place):
    """The implicit reward's second part is that of the neutral prompt, whoever is shown to the policy."""
    folder = dpo.main(place.arguments("demo_dpo", tmp_path / "model", "--reference_persona", "false"))
    model = load_dpo_model(folder, base_model=str(place.base))
    data = load_preference_data(str(place.data), ["dpf"])
    margins = {row["pair_id"]: row for row in pq.read_table(folder / "scores.parquet").to_pylist()}
    row = next(row for row in data.splits["heldout_test"] if row["pair_id"] in margins)
    shown, neutral = (
        [(preference_messages(profile, row["question"]), row[side][0]["content"]) for side in ("chosen", "rejected")]
        for profile in (data.profiles[row["persona_id"]], None)
    )
    policy = score_log_probabilities(model, shown)
    reference = score_log_probabilities(model, neutral, reference=True)
    margin = model.beta * (policy[0] - policy[1] - reference[0] + reference[1])
    assert margins[row["pair_id"]]["margin_true"] == pytest.approx(margin, abs=1e-5)
    seeing = score_log_probabilities(model, shown, reference=True)
    assert model.beta * (policy[0] - policy[1] - seeing[0] + seeing[1]) != pytest.approx(margin, abs=1e-4)
    assert "reference model never sees the persona" in (folder / "README.md").read_text()


def test_full_fine_tuning(tmp_path, place):
    arguments = ["--use_peft", "false", "--max_steps", "1", "--eval_max_rows", "2"]
    for main, recipe in ((dpo.main, "demo_dpo"), (reward.main, "demo_reward")):
        folder = main(place.arguments(recipe, tmp_path / recipe, *arguments))
        record = record_of(folder)
        assert not record["adapter"]
        assert (folder / "model.safetensors").is_file()
        assert record["run"]["trainable_parameters"] == record["run"]["parameters"]


@pytest.mark.parametrize("kind", ["dpo", "reward"])
def test_a_merged_model_is_one_model_that_scores_as_the_adapter(tmp_path, place, dpo_folder, reward_folder, kind):
    main, adapter = (dpo.main, dpo_folder) if kind == "dpo" else (reward.main, reward_folder)
    folder = main(place.arguments(f"demo_{kind}", tmp_path / "model", "--merge_adapter", "true"))
    record = record_of(folder)
    assert record["merged"]
    assert not record["adapter"]
    assert record["reload_difference"] < 1e-3
    assert not list(folder.glob("adapter_*"))
    assert str(place.base) not in (folder / "config.json").read_text()
    assert "merged into all weights" in (folder / "README.md").read_text()
    items = [(preference_messages("You are a nurse.", "What about pets?"), text) for text in ("I like pets.", "No.")]
    if kind == "dpo":
        pairs = [load_dpo_model(f, base_model=str(place.base)) for f in (folder, adapter)]
        scores = [[p - r for p, r in score_implicit_rewards(model, items)] for model in pairs]
    else:
        # The merged model needs no base, and its head has one label without being told so.
        assert AutoModelForSequenceClassification.from_pretrained(folder).num_labels == 1
        pairs = [load_reward_model(folder), load_reward_model(adapter, base_model=str(place.base))]
        scores = [score_rewards(model, items) for model in pairs]
    assert scores[0] == pytest.approx(scores[1], abs=1e-4)
    assert max(abs(score) for score in scores[0]) > 1e-3
    assert {e["cell"] for e in record["results"]} == set(CELLS)


def test_a_model_that_is_saved_otherwise_than_trained_is_not_published(tmp_path, place, monkeypatch):
    original = run._merge

    def forgetful(prepared, *args):
        original(prepared, *args)
        weights = load_file(prepared.working / "model.safetensors")
        save_file(
            {**weights, "score.weight": weights["score.weight"] + 1},
            prepared.working / "model.safetensors",
            {"format": "pt"},
        )

    monkeypatch.setattr(run, "_merge", forgetful)
    with pytest.raises(RuntimeError, match="does not score as the trained one"):
        reward.main(place.arguments("demo_reward", tmp_path / "model", "--merge_adapter", "true"))
    assert not (tmp_path / "model").exists()


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
        (["--push_to_hub", "true"], "--push org/name"),
        (["--trust_remote_code", "true"], "trust_remote_code"),
        (["--merge_adapter", "true", "--use_peft", "false"], "merge_adapter"),
        (["--merge_adapter", "true", "--load_in_4bit", "true"], "quantised"),
        (["--max_length", "20"], "personas take more than 20 tokens"),
        (["--max_length", "70"], "max_dropped_share"),
        (["--output_dir", "trainer_output"], "output_dir"),
    ],
)
def test_recipes_that_are_refused_before_training(tmp_path, place, arguments, named):
    with pytest.raises(InputError, match=named):
        reward.main([*place.arguments("demo_reward", tmp_path / "model"), *arguments])
    assert not (tmp_path / "model").exists()


@pytest.mark.thorough
def test_accelerate_launch_runs_the_module(tmp_path, place):
    """By hand, as the guide shows it; `make test` starts it through `persona train` (tests/test_end_to_end.py)."""
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", "accelerate_configs/cpu.yaml"]
    arguments = place.arguments("training/recipes/demo_reward.yaml", tmp_path / "model", "--eval_max_rows", "0")
    done = subprocess.run(
        [*launch, "-m", "training.reward", *arguments],
        cwd=REPOSITORY,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert re.search(r"\[preflight\] train: 36 rows, 36 kept", done.stdout)
    assert (tmp_path / "model" / "training.json").is_file()


def test_input_errors_exit_with_code_2(monkeypatch, capsys):
    """Of a script that was started by hand; `persona train` passes them on (tests/test_command_line.py)."""
    monkeypatch.delenv("PERSONA_INPUT_ERROR_FILE", raising=False)
    monkeypatch.setattr(sys, "argv", ["training.dpo", "--config", "demo_dpo", "--dataset", "no-such-folder"])
    with pytest.raises(SystemExit) as ended:
        run_as_script(dpo.main)
    assert ended.value.code == 2
    assert "error: dataset is 'no-such-folder'" in capsys.readouterr().err


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
