"""How long `persona build --until personas` takes and how much memory it needs, from the packaged records and without a language model.

    python -m benchmarks.personas --counts 1586 100000

Each count is one fresh process, start-up included, as a user sees it. Besides seconds it prints the time per persona relative to that
of the first count: above 1, making personas gets slower with their number.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SETTINGS = ("personas.enrichment=none", "personas.seen=null")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[1586, 100_000], help="numbers of personas")
    parser.add_argument("--census", help="PUMS file instead of the packaged records")
    arguments = parser.parse_args()
    print(f"{'personas':>9}{'seconds':>9}{'personas/s':>12}{'peak GiB':>10}{'time per persona, relative':>28}")
    first = 0.0
    for count in arguments.counts:
        seconds, peak = build(count, arguments.census)
        first = first or seconds / count
        print(
            f"{count:>9,}{seconds:>9.1f}{count / seconds:>12,.0f}{peak:>10.2f}{seconds / count / first:>28.2f}",
            flush=True,
        )


def build(count: int, census: str | None) -> tuple[float, float]:
    """Wall seconds and peak resident memory in GiB of one build."""
    with tempfile.TemporaryDirectory() as folder:
        settings = [word for setting in (*SETTINGS, f"personas.count={count}") for word in ("--set", setting)]
        command = [
            sys.executable,
            "-m",
            "persona",
            "build",
            "demo",
            "--until",
            "personas",
            "--out",
            f"{folder}/run",
            *settings,
        ]
        started = time.monotonic()
        process = subprocess.Popen(
            [*command, *(["--census", census] if census else [])],
            stdout=subprocess.DEVNULL,
            cwd=Path(__file__).parent.parent,
        )
        # wait4 gives the memory of this child alone; RUSAGE_CHILDREN would give the largest of all so far.
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(
                f"The build of {count} personas failed with exit code {process.returncode}; its error stands above."
            )
    return seconds, peak_bytes(usage) / 2**30


def peak_bytes(usage: resource.struct_rusage) -> int:
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main()
