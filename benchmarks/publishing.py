"""What publishing a build of the paper's size costs: 317,200 pairs and their contrast pairs, to a Hub on 127.0.0.1 and back.

    python -m benchmarks.full_size --folder DIR --steps build     # a finished build in DIR/run
    python -m benchmarks.publishing DIR/run [--folder FOLDER]

Publishes the build as 1.0.0, reads that version back into an empty cache, publishes a mended copy (one critique differs) as 1.0.1, says
what changed, and publishes 1.0.1 once more, which must change nothing. The bands for what words give away are opened first, since a
scripted model's words do. Without RUN a small build is made, to try the benchmark itself. The Hub is the one of the tests, in a process of
its own. Each step is one fresh process, start-up included; sent and received are bytes of bodies, counted at the Hub.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.measured import ROOT, run_measured
from builder.recipe import ROLES
from tests.hub_server import WRITE_TOKEN, client_variables, hub_server

REPOSITORY = "org/name"
READ_BACK = """
import sys
from datasets import get_dataset_config_names, load_dataset
from builder.schema import features
repository, revision = sys.argv[1:]
for config in get_dataset_config_names(repository, revision=revision):
    tables = load_dataset(repository, config, revision=revision)
    assert all(table.features == features(config) for table in tables.values()), config
    print(config, ", ".join(f"{split} {table.num_rows:,}" for split, table in tables.items()))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?", type=Path, help="the folder of a finished build")
    parser.add_argument("--folder", type=Path, help="keep what is made here (default: a temporary folder)")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve()
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = (arguments.folder or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        run = opened(arguments.run.resolve() if arguments.run else small_build(folder / "run"), folder / "opened")
        mended = mend(run, folder / "mended")
        with hub() as process:
            measure(run, mended, process, folder / "cache")


def measure(run: Path, mended: Path, process: "subprocess.Popen[str]", cache: Path) -> None:
    target = f"hub:{REPOSITORY}"
    persona = [sys.executable, "-m", "persona"]
    steps = {
        "publish 1.0.0": [*persona, "publish", str(run), "--to", target, "--version", "1.0.0"],
        "read back": [sys.executable, "-c", READ_BACK, REPOSITORY, "v1.0.0"],
        "publish 1.0.1": [*persona, "publish", str(mended), "--to", target, "--version", "1.0.1"],
        "diff": [*persona, "diff", f"{target}@v1.0.0", f"{target}@v1.0.1"],
        "publish 1.0.1 again": [*persona, "publish", str(mended), "--to", target, "--version", "1.0.1"],
    }
    print(f"{'step':<21}{'seconds':>9}{'peak GiB':>10}{'requests':>10}{'sent MB':>10}{'received MB':>13}", flush=True)
    said = {}
    for step, command in steps.items():
        before = ask(process)
        measured = run_measured(command, client_variables(before["address"], cache, WRITE_TOKEN))
        said[step] = measured.said
        after = ask(process)
        # Each step begins with an empty cache, so that nothing is saved that was downloaded before.
        shutil.rmtree(cache, ignore_errors=True)
        requests, received, sent = (after[name] - before[name] for name in ("requests", "out", "in"))
        print(
            f"{step:<21}{measured.seconds:>9.1f}{measured.peak_gib:>10.2f}{requests:>10,}{sent / 1e6:>10.1f}{received / 1e6:>13.1f}",
            flush=True,
        )
    for step, text in said.items():
        print(f"\n{step}:\n{text.strip()}")


def opened(run: Path, copy: Path) -> Path:
    """A copy of the build whose recipe lets texts give themselves away: a scripted model's words do, and the Hub takes no such build."""
    from builder.files import read_json, write_json

    shutil.rmtree(copy, ignore_errors=True)
    # The record and the tables are needed as they are; links save disk.
    shutil.copytree(run, copy, copy_function=link_or_copy)
    build = read_json(run / "build.json")
    build["recipe"]["audit"]["matched_text"] = [0.0, 1.0]
    write_json(copy / "build.json", build)
    return copy


def mend(run: Path, mended: Path) -> Path:
    """A copy of the build with another critique in its first pair, as a maintainer would mend a row; row groups stay as they are."""
    import pyarrow.parquet as parquet

    from builder.tables import with_column, write_by_persona

    shutil.rmtree(mended, ignore_errors=True)
    shutil.copytree(run, mended, copy_function=link_or_copy)
    source = run / "tables" / "dpf.parquet"

    def tables() -> Iterator[Any]:
        with parquet.ParquetFile(source) as file:
            for number in range(file.num_row_groups):
                table = file.read_row_group(number)
                if number == 0:
                    critiques = table["critique"].to_pylist()
                    table = with_column(table, "critique", ["Say it in fewer words.", *critiques[1:]])
                yield table

    write_by_persona(mended, "dpf", tables())
    return mended


def link_or_copy(source: str, copy: str) -> None:
    try:
        os.link(source, copy)
    except OSError:  # another file system
        shutil.copyfile(source, copy)


def small_build(run: Path) -> Path:
    roles = [role for role in ROLES if role not in ("second_judge", "classifier")]
    chosen = [f"models.{role}.provider=scripted" for role in roles]
    chosen += ["pairs.critique_template=critique_paper", "pairs.revision_template=revision_paper"]
    command = [sys.executable, "-m", "persona", "build", "demo", "--out", str(run)]
    subprocess.run(
        [*command, *(word for setting in chosen for word in ("--set", setting))],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    return run


@contextmanager
def hub() -> Iterator["subprocess.Popen[str]"]:
    """The Hub in a process of its own, so that its memory and its time are not counted as publishing's."""
    command = [sys.executable, "-m", "benchmarks.publishing", "--serve"]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.communicate()


def serve() -> None:
    """For every line on standard input one with the address and what was counted so far, until the input ends."""
    with hub_server() as server:
        for _ in sys.stdin:
            sent, received = sum(server.bytes_sent.values()), sum(server.bytes_received.values())
            counted = {"address": server.base_url, "requests": len(server.requests), "out": sent, "in": received}
            print(json.dumps(counted), flush=True)


def ask(process: "subprocess.Popen[str]") -> dict[str, Any]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    counted: dict[str, Any] = json.loads(process.stdout.readline())
    return counted


if __name__ == "__main__":
    main()
