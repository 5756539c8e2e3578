"""PUMS code -> words, per survey year.

Codes change between years, so labels come from the codebook whose coding holds in the survey year: of the packaged codebooks (2011,
2016, 2018, 2024) the latest that had begun by then. When a coding began is stated in each codebook, by column where that matters: the
years 2010-2011 are read with the book of 2011, 2012-2017 with 2016, 2018-2022 with 2018, 2023 and later with 2024. A code that the book
does not know is counted and becomes null; more than 1 % of a column is taken for a wrong year and stops the build.

Source of all labels: the Census Bureau's PUMS data dictionaries (public domain), made readable by make_codebooks.py.
"""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from builder.errors import InputError

FOLDER = Path(__file__).parent / "codebooks"
UNKNOWN_SHARE_ALLOWED = 0.01

Codebook = dict[str, dict[int, str]]  # column -> code -> words


def codebook_for(survey_year: int) -> Codebook:
    """The labels of every coded column in one survey year. Raises InputError for a year before the first codebook."""
    books = packaged_codebooks()
    first = min(book["first_years"]["default"] for book in books)
    if survey_year < first:
        raise InputError(
            f"Survey year {survey_year} is before {first}, the first year with a codebook. Give a PUMS file of {first} or later."
        )
    labels: Codebook = {}
    for book in books:
        for column, texts in book["columns"].items():
            begins = book["first_years"].get(column, book["first_years"]["default"])
            if begins <= survey_year:
                labels[column] = {int(code): text for code, text in texts.items()}
    return labels


def known_adjinc_years() -> dict[int, int]:
    """ADJINC factor of a 1-year file -> its survey year, for the years that have a codebook."""
    return {factor: book["survey_year"] for book in packaged_codebooks() for factor in book["adjinc"]}


def null_unknown_codes(table: pa.Table, survey_year: int) -> tuple[pa.Table, dict[str, dict[int, int]]]:
    """Replace codes that the year's codebook does not know by null.

    Returns the table and column -> code -> number of rows. Codes that stand for "no answer" (ancestry not reported, suppressed) become
    null without being counted: they are known, and mean missing. Raises InputError where unknown codes exceed 1 % of a column's rows.
    """
    labels = codebook_for(survey_year)
    means_missing = {column: codes for book in packaged_codebooks() for column, codes in book["missing_codes"].items()}
    unknown: dict[str, dict[int, int]] = {}
    for position, column in enumerate(table.column_names):
        if column not in labels:
            continue
        values = table[column]
        known = pc.is_in(values, value_set=pa.array(list(labels[column]), pa.int32()))
        silent = pc.is_in(values, value_set=pa.array(means_missing.get(column, []), pa.int32()))
        strange = pc.and_(pc.is_valid(values), pc.invert(pc.or_(known, silent)))
        counts = {
            int(entry["values"]): int(entry["counts"]) for entry in values.filter(strange).value_counts().to_pylist()
        }
        if counts:
            unknown[column] = dict(sorted(counts.items()))
            refuse_if_many(column, unknown[column], table.num_rows, survey_year)
        if not pc.all(pc.or_kleene(known, pc.is_null(values))).as_py():
            nulled = pc.if_else(known, values, pa.scalar(None, values.type))
            table = table.set_column(position, column, nulled)
    return table, unknown


def refuse_if_many(column: str, counts: dict[int, int], rows: int, survey_year: int) -> None:
    total = sum(counts.values())
    if total > UNKNOWN_SHARE_ALLOWED * rows:
        codes = ", ".join(str(code) for code in sorted(counts, key=lambda code: -counts[code])[:8])
        raise InputError(
            f"{total} of {rows} rows have a {column} code that the codebook for survey year {survey_year} does not know ({codes}"
            f"{', ...' if len(counts) > 8 else ''}). More than {UNKNOWN_SHARE_ALLOWED:.0%} means that the file is of another year or has "
            "been recoded: check census.survey_year, or give the Bureau's own file."
        )


@lru_cache(maxsize=1)
def packaged_codebooks() -> list[dict[str, Any]]:
    """Oldest first."""
    books = [json.loads(path.read_text(encoding="utf-8")) for path in FOLDER.glob("*.json")]
    return sorted(books, key=lambda book: book["survey_year"])
