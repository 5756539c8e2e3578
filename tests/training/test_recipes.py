"""Every loss recipe trains, and its loss is the formula that its first lines promise."""

import json
import math
from pathlib import Path

import pytest
import torch

from builder.errors import InputError
from builder.schema import preference_messages
from tests.published_folder import Tables, write_published_folder
from training import dpo, reward
from training.trainers import NamedSplitsDPOTrainer, NamedSplitsRewardTrainer

pytestmark = pytest.mark.thorough

# What a GPU recipe needs to run here.
HERE = ["--use_cpu", "true", "--bf16", "false", "--dtype", "float32", "--gradient_checkpointing", "false"]
HERE += ["--dataset_num_proc", "1", "--per_device_train_batch_size", "4", "--gradient_accumulation_steps", "1"]
HERE += ["--dataloader_pin_memory", "false", "--warmup_steps", "0", "--eval_max_rows", "0", "--max_length", "320"]


def logistic(x: torch.Tensor) -> torch.Tensor:
    """-log sigma(x)"""
    return torch.log1p(torch.exp(-x))


FORMULAS = {
    "dpo": lambda h, _: logistic(0.1 * h),
    "dpo_ipo": lambda _, h_a_token: (h_a_token - 1 / 2) ** 2,
    "dpo_cdpo": lambda h, _: 0.96 * logistic(0.1 * h) + 0.04 * logistic(-0.1 * h),
    "dpo_robust": lambda h, _: (0.96 * logistic(0.1 * h) - 0.04 * logistic(-0.1 * h)) / 0.92,
    "dpo_group_robust": lambda h, _: logistic(0.1 * h),
    "dpo_blind_reference": lambda h, _: logistic(0.1 * h),
    "dpo_blind": lambda h, _: logistic(0.1 * h),
}


def with_views(tables: Tables) -> None:
    profiles = {}
    for place, row in enumerate(tables["personas"]["train"]):
        views = "Left" if place % 3 else "Right"
        row["profile"] = profiles[row["persona_id"]] = (
            f"About the person asking:\nAge: {40 + place}\nPolitical views: {views}"
        )
    for config in ("dpf", "contrast"):
        for rows in tables[config].values():
            for row in rows:
                row["prompt"] = preference_messages(profiles[row["persona_id"]], row["prompt"][1]["content"])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_published_folder(tmp_path_factory.mktemp("recipes") / "data", change=with_views)


def log_probabilities(model, inputs) -> tuple[torch.Tensor, torch.Tensor]:
    """(rows,) log-probability of each answer by the model's plain logits, and its tokens."""
    logits = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits[:, :-1]
    single = logits.log_softmax(dim=-1).gather(2, inputs["input_ids"][:, 1:, None])[..., 0]
    mask = inputs["completion_mask"][:, 1:]
    return (single * mask).sum(dim=1), mask.sum(dim=1)


@pytest.mark.parametrize("recipe", FORMULAS)
def test_the_loss_of_a_dpo_recipe_is_its_formula(tmp_path, place, data, monkeypatch, recipe):
    compared = []
    original = NamedSplitsDPOTrainer.compute_loss

    def watched(self, model, inputs, *args, **kwargs):
        copied = dict(inputs)
        loss = original(self, model, inputs, *args, **kwargs)
        if self.state.global_step == 0:  # policy and reference are still the same
            return loss
        with torch.no_grad():
            policy, tokens = log_probabilities(model, copied)
            if "ref_chosen_logps" in copied:
                reference = torch.cat([copied["ref_chosen_logps"], copied["ref_rejected_logps"]])
            else:
                with model.disable_adapter():
                    reference, _ = log_probabilities(model, copied)
        ratios = policy - reference
        chosen, rejected = ratios.chunk(2)
        chosen_a_token, rejected_a_token = (ratios / tokens).chunk(2)
        rows = FORMULAS[recipe](chosen - rejected, chosen_a_token - rejected_a_token)
        if self.group_weights is not None:
            rows = rows * self.group_weights.of_rows(copied["robust_group"])
        compared.append((loss.item(), rows.mean().item(), (chosen - rejected).abs().max().item()))
        return loss

    monkeypatch.setattr(NamedSplitsDPOTrainer, "compute_loss", watched)
    plain = ["--label_smoothing", "0"] if recipe == "dpo" else []
    folder = dpo.main(place.arguments(recipe, tmp_path / "model", *HERE, *plain, "--dataset", str(data)))
    assert len(compared) == 2
    for loss, by_hand, difference in compared:
        assert loss == pytest.approx(by_hand, rel=1e-4)
        assert difference > 1e-3
    record = json.loads((folder / "training.json").read_text())
    losses = [entry["loss"] for entry in record["run"]["history"] if "loss" in entry]
    assert len(losses) == 3
    assert all(math.isfinite(loss) for loss in losses)
    assert ("groups" in record["run"]) == (recipe == "dpo_group_robust")
    assert record["persona"] == ("none" if recipe == "dpo_blind" else "full")
    assert record["reference_persona"] == (recipe != "dpo_blind_reference")


@pytest.mark.parametrize("recipe", ["reward", "reward_blind"])
def test_the_loss_of_a_reward_recipe_is_bradley_terry(tmp_path, place, data, monkeypatch, recipe):
    compared = []
    original = NamedSplitsRewardTrainer.compute_loss

    def watched(self, model, inputs, *args, **kwargs):
        copied = {name: inputs[name] for name in ("input_ids", "attention_mask")}
        loss = original(self, model, inputs, *args, **kwargs)
        with torch.no_grad():
            chosen, rejected = model(**copied).logits[:, 0].chunk(2)
        compared.append((loss.item(), (logistic(chosen - rejected) + 0.01 * (chosen + rejected) ** 2).mean().item()))
        return loss

    monkeypatch.setattr(NamedSplitsRewardTrainer, "compute_loss", watched)
    folder = reward.main(place.arguments(recipe, tmp_path / "model", *HERE, "--dataset", str(data)))
    assert len(compared) >= 3
    for loss, by_hand in compared:
        assert loss == pytest.approx(by_hand, rel=1e-4)
    record = json.loads((folder / "training.json").read_text())
    assert record["persona"] == ("none" if recipe == "reward_blind" else "full")


@pytest.mark.parametrize(
    ("losses", "smoothing", "named"),
    [(["ipo"], "0.1", "loss_type ipo"), (["sigmoid", "sft"], "0.1", "sigmoid, sft"), (["sigmoid"], "0.5", "below 0.5")],
)
def test_label_smoothing_without_effect_is_refused(tmp_path, place, losses, smoothing, named):
    arguments = place.arguments("demo_dpo", tmp_path / "model", "--loss_type", *losses, "--label_smoothing", smoothing)
    with pytest.raises(InputError, match=named):
        dpo.main(arguments)
