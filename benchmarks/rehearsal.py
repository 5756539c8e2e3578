"""The whole road at the paper's size, every stage by its own command line in a fresh process: what each takes, and what breaks only there.

    python -m benchmarks.rehearsal --folder DIR [--personas 1586] [--steps STEP ...] [--list] [--beside DIR]

Builds `paper` on the scripted client (all six tables), again from the record, audits, compares with the census, publishes to a folder and
to the tests' Hub on 127.0.0.1, loads that back, publishes a mended version and compares the two, trains a model of 16,000 parameters for
a few steps with every packaged recipe, evaluates, plans and simulates a human study, and writes the report. Models learn nothing here;
times and memory of everything around them are those of a real run.

Killed and run again it goes on: what is finished stands in DIR/results.json with its figures. A step that had begun is begun again (a
build and a training go on by themselves), and its time is then that of the last start; the table says so. The Hub does not outlive the
program, so its steps are done together. --steps: only these (a name, or the beginning of one). --beside DIR: of a smaller rehearsal, to
see what grows faster than the rows. Rows are those of all tables or of the published dataset that the step has before it; sent and received
are bytes of bodies, counted at the Hub. Some hours and 12 GB of disk at full size, estimated.
"""

import argparse
import contextlib
import re
import shutil
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.full_size import made_up_questions
from benchmarks.measured import QUIET, Measured, run_measured
from benchmarks.publishing import READ_BACK, REPOSITORY, ask, hub, mend
from builder.errors import InputError
from builder.files import read_json, write_json, write_text
from builder.llm.record import TABLES
from builder.recipe import ROLES
from eval.calls import RECORD_FILE
from tests.hub_server import WRITE_TOKEN, client_variables
from training.kinds import METHODS
from training.packaged import RECIPE_FOLDER

PAPER_PERSONAS, PAPER_PROMPTS, PAPER_HELDOUT, PAPER_SEEN = 1586, 3868, 868, 1000
LEAST_PROMPTS = 260  # a persona needs 150 of the pool for training and 50 held out
QUESTIONS_READ = 4.2  # for each one that is left when near-duplicates and half of the rest are gone
POSITIONS = 8192  # of the tiny model: a profile of 900 tokens is several thousand of its own short ones
LONGEST = 8000  # tokens of prompt and answer; soft tokens of p_dpo come on top
STEPS_TRAINED, ROWS_TRAINED = 3, 512
LEAST_SHARE = 0.1  # of a step's time at full size, however small the rehearsal: starting up, loading libraries
EVALUATED = 64  # rows of each config and split that the trained models are scored on
COLUMNS = ("seconds", "processor", "peak GiB", "calls", "replayed", "rows", "written MB", "sent MB", "received MB")
PERSONA = [sys.executable, "-m", "persona"]

ONE_PERSONA = """
import gc, sys
from datasets import load_dataset
repository, revision = sys.argv[1:]
small = {"hf": {"block_size": 2**16}}
people = load_dataset(repository, "personas", split="train", revision=revision, streaming=True)
persona = next(row["persona_id"] for row in people if row["group"] == "seen")
wanted = [("persona_id", "==", persona)]
rows = load_dataset(repository, "dpf", split="train", revision=revision, streaming=True, filters=wanted, storage_options=small)
pairs = list(rows)
assert {row["persona_id"] for row in pairs} == {persona}
gc.collect()
print(f"{len(pairs):,} rows of {persona}")
"""
TINY_MODEL = """
import json, sys
from pathlib import Path
from tests.tiny_model import build_tiny_model
folder = build_tiny_model(Path(sys.argv[1]))
# Positions are rotary: more of them are no parameter more.
config = json.loads((folder / "config.json").read_text())
(folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": int(sys.argv[2])}))
"""
# What recipes written for GPUs need on a processor.
ON_CPU = {
    "use_cpu": "true",
    "bf16": "false",
    "dtype": "float32",
    "gradient_checkpointing": "false",
    "dataset_num_proc": "1",
    "dataloader_pin_memory": "false",
    "per_device_train_batch_size": "4",
    "gradient_accumulation_steps": "1",
    "save_strategy": "no",
}
STUDY = """
title: Rehearsal
dataset: published
completion_code: REHEARSAL
consent: {who: Nobody., purpose: To see what it takes., payment: None., data: Nothing is kept., contact: nobody@example.org}
"""


@dataclass(frozen=True)
class Step:
    """seconds: about what it takes at the paper's size on two cores, for the estimate of what is left. counted: rows that it worked on,
    from what it printed. on_hub: needs the Hub of this start. needed: without it nothing after it can run. without: why it cannot run here.
    """

    name: str
    command: list[str]
    seconds: float
    counted: Callable[[str], int | None] = lambda said: None
    on_hub: bool = False
    needed: bool = False
    without: str | None = None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("runs/rehearsal"), help="keeps everything")
    parser.add_argument("--personas", type=int, default=PAPER_PERSONAS)
    parser.add_argument("--steps", nargs="+", help="only steps whose names begin so")
    parser.add_argument("--list", action="store_true", help="name the steps and end")
    parser.add_argument("--beside", type=Path, help="the folder of a smaller rehearsal")
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    steps = chosen_steps(plan(folder, arguments.personas), arguments.steps)
    if arguments.list:
        for step in steps:
            print(f"{step.name}{f'  (not run: {step.without})' if step.without else ''}")
        return
    rehearse(folder, steps, arguments.personas)
    beside = read_results(arguments.beside) if arguments.beside else None
    print(table(read_results(folder), steps, beside))
    write_text(folder / "table.md", markdown(read_results(folder)))
    failed = read_results(folder)["failed"]
    for name, said in failed.items():
        print(f"\nFAILED: {name}\n{said}")
    print(f"Every figure is in {folder / 'results.json'}, the table also in {folder / 'table.md'}.")
    left = len(unfinished(read_results(folder), plan(folder, arguments.personas)))
    following = f"the same without --steps, for the other {left} steps" if left else f"open {folder / 'report.html'}"
    print(f"Next: {following}; what each step printed is in {folder / 'logs'}")
    if failed:
        sys.exit(1)


def plan(folder: Path, personas: int) -> list[Step]:
    """Every step in order; nothing is run or written."""
    run, published, model = folder / "run", folder / "published", folder / "tiny"
    hub_dataset = f"hub:{REPOSITORY}"
    build = [*PERSONA, "build", "paper", "--out", str(run), "--prompts", str(folder / "questions.jsonl")]
    for setting in recipe_settings(personas):
        build += ["--set", setting]

    def publish(source: Path, to: str, version: str) -> list[str]:
        return [*PERSONA, "publish", str(source), "--to", to, "--version", version]

    tables = lambda said: rows_of(run / "tables")  # noqa: E731
    steps = [
        Step("build", build, 900, tables, needed=True),
        Step("build again, from the record", build, 500, tables),
        Step("audit", [*PERSONA, "audit", str(run)], 60, tables),
        Step("census compare", [*PERSONA, "census", "compare", str(run)], 20, lambda said: personas),
        Step("publish to a folder", publish(run, str(published), "1.0.0"), 90, tables, needed=True),
        Step("publish to the Hub", publish(run, hub_dataset, "1.0.0"), 120, tables, on_hub=True),
        Step("load everything", script(READ_BACK, REPOSITORY, "v1.0.0"), 30, rows_loaded, on_hub=True),
        Step("stream one persona", script(ONE_PERSONA, REPOSITORY, "v1.0.0"), 10, rows_loaded, on_hub=True),
        Step("publish a mended version", publish(folder / "mended", hub_dataset, "1.0.1"), 130, tables, on_hub=True),
        Step(
            "diff",
            [*PERSONA, "diff", f"{hub_dataset}@v1.0.0", f"{hub_dataset}@v1.0.1"],
            60,
            tables,
            on_hub=True,
        ),
        Step("tiny model", script(TINY_MODEL, str(model), str(POSITIONS)), 10, needed=True),
    ]
    recipes = sorted(path.stem for path in RECIPE_FOLDER.glob("*.yaml"))
    steps += [training(recipe, folder, published, model) for recipe in recipes]
    return steps + evaluations(folder, published, model, run, recipes)


def recipe_settings(personas: int) -> list[str]:
    """What differs from `paper`: every model is scripted, all tables are asked for, and the size."""
    prompts = max(LEAST_PROMPTS, round(PAPER_PROMPTS * personas / PAPER_PERSONAS))
    return [
        *(f"models.{role}.provider=scripted" for role in ROLES if role != "second_judge"),
        "configs=[dpf,dpf_matched,contrast,judgements]",
        f"personas.count={personas}",
        f"personas.seen={max(1, round(PAPER_SEEN * personas / PAPER_PERSONAS))}",
        f"prompts.count={prompts}",
        f"prompts.heldout={round(PAPER_HELDOUT * prompts / PAPER_PROMPTS)}",
        # A scripted model's words give its answers away, and the Hub takes no such build.
        "audit.matched_text=[0.0,1.0]",
    ]


def training(recipe: str, folder: Path, published: Path, model: Path) -> Step:
    method = method_of(recipe)
    given = ON_CPU if method in ("dpo", "reward", "per_persona") else {"use_cpu": "true"}
    given = given | {"model_name_or_path": str(model), "base_model_id": "rehearsal/tiny", "max_length": str(LONGEST)}
    given = given | {"max_train_rows": str(ROWS_TRAINED), "eval_max_rows": "6"}
    if method != "low_rank":
        given = given | {"max_steps": str(STEPS_TRAINED)}
    command = [*PERSONA, "train", method.replace("_", "-"), str(published), "--out", str(folder / "models" / recipe)]
    command += ["--recipe", recipe, *(word for key, value in given.items() for word in (f"--{key}", value))]
    without = "4-bit weights need bitsandbytes" if recipe.startswith("qlora") and not has_bitsandbytes() else None
    return Step(f"train {recipe}", command, 60, lambda said: rows_of(published / "data"), without=without)


def has_bitsandbytes() -> bool:
    import importlib.util

    return importlib.util.find_spec("bitsandbytes") is not None


def method_of(recipe: str) -> str:
    name = recipe.removeprefix("demo_").removeprefix("qlora_")
    return next(method for method in sorted(METHODS, key=len, reverse=True) if name.startswith(method))


def evaluations(folder: Path, published: Path, model: Path, run: Path, recipes: list[str]) -> list[Step]:
    data, results = str(published), folder / "results"
    trained = [folder / "models" / recipe for recipe in recipes if not recipe.startswith("qlora")]
    rows = lambda said: rows_of(published / "data")  # noqa: E731

    def evaluate(verb: str, *more: str, out: Path = results) -> list[str]:
        return [*PERSONA, "eval", verb, data, *more, "--out", str(out)]

    chosen = [word for path in trained for word in ("--model", str(path))]
    study = str(folder / "study.yaml")
    return [
        Step(
            "eval models, some rows",
            evaluate("models", *chosen, "--base-model", str(model), "--limit", str(EVALUATED)),
            300,
            rows,
        ),
        Step("eval models, whole test splits, baselines", evaluate("models", out=folder / "whole"), 300, rows),
        Step(
            "eval models, answers judged",
            evaluate(
                "models",
                *(
                    "--model",
                    str(folder / "models" / "demo_dpo"),
                    "--base-model",
                    str(model),
                    "--limit",
                    str(EVALUATED),
                ),
                *("--judge", "roleplay=scripted", "--generations", "4"),
                out=folder / "generations",
            ),
            60,
            rows,
        ),
        Step("eval bench", evaluate("bench", "--model", "scripted", "--judge", "critique=scripted"), 60, rows),
        Step(
            "eval agreement",
            evaluate("agreement", "--annotator", "roleplay=scripted", "--annotator", "simulated:4"),
            60,
            rows,
        ),
        Step(
            "eval attributes",
            evaluate("attributes", "--judge", "roleplay=scripted", "--model", "scripted"),
            60,
            rows,
        ),
        Step("eval summaries", evaluate("summaries", "--model", "scripted"), 30, rows),
        Step("eval subtlety", evaluate("subtlety", "--model", "scripted", "--limit", "200"), 30, rows),
        Step("eval side-effects", evaluate("side-effects", "--model", "scripted", "--limit", "200"), 30, rows),
        Step(
            "eval elicit, profile",
            evaluate("elicit", "--model", "scripted", "--scorer", "profile-overlap", "--limit", "40"),
            60,
            rows,
        ),
        Step(
            "eval elicit, pairs",
            evaluate("elicit", "--learner", "pairs", "--limit", "40", out=folder / "elicit_pairs"),
            60,
            rows,
        ),
        Step("annotate plan", [*PERSONA, "annotate", "plan", study], 60, rows),
        Step("annotate simulate", [*PERSONA, "annotate", "simulate", study], 60, rows),
        Step(
            "annotate analyse",
            [
                *PERSONA,
                "annotate",
                "analyse",
                study,
                "--simulated",
                "--judge",
                "profile-overlap",
                "--out",
                str(results),
            ],
            60,
            rows,
        ),
        Step(
            "report",
            [
                *PERSONA,
                *("report", str(results), "--dataset", data, "--run", str(run)),
                *("--output", str(folder / "report.html")),
            ],
            60,
            rows,
        ),
    ]


def script(text: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", text, *arguments]


def chosen_steps(steps: list[Step], beginnings: list[str] | None) -> list[Step]:
    """Raises InputError for a beginning that no step has."""
    for beginning in beginnings or ():
        if not any(step.name.startswith(beginning) for step in steps):
            raise InputError(f"No step begins with {beginning!r}. There are: {'; '.join(step.name for step in steps)}.")
    chosen = {step.name for step in steps if not beginnings or any(step.name.startswith(name) for name in beginnings)}
    if any(step.on_hub and step.name in chosen for step in steps):
        chosen |= {step.name for step in steps if step.on_hub}
    return [step for step in steps if step.name in chosen]


def rehearse(folder: Path, steps: list[Step], personas: int) -> None:
    """Runs what is not finished. Raises InputError where the folder belongs to a rehearsal of another size."""
    results = begin(folder, personas)
    waiting = unfinished(results, steps)
    if not waiting:
        return
    for step in waiting:
        results["steps"].pop(step.name, None)
    started, estimate = time.monotonic(), Estimate(personas)
    with hub_of(folder, waiting) as process:
        for place, step in enumerate(waiting, start=1):
            say(progress(place, waiting, time.monotonic() - started, estimate))
            if step.without:
                results["steps"][step.name] = {"not_run": step.without}
                write_json(folder / "results.json", results)
                continue
            results["begun"][step.name] = results["begun"].get(step.name, 0) + 1
            write_json(folder / "results.json", results)
            try:
                before_step(folder, step)
                figures = run_step(folder, step, process)
            except SystemExit as failure:
                if step.needed:
                    raise
                # What does not hang on it goes on; run again, the step is tried again.
                results["failed"][step.name] = str(failure)
                say(f"    FAILED, see the end: {str(failure).strip().splitlines()[-1][:140]}")
                continue
            results["failed"].pop(step.name, None)
            estimate.took(step, figures["seconds"])
            figures["resumed"] = results["begun"][step.name] > 1 and not step.on_hub
            results["steps"][step.name] = figures
            write_json(folder / "results.json", results)
            say(f"    {figures['seconds']:,.1f} s, {figures['together_gib'] or figures['peak_gib']:.2f} GiB")


def with_finished_models(command: list[str], models: Path) -> list[str]:
    """Without `--model` for those of this rehearsal that are not there: a recipe that failed, or was left out."""
    left = []
    for place, word in enumerate(command):
        given = Path(
            command[place + 1] if word == "--model" else word if place and command[place - 1] == "--model" else ""
        )
        if given.parent != models or (given / "training.json").is_file():
            left.append(word)
    return left


def begin(folder: Path, personas: int) -> dict[str, Any]:
    """What the folder holds; of a new one the questions and the study are written."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "results.json"
    if path.is_file():
        results: dict[str, Any] = read_json(path)
        if results["personas"] != personas:
            raise InputError(
                f"{folder} holds a rehearsal of {results['personas']} personas, and {personas} were asked for. Give another --folder, or "
                f"--personas {results['personas']}."
            )
        return results
    prompts = next(int(s.split("=")[1]) for s in recipe_settings(personas) if s.startswith("prompts.count="))
    made_up_questions(folder / "questions.jsonl", round(prompts * QUESTIONS_READ))
    write_text(folder / "study.yaml", STUDY)
    results = {"personas": personas, "begun": {}, "failed": {}, "steps": {}}
    write_json(path, results)
    return results


def unfinished(results: dict[str, Any], steps: list[Step]) -> list[Step]:
    """The steps to run: what is not finished, and what is made of it.

    Of those on the Hub all, unless all are finished: each needs what those before it put there. A model that is trained only now belongs
    into the evaluations of models, and whatever is evaluated now into the report.
    """
    waiting = {step.name for step in steps if step.name not in results["steps"]}
    if any(step.on_hub and step.name in waiting for step in steps):
        waiting |= {step.name for step in steps if step.on_hub}
    if any(name.startswith("train ") for name in waiting):
        waiting |= {"eval models, some rows", "eval models, answers judged"}
    if any(name.startswith(("eval", "annotate")) for name in waiting):
        waiting.add("report")
    return [step for step in steps if step.name in waiting]


def before_step(folder: Path, step: Step) -> None:
    if step.name == "publish a mended version":
        if not (folder / "run" / "tables" / "dpf.parquet").is_file():
            raise SystemExit(f"{folder / 'run'} holds no build. Run the step build first.")
        mend(folder / "run", folder / "mended")


def run_step(folder: Path, step: Step, hub_process: Any) -> dict[str, Any]:
    """The command's figures, as they stand in results.json."""
    cache = folder / "cache"
    variables = QUIET | {"HF_HOME": str(cache), "OMP_NUM_THREADS": "1"}
    log = folder / "logs" / f"{re.sub(r'[^a-z0-9_-]+', '-', step.name)}.txt"
    log.parent.mkdir(exist_ok=True)
    command = with_finished_models(step.command, folder / "models")
    counted = {"requests": 0, "out": 0, "in": 0}
    answered = recorded(step)
    if step.on_hub:
        # Each step on the Hub begins with an empty cache, so that nothing is saved that was downloaded before.
        cache = folder / "hub_cache"
        before = ask(hub_process)
        variables = client_variables(before["address"], cache, WRITE_TOKEN) | {"OMP_NUM_THREADS": "1"}
        measured = run_measured(command, variables, log)
        after = ask(hub_process)
        counted = {name: after[name] - before[name] for name in counted}
        shutil.rmtree(cache, ignore_errors=True)
    else:
        measured = run_measured(command, variables, log)
    log.with_suffix(".said.txt").write_text(measured.said, encoding="utf-8")
    return figures_of(step, measured, folder, answered) | {
        "requests": counted["requests"],
        "sent": counted["in"],
        "received": counted["out"],
    }


def figures_of(step: Step, measured: Measured, folder: Path, answered: int) -> dict[str, Any]:
    figures = {name: value for name, value in asdict(measured).items() if name != "said"}
    calls, replays = calls_and_replays(step, measured.said, folder, answered)
    return figures | {"rows": step.counted(measured.said), "calls": calls, "replays": replays}


def calls_and_replays(step: Step, said: str, folder: Path, before: int = 0) -> tuple[int | None, int | None]:
    """Of models, as the build's folder or the command says, else (calls, None) from what has been recorded since; None where nothing was.

    before: `recorded(step)` when it began.
    """
    if step.name.startswith("build"):
        usage = read_json(folder / "run" / "build.json")["usage"]
        return usage["calls"], usage["hits"]
    found = re.search(r"([\d,]+) calls, ([\d,]+) replayed", said)
    if found:
        return int(found[1].replace(",", "")), int(found[2].replace(",", ""))
    return (recorded(step) - before) or None, None


def recorded(step: Step) -> int:
    """Replies, failed ones too, that stand in the record of the folder that an evaluation writes to."""
    path = Path(step.command[step.command.index("--out") + 1], RECORD_FILE) if "--out" in step.command else None
    if path is None or not path.is_file() or step.name.startswith("build"):
        return 0
    with contextlib.closing(sqlite3.connect(path)) as record:
        return sum(record.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0] for table in TABLES)


def rows_of(tables: Path) -> int:
    """Rows of all Parquet files under a folder."""
    import pyarrow.parquet as parquet

    return sum(parquet.read_metadata(path).num_rows for path in tables.rglob("*.parquet"))


def rows_loaded(said: str) -> int:
    """Of what the loading scripts print: `dpf train 1,000, support 200`, or `100 rows of p00012`."""
    return sum(
        int(found.replace(",", "")) for found in re.findall(r"(?:^| )(\d[\d,]*\d|\d)(?=,| rows|$)", said, re.MULTILINE)
    )


class Estimate:
    """Seconds still to go: what the steps are said to take, times how much slower or faster they have been so far."""

    def __init__(self, personas: int) -> None:
        self.share = max(personas / PAPER_PERSONAS, LEAST_SHARE)
        self.expected = self.spent = 0.0

    def took(self, step: Step, seconds: float) -> None:
        self.expected += step.seconds * self.share
        self.spent += seconds

    def left(self, steps: list[Step]) -> float:
        pace = self.spent / self.expected if self.expected else 1.0
        return pace * self.share * sum(step.seconds for step in steps if not step.without)


def progress(place: int, steps: list[Step], elapsed: float, estimate: Estimate) -> str:
    left = estimate.left(steps[place - 1 :])
    return f"[{place}/{len(steps)}] {steps[place - 1].name}  ({elapsed / 60:.0f} min gone, about {left / 60:.0f} left)"


@contextmanager
def hub_of(folder: Path, steps: list[Step]) -> Iterator[Any]:
    if any(step.on_hub for step in steps):
        with hub() as process:
            yield process
    else:
        yield None


def say(text: str) -> None:
    print(text, flush=True)


def read_results(folder: Path) -> dict[str, Any]:
    results: dict[str, Any] = read_json(folder / "results.json")
    return results


def table(results: dict[str, Any], steps: list[Step], beside: dict[str, Any] | None) -> str:
    """For reading in a terminal; `growth` where a smaller rehearsal's results are given."""
    head = (*COLUMNS, *(["growth"] if beside else []))
    lines = [f"{'step':<44}" + "".join(f"{name:>12}" for name in head)]
    for step in steps:
        figures = results["steps"].get(step.name)
        if figures is None:
            continue
        if "not_run" in figures:
            lines.append(f"{step.name:<44}  not run: {figures['not_run']}")
            continue
        words = cells(figures) + ([growth(figures, beside["steps"].get(step.name))] if beside else [])
        lines.append(f"{step.name:<44}" + "".join(f"{word:>12}" for word in words))
    if any(figures.get("resumed") for figures in results["steps"].values()):
        lines.append("* begun more than once: the figures are of the last start")
    return "\n".join(lines)


def markdown(results: dict[str, Any]) -> str:
    """The table as docs/benchmarks.md has it."""
    lines = [f"| step | {' | '.join(COLUMNS)} |", f"| --- |{' ---: |' * len(COLUMNS)}"]
    for name, figures in results["steps"].items():
        words = (
            cells(figures)
            if "not_run" not in figures
            else [f"not run: {figures['not_run']}"] + [""] * (len(COLUMNS) - 1)
        )
        lines.append(f"| {name} | {' | '.join(words)} |")
    return "\n".join(lines) + "\n"


def cells(figures: dict[str, Any]) -> list[str]:
    memory = figures["together_gib"] or figures["peak_gib"]
    first = [f"{figures['seconds']:,.0f}{'*' if figures['resumed'] else ''}", f"{figures['cpu']:,.0f}", f"{memory:.2f}"]
    return [
        *first,
        *(number(figures[name]) for name in ("calls", "replays", "rows")),
        *(megabytes(figures[name]) for name in ("written", "sent", "received")),
    ]


def number(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def megabytes(value: int | None) -> str:
    return "-" if not value else f"{value / 1e6:,.1f}"


def growth(figures: dict[str, Any], other: dict[str, Any] | None) -> str:
    """Processor seconds a row over those of the smaller rehearsal. Starting up weighs more in the smaller one, so that what grows as the
    rows do stays below 1.
    """
    if not other or not figures["rows"] or not other.get("rows"):
        return "-"
    return f"{(figures['cpu'] / figures['rows']) / (other['cpu'] / other['rows']):.2f}"


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"Error: {error}")
