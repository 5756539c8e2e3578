"""Reads PUMS person records as the Census Bureau ships them, joined with their household's.

ACS Public Use Microdata Sample: one row is a person, codes are integers, blank means "not in universe" and becomes null, never zero.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from builder.census.codebook import survey_year_of_adjinc
from builder.census.pums_files import content_hash, housing_files, person_and_housing_files
from builder.census.tables import Wanted, read_parts
from builder.errors import InputError

PERSON_COLUMNS = (
    *("SERIALNO", "PWGTP", "AGEP", "SEX", "RAC1P", "HISP", "SCHL", "ESR", "COW", "INDP", "OCCP", "PINCP"),
    *("MAR", "CIT", "MIL", "DIS", "HICOV"),
)
HOUSEHOLD_COLUMNS = ("HHL", "HHT", "HUPAC")
OPTIONAL_PERSON_COLUMNS = (
    *("STATE", "PUMA", "ANC1P", "POBP", "LANP", "ENG", "DREM", "DEYE", "DEAR", "FER", "NATIVITY", "ADJINC", "TYPEHUGQ"),
    *("RELSHIPP", "RAC2P"),
)
# Detailed race: the codes before 2020 mean other groups, and nothing here reads them.
DETAILED_RACE, DETAILED_RACE_SINCE = "RAC2P", 2020
OLDEST = 99  # the Bureau's top code
OPTIONAL_HOUSEHOLD_COLUMNS = ("HHT2", "FPARC", "TYPEHUGQ")
# 2024 name -> older or project-made name, which is used only where the new one is absent. RELP has other codes than RELSHIPP.
RENAMED = {"STATE": "ST", "RELSHIPP": "RELP", "TYPEHUGQ": "TYPE", "HUPAC": "HUPAC_DERIVED"}
# A 5-year file that mixes areas drawn after the censuses of 2010 and 2020 has two columns; -9 where the other one holds.
PUMA_BY_CENSUS = ("PUMA20", "PUMA10")

PACKAGED_RECORDS = Path(__file__).parent / "synthetic_records.parquet"
SERIAL_YEAR = re.compile(r"^(20[0-4]\d)(?:HU|GQ|\d{9}$)")


@dataclass(frozen=True)
class CensusRecords:
    """Person records, one row a person.

    table: canonical 2024 column names; every column int32 except SERIALNO (text); null = blank = not in universe. Optional columns
        that the source lacks are absent. SERIALNO and PUMA serve the build only and are never published.
    source: file names without their folder. sha256: of the content of the input files.
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
    """Read PUMS person records, and the matching housing records where the household columns are not in the person file.

    A path is a file (.parquet, .csv, .csv.gz, or .zip: every CSV inside, as the national file comes in several) or a folder with the
    Bureau's files of one year, as `persona census fetch` writes it; a folder's housing files are found without `household_path`. 1-year
    and 5-year files; a file is read in one pass, keeping only the columns above. The survey year is read from SERIALNO (2017 and later,
    and 5-year files) or ADJINC; elsewhere `survey_year` says it.
    Raises InputError, saying what is missing or unreadable, what year the file looks like and what to do.
    """
    person_files, household_files = person_and_housing_files(person_path)
    if household_path is not None:
        household_files = housing_files(household_path)
    persons, from_file, metadata = read_persons(person_files)
    source = name_files(person_files)
    year = settle_year(from_file, survey_year, source)
    if year < DETAILED_RACE_SINCE and DETAILED_RACE in persons.column_names:
        persons = persons.drop_columns([DETAILED_RACE])
    if household_files:
        persons = join_households(persons, year, source, household_files)
        source = f"{source} + {name_files(household_files)}"
    missing = [column for column in HOUSEHOLD_COLUMNS if column not in persons.column_names]
    if missing:
        raise InputError(
            f"{source} lacks the household column(s) {', '.join(missing)} (survey year {year}). The Bureau keeps them in the housing "
            "file: give the one of the same year and area (psam_h*.csv) as census.household_source. They are joined on SERIALNO."
        )
    kept, dropped = leave_out_weightless(persons, source)
    imputed = tuple(column for column in metadata.get("imputed_columns", "").split(",") if column)
    sha256 = content_hash([*person_files, *household_files])
    return CensusRecords(kept, year, source, sha256, {"weight not positive": dropped}, imputed)


def adjinc_factors(records: CensusRecords) -> dict[int, int]:
    """ADJINC factor (six implied decimals) -> number of persons; empty where the file lacks it.

    A 1-year file has one factor, a 5-year file one for each of its years, which brings every income to dollars of the last year.
    """
    if "ADJINC" not in records.table.column_names:
        return {}
    counted = pc.value_counts(records.table["ADJINC"]).to_pylist()
    return dict(sorted((entry["values"], entry["counts"]) for entry in counted if entry["values"] is not None))


def read_persons(files: list[Path]) -> tuple[pa.Table, int | None, dict[str, str]]:
    """All persons of the files, the survey year that they state (None: they state none), and the files' own metadata."""
    wanted = columns_of(
        PERSON_COLUMNS, OPTIONAL_PERSON_COLUMNS, HOUSEHOLD_COLUMNS, OPTIONAL_HOUSEHOLD_COLUMNS, PUMA_BY_CENSUS
    )
    parts, metadata = read_all_parts(files, wanted)
    for label, part in parts.items():
        missing = [column for column in PERSON_COLUMNS if column not in part.column_names]
        if missing:
            year = detect_year(part)
            year_text = f"looks like survey year {year}" if year else "does not say its survey year"
            raise InputError(
                f"{label} lacks the person column(s) {', '.join(missing)}; it {year_text}. Give the Census Bureau's person "
                "file (psam_p*.csv) with these columns, not the housing file or an extract without them."
            )
        if part["SERIALNO"].null_count:
            raise InputError(
                f"{label} has {part['SERIALNO'].null_count} row(s) without SERIALNO, which says who lives together. Give the Bureau's file."
            )
        refuse_impossible_ages(part["AGEP"], label)
    year = one_year(parts)
    persons = one_table(parts)
    return unite_puma(persons), year, metadata


def refuse_impossible_ages(ages: pa.ChunkedArray, label: str) -> None:
    """Everybody has an age in PUMS; who is an adult, and what was asked of a person, follows from it."""
    possible = pc.fill_null(pc.and_(pc.greater_equal(ages, 0), pc.less_equal(ages, OLDEST)), False)
    wrong = pc.sum(pc.invert(possible)).as_py() or 0
    if wrong:
        example = ages.filter(pc.invert(possible))[0].as_py()
        raise InputError(
            f"{label} has {wrong} row(s) whose age (AGEP) is blank or not from 0 to {OLDEST} (for instance "
            f"{'blank' if example is None else example}). The Bureau gives everybody's age; give its file without recoding."
        )


def columns_of(*groups: tuple[str, ...]) -> Wanted:
    return {name: (name, RENAMED[name]) if name in RENAMED else (name,) for group in groups for name in group}


def read_all_parts(files: list[Path], wanted: Wanted) -> tuple[dict[str, pa.Table], dict[str, str]]:
    parts: dict[str, pa.Table] = {}
    metadata: dict[str, str] = {}
    for file in files:
        of_file, about_file = read_parts(file, wanted)
        parts.update(of_file)
        metadata.update(about_file)
    return parts, metadata


def one_year(parts: dict[str, pa.Table]) -> int | None:
    years = {label: detect_year(part) for label, part in parts.items()}
    first = next(iter(years))
    for label, year in years.items():
        if year != years[first]:
            raise InputError(
                f"{first} is of survey year {years[first] or 'unknown'} and {label} of {year or 'unknown'}. Codes and dollars differ "
                "between years: give files of one year."
            )
    return years[first]


def one_table(parts: dict[str, pa.Table]) -> pa.Table:
    """The parts one after the other. Raises InputError where one lacks a column that another has."""
    labels = list(parts)
    columns = parts[labels[0]].column_names
    for label in labels[1:]:
        differing = sorted(set(parts[label].column_names) ^ set(columns))
        if differing:
            raise InputError(
                f"{labels[0]} and {label} are not parts of one file: only one of them has {', '.join(differing)}. Give files of the same "
                "year and period (1-year or 5-year)."
            )
    return pa.concat_tables([parts[label].select(columns) for label in labels])


def unite_puma(persons: pa.Table) -> pa.Table:
    """PUMA from the two columns that stand for it in some 5-year files. The same number means another area before and after 2020."""
    by_census = [column for column in PUMA_BY_CENSUS if column in persons.column_names]
    if not by_census:
        return persons
    known = [pc.if_else(pc.greater(persons[c], 0), persons[c], pa.scalar(None, pa.int32())) for c in by_census]
    persons = persons.drop_columns(by_census)
    if "PUMA" not in persons.column_names:
        persons = persons.append_column("PUMA", pc.coalesce(*known))
    return persons


def detect_year(records: pa.Table) -> int | None:
    """The survey year that the records themselves state; of a 5-year file its last year, whose codes the whole file has."""
    if "SERIALNO" in records.column_names:
        # Sorted text: the largest prefix is the latest year.
        latest = pc.max(records["SERIALNO"]).as_py()
        match = SERIAL_YEAR.match(latest or "")
        if match:
            return int(match.group(1))
    if "ADJINC" in records.column_names:
        return survey_year_of_adjinc(pc.unique(records["ADJINC"]).to_pylist())
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
            f"{name} does not say its survey year (SERIALNO has none before 2017, and ADJINC is absent or unknown). Codes differ "
            "between years: set census.survey_year."
        )
    return year


def join_households(persons: pa.Table, year: int, person_source: str, files: list[Path]) -> pa.Table:
    """The persons with their household's columns. A housing unit without persons (NP = 0, vacant) joins nobody."""
    wanted = columns_of(("SERIALNO", "ADJINC"), HOUSEHOLD_COLUMNS, OPTIONAL_HOUSEHOLD_COLUMNS)
    parts, _ = read_all_parts(files, wanted)
    for label, part in parts.items():
        absent = [column for column in ("SERIALNO", *HOUSEHOLD_COLUMNS) if column not in part.column_names]
        if absent:
            raise InputError(
                f"{label} lacks {', '.join(absent)}. Give the Bureau's housing file (psam_h*.csv) as census.household_source."
            )
    source = name_files(files)
    housing_year = one_year(parts)
    if housing_year is not None and housing_year != year:
        raise InputError(
            f"The persons of {person_source} are of survey year {year}, the households of {source} of {housing_year}. Give the housing "
            f"file of {year}: households of another year are other households."
        )
    households = one_table(parts)
    del parts
    if pc.count_distinct(households["SERIALNO"], mode="all").as_py() != households.num_rows:
        raise InputError(
            f"{source} names a household (SERIALNO) more than once. A housing file has one row a household."
        )
    position = pc.index_in(persons["SERIALNO"], value_set=households["SERIALNO"].combine_chunks())
    unmatched = position.null_count
    if unmatched:
        raise InputError(
            f"{unmatched} of {persons.num_rows} persons of {person_source} have no household in {source} (SERIALNO). The two must be of "
            "the same year, area and period (1-year or 5-year)."
        )
    for column in households.column_names:
        if column == "SERIALNO" or (column == "ADJINC" and column in persons.column_names):
            continue
        values = households[column].combine_chunks().take(position)
        if column in persons.column_names:
            persons = persons.drop_columns([column])
        persons = persons.append_column(column, values)
    return persons


def leave_out_weightless(persons: pa.Table, source: str) -> tuple[pa.Table, int]:
    """The persons with a positive weight, and how many have none."""
    positive = pc.fill_null(pc.greater(persons["PWGTP"], 0), False)
    count = pc.sum(positive).as_py()
    if not count:
        raise InputError(
            f"{source}: no row has a positive person weight (PWGTP), so nothing can be drawn. Give a file with the Bureau's weights."
        )
    # The Bureau's files have no such row as a rule; filtering would hold the table twice.
    return (persons if count == persons.num_rows else persons.filter(positive)), persons.num_rows - count


def name_files(files: list[Path]) -> str:
    if len(files) == 1:
        return files[0].name
    return f"{files[0].name} ... {files[-1].name} ({len(files)} files)"
