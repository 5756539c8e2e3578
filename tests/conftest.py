"""For all tests: no Hub, no telemetry, and one tiny model for the whole run."""

import functools
import gc
import json
import os
import shutil
import tempfile

# Tables that tests load go to a cache of their own, which is removed at the end.
os.environ["HF_DATASETS_CACHE"] = tempfile.mkdtemp(prefix="persona-tests-")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, settings

from dataset_card import figures
from tests.hub_server import WRITE_TOKEN, HubServer, hub_server
from tests.hub_target import HubTarget, chosen_hub, point_clients_at, without_waits
from tests.tiny_model import build_tiny_model

# No test depends on how fast it runs.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")
# Several threads on a model this small only wait for one another.
torch.set_num_threads(1)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[Any]:
    """Half a million objects of libraries and tests come into being here, to stay. Going through them again and again took a third of the
    time of this, and then a second of every training, which frees its memory by full collections.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_unconfigure() -> None:
    shutil.rmtree(os.environ["HF_DATASETS_CACHE"], ignore_errors=True)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(Path(tmp_path_factory.mktemp("tiny")) / "model")


def kept(drawn: Callable[[Mapping[str, Mapping[str, int]]], bytes]) -> Callable[..., bytes]:
    """Each figure drawn once: the two of a published folder take longer than the rest of it, and most tests publish the same counts."""

    @functools.cache
    def draw(counts: str) -> bytes:
        return drawn(json.loads(counts))

    return lambda counts: draw(json.dumps(counts))


@pytest.fixture(autouse=True, scope="session")
def _figures_drawn_once() -> Iterator[None]:
    """Where they are drawn for a folder; tests of the figures themselves call them by their own names."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "topic_figure", kept(figures.topic_figure))
        patch.setattr(figures, "persona_figure", kept(figures.persona_figure))
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with real PUMS and PRISM files; tests that use it carry the marker `shared_data`."""
    folder = os.environ.get("PERSONA_SHARED_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("PERSONA_SHARED_DATA names no folder with real census and PRISM files")
    return Path(folder)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubServer]:
    """An empty Hub on 127.0.0.1 that the Hub clients of this process use, with a token that may write."""
    with hub_server() as server:
        point_clients_at(monkeypatch, server.base_url, WRITE_TOKEN, tmp_path_factory.mktemp("hub"))
        without_waits(monkeypatch)
        yield server


@pytest.fixture
def hub_target(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubTarget]:
    """As `hub`, or the real Hub where HF_TOKEN and PERSONA_TEST_HUB_REPO are set."""
    with chosen_hub(monkeypatch, tmp_path_factory.mktemp("hub")) as target:
        yield target
