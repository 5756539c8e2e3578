"""Reads PUMS person records as the Census Bureau ships them, joined with their household's.

ACS Public Use Microdata Sample: one row is a person, codes are integers, blank means "not in universe" and becomes null, never zero.
"""

import csv
import gzip
import hashlib
import io
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from builder.census.codebook import known_adjinc_years
from builder.errors import InputError

PERSON_COLUMNS = (
    *("SERIALNO", "PWGTP", "AGEP", "SEX", "RAC1P", "HISP", "SCHL", "ESR", "COW", "INDP", "OCCP", "PINCP"),
    *("MAR", "CIT", "MIL", "DIS", "HICOV"),
)
HOUSEHOLD_COLUMNS = ("HHL", "HHT", "HUPAC")
OPTIONAL_PERSON_COLUMNS = (
    "STATE",
    "ANC1P",
    "POBP",
    "LANP",
    "ENG",
    "DREM",
    "DEYE",
    "DEAR",
    "FER",
    "NATIVITY",
    "ADJINC",
    "TYPEHUGQ",
)
OPTIONAL_HOUSEHOLD_COLUMNS = ("HHT2", "FPARC", "TYPEHUGQ")
# Older or project-made name -> 2024 name. An old name is used only where the new one is absent.
RENAMES = {"ST": "STATE", "RELP": "RELSHIPP", "JWTR": "JWTRNS", "TYPE": "TYPEHUGQ", "HUPAC_DERIVED": "HUPAC"}

PACKAGED_RECORDS = Path(__file__).parent / "synthetic_records.parquet"
SERIAL_YEAR = re.compile(r"^(20[0-4]\d)(?:HU|GQ|\d{9}$)")
FORMATS = ".parquet, .csv, .csv.gz or .zip"


@dataclass(frozen=True)
class CensusRecords:
    """Person records, one row a person.

    table: canonical 2024 column names; every column int32 except SERIALNO (text); null = blank = not in universe. Optional columns
        that the source lacks are absent.
    source: file name without its folder. sha256: of the content of the input files.
    dropped: rows left out while reading, by reason. imputed: columns that the source itself declares as imputed.
    """

    table: pa.Table
    survey_year: int
    source: str
    sha256: str
    dropped: dict[str, int] = field(default_factory=dict)
    imputed: tuple[str, ...] = ()


def read_packaged() -> CensusRecords:
    """The synthetic PUMS-coded records that the package carries (see make_synthetic.py)."""
    return read_pums(PACKAGED_RECORDS)


def read_pums(
    person_path: str | Path, household_path: str | Path | None = None, survey_year: int | None = None
) -> CensusRecords:
    """Read a PUMS person file, and the matching housing file where the household columns are not in the person file.

    Formats: .parquet, .csv, .csv.gz, .zip (every CSV inside, one after the other: the national file comes in two). The survey year
    is read from SERIALNO (2018 and later, and 5-year files) or ADJINC; elsewhere `survey_year` says it.
    Raises InputError, saying what is missing or unreadable, what year the file looks like and what to do.
    """
    person_path = Path(person_path)
    wanted = (*PERSON_COLUMNS, *OPTIONAL_PERSON_COLUMNS, *HOUSEHOLD_COLUMNS, *OPTIONAL_HOUSEHOLD_COLUMNS)
    persons, metadata = read_columns(person_path, dict.fromkeys(wanted))
    if persons.num_rows == 0:
        raise InputError(f"{person_path.name} holds no records. Give a PUMS person file with at least one row.")
    looks_like = detect_year(persons)
    year_text = f"looks like survey year {looks_like}" if looks_like else "does not say its survey year"
    missing = [column for column in PERSON_COLUMNS if column not in persons.column_names]
    if missing:
        raise InputError(
            f"{person_path.name} lacks the person column(s) {', '.join(missing)}; it {year_text}. Give the Census Bureau's person "
            "file (psam_p*.csv) with these columns, not the housing file or an extract without them."
        )
    year = settle_year(looks_like, survey_year, person_path.name)

    content_hash = hashlib.sha256(file_hash(person_path).encode())
    source = person_path.name
    if household_path is not None:
        household_path = Path(household_path)
        persons = join_households(persons, household_path, person_path.name)
        content_hash.update(file_hash(household_path).encode())
        source = f"{person_path.name} + {household_path.name}"
    missing = [column for column in HOUSEHOLD_COLUMNS if column not in persons.column_names]
    if missing:
        raise InputError(
            f"{source} lacks the household column(s) {', '.join(missing)} (survey year {year}). The Bureau keeps them in the housing "
            "file: give the one of the same year and area (psam_h*.csv) as census.household_source. They are joined on SERIALNO."
        )

    positive = pc.fill_null(pc.greater(persons["PWGTP"], 0), False)
    kept = persons.filter(positive)
    if kept.num_rows == 0:
        raise InputError(
            f"{source}: no row has a positive person weight (PWGTP), so nothing can be drawn. Give a file with the Bureau's weights."
        )
    dropped = {"weight not positive": persons.num_rows - kept.num_rows}
    imputed = tuple(column for column in metadata.get("imputed_columns", "").split(",") if column)
    sha256 = file_hash(person_path) if household_path is None else content_hash.hexdigest()
    return CensusRecords(kept, year, source, sha256, dropped, imputed)


def read_columns(path: Path, wanted: dict[str, Any]) -> tuple[pa.Table, dict[str, str]]:
    """The wanted columns that a file has, under their 2024 names and types, and the file's own metadata (parquet only)."""
    if not path.is_file():
        raise InputError(f"Census file {path} does not exist. Give a PUMS file ({FORMATS}), or `packaged`.")
    if path.stat().st_size == 0:
        raise InputError(f"{path.name} is empty. Download it again.")
    name = path.name.lower()
    if name.endswith(".parquet"):
        return read_parquet(path, wanted)
    if name.endswith((".csv", ".csv.gz", ".zip")):
        return read_csv(path, wanted), {}
    raise InputError(f"{path.name} has a format that is not read here. Give {FORMATS}.")


def read_parquet(path: Path, wanted: dict[str, Any]) -> tuple[pa.Table, dict[str, str]]:
    try:
        file = pq.ParquetFile(path)
        names = canonical_names(file.schema_arrow.names, wanted)
        table = file.read(columns=list(names))
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(
            f"{path.name} cannot be read as Parquet ({first_line(error)}). Download or write it again."
        ) from None
    metadata = {
        key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items() if key != b"pandas"
    }
    table = table.rename_columns([names[column] for column in table.column_names])
    columns = {column: typed_column(table[column], column, path.name) for column in table.column_names}
    return pa.table(columns), metadata


def read_csv(path: Path, wanted: dict[str, Any]) -> pa.Table:
    """Only the wanted columns are parsed: the Bureau's own person file has 286, of 3.4 million rows."""
    try:
        tables = read_csv_parts(path, wanted, as_text=False)
    except pa.ArrowInvalid:
        # A cell that is no whole number at first sight: "16.0", as exports of tables with blanks have it, or a word. Reading again as text
        # sorts these out, and takes twice the time and memory.
        tables = read_csv_parts(path, wanted, as_text=True)
    if not tables:
        raise InputError(f"{path.name} holds no CSV file. Give the Bureau's csv_p*.zip, or the CSV file inside.")
    return pa.concat_tables(tables)


def read_csv_parts(path: Path, wanted: dict[str, Any], as_text: bool) -> list[pa.Table]:
    try:
        with csv_streams(path) as streams:
            return [read_one_csv(stream, path.name, wanted, as_text) for stream in streams]
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path.name} is not UTF-8 text ({error.reason}). Give the Bureau's file, or save it as UTF-8."
        ) from None
    except pa.ArrowInvalid as error:
        if not as_text:
            raise
        raise InputError(f"{path.name} cannot be read as CSV ({first_line(error)}). Download it again.") from None
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error, csv.Error) as error:
        raise InputError(f"{path.name} cannot be read as CSV ({first_line(error)}). Download it again.") from None


@contextmanager
def csv_streams(path: Path) -> Iterator[Iterator[IO[bytes]]]:
    if path.name.lower().endswith(".zip"):
        with zipfile.ZipFile(path) as archive:
            members = sorted(name for name in archive.namelist() if name.lower().endswith(".csv"))
            yield (archive.open(name) for name in members)
        return
    with gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb") as stream:
        yield iter([cast(IO[bytes], stream)])


def read_one_csv(stream: IO[bytes], name: str, wanted: dict[str, Any], as_text: bool) -> pa.Table:
    # The header is read first because the column names decide which columns are parsed.
    raw_header = stream.readline()
    header = next(csv.reader([raw_header.decode("utf-8-sig")]), [])
    names = canonical_names(header, wanted)
    if not names:
        raise InputError(
            f"{name} has no PUMS column in its first line. Give a file whose first line names the columns."
        )
    duplicated = {column for column in header if header.count(column) > 1}
    if duplicated & set(names):
        raise InputError(f"{name} has column(s) {', '.join(sorted(duplicated))} twice. Keep one of each.")
    types = {column: pa.string() if as_text or names[column] == "SERIALNO" else pa.int32() for column in names}
    table = pacsv.read_csv(
        io.BufferedReader(stream) if isinstance(stream, io.RawIOBase) else stream,
        read_options=pacsv.ReadOptions(column_names=header, block_size=16 << 20),
        convert_options=pacsv.ConvertOptions(
            include_columns=list(names),
            column_types=types,
            null_values=[""],
            strings_can_be_null=True,
        ),
    )
    table = table.rename_columns([names[column] for column in table.column_names])
    return pa.table({column: typed_column(table[column], column, name) for column in table.column_names})


def canonical_names(present: list[str], wanted: dict[str, Any]) -> dict[str, str]:
    """Column name in the file -> 2024 name, for the wanted columns. Case does not matter."""
    by_upper = {column.strip().upper(): column for column in present}
    names = {by_upper[column]: column for column in wanted if column in by_upper}
    for old, new in RENAMES.items():
        if old in by_upper and new in wanted and new not in names.values():
            names[by_upper[old]] = new
    return names


def typed_column(values: pa.ChunkedArray, column: str, name: str) -> pa.ChunkedArray:
    """SERIALNO as text, everything else as int32; a blank is null."""
    if pa.types.is_large_string(values.type) or pa.types.is_dictionary(values.type):
        values = values.cast(pa.string())
    if column == "SERIALNO":
        return values.cast(pa.string())
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
            f"{name}: column {column} holds something that is not a whole number ({first_line(error)}). PUMS codes are whole numbers "
            "and blank means not in universe; give the Bureau's file without recoding."
        ) from None


def detect_year(persons: pa.Table) -> int | None:
    """The survey year that the records themselves state; of a 5-year file its last year, whose codes the whole file has."""
    if "SERIALNO" in persons.column_names:
        # Sorted text: the largest prefix is the latest year.
        latest = pc.max(persons["SERIALNO"]).as_py()
        match = SERIAL_YEAR.match(latest or "")
        if match:
            return int(match.group(1))
    if "ADJINC" in persons.column_names:
        years = {known_adjinc_years().get(factor) for factor in pc.unique(persons["ADJINC"]).to_pylist()}
        if len(years) == 1:
            return years.pop()
    return None


def settle_year(from_file: int | None, given: int | None, name: str) -> int:
    if from_file is not None and given is not None and from_file != given:
        raise InputError(
            f"census.survey_year is {given}, but the records of {name} are of {from_file} (SERIALNO or ADJINC). Codes differ between "
            f"years, so remove census.survey_year or set it to {from_file}."
        )
    year = from_file if from_file is not None else given
    if year is None:
        raise InputError(
            f"{name} does not say its survey year (SERIALNO has none before 2018, and ADJINC is absent or unknown). Codes differ "
            "between years: set census.survey_year."
        )
    return year


def join_households(persons: pa.Table, household_path: Path, person_name: str) -> pa.Table:
    wanted = ("SERIALNO", *HOUSEHOLD_COLUMNS, *OPTIONAL_HOUSEHOLD_COLUMNS)
    households, _ = read_columns(household_path, dict.fromkeys(wanted))
    absent = [column for column in ("SERIALNO", *HOUSEHOLD_COLUMNS) if column not in households.column_names]
    if absent:
        raise InputError(
            f"{household_path.name} lacks {', '.join(absent)}. Give the Bureau's housing file (psam_h*.csv) as census.household_source."
        )
    if len(pc.unique(households["SERIALNO"])) != households.num_rows:
        raise InputError(
            f"{household_path.name} names a household (SERIALNO) more than once. A housing file has one row a household."
        )
    position = pc.index_in(persons["SERIALNO"], value_set=households["SERIALNO"].combine_chunks())
    unmatched = position.null_count
    if unmatched:
        raise InputError(
            f"{unmatched} of {persons.num_rows} persons of {person_name} have no household in {household_path.name} (SERIALNO). The two "
            "files must be of the same year and area."
        )
    for column in households.column_names:
        if column == "SERIALNO":
            continue
        values = households[column].take(position)
        if column in persons.column_names:
            persons = persons.drop_columns([column])
        persons = persons.append_column(column, values)
    return persons


def file_hash(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
