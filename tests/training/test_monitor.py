"""Evaluation while training: its names, its figures, what it must not disturb, and the early stopping that rests on it."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from builder.errors import InputError
from training import dpo, monitor, reward, time_estimate
from training.trainers import NamedSplitsDPOTrainer, NamedSplitsRewardTrainer

pytestmark = pytest.mark.thorough

EVALUATED = ["--eval_strategy", "steps", "--eval_steps", "2"]
METRIC = "validation/contrast/gap_wrong"
STOPPING = [*EVALUATED, "--validation_share", "0.34", "--early_stopping_metric", METRIC]
# So that the weights after a step do not depend on how many are to come.
CONSTANT = ["--lr_scheduler_type", "constant", "--warmup_steps", "0"]
DROPOUT = ["--lora_dropout", "0.3", "--disable_dropout", "false"]


def record_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "training.json").read_text())


def history_of(folder: Path) -> list[dict[str, float]]:
    return record_of(folder)["run"]["history"]


def losses_of(folder: Path) -> list[float]:
    return [entry["loss"] for entry in history_of(folder) if "loss" in entry]


def assert_same_weights(first: Path, second: Path) -> None:
    weights, others = (load_file(folder / "adapter_model.safetensors") for folder in (first, second))
    assert all(torch.equal(weights[name], others[name]) for name in weights)


@pytest.mark.parametrize("kind", ["dpo", "reward"])
def test_live_figures_are_those_of_the_finished_model_and_disturb_nothing(tmp_path, place, kind):
    main = dpo.main if kind == "dpo" else reward.main
    common = [*DROPOUT, "--max_steps", "4", "--validation_share", "0.34"]
    evaluated = main(place.arguments(f"demo_{kind}", tmp_path / "evaluated", *common, *EVALUATED))
    plain = main(place.arguments(f"demo_{kind}", tmp_path / "plain", *common))
    assert losses_of(evaluated) == losses_of(plain)
    assert_same_weights(evaluated, plain)
    assert not (evaluated / "reference").exists()

    last = {key: value for entry in history_of(evaluated) if entry["step"] == 4 for key, value in entry.items()}
    record = record_of(evaluated)
    for entry in record["results"]:
        if entry["cell"] == "all":
            continue
        group, split = entry["cell"].split("/")
        for condition, outcome in entry["conditions"].items():
            share = (outcome["wins"] + outcome["ties"] / 2) / entry["rows"]
            assert last[f"{split}/{entry['config']}/{group}/{condition}"] == pytest.approx(share), entry["cell"]
    for split in ("validation", "seen_test", "heldout_test"):
        assert f"{split}/loss" in last
        assert last[f"{split}/contrast/none"] == 0.5
        gap = last[f"{split}/dpf/true"] - last[f"{split}/dpf/wrong"]
        assert last[f"{split}/dpf/gap_wrong"] == pytest.approx(gap)
    assert "heldout_test/contrast/worst_persona" not in last  # nobody has five rows
    assert not [key for key in last if key.startswith("eval_")]


def test_references_computed_before_training_serve_the_evaluation_too(tmp_path, place):
    folder = dpo.main(place.arguments("demo_dpo", tmp_path / "model", *EVALUATED, "--reference_persona", "false"))
    record = record_of(folder)
    assert "computed once" in record["run"]["reference"]
    assert "no persona" in record["run"]["reference"]
    assert [entry for entry in history_of(folder) if "seen_test/rewards/margins" in entry]


def test_divided_weights_have_no_live_controls_and_say_so(tmp_path, place, monkeypatch, capsys):
    monkeypatch.setattr(monitor, "sharded", lambda trainer: True)
    folder = reward.main(place.arguments("demo_reward", tmp_path / "model", *EVALUATED))
    assert "without persona controls" in capsys.readouterr().out
    assert [entry for entry in history_of(folder) if "seen_test/loss" in entry]
    assert not [key for entry in history_of(folder) for key in entry if "/gap_" in key]
    with pytest.raises(InputError, match="FSDP"):
        reward.main(place.arguments("demo_reward", tmp_path / "other", *STOPPING))


@pytest.fixture(scope="module")
def four_steps(place, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights after four steps of a run that was not evaluated."""
    short = [*CONSTANT, "--validation_share", "0.34", "--max_steps", "4", "--eval_max_rows", "0"]
    return reward.main(place.arguments("demo_reward", tmp_path_factory.mktemp("short") / "model", *short))


def scripted_gaps(monkeypatch: pytest.MonkeyPatch, gaps: dict[int, float]) -> None:
    """The metric as told for each step, whatever the model does."""
    original, step = monitor.control_figures, [0]

    def scores(self, plan):
        step[0] = self.trainer.state.global_step
        return [0.0] * len(plan.candidates)

    monkeypatch.setattr(monitor.Monitor, "_scores", scores)
    monkeypatch.setattr(monitor, "control_figures", lambda *args: original(*args) | {METRIC: gaps[step[0]]})


def test_the_best_weights_are_kept_when_the_gap_no_longer_rises(tmp_path, place, monkeypatch, four_steps):
    scripted_gaps(monkeypatch, {2: 0.1, 4: 0.3, 6: 0.2, 8: 0.3, 10: 0.9})
    stopping = [*STOPPING, *CONSTANT, "--early_stopping_patience", "2", "--max_steps", "20"]
    stopped = reward.main(place.arguments("demo_reward", tmp_path / "stopped", *stopping))
    assert_same_weights(stopped, four_steps)
    run = record_of(stopped)["run"]
    assert run["steps"] == 8
    assert run["early_stopping"]["best"] == {"step": 4, "value": 0.3}
    assert [entry["step"] for entry in run["early_stopping"]["evaluations"]] == [2, 4, 6, 8]
    assert not (stopped / "best").exists()


def test_the_best_weights_survive_an_interruption(tmp_path, place, monkeypatch, four_steps):
    scripted_gaps(monkeypatch, {2: 0.1, 4: 0.3, 6: 0.2, 8: 0.2})
    stopping = [*STOPPING, *CONSTANT, "--early_stopping_patience", "2", "--max_steps", "20"]
    # The last checkpoint is of step 3, so that the best evaluation, of step 4, comes twice.
    saving = ["--save_strategy", "steps", "--save_steps", "3"]
    arguments = place.arguments("demo_reward", tmp_path / "model", *stopping, *saving)
    original = NamedSplitsRewardTrainer.training_step

    def interrupted(self, *args, **kwargs):
        if self.state.global_step == 5:
            raise KeyboardInterrupt
        return original(self, *args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(NamedSplitsRewardTrainer, "training_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            reward.main(arguments)
    resumed = reward.main([*arguments, "--resume_from_checkpoint", "true"])
    run = record_of(resumed)["run"]
    assert run["early_stopping"]["best"] == {"step": 4, "value": 0.3}
    assert [entry["step"] for entry in run["early_stopping"]["evaluations"]] == [2, 4, 6, 8]
    assert_same_weights(resumed, four_steps)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([*STOPPING, "--early_stopping_metric", "validation/contrast/true"], "specificity gap"),
        ([*STOPPING, "--early_stopping_metric", "heldout_test/contrast/gap_wrong"], "specificity gap"),
        ([*STOPPING, "--early_stopping_metric", "eval_accuracy"], "specificity gap"),
        ([*STOPPING, "--dataset_configs", "dpf"], "validation/dpf/gap_none"),
        ([*STOPPING, "--validation_share", "0"], "validation_share"),
        ([*STOPPING, "--eval_strategy", "no"], "eval_strategy"),
        ([*STOPPING, "--eval_max_rows", "0"], "eval_max_rows"),
        ([*STOPPING, "--early_stopping_patience", "0"], "early_stopping_patience"),
        ([*STOPPING, "--eval_steps", "50"], "eval_steps"),
        (["--report_to", "mlflow"], "trackio, wandb, tensorboard"),
    ],
)
def test_what_is_refused_before_the_first_step(tmp_path, place, monkeypatch, arguments, named):
    monkeypatch.setattr(NamedSplitsRewardTrainer, "training_step", None)
    with pytest.raises(InputError, match=named):
        reward.main(place.arguments("demo_reward", tmp_path / "model", *arguments))


@pytest.mark.parametrize("tracker", ["trackio", "wandb", "tensorboard"])
def test_a_missing_tracker_says_what_to_install(tmp_path, place, monkeypatch, tracker):
    monkeypatch.setitem(monitor.TRACKERS, tracker, lambda: False)
    with pytest.raises(InputError, match=f"pip install {tracker}"):
        dpo.main(place.arguments("demo_dpo", tmp_path / "model", "--report_to", tracker))


def test_tensorboard_reads_every_split_under_its_own_name(tmp_path, place):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    folder = dpo.main(place.arguments("demo_dpo", tmp_path / "model", *EVALUATED, "--report_to", "tensorboard"))
    events = accumulator.EventAccumulator(str(tmp_path / "model.tensorboard"))
    events.Reload()
    tags = set(events.Tags()["scalars"])
    for split in ("seen_test", "heldout_test"):
        assert {f"train/{split}/contrast/gap_wrong", f"train/{split}/rewards/accuracies"} <= tags
    logged = [
        entry["heldout_test/contrast/true"]
        for entry in history_of(folder)
        if "heldout_test/loss" not in entry and "heldout_test/contrast/true" in entry
    ]
    assert [event.value for event in events.Scalars("train/heldout_test/contrast/true")] == pytest.approx(logged)
    # Its files name paths of this machine.
    assert not list(folder.rglob("*tfevents*"))


def test_the_time_is_estimated_without_a_trace(tmp_path, place, monkeypatch, capsys):
    common = [*DROPOUT, "--gradient_accumulation_steps", "2"]
    timed = dpo.main(place.arguments("demo_dpo", tmp_path / "timed", *common))
    said = capsys.readouterr().out
    assert re.search(r"\[preflight\] estimated: 3 steps, about \d+\.\d min \(\d+\.\d\d s a step", said)
    assert said.index("[preflight] reference: the same model with its adapter disabled") < said.index("estimated")
    estimated = record_of(timed)["run"]["estimated"]
    assert estimated["steps"] == 3
    assert estimated["seconds_a_step"] > 0
    assert set(record_of(timed)["data"]["shortcuts"]["heldout_test, dpf"]) == {"length", "majority"}
    monkeypatch.setattr(time_estimate.TimeEstimate, "on_train_begin", lambda *_, **__: None)
    plain = dpo.main(place.arguments("demo_dpo", tmp_path / "plain", *common))
    assert_same_weights(timed, plain)
    first, second = (
        [
            {k: v for k, v in entry.items() if "runtime" not in k and "per_second" not in k}
            for entry in history_of(folder)
        ]
        for folder in (timed, plain)
    )
    assert first == second


def test_the_estimate_times_real_batches(tmp_path, place, monkeypatch):
    seen = []
    original = NamedSplitsDPOTrainer.compute_loss

    def watched(self, model, inputs, *args, **kwargs):
        if self.state.global_step == 0:
            seen.append(inputs["input_ids"].shape)
        return original(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(NamedSplitsDPOTrainer, "compute_loss", watched)
    dpo.main(place.arguments("demo_dpo", tmp_path / "model", "--eval_max_rows", "0"))
    assert [shape[0] for shape in seen] == [4, 4, 4]  # two for the estimate, one of the first step: two pairs each
