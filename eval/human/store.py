"""The database of a study: one SQLite file in WAL mode, in which every answer stands the moment its request is answered.

Who a rater is, nobody knows: of a token only its hash is kept, as the rater's id. Times are seconds since 1970, UTC.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from eval.human.material import Material
from eval.human.study import Study

KINDS = ("human", "simulated")  # of a whole database: the two are never mixed
CHOICES = ("A", "B")


class StudyFullError(Exception):
    """Every place is taken."""


@dataclass(frozen=True)
class Rater:
    """persona_id: None before `begin`. state: `new`, `open` or `finished`."""

    rater_id: str
    state: str
    persona_id: str | None
    began: float | None
    last_seen: float | None
    finished: float | None


@dataclass(frozen=True)
class Answer:
    """choice: the place chosen, `A` or `B`; preferred: `chosen` or `rejected`, the text that stood there. seconds: from the first time the
    question was shown to the first answer. pasted: characters pasted into the reasoning, all pastes together. changes: later versions."""

    rater_id: str
    item_id: str
    position: int
    first: str
    choice: str
    preferred: str
    reason: str
    pasted: int
    shown: float
    answered: float
    seconds: float
    changes: int


class Store:
    """Safe for several threads and processes at once; every method is one transaction."""

    def __init__(self, path: Path, study: Study, material: Material, kind: str) -> None:
        """Use open_store."""
        self.path, self.study, self.material, self.kind = path, study, material, kind

    def issue_tokens(self, count: int) -> list[str]:
        """New tokens, 22 characters each, shown this once."""
        raise NotImplementedError

    def token_for(self, panel_id: str) -> str:
        """recruiting: open. The same id gets the same token; only a keyed hash of the token is kept, the id nowhere."""
        raise NotImplementedError

    def rater(self, token: str) -> Rater | None:
        """None for a token that was not issued."""
        raise NotImplementedError

    def begin(self, rater_id: str, now: float | None = None) -> Rater:
        """After consent: gives the rater a persona (eval.human.assignment) if there is none yet. Raises StudyFullError."""
        raise NotImplementedError

    def items_of(self, rater: Rater) -> list[tuple[str, str]]:
        """(item id, which answer stands first: `chosen` or `rejected`) in this rater's order (eval.human.order)."""
        raise NotImplementedError

    def show(self, rater_id: str, item_id: str, now: float | None = None) -> None:
        """Notes when an item is first shown."""
        raise NotImplementedError

    def save(
        self, rater_id: str, item_id: str, choice: str, reason: str, pasted: int = 0, now: float | None = None
    ) -> Answer:
        """The answer, or a new version of it; the old versions stay in the log. The same click sent twice is one answer.

        Raises InputError for an item that the rater was not given, a choice other than A and B, a reasoning below minimum_characters (of
        trimmed text) or above LONGEST_ANSWER, or a rater who has finished.
        """
        raise NotImplementedError

    def answers(self, rater_id: str | None = None) -> list[Answer]:
        """Of one rater, or of all; sorted by rater and position."""
        raise NotImplementedError

    def finish(self, rater_id: str, now: float | None = None) -> Rater:
        """Raises InputError while a question is open. Finishing twice is finishing once."""
        raise NotImplementedError

    def raters(self) -> list[Rater]:
        """All that were issued a token, sorted by id."""
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


def open_store(
    path: Path, study: Study, draw: Callable[[], Material], kind: str = "human", *, create: bool = True
) -> Store:
    """The study's database, made with what `draw` gives where there is none yet.

    A study file that changed while no answer was there takes the database over; afterwards InputError names the keys that differ. Also
    InputError: no database of ours, another study's, one of the other kind, one that is not there with create=False.
    """
    raise NotImplementedError


def items_shown(material: Material, persona_id: str) -> Sequence[str]:
    """The item ids that the persona's raters are asked, checks among them."""
    return next(persona.shown for persona in material.personas if persona.persona_id == persona_id)
