"""The coarse groups in which personas are compared: sex, age band, side in politics, religion. From what the profile states."""

import re
from collections.abc import Mapping

GROUPINGS = ("sex", "age", "politics", "religion")
AGES = ((0, "under 35"), (35, "35 to 59"), (60, "60 and over"))
LEFT, RIGHT = "Democratic side", "Republican side"
RELIGIOUS, NOT_RELIGIOUS = "religious", "no religion"
NO_RELIGION = re.compile(r"\b(no (particular )?religion|none|nothing in particular|agnostic|atheist)\b", re.IGNORECASE)
# Which side of an opinion pair a group is presumed to hold, see probes/opinions.yaml.
SIDE = {LEFT: "first", RIGHT: "second", RELIGIOUS: "first", NOT_RELIGIOUS: "second"}
# The attributes whose words name a group, so that a probe must not read them.
NAMING = {
    "sex": ("sex",),
    "age": ("age",),
    "politics": ("political_views", "ideology"),
    "religion": ("religion",),
}


def groups_of(stated: Mapping[str, str]) -> dict[str, str]:
    """Grouping -> group, where the profile says enough. stated: attribute -> value (training.profiles.stated_attributes)."""
    found = {
        "sex": stated.get("sex", "").strip() or None,
        "age": _age(stated.get("age", "")),
        "politics": _side(stated.get("political_views", "")) or _side(stated.get("ideology", "")),
        "religion": _religion(stated.get("religion", "")),
    }
    return {name: group for name, group in found.items() if group is not None}


def _age(value: str) -> str | None:
    if not value.strip().isdigit():
        return None
    return next(band for youngest, band in reversed(AGES) if int(value) >= youngest)


def _side(value: str) -> str | None:
    """Independents and moderates are on neither side."""
    left = re.search(r"democrat|\bliberal|progressive", value, re.IGNORECASE)
    right = re.search(r"republican|conservative", value, re.IGNORECASE)
    return None if bool(left) == bool(right) else LEFT if left else RIGHT


def _religion(value: str) -> str | None:
    if not value.strip() or value.strip().lower() in ("nan", "unknown", "not stated"):
        return None
    return NOT_RELIGIOUS if NO_RELIGION.search(value) else RELIGIOUS
