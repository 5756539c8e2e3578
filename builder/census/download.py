"""One zip file over HTTP, whole or not at all, over a connection that may break.

What has arrived lies in NAME.part; NAME.part.json says which version of the file the server was sending. A later attempt, in the same
process or after a kill, asks for the rest of that version only (Range with If-Range) and starts over where the server no longer has it.
A file is whole when it has the size that the server announced and every checksum inside the zip is right.
"""

import email.utils
import json
import os
import re
import sys
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from tqdm import tqdm

from builder.errors import InputError
from builder.files import sha256_file, write_json

ATTEMPTS = 6  # in a row that bring the file less than PROGRESS_BYTES further
PROGRESS_BYTES = 1 << 20
FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 120.0
CAN_PASS = (408, 425, 429)  # and every 5xx


@dataclass
class TryAgain(Exception):  # noqa: N818 - one attempt that failed for a reason that can pass
    """reason: what to tell the user. wait_s: what the server asked for. cost: how many of the ATTEMPTS it counts for."""

    reason: str
    wait_s: float | None = None
    cost: int = 1


def http_client(timeout_s: float) -> httpx2.Client:
    """timeout_s: without a byte, or without a connection."""
    # Sizes are compared with Content-Length, so the server must not compress once more on the way.
    headers = {"User-Agent": "persona-testbed (census fetch)", "Accept-Encoding": "identity"}
    return httpx2.Client(headers=headers, timeout=timeout_s, follow_redirects=True)


def download_zip(
    client: httpx2.Client, url: str, part: Path, bar: tqdm, wait: Callable[[float], None]
) -> dict[str, Any]:
    """Bring `part` to the whole file and return {url, bytes, sha256, etag, last_modified}.

    Repeats what can pass (a broken connection, a timeout, 408, 425, 429, 5xx, a damaged archive) after growing waits or as long as the
    server asks for, up to LONGEST_WAIT_S. Raises InputError for 404 and other answers that will stay, after ATTEMPTS fruitless attempts
    in a row, and for a full disk; what has arrived is kept then.
    """
    failures, furthest = 0, size_of(part)
    while True:
        try:
            version = receive(client, url, part, bar)
            refuse_broken_zip(part)
            break
        except TryAgain as again:
            if size_of(part) >= furthest + PROGRESS_BYTES:
                failures, furthest = 0, size_of(part)
            failures += again.cost
            if failures >= ATTEMPTS:
                kept = f" What has arrived is kept in {part.name}." if part.exists() else ""
                raise InputError(
                    f"{url} could not be fetched; the last attempt: {again.reason}.{kept} Run the same command again later."
                ) from None
            asked = FIRST_WAIT_S * 2 ** (failures - 1) if again.wait_s is None else again.wait_s
            seconds = min(asked, LONGEST_WAIT_S)
            if not bar.disable:
                tqdm.write(f"{url}: {again.reason}; trying again in {seconds:.0f} s.", file=sys.stderr)
            wait(seconds)
    return {
        "url": url,
        "bytes": size_of(part),
        "sha256": sha256_file(part),
        "etag": version["etag"],
        "last_modified": version["last_modified"],
    }


def receive(client: httpx2.Client, url: str, part: Path, bar: tqdm) -> dict[str, Any]:
    """One attempt: the rest of the file, or all of it. Returns the version received. Raises TryAgain and InputError."""
    version = unfinished_version(part, url)
    offset = size_of(part)
    if version and offset == version["bytes"]:
        return version  # killed when everything had arrived
    headers = {"Range": f"bytes={offset}-", "If-Range": validator(version)} if version and offset else {}
    try:
        with client.stream("GET", url, headers=headers) as response:
            refuse_status(response, url, part)
            if response.status_code == 206:
                if not continues(response, version, offset):
                    forget(part)
                    raise TryAgain("the server went on with another version of the file")
            else:
                # A server that knows no ranges, or has another version by now, sends everything.
                forget(part)
                offset, version = 0, version_of(response, url)
                write_json(notes_of(part), version)
            bar.reset(version["bytes"])
            bar.n = bar.initial = offset
            write_body(response, part, offset, bar)
    except (httpx2.InvalidURL, httpx2.UnsupportedProtocol, httpx2.TooManyRedirects) as error:
        raise InputError(f"{url} cannot be asked for ({error}). Check --base-url.") from None
    except (
        httpx2.HTTPError
    ) as error:  # also a connection that broke in the middle, and silence for longer than the timeout
        raise TryAgain(f"{type(error).__name__} ({error})") from None
    if version["bytes"] is not None and size_of(part) != version["bytes"]:
        raise TryAgain(f"{size_of(part):,} of {version['bytes']:,} bytes arrived")
    return version


def unfinished_version(part: Path, url: str) -> dict[str, Any]:
    """The version that an earlier attempt was receiving; empty, and the leftovers removed, where they cannot be continued."""
    try:
        version = json.loads(notes_of(part).read_text(encoding="utf-8"))
        fits = version["bytes"] is None or size_of(part) <= version["bytes"]
        if fits and part.is_file() and version["url"] == url and validator(version):
            return version
    except (OSError, ValueError, TypeError, KeyError):
        pass
    forget(part)
    return {}


def validator(version: dict[str, Any]) -> str:
    """What If-Range may carry. A weak ETag does not promise the same bytes (RFC 9110, 13.1.5)."""
    etag = version["etag"] or ""
    return etag if etag and not etag.startswith("W/") else version["last_modified"] or ""


def refuse_status(response: httpx2.Response, url: str, part: Path) -> None:
    status = response.status_code
    if status in (200, 206):
        return
    if status == 416:
        forget(part)
        raise TryAgain("the server's file is shorter than what has arrived of it")
    if status in CAN_PASS or status >= 500:
        raise TryAgain(f"the server answers {status}", wait_s=retry_after(response))
    if status in (404, 410):
        raise InputError(f"{url}: {status}, the server has no such file. {missing_file_advice(url)}")
    raise InputError(f"{url}: the server answers {status} {response.reason_phrase}. Check --base-url and your network.")


def missing_file_advice(url: str) -> str:
    if "/2020/1-Year/" in url:
        return "Of 2020 the Bureau has only experimental 1-year files, elsewhere. Give another --year, or --five-year."
    return (
        "A year's 1-year files appear in the autumn after it and its 5-year files in the winter, so it may not exist yet: check --year, "
        "--five-year and --base-url."
    )


def retry_after(response: httpx2.Response) -> float | None:
    """Seconds that the server asks to wait: a number, or a date, which is compared with the server's own clock."""
    asked = response.headers.get("Retry-After", "").strip()
    if asked.isdigit():
        return float(asked)
    try:
        until = email.utils.parsedate_to_datetime(asked)
        now = email.utils.parsedate_to_datetime(response.headers.get("Date", ""))
        return max(0.0, (until - now).total_seconds())
    except (ValueError, TypeError):
        return None


def version_of(response: httpx2.Response, url: str) -> dict[str, Any]:
    length = response.headers.get("Content-Length", "")
    return {
        "url": url,
        "bytes": int(length) if length.isdigit() else None,
        "etag": response.headers.get("ETag"),
        "last_modified": response.headers.get("Last-Modified"),
    }


def continues(response: httpx2.Response, version: dict[str, Any], offset: int) -> bool:
    """Whether a 206 goes on where the file stops. Some servers overlook If-Range, so what the answer says of its version is compared."""
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
    if not version or found is None or int(found[1]) != offset:
        return False
    if version["bytes"] is not None and found[2] not in ("*", str(version["bytes"])):
        return False
    said = [("ETag", "etag"), ("Last-Modified", "last_modified")]
    return all(version[key] is None or response.headers.get(name) in (None, version[key]) for name, key in said)


def write_body(response: httpx2.Response, part: Path, offset: int, bar: tqdm) -> None:
    try:
        with part.open("r+b" if offset else "wb") as file:
            file.seek(offset)
            # In the pieces in which it arrives: a fixed size would hold a piece back, and lose it when the connection breaks.
            for piece in response.iter_raw():
                file.write(piece)
                file.flush()
                bar.update(len(piece))
            os.fsync(file.fileno())
    except OSError as error:
        raise InputError(
            f"{part} cannot be written ({error.strerror}). What has arrived is kept; free some space and run the same command again."
        ) from None


def refuse_broken_zip(part: Path) -> None:
    """Raises TryAgain, and removes the file, where it is not a zip archive with every checksum right."""
    try:
        with zipfile.ZipFile(part) as archive:
            broken = archive.testzip()
        if broken is None:
            return
        reason = f"{broken} inside the zip archive is damaged"
    except NotImplementedError:
        return  # a compression that Python cannot unpack; the directory at the archive's end is there, so it was not cut off
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError) as error:
        reason = f"what arrived is no whole zip archive ({error})"
    forget(part)
    # Counts twice, because each such attempt may cost a whole download.
    raise TryAgain(reason, cost=2)


def forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    notes_of(part).unlink(missing_ok=True)


def notes_of(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def size_of(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
