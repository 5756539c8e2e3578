"""Running a sweep: each cell trained once and scored on the same test rows, each result in a file of its own, and one table of them.

What is finished is kept, so that a run that was stopped goes on where it was.
"""

import dataclasses
import shutil
import threading
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path

import pyarrow.parquet as pq
import yaml

from builder.errors import InputError, few
from builder.files import locked, read_json, write_json, write_text
from builder.strict_yaml import read_yaml
from training.dataset_address import dataset_address, dataset_snapshot
from training.fairness import persona_groups
from training.launch import dataset_content, run_module, run_once
from training.packaged import find_accelerate
from training.record import RECORD_FILE, SCORES_FILE
from training.results import margins_file, result_of_training
from training.sweep_recipe import (
    GROUPS_FILE,
    TEST_KEYS,
    Cell,
    Sweep,
    cell_recipe,
    chosen_cells,
    load_sweep,
    model_folder,
    recipe_file,
    result_file,
    scoring_keys,
)
from training.sweep_table import write_table


def run_sweep(
    source: str,
    dataset: str,
    folder: Path,
    seeds: int | None = None,
    only: Sequence[str] = (),
    jobs: int = 1,
    accelerate_config: str = "cpu",
) -> tuple[str, int]:
    """Run what is not finished and write the table. Returns (what is to be said at the end, number of failed cells).

    source: a YAML file, or a packaged sweep's name. seeds: only the first so many. only: methods by id. jobs: cells at a time.

    Raises InputError for a recipe that cannot be used, and where `folder` holds results of another dataset or of other settings.
    """
    sweep = load_sweep(source)
    find_accelerate(accelerate_config)
    if jobs < 1:
        raise InputError(f"--jobs is {jobs}; it takes a number of runs at a time, at least 1.")
    if not dataset.startswith("hub:") and not Path(dataset).is_dir():
        raise InputError(f"{dataset} does not exist. Give a published folder, or hub:org/name@v1.0.0.")
    chosen = chosen_cells(sweep, seeds, only)
    with locked(folder, "sweep"):
        _claim(folder, sweep, dataset)
        for cell in chosen:
            _write_recipe(folder, sweep, cell)
        failed, ran = _run_cells(chosen, sweep, dataset, folder, jobs, accelerate_config)
        write_json(folder / GROUPS_FILE, persona_groups(_profiles(dataset)))
        table = write_table(folder, sweep)
    said = [table, f"{ran} of {len(chosen)} results made now, {len(chosen) - ran - len(failed)} kept from before."]
    if failed:
        said += ["", f"{len(failed)} failed:", *(f"  {cell}: {reason.splitlines()[0]}" for cell, reason in failed)]
        said.append("What succeeded is kept. Mend the cause and run the same command again.")
    said.append(
        f"Table in {folder / 'table.md'} (all cells), table.json and table.csv. Next: read docs/training.md beside it"
    )
    return "\n".join(said), len(failed)


def _profiles(dataset: str) -> dict[str, str]:
    """Persona -> profile; empty where the dataset has no personas table."""
    address = dataset_address(dataset, None)
    folder = Path(dataset).expanduser() if address is None else dataset_snapshot(address, ())
    tables = [pq.read_table(path, columns=["persona_id", "profile"]) for path in folder.rglob("personas/*.parquet")]
    return {row["persona_id"]: row["profile"] for table in tables for row in table.to_pylist()}


def _claim(folder: Path, sweep: Sweep, dataset: str) -> None:
    """Refuse a folder whose results are of other data: the table would set them side by side."""
    path = folder / "sweep.json"
    claim = {"sweep": sweep.name, "dataset": Path(dataset).name, "dataset_content": dataset_content(dataset)}
    if claim["dataset_content"] == dataset and not dataset.startswith("hub:"):
        claim["dataset_content"] = claim[
            "dataset"
        ]  # an older folder without a hash: its name, not its place on this machine
    if path.is_file() and read_json(path) != claim:
        there = read_json(path)
        different = ", ".join(f"{key} {there.get(key)} / {claim[key]}" for key in claim if there.get(key) != claim[key])
        raise InputError(
            f"{folder} holds another sweep's results ({different}). Nothing was changed; give another --out folder."
        )
    write_json(path, claim)


def _write_recipe(folder: Path, sweep: Sweep, cell: Cell) -> None:
    """Raises InputError where a result or a model of other settings is there."""
    path, wanted = recipe_file(folder, cell), cell_recipe(sweep, cell)
    text = yaml.safe_dump(wanted, sort_keys=True, allow_unicode=True)
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return
    made = [place for place in (result_file(folder, cell), model_folder(folder, cell)) if place.exists()]
    if made and (cell.axis is None or result_file(folder, cell).exists()):
        before = read_yaml(path) if path.is_file() else {}
        keys = sorted(key for key in {*before, *wanted} if before.get(key, path) != wanted.get(key, path))
        raise InputError(
            f"{made[0]} was made with other settings than this sweep now has ({few(keys)}). Nothing was changed; give another --out "
            f"folder, or remove results/{cell.method.id}, models/{cell.method.id} and recipes/{cell.method.id} to run it again."
        )
    write_text(path, text)


def _run_cells(
    cells: Sequence[Cell], sweep: Sweep, dataset: str, folder: Path, jobs: int, accelerate_config: str
) -> tuple[list[tuple[Cell, str]], int]:
    """(failed cells with their reason, number of cells run). What one cell needs of another (its trained model) comes first."""
    missing = [cell for cell in cells if not result_file(folder, cell).is_file()]
    failed: list[tuple[Cell, str]] = []
    progress = _Progress(len(cells), [cell.method.id for cell in missing])
    if len(missing) < len(cells):
        _say(f"[sweep] {len(cells) - len(missing)} of {len(cells)} results are there")

    def run(group: Sequence[Cell]) -> None:
        """The cells of one trained model, one after another."""
        for cell in group:
            if stopped.is_set():
                return
            started = time.monotonic()
            _say(f"[sweep] {cell}: begun; its output in {_log(folder, cell)}")
            try:
                _run_cell(cell, sweep, dataset, folder, accelerate_config)
            except (InputError, RuntimeError) as error:
                failed.append((cell, str(error)))
                _say(f"[sweep] {cell}: FAILED: {error}")
            progress.count(cell.method.id, time.monotonic() - started)

    stopped = threading.Event()
    groups: dict[tuple[str, int], list[Cell]] = {}
    for cell in missing:
        groups.setdefault((cell.method.id, cell.seed), []).append(cell)
    with ThreadPoolExecutor(jobs) as pool:
        running = [pool.submit(run, group) for group in groups.values()]
        try:
            finished, _ = wait(running, return_when=FIRST_EXCEPTION)
        except BaseException:
            # An interrupted sweep begins nothing more; what runs got the same signal from the terminal.
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        for future in finished:
            future.result()
    order = {id(cell): place for place, cell in enumerate(cells)}
    return sorted(failed, key=lambda entry: order[id(entry[0])]), len(missing) - len(failed)


def _run_cell(cell: Cell, sweep: Sweep, dataset: str, folder: Path, accelerate_config: str) -> None:
    result, log, recipe = result_file(folder, cell), _log(folder, cell), recipe_file(folder, cell)
    log.parent.mkdir(parents=True, exist_ok=True)
    cache = ["--score_cache", str(folder / "cache")]
    model = model_folder(folder, cell)
    if cell.trained:
        # Its own recipe, also where a point of an axis is asked for: then the model is there already, or could not be trained.
        own = recipe_file(folder, dataclasses.replace(cell, axis=None))
        if cell.axis is None:
            run_once(cell.method.method, dataset, model, str(own), accelerate_config, cache, log)
        elif not (model / RECORD_FILE).is_file():
            raise RuntimeError("its model is not trained.")
        same_rows = all(
            cell.method.arguments.get(key, sweep.arguments.get(key)) == sweep.arguments.get(key) for key in TEST_KEYS
        )
        if cell.axis is None and same_rows:
            # Training has scored the very rows, with the model as it was read back from disk.
            result.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(model / SCORES_FILE, margins_file(result))
            write_json(result, result_of_training(model))
            return
        if cell.axis is None:
            recipe = recipe_file(folder, cell).with_suffix(".score.yaml")
            write_text(recipe, yaml.safe_dump(scoring_keys(sweep, read_yaml(own)), sort_keys=True))
    given = ["--config", str(recipe), "--dataset", dataset, "--out", str(result), *cache]
    run_module("training.score", [*given, *(["--model", str(model)] if cell.trained else [])], log)


class _Progress:
    """Seconds a cell so far, method by method, and from them the time left."""

    def __init__(self, total: int, waiting: list[str]) -> None:
        self.total, self.waiting = total, waiting
        self.seconds: dict[str, list[float]] = {}

    def count(self, method: str, seconds: float) -> None:
        self.waiting.remove(method)
        self.seconds.setdefault(method, []).append(seconds)
        everything = [value for values in self.seconds.values() for value in values]
        mean = sum(everything) / len(everything)
        left = sum(sum(own) / len(own) if (own := self.seconds.get(name)) else mean for name in self.waiting)
        _say(
            f"[sweep] {self.total - len(self.waiting)} of {self.total} results; this one {seconds:.0f} s, {mean:.0f} s each; "
            f"about {left / 60:.0f} min left"
            if self.waiting
            else f"[sweep] {self.total} of {self.total} results; {mean:.0f} s each"
        )


def _log(folder: Path, cell: Cell) -> Path:
    return folder / "logs" / cell.method.id / f"{cell.stem}.log"


def _say(text: str) -> None:
    print(text, flush=True)
