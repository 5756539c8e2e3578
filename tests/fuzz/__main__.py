"""`python -m tests.fuzz TARGET --minutes 10`: progress while it runs; exit code 1 and a file with the input where something breaks."""

import argparse
import importlib
import os
import pickle
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz.engine import IN_MEMORY, Crash, run_for, write_crash
from tests.fuzz.mutations import Files

TARGETS = ("pums", "recipes", "verdicts", "persona_text")
MEMORY = 6 << 30  # bytes of addresses, more than any sound input takes with all libraries loaded
SILENT_SECONDS = 120  # by the clock, after which a process that Python cannot interrupt is taken for hung


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", choices=(*TARGETS, "all"), help="all: one after the other, to the first crash")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/fuzz"), help="where a crash is written")
    parser.add_argument("--current", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.current is not None:
        return work(arguments)
    for target in TARGETS if arguments.target == "all" else (arguments.target,):
        arguments.target = target
        if code := watch(arguments):
            return code
    return 0


def watch(arguments: argparse.Namespace) -> int:
    """The work is done in another process: an input may kill its interpreter, or hold it where no signal is heard."""
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=IN_MEMORY) as scratch:
        current = Path(scratch) / "current"
        options = ["--minutes", str(arguments.minutes), "--seed", str(arguments.seed), "--out", str(arguments.out)]
        command = [sys.executable, "-m", "tests.fuzz", arguments.target, *options, "--current", str(current)]
        worker = subprocess.Popen(command)
        died = None
        while worker.poll() is None:
            time.sleep(0.5)
            if current.exists() and time.time() - current.stat().st_mtime > SILENT_SECONDS:
                died = f"held the interpreter for more than {SILENT_SECONDS} seconds"
                worker.kill()
                worker.wait()
        if died is None and worker.returncode < 0:
            died = f"killed the interpreter with signal {-worker.returncode}"
        if died is None or not current.exists():
            return worker.returncode
        files: Files = pickle.loads(current.read_bytes())
        path = write_crash(
            arguments.out, arguments.target, Crash(files, f"The last input {died}. It is not minimised.")
        )
        print(f"{arguments.target}: an input {died}: {path}")
        return 1


def work(arguments: argparse.Namespace) -> int:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    # No parser may ask the Hub.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    target = importlib.import_module(f"tests.fuzz.{arguments.target}")

    def note(files: Files) -> None:
        arguments.current.write_bytes(pickle.dumps(files))

    def say(line: str) -> None:
        print(f"{arguments.target}: {line}", flush=True)

    count, crash = run_for(target, arguments.seed * 1_000_000, 60 * arguments.minutes, say, note)
    if crash is None:
        say(f"no crash in {count.inputs:,} inputs")
        return 0
    path = write_crash(arguments.out, arguments.target, crash)
    say(f"crash after {count.inputs:,} inputs: {crash.trace.strip().splitlines()[-1]}\n{path}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
