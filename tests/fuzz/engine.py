"""One input on one target, and many of them until the time is out."""

import contextlib
import hashlib
import signal
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, ModuleType

from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings

from builder.errors import InputError
from tests.fuzz.mutations import Files

SECONDS = 5.0  # of processor time, so that a busy machine is no hang; a sound input takes a hundredth of it
INPUTS_A_ROUND = 500
# Making and removing a folder on a disk takes longer than most inputs.
IN_MEMORY = Path("/dev/shm") if Path("/dev/shm").is_dir() else None


class Hang(BaseException):
    """No Exception, so that no parser takes it for one of its own errors."""


@dataclass
class Count:
    inputs: int = 0
    refused: int = 0


@dataclass(frozen=True)
class Crash:
    """The smallest input found that gives the error. round: of the run, which began with `seed`."""

    files: Files
    trace: str
    round: int = 0


def try_input(target: ModuleType, files: Files, seconds: float = SECONDS) -> str | None:
    """The message of the InputError with which the input is refused; None where it is read.

    Raises whatever else the target raises; AssertionError where it works longer than `seconds`, and for a message that says nothing.
    """
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=IN_MEMORY) as scratch:
        folder = Path(scratch)
        for name, content in files.items():
            (folder / name).write_bytes(content)
        try:
            with time_limit(seconds):
                target.check(folder, files)
        except InputError as error:
            said = str(error)
        except Hang:
            raise AssertionError(f"no answer after {seconds} seconds of work") from None
        else:
            return None
    assert said.strip(), "an InputError without a message"
    return said


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    def stop(_number: int, _frame: FrameType | None) -> None:
        raise Hang

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def run_round(
    target: ModuleType, number: int, inputs: int, count: Count, note: Callable[[Files], None] = lambda files: None
) -> Crash | None:
    """`inputs` inputs that follow from the number of the round alone. note: is told each before it is tried."""
    failed: list[Files] = []

    @seed(number)
    @settings(
        max_examples=inputs,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
        print_blob=False,
        verbosity=Verbosity.quiet,
    )
    @given(target.inputs())
    def one(files: Files) -> None:
        note(files)
        count.inputs += 1
        try:
            count.refused += try_input(target, files) is not None
        except Exception:
            failed.append(files)
            raise

    try:
        one()
    except Exception:
        # Hypothesis tries the smallest one last.
        return Crash(failed[-1] if failed else {}, traceback.format_exc(), number)
    return None


def run_for(
    target: ModuleType,
    first_round: int,
    seconds: float,
    say: Callable[[str], None],
    note: Callable[[Files], None] = lambda files: None,
) -> tuple[Count, Crash | None]:
    count, begun, number = Count(), time.monotonic(), first_round
    said = begun
    while time.monotonic() - begun < seconds:
        crash = run_round(target, number, INPUTS_A_ROUND, count, note)
        if crash is not None:
            return count, crash
        number += 1
        if time.monotonic() - said > 10:
            said = time.monotonic()
            say(progress(count, time.monotonic() - begun, seconds))
    say(progress(count, time.monotonic() - begun, seconds))
    return count, None


def progress(count: Count, passed: float, seconds: float) -> str:
    left = max(0, round(seconds - passed))
    return (
        f"{count.inputs:,} inputs, {count.inputs / max(passed, 0.001):.0f} a second, {count.refused / max(count.inputs, 1):.0%} refused, "
        f"{left // 60}:{left % 60:02d} left"
    )


def write_crash(folder: Path, name: str, crash: Crash) -> Path:
    """Everything that is needed to repeat it: the input whole, as an entry of regressions.py, the seed and the traceback."""
    digest = hashlib.sha256(repr(crash.files).encode()).hexdigest()[:12]
    path = folder / f"fuzz-{name}-{digest}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f"Target {name}, round {crash.round}. To keep it, add to CASES in tests/fuzz/regressions.py:\n"
        f'    ("{name}", {crash.files!r}),\n\n{crash.trace}',
        encoding="utf-8",
        errors="backslashreplace",
    )
    return path
