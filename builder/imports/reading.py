"""Tables that somebody else made, row by row: Parquet, JSONL, CSV, plain text, or the files of a Hub dataset."""

import csv
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.census.pums_files import content_hash
from builder.errors import InputError
from builder.hub.client import PREFIX, parse_address, snapshot
from builder.tables import parquet_errors

FORMATS = (".parquet", ".jsonl", ".csv", ".txt")
ROWS_AT_A_TIME = 2048


@dataclass(frozen=True)
class Source:
    """name: the file's name without its folder, or `hub:org/name@commit`. sha256: of the content of all files."""

    name: str
    files: list[Path]
    sha256: str


def open_source(source: str | Path) -> Source:
    """A file, or `hub:org/name@revision`, whose tables are downloaded into the Hub's cache.

    Raises InputError for what is not there, cannot be read, or is no Parquet, JSONL, CSV or text file.
    """
    if str(source).startswith(PREFIX):
        return _open_hub(str(source))
    path = Path(source)
    if not path.exists():
        raise InputError(
            f"{path} does not exist. Give the path of a Parquet, JSONL, CSV or text file, or hub:org/name@revision."
        )
    if path.is_dir():
        raise InputError(f"{path} is a folder. Give the path of one Parquet, JSONL, CSV or text file.")
    if path.suffix.lower() not in FORMATS:
        raise InputError(
            f"{path.name} ends in {path.suffix or 'nothing'}; files ending in {', '.join(FORMATS)} can be read."
        )
    try:
        return Source(path.name, [path], content_hash([path]))
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}). Check the file and its permissions.") from None


def read_rows(source: Source, columns: Sequence[str] | None = None) -> Iterator[tuple[int, Any]]:
    """(number of the row from 1 on, its value) over all files of the source, of which some thousand rows are in memory.

    The value is a dict of columns; a line that is a JSON string, or a line of a text file, is that string; a line that is not JSON is
    None; cells of a CSV row beyond its columns stand under the key None, as a list. Of a Parquet file only `columns` are read, as far as it
    has them. Raises InputError for a damaged file and for text that is not UTF-8.
    """
    number = 0
    for path in source.files:
        for value in _read_file(path, columns):
            number += 1
            yield number, value


def column_names(source: Source) -> list[str]:
    """The columns of the first file: of a Parquet file or CSV by its header, of JSONL by its first readable object; else none."""
    if source.files[0].suffix.lower() == ".parquet":
        import pyarrow.parquet as parquet

        with parquet_errors(source.files[0], "Get the file again."):
            return list(parquet.read_schema(source.files[0]).names)
    first = next((row for _, row in read_rows(source) if isinstance(row, dict)), {})
    return [name for name in first if name is not None]


def _read_file(path: Path, columns: Sequence[str] | None) -> Iterator[Any]:
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        yield from _read_parquet(path, columns)
        return
    try:
        # Lines end at line feeds only: text may hold other separators, such as U+2028, as they are.
        with path.open(encoding="utf-8-sig", newline="" if suffix == ".csv" else "\n") as lines:
            if suffix == ".csv":
                # The reader's own limit, 131,072 characters a field, is below what an answer may take.
                csv.field_size_limit(sys.maxsize)
                yield from csv.DictReader(lines)
            elif suffix == ".txt":
                yield from (line.rstrip("\r\n") for line in lines)
            else:
                yield from (_parsed(line) for line in lines if line.strip())
    except UnicodeDecodeError as error:
        raise InputError(f"{path.name} is not UTF-8 text ({error.reason}). Save it as UTF-8.") from None
    except csv.Error as error:
        raise InputError(
            f"{path.name} is no readable CSV ({error}). Write it out again, or give Parquet or JSONL."
        ) from None


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):  # ValueError: also a number of thousands of digits
        return None


def _read_parquet(path: Path, columns: Sequence[str] | None) -> Iterator[dict[str, Any]]:
    import pyarrow.parquet as parquet

    with parquet_errors(path, "Get the file again."), parquet.ParquetFile(path) as file:
        wanted = None if columns is None else [name for name in file.schema_arrow.names if name in columns]
        for batch in file.iter_batches(ROWS_AT_A_TIME, columns=wanted):
            yield from batch.to_pylist()


def _open_hub(source: str) -> Source:
    """The dataset's tables at one revision. Parquet where there is any, else JSONL, else CSV."""
    address = parse_address(source)
    if address.revision is None:
        raise InputError(
            f"{source} names no revision: the dataset could change under the same name. Pin a tag or commit: {source}@v1.0.0."
        )
    folder = snapshot(address, ["*.parquet", "*.jsonl", "*.csv"])
    for suffix in FORMATS[:3]:
        files = sorted(folder.rglob(f"*{suffix}"))
        if files:
            # The folder of a snapshot is named after the commit that the revision stood for.
            return Source(f"{PREFIX}{address.repository}@{folder.name}", files, content_hash(files))
    raise InputError(f"{source} has no Parquet, JSONL or CSV file. Name a dataset that has one.")
