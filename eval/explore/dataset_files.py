"""Which data files a published dataset has: a folder, or `hub:org/name[@version]`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from builder.errors import InputError, few
from builder.files import read_json
from builder.hub.client import PREFIX, parse_address, snapshot
from builder.schema import CONFIGS, PAIR_CONFIGS, SPLITS
from builder.strict_yaml import parse_yaml

WANTED = "Give a folder that `persona publish` wrote, or hub:org/name@v1.0.0."
Files = dict[str, dict[str, list[Path]]]  # config -> split -> Parquet files


@dataclass(frozen=True)
class Published:
    """source: as it was asked for. version: None where build.json names none. build: build.json, {} without one."""

    source: str
    folder: Path
    name: str
    version: str | None
    files: Files
    build: dict[str, Any] = field(default_factory=dict)


def find_dataset(source: str) -> Published:
    """Raises InputError where there is no published dataset, or its README.md names files that are not there.

    README.md decides which files there are, as it does for `datasets`; build.json adds the name and how the data came about.
    """
    if source.startswith(PREFIX):
        address = parse_address(source)
        # Before some hundred megabytes of somebody else's dataset come.
        _data_files(source, snapshot(address, ["README.md"]), present=False)
        folder = snapshot(address, ["*.md", "*.json", "*.parquet"])
    else:
        folder = Path(source)
        if not folder.is_dir():
            raise InputError(f"{source} is not a folder. {WANTED}")
    files = _data_files(source, folder, present=True)
    build = read_json(folder / "build.json") if (folder / "build.json").is_file() else {}
    if not isinstance(build, dict):
        raise InputError(f"{source}: build.json holds {type(build).__name__} instead of keys. {WANTED}")
    recipe = build.get("recipe")
    named = build.get("name") or (recipe.get("name") if isinstance(recipe, dict) else None)
    name = str(named or (source.removeprefix(PREFIX).partition("@")[0] if source.startswith(PREFIX) else folder.name))
    version = build.get("version")
    return Published(source, folder, name, None if version is None else str(version), files, build)


def _data_files(source: str, folder: Path, present: bool) -> Files:
    """What the front matter of README.md lists. present: whether the files must be there."""
    card = folder / "README.md"
    if not card.is_file():
        raise InputError(f"{source} is no published dataset: it has no README.md. {WANTED}")
    parts = card.read_text(encoding="utf-8", errors="replace").split("---\n", 2)
    try:
        header = parse_yaml(parts[1]) if len(parts) == 3 and not parts[0] else None
    except yaml.YAMLError:
        header = None
    listed = header.get("configs") if isinstance(header, dict) else None
    if not isinstance(listed, list):
        raise InputError(f"{source} is no published dataset: README.md lists no configs. {WANTED}")
    files: Files = {}
    for entry in listed:
        config = entry.get("config_name") if isinstance(entry, dict) else None
        if config not in CONFIGS:
            continue
        if not isinstance(entry.get("data_files"), list) or not entry["data_files"]:
            raise InputError(f"{source}: README.md lists no data_files for the config {config}. {WANTED}")
        splits: dict[str, list[Path]] = {}
        for part in entry["data_files"]:
            named = part.get("path") if isinstance(part, dict) else None
            paths = [named] if isinstance(named, str) else named if isinstance(named, list) else []
            splits[str(part.get("split")) if isinstance(part, dict) else ""] = [
                found for path in paths for found in _matching(source, folder, str(path), present)
            ]
        # In the order of the schema, whatever the card's: what is linked by its place must not depend on how a card is written.
        known = [*(split for split in SPLITS if split in splits), *sorted(splits.keys() - set(SPLITS))]
        files[config] = {split: splits[split] for split in known}
    if not files.keys() & set(PAIR_CONFIGS):
        raise InputError(
            f"{source} has no pairs to explore: README.md lists none of the configs {', '.join(PAIR_CONFIGS)}. {WANTED}"
        )
    return {config: files[config] for config in CONFIGS if config in files}


def _matching(source: str, folder: Path, path: str, present: bool) -> list[Path]:
    """The files that a path or a pattern of the card stands for; never one outside of the folder."""
    if not Path(path).parts:
        raise InputError(f"{source}: README.md lists “{path}” as a file, which names none. {WANTED}")
    if Path(path).is_absolute() or ".." in Path(path).parts:
        raise InputError(f"{source}: README.md lists {path}, which lies outside of the folder. {WANTED}")
    if not present:
        return []
    found = sorted(file for file in folder.glob(path) if file.is_file())
    if not found:
        there = few(sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*.parquet"))) or "none"
        raise InputError(f"{source}: README.md lists {path}, which is not there (Parquet files: {there}). {WANTED}")
    return found
