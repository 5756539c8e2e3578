"""A build of the paper's size on the scripted client: 1,586 personas, 3,868 prompts, 317,200 pairs, and their contrast pairs.

    python -m benchmarks.full_size

Builds `paper` with every model replaced by the scripted client, builds it again in the same folder (replay), hands the recorded responses
to a new folder and builds there, audits and publishes. Each step is one fresh process, start-up included. It prints seconds, calls a
second and peak memory, and whether the rebuilt tables equal the first ones byte for byte. Takes about half an hour and 15 GB of disk.
"""

import argparse
import hashlib
import itertools
import json
import sys
import tempfile
from pathlib import Path

from benchmarks.measured import run_measured
from builder.recipe import ROLES

# The questions are made up: so many that 3,868 are left when near-duplicates and half of the rest (the scripted classifier) are gone.
SUBJECTS = """
schools taxes marriage farming prayer policing hunting nursing rent museums football vaccines inheritance divorce tipping fasting adoption
retirement gambling unions borders gardening privacy wages childcare dating fishing burials holidays conscription
"""
VERBS = """
pay more for / give up / vote on / teach children about / argue about / trust experts on / save up for / change the law on /
ask my parents about / make jokes about
"""
PLACES = """
a small town / a big city / my own family / a poor country / a church / the army / an old people's home / a factory / a school / hospital /
the countryside / a hot summer / hard times / a rich suburb / times of war / a new job / a mixed marriage / a shared flat / the first year /
the last years of life / a strike / an election year / a long winter / exile / a drought / a boom / public / private /
a village without a doctor / a street where nobody speaks
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="keep everything here (default: a temporary folder)")
    parser.add_argument("--personas", type=int, default=1586)
    parser.add_argument("--prompts", help="a JSONL file of questions instead of the made-up ones")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a recipe key, as for persona build"
    )
    parser.add_argument("--steps", nargs="+", default=["build", "replay", "import", "audit", "publish"])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        prompts = arguments.prompts or str(made_up_questions(folder / "questions.jsonl"))
        measure(folder, prompts, arguments.personas, arguments.set, arguments.steps)


def measure(folder: Path, prompts: str, personas: int, settings: list[str], steps: list[str]) -> None:
    run, other = folder / "run", folder / "imported"
    scripted = [f"models.{role}.provider=scripted" for role in ROLES if role != "second_judge"]
    chosen = [*scripted, f"personas.count={personas}", f"personas.seen={round(personas * 1000 / 1586)}", *settings]
    build = ["build", "paper", "--prompts", prompts, *(word for setting in chosen for word in ("--set", setting))]
    responses = str(folder / "responses.parquet")
    commands = {
        "build": [[*build, "--out", str(run)]],
        "replay": [[*build, "--out", str(run)]],
        "import": [
            ["responses", "export", str(run), responses],
            ["responses", "import", responses, str(other)],
            [*build, "--out", str(other)],
        ],
        "audit": [["audit", str(run)]],
        "publish": [["publish", str(run), "--to", str(folder / "published")]],
    }
    print(
        f"{'step':<18}{'seconds':>9}{'peak GiB':>10}{'calls':>12}{'replayed':>12}{'calls/s':>9}{'assembly s':>12}",
        flush=True,
    )
    results = {}
    for step in steps:
        for command in commands[step]:
            name = (
                " ".join(command[:2])
                if command[0] == "responses"
                else f"{step} ({command[0]})"
                if step == "import"
                else step
            )
            results[name] = report(name, command, other if step == "import" else run)
        if step == "import":
            same = hashes(run) == hashes(other)
            print(f"{'tables of both builds':<28}{'equal, byte for byte' if same else 'DIFFERENT'}", flush=True)
    tables = sorted((run / "tables").glob("*.parquet"))
    print("rows: " + ", ".join(f"{table.stem} {rows(table):,}" for table in tables))
    record, written = (run / "responses.sqlite").stat().st_size, sum(table.stat().st_size for table in tables)
    print(f"disk: record {record / 1e9:.2f} GB, tables {written / 1e9:.2f} GB")
    (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def report(name: str, command: list[str], run: Path) -> dict[str, float]:
    measured = run_measured([sys.executable, "-m", "persona", *command])
    seconds, peak = measured.seconds, measured.peak_gib
    made: dict[str, float] = {"seconds": seconds, "peak_gib": peak}
    line = f"{name:<18}{seconds:>9.1f}{peak:>10.2f}"
    if command[0] == "build":
        build = json.loads((run / "build.json").read_text(encoding="utf-8"))
        calls, hits = build["usage"]["calls"], build["usage"]["hits"]
        assembly = sum(stage.get("assembly_seconds", 0.0) for stage in build["stages"].values())
        made |= {"calls": calls, "hits": hits, "assembly_seconds": assembly}
        line += f"{calls:>12,}{hits:>12,}{(calls + hits) / seconds:>9,.0f}{assembly:>12.1f}"
    print(line, flush=True)
    return made


def made_up_questions(path: Path, count: int = 16_000) -> Path:
    """Two different halves each, so that few are near-duplicates of each other."""
    verbs, places = (" ".join(words.split()).split(" / ") for words in (VERBS, PLACES))
    halves = list(itertools.product(SUBJECTS.split(), verbs, places))
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            first, second = (
                halves[number * 7 % len(halves)],
                halves[(number * 4_001 + number // 9_000 * 17) % len(halves)],
            )
            question = f"Should I {first[1]} {first[0]} in {first[2]}, or {second[1]} {second[0]} in {second[2]}?"
            file.write(json.dumps({"question": question, "topic": first[0], "licence": "CC0-1.0"}) + "\n")
    return path


def hashes(run: Path) -> dict[str, str]:
    return {t.name: hashlib.sha256(t.read_bytes()).hexdigest() for t in sorted((run / "tables").glob("*.parquet"))}


def rows(table: Path) -> int:
    import pyarrow.parquet as parquet

    return parquet.read_metadata(table).num_rows


if __name__ == "__main__":
    main()
