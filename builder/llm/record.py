"""Recorded responses: every reply in SQLite the moment it arrives, under the hash of everything that decides it.

Answers and failed attempts stand in separate tables. A failed attempt (cut off, refused, empty) is never an answer; it is kept so that
a replay knows to go on to the next attempt instead of paying for the same failure again. What can pass (a connection error, a 503)
is not recorded at all.

A request is not stored again: its texts follow from the build, and over millions of calls they would be most of the file. What can be
read about a reply stands in `origins` (template, sampling, seed, role, provider, endpoint) and in the columns of its row.
"""

import contextlib
import dataclasses
import hashlib
import json
import sqlite3
import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from builder.errors import InputError
from builder.llm.messages import (
    Answer,
    ChatRequest,
    Failure,
    Reply,
    ScoreRequest,
    TokenScores,
    Usage,
    prompt_characters,
)

# Raise when the meaning of a key changes, so that no reply recorded under the old meaning is replayed.
KEY_VERSION = 2
# Raise when the tables change; SQLite keeps it in the file as `user_version`.
LAYOUT = 2
KEY_BYTES = 16  # of the hash: among a thousand million replies two would share it once in 10^20 builds
RECORDED_FAILURES = ("truncated", "refused", "empty", "too_long")
TABLES = ("answers", "failed_attempts")
_LOOKUP_CHUNK = 500
_CACHE_KIB = 131_072  # holds the index of some three million replies

_ORIGIN = ("kind", "template", "sampling", "seed", "role", "provider", "base_url")
_COLUMNS = (
    *("key", "origin", "sample_index", "attempt", "prompt_characters", "prompt_tokens", "completion_tokens", "seconds"),
    "reply",
)
# Rows stand in the order of arrival, so a new one goes to the end of the table and a replay reads it from front to back; the index
# holds the key alone. A reply is TEXT for an answer or a failure, and for token scores a BLOB of little-endian doubles.
_SCHEMA = (
    "CREATE TABLE origins (id INTEGER PRIMARY KEY, kind TEXT NOT NULL, template TEXT NOT NULL, sampling TEXT NOT NULL, "
    "seed TEXT NOT NULL, role TEXT NOT NULL, provider TEXT NOT NULL, base_url TEXT NOT NULL)",
    *(
        f"CREATE TABLE {table} (key BLOB NOT NULL, origin INTEGER NOT NULL REFERENCES origins, sample_index INTEGER NOT NULL, "
        "attempt INTEGER NOT NULL, prompt_characters INTEGER NOT NULL, prompt_tokens INTEGER NOT NULL, "
        f"completion_tokens INTEGER NOT NULL, seconds REAL NOT NULL, reply NOT NULL{more})"
        for table, more in zip(TABLES, ("", ", reason TEXT NOT NULL, detail TEXT NOT NULL"), strict=True)
    ),
    *(f"CREATE UNIQUE INDEX {table}_by_key ON {table} (key)" for table in TABLES),
    f"PRAGMA user_version = {LAYOUT}",
)


def record_key(request: ChatRequest | ScoreRequest, identity: dict[str, Any]) -> str:
    """A hash over the request and the model's identity (declared id, and revision or content hash), as 32 hexadecimal digits."""
    return record_keys([request], identity)[0]


def record_keys(requests: Sequence[ChatRequest | ScoreRequest], identity: dict[str, Any]) -> list[str]:
    """The key of each request. What the requests of a call share (model, template, sampling, seed) is hashed once."""
    begun: dict[Any, Any] = {}
    keys = []
    for request in requests:
        if isinstance(request, ChatRequest):
            shared: Any = (request.template, request.sampling, request.seed)
            parts = [str(request.sample_index), str(request.attempt)]
        else:
            shared = request.template
            parts = [request.continuation]
        if shared not in begun:
            begun[shared] = hashlib.sha256(_framed([_shared_part(request, identity)]))
        for message in request.messages:
            # Each message says how many parts it has, so that no two lists of messages give the same parts.
            parts.append(str(len(message)))
            for name in sorted(message):
                parts += (name, message[name])
        digest = begun[shared].copy()
        digest.update(_framed(parts))
        keys.append(digest.digest()[:KEY_BYTES].hex())
    return keys


def _shared_part(request: ChatRequest | ScoreRequest, identity: dict[str, Any]) -> str:
    shared = {"key_version": KEY_VERSION, "identity": identity, "kind": _kind(request), "template": request.template}
    if isinstance(request, ChatRequest):
        shared |= {"sampling": dataclasses.asdict(request.sampling), "seed": request.seed}
    return _json(shared)


def _framed(parts: list[str]) -> bytes:
    """The parts with their lengths in front: no two lists of parts give the same bytes."""
    # A lone surrogate, which no file or reply should hold, still gives a key.
    encoded = [part.encode("utf-8", "surrogatepass") for part in parts]
    return b"".join([f"{','.join([str(len(part)) for part in encoded])};".encode(), *encoded])


class Record:
    """The responses of one build folder. Safe under kill: a reply is there whole or not at all.

    read_only: the file is not written and need not exist. fallback: another record that is only read, for what this one lacks: the
    main record beside the file of a worker.

    Raises InputError for a file that is no record, or one of another layout.
    """

    def __init__(self, path: Path, read_only: bool = False, fallback: Path | None = None):
        self.path = path
        self.read_only = read_only
        self._origins: dict[Any, int] = {}
        self._connection = _open(path, read_only)
        self._readers = [self._connection, *([] if fallback is None else [_open(fallback, read_only=True)])]

    def find(self, keys: Sequence[str], failures: bool = True) -> dict[str, Reply]:
        """The recorded replies among `keys`. With `failures=False`, failed attempts count as not made."""
        found: dict[str, Reply] = {}
        missing = [bytes.fromhex(key) for key in keys]
        for table in TABLES if failures else TABLES[:1]:
            for connection in self._readers:
                if not missing:
                    return found
                found |= _find(connection, table, missing)
                missing = [key for key in missing if key.hex() not in found] if found else missing
        return found

    def find_kind(self, table: str, keys: Sequence[str]) -> dict[str, Reply]:
        """Those of one table of this file alone: the same key may have an answer and a failed attempt before it."""
        return _find(self._connection, table, [bytes.fromhex(key) for key in keys])

    def add(self, entries: Iterable[tuple[str, ChatRequest | ScoreRequest, Reply, dict[str, Any]]]) -> None:
        """Write (key, request, reply, provenance) in one transaction: whoever has several replies at once gives them together.

        provenance: role, provider, base_url. Replies that may pass (`endpoint_error`) are left out.
        """
        with self.writing():
            rows: dict[str, list[tuple[Any, ...]]] = {table: [] for table in TABLES}
            for key, request, reply, provenance in entries:
                if isinstance(reply, Failure) and reply.reason not in RECORDED_FAILURES:
                    continue
                table = TABLES[isinstance(reply, Failure)]
                rows[table].append(_row(key, self._origin(request, provenance), request, reply))
            for table, new in rows.items():
                self.put(table, new)

    def put(self, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """Add rows with all columns of a table, inside `writing`. A reply that is there under its key stays as it is."""
        if rows:
            marks = ",".join("?" * len(rows[0]))
            self._connection.executemany(f"INSERT OR IGNORE INTO main.{table} VALUES ({marks})", rows)

    def absorb(self, path: Path) -> int:
        """Take over all replies of another record that this one lacks, in one transaction; returns how many.

        The other file is not changed. Raises InputError if it is no record.
        """
        if not path.is_file():
            raise InputError(f"{path} does not exist, so its replies cannot be taken over. Give the file of a record.")
        _open(path, read_only=True).close()
        self._connection.execute("ATTACH ? AS other", (str(path),))
        try:
            with self.writing():
                origins = self._connection.execute(f"SELECT id, {', '.join(_ORIGIN)} FROM other.origins").fetchall()
                cases = " ".join(f"WHEN {number} THEN {self.origin_id(*origin)}" for number, *origin in origins)
                taken = 0
                for table in TABLES if origins else ():
                    more = ", reason, detail" if table == "failed_attempts" else ""
                    columns = ", ".join(_COLUMNS) + more
                    renumbered = columns.replace("origin", f"CASE origin {cases} END")
                    taken += self._connection.execute(
                        f"INSERT OR IGNORE INTO main.{table} ({columns}) SELECT {renumbered} FROM other.{table} ORDER BY rowid"
                    ).rowcount
        finally:
            self._connection.execute("DETACH other")
        return taken

    def count(self) -> tuple[int, int]:
        """(answers, failed attempts) of this file."""
        first, second = (self._connection.execute(f"SELECT COUNT(*) FROM {t}").fetchone()[0] for t in TABLES)
        return first, second

    def read(self, statement: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        """The rows of a SELECT over `origins`, `answers` and `failed_attempts`."""
        return self._connection.execute(statement, values)

    def close(self) -> None:
        for connection in self._readers:
            connection.close()

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """One transaction. Raises InputError if the disk is full."""
        try:
            with self._connection:
                yield
        except BaseException as error:
            # Origins that the transaction brought are gone with it.
            self._origins.clear()
            if isinstance(error, sqlite3.OperationalError) and ("full" in str(error) or "disk I/O" in str(error)):
                raise InputError(
                    f"The disk that holds {self.path} is full ({error}). Everything recorded before stays readable. Free some "
                    "space and run the same command again: it goes on from here."
                ) from None
            raise

    def _origin(self, request: ChatRequest | ScoreRequest, provenance: dict[str, Any]) -> int:
        where = tuple(provenance.get(name) or "" for name in ("role", "provider", "base_url"))
        known = (
            request.template,
            (request.sampling, request.seed) if isinstance(request, ChatRequest) else None,
            where,
        )
        if known not in self._origins:
            drawn = ("", "")
            if isinstance(request, ChatRequest):
                drawn = (_json(dataclasses.asdict(request.sampling)), str(request.seed))
            self._origins[known] = self.origin_id(_kind(request), request.template, *drawn, *where)
        return self._origins[known]

    def origin_id(self, *origin: Any) -> int:
        """The id of (kind, template, sampling, seed, role, provider, base_url), which is written if it is new."""
        same = " AND ".join(f"{name} IS ?" for name in _ORIGIN)
        row = self._connection.execute(f"SELECT id FROM main.origins WHERE {same}", origin).fetchone()
        if row is None:
            marks = ",".join("?" * len(_ORIGIN))
            insert = f"INSERT INTO main.origins ({', '.join(_ORIGIN)}) VALUES ({marks}) RETURNING id"
            row = self._connection.execute(insert, origin).fetchone()
        return row[0]


def decode_reply(
    text: str | bytes, prompt_tokens: int, completion_tokens: int, seconds: float, reason: str = "", detail: str = ""
) -> Reply:
    """The reply of a row. Only failed attempts have a reason."""
    usage = Usage(prompt_tokens, completion_tokens, seconds)
    if isinstance(text, bytes):
        return TokenScores(struct.unpack(f"<{len(text) // 8}d", text), usage)
    return Failure(reason, detail, text, usage) if reason else Answer(text, usage)


def _open(path: Path, read_only: bool) -> sqlite3.Connection:
    """A connection to the record at `path`; to an empty one in memory where a read-only file is not there or holds nothing yet."""
    if read_only and not path.exists():
        connection = sqlite3.connect(":memory:")
    elif read_only:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=60)
    try:
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        if not read_only:
            connection.execute("PRAGMA journal_mode=WAL")
            # With WAL, NORMAL keeps the file sound after a kill; only a power cut can lose the last moments.
            connection.execute("PRAGMA synchronous=NORMAL")
            # The index is written all over; the larger the log, the more of these writes meet before they reach the file.
            connection.execute("PRAGMA wal_autocheckpoint=8192")
        if _layout(connection, path) == 0:
            if read_only and path.exists():
                # The process that made the file ended before it wrote anything.
                connection.close()
                connection = sqlite3.connect(":memory:")
            _lay_out(connection, path)
    except sqlite3.DatabaseError as error:
        connection.close()
        raise InputError(
            f"{path} is not a readable record of responses ({error}). Move it away to start a new one, or restore it."
        ) from None
    except InputError:
        connection.close()
        raise
    return connection


def _layout(connection: sqlite3.Connection, path: Path) -> int:
    """The file's layout, 0 for an empty one. Raises InputError for any but this version's."""
    # In one statement: another process may be laying the file out just now.
    layout, things = connection.execute(
        "SELECT user_version, (SELECT COUNT(*) FROM sqlite_master) FROM pragma_user_version"
    ).fetchone()
    if layout == LAYOUT or (layout == 0 and things == 0):
        return layout
    raise InputError(
        f"{path} has layout {layout or 1} of recorded responses, and this version reads layout {LAYOUT}: the replies cannot be "
        "replayed. Move the file away and build again, or go on with the version that wrote it."
    )


def _lay_out(connection: sqlite3.Connection, path: Path) -> None:
    # Of two processes that open a new file at once the second waits here, and then finds it laid out.
    connection.execute("BEGIN IMMEDIATE")
    with connection:
        if _layout(connection, path) == 0:
            for statement in _SCHEMA:
                connection.execute(statement)


def _find(connection: sqlite3.Connection, table: str, keys: Sequence[bytes]) -> dict[str, Reply]:
    found: dict[str, Reply] = {}
    columns = "key, reply, prompt_tokens, completion_tokens, seconds" + (
        ", reason, detail" if table == "failed_attempts" else ""
    )
    for start in range(0, len(keys), _LOOKUP_CHUNK):
        chunk = keys[start : start + _LOOKUP_CHUNK]
        marks = ",".join("?" * len(chunk))
        for key, *row in connection.execute(f"SELECT {columns} FROM {table} WHERE key IN ({marks})", chunk):
            found[key.hex()] = decode_reply(*row)
    return found


def _row(key: str, origin: int, request: ChatRequest | ScoreRequest, reply: Reply) -> tuple[Any, ...]:
    drawn = (request.sample_index, request.attempt) if isinstance(request, ChatRequest) else (0, 0)
    usage = reply.usage
    took = (prompt_characters(request), usage.prompt_tokens, usage.completion_tokens, usage.seconds)
    if isinstance(reply, TokenScores):
        scores = reply.log_probabilities
        content: tuple[Any, ...] = (struct.pack(f"<{len(scores)}d", *scores),)
    else:
        content = (reply.text, reply.reason, reply.detail) if isinstance(reply, Failure) else (reply.text,)
    return (bytes.fromhex(key), origin, *drawn, *took, *content)


def _kind(request: ChatRequest | ScoreRequest) -> str:
    return "chat" if isinstance(request, ChatRequest) else "score"


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
