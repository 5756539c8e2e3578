"""The wanted columns of a table file, whatever its format: .parquet, .csv, .csv.gz, or a .zip with one CSV file or several.

A national PUMS person file has 3.4 million rows of 286 columns, 2.4 GB as text. Files are therefore read block by block, and of every
block only the wanted columns are kept, as 32-bit integers. A file that was cut off on its way is refused, never read as far as it goes.
"""

import csv
import gzip
import io
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import IO, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from builder.errors import InputError

FORMATS = ".parquet, .csv, .csv.gz or .zip"
TEXT_COLUMN = "SERIALNO"  # every other wanted column holds whole numbers
CSV_BLOCK_BYTES = 4 << 20
PARQUET_BATCH_ROWS = 1 << 16

Wanted = dict[str, tuple[str, ...]]  # column -> the names that a file may have for it, best first


def read_parts(path: Path, wanted: Wanted) -> tuple[dict[str, pa.Table], dict[str, str]]:
    """The wanted columns that the file has: one table for every part of it, and the file's own metadata (Parquet only).

    A part is a CSV file inside a .zip, or the whole file; its label says which ("psam_pusa.csv in csv_pus.zip"). Columns are int32, except
    SERIALNO (text); a blank is null. Raises InputError for a file that cannot be read, was cut off, or has a part without a row.
    """
    if not path.is_file():
        raise InputError(f"Census file {path} does not exist. Give a PUMS file ({FORMATS}), or `packaged`.")
    if path.stat().st_size == 0:
        raise InputError(f"{path.name} is empty. Download it again.")
    name = path.name.lower()
    if name.endswith(".parquet"):
        table, metadata = read_parquet(path, wanted)
        return {path.name: table}, metadata
    if name.endswith(".zip"):
        return read_zip(path, wanted), {}
    if name.endswith((".csv", ".csv.gz")):
        return {path.name: read_csv(partial(open_csv_file, path), path.name, wanted)}, {}
    raise InputError(f"{path.name} has a format that is not read here. Give {FORMATS}.")


def read_parquet(path: Path, wanted: Wanted) -> tuple[pa.Table, dict[str, str]]:
    try:
        file = pq.ParquetFile(path)
        names = names_in_file(file.schema_arrow.names, wanted, path.name)
        batches = [
            typed_table(batch, names, path.name)
            for batch in file.iter_batches(batch_size=PARQUET_BATCH_ROWS, columns=list(names))
        ]
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(
            f"{path.name} cannot be read as Parquet ({first_line(error)}). Download or write it again."
        ) from None
    metadata = {
        key.decode("utf-8", "replace"): value.decode("utf-8", "replace")
        for key, value in (file.schema_arrow.metadata or {}).items()
        if key not in (b"pandas", b"ARROW:schema")
    }
    if not batches:
        raise InputError(f"{path.name} holds no records. Give a PUMS file with at least one row.")
    return pa.concat_tables(batches), metadata


def read_zip(path: Path, wanted: Wanted) -> dict[str, pa.Table]:
    """Every CSV file inside, by its label. The Bureau's national files come in two parts (a 1-year file) or four (a 5-year file)."""
    try:
        with zipfile.ZipFile(path) as archive:
            # macOS puts a hidden twin beside every file that it packs.
            hidden = re.compile(r"(^|/)(__MACOSX/|\._)")
            members = sorted(n for n in archive.namelist() if n.lower().endswith(".csv") and not hidden.search(n))
    except (zipfile.BadZipFile, OSError) as error:
        raise InputError(
            f"{path.name} cannot be read as a zip archive ({first_line(error)}): it was cut off or damaged on its way. Remove it and "
            "download it again."
        ) from None
    if not members:
        raise InputError(f"{path.name} holds no CSV file. Give the Bureau's csv_p*.zip, or the CSV file inside.")
    parts = {}
    for member in members:
        label = f"{member} in {path.name}"
        parts[label] = read_csv(partial(open_member, path, member), label, wanted)
    return parts


@contextmanager
def open_member(path: Path, member: str) -> Iterator[IO[bytes]]:
    with zipfile.ZipFile(path) as archive, archive.open(member) as stream:
        yield stream


def open_csv_file(path: Path) -> AbstractContextManager[IO[bytes]]:
    if path.name.lower().endswith(".gz"):
        return cast(AbstractContextManager[IO[bytes]], gzip.open(path))
    with path.open("rb") as stream:
        stream.seek(-1, io.SEEK_END)
        if stream.read(1) not in b"\r\n":
            # An archive's checksum shows that it was cut off. A plain file has none, and this is the one sign that is always there.
            raise InputError(
                f"{path.name} ends in the middle of a line, so it was probably cut off. Download it again; if it is whole, add a line "
                "break at its end."
            )
    return path.open("rb")


def read_csv(open_stream: Callable[[], AbstractContextManager[IO[bytes]]], label: str, wanted: Wanted) -> pa.Table:
    try:
        try:
            with open_stream() as stream:
                return pa.concat_tables(csv_batches(stream, label, wanted, as_text=False))
        except pa.ArrowInvalid as error:
            refuse_broken_row(error, label)
        # A cell that is no whole number at first sight: "16.0", as exports of tables with blanks have it, or a word. As text, block by
        # block, it takes no more memory, but twice the time. Outside the `except`, which would keep what was read so far in memory.
        with open_stream() as stream:
            return pa.concat_tables(csv_batches(stream, label, wanted, as_text=True))
    except UnicodeDecodeError as error:
        raise InputError(
            f"{label} is not UTF-8 text ({error.reason}). Give the Bureau's file, or save it as UTF-8."
        ) from None
    except (
        NotImplementedError,
        RuntimeError,
    ) as error:  # zipfile's words for a compression it lacks, and for a password
        raise InputError(
            f"{label} cannot be unpacked here ({first_line(error)}). Unpack it with another program and give the CSV file."
        ) from None
    except (pa.ArrowInvalid, OSError, EOFError, zipfile.BadZipFile, zlib.error, csv.Error) as error:
        if isinstance(error, pa.ArrowInvalid):
            refuse_broken_row(error, label)
        raise InputError(
            f"{label} cannot be read as CSV ({first_line(error)}): it was cut off or damaged on its way. Remove it and download it again."
        ) from None


def csv_batches(raw: IO[bytes], label: str, wanted: Wanted, as_text: bool) -> Iterator[pa.Table]:
    # The header is read first because the column names decide which columns are parsed.
    stream = io.BufferedReader(cast(io.RawIOBase, raw), buffer_size=1 << 20)
    header = next(csv.reader([stream.readline().decode("utf-8-sig")]), [])
    names = names_in_file(header, wanted, label)
    if not stream.peek(1).strip(b"\r\n"):
        raise InputError(
            f"{label} holds a header and no records, so an area would silently be missing. Download it again, or leave this part out."
        )
    types = {column: pa.string() if as_text or names[column] == TEXT_COLUMN else pa.int32() for column in names}
    reader = pacsv.open_csv(
        stream,
        read_options=pacsv.ReadOptions(column_names=header, block_size=CSV_BLOCK_BYTES),
        convert_options=pacsv.ConvertOptions(
            include_columns=list(names),
            column_types=types,
            null_values=[""],
            strings_can_be_null=True,
        ),
    )
    with reader:
        for batch in reader:
            yield typed_table(batch, names, label)


def names_in_file(present: list[str], wanted: Wanted, label: str) -> dict[str, str]:
    """Column name in the file -> the name wanted. Case does not matter. Raises InputError where there is none, or one twice."""
    by_upper = {column.strip().upper(): column for column in present}
    names = {}
    for column, spellings in wanted.items():
        spelling = next((s for s in spellings if s in by_upper), None)
        if spelling is not None:
            names[by_upper[spelling]] = column
    if not names:
        raise InputError(
            f"{label} has no PUMS column in its first line. Give a file whose first line names the columns."
        )
    duplicated = {column for column in present if present.count(column) > 1}
    if duplicated & set(names):
        raise InputError(f"{label} has column(s) {', '.join(sorted(duplicated))} twice. Keep one of each.")
    return names


def typed_table(batch: pa.RecordBatch, names: dict[str, str], label: str) -> pa.Table:
    return pa.table(
        {names[n]: typed_column(batch.column(n), names[n], label) for n in batch.schema.names},
    )


def typed_column(values: pa.Array, column: str, label: str) -> pa.Array:
    """SERIALNO as text, everything else as int32; a blank is null."""
    if pa.types.is_large_string(values.type) or pa.types.is_dictionary(values.type):
        values = values.cast(pa.string())
    if column == TEXT_COLUMN:
        return text_column(values, label)
    if pa.types.is_string(values.type):
        values = pc.utf8_trim_whitespace(values)
        values = pc.if_else(pc.equal(values, ""), pa.scalar(None, pa.string()), values)
    try:
        if pa.types.is_string(values.type):
            try:
                return values.cast(pa.int32())
            except pa.ArrowInvalid:  # "16.0", as exports of tables with blanks have it
                values = values.cast(pa.float64())
        if pa.types.is_floating(values.type):
            values = pc.if_else(pc.is_nan(values), pa.scalar(None, values.type), values)
        return values.cast(pa.int32())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InputError(
            f"{label}: column {column} holds something that is not a whole number ({first_line(error)}). PUMS codes are whole numbers "
            "and blank means not in universe; give the Bureau's file without recoding."
        ) from None


def text_column(values: pa.Array, label: str) -> pa.Array:
    try:
        return values.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InputError(
            f"{label}: column {TEXT_COLUMN} holds what is not text ({first_line(error)}). Give the Bureau's file without recoding."
        ) from None


def refuse_broken_row(error: pa.ArrowInvalid, label: str) -> None:
    """Raises InputError where a row has too few or too many cells. Arrow's own words would quote the respondent's row."""
    counts = re.search(r"Expected (\d+) columns, got (\d+)", str(error))
    if counts:
        raise InputError(
            f"{label} has a row of {counts[2]} cells under a header of {counts[1]} columns, so it was cut off or damaged on its way. "
            "Remove it and download it again."
        ) from None


def first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
