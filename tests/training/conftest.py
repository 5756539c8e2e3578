"""One tiny base model, one published folder and two trained models (a few steps each), shared by all training tests."""

import os
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest

from tests.published_folder import write_published_folder
from tests.tiny_model import build_tiny_model
from training import dpo, reward

TINY_ID = "persona-testbed/tiny"


@dataclass(frozen=True)
class Place:
    """Where the shared inputs are, and the arguments that every run has in common."""

    base: Path
    data: Path

    def arguments(self, recipe: str, output: Path, *more: str) -> list[str]:
        common = ["--config", recipe, "--dataset", str(self.data), "--model_name_or_path", str(self.base)]
        quick = [
            "--base_model_id",
            TINY_ID,
            "--max_steps",
            "3",
            "--learning_rate",
            "1e-2",
            "--logging_steps",
            "1",
            "--eval_max_rows",
            "24",
        ]
        return [*common, *quick, "--output_dir", str(output), *more]


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    root = tmp_path_factory.mktemp("training")
    return Place(build_tiny_model(root / "tiny"), write_published_folder(root / "data"))


@pytest.fixture(scope="session")
def dpo_folder(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dpo.main(place.arguments("demo_dpo", tmp_path_factory.mktemp("models") / "dpo"))


@pytest.fixture(scope="session")
def reward_folder(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return reward.main(place.arguments("demo_reward", tmp_path_factory.mktemp("models") / "reward"))
