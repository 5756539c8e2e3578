"""Waiting for what another process or thread does: looked for again and again, with an end, and never for a fixed time."""

import time
from collections.abc import Callable

LOOK_SECONDS = 0.02


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Returns as soon as the condition holds; AssertionError with `what` where it does not within `seconds`."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what}: not seen within {seconds} s"
        time.sleep(LOOK_SECONDS)
