"""The SQLite file of a study: its tables, its connections, its transactions, and what goes wrong with a file, in words."""

import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from builder.errors import InputError

APPLICATION = 0x50525354  # "PRST", in the header of every file of ours
LAYOUT = 1
PATIENCE = 30  # seconds that a writer waits for another process

# `facts`: kind, settings and fingerprint of the study, material, secret. `raters`: every token issued, by its hash. `log`: every version of
# every answer, the ones that stand in `answers` among them.
SCHEMA = (
    "CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TABLE raters (rater_id TEXT PRIMARY KEY, issued REAL NOT NULL, persona_id TEXT, began REAL, last_seen REAL, finished REAL)",
    "CREATE TABLE shown (rater_id TEXT, item_id TEXT, shown REAL NOT NULL, PRIMARY KEY (rater_id, item_id)) WITHOUT ROWID",
    "CREATE TABLE answers (rater_id TEXT, item_id TEXT, position INTEGER NOT NULL, first TEXT NOT NULL, choice TEXT NOT NULL, "
    "preferred TEXT NOT NULL, reason TEXT NOT NULL, pasted INTEGER NOT NULL, shown REAL NOT NULL, answered REAL NOT NULL, "
    "seconds REAL NOT NULL, changes INTEGER NOT NULL, PRIMARY KEY (rater_id, item_id))",
    "CREATE TABLE log (id INTEGER PRIMARY KEY, saved REAL NOT NULL, rater_id TEXT NOT NULL, item_id TEXT NOT NULL, choice TEXT NOT NULL, "
    "reason TEXT NOT NULL, pasted INTEGER NOT NULL)",
    f"PRAGMA application_id = {APPLICATION}",
    f"PRAGMA user_version = {LAYOUT}",
)


class StorageError(InputError):
    """The database cannot be used just now, whatever was sent: to be answered as the server's fault, and not the rater's."""


class Database:
    """Connections to one file. Each is used by one thread at a time and kept for the next."""

    def __init__(self, path: Path) -> None:
        """Raises InputError for a file of another program or a newer version, and StorageError where it cannot be opened or read."""
        self.path = path
        self._idle: deque[sqlite3.Connection] = deque()
        # SQLite lets writers of other processes poll; those of one process wait here, in turn, and go on at once.
        self._writing = threading.Lock()
        self._closed = False
        with self.reading():
            pass

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """All that is read inside is of one moment."""
        with self._transaction("BEGIN") as connection:
            yield connection

    @contextmanager
    def writing(self, *, at_once: bool = True) -> Iterator[sqlite3.Connection]:
        """What is written inside is there when this ends, or not at all where it raises.

        at_once: on the disk itself; else a power cut can take it back, though no kill, until the next that is written at once.
        """
        with self._writing, self._transaction("BEGIN IMMEDIATE", at_once) as connection:
            yield connection

    def close(self) -> None:
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    @contextmanager
    def _transaction(self, begin: str, at_once: bool = True) -> Iterator[sqlite3.Connection]:
        connection = None
        try:
            connection = self._take()
            connection.execute(f"PRAGMA synchronous = {'FULL' if at_once else 'NORMAL'}")
            connection.execute(begin)
            yield connection
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise storage_error(self.path, error) from error
        finally:
            if connection is not None:
                self._put_back(connection)

    def _take(self) -> sqlite3.Connection:
        if self._closed:
            raise ValueError(f"{self.path} was closed")
        try:
            return self._idle.pop()
        except IndexError:
            return connect(self.path)

    def _put_back(self, connection: sqlite3.Connection) -> None:
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            connection.close()  # a transaction that is never committed is as good as rolled back
            return
        if self._closed:
            connection.close()
        else:
            self._idle.append(connection)


def connect(path: Path) -> sqlite3.Connection:
    """To a file that is there, or an empty one. Raises InputError for a file that is not ours, which stays as it is."""
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=PATIENCE, isolation_level=None, check_same_thread=False
    )
    try:
        refuse_foreign(connection, path)
        _use_wal(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _use_wal(connection: sqlite3.Connection) -> None:
    # While two processes open a new file, the one that comes second is refused at once, without SQLite's waiting.
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def touch(path: Path) -> None:
    """An empty file that only its owner may read, where there is none: SQLite gives the files beside it the same mode."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        raise StorageError(
            f"{path} cannot be written ({error.strerror}). Free some space or name a file on another disk with --database."
        ) from None


def is_laid_out(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0] > 0


def fact(connection: sqlite3.Connection, name: str) -> str:
    return connection.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()[0]


def refuse_foreign(connection: sqlite3.Connection, path: Path) -> None:
    """Raises InputError for a file with tables that are not ours, or of a layout that this version does not read."""
    # In one statement: another process may be laying the file out just now.
    application, layout, things = connection.execute(
        "SELECT application_id, user_version, (SELECT COUNT(*) FROM sqlite_master) FROM pragma_application_id, pragma_user_version"
    ).fetchone()
    if application == APPLICATION and layout > LAYOUT:
        raise InputError(
            f"{path} has layout {layout} of a study's database, and this version reads layout {LAYOUT}. Go on with the version that wrote "
            "it, or a newer one. Nothing was changed."
        )
    if application != APPLICATION and (application or layout or things):
        raise InputError(
            f"{path} is an SQLite file of another program, not a study's database. Give the right one with --database. Nothing was changed."
        )


def storage_error(path: Path, error: sqlite3.Error) -> StorageError:
    """What SQLite says, with what to do."""
    name = getattr(error, "sqlite_errorname", "") or ""
    what = f"({error})"
    if name.startswith("SQLITE_NOTADB"):
        return StorageError(f"{path} is no SQLite file {what}. Give a study's database with --database.")
    if name.startswith("SQLITE_CORRUPT"):
        return StorageError(
            f"{path} is damaged {what}. Restore it from a copy; what was exported before stays as it is."
        )
    if name.startswith(("SQLITE_FULL", "SQLITE_IOERR")):
        return StorageError(
            f"{path} cannot be written: the disk is full or failing {what}. Every answer saved before is still there. Free some space; "
            "then it goes on."
        )
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_AUTH")):
        return StorageError(
            f"{path} cannot be opened for writing {what}. Make the file and its folder writable, or work on a copy elsewhere, together "
            "with its -wal file if there is one."
        )
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return StorageError(
            f"Another process has held {path} for {PATIENCE} seconds {what}. Close what has it open, and try again."
        )
    return StorageError(f"{path} cannot be used {what}. Every answer saved before is still there.")
