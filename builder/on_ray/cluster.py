"""The Ray cluster that a build uses: one that is there, or one of this machine."""

import contextlib
import os
import socket
from collections.abc import Iterator
from typing import Any

from builder.errors import InputError

# Of a cluster that is started here. It holds what all shards share and the shards that are worked on; more than fits goes to disk.
OBJECT_STORE_BYTES = 512 * 2**20


@contextlib.contextmanager
def connected() -> Iterator[Any]:
    """The module `ray`, connected: to the cluster that this process is connected to, else to that of RAY_ADDRESS, else to one of this
    machine, which ends with the block.

    Raises InputError where Ray is missing or the cluster cannot be reached.
    """
    ray = import_ray()
    if ray.is_initialized():
        yield ray
        return
    connect(ray)
    try:
        yield ray
    finally:
        ray.shutdown()


def import_ray() -> Any:
    # Ray reports every cluster to its makers unless it is told not to.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise InputError(
            "--engine ray needs Ray, which is not installed. Run pip install 'persona-testbed[ray]', or leave --engine out."
        ) from None
    return ray


def connect(ray: Any) -> None:
    address = os.environ.get("RAY_ADDRESS") or "local"
    own = {"include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES} if address == "local" else {}
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        if port.isdigit():
            # Where nobody listens, Ray itself goes on trying for minutes.
            socket.create_connection((host, int(port)), timeout=10).close()
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", **own)
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(
            f"The Ray cluster of RAY_ADDRESS={address} cannot be used ({first_line(error)}). See with `ray status` that it runs, with "
            "the Python and the Ray of this machine, or unset RAY_ADDRESS to stay on this machine."
        ) from None


def first_line(error: BaseException) -> str:
    """Short enough for a message: Ray's own go on for pages."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
