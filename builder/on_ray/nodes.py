"""What every node must have: the build's folder, this code, and the keys. Asked before anything is spent."""

import contextlib
import os
import socket
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from builder.errors import InputError
from builder.on_ray.cluster import first_line
from builder.on_ray.resources import SHARD_ROLES
from builder.ownership import code_hash
from builder.recipe import ModelsRecipe


def refuse_unfit_nodes(ray: Any, folder: Path, models: ModelsRecipe) -> None:
    """Raises InputError for a node that does not see the build's folder, misses a key, or would work with other code."""
    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]
    if not nodes:
        raise InputError("The Ray cluster has no node with a processor. Add nodes to it, or unset RAY_ADDRESS.")
    keys = sorted({getattr(models, role).api_key_env for role in SHARD_ROLES} - {None})
    # Names that begin as the lock's do are no sign of another's folder, should this process be killed here.
    probe = folder.resolve() / f".lock-{uuid.uuid4().hex}"
    answers = [Path(f"{probe}-{number}") for number in range(len(nodes))]
    try:
        probe.write_text(probe.name)
        for node, answer in zip(nodes, answers, strict=True):
            where = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            task = ray.remote(num_cpus=0, scheduling_strategy=where)(look_around)
            seen = task.remote(probe, answer, Path.cwd(), keys)
            refuse_unfit_node(ray, node["NodeManagerAddress"], folder, seen, answer)
    finally:
        for path in (probe, *answers):
            path.unlink(missing_ok=True)


def refuse_unfit_node(ray: Any, node: str, folder: Path, reference: Any, answer: Path) -> None:
    try:
        seen = ray.get(reference)
    except ray.exceptions.RayError as error:
        raise InputError(
            f"The Ray node {node} cannot work on this build ({first_line(getattr(error, 'cause', None) or error)}). Install the same "
            "version of this project there, in the same Python as here."
        ) from None
    if not (seen["folder"] and answer.is_file()):
        raise InputError(
            f"The Ray node {node} does not see {folder} as this machine does. Give an --out folder on a file system that all nodes "
            "share, under the same path."
        )
    if not seen["started_in"]:
        raise InputError(
            f"The Ray node {node} has no folder {Path.cwd()}, from which files of the recipe are named. Start the build in a folder that "
            "all nodes share."
        )
    if seen["code"] != code_hash():
        raise InputError(
            f"The Ray node {node} has other code of this project than this machine. Install the same version."
        )
    if seen["unset"]:
        raise InputError(
            f"The environment variable {seen['unset'][0]}, which the recipe names as a key, is not set on the Ray node {node}. Export it "
            "there before `ray start`: a node's workers see the environment that Ray was started in."
        )


def look_around(probe: Path, answer: Path, started_in: Path, keys: Sequence[str]) -> dict[str, Any]:
    """On a node: does it read and write where the driver does?"""
    sees = False
    with contextlib.suppress(OSError):
        sees = probe.read_text() == probe.name
        answer.write_text(socket.gethostname())
    return {
        "folder": sees,
        "started_in": started_in.is_dir(),
        "code": code_hash(),
        "unset": [key for key in keys if not os.environ.get(key)],
    }
