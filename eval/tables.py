"""The Parquet files beside a result: written whole, with the hash that the result carries."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from builder.errors import InputError
from builder.files import sha256_file, write_atomically


def write_table(folder: Path, name: str, rows: Sequence[Mapping[str, Any]], types: Mapping[str, str]) -> dict[str, str]:
    """Write `name` (with .parquet) and return {name: SHA-256}, for `Result.files`. types: column -> Arrow type (`string`, `double`)."""
    import pyarrow
    import pyarrow.parquet

    schema = pyarrow.schema([(column, pyarrow.type_for_alias(kind)) for column, kind in types.items()])
    table = pyarrow.table({column: [row[column] for row in rows] for column in types}, schema=schema)
    write_atomically(folder / name, lambda path: pyarrow.parquet.write_table(table, path, compression="zstd"))
    return {name: sha256_file(folder / name)}


def read_table(path: Path, filters: Any = None) -> list[dict[str, Any]]:
    """The rows of a file that `write_table` wrote. Raises InputError for one that is no such file."""
    import pyarrow
    import pyarrow.parquet

    try:
        rows: list[dict[str, Any]] = pyarrow.parquet.read_table(path, filters=filters).to_pylist()
    except (OSError, pyarrow.ArrowInvalid) as error:
        raise InputError(
            f"{path} cannot be read as Parquet ({error}). Delete the result beside it and evaluate again."
        ) from None
    return rows
