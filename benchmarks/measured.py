"""A command in a fresh process, and what it took: seconds, memory with all processes that it starts, bytes written."""

import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
SAMPLE_SECONDS = 0.5
BLOCK = 512  # bytes; the unit of ru_oublock on Linux
# Of the commands here nothing may reach a Hub that it was not pointed at, or report its use.
QUIET = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "TOKENIZERS_PARALLELISM": "false"}


@dataclass(frozen=True)
class Measured:
    """said: standard output. cpu: processor seconds of the command and all processes under it; they hardly change when others use the
    machine too. peak_gib: resident memory of the largest process, the kernel's own figure; no less than this program's own, of which every
    child is a copy at first. together_gib: of all of them at one time, sampled; what is mapped from files counts once, in the process that
    has most of it. own_gib: the part of it that no file backs; what a fork still shares with its parent counts in both. written: bytes
    handed to the disk. The last three are None off Linux.
    """

    said: str
    seconds: float
    cpu: float
    peak_gib: float
    together_gib: float | None
    own_gib: float | None
    written: int | None


def run_measured(command: list[str], variables: dict[str, str] | None = None, log: Path | None = None) -> Measured:
    """variables: added to the environment, from which those of the Hub's libraries are taken out first. log: where standard error goes.

    Ends the program, with the end of what the command complained of, if it fails.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    started = time.monotonic()
    with log.open("wb+") if log else tempfile.TemporaryFile() as complaints:
        process = subprocess.Popen(
            command, cwd=ROOT, env=kept | (variables or {}), stdout=subprocess.PIPE, stderr=complaints
        )
        assert process.stdout is not None
        watch = _Watch(process.pid)
        watch.start()
        said = process.stdout.read().decode()
        # wait4 gives the memory of this child and its own children; RUSAGE_CHILDREN would give the largest of all so far.
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - started
        watch.ended.set()
        watch.join()
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            complaints.seek(0)
            words = " ".join(command)
            raise SystemExit(f"{words[:1000]} failed:\n{said[-2000:]}\n{complaints.read().decode()[-4000:]}")
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 2**30
    linux = sys.platform == "linux"
    return Measured(
        said=said,
        seconds=seconds,
        cpu=usage.ru_utime + usage.ru_stime,
        peak_gib=peak,
        # The samples may have missed the moment that the kernel saw.
        together_gib=max(watch.together / 2**30, peak) if linux else None,
        own_gib=watch.own / 2**30 if linux else None,
        written=usage.ru_oublock * BLOCK if linux else None,
    )


class _Watch(threading.Thread):
    """The largest sums, in bytes, over a process and all under it, looked at a few times a second."""

    def __init__(self, process: int) -> None:
        super().__init__(daemon=True)
        self.process, self.ended = process, threading.Event()
        self.together = self.own = 0

    def run(self) -> None:
        while sys.platform == "linux" and not self.ended.wait(SAMPLE_SECONDS):
            sizes = [_resident(process) for process in _family(self.process)]
            own = sum(own for own, _ in sizes)
            self.own = max(self.own, own)
            self.together = max(self.together, own + max((mapped for _, mapped in sizes), default=0))


def _family(process: int) -> list[int]:
    """The process and all under it, as far as they still live."""
    found, waiting = [], [process]
    while waiting:
        found.append(waiting.pop())
        for thread in Path(f"/proc/{found[-1]}/task").glob("*/children"):
            try:
                waiting += map(int, thread.read_text().split())
            except OSError:  # it ended meanwhile
                continue
    return found


def _resident(process: int) -> tuple[int, int]:
    """Bytes in memory: (no file backs them, they are mapped from files). From `status`, which the kernel keeps counted: `smaps_rollup` is
    exacter and walks all pages, which costs more than many a step itself.
    """
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:  # it ended meanwhile
        return 0, 0
    sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.startswith("Rss")}
    return sizes.get("RssAnon", 0), sizes.get("RssFile", 0) + sizes.get("RssShmem", 0)
