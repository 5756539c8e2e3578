"""What a study's database holds of people: a rater, an answer. Times are seconds since 1970, UTC."""

from dataclasses import dataclass

CHOICES = ("A", "B")


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
    """position: 1 for the first question of this rater. first: `chosen` or `rejected`, the text that stood at A. choice: the place chosen,
    `A` or `B`; preferred: `chosen` or `rejected`, the text that stood there. seconds: from the first time the question was shown to the
    first answer. pasted: characters pasted into the reasoning, the most of any version. changes: later versions."""

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
