"""The files that come with this repository, each found by its name: training recipes, sweeps, accelerate configurations."""

from pathlib import Path

from builder.errors import InputError
from builder.files import is_file
from training.kinds import METHODS

RECIPE_FOLDER = Path(__file__).parent / "recipes"
SWEEP_FOLDER = Path(__file__).parent / "sweeps"
ACCELERATE_FOLDER = Path(__file__).parent.parent / "accelerate_configs"


def find_recipe(method: str, recipe: str | None) -> Path:
    """By default the demo of the method. Raises InputError like `find_packaged`, and for an unknown method."""
    if method not in METHODS:
        raise InputError(f"There is no training method {method!r}. Choose one of {', '.join(METHODS)}.")
    return find_packaged(recipe or f"demo_{method}", RECIPE_FOLDER, "training recipe")


def find_accelerate(name: str) -> Path:
    return find_packaged(name, ACCELERATE_FOLDER, "accelerate configuration")


def find_packaged(name: str, folder: Path, what: str) -> Path:
    """A file of that path, or else the one of `folder` with that name, `.yaml` or not. Raises InputError where there is neither."""
    path = Path(name)
    packaged = folder / f"{name.removesuffix('.yaml')}.yaml"
    if is_file(path):
        return path
    if len(path.parts) == 1 and is_file(packaged):
        return packaged
    names = ", ".join(sorted(p.stem for p in folder.glob("*.yaml")))
    raise InputError(f"The {what} {name} does not exist. Give a YAML file, or one of: {names}.")
