"""PUMS code -> words, per survey year.

Codes change between years. `codebooks/years.json` says for every survey year since 2010 which coding of a column holds, what the columns
were called and by which factors incomes are adjusted; the other files hold, for every column, who is asked and the words of each coding.
A code that means the same in two codings has the same words in both. A code that the year's coding does not know is counted and becomes
null; more than 1 % of a column is taken for a wrong year and stops the build.

Source of all labels: the Census Bureau's PUMS data dictionaries (public domain), made readable by make_codebooks.py.
"""

import json
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from builder.errors import InputError

FOLDER = Path(__file__).parent / "codebooks"
WORD_FILES = ("columns.json", "OCCP.json", "INDP.json", "ANC1P.json", "POBP.json")
EVERY_YEAR = "every year"  # name of the only coding of a column whose codes never changed
UNKNOWN_SHARE_ALLOWED = 0.01

Codebook = dict[str, dict[int, str]]  # column -> code -> words


def codebook_for(survey_year: int) -> Codebook:
    """The labels of every coded column that the Bureau's file of one survey year can have.

    A year after the last one known is read like the last. Raises InputError for a year before the first.
    """
    codings = year_facts(survey_year)["codings"]
    return {
        column: described["codings"][codings.get(column, EVERY_YEAR)]
        for column, described in packaged_columns().items()
        if column in codings or EVERY_YEAR in described["codings"]
    }


def universe(column: str, survey_year: int) -> str:
    """Who has an answer in a column, in words ("persons 17 years and over"); everybody else is blank.

    Raises InputError for a column that has no codes in that year.
    """
    if column not in codebook_for(survey_year):
        raise InputError(
            f"Column {column} has no codes in survey year {survey_year}. Columns with codes: {', '.join(codebook_for(survey_year))}."
        )
    return str(packaged_columns()[column]["universe"])


def survey_year_of_adjinc(factors: Iterable[int | None]) -> int | None:
    """The survey year whose file has these ADJINC factors: one in a 1-year file, up to five in a 5-year file, which counts as its last
    year. None where no year, or more than one, has them all."""
    present = {factor for factor in factors if factor is not None}
    years = [
        year
        for year, facts in packaged_years().items()
        if present and present <= {facts["adjinc"], *(facts["adjinc_five_years"] or ())}
    ]
    return years[0] if len(years) == 1 else None


def null_unknown_codes(table: pa.Table, survey_year: int) -> tuple[pa.Table, dict[str, dict[int, int]]]:
    """Replace codes that the year's codebook does not know by null.

    Returns the table and column -> code -> number of rows. Codes that stand for "no answer" (ancestry not reported, suppressed) become
    null without being counted: they are known, and mean missing. Raises InputError where unknown codes exceed 1 % of a column's rows.
    """
    labels = codebook_for(survey_year)
    unknown: dict[str, dict[int, int]] = {}
    for position, column in enumerate(table.column_names):
        if column not in labels:
            continue
        values = table[column]
        counts = {int(entry["values"]): int(entry["counts"]) for entry in values.drop_null().value_counts().to_pylist()}
        strange = unknown_codes(column, counts, survey_year)
        if strange:
            unknown[column] = strange
        if sum(strange.values()) > UNKNOWN_SHARE_ALLOWED * table.num_rows:
            raise InputError(refusal(column, counts, table.num_rows, survey_year))
        if not counts.keys() <= labels[column].keys():
            known = pc.is_in(values, value_set=pa.array(list(labels[column]), pa.int32()))
            table = table.set_column(position, column, pc.if_else(known, values, pa.scalar(None, values.type)))
    return table, unknown


def unknown_codes(column: str, counts: dict[int, int], survey_year: int) -> dict[int, int]:
    """The codes among code -> rows that have no words in that year and do not mean "no answer" either."""
    known = codebook_for(survey_year).get(column, {}).keys() | packaged_columns()[column]["missing"].keys()
    return {code: counts[code] for code in sorted(counts) if code not in known}


def refusal(column: str, counts: dict[int, int], rows: int, survey_year: int) -> str:
    """Why a column with too many unknown codes cannot be used; says the years whose coding the column fits, if there are any."""
    strange = unknown_codes(column, counts, survey_year)
    codes = sorted(strange, key=lambda code: -strange[code])
    shown = f"{', '.join(str(code) for code in codes[:8])}{', ...' if len(codes) > 8 else ''}"
    allowed = UNKNOWN_SHARE_ALLOWED * rows
    fitting = [year for year in packaged_years() if sum(unknown_codes(column, counts, year).values()) <= allowed]
    if fitting:
        guess = f"Its codes are those of {year_ranges(fitting)}. Check census.survey_year, or give the Bureau's own file of {survey_year}."
    elif codes[0] <= 0:
        guess = (
            f"{codes[0]} is no code of it: {column} is blank outside its universe ({universe(column, survey_year)}). Give the Bureau's own "
            "file, in which a blank is blank."
        )
    else:
        guess = (
            "The file is of another year or has been recoded: check census.survey_year, or give the Bureau's own file."
        )
    return (
        f"{sum(strange.values())} of {rows} rows have in {column} a code that the codebook for survey year {survey_year} does not know "
        f"({shown}); at most {UNKNOWN_SHARE_ALLOWED:.0%} is allowed. {guess}"
    )


def year_ranges(years: list[int]) -> str:
    """[2010, 2011, 2012, 2016] -> `2010-2012, 2016`."""
    starts = [year for year in years if year - 1 not in years]
    ends = [year for year in years if year + 1 not in years]
    return ", ".join(str(start) if start == end else f"{start}-{end}" for start, end in zip(starts, ends, strict=True))


def year_facts(survey_year: int) -> dict[str, Any]:
    years = packaged_years()
    if survey_year < min(years):
        raise InputError(
            f"Survey year {survey_year} is before {min(years)}, the first year with a codebook. Give a PUMS file of {min(years)} or later."
        )
    return years[min(survey_year, max(years))]


@lru_cache(maxsize=1)
def packaged_years() -> dict[int, dict[str, Any]]:
    """Survey year -> what holds in it, oldest first (see `codebooks/years.json`)."""
    years = json.loads((FOLDER / "years.json").read_text(encoding="utf-8"))["years"]
    return {int(year): years[year] for year in sorted(years, key=int)}


@lru_cache(maxsize=1)
def packaged_columns() -> dict[str, dict[str, Any]]:
    """Column -> universe, source, codings (name -> code -> words), and the codes that mean "no answer" with what they mean."""
    columns: dict[str, dict[str, Any]] = {}
    for name in WORD_FILES:
        columns |= json.loads((FOLDER / name).read_text(encoding="utf-8"))
    for described in columns.values():
        described["missing"] = {int(code): meaning for code, meaning in described.get("missing", {}).items()}
        described["codings"] = {
            coding: {int(code): words for code, words in labels.items()}
            for coding, labels in described["codings"].items()
        }
    return columns
