"""`persona annotate tokens`: links for the raters, in a file that is written once and read by nobody else; and whom of a panel to pay."""

import csv
import io
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from builder.errors import InputError
from eval.human.exclusion import Standing
from eval.human.opening import open_study
from eval.human.store import PANEL_ID, Store

MOST_TOKENS = 100_000  # at once; more is a slip of the hand


def write_tokens(
    study_path: Path,
    count: int | None = None,
    address: str = "http://127.0.0.1:7860",
    out: Path | None = None,
    database: Path | None = None,
) -> str:
    """Issues tokens, one a place if no count is given, and writes token, link and rater id of each to a CSV file; returns what was done.

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
        temporary = _empty_file(out, "Nothing was issued.")
        try:
            # The file is made before the tokens: where it cannot be, none are issued.
            tokens = store.issue_tokens(study.raters if count is None else count)
            rows = [(token, f"{address}/?token={token}", store.rater_id_of(token)) for token in tokens]
            lost = f"its {len(tokens)} tokens are lost, and harmless"
            _write(temporary, out, [("token", "link", "rater"), *rows], lost)
        finally:
            temporary.unlink(missing_ok=True)
        issued = len(store.raters())
    finally:
        store.close()
    said = [
        f"{len(tokens)} tokens in {out}, with link and rater id of each; {issued} are issued in all, for {study.raters} places.",
        "Send every rater one link. Who has a link can see and change that rater's answers: keep the file to yourself, and delete it when",
        "the study is over.",
    ]
    if study.recruiting == "open":
        said.append(
            "The study is open: who comes from the panel needs no link. These are for people whom you invite yourself."
        )
    if "//127.0.0.1" in address or "//localhost" in address:
        said.append(
            "These links open on this machine only. For others, issue tokens with --address https://WHERE-IT-IS-SERVED."
        )
    return "\n".join([*said, f"Next: persona annotate serve {study_path}"])


def panel_raters(study_path: Path, panel_ids: Path, out: Path | None = None, database: Path | None = None) -> str:
    """Whom of a panel to pay: of each of its ids, one a line, the rater, whether the answers count, and if not, why.

    Returns the table as CSV, or writes it to `out`, readable by its owner only, and returns what was done. An id that never came leaves
    nothing behind. Raises InputError where there is no database, for a study with `recruiting: tokens`, and for a file that cannot be read.
    """
    try:
        lines = panel_ids.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{panel_ids} cannot be read ({error}). Give a text file with an id of the panel in each line."
        ) from None
    ids = list(dict.fromkeys(stripped for line in lines if (stripped := line.strip())))
    study, store = open_study(study_path, database, create=False)
    try:
        if study.recruiting != "open":
            raise InputError(
                f"{study_path.name} recruits by tokens, so no panel's id leads to a rater. The CSV file of `persona annotate tokens` names "
                "the rater of every link; `persona annotate export` says of each whether the answers count."
            )
        found = {standing.rater.rater_id: standing for standing in store.standings()}
        of_ids = [_of_panel_id(store, found, panel_id) for panel_id in ids]
    finally:
        store.close()
    rows = [("panel_id", "rater", "state", "counts", "reason"), *of_ids]
    if out is None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        return text.getvalue().rstrip("\n")
    temporary = _empty_file(out, "Nothing was written.")
    try:
        _write(temporary, out, rows, "nothing was changed")
    finally:
        temporary.unlink(missing_ok=True)
    counting, known = sum(row[3] == "yes" for row in of_ids), sum(row[1] != "" for row in of_ids)
    return (
        f"{len(ids)} ids in {out}: {known} of them came, {counting} count. The file says which participant gave which answers: keep it to "
        "yourself, and delete it when everybody is paid."
    )


def _of_panel_id(store: Store, found: Mapping[str, Standing], panel_id: str) -> tuple[str, ...]:
    if not PANEL_ID.fullmatch(panel_id):
        return panel_id, "", "unknown", "no", "Is no id that the study takes."
    standing = found.get(store.rater_id_of(store.panel_token(panel_id)))
    if standing is None:
        return panel_id, "", "unknown", "no", "Did not come, or did not agree."
    return (
        panel_id,
        standing.rater.rater_id,
        standing.rater.state,
        "yes" if standing.counts else "no",
        standing.reason or "",
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


def _empty_file(out: Path, otherwise: str) -> Path:
    """Beside `out`, readable by its owner only. otherwise: what the error says was not done."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{out.name}.", dir=out.parent)
    except OSError as error:
        raise InputError(f"{out} cannot be written ({error.strerror}). Give another with --out. {otherwise}") from None
    os.close(handle)
    return Path(name)


def _write(temporary: Path, out: Path, rows: Sequence[tuple[str, ...]], lost: str) -> None:
    # builder.files makes files that everybody may read.
    try:
        with temporary.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(out)
    except OSError as error:
        raise InputError(
            f"{out} could not be written ({error.strerror}); {lost}. Free some space and run the same command again."
        ) from None
