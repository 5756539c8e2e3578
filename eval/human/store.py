"""The database of a study: one SQLite file in WAL mode, in which every answer stands the moment its request is answered.

Who a rater is, nobody knows: of a token only its hash is kept, as the rater's id. Times are seconds since 1970, UTC.
"""

import base64
import dataclasses
import hashlib
import hmac
import re
import secrets
import sqlite3
import time
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from builder.errors import InputError, few
from eval.human.assignment import assign, taken_places
from eval.human.database import Database, StorageError, fact
from eval.human.exclusion import Standing, reasons, standings
from eval.human.material import Material
from eval.human.order import first_answer, item_order
from eval.human.records import CHOICES, Answer, Rater
from eval.human.study import LONGEST_ANSWER, Study, fingerprint_of

PREFIXES = {"human": "r", "simulated": "s"}  # of rater ids
# A placeholder that a panel left unfilled, as {{%PROLIFIC_PID%}}, would be one id for all of its raters.
PANEL_ID = re.compile(r"[A-Za-z0-9][\w.:/-]{0,99}", re.ASCII)
SIGN_OF_LIFE = 60  # seconds; a page that is loaded again within them writes nothing


class StudyFullError(Exception):
    """Every place is taken."""


class AlreadyFinishedError(InputError):
    """The rater has finished: an answer can no longer be changed."""


class Store:
    """Safe for several threads and processes at once. What a method writes, it writes whole; all but the time of `show` is on the disk when
    the method returns.

    Any method raises database.StorageError, an InputError, where the file cannot be read or written. So do `rater` and those that write
    where another process has taken the database over for a changed study file.
    """

    def __init__(self, path: Path, study: Study, material: Material, kind: str, database: Database) -> None:
        """Use eval.human.opening.open_store. checks: the item ids of all attention checks."""
        self.path, self.study, self.material, self.kind = path, study, material, kind
        self._database = database
        self._fingerprint = fingerprint_of(study)
        self._items: dict[str, list[tuple[str, str]]] = {}
        self._broken_rules: dict[str, list[str]] = {}  # of raters who have finished
        self.checks = frozenset(
            item.item_id for persona in material.personas for item in persona.items if item.kind == "check"
        )

    def issue_tokens(self, count: int, now: float | None = None) -> list[str]:
        """New tokens, 22 characters each, shown this once."""
        tokens = [new_token() for _ in range(count)]
        with self._database.writing() as connection:
            for token in tokens:
                self._register(connection, token, now)
        return tokens

    def token_for(self, panel_id: str, now: float | None = None) -> str:
        """recruiting: open. The token of `panel_token`, which opens the study from now on. Raises InputError as that does."""
        token = self.panel_token(panel_id)
        if self.rater(token) is None:
            with self._database.writing() as connection:
                self._register(connection, token, now)
        return token

    def panel_token(self, panel_id: str) -> str:
        """recruiting: open. The same id gives the same token, whether its rater came or not; the id is kept nowhere.

        Raises InputError where the study lets in holders of tokens only, and for what is no PANEL_ID.
        """
        if self.study.recruiting != "open":
            raise InputError("This study lets in only those who were sent a link. Ask who invited you for yours.")
        panel_id = panel_id.strip()
        if not PANEL_ID.fullmatch(panel_id):
            raise InputError(
                f"The panel's id is {panel_id[:100]!r}; it takes 1 to 100 letters, digits and _.:/- and begins with a letter or digit. "
                "Open the study by the panel's link."
            )
        with self._database.reading() as connection:
            secret = bytes.fromhex(fact(connection, "secret"))
        # Without the secret nobody can compute a participant's token, nor try ids until a rater's comes out.
        digest = hmac.digest(secret, panel_id.encode("utf-8", "surrogatepass"), "sha256")
        return base64.urlsafe_b64encode(digest[:16]).decode().rstrip("=")

    def admit(self, token: str, now: float | None = None) -> None:
        """A token that was made elsewhere: those of simulated raters follow from a seed, and with them orders and places."""
        if self.kind != "simulated":
            raise ValueError("people's tokens are random, and issued here")
        with self._database.writing() as connection:
            self._register(connection, token, now)

    def rater(self, token: str) -> Rater | None:
        """None for a token that was not issued."""
        with self._database.reading() as connection:
            self._refuse_changed_study(connection)
            return self._find(connection, self.rater_id_of(token))

    def rater_id_of(self, token: str) -> str:
        """Also of a token that was not issued."""
        return PREFIXES[self.kind] + hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()[:16]

    def begin(self, rater_id: str, now: float | None = None) -> Rater:
        """After consent: gives the rater a persona (eval.human.assignment) if there is none yet. Raises StudyFullError."""
        now = _time(now)
        with self._database.writing() as connection:
            self._refuse_changed_study(connection)
            rater = self._known(connection, rater_id)
            if rater.persona_id is not None:
                return rater
            raters = _raters(connection)
            taken = taken_places(raters, self._excluded(connection, raters), self.study.idle_minutes * 60, now)
            personas = [persona.persona_id for persona in self.material.personas]
            persona_id = assign(personas, taken, self.study.raters_per_persona, self.study.seed, rater_id)
            if persona_id is None:
                raise StudyFullError(f"All {self.study.raters} places of the study are taken.")
            connection.execute(
                "UPDATE raters SET persona_id = ?, began = ?, last_seen = ? WHERE rater_id = ?",
                (persona_id, now, now, rater_id),
            )
            return dataclasses.replace(rater, state="open", persona_id=persona_id, began=now, last_seen=now)

    def items_of(self, rater: Rater) -> list[tuple[str, str]]:
        """(item id, which answer stands first: `chosen` or `rejected`) in this rater's order (eval.human.order).

        Empty before `begin`.
        """
        if rater.persona_id is None:
            return []
        # Asked for with every request; to draw it takes longer than to save an answer.
        known = self._items.get(rater.rater_id)
        if known is None:
            seed, shown = self.study.seed, items_shown(self.material, rater.persona_id)
            order = item_order(seed, rater.rater_id, shown, self.checks)
            known = [(item_id, first_answer(seed, rater.rater_id, item_id)) for item_id in order]
            self._items[rater.rater_id] = known
        return list(known)

    def show(self, rater_id: str, item_id: str, now: float | None = None) -> None:
        """Notes when an item is first shown, and that the rater is still there.

        Raises InputError for an item that the rater was not given. Nothing is noted of who has finished.
        """
        now = _time(now)
        with self._database.reading() as connection:
            rater = self._known(connection, rater_id)
            self._position(rater, item_id)
            known = _shown(connection, rater_id, item_id)
        if rater.state == "finished":
            return
        if known is not None and rater.last_seen is not None and now - rater.last_seen < SIGN_OF_LIFE:
            return
        with self._database.writing(at_once=False) as connection:
            self._refuse_changed_study(connection)
            connection.execute("INSERT OR IGNORE INTO shown VALUES (?, ?, ?)", (rater_id, item_id, now))
            _seen(connection, rater_id, now)

    def save(
        self, rater_id: str, item_id: str, choice: str, reason: str, pasted: int = 0, now: float | None = None
    ) -> Answer:
        """The answer, or a new version of it; the old versions stay in the log. The same click sent twice is one answer.

        Raises InputError for an item that the rater was not given, a choice other than A and B, a reasoning below minimum_characters (of
        trimmed text) or above LONGEST_ANSWER; AlreadyFinishedError for a rater who has finished.
        """
        now, reason, pasted = _time(now), plain_text(reason).strip(), min(max(pasted, 0), LONGEST_ANSWER)
        if choice not in CHOICES:
            raise InputError(f"No answer is chosen. Choose {' or '.join(CHOICES)}.")
        if len(reason) < self.study.minimum_characters:
            raise InputError(
                f"The reasoning has {len(reason)} characters; please write at least {self.study.minimum_characters}."
            )
        if len(reason) > LONGEST_ANSWER:
            raise InputError(f"The reasoning has {len(reason)} characters; please shorten it to {LONGEST_ANSWER}.")
        with self._database.writing() as connection:
            self._refuse_changed_study(connection)
            rater = self._known(connection, rater_id)
            position, first = self._position(rater, item_id)
            old = _answer(connection, rater_id, item_id)
            preferred = first if choice == "A" else {"chosen": "rejected", "rejected": "chosen"}[first]
            # A page that is opened again may count from 0: what was pasted once stays known.
            most_pasted = max(pasted, old.pasted) if old else pasted
            if old and (old.choice, old.reason, old.pasted) == (choice, reason, most_pasted):
                return old
            if rater.state == "finished":
                raise AlreadyFinishedError("You have finished the study, so this answer can no longer be changed.")
            if old:
                new = dataclasses.replace(
                    old, choice=choice, preferred=preferred, reason=reason, pasted=most_pasted, changes=old.changes + 1
                )
            else:
                shown = _shown(connection, rater_id, item_id)
                if shown is None:
                    shown = now
                    connection.execute("INSERT INTO shown VALUES (?, ?, ?)", (rater_id, item_id, now))
                seconds = max(now - shown, 0.0)  # a clock may be set back
                new = Answer(
                    rater_id, item_id, position, first, choice, preferred, reason, pasted, shown, now, seconds, 0
                )
            values = dataclasses.astuple(new)
            connection.execute(f"INSERT OR REPLACE INTO answers VALUES ({', '.join('?' * len(values))})", values)
            connection.execute(
                "INSERT INTO log (saved, rater_id, item_id, choice, reason, pasted) VALUES (?, ?, ?, ?, ?, ?)",
                (now, rater_id, item_id, choice, reason, pasted),
            )
            _seen(connection, rater_id, now)
        return new

    def answers(self, rater_id: str | None = None) -> list[Answer]:
        """Of one rater, or of all; sorted by rater and position."""
        with self._database.reading() as connection:
            return _answers(connection, rater_id)

    def finish(self, rater_id: str, now: float | None = None) -> Rater:
        """Raises InputError while a question is open. Finishing twice is finishing once."""
        now = _time(now)
        with self._database.writing() as connection:
            self._refuse_changed_study(connection)
            rater = self._known(connection, rater_id)
            if rater.state == "finished":
                return rater
            if rater.persona_id is None:
                raise InputError("The study has not begun, so it cannot be finished. Begin it on the first page.")
            answered = {answer.item_id for answer in _answers(connection, rater_id)}
            items = [item_id for item_id, _ in self.items_of(rater)]
            left = [str(number) for number, item_id in enumerate(items, start=1) if item_id not in answered]
            if left:
                raise InputError(
                    f"{len(left)} of {len(items)} questions have no answer yet: number {few(left)}. Answer them, then finish."
                )
            connection.execute("UPDATE raters SET finished = ?, last_seen = ? WHERE rater_id = ?", (now, now, rater_id))
            return dataclasses.replace(rater, state="finished", finished=now, last_seen=now)

    def raters(self) -> list[Rater]:
        """All that were issued a token, sorted by id."""
        with self._database.reading() as connection:
            return _raters(connection)

    def standings(self) -> list[Standing]:
        """Of every rater, sorted by id: whether the answers count, and if not, why (eval.human.exclusion)."""
        with self._database.reading() as connection:
            return self._standings(connection)

    def versions(self) -> list[dict[str, Any]]:
        """The log: every version of every answer, in the order in which they were saved.

        Columns: saved, rater_id, item_id, choice, reason, pasted (of that version alone).
        """
        with self._database.reading() as connection:
            cursor = connection.execute("SELECT saved, rater_id, item_id, choice, reason, pasted FROM log ORDER BY id")
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor]

    def close(self) -> None:
        self._database.close()

    def _register(self, connection: sqlite3.Connection, token: str, now: float | None) -> None:
        connection.execute(
            "INSERT OR IGNORE INTO raters (rater_id, issued) VALUES (?, ?)", (self.rater_id_of(token), _time(now))
        )

    def _find(self, connection: sqlite3.Connection, rater_id: str) -> Rater | None:
        return next(iter(_raters(connection, rater_id)), None)

    def _known(self, connection: sqlite3.Connection, rater_id: str) -> Rater:
        rater = self._find(connection, rater_id)
        if rater is None:
            raise InputError(f"No token was issued for the rater {rater_id} in {self.path.name}.")
        return rater

    def _position(self, rater: Rater, item_id: str) -> tuple[int, str]:
        """Number of the question for this rater, from 1, and which answer stands first."""
        for number, (given, first) in enumerate(self.items_of(rater), start=1):
            if given == item_id:
                return number, first
        raise InputError(f"{item_id[:100]!r} is none of the questions that you were given. Open your link again.")

    def _excluded(self, connection: sqlite3.Connection, raters: Sequence[Rater]) -> list[str]:
        # The answers of who has finished change no more, so each is judged once: `begin` is to stay quick when hundreds come at once.
        for rater in raters:
            if rater.state == "finished" and rater.rater_id not in self._broken_rules:
                answers = _answers(connection, rater.rater_id)
                self._broken_rules[rater.rater_id] = reasons(answers, self.checks, self.study.exclusions)
        return [rater_id for rater_id, broken in list(self._broken_rules.items()) if broken]

    def _standings(self, connection: sqlite3.Connection) -> list[Standing]:
        by_rater = defaultdict(list)
        for answer in _answers(connection):
            by_rater[answer.rater_id].append(answer)
        study = self.study
        return standings(_raters(connection), by_rater, self.checks, study.exclusions, study.raters_per_persona)

    def _refuse_changed_study(self, connection: sqlite3.Connection) -> None:
        # Another process may have taken the database over for a changed study file while this one serves the old one.
        if fact(connection, "fingerprint") != self._fingerprint:
            raise StorageError(
                f"The study file of {self.path.name} has changed since it was opened here. Start `persona annotate serve` again."
            )


def new_token() -> str:
    """128 random bits in 22 characters; it begins with a letter or digit, for a spreadsheet takes `-…` for a formula."""
    while True:
        token = secrets.token_urlsafe(16)
        if token[0].isalnum():
            return token


def items_shown(material: Material, persona_id: str) -> Sequence[str]:
    """The item ids that the persona's raters are asked, checks among them."""
    return next(persona.shown for persona in material.personas if persona.persona_id == persona_id)


def plain_text(text: str) -> str:
    """Without control characters, which no keyboard writes and many programs stumble over; lines end in one character."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return "".join(c for c in text if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cs"))


def _raters(connection: sqlite3.Connection, rater_id: str | None = None) -> list[Rater]:
    where, values = ("", ()) if rater_id is None else ("WHERE rater_id = ?", (rater_id,))
    rows = connection.execute(
        f"SELECT rater_id, persona_id, began, last_seen, finished FROM raters {where} ORDER BY rater_id", values
    )
    return [
        Rater(
            rater,
            "new" if persona is None else "open" if finished is None else "finished",
            persona,
            began,
            seen,
            finished,
        )
        for rater, persona, began, seen, finished in rows
    ]


def _answers(connection: sqlite3.Connection, rater_id: str | None = None) -> list[Answer]:
    where, values = ("", ()) if rater_id is None else ("WHERE rater_id = ?", (rater_id,))
    rows = connection.execute(f"SELECT * FROM answers {where} ORDER BY rater_id, position", values)
    return [Answer(*row) for row in rows]


def _answer(connection: sqlite3.Connection, rater_id: str, item_id: str) -> Answer | None:
    row = connection.execute("SELECT * FROM answers WHERE rater_id = ? AND item_id = ?", (rater_id, item_id)).fetchone()
    return Answer(*row) if row else None


def _shown(connection: sqlite3.Connection, rater_id: str, item_id: str) -> float | None:
    row = connection.execute(
        "SELECT shown FROM shown WHERE rater_id = ? AND item_id = ?", (rater_id, item_id)
    ).fetchone()
    return row[0] if row else None


def _seen(connection: sqlite3.Connection, rater_id: str, now: float) -> None:
    connection.execute(
        "UPDATE raters SET last_seen = MAX(COALESCE(last_seen, 0), ?) WHERE rater_id = ?", (now, rater_id)
    )


def _time(now: float | None) -> float:
    return time.time() if now is None else now
