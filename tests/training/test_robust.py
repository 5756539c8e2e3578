"""Group-robust weighting on rows of which a small group wants the opposite of the others."""

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from builder.errors import InputError
from builder.schema import assistant_message, preference_messages
from tests.published_folder import Tables, write_published_folder
from tests.training.conftest import Place
from training import dpo, reward
from training.robust import GroupWeights
from training.scoring import load_reward_model, score_rewards
from training.trainers import NamedSplitsRewardTrainer

pytestmark = pytest.mark.thorough

# Blind, so that no model can serve both groups; five personas of the large group, one of the small one.
COMMON = ["--dataset_configs", "dpf", "--persona", "none", "--per_device_train_batch_size", "6", "--eval_max_rows", "0"]
COMMON += ["--lr_scheduler_type", "constant", "--warmup_steps", "0", "--center_rewards_coefficient", "0"]


def disagree(tables: Tables) -> None:
    """Everybody prefers `yes` to `no`, but for the last seen persona."""
    profiles = {}
    for place, row in enumerate(tables["personas"]["train"]):
        faith = "Small" if place == 5 else "Large"
        row["profile"] = profiles[row["persona_id"]] = f"About the person asking:\nAge: {30 + place}\nReligion: {faith}"
    for config in ("dpf", "contrast"):
        for rows in tables[config].values():
            for row in rows:
                own = profiles[row["persona_id"]]
                row["prompt"] = preference_messages(own, row["prompt"][1]["content"])
                texts = [assistant_message("Yes, I like it."), assistant_message("No, not at all.")]
                row["chosen"], row["rejected"] = texts[::-1] if "Small" in own else texts


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_published_folder(tmp_path_factory.mktemp("robust") / "data", seen=6, change=disagree)


def trained(place: Place, data: Path, folder: Path, *more: str) -> Path:
    return reward.main(place.arguments("demo_reward", folder, *COMMON, "--dataset", str(data), *more))


def group_losses(place: Place, folder: Path) -> list[float]:
    """Bradley-Terry loss of the large and of the small group, over the three questions of train."""
    model = load_reward_model(folder, base_model=str(place.base))
    prompts = [
        preference_messages(None, f"What do you think about {subject}?")
        for subject in ("working late", "eating meat", "paying taxes")
    ]
    yes = score_rewards(model, [(prompt, "Yes, I like it.") for prompt in prompts])
    no = score_rewards(model, [(prompt, "No, not at all.") for prompt in prompts])
    margins = [a - b for a, b in zip(yes, no, strict=True)]
    return [sum(math.log1p(math.exp(-sign * margin)) for margin in margins) / 3 for sign in (1, -1)]


def groups_of(folder: Path) -> dict:
    return json.loads((folder / "training.json").read_text())["run"]["groups"]


def test_the_worst_group_is_served_better_than_by_plain_training(tmp_path, place, data):
    steps = ["--max_steps", "60"]
    plain = group_losses(place, trained(place, data, tmp_path / "plain", *steps))
    folder = trained(place, data, tmp_path / "robust", *steps, "--robust_groups", "religion", "--robust_step", "0.3")
    robust = group_losses(place, folder)
    assert max(plain) == plain[1] > 1.2
    assert max(robust) < 0.9
    weights = {entry["value"]: entry for entry in groups_of(folder)["values"]}
    assert weights["Small"]["share_of_rows"] == pytest.approx(1 / 6)
    assert weights["Small"]["weight"] > 0.3
    assert weights["Small"]["weight"] + weights["Large"]["weight"] == pytest.approx(1)
    history = json.loads((folder / "training.json").read_text())["run"]["history"]
    assert history[0]["group_weight/Large"] == pytest.approx(5 / 6, abs=0.1)
    assert "group_loss/Small" in history[0]


@pytest.mark.parametrize("kind", ["dpo", "reward"])
def test_with_eta_0_it_is_the_plain_training(tmp_path, place, data, kind):
    main = dpo.main if kind == "dpo" else reward.main
    common = COMMON[:-2] if kind == "dpo" else COMMON
    robust = ["--robust_groups", "religion", "--robust_step", "0"]
    folders = [
        main(place.arguments(f"demo_{kind}", tmp_path / name, *common, "--dataset", str(data), *more))
        for name, more in (("plain", []), ("robust", robust))
    ]
    plain, weighted = (load_file(folder / "adapter_model.safetensors") for folder in folders)
    assert all(torch.allclose(plain[name], weighted[name], atol=2e-4) for name in plain)
    losses = [
        [
            entry["loss"]
            for entry in json.loads((folder / "training.json").read_text())["run"]["history"]
            if "loss" in entry
        ]
        for folder in folders
    ]
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)


def test_a_resumed_run_goes_on_with_its_weights(tmp_path, place, data, monkeypatch):
    robust = ["--robust_groups", "religion", "--robust_step", "0.5", "--max_steps", "6"]
    robust += ["--save_strategy", "steps", "--save_steps", "2"]
    whole = trained(place, data, tmp_path / "whole", *robust)
    original = NamedSplitsRewardTrainer.training_step

    def interrupted(self, *args, **kwargs):
        if self.state.global_step == 4:
            raise KeyboardInterrupt
        return original(self, *args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(NamedSplitsRewardTrainer, "training_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            trained(place, data, tmp_path / "model", *robust)
    resumed = trained(place, data, tmp_path / "model", *robust, "--resume_from_checkpoint", "true")
    assert groups_of(resumed) == groups_of(whole)
    first, second = (load_file(folder / "adapter_model.safetensors") for folder in (whole, resumed))
    assert all(torch.allclose(first[name], second[name], atol=1e-6) for name in first)


def test_weights_follow_the_losses_and_their_estimate_is_unbiased():
    weights = GroupWeights(["a", "b"], [0.75, 0.25], step=1.0)
    groups, losses = torch.tensor([0, 0, 0, 1]), torch.tensor([1.0, 2.0, 3.0, 8.0])
    # As many rows of each group as its share says: the estimates are the groups' mean losses.
    assert weights.estimates(groups, losses).tolist() == [2.0, 8.0]
    assert weights.estimates(groups[:3], losses[:3]).tolist() == pytest.approx([8 / 3, 0.0])
    assert weights.of_rows(groups).tolist() == pytest.approx([1.0] * 4)
    weights.move(torch.tensor([2.0, 3.0]))
    assert weights.weights().tolist() == pytest.approx([3 / (3 + math.e), math.e / (3 + math.e)])
    weights.move(torch.tensor([0.0, 5000.0]))
    assert weights.weights().tolist() == pytest.approx([0, 1])


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--robust_groups", "shoe_size"], "attribute of the profiles"),
        (["--robust_groups", "sex"], "1 values"),
        (["--robust_groups", "religion", "--robust_step", "-1"], "robust_step"),
    ],
)
def test_groups_that_cannot_be_used(tmp_path, place, data, arguments, named):
    with pytest.raises(InputError, match=named):
        trained(place, data, tmp_path / "model", *arguments)


def test_a_loss_that_joins_rows_cannot_be_weighed(tmp_path, place, data):
    arguments = ["--dataset", str(data), "--robust_groups", "religion", "--loss_type", "aot"]
    with pytest.raises(InputError, match="aot"):
        dpo.main(place.arguments("demo_dpo", tmp_path / "model", *arguments))
