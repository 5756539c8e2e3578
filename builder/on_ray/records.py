"""The records of shards, and how the build's record takes them over.

SQLite takes one writer, and its log is not shared between hosts. So while shards run nobody writes into the build's record: every shard
has a record of its own beside its output, which its worker alone writes; from the build's record it reads what was there before.
Afterwards, also after an error or a stop, the driver takes over the replies. The successor of a worker that was killed finds them on file.
"""

import contextlib
import dataclasses
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from builder.errors import InputError
from builder.llm.budget import Spending, cost_usd
from builder.llm.messages import Usage
from builder.llm.record import TABLES, Record
from builder.recipe import ModelsRecipe
from builder.stages.shards import shard_path


def record_path(folder: Path, number: int) -> Path:
    return folder / f"{number:05d}.sqlite"


@contextlib.contextmanager
def left_to_readers(record: Record) -> Iterator[None]:
    """The record as one plain file without a log beside it, which processes on any host can read; nobody may write meanwhile."""
    set_journal(record, "DELETE")
    try:
        yield
    finally:
        set_journal(record, "WAL")


def set_journal(record: Record, mode: str) -> None:
    try:
        record.read(f"PRAGMA journal_mode={mode}").fetchall()
    except sqlite3.OperationalError as error:
        raise InputError(
            f"{record.path} is in use by another program ({error}). End that, and run the same command again."
        ) from None


def absorb_leftovers(folder: Path, record: Record) -> None:
    """Take over the replies of shards whose driver was killed. Before a build goes on, whichever its engine."""
    for stage in sorted((folder / "shards").glob("*/")):
        absorb_shards(stage, record)


def absorb_shards(folder: Path, record: Record) -> list[int]:
    """Take over the replies of a stage's shards; their records are removed. Gives the shards to be worked on again.

    Two shards that run at once may ask the same question (two personas with one profile, or a likelihood judge about one base answer)
    and get two answers, of which the record keeps that of the first shard, as if they had run one after the other. A shard made of
    another is not what a replay gives, so it counts as not done.
    """
    numbers = sorted(int(path.stem) for path in folder.glob("*.sqlite"))
    twice = False
    for number in numbers:
        path = record_path(folder, number)
        with contextlib.closing(Record(path, read_only=True)) as own:
            there = sum(own.count())
        # The file of a worker that was killed at once has no tables yet.
        twice |= there > 0 and record.absorb(path) < there
    twice |= bool(record.read("SELECT EXISTS (SELECT 1 FROM failed_attempts JOIN answers USING (key))").fetchone()[0])
    stale = [number for number in numbers if not agrees(record, record_path(folder, number))] if twice else []
    for number in stale:
        shard_path(folder, number).with_suffix(".json").unlink(missing_ok=True)
    # With the logs beside them.
    for path in sorted(folder.glob("*.sqlite*")):
        path.unlink(missing_ok=True)
    return stale


def agrees(record: Record, path: Path) -> bool:
    """Whether the record gives the shard the answers that it was made of."""
    with contextlib.closing(Record(path, read_only=True)) as own:
        keys = [key.hex() for table in TABLES for (key,) in own.read(f"SELECT key FROM {table}")]
        return own.find(keys, failures=False) == record.find(keys, failures=False)


def spent_in(path: Path, models: ModelsRecipe) -> Spending:
    """What the calls took whose replies stand in a shard's record; nothing where there is none."""
    spending = Spending()
    with contextlib.closing(Record(path, read_only=True)) as record:
        for table in TABLES:
            for role, number, prompt, completion in record.read(
                f"SELECT role, COUNT(*), SUM(prompt_tokens), SUM(completion_tokens) FROM {table} "
                "JOIN origins ON origins.id = origin GROUP BY role"
            ):
                cost = cost_usd(Usage(prompt, completion), getattr(models, role))
                add_spending(spending, Spending(number, 0, prompt, completion, cost))
    return spending


def add_spending(total: Spending, more: Spending) -> None:
    for field in dataclasses.fields(Spending):
        setattr(total, field.name, getattr(total, field.name) + getattr(more, field.name))
