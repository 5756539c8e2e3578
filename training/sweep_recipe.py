"""What a sweep is: methods x seeds from one YAML file, the cells that this makes, and the keys and files of each.

A cell is one method with one seed, as trained or at one point of an axis (labelled pairs shown, share of the persona left out), which
changes what a finished model is shown in testing and nothing of its training.
"""

import dataclasses
import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from builder.errors import InputError
from builder.strict_yaml import build_dataclass, read_yaml
from training.kinds import METHODS, READS_NO_PROFILE
from training.packaged import SWEEP_FOLDER, find_packaged, find_recipe

# Never trained: scored as they are. What names the scorer to training.score.
SCORED = ("rule", "prompted", "public_reward")
AXES = ("few_shot_pairs", "persona_corruption")
# What decides which test rows are scored. A method whose own value differs (one trained on dpf alone, say) is scored anew with the sweep's.
TEST_KEYS = ("dataset_configs", "eval_max_rows", "rows_seed")
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
        if method.method in READS_NO_PROFILE and corrupted:
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


def _closest(name: str, names: Sequence[str]) -> str:
    return difflib.get_close_matches(name, names, n=1, cutoff=0.0)[0]
