"""What a judge is calibrated on: a person, a question, two answers, and which of the two is this person's.

The packaged contrasts (contrasts.yaml) are all mirrored; a file of one's own is JSON lines, for example labels of people.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from builder.errors import InputError
from builder.randomness import rng_for, seed_for
from builder.strict_yaml import read_yaml
from training.profiles import DEMOGRAPHICS, as_lines, only, stated_attributes

CONTRASTS = Path(__file__).parent / "contrasts.yaml"
NEEDED = ("profile", "question", "answers", "expected")
FORM = '{"profile": "...", "question": "...", "answers": ["...", "..."], "expected": 0}'


@dataclass(frozen=True)
class LabelledItem:
    """`expected`: 0 or 1, which of the two answers this person prefers. `authors`: which model wrote each, None where it is not said.
    `against_demographics`: the preferred answer runs against what the demographic lines suggest; said of packaged items only."""

    profile: str
    question: str
    answers: tuple[str, str]
    expected: int
    authors: tuple[str, str] | None = None
    against_demographics: bool = False

    @cached_property
    def key(self) -> str:
        """By content, so that the order of a file decides nothing."""
        return _hash(self.profile, self.question, *self.answers)

    @cached_property
    def profile_key(self) -> str:
        return _hash(self.profile)

    @cached_property
    def contrast_key(self) -> str:
        """The same for an item and its mirror: one question and one pair of answers."""
        return _hash(self.question, *sorted(self.answers))

    @property
    def fitting(self) -> str:
        return self.answers[self.expected]

    @property
    def opposite(self) -> str:
        return self.answers[1 - self.expected]


def load_items(path: Path | None) -> list[LabelledItem]:
    """The items of a file, or the packaged ones. Raises InputError for a file that is none, with the number of the line at fault."""
    return packaged_items() if path is None else read_items(path)


def packaged_items() -> list[LabelledItem]:
    raw = read_yaml(CONTRASTS)
    profiles = {
        name: as_lines({key: str(value) for key, value in values.items()}) for name, values in raw["personas"].items()
    }
    return [
        LabelledItem(
            profiles[name],
            contrast["question"],
            tuple(contrast["answers"].values()),
            place,
            against_demographics=contrast.get("against_demographics", False),
        )
        for contrast in raw["contrasts"]
        for place, name in enumerate(contrast["answers"])
    ]


def read_items(path: Path) -> list[LabelledItem]:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error}). Give a UTF-8 file of lines {FORM}.") from None
    items: list[LabelledItem] = []
    seen: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        item = _item(line, f"{path}, line {number}")
        if item.key in seen:
            raise InputError(
                f"{path}, line {number}: the same profile, question and answers stand in line {seen[item.key]}. Keep one of the two."
            )
        seen[item.key] = number
        items.append(item)
    if not items:
        raise InputError(f"{path} holds no item. Give lines {FORM}.")
    return items


def _item(line: str, place: str) -> LabelledItem:
    try:
        raw = json.loads(line)
    except ValueError as error:
        raise InputError(f"{place} is no JSON ({error}). It takes {FORM}.") from None
    if not isinstance(raw, dict):
        raise InputError(f"{place} is {type(raw).__name__}. It takes {FORM}.")
    if missing := [key for key in NEEDED if key not in raw]:
        raise InputError(f"{place} lacks {missing[0]}. It takes {FORM}.")
    if unknown := sorted(set(raw) - {*NEEDED, "authors"}):
        raise InputError(f"{place} has the unknown key {unknown[0]}. It takes {', '.join(NEEDED)} and authors.")
    for key in ("profile", "question"):
        if not _is_text(raw[key]):
            raise InputError(f"{place}: {key} is {raw[key]!r}; it takes a text that is not blank.")
    if not _is_two_texts(raw["answers"]):
        raise InputError(f"{place}: answers is {str(raw['answers'])[:80]!r}; it takes two texts that are not blank.")
    if raw["answers"][0].strip() == raw["answers"][1].strip():
        raise InputError(
            f"{place}: both answers are the same, so none of them can be the right one. Leave the line out."
        )
    if type(raw["expected"]) is not int or raw["expected"] not in (0, 1):
        raise InputError(
            f"{place}: expected is {raw['expected']!r}; it takes 0 for the first answer or 1 for the second. Leave out what was left open."
        )
    if raw.get("authors") is not None and not _is_two_texts(raw["authors"]):
        raise InputError(
            f"{place}: authors is {raw['authors']!r}; it takes the names of two models, one for each answer."
        )
    authors = raw.get("authors")
    return LabelledItem(
        raw["profile"], raw["question"], tuple(raw["answers"]), raw["expected"], tuple(authors) if authors else None
    )


def draw(items: Sequence[LabelledItem], limit: int | None, seed: int) -> list[LabelledItem]:
    """At most `limit` items by seed and content, an item and its mirror together; sorted by key. Raises InputError below 2."""
    if limit is not None and limit < 2:
        raise InputError(
            f"--limit is {limit}; an item and its mirror need at least 2. Raise it, or leave it out for all."
        )
    units: dict[str, list[LabelledItem]] = {}
    for item in items:
        units.setdefault(item.contrast_key, []).append(item)
    drawn: list[LabelledItem] = []
    for key in sorted(units, key=lambda key: (seed_for(seed, "calibration/limit", key), key)):
        if limit is None or len(drawn) + len(units[key]) <= limit:
            drawn += units[key]
    if not drawn:
        raise InputError(
            f"--limit is {limit}, less than the persons of any one question. Raise it, or leave it out for all."
        )
    return sorted(drawn, key=lambda item: item.key)


def wrong_profiles(items: Sequence[LabelledItem], seed: int) -> list[str | None]:
    """For each item the profile of a person who stands on neither side of its question; None where the items know no such person."""
    profiles = sorted({item.profile for item in items})
    concerned: dict[str, set[str]] = {}
    for item in items:
        concerned.setdefault(item.contrast_key, set()).add(item.profile)
    found: list[str | None] = []
    for item in items:
        others = [profile for profile in profiles if profile not in concerned[item.contrast_key]]
        found.append(str(rng_for(seed, "calibration/wrong", item.key).choice(others)) if others else None)
    return found


def demographic_lines(profile: str) -> str | None:
    """The profile without ideology, religion, lifestyle and what else is psychographic. None where nothing demographic is stated, or the
    text of a file of one's own is no profile of lines."""
    try:
        stated = only(stated_attributes(profile), DEMOGRAPHICS)
    except InputError:
        return None
    return as_lines(stated) if stated else None


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_two_texts(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_text, value))


def _hash(*texts: str) -> str:
    # JSON keeps ("ab", "c") and ("a", "bc") apart.
    return hashlib.sha256(json.dumps(texts, ensure_ascii=True).encode("ascii")).hexdigest()[:16]
