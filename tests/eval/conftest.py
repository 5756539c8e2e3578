"""One published folder large enough for shares to be printed, a tiny base model, and two models of a few steps."""

import os
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest

from tests.published_folder import write_published_folder
from tests.tiny_model import build_tiny_model


@dataclass(frozen=True)
class Trained:
    """`base`: the folder of the untrained model."""

    base: Path
    models: list[Path]


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_published_folder(tmp_path_factory.mktemp("published") / "data", seen=24, unseen=6)


@pytest.fixture(scope="session")
def trained(published: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    import torch

    from training import dpo, reward

    torch.set_num_threads(1)  # several threads on a model this small only wait for one another
    root = tmp_path_factory.mktemp("trained")
    base = build_tiny_model(root / "tiny")
    common = [
        "--dataset",
        str(published),
        "--model_name_or_path",
        str(base),
        "--max_steps",
        "3",
        "--logging_steps",
        "1",
        "--eval_max_rows",
        "4",
    ]
    folders = [
        method.main(["--config", f"demo_{name}", *common, "--learning_rate", "1e-2", "--output_dir", str(root / name)])
        for name, method in (("dpo", dpo), ("reward", reward))
    ]
    return Trained(base, folders)
