"""Attributes as other people write them -> ours: names, numbers, levels, and the words that stand for nothing."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from builder.census.draw import ADULT_AGE
from builder.personas.attributes import Attributes
from builder.personas.profile import HEADER
from builder.prompts.rows import text_of
from builder.schema import ATTRIBUTES, BIG_FIVE, BIG_FIVE_LEVELS, paper_key

# The paper prints nan whatever the reason; what our own profiles print for a null is among these too.
NULL_WORDS = {
    **dict.fromkeys(("", "nan", "null", "missing", "unknown", "not known"), "missing"),
    **dict.fromkeys(("not applicable", "n/a"), "not_applicable"),
    "none": "none",
}
OLDEST = 120
LARGEST = 1e15  # of a number; more than any income, and a table holds whole numbers below 2 ** 63
LEVELS = {level.lower(): level for level in BIG_FIVE_LEVELS}


@dataclass
class Parsed:
    """unknown: keys that are no attribute of ours. unreadable: attributes whose value could not be understood; they are null."""

    attributes: Attributes = field(default_factory=Attributes)
    unknown: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    known: set[str] = field(default_factory=set)


def parse_persona(text: str) -> Parsed:
    """A persona written as lines `key: value`, keys as the paper or our profiles print them.

    A line without a known key that follows a known one and has no colon goes on with its value; a key that comes twice counts once.
    """
    pairs: list[tuple[str, str]] = []
    for line in text.splitlines():
        if line.strip() == HEADER:
            continue
        key, colon, value = line.strip().lstrip("-*• ").partition(":")
        if colon and key.strip():
            pairs.append((key, value.strip()))
        elif pairs and line.strip():
            pairs[-1] = (pairs[-1][0], f"{pairs[-1][1]} {line.strip()}")
    return parse_attributes(pairs)


def parse_attributes(pairs: Iterable[tuple[str, Any]]) -> Parsed:
    parsed = Parsed()
    for key, value in pairs:
        attribute = attribute_named(key)
        if attribute is None:
            parsed.unknown.append(" ".join(key.encode("utf-8", "replace").decode("utf-8").split()))
        elif attribute not in parsed.known:
            parsed.known.add(attribute)
            put(parsed, attribute, value)
    return parsed


def attribute_named(key: str) -> str | None:
    """`Ability to speak English`, `ability to speak english` and `ability_to_speak_english` -> the last; None for any other key."""
    name = "_".join(key.lower().replace("_", " ").split())
    return name if name in ATTRIBUTES else None


def put(parsed: Parsed, attribute: str, value: Any) -> None:
    """Set the attribute with provenance `imported`, or leave it out with the reason that the value stands for."""
    if value is None or value != value:  # NaN is what a table reader makes of an empty field
        value = ""
    if isinstance(value, str) and value.strip().lower() in NULL_WORDS:
        parsed.attributes.leave_out(attribute, NULL_WORDS[value.strip().lower()])
        return
    read = {"age": read_age, "income": read_dollars, "big_five_scores": read_big_five}.get(attribute, read_words)(value)
    if read is None:
        parsed.unreadable.append(paper_key(attribute))
    parsed.attributes.put(attribute, read, "imported")


def read_words(value: Any) -> str | None:
    """Text on one line; None for a list or a dict, which no attribute but the Big Five is, and for what is no text in UTF-8."""
    return None if isinstance(value, (list, dict)) else text_of(" ".join(str(value).split()))


def read_age(value: Any) -> int | None:
    age = read_number(value, "years?( old| of age)?")
    return age if age is not None and 0 <= age <= OLDEST else None


def read_dollars(value: Any) -> int | None:
    """Whole dollars: `178900`, `$42,000`, and what our profiles print."""
    if isinstance(value, str) and value.strip().lower() == "no personal income":
        return 0
    return read_number(value, r"(usd|dollars)?( ?a year| per year)?( \(a loss\))?")


def read_number(value: Any, unit: str) -> int | None:
    if isinstance(value, bool):
        return None
    found = re.fullmatch(rf"(-?)\s*+\$?\s*+(-?[\d,]*\d)(\.\d+)?\s*(?:{unit})?", str(value).strip().lower())
    if found is None:
        return None
    size = float(found[2].replace(",", "") + (found[3] or ""))
    if not abs(size) <= LARGEST:
        return None
    return round(-size if found[1] else size)


def read_big_five(value: Any) -> dict[str, str] | None:
    """`Openness: High, Conscientiousness: Low, ...` or a dict; None unless all five traits have one of our levels."""
    if isinstance(value, str):
        # A word is tried from its first letter only, and given up at once: a long text without a colon would take minutes.
        value = dict(re.findall(r"(?<!\w)(\w++)\s*+:\s*([A-Za-z ]+)", value))
    if not isinstance(value, Mapping):
        return None
    levels = {str(trait).lower(): LEVELS.get(str(level).strip().lower()) for trait, level in value.items()}
    scores = {trait: level for trait in BIG_FIVE if (level := levels.get(trait)) is not None}
    return scores if len(scores) == len(BIG_FIVE) else None


def is_adult(attributes: Attributes) -> bool | None:
    """None where the age is not known."""
    age = attributes.values["age"]
    return None if age is None else age >= ADULT_AGE


def imported_row(
    identity: str, profile: str, attributes: Attributes, weight: int = 1, extras: dict[str, list[str]] | None = None
) -> dict[str, Any]:
    """Columns of schema.features("personas"); the group is decided when all are known."""
    return {
        "persona_id": identity,
        "group": None,
        "is_adult": is_adult(attributes),
        "weight": weight,
        "profile": profile,
        **attributes.values,
        "extras": extras or {"core_values": [], "entertainment_preferences": []},
        "null_reasons": attributes.reasons,
        "provenance": attributes.provenance,
    }
