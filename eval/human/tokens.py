"""`persona annotate tokens`: links for the raters, in a file that is written once and read by nobody else."""

import csv
import os
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

from builder.errors import InputError
from eval.human.opening import open_study

MOST_TOKENS = 100_000  # at once; more is a slip of the hand


def write_tokens(
    study_path: Path,
    count: int | None = None,
    address: str = "http://127.0.0.1:7860",
    out: Path | None = None,
    database: Path | None = None,
) -> str:
    """Issues tokens, one a place if no count is given, and writes token and link of each to a CSV file; returns what was done.

    The file alone holds them: the database keeps their hashes. It is readable by its owner only, and never overwritten. Raises InputError
    for a file that is there, a count out of range, and an address that is none.
    """
    address = checked_address(address)
    if count is not None and not 1 <= count <= MOST_TOKENS:
        raise InputError(f"--count is {count}; give 1 to {MOST_TOKENS:,}.")
    out = out or study_path.with_suffix(".tokens.csv")
    if out.exists():
        raise InputError(
            f"{out} is there, and it is the only file with its tokens. Give another with --out. Nothing was issued."
        )
    study, store = open_study(study_path, database)
    try:
        temporary = _empty_file(out)
        try:
            # The file is made before the tokens: where it cannot be, none are issued.
            tokens = store.issue_tokens(study.raters if count is None else count)
            _write(temporary, out, [(token, f"{address}/?token={token}") for token in tokens])
        finally:
            temporary.unlink(missing_ok=True)
        issued = len(store.raters())
    finally:
        store.close()
    return (
        f"{len(tokens)} tokens in {out}, a link each; {issued} are issued in all, for {study.raters} places.\n"
        "Send every rater one link. Who has a link can see and change that rater's answers: keep the file to yourself, and delete it when "
        "the study is over."
    )


def checked_address(address: str) -> str:
    """Without a slash at its end. Raises InputError for what is no address of a page."""
    try:
        parts = urlsplit(address.strip())
        wrong = parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment
    except ValueError:
        wrong = True
    if wrong:
        raise InputError(
            f"--address is {address!r}, which is no address to which a token could be added. Write it as https://example.org/study."
        )
    return address.strip().rstrip("/")


def _empty_file(out: Path) -> Path:
    """Beside `out`, readable by its owner only."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{out.name}.", dir=out.parent)
    except OSError as error:
        raise InputError(
            f"{out} cannot be written ({error.strerror}). Give another with --out. Nothing was issued."
        ) from None
    os.close(handle)
    return Path(name)


def _write(temporary: Path, out: Path, rows: list[tuple[str, str]]) -> None:
    # builder.files makes files that everybody may read.
    try:
        with temporary.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerows([("token", "link"), *rows])
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(out)
    except OSError as error:
        raise InputError(
            f"{out} could not be written ({error.strerror}); its {len(rows)} tokens are lost, and harmless. Free some space and run the "
            "same command again."
        ) from None
