"""One published folder large enough for shares to be printed, a tiny base model, two models of a few steps, and two unusual ones."""

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
    """`base`: the folder of the untrained model. `models`: DPO and reward, with the usual prompts."""

    base: Path
    models: list[Path]


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_published_folder(tmp_path_factory.mktemp("published") / "data", seen=24, unseen=6)


@pytest.fixture(scope="session")
def trained(published: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    root = tmp_path_factory.mktemp("trained")
    base = build_tiny_model(root / "tiny")
    return Trained(
        base, [train(name, published, base, root / name, "--eval_max_rows", "4") for name in ("dpo", "reward")]
    )


@pytest.fixture(scope="session")
def unusual(published: Path, trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A DPO model shown labelled pairs, whose reference sees no persona, and a reward model with the persona in the user's message."""
    root = tmp_path_factory.mktemp("unusual")
    options = {
        "dpo": ["--persona", "few_shot", "--few_shot_pairs", "2", "--reference_persona", "false"],
        "reward": ["--persona_role", "user"],
    }
    return [
        train(name, published, trained.base, root / f"unusual-{name}", *more, "--eval_max_rows", "1000")
        for name, more in options.items()
    ]


def train(method: str, published: Path, base: Path, output: Path, *more: str) -> Path:
    import torch

    from training import dpo, reward

    torch.set_num_threads(1)  # several threads on a model this small only wait for one another
    common = ["--config", f"demo_{method}", "--dataset", str(published), "--model_name_or_path", str(base)]
    quick = ["--max_steps", "3", "--logging_steps", "1", "--learning_rate", "1e-2", "--output_dir", str(output)]
    main = {"dpo": dpo.main, "reward": reward.main}[method]
    folder: Path = main([*common, *quick, *more])
    return folder
