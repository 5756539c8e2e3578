"""A baseline table: methods x seeds, each trained once and scored on the same test rows, each result in a file of its own.

What is finished is kept, so that a run that was stopped goes on where it was. A cell is one method with one seed, as trained or at one
point of an axis (labelled pairs shown, share of the persona left out), which changes what a finished model is shown in testing and nothing
of its training.
"""

import dataclasses
import difflib
import re
import shutil
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml

from builder.errors import InputError, few
from builder.files import locked, read_json, write_json, write_text
from builder.strict_yaml import build_dataclass, read_yaml
from training.dataset_address import dataset_address, dataset_snapshot
from training.launch import (
    METHODS,
    dataset_content,
    find_accelerate,
    find_packaged,
    find_recipe,
    run_module,
    run_once,
)
from training.results import margins_file, result_of_training

SWEEP_FOLDER = Path(__file__).parent / "sweeps"
# Never trained: scored as they are. What names the scorer to training.score.
SCORED = ("rule", "prompted", "public_reward")
AXES = ("few_shot_pairs", "persona_corruption")
# What decides which test rows are scored. A method whose own value differs (one trained on dpf alone, say) is scored anew with the sweep's.
TEST_KEYS = ("dataset_configs", "eval_max_rows", "rows_seed")
# They never read a profile, so that leaving out attributes would change nothing.
WITHOUT_PROFILE = ("low_rank", "vpl", "p_dpo", "per_persona")
# Persona -> attribute -> group, as the dataset's profiles state them: the table is made from this folder alone.
GROUPS_FILE = "groups.json"
# What the sweep itself says to every run.
OURS = ("output_dir", "dataset", "seed", "score_cache", "out", "model")
ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


@dataclass(frozen=True)
class Axes:
    """Test-time settings at which a method's finished models are scored too."""

    few_shot_pairs: tuple[float, ...] = ()
    persona_corruption: tuple[float, ...] = ()


@dataclass(frozen=True)
class Method:
    """A row of the table. arguments: keys of the training script beside the recipe's, or of training.score."""

    id: str
    name: str
    method: str
    recipe: str | None = None  # a packaged training recipe or a file; by default the demo of the method
    blind: str | None = None  # the id of the method that stands beside it as the same without personas
    not_run: str | None = None  # why it stands in the table without figures
    seeds: int | None = None  # the first so many of the sweep's: one is enough where nothing is drawn
    arguments: Mapping[str, Any] = field(default_factory=dict)
    axes: Axes = field(default_factory=Axes)


@dataclass(frozen=True)
class Sweep:
    name: str
    seeds: tuple[int, ...]
    arguments: Mapping[str, Any]  # for every method
    methods: tuple[Method, ...]


@dataclass(frozen=True)
class Cell:
    """One result file. axis: (key, value) of a test-time setting, or None: as trained."""

    method: Method
    seed: int
    axis: tuple[str, float] | None = None

    @property
    def trained(self) -> bool:
        return self.method.method not in SCORED

    @property
    def stem(self) -> str:
        return f"seed-{self.seed}" + (f".{self.axis[0]}-{self.axis[1]:g}" if self.axis else "")

    def __str__(self) -> str:
        return f"{self.method.id}, seed {self.seed}" + (f", {self.axis[0]} {self.axis[1]:g}" if self.axis else "")


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
    from training.fairness import persona_groups
    from training.sweep_table import write_table

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


def load_sweep(source: str) -> Sweep:
    """Raises InputError for a file that does not exist or cannot be read, unknown keys and values that do not fit."""
    raw = read_yaml(find_packaged(source, SWEEP_FOLDER, "sweep"))
    keys = [f.name for f in dataclasses.fields(Sweep)]
    for key in raw:
        if key not in keys:
            raise InputError(
                f"Unknown key {key}. The closest valid key is {_closest(key, keys)}; valid here: {', '.join(keys)}."
            )
    missing = [key for key in ("name", "methods") if key not in raw]
    if missing:
        raise InputError(f"The sweep lacks {', '.join(missing)}. Add it.")
    seeds = raw.get("seeds", [0, 1, 2])
    if (
        not isinstance(seeds, list)
        or not seeds
        or any(type(seed) is not int for seed in seeds)
        or len(set(seeds)) < len(seeds)
    ):
        raise InputError(f"seeds is {seeds!r}; give a list of different whole numbers.")
    if not isinstance(raw["methods"], list) or not raw["methods"]:
        raise InputError("methods is no list. Give at least one method with id, name and method.")
    methods = tuple(_method(entry, f"methods[{place}]") for place, entry in enumerate(raw["methods"]))
    sweep = Sweep(str(raw["name"]), tuple(seeds), _arguments(raw.get("arguments", {}), "arguments"), methods)
    _check_methods(sweep)
    _check_test_keys(sweep)
    return sweep


def _method(entry: Any, where: str) -> Method:
    if not isinstance(entry, dict):
        raise InputError(f"{where} is {entry!r}, but it is a section with id, name and method.")
    plain = {key: value for key, value in entry.items() if key != "arguments"}
    method = build_dataclass(Method, plain, where)
    return dataclasses.replace(method, arguments=_arguments(entry.get("arguments", {}), f"{where}.arguments"))


def _arguments(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f"{where} is {value!r}, but it holds keys of the training scripts.")
    for key in value:
        if key in OURS:
            raise InputError(f"{where}.{key} is set by the sweep itself. Remove it.")
    return value


def _check_test_keys(sweep: Sweep) -> None:
    """The test rows are the sweep's: methods asked about unlike rows could not be compared."""
    missing = [key for key in TEST_KEYS if key not in sweep.arguments]
    if missing:
        raise InputError(
            f"The sweep's arguments lack {', '.join(missing)}, so that each recipe would choose test rows of its own. State "
            f"{', '.join(TEST_KEYS)} under arguments (eval_max_rows: null for all rows)."
        )
    for method in sweep.methods:
        own = [key for key in TEST_KEYS if key in method.arguments]
        if method.method in SCORED and own:
            raise InputError(
                f"{method.id}: arguments give {', '.join(own)}, which would let it score other test rows than the rest. Remove it."
            )


def _check_methods(sweep: Sweep) -> None:
    ids = [method.id for method in sweep.methods]
    kinds = (*METHODS, *SCORED)
    for method in sweep.methods:
        if not ID.fullmatch(method.id) or ids.count(method.id) > 1:
            raise InputError(
                f"The method id {method.id!r} is {'given twice' if ID.fullmatch(method.id) else 'no file name'}. Give each method an id "
                "of its own, of letters, digits, - and _."
            )
        if method.method not in kinds:
            raise InputError(
                f"{method.id}: there is no method {method.method!r}. The closest is {_closest(method.method, kinds)}; choose one of "
                f"{', '.join(kinds)}."
            )
        if method.seeds is not None and not 1 <= method.seeds <= len(sweep.seeds):
            raise InputError(
                f"{method.id}: seeds is {method.seeds}; give how many of the sweep's {len(sweep.seeds)} seeds it needs."
            )
        if method.blind is not None and method.blind not in ids:
            raise InputError(
                f"{method.id}: blind is {method.blind!r}, which is no method of this sweep. Give one of {', '.join(ids)}."
            )
        corrupted = {**sweep.arguments, **method.arguments}.get("persona_corruption") or method.axes.persona_corruption
        if method.method in WITHOUT_PROFILE and corrupted:
            raise InputError(
                f"{method.id}: persona_corruption is {corrupted!r}, but {method.method} never reads a profile, so that leaving out "
                "attributes changes nothing. Remove it from this method."
            )
        if method.method in METHODS and method.not_run is None:
            find_recipe(method.method, method.recipe)
        if method.method in SCORED and method.recipe is not None:
            raise InputError(
                f"{method.id}: a {method.method} method is not trained, so it has no recipe. Remove the key."
            )
        if method.method in SCORED and method.not_run is None and method.method not in method.arguments:
            raise InputError(f"{method.id}: arguments lack {method.method}. Say which one (see training.score).")


def chosen_cells(sweep: Sweep, seeds: int | None, only: Sequence[str]) -> list[Cell]:
    """The cells to run: cheap ones first, so that the controls stand before the hours begin."""
    if seeds is not None and not 1 <= seeds <= len(sweep.seeds):
        raise InputError(f"--seeds is {seeds}; the sweep has {len(sweep.seeds)}: {', '.join(map(str, sweep.seeds))}.")
    ids = [method.id for method in sweep.methods]
    for name in only:
        if name not in ids:
            raise InputError(
                f"--only {name} is no method of this sweep. The closest is {_closest(name, ids)}; there are {', '.join(ids)}."
            )
    cells = all_cells(sweep)
    allowed = sweep.seeds[:seeds]
    chosen = [cell for cell in cells if (not only or cell.method.id in only)]
    chosen = [cell for cell in chosen if not cell.trained or cell.seed in allowed]
    return sorted(chosen, key=lambda cell: cell.trained)


def all_cells(sweep: Sweep) -> list[Cell]:
    """Every cell that is meant to be run, in the order of the recipe; the untrained methods have one seed, which decides nothing."""
    cells = []
    for method in sweep.methods:
        if method.not_run is not None:
            continue
        for seed in sweep.seeds[: method.seeds if method.method in METHODS else 1]:
            cells.append(Cell(method, seed))
            for key in AXES:
                cells += [Cell(method, seed, (key, value)) for value in getattr(method.axes, key)]
    return cells


def result_file(folder: Path, cell: Cell) -> Path:
    return folder / "results" / cell.method.id / f"{cell.stem}.json"


def model_folder(folder: Path, cell: Cell) -> Path:
    return folder / "models" / cell.method.id / f"seed-{cell.seed}"


def recipe_file(folder: Path, cell: Cell) -> Path:
    """What the cell was run with: what is not equal to it is not the same cell."""
    return folder / "recipes" / cell.method.id / f"{cell.stem}.yaml"


def cell_recipe(sweep: Sweep, cell: Cell) -> dict[str, Any]:
    """Keys for the cell's script: the training recipe's, over them the sweep's, over them the method's own."""
    own = {**sweep.arguments, **cell.method.arguments}
    if not cell.trained:
        return own | ({cell.axis[0]: _plain(cell.axis)} if cell.axis else {})
    training = {**read_yaml(find_recipe(cell.method.method, cell.method.recipe)), **own, "seed": cell.seed}
    if cell.axis is None:
        return training
    return scoring_keys(sweep, training) | {cell.axis[0]: _plain(cell.axis)}


def scoring_keys(sweep: Sweep, training: Mapping[str, Any]) -> dict[str, Any]:
    """Of a training recipe, what training.score is to know: the rows are those of the sweep, not of the method."""
    keys = {
        key: training[key] for key in ("model_name_or_path", "dtype", "use_cpu", "eval_batch_texts") if key in training
    }
    return keys | {
        key: sweep.arguments.get(key, training.get(key))
        for key in TEST_KEYS
        if key in sweep.arguments or key in training
    }


def _plain(axis: tuple[str, float]) -> float | int:
    return int(axis[1]) if axis[0] == "few_shot_pairs" else axis[1]


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
        elif not (model / "training.json").is_file():
            raise RuntimeError("its model is not trained.")
        same_rows = all(
            cell.method.arguments.get(key, sweep.arguments.get(key)) == sweep.arguments.get(key) for key in TEST_KEYS
        )
        if cell.axis is None and same_rows:
            # Training has scored the very rows, with the model as it was read back from disk.
            result.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(model / "scores.parquet", margins_file(result))
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


def _closest(name: str, names: Sequence[str]) -> str:
    return difflib.get_close_matches(name, names, n=1, cutoff=0.0)[0]


def _say(text: str) -> None:
    print(text, flush=True)
