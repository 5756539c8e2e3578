"""Census files: CSV, gz, zip, Parquet and folders of them, from the packaged synthetic records; read, drawn and put into words."""

import functools
import gzip
import io
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

from builder.census.codebook import codebook_for
from builder.census.draw import draw_order
from builder.census.pums import HOUSEHOLD_COLUMNS, OLDEST, PACKAGED_RECORDS, RENAMED
from builder.personas.candidate import make_candidate
from builder.personas.personas import KnownRecords, describe_income_unit, read_records
from builder.recipe import CensusRecipe
from tests.fuzz.mutations import (
    Files,
    Table,
    byte_edit,
    cell_edit,
    csv_bytes,
    edited_bytes,
    edited_table,
    encoded,
    encodings,
    places,
    some,
)

# Below a hundred rows one unknown code is more than the share allowed; above, it is nulled.
ROWS = (3, 130)
IN_WORDS = 3  # persons of each file who are described as personas are
YEAR = "survey_year"  # a file of this name says what the recipe says
# Types that other writers of Parquet give a column of codes.
CASTS: dict[str, Any] = {
    "text": lambda values: values.cast(pa.string()),
    "large text": lambda values: values.cast(pa.string()).cast(pa.large_string()),
    "text view": lambda values: values.cast(pa.string()).cast(pa.string_view()),
    "categories": lambda values: values.cast(pa.string()).dictionary_encode(),
    "categories of numbers": lambda values: values.dictionary_encode(),
    "bytes": lambda values: values.cast(pa.string()).cast(pa.binary()),
    "real": lambda values: pa.array([float(place) for place in range(len(values))]),
    "half": lambda values: pa.array([0.5] * len(values), pa.float32()),
    "nan": lambda values: pa.array([float("nan")] * len(values)),
    "infinite": lambda values: pa.array([float("-inf")] * len(values)),
    "huge": lambda values: pa.array([2**40] * len(values), pa.int64()),
    "unsigned": lambda values: pa.array([2**63] * len(values), pa.uint64()),
    "decimal": lambda values: pa.array([None] * len(values), pa.decimal128(5, 2)),
    "boolean": lambda values: pa.array([True] * len(values)),
    "date": lambda values: pa.array([19000] * len(values), pa.date32()),
    "timestamp": lambda values: pa.array([19000] * len(values), pa.timestamp("ns", "UTC")),
    "lists": lambda values: pa.array([[1]] * len(values)),
    "struct": lambda values: pa.array([{"a": 1}] * len(values)),
    "null": lambda values: pa.nulls(len(values)),
}
METADATA: tuple[dict[bytes, bytes], ...] = (
    {},
    {b"imputed_columns": b"ANC1P,POBP"},
    {b"imputed_columns": b"\xff"},
    {b"\xff": b"x"},
    {b"imputed_columns": b",,x"},
)


@functools.cache
def records_of(rows: int) -> pa.Table:
    return pa.Table.from_pylist(pq.read_table(PACKAGED_RECORDS).slice(0, rows).to_pylist())


@functools.cache
def valid_table(rows: int, columns: str) -> Table:
    """columns: `all`, `person` or `housing`; a housing file has one row a household."""
    records = records_of(rows)
    names = [n for n in records.column_names if columns == "all" or (n in HOUSEHOLD_COLUMNS) == (columns == "housing")]
    names = ["SERIALNO", "ADJINC", *[n for n in names if n not in ("SERIALNO", "ADJINC")]]
    cells = [["" if v is None else str(v) for v in records[name].to_pylist()] for name in names]
    return [[RENAMED.get(name, name) for name in names], *[list(row) for row in zip(*cells, strict=True)]]


@st.composite
def tables_as_csv(draw: st.DrawFn, columns: str) -> bytes:
    """Wrong in one way: most files that are wrong in several are refused for the first."""
    table = valid_table(draw(st.sampled_from(ROWS)), columns)
    how = draw(st.sampled_from(("cells", "cells", "cells", "right", "bytes", "encoding", "separator")))
    if how == "cells":
        return csv_bytes(edited_table(table, draw(some(cell_edit))))
    if how == "separator":
        return csv_bytes(table, draw(st.sampled_from((";", "\t", "|"))))
    if how == "bytes":
        return edited_bytes(csv_bytes(table), draw(some(byte_edit, 2)))
    return encoded(csv_bytes(table), draw(encodings) if how == "encoding" else None)


@st.composite
def parquet_files(draw: st.DrawFn) -> bytes:
    table = records_of(draw(st.sampled_from(ROWS)))
    table = table.slice(0, draw(st.sampled_from((table.num_rows, table.num_rows, table.num_rows, 0))))
    for place, cast in draw(some(st.tuples(places, st.sampled_from(sorted(CASTS))), 2)):
        at = place % table.num_columns
        values = records_of(ROWS[1]).column(at).combine_chunks()[: table.num_rows]
        table = table.set_column(at, table.column_names[at], CASTS[cast](values))
    for place, name in draw(
        some(st.tuples(places, st.sampled_from(("SERIALNO", "agep", "AGEP ", "", "x", "PUMA20", "RAC2P"))), 1)
    ):
        names = list(table.column_names)
        names[place % len(names)] = name
        table = table.rename_columns(names)
    edits = draw(some(byte_edit, 2)) if draw(places) % 4 == 3 else []
    return parquet_bytes(table.replace_schema_metadata(draw(st.sampled_from(METADATA))), edits)


def parquet_bytes(table: pa.Table, edits: Sequence[Any] = ()) -> bytes:
    out = io.BytesIO()
    pq.write_table(table, out)
    return edited_bytes(out.getvalue(), edits)


@st.composite
def zip_files(draw: st.DrawFn, columns: str = "all") -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(
        out, "w", draw(st.sampled_from((zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED, zipfile.ZIP_LZMA)))
    ) as archive:
        names = st.sampled_from(("psam_pusa.csv", "psam_pusb.CSV", "a/b.csv", "__MACOSX/._a.csv", "readme.pdf"))
        for name in draw(st.lists(names, min_size=draw(places) % 5 > 0, max_size=2, unique=True)):
            archive.writestr(name, draw(tables_as_csv(columns)))
    return edited_bytes(out.getvalue(), draw(some(byte_edit, 2)) if draw(places) % 3 == 2 else [])


@st.composite
def packed(draw: st.DrawFn) -> Files:
    kind = draw(st.sampled_from(("csv", "csv", "csv.gz", "zip", "parquet", "folder", "beside", "other")))
    if kind == "parquet":
        files = {"people.parquet": draw(parquet_files())}
    elif kind == "zip":
        files = {"people.zip": draw(zip_files())}
    elif kind == "csv.gz":
        content = gzip.compress(draw(tables_as_csv("all")), 1, mtime=0)
        files = {"people.csv.gz": edited_bytes(content, draw(some(byte_edit, 2)) if draw(places) % 3 == 2 else [])}
    elif kind == "folder":
        names = st.sampled_from(
            ("psam_p50.csv", "psam_h50.csv", "csv_pvt.zip", "csv_hvt.zip", "psam_pusa.csv", "psam_h50.csv.gz", "x.part")
        )
        files = {"psam_p01.csv": draw(tables_as_csv("person")), "psam_h01.csv": draw(tables_as_csv("housing"))}
        files |= {name: draw(tables_as_csv("person")) for name in draw(st.lists(names, max_size=1))}
    elif kind == "beside":
        files = {"people.csv": draw(tables_as_csv("person")), "households.csv": draw(tables_as_csv("housing"))}
    elif kind == "other":
        # What a file is called says nothing about what it holds.
        name = draw(
            st.sampled_from(("people.csv", "people.csv.gz", "people.zip", "people.parquet", "people.txt", "people"))
        )
        files = {name: draw(st.binary(max_size=60) | tables_as_csv("all") | zip_files())}
    else:
        files = {"people.csv": draw(tables_as_csv("all"))}
    if draw(places) % 8 != 7:
        return files
    return {**files, YEAR: draw(st.sampled_from(("2024", "2011", "2018", "1999", "9999", "-1", "9" * 30))).encode()}


def inputs() -> st.SearchStrategy[Files]:
    return packed()


def check(folder: Path, files: Files) -> None:
    """Raises InputError as read_records does."""
    tables = [name for name in files if name != YEAR]
    year = int(files[YEAR]) if YEAR in files else None
    households = str(folder / "households.csv") if "households.csv" in tables else None
    source = folder if any(name.startswith("psam_") for name in tables) else folder / tables[0]
    known = read_records(CensusRecipe(str(source), households, year))
    check_records(known)


def check_records(known: KnownRecords) -> None:
    records = known.records
    table = records.table
    assert table.num_rows, "no records and no error"
    assert all(table[name].type == (pa.string() if name == "SERIALNO" else pa.int32()) for name in table.column_names)
    assert not table["SERIALNO"].null_count
    assert min(table["PWGTP"].to_pylist()) > 0
    assert all(0 <= age <= OLDEST for age in table["AGEP"].to_pylist())
    labels = codebook_for(records.survey_year)
    for column in table.column_names:
        if column in labels:
            assert set(table[column].drop_null().to_pylist()) <= set(labels[column]), f"{column} keeps an unknown code"
    describe_income_unit(records, True)
    order = draw_order(records, 0, adults_only=False)
    assert sorted(order.tolist()) == list(range(table.num_rows))
    for position, record in enumerate(table.take(pa.array(order[:IN_WORDS])).to_pylist()):
        candidate = make_candidate(position, record, labels, records.imputed, True, 0)
        assert candidate.attributes.values["age"] == record["AGEP"]
