"""Recorded responses: every reply in SQLite the moment it arrives, under the hash of everything that decides it.

Answers and failed attempts stand in separate tables. A failed attempt (cut off, refused, empty) is never an answer; it is kept so that
a replay knows to go on to the next attempt instead of paying for the same failure again. What can pass (a connection error, a 503)
is not recorded at all.
"""

import dataclasses
import hashlib
import json
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from builder.errors import InputError
from builder.llm.messages import Answer, ChatRequest, Failure, Reply, ScoreRequest, TokenScores, Usage

# Raise when the meaning of a key changes, so that no reply recorded under the old meaning is replayed.
KEY_VERSION = 1
RECORDED_FAILURES = ("truncated", "refused", "empty")
_LOOKUP_CHUNK = 500


def record_key(request: ChatRequest | ScoreRequest, identity: dict[str, Any]) -> str:
    """SHA-256 over the request and the model's identity (declared id, and revision or content hash), as canonical JSON."""
    content = {
        "key_version": KEY_VERSION,
        "kind": "chat" if isinstance(request, ChatRequest) else "score",
        "identity": identity,
        "request": dataclasses.asdict(request),
    }
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


class Record:
    """The responses of one build folder. Safe under kill: a reply is there whole or not at all."""

    def __init__(self, path: Path, read_only: bool = False):
        self.path = path
        self.read_only = read_only
        if read_only and not path.exists():
            self._connection = sqlite3.connect(":memory:")
        elif read_only:
            self._connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, timeout=60)
        try:
            if not read_only:
                self._connection.execute("PRAGMA journal_mode=WAL")
                # With WAL, NORMAL keeps the file sound after a kill; only a power cut can lose the last moments.
                self._connection.execute("PRAGMA synchronous=NORMAL")
            if not read_only or not path.exists():
                for table in ("answers", "failed_attempts"):
                    self._connection.execute(
                        f"CREATE TABLE IF NOT EXISTS {table} (key TEXT PRIMARY KEY, response TEXT NOT NULL, "
                        "request TEXT NOT NULL, provenance TEXT NOT NULL) WITHOUT ROWID"
                    )
                self._connection.commit()
        except sqlite3.DatabaseError as error:
            raise InputError(
                f"{path} is not a readable record of responses ({error}). Move it away to start a new one, or restore it."
            ) from None

    def find(self, keys: Sequence[str], failures: bool = True) -> dict[str, Reply]:
        """The recorded replies among `keys`. With `failures=False`, failed attempts count as not made."""
        found: dict[str, Reply] = {}
        for table in ("answers", "failed_attempts") if failures else ("answers",):
            for start in range(0, len(keys), _LOOKUP_CHUNK):
                chunk = keys[start : start + _LOOKUP_CHUNK]
                marks = ",".join("?" * len(chunk))
                for key, response in self._connection.execute(
                    f"SELECT key, response FROM {table} WHERE key IN ({marks})", chunk
                ):
                    found.setdefault(key, _decode(response))
        return found

    def add(self, entries: Iterable[tuple[str, ChatRequest | ScoreRequest, Reply, dict[str, Any]]]) -> None:
        """Write (key, request, reply, provenance) in one transaction. Replies that may pass (`endpoint_error`) are left out."""
        try:
            with self._connection:
                for key, request, reply, provenance in entries:
                    if isinstance(reply, Failure) and reply.reason not in RECORDED_FAILURES:
                        continue
                    table = "failed_attempts" if isinstance(reply, Failure) else "answers"
                    self._connection.execute(
                        f"INSERT OR IGNORE INTO {table} VALUES (?, ?, ?, ?)",
                        (key, _encode(reply), _json(dataclasses.asdict(request)), _json(provenance)),
                    )
        except sqlite3.OperationalError as error:
            if "full" in str(error) or "disk I/O" in str(error):
                raise InputError(
                    f"The disk that holds {self.path} is full ({error}). Everything recorded before stays readable. Free some "
                    "space and run the same command again: it goes on from here."
                ) from None
            raise

    def count(self) -> tuple[int, int]:
        """(answers, failed attempts)."""
        tables = ("answers", "failed_attempts")
        first, second = (self._connection.execute(f"SELECT COUNT(*) FROM {t}").fetchone()[0] for t in tables)
        return first, second

    def close(self) -> None:
        self._connection.close()


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _encode(reply: Reply) -> str:
    kind = {Answer: "answer", TokenScores: "scores", Failure: "failure"}[type(reply)]
    return _json({"kind": kind, **dataclasses.asdict(reply)})


def _decode(text: str) -> Reply:
    raw = json.loads(text)
    kind = raw.pop("kind")
    raw["usage"] = Usage(**raw["usage"])
    if kind == "scores":
        raw["log_probabilities"] = tuple(raw["log_probabilities"])
    return {"answer": Answer, "scores": TokenScores, "failure": Failure}[kind](**raw)
