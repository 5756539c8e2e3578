"""A small published folder with verdicts, marks and hostile texts, and the explorer on it over real HTTP."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from eval.explore.app import new_app
from eval.web.server import launch, stop
from tests.published_folder import Tables, write_published_folder

HOSTILE = "<script>alert('x')</script> & <img src=http://example.com/x.png onerror=alert(1)> 100 %_sure\\"
RARE = "zyzzyva"


def spoil(tables: Tables) -> None:
    """Something of everything that pages can show."""
    verdicts = ("chosen", "rejected", "tie", "unscored", None)
    for config in ("dpf", "contrast"):
        rows = [row for split in tables[config].values() for row in split]
        for number, row in enumerate(rows):
            row["judge_verdict"] = verdicts[number % len(verdicts)]
            row["length_violation"] = number % 3 == 0
            row["attribute_leak"] = number % 7 == 0
            row["topic"] = "life" if number % 2 else "work & <b>play</b>"
            if "flips" in row:
                row["flips"][0]["flip"] = number % 4 == 0
    first = tables["dpf"]["train"][0]
    first["critique"] = HOSTILE
    first["inferable_attributes"] = ["age", "big_five_scores"]
    tables["dpf"]["heldout_test"][-1]["chosen"][0]["content"] += f" {RARE.upper()}"
    person = tables["personas"]["train"][0]
    person |= {"religion": "Jain <i>", "sex": "Female", "profile": person["profile"] + " " + HOSTILE}
    person["provenance"] = {**person["provenance"], "age": "census", "religion": "sampled"}
    person["null_reasons"] = {**person["null_reasons"], "disability": "none"}
    tables["personas"]["train"][1]["age"] = 70
    for row in tables["personas"]["train"][1:]:
        row["religion"] = "Catholic"
    tables["judgements"] = {
        "train": [
            {
                "pair_id": first["pair_id"],
                "judge": "roleplay",
                "condition": condition,
                "order": order,
                "verdict": "chosen",
            }
            | {"probability": 0.75, "reason": "It fits <b>her</b>."}
            for condition in ("true", "none")
            for order in ("AB", "BA")
        ]
    }


@contextmanager
def explorer(dataset: str | Path, results: Path | None = None) -> Iterator[str]:
    """The address, without a slash at the end."""
    server: Any = new_app(str(dataset), results)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launch(server, "127.0.0.1", port, wait=False)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        stop(server)


@pytest.fixture(scope="session")
def small_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_published_folder(tmp_path_factory.mktemp("explored") / "data", seen=6, unseen=3, change=spoil)


@pytest.fixture(scope="session")
def address(small_folder: Path) -> Iterator[str]:
    with explorer(small_folder) as found:
        yield found


@pytest.fixture
def client(address: str) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=address, timeout=30) as found:
        yield found
