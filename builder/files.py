"""Files appear whole or not at all."""

import errno
import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from builder.errors import InputError


def make_folder(folder: Path) -> Path:
    """The folder, made if need be. Raises InputError where it cannot be, so that long work does not end without a place for its result."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder} cannot be written ({error.strerror}). Give another --out folder.") from None
    return folder


def is_file(path: Path) -> bool:
    """As Path.is_file, and False for a name that no file can have because it is too long."""
    try:
        return path.is_file()
    except OSError:
        return False


@contextmanager
def locked(folder: Path, work: str) -> Iterator[None]:
    """Hold the folder, made if need be, for this process. Raises InputError where another `work` (build, fetch) holds it."""
    try:
        lock = (make_folder(folder) / ".lock").open("w")
    except OSError as error:
        raise InputError(f"{folder} cannot be written ({error.strerror}). Give another --out folder.") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(
                f"Another {work} is running in {folder}. Wait for it, or give another --out folder."
            ) from None
        yield


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """`write(temporary)` makes the file beside its place; it is moved there only when complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise InputError(
                f"The disk is full: {path} could not be written; what was there before is unchanged. Free some space and run the "
                "same command again."
            ) from None
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    def write(temporary: Path) -> None:
        temporary.write_bytes(content)

    write_atomically(path, write)


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=1, sort_keys=False, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"{path} does not exist. Give the folder that `persona build` or `persona publish` wrote."
        ) from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path} is not readable JSON ({error}). Restore it, or build into a new folder.") from None


def sha256_file(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        for block in iter(lambda: handle.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()
