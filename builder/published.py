"""A published version: where it is had, what makes a folder one, and whether its files are as its build.json says."""

import re
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.errors import InputError
from builder.files import read_json, sha256_file
from builder.hub.client import PREFIX, parse_address, snapshot
from builder.schema import CONFIGS
from builder.tables import parquet_errors

VERSION = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)", re.ASCII)


def version_folder(source: str) -> Path:
    """The files of a published version: a folder as it is, `hub:org/name@v1.0.0` through the cache.

    Raises InputError where it is no published version, and for an address without revision: what others rely on must not change
    underneath.
    """
    if not source.startswith(PREFIX):
        refuse_unpublished(source, read_json(Path(source) / "build.json"))
        return Path(source)
    address = parse_address(source)
    if address.revision is None:
        raise InputError(f"{source}: name a version of a dataset repository, as {source}@v1.0.0.")
    # Before some hundred megabytes of somebody else's dataset come.
    place = snapshot(address, ["build.json"]) / "build.json"
    refuse_unpublished(source, read_json(place) if place.is_file() else None)
    return snapshot(address)


def is_published(build: Any) -> bool:
    """Whether this is the build.json of a published version, as opposed to that of a build: it lists data files and has their hash."""
    return isinstance(build, dict) and isinstance(build.get("configs"), dict) and "content_sha256" in build


def refuse_unpublished(name: str | Path, build: Any) -> None:
    """name: the folder or address that `build` was found at."""
    if not is_published(build):
        raise InputError(
            f"{name} is no published version: its build.json lists no data files. Give a folder that `persona publish` wrote, or "
            "hub:org/name@v1.0.0."
        )


def build_in(folder: Path) -> Any:
    """The build.json there, None without a readable one."""
    try:
        return read_json(folder / "build.json") if (folder / "build.json").is_file() else None
    except (InputError, OSError):
        return None


def parse_version(text: str) -> tuple[int, int, int]:
    found = VERSION.fullmatch(text)
    if found is None:
        raise InputError(f"--version {text} is not of the form major.minor.patch. Give three numbers, as 1.2.0.")
    return int(found[1]), int(found[2]), int(found[3])


def published_version(folder: Path) -> str:
    """The version that a published folder is."""
    return version_in(read_json(folder / "build.json"), folder)


def version_in(build: Any, folder: Path) -> str:
    """`version` of the build.json of a published folder."""
    version = build.get("version") if isinstance(build, dict) else None
    if not isinstance(version, str) or VERSION.fullmatch(version) is None:
        raise InputError(
            f"{folder / 'build.json'} says version {version!r}, which is not of the form major.minor.patch. Give a folder that "
            "`persona publish` wrote."
        )
    return version


@dataclass(frozen=True)
class Version:
    """A published folder and its build.json."""

    folder: Path
    build: dict[str, Any]

    @property
    def number(self) -> str:
        return self.build["version"]

    def splits(self, config: str) -> dict[str, Path]:
        """The files of the splits that have rows."""
        entries = self.build["configs"].get(config, {})
        return {split: self.folder / entry["file"] for split, entry in entries.items() if entry["file"]}

    def rows(self, config: str) -> int | None:
        """None where the version has no such config."""
        entries = self.build["configs"].get(config)
        return None if entries is None else sum(entry["rows"] for entry in entries.values())


def read_version(folder: Path, build: dict[str, Any] | None = None) -> Version:
    """build: stands for the build.json that the folder has not got yet. Raises InputError for what is no published version, and for one
    whose build.json does not say in which file the rows of each config and split are."""
    build = read_json(folder / "build.json") if build is None else build
    refuse_unpublished(folder, build)
    version_in(build, folder)
    configs = build["configs"]
    nested = all(isinstance(splits, dict) for splits in configs.values())
    entries = [entry for splits in configs.values() for entry in splits.values()] if nested else [None]
    if not all(isinstance(e, dict) and isinstance(e.get("rows"), int) and "file" in e for e in entries):
        raise InputError(
            f"{folder / 'build.json'} does not say by config and split how many rows there are in which file. Get the version again."
        )
    unknown = configs.keys() - set(CONFIGS)
    if unknown:
        raise InputError(
            f"{folder} has the config {', '.join(sorted(unknown))}, whose ids are not known here ({', '.join(CONFIGS)} are). Compare the "
            "versions with the code that published the newer one."
        )
    return Version(folder, build)


def refuse_damaged(version: Version) -> None:
    """Raises InputError for a data file that is not there or not as it was published."""
    for config in version.build["configs"]:
        for split in version.splits(config):
            checked_hash(version, config, split)


def checked_hash(version: Version, config: str, split: str) -> str:
    """SHA-256 of a data file, which has to be what its name and build.json say."""
    import pyarrow.parquet as parquet

    path = version.splits(config)[split]
    entry = version.build["configs"][config][split]
    wanted = entry["rows"]
    with readable(path):
        found = sha256_file(path)
        rows = parquet.read_metadata(path).num_rows
    named = path.stem.rsplit("-", 1)[-1]
    # Names without a hash are somebody else's; there is nothing to hold the content against.
    if len(named) == 12 and set(named) <= set("0123456789abcdef") and not found.startswith(named):
        raise InputError(
            f"{path} is damaged: its content has the hash {found[:12]} and its name says {named}. Get the version again."
        )
    # The first versions listed no hash.
    if entry.get("sha256", found) != found:
        raise InputError(
            f"{path} is damaged: its content has the hash {found[:12]} and build.json says {entry['sha256']!s:.12}. Get the version again."
        )
    if rows != wanted:
        raise InputError(
            f"{path} has {rows:,} rows and build.json says {wanted:,}. The folder is not as it was published: get the version again."
        )
    return found


def readable(path: Path) -> AbstractContextManager[None]:
    """Around whatever reads a data file. Raises InputError where it is damaged or not there."""
    return parquet_errors(path, "build.json lists it: get the version again, with all its files.")


def config_types(files: dict[str, Path]) -> dict[str, str]:
    """{column: type} of the config's files, which all have the same."""
    import pyarrow.parquet as parquet

    types: dict[str, str] | None = None
    for path in files.values():
        with readable(path):
            own = {column.name: type_name(column.type) for column in parquet.read_schema(path)}
        if types is not None and own != types:
            other = ", ".join(sorted(dict(own.items() ^ types.items())))
            raise InputError(
                f"{path} has other columns than the other splits of its config ({other}). A config has one schema: get the version again."
            )
        types = own
    return types or {}


def type_name(kind: Any) -> str:
    """The type as whoever loads the column sees it: how it lies in memory (dictionary, large offsets, order in a struct) says nothing."""
    import pyarrow.types as types

    if types.is_dictionary(kind):
        return type_name(kind.value_type)
    if types.is_struct(kind):
        return f"struct<{', '.join(sorted(f'{f.name}: {type_name(f.type)}' for f in kind))}>"
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return f"list<{type_name(kind.value_type)}>"
    return str(kind).removeprefix("large_").removesuffix("_view")
