"""Does an answer name an attribute of the persona outright?"""

import re
from collections.abc import Sequence
from typing import Any

from builder.schema import ATTRIBUTES

# Values so common in any answer that finding one says nothing.
TOO_COMMON = {
    "male",
    "female",
    "married",
    "employed",
    "with a disability",
    "average",
    "high",
    "low",
    "none",
    "student",
    "other",
}


def leaks_attribute(persona: dict[str, Any], answer: str, known_texts: Sequence[str]) -> bool:
    """True if a value of the profile stands literally in the answer and in none of `known_texts` (question, base answer).

    Only text values of at least four letters count, and not those of TOO_COMMON. That the answer lets the persona be *inferred* is
    another matter, for the probes of the audit.
    """
    answer, known = _plain(answer), _plain(" ".join(known_texts))
    for attribute in ATTRIBUTES:
        value = persona.get(attribute)
        if not isinstance(value, str):
            continue
        plain = _plain(value)
        if len(plain.strip()) >= 4 and plain.strip() not in TOO_COMMON and plain in answer and plain not in known:
            return True
    return False


def _plain(text: str) -> str:
    """Lower-case words between single spaces, one space at either end."""
    return " " + " ".join(re.findall(r"\w+", text.lower())) + " "
