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
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.errors import InputError, few
from builder.schema import ATTRIBUTES, PAIR_CONFIGS
from eval.explore.dataset_files import Published
from eval.explore.filters import BANDS, Where

MEMORY = "1GB"
SECONDS = 10.0  # for one query
KEPT_ANSWERS = 512  # counts and the like, by query
Row = dict[str, Any]

# Column of the index -> how a pair file gives it. Those that a config lacks are null.
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
# What every file of a config must have: the columns of builder.schema.features, which itself would import `datasets`.
_PAIR = (
    "pair_id", "persona_id", "prompt_id", "prompt", "chosen", "rejected", "topic", "persona_group", "is_adult", "wrong_persona_id",
    "judge", "judge_verdict", "judge_score", "prompt_tokens", "chosen_tokens", "rejected_tokens", "length_violation", "attribute_leak",
    "inferable_attributes",
)  # fmt: skip
NEEDED: dict[str, Sequence[str]] = {
    "dpf": (*_PAIR, "base_id", "critique"),
    "dpf_matched": (*_PAIR, "base_id", "critique"),
    "contrast": (*_PAIR, "partner_persona_id", "partner_distance", "mirror_pair_id", "flips"),
    "personas": ("persona_id", "group", "is_adult", "weight", "profile", *ATTRIBUTES, "extras", "null_reasons", "provenance"),
    "prompts": (
        "prompt_id", "question", "topic", "pool", "controversy_score", "controversy_votes", "source", "source_id", "licence", "canary"
    ),
    "judgements": ("pair_id", "judge", "condition", "order", "verdict", "probability", "reason"),
}  # fmt: skip
# Column -> what its type, as DuckDB names it, must hold: these are looked into.
STRUCTURED = {
    "prompt": "content",
    "chosen": "content",
    "rejected": "content",
    "inferable_attributes": "[]",
    "flips": "is_selector",
    "big_five_scores": "openness",
    "extras": "STRUCT",
    "null_reasons": "STRUCT",
    "provenance": "STRUCT",
    "controversy_votes": "[]",
}
# Columns of the small tables that are compared as numbers or as yes and no, whatever type the file gives them.
CAST = {"age": "BIGINT", "income": "BIGINT", "weight": "BIGINT", "is_adult": "BOOLEAN", "controversy_score": "DOUBLE"}
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
        self._making: dict[Any, Future[Any]] = {}
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

    def count(self, table: str, where: Where) -> int:
        return int(self.ask_once(f"SELECT count(*) AS n FROM {table} WHERE {where.sql()}", where.parameters)[0]["n"])

    def kept(self, key: Any) -> Any:
        """What is kept under this key, or None."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def keep(self, key: Any, make: Callable[[], Any], lasting: Callable[[Any], bool] = lambda made: True) -> Any:
        """What `make` gives for this key; the oldest of KEPT_ANSWERS is forgotten. lasting: whether it is to be kept.

        Who asks while another makes it waits for that other, and gets the same, be it an error.
        """
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
            first = key not in self._making
            coming: Future[Any] = self._making.setdefault(key, Future())
        if not first:
            return coming.result()
        try:
            made = make()
        except BaseException as error:
            with self._lock:
                del self._making[key]
            coming.set_exception(error)
            raise
        with self._lock:
            del self._making[key]
            if lasting(made):
                self._kept[key] = made
            while len(self._kept) > KEPT_ANSWERS:
                self._kept.popitem(last=False)
        coming.set_result(made)
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
                    columns = self._columns_as_published(config, path)
                    rows = self.ask("SELECT count(*) AS n FROM read_parquet(?)", [place])[0]["n"]
                    parts.append(Part(config, split, place, first, rows, frozenset(columns)))
                    first += rows
        return parts

    def _columns_as_published(self, config: str, path: Path) -> dict[str, str]:
        """Name -> type of a file's columns. Raises InputError where one is missing or of another shape."""
        rows = self.ask("DESCRIBE SELECT * FROM read_parquet(?)", [str(path.resolve())])
        columns = {row["column_name"]: row["column_type"] for row in rows}
        missing = [name for name in NEEDED[config] if name not in columns]
        if missing:
            raise InputError(
                f"{path} of the config {config} has no column {few(missing)}. Publish the dataset again with this version."
            )
        spoilt = [name for name in NEEDED[config] if STRUCTURED.get(name, "") not in columns[name]]
        if spoilt:
            found = few([f"{name} as {columns[name]:.60}" for name in spoilt])
            raise InputError(f"{path} holds {found}, which is not how it is published. Publish the dataset again.")
        return columns

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
        files = [path for paths in self.published.files.get(config, {}).values() for path in paths]
        if not files:
            self.ask(f"CREATE TABLE {config} (num BIGINT, {key} VARCHAR)")
            return ()
        of_files = [self._columns_as_published(config, file) for file in files]
        columns = of_files[0]
        paths = [str(file.resolve()) for file in files]
        for name in BANDS:
            if name in columns:
                self._refuse_fractions(files[0].parent, paths, name)
        # A column that is null throughout may be of any type.
        shown = ", ".join(
            f'TRY_CAST("{name}" AS {CAST[name]}) AS "{name}"'
            if name in CAST
            else f'"{name}"::VARCHAR AS "{name}"'
            if name in NEEDED[config] and name not in STRUCTURED
            else f'"{name}"'
            for name in columns
            if '"' not in name
        )
        query = f"CREATE TABLE {config} AS SELECT row_number() OVER (ORDER BY {key}) AS num, {shown} FROM read_parquet(?) ORDER BY {key}"
        self.ask(query, [paths], seconds=600)
        return tuple(columns)

    def _refuse_fractions(self, place: Path, paths: Sequence[str], name: str) -> None:
        """Numbers that are offered in bands must be whole, or some would lie between two bands."""
        query = f'SELECT "{name}"::VARCHAR AS value FROM read_parquet(?) WHERE "{name}" IS NOT NULL AND '
        query += f'coalesce(TRY_CAST("{name}" AS DOUBLE) <> TRY_CAST("{name}" AS BIGINT), true) LIMIT 1'
        found = self.ask(query, [paths], seconds=600)
        if found:
            raise InputError(
                f"{place}: {name} holds “{found[0]['value']:.40}”, which is no whole number. Publish the dataset again."
            )

    def _judgement_files(self) -> list[str]:
        files = [path for paths in self.published.files.get("judgements", {}).values() for path in paths]
        for file in files:
            self._columns_as_published("judgements", file)
        return [str(file.resolve()) for file in files]


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
