"""For all tests: no Hub, no telemetry, and one tiny model for the whole run."""

import os
import shutil
import tempfile

# Tables that tests load go to a cache of their own, which is removed at the end.
os.environ["HF_DATASETS_CACHE"] = tempfile.mkdtemp(prefix="persona-tests-")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from pathlib import Path

import pytest
import torch

from tests.tiny_model import build_tiny_model

# Several threads on a model this small only wait for one another.
torch.set_num_threads(1)


def pytest_unconfigure() -> None:
    shutil.rmtree(os.environ["HF_DATASETS_CACHE"], ignore_errors=True)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(Path(tmp_path_factory.mktemp("tiny")) / "model")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with real PUMS and PRISM files; tests that use it carry the marker `shared_data`."""
    folder = os.environ.get("PERSONA_SHARED_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("PERSONA_SHARED_DATA names no folder with real census and PRISM files")
    return Path(folder)
