"""Which files a census source means: one file, or a folder with the Bureau's files as `persona census fetch` writes them."""

import hashlib
import re
from functools import lru_cache
from pathlib import Path

from builder.errors import InputError
from builder.files import sha256_file

# The Bureau's names: csv_pwy.zip and csv_hus.zip by postal code, and inside them psam_p56.csv and psam_husa.csv by FIPS code and part.
PUMS_NAME = re.compile(
    r"(?:csv_(?P<zip_kind>[ph])(?P<state>[a-z]{2})\.zip|psam_(?P<csv_kind>[ph])(?P<area>\d\d|us[a-z])\.csv(?:\.gz)?)",
    re.IGNORECASE,
)
PERSON, HOUSING = "p", "h"
WHOLE_NATION = "us"
PUERTO_RICO = ("pr", "72")


def input_files(path: str | Path) -> list[Path]:
    """The files of a source, sorted, for hashing: the path itself, or every person and housing file of a folder.

    Raises InputError for a path that does not exist, a folder without a PUMS file, and an unfinished download.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"Census file or folder {path} does not exist. Give a PUMS file, a folder, or `packaged`.")
    if not path.is_dir():
        return [path]
    unfinished = sorted(file.name for file in path.glob("*.part"))
    if unfinished:
        raise InputError(
            f"{path} holds {unfinished[0]}, a download that did not finish. Run the same `persona census fetch` again, or remove the file."
        )
    files = sorted(file for file in path.iterdir() if PUMS_NAME.fullmatch(file.name))
    if not files:
        raise InputError(
            f"{path} holds no PUMS file (csv_p*.zip, psam_p*.csv). Give the folder that `persona census fetch` wrote, or a file."
        )
    return files


def person_and_housing_files(path: str | Path) -> tuple[list[Path], list[Path]]:
    """The person files of a source and, where it is a folder, the housing files beside them, in the same order.

    Raises InputError as `input_files` and `files_by_area` do, and where an area has one of the two files only, unless no area has a housing
    file: then the person files may have the household columns.
    """
    files = input_files(path)
    path = Path(path)
    if not path.is_dir():
        return files, []
    persons = files_by_area(path, files, PERSON)
    if not any(kind_of(file) == HOUSING for file in files):
        return list(persons.values()), []
    housing = files_by_area(path, files, HOUSING)
    alone = sorted(persons.keys() ^ housing.keys())
    if alone:
        here, lacking = (persons, "housing") if alone[0] in persons else (housing, "person")
        raise InputError(
            f"{path} holds {here[alone[0]].name} but not the {lacking} file that belongs to it. Fetch it, or remove {here[alone[0]].name}."
        )
    return list(persons.values()), list(housing.values())


def housing_files(path: str | Path) -> list[Path]:
    """The housing files of a source that is named for them: the path itself, or a folder's."""
    files = input_files(path)
    return list(files_by_area(Path(path), files, HOUSING).values()) if Path(path).is_dir() else files


def files_by_area(folder: Path, files: list[Path], kind: str) -> dict[str, Path]:
    """The person or the housing files by state. Raises InputError where there is none, or where two hold the same records."""
    found: dict[str, Path] = {}
    for file in files:
        match = PUMS_NAME.fullmatch(file.name)
        if match is None or kind_of(file) != kind:
            continue
        area = (match["state"] or match["area"]).lower()
        if area in found:
            raise InputError(
                f"{folder} holds {found[area].name} and {file.name}, which hold the same records. Keep one of them."
            )
        found[area] = file
    words = "person" if kind == PERSON else "housing"
    if not found:
        raise InputError(
            f"{folder} holds no PUMS {words} file (csv_{kind}*.zip or psam_{kind}*.csv). Fetch it, or give another folder or file."
        )
    refuse_same_records_twice(folder, words, found)
    return found


def kind_of(file: Path) -> str | None:
    match = PUMS_NAME.fullmatch(file.name)
    return (match["zip_kind"] or match["csv_kind"]).lower() if match else None


def refuse_same_records_twice(folder: Path, words: str, files: dict[str, Path]) -> None:
    nation = [area for area in files if area.startswith(WHOLE_NATION)]
    # Puerto Rico is not in the Bureau's national file.
    others = [area for area in files if area not in nation and area not in PUERTO_RICO]
    zipped = [area for area in files if files[area].suffix.lower() == ".zip"]
    unzipped = [area for area in files if area not in zipped]
    for one, other in ((nation, others), (zipped, unzipped)):
        if one and other:
            raise InputError(
                f"{folder} holds {files[one[0]].name} and {files[other[0]].name}, so the same {words} records may be there twice. Keep the "
                "nation or the states, and the zip files or the CSV files."
            )


def content_hash(paths: list[Path]) -> str:
    """SHA-256 of one file, or of several files' SHA-256 in the order given. A file that has not changed is read once in a process."""
    hashes = [hash_of(path) for path in paths]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def hash_of(path: Path) -> str:
    status = path.stat()
    return _hash_unchanged(path.resolve(), status.st_size, status.st_mtime_ns, status.st_ino)


@lru_cache(maxsize=1024)
def _hash_unchanged(path: Path, size: int, changed_ns: int, inode: int) -> str:
    return sha256_file(path)
