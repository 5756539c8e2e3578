"""Which Hub a publishing test talks to: the one on 127.0.0.1, or the real one where a contributor gives a token and a name for it."""

import contextlib
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from tests.hub_server import WRITE_TOKEN, HubServer, client_variables, environment, hub_server

if TYPE_CHECKING:
    from huggingface_hub import HfApi

REAL_HUB = "https://huggingface.co"


@dataclass(frozen=True)
class HubTarget:
    """repo: a name that is free when the test begins. server: None on the real Hub, so what only the local one can do asks for it first."""

    endpoint: str
    repo: str
    token: str
    server: HubServer | None

    def api(self) -> "HfApi":
        from huggingface_hub import HfApi

        return HfApi(endpoint=self.endpoint, token=self.token)

    def environment(self, folder: Path) -> dict[str, str]:
        """The variables with which a process uses this Hub and keeps its cache in `folder`."""
        if self.server is not None:
            return environment(self.server, folder, self.token)
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING", "TRANSFORMERS_"))}
        return kept | client_variables(self.endpoint, folder, self.token)


@contextlib.contextmanager
def chosen_hub(patch: pytest.MonkeyPatch, folder: Path) -> Iterator[HubTarget]:
    """The real Hub where HF_TOKEN and PERSONA_TEST_HUB_REPO are set (the repositories are deleted afterwards), otherwise the local one."""
    token, name = os.environ.get("HF_TOKEN"), os.environ.get("PERSONA_TEST_HUB_REPO")
    if not (token and name):
        with hub_server() as server:
            point_clients_at(patch, server.base_url, WRITE_TOKEN, folder)
            without_waits(patch)
            yield HubTarget(server.base_url, "org/personas", WRITE_TOKEN, server)
        return
    point_clients_at(patch, REAL_HUB, token, folder)
    target = HubTarget(REAL_HUB, f"{name}-{uuid.uuid4().hex[:8]}", token, None)
    try:
        yield target
    finally:
        for kind in ("dataset", "model"):
            target.api().delete_repo(target.repo, repo_type=kind, missing_ok=True)


def point_clients_at(patch: pytest.MonkeyPatch, endpoint: str, token: str | None, folder: Path) -> None:
    """The clients that this process has imported use this Hub, this token and caches in `folder` until the test ends.

    They have read their addresses at import, long before a test knows the port, and a test that runs a command in a process of its own
    for each of twenty faults would take minutes.
    """
    import datasets.config
    from huggingface_hub import HfFileSystem, constants

    patch.setattr(constants, "ENDPOINT", endpoint)
    patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")
    patch.setattr(constants, "HF_HUB_OFFLINE", False)
    patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    patch.setattr(constants, "HF_HOME", str(folder))
    patch.setattr(constants, "HF_HUB_CACHE", str(folder / "hub"))
    patch.setattr(constants, "HF_TOKEN_PATH", str(folder / "token"))
    patch.setattr(constants, "HF_STORED_TOKENS_PATH", str(folder / "stored_tokens"))
    patch.setattr(datasets.config, "HF_ENDPOINT", endpoint)
    patch.setattr(datasets.config, "HUB_DATASETS_URL", endpoint + "/datasets/{repo_id}/resolve/{revision}/{path}")
    patch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    patch.setattr(datasets.config, "HF_DATASETS_OFFLINE", False)
    patch.setattr(datasets.config, "HF_DATASETS_CACHE", str(folder / "datasets"))
    for name, value in client_variables(endpoint, folder, token).items():
        patch.setenv(name, value)
    patch.delenv("HF_HUB_OFFLINE", raising=False)
    if token is None:
        patch.delenv("HF_TOKEN", raising=False)
    # Listings are kept by address and token, and the next test may get the same port.
    HfFileSystem.clear_instance_cache()


def without_waits(patch: pytest.MonkeyPatch) -> None:
    """The Hub client repeats a failed request up to five times and waits 23 seconds in all, and `datasets` a failed read twenty times,
    after five seconds each; here both repeat at once.
    """
    import datasets.config
    from huggingface_hub import file_download
    from huggingface_hub.utils import _http

    for module in (_http, file_download):
        patch.setattr(module, "time", SimpleNamespace(sleep=lambda _: None))
    patch.setattr(datasets.config, "STREAMING_READ_RETRY_INTERVAL", 0)
