"""The published tables in DuckDB: what is light lies in memory, the texts stay in the Parquet files and are read row group by row group.

Every pair has a number: its place in the order of configs, splits and rows. Pages go on from a number, never from a count of rows to
skip, so that the last page costs what the first one does. Links name the pair's id, which stays the same between versions.
"""

import os
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.errors import InputError
from builder.schema import ATTRIBUTES, PAIR_CONFIGS
from eval.explore.dataset_files import Published

MEMORY = "1GB"
SECONDS = 10.0  # for one query
KEPT_ANSWERS = 512  # counts and the like, by query
Row = dict[str, Any]

# Column of the index -> how a pair file gives it. Those that a file lacks (imported data may) are null.
LIGHT = {
    "pair_id": ("pair_id", "VARCHAR"),
    "persona_id": ("persona_id", "ENUM"),
    "partner_persona_id": ("partner_persona_id", "ENUM"),
    "prompt_id": ("prompt_id", "ENUM"),
    "topic": ("topic", "ENUM"),
    "persona_group": ("persona_group", "ENUM"),
    "is_adult": ("is_adult", "BOOLEAN"),
    "judge": ("judge", "ENUM"),
    "judge_verdict": ("judge_verdict", "ENUM"),
    "judge_score": ("judge_score", "FLOAT"),
    "chosen_tokens": ("chosen_tokens", "INTEGER"),
    "rejected_tokens": ("rejected_tokens", "INTEGER"),
    "length_violation": ("length_violation", "BOOLEAN"),
    "attribute_leak": ("attribute_leak", "BOOLEAN"),
    # As the judge has it that labelled the row. A comprehension: how a lambda is written differs between versions of DuckDB.
    "flip": ("[f.flip for f in flips if f.judge = judge][1]", "BOOLEAN"),
}
NEEDED = ("pair_id", "persona_id", "prompt_id", "prompt", "chosen", "rejected")
TEXTS = {
    "question": "prompt[-1].content",
    "chosen": "chosen[-1].content",
    "rejected": "rejected[-1].content",
    "critique": "critique",
}


class TooSlow(Exception):  # noqa: N818 - a limit that was reached, not a defect
    """A query was stopped at its time limit."""


@dataclass(frozen=True)
class Part:
    """One file of pairs, whose rows are numbered from `first`."""

    config: str
    split: str
    path: str
    first: int
    rows: int
    columns: frozenset[str]


class Tables:
    """A published dataset to ask. Every method may be called from any thread."""

    def __init__(self, published: Published, more: Sequence[Path] = (), say: Callable[[str], None] = lambda text: None):
        """more: other Parquet files that may be read. say: is told what takes its time.

        Raises InputError where DuckDB is missing or a file is not as published.
        """
        self.published = published
        self._connection = _connect([*_all_files(published), *more])
        # DuckDB writes a page of warnings where a connection is still open at the end of the process.
        weakref.finalize(self, self._connection.close)
        self._errors = _duckdb_errors()
        self._kept: OrderedDict[Any, Any] = OrderedDict()
        self._lock = threading.Lock()
        started = time.monotonic()
        with _readable(published.source, self._errors):
            self.parts = self._find_parts()
            self.rows = sum(part.rows for part in self.parts)
            say(f"Reading {self.rows:,} pairs ...")
            self._read_pairs()
            self.attributes = self._read_whole("personas", "persona_id")
            self.prompt_columns = self._read_whole("prompts", "prompt_id")
            self.judgements = self._judgement_files()
        say(f"Ready after {time.monotonic() - started:.1f} s.")

    # ---- asking

    def ask(self, query: str, parameters: Sequence[Any] = (), seconds: float = SECONDS) -> list[Row]:
        """The rows of a query. Raises TooSlow after `seconds`. What a visitor sent is only ever in `parameters`."""
        cursor = self._connection.cursor()
        stopped = threading.Event()

        def stop() -> None:
            stopped.set()
            cursor.interrupt()

        timer = threading.Timer(max(seconds, 0.05), stop)
        timer.daemon = True
        timer.start()
        try:
            found = cursor.execute(query, list(parameters))
            names = [column[0] for column in found.description]
            return [dict(zip(names, row, strict=True)) for row in found.fetchall()]
        except self._errors as error:
            if stopped.is_set():
                raise TooSlow from None
            raise error
        finally:
            timer.cancel()
            cursor.close()

    def ask_once(self, query: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """As `ask`, and kept: the data do not change while they are looked at."""
        return self.keep(("ask", query, tuple(parameters)), lambda: self.ask(query, parameters))

    def keep(self, key: Any, make: Callable[[], Any]) -> Any:
        """What `make` gave for this key; the oldest of KEPT_ANSWERS is forgotten."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        made = make()
        with self._lock:
            self._kept[key] = made
            while len(self._kept) > KEPT_ANSWERS:
                self._kept.popitem(last=False)
        return made

    # ---- pairs

    def number_of(self, pair_id: str) -> int | None:
        found = self.ask("SELECT num FROM pairs WHERE pair_id = ? LIMIT 1", [pair_id])
        return found[0]["num"] if found else None

    def light_rows(self, numbers: Sequence[int]) -> list[Row]:
        """The rows of the index with these numbers, in their order."""
        if not numbers:
            return []
        places = {number: place for place, number in enumerate(numbers)}
        # The bounds let whole blocks be passed over.
        query = f"SELECT * FROM pairs WHERE num BETWEEN ? AND ? AND num IN ({', '.join('?' * len(numbers))})"
        rows = self.ask(query, [min(numbers), max(numbers), *numbers])
        return sorted(rows, key=lambda row: places[row["num"]])

    def whole_row(self, number: int) -> Row:
        """A pair as it is published, with `config` and `split`."""
        part = self.part_of(number)
        query = "SELECT * FROM read_parquet(?, file_row_number=true) WHERE file_row_number = ?"
        row = self.ask(query, [part.path, number - part.first])[0]
        return {**row, "config": part.config, "split": part.split, "num": number}

    def texts(self, numbers: Sequence[int], names: Sequence[str]) -> dict[int, dict[str, str | None]]:
        """Some of TEXTS of these pairs. One query a file; only the row groups with these rows are read."""
        found: dict[int, dict[str, str | None]] = {}
        for part in self.parts:
            own = [number - part.first for number in numbers if part.first <= number < part.first + part.rows]
            if own:
                shown = ", ".join(f"{text_of(part, name)} AS {name}" for name in names)
                query = f"SELECT file_row_number AS place, {shown} FROM read_parquet(?, file_row_number=true) WHERE "
                query += f"file_row_number IN ({', '.join('?' * len(own))})"
                for row in self.ask(query, [part.path, *own]):
                    found[part.first + row["place"]] = {name: row[name] for name in names}
        return found

    def part_of(self, number: int) -> Part:
        return next(part for part in self.parts if part.first <= number < part.first + part.rows)

    def judgements_of(self, pair_id: str) -> list[Row]:
        if not self.judgements:
            return []
        query = 'SELECT * FROM read_parquet(?) WHERE pair_id = ? ORDER BY judge, condition, "order"'
        return self.ask(query, [self.judgements, pair_id])

    # ---- reading at the start

    def _find_parts(self) -> list[Part]:
        parts: list[Part] = []
        first = 0
        for config in PAIR_CONFIGS:
            for split, paths in self.published.files.get(config, {}).items():
                for path in paths:
                    place = str(path.resolve())
                    columns = self._columns(place)
                    missing = [name for name in NEEDED if name not in columns]
                    spoilt = [
                        n for n in ("prompt", "chosen", "rejected") if n in columns and "content" not in columns[n]
                    ]
                    if missing or spoilt:
                        raise InputError(
                            f"{path} has no column {', '.join(missing)}. Publish the dataset again."
                            if missing
                            else f"{path}: {', '.join(spoilt)} should hold chat messages. Publish the dataset again."
                        )
                    rows = self.ask("SELECT count(*) AS n FROM read_parquet(?)", [place])[0]["n"]
                    parts.append(Part(config, split, place, first, rows, frozenset(columns)))
                    first += rows
        return parts

    def _columns(self, path: str) -> dict[str, str]:
        """Name -> type of a file's columns."""
        rows = self.ask("DESCRIBE SELECT * FROM read_parquet(?)", [path])
        return {row["column_name"]: row["column_type"] for row in rows}

    def _read_pairs(self) -> None:
        for name, (expression, kind) in LIGHT.items():
            if kind == "ENUM":
                self._make_enumeration(name, expression)
        kinds = {name: f"{name}_values" if kind == "ENUM" else kind for name, (_, kind) in LIGHT.items()}
        self.ask("CREATE TYPE config_values AS ENUM (" + ", ".join(_quoted(c) for c in PAIR_CONFIGS) + ")")
        splits = dict.fromkeys(part.split for part in self.parts) or {"train": None}
        self.ask("CREATE TYPE split_values AS ENUM (" + ", ".join(_quoted(s) for s in splits) + ")")
        columns = ", ".join(f"{name} {kind}" for name, kind in kinds.items())
        self.ask(f"CREATE TABLE pairs (num BIGINT, config config_values, split split_values, {columns})")
        for part in self.parts:
            shown = ", ".join(
                f"TRY_CAST({expression} AS {kinds[name]})" if self._has(part, name) else "NULL"
                for name, (expression, _) in LIGHT.items()
            )
            query = f"INSERT INTO pairs SELECT ? + file_row_number, ?, ?, {shown} FROM read_parquet(?, file_row_number=true)"
            self.ask(query, [part.first, part.config, part.split, part.path], seconds=600)

    def _has(self, part: Part, name: str) -> bool:
        return ("flips" if name == "flip" else name) in part.columns

    def _make_enumeration(self, name: str, column: str) -> None:
        """Ids and topics as numbers: a third of the memory, and compared as numbers."""
        paths = [part.path for part in self.parts if column in part.columns]
        found = (
            self.ask(f"SELECT DISTINCT {column}::VARCHAR AS value FROM read_parquet(?) ORDER BY 1", [paths], 600)
            if paths
            else []
        )
        values = [row["value"] for row in found if row["value"] is not None] or [""]
        self.ask(f"CREATE TYPE {name}_values AS ENUM (" + ", ".join(map(_quoted, values)) + ")", seconds=600)

    def _read_whole(self, config: str, key: str) -> tuple[str, ...]:
        """A small table as it is, in the order of its ids; gives its columns. Without the config: an empty table with the id alone."""
        paths = [str(path.resolve()) for paths in self.published.files.get(config, {}).values() for path in paths]
        if not paths:
            self.ask(f"CREATE TABLE {config} (num BIGINT, {key} VARCHAR)")
            return ()
        columns = self._columns(paths[0])
        if key not in columns:
            raise InputError(f"{paths[0]} has no column {key}. Publish the dataset again.")
        # A column that is null throughout may be of any type.
        shown = ", ".join(
            f'"{name}"::VARCHAR AS "{name}"'
            if (name in ATTRIBUTES and kind == "VARCHAR") or name in (key, "topic", "group", "pool")
            else f'"{name}"'
            for name, kind in columns.items()
            if '"' not in name
        )
        query = f"CREATE TABLE {config} AS SELECT row_number() OVER (ORDER BY {key}) AS num, {shown} FROM read_parquet(?) ORDER BY {key}"
        self.ask(query, [paths], seconds=600)
        return tuple(columns)

    def _judgement_files(self) -> list[str]:
        splits = self.published.files.get("judgements", {})
        return [str(path.resolve()) for paths in splits.values() for path in paths]


def text_of(part: Part, name: str) -> str:
    """The SQL of one of TEXTS in this file; null where it has none."""
    return TEXTS[name] if name != "critique" or "critique" in part.columns else "NULL::VARCHAR"


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _all_files(published: Published) -> list[Path]:
    return [path for splits in published.files.values() for paths in splits.values() for path in paths]


def _duckdb_errors() -> type[Exception]:
    import duckdb

    errors: type[Exception] = duckdb.Error
    return errors


def _connect(files: Sequence[Path]) -> Any:
    """A database in memory that can read these files and nothing else: no other file, no network, no extension."""
    try:
        import duckdb
    except ImportError:
        raise InputError("This needs DuckDB. Install it with: pip install 'persona-testbed[annotate]'") from None

    connection = duckdb.connect(":memory:")
    paths = ", ".join(_quoted(str(path.resolve())) for path in files)
    for setting in (
        f"threads = {os.cpu_count() or 1}",
        f"memory_limit = '{MEMORY}'",
        "temp_directory = ''",
        "autoinstall_known_extensions = false",
        "autoload_known_extensions = false",
        f"allowed_paths = [{paths}]",
        "enable_external_access = false",
        "lock_configuration = true",
    ):
        connection.execute(f"SET {setting}")
    return connection


class _readable:  # noqa: N801 - used as a function
    """DuckDB's errors while the files are read at the start, as ours."""

    def __init__(self, source: str, errors: type[Exception]):
        self.source, self.errors = source, errors

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if isinstance(error, (TooSlow, self.errors)):
            said = str(error).splitlines()[0] if str(error) else "it took too long"
            raise InputError(f"{self.source} cannot be read ({said:.200}). Publish or download it again.") from None
