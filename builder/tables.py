"""The tables of a build: Parquet files in RUN/tables, written whole, read whole, by column, or a few rows at a time."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from builder.errors import InputError
from builder.files import write_atomically
from builder.schema import PAIR_CONFIGS, features

Row = dict[str, Any]
ROWS_AT_A_TIME = 4096
# One persona is read without the rest, and the footer, which every reader fetches whole, stays small.
PERSONAS_PER_ROW_GROUP = 10
# Readers find a persona's row group by these. Smallest and largest values of the other columns would find nothing, since rows are not
# sorted by them, and those of the texts would make up three quarters of the footer.
COLUMNS_WITH_STATISTICS = ("pair_id", "persona_id")
# The stages of a build in their order, each with the table that it writes.
TABLE_OF_STAGE = {
    "personas": "personas",
    "prompts": "prompts",
    "pairs": "dpf",
    "matched": "dpf_matched",
    "contrast": "contrast",
}
STAGE_OF_TABLE = {table: stage for stage, table in TABLE_OF_STAGE.items()}


def write_table(path: Path, config: str, rows: list[Row]) -> None:
    """One Parquet file with the config's columns; pair tables carry `split` in front."""
    write_parquet(path, arrow_table(config, rows))


def write_parquet(path: Path, table: Any) -> None:
    import pyarrow.parquet as parquet

    write_atomically(path, lambda temporary: parquet.write_table(table, temporary, compression="zstd"))


def arrow_table(config: str, rows: list[Row]) -> Any:
    """The rows as an Arrow table with exactly the columns and types of `table_schema(config)`."""
    import pyarrow as arrow

    schema = table_schema(config)
    return arrow.Table.from_pylist([{name: row[name] for name in schema.names} for row in rows], schema=schema)


def table_schema(config: str) -> Any:
    """The config's published columns; in the tables of a build pairs carry `split` in front, which publishing turns into files."""
    import pyarrow as arrow

    schema = features(config).arrow_schema
    return schema.insert(0, arrow.field("split", arrow.string())) if config in PAIR_CONFIGS else schema


def write_by_persona(folder: Path, config: str, tables: Iterable[Any]) -> int:
    """RUN/tables/<config>.parquet from tables in the order of personas, PERSONAS_PER_ROW_GROUP to a row group; gives the number of rows.

    Only one of the tables is in memory at a time. A persona's rows stand in one table.
    """
    written = 0

    def write(temporary: Path) -> None:
        nonlocal written
        with RowGroups(temporary, table_schema(config)) as file:
            for table in tables:
                file.add(table)
                written += table.num_rows

    write_atomically(folder / "tables" / f"{config}.parquet", write)
    return written


class RowGroups:
    """A Parquet file that takes tables sorted by persona and closes a row group after every PERSONAS_PER_ROW_GROUP personas."""

    def __init__(self, path: Path, schema: Any):
        import pyarrow.parquet as parquet

        self._schema = schema
        with_statistics = [name for name in COLUMNS_WITH_STATISTICS if name in schema.names]
        self._writer = parquet.ParquetWriter(path, schema, compression="zstd", write_statistics=with_statistics)
        self._waiting: list[Any] = []  # tables of one persona each
        self._last: str | None = None
        self.rows = 0

    def __enter__(self) -> "RowGroups":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._flush()
        self._writer.close()

    def add(self, table: Any) -> None:
        table = table.select(self._schema.names).cast(self._schema)
        self.rows += table.num_rows
        for part in by_persona(table):
            persona = part["persona_id"][0].as_py()
            if persona == self._last:
                self._waiting[-1].append(part)
                continue
            if len(self._waiting) == PERSONAS_PER_ROW_GROUP:
                self._flush()
            self._waiting.append([part])
            self._last = persona

    def _flush(self) -> None:
        import pyarrow as arrow

        if self._waiting:
            group = arrow.concat_tables([part for parts in self._waiting for part in parts])
            self._writer.write_table(group, row_group_size=group.num_rows)
        self._waiting, self._last = [], None


def by_persona(table: Any) -> Iterator[Any]:
    """Slices of a table that is sorted by persona, one persona each."""
    import pyarrow.compute as compute

    if table.num_rows:
        runs = compute.run_end_encode(table["persona_id"].combine_chunks())
        start = 0
        for end in runs.run_ends.to_pylist():
            yield table.slice(start, end - start)
            start = end


def with_column(table: Any, name: str, values: Sequence[Any]) -> Any:
    """The table with these values in place of a column's, of the same type."""
    import pyarrow as arrow

    place = table.column_names.index(name)
    return table.set_column(place, name, arrow.array(values, table.schema.field(place).type))


def keep_pairs(table: Any, kept: Collection[str] | None) -> Any:
    """The rows of these pairs; all with None."""
    import pyarrow as arrow

    if kept is None:
        return table
    # The type is given, because a list without an element has none.
    return table.filter(arrow.array([pair_id in kept for pair_id in table["pair_id"].to_pylist()], arrow.bool_()))


def read_table(folder: Path, config: str) -> list[Row]:
    import pyarrow.parquet as parquet

    path = table_path(folder, config)
    with readable_table(path, folder):
        return parquet.read_table(path).to_pylist()


def read_columns(folder: Path, config: str, columns: Sequence[str]) -> Any:
    """A `pyarrow.Table` of these columns only (a nested one by its path, `chosen.list.element.content`), in the table's order."""
    import pyarrow.parquet as parquet

    path = table_path(folder, config)
    with readable_table(path, folder):
        return parquet.read_table(path, columns=list(columns))


def read_serials(folder: Path) -> Any:
    """`persona_id` and `SERIALNO` of the drawn records, never published; None where the personas are of no census records."""
    import pyarrow.parquet as parquet

    path = folder / "tables" / "persona_records.parquet"
    if not path.is_file():
        return None
    with readable_table(path, folder):
        if "SERIALNO" not in parquet.read_schema(path).names:
            return None
        return parquet.read_table(path, columns=["persona_id", "SERIALNO"])


def iterate_rows(folder: Path, config: str, columns: Sequence[str] | None = None) -> Iterator[Row]:
    """The rows one after the other, of which only some thousand are in memory."""
    import pyarrow.parquet as parquet

    path = table_path(folder, config)
    with readable_table(path, folder), parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(ROWS_AT_A_TIME, columns=None if columns is None else list(columns)):
            yield from batch.to_pylist()


def table_path(folder: Path, config: str) -> Path:
    """Raises InputError if the build has no such table."""
    path = folder / "tables" / f"{config}.parquet"
    if not path.is_file():
        raise InputError(f"{folder} has no table {config}. Build it first: persona build RECIPE --out {folder}.")
    return path


def readable_table(path: Path, folder: Path) -> AbstractContextManager[None]:
    """Around whatever reads a table of the build in `folder`. Raises InputError where it is damaged."""
    return parquet_errors(
        path, f"Build it again from the recorded replies: persona build RECIPE --out {folder}, with the same recipe."
    )


@contextmanager
def parquet_errors(path: Path, what_to_do: str) -> Iterator[None]:
    """Arrow's errors, and those of the file system, as ours."""
    import pyarrow as arrow

    try:
        yield
    except FileNotFoundError:
        raise InputError(f"{path} does not exist. {what_to_do}") from None
    except (arrow.ArrowException, OSError) as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path} cannot be read as Parquet ({said:.120}). {what_to_do}") from None
