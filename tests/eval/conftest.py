"""One published folder large enough for shares to be printed, a tiny base model, and two models of a few steps."""

import os
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest

from tests.published_folder import write_published_folder
from tests.tiny_model import build_tiny_model


@dataclass(frozen=True)
class Trained:
    """`base`: the folder of the untrained model. `models`: DPO and reward, with the usual prompts. `unusual`: a DPO model shown labelled
    pairs, whose reference sees no persona, and a reward model with the persona in the user's message.
    """

    base: Path
    models: list[Path]
    unusual: list[Path]


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
        "--learning_rate",
        "1e-2",
    ]
    few, all_rows = ["--eval_max_rows", "4"], ["--eval_max_rows", "1000"]
    unusual = {
        "dpo": ["--persona", "few_shot", "--few_shot_pairs", "2", "--reference_persona", "false"],
        "reward": ["--persona_role", "user"],
    }

    def train(name: str, method: ModuleType, output: Path, more: list[str]) -> Path:
        folder: Path = method.main(["--config", f"demo_{name}", *common, *more, "--output_dir", str(output)])
        return folder

    methods = {"dpo": dpo, "reward": reward}
    return Trained(
        base,
        [train(name, method, root / name, few) for name, method in methods.items()],
        [
            train(name, method, root / f"unusual-{name}", [*unusual[name], *all_rows])
            for name, method in methods.items()
        ],
    )
