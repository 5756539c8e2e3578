"""Where a study's database stands in a Hugging Face Space, so that a restart loses nothing, or as little as the Space allows.

A Space's own disk is empty after every restart. What stays is a volume, and there are two kinds (docs/human_study.md):

- a disk, as Spaces with paid storage had it: the database stands on it;
- a storage bucket, an object store that is mounted as a network file system. It keeps no locks, and uploads a file some seconds after it
  was closed (hf-mount's README, "Consistency model"), so a database on it would be damaged sooner or later. There the database works on the
  Space's own disk, and a whole copy of it goes to the bucket as soon as something changed, COPY_SECONDS apart, and when the Space is
  stopped. A start takes up the newest copy that is whole. A Space that is killed without notice loses what came after it.
"""

import contextlib
import datetime
import os
import shutil
import sqlite3
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from builder.errors import InputError
from eval.human.database import Database

PLACE = "PERSONA_STUDY_DATABASE"
VOLUME = Path("/data")
NAME = "study.sqlite"
DISKS = {"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs"}  # file systems on which SQLite's locks hold
GONE_AFTER_A_RESTART = {"overlay", "tmpfs", "ramfs"}
COPY_SECONDS = 5.0
COPIES_KEPT = 3  # of one start; the last ones of earlier starts all stay


@dataclass(frozen=True)
class Place:
    """database: where SQLite works. copies: the folder on a bucket that gets whole copies of it, or None."""

    database: Path
    copies: Path | None


def place(environment: Mapping[str, str], mounts: str | None = None, volume: Path = VOLUME) -> Place:
    """mounts: what /proc/mounts says. Raises InputError where nothing outlives a restart."""
    named = environment.get(PLACE)
    if named:
        return Place(Path(named), None)
    kind = file_system(mounts if mounts is not None else _mounts(), volume)
    if kind is None or kind in GONE_AFTER_A_RESTART:
        raise InputError(
            f"There is no storage at {volume} that outlives a restart of this Space, so every answer would be lost with it. Open the "
            f"Space's settings and mount a storage bucket there, read and write, at {volume}; or set the variable {PLACE} to a file on "
            "another disk that stays."
        )
    if not os.access(volume, os.W_OK):
        raise InputError(
            f"{volume} cannot be written. Mount the storage bucket read and write in the Space's settings."
        )
    if kind in DISKS:
        return Place(volume / NAME, None)
    return Place(Path(tempfile.gettempdir()) / "persona-study" / NAME, volume)


def file_system(mounts: str, volume: Path) -> str | None:
    """The type of what is mounted at `volume` itself; None where nothing is: then it is a folder of the Space's own disk."""
    found = None
    for line in mounts.splitlines():
        fields = line.split()
        if len(fields) > 2 and fields[1] == str(volume):
            found = fields[2]  # the last one lies on top
    return found


def _mounts() -> str:
    try:
        return Path("/proc/mounts").read_text()
    except OSError:
        return ""


def take_up(place: Place) -> Path | None:
    """Before the database is opened: puts the newest whole copy into its place, where there is no database yet. The copy, or None.

    Raises InputError where there are copies and none is whole: a study that began again would look as if nobody had answered.
    """
    place.database.parent.mkdir(parents=True, exist_ok=True)
    if place.copies is None or place.database.exists():
        return None
    copies = sorted(place.copies.glob(f"{NAME}.*"), reverse=True)
    for copy in copies:
        new = place.database.with_name("taken-up")
        shutil.copyfile(copy, new)
        if _is_whole(new):
            new.replace(place.database)
            return copy
    if copies:
        raise InputError(
            f"None of the {len(copies)} copies of the database in {place.copies} can be read. Keep them, look at the bucket, and remove "
            "them from there only to begin the study again."
        )
    return None


def _is_whole(path: Path) -> bool:
    try:
        with contextlib.closing(sqlite3.connect(path)) as connection:
            return bool(connection.execute("PRAGMA quick_check").fetchone() == ("ok",))
    except sqlite3.Error:
        return False


def admit(database: Path, rater_ids: Sequence[str]) -> None:
    """Lets in the holders of tokens that were issued elsewhere. A rater's id is a hash of the token: it admits, and gives nothing away."""
    there = Database(database)
    try:
        with there.writing() as connection:
            rows = [(rater_id, time.time()) for rater_id in rater_ids]
            connection.executemany("INSERT OR IGNORE INTO raters (rater_id, issued) VALUES (?, ?)", rows)
    finally:
        there.close()


@contextmanager
def copied(place: Place, seconds: float = COPY_SECONDS) -> Iterator[None]:
    """While inside: copies to the bucket, at the end and every `seconds` where something changed. Does nothing without a bucket.

    A copy that fails is said on the log and tried again: raters go on meanwhile.
    """
    folder = place.copies
    if folder is None:
        yield
        return
    start, stop = _now(), threading.Event()
    last: tuple[int, ...] | None = None

    def copy_if_changed() -> None:
        nonlocal last
        state = _state(place.database)
        if state == last:
            return
        try:
            copy(place.database, folder / f"{NAME}.{_now()}.{start}")
            last = state
        except (OSError, sqlite3.Error) as error:
            print(f"The answers could not be copied to {folder} ({error}); trying again.", flush=True)
            return
        for old in sorted(folder.glob(f"{NAME}.*.{start}"))[:-COPIES_KEPT]:
            with contextlib.suppress(OSError):
                old.unlink()

    def work() -> None:
        while not stop.wait(seconds):
            copy_if_changed()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        copy_if_changed()


def copy(database: Path, target: Path) -> None:
    """A whole copy of a database that is in use. target: a new name, so that nothing has to be overwritten or moved on the bucket."""
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "copy.sqlite"
        with (
            contextlib.closing(sqlite3.connect(database)) as source,
            contextlib.closing(sqlite3.connect(whole)) as goal,
        ):
            source.backup(goal)
            goal.execute("PRAGMA journal_mode = DELETE")  # a single file
        shutil.copyfile(whole, target)


def _state(database: Path) -> tuple[int, ...]:
    """Another one after every write: sizes and times of the file and of its log."""
    found: list[int] = []
    for path in (database, database.with_name(f"{database.name}-wal")):
        with contextlib.suppress(FileNotFoundError):
            status = path.stat()
            found += [status.st_size, status.st_mtime_ns]
    return tuple(found)


def _now() -> str:
    """To the microsecond, UTC; sorts as text."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%S%f")
