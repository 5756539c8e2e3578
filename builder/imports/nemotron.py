"""Nemotron-Personas (NVIDIA, CC-BY-4.0): what of a row fits our 33 attributes.

Its census-like columns become attributes, and of its paragraphs the first sentences become quirks, free time and way of living. City and
zip code are never taken over, and sentences that name one of them are left out. Everything else that we ask for is `missing`.
"""

import re
from collections.abc import Sequence
from typing import Any

from builder.imports.persona_text import Parsed, put

LICENCE = "CC-BY-4.0 (Nemotron-Personas, NVIDIA)"
# A table with all of these is taken for Nemotron-Personas.
RECOGNISED_BY = frozenset({"uuid", "persona", "professional_persona", "hobbies_and_interests", "occupation", "zipcode"})
COLUMNS = (
    *("uuid", "persona", "professional_persona", "sports_persona", "hobbies_and_interests", "sex", "age"),
    *("marital_status", "education_level", "occupation", "city", "zipcode"),
)
# Attribute -> the paragraph whose first sentences it becomes.
PARAGRAPHS = {
    "detailed_job_description": "professional_persona",
    "defining_quirks": "persona",
    "personal_time": "hobbies_and_interests",
    "lifestyle": "sports_persona",
}
MOST_WORDS = 40  # of a paragraph; the first sentence is taken whole even if it is longer
# Words of the census codebook where there is one (MAR, SCHL).
MARITAL_STATUS = {
    "never_married": "Never married or under 15 years old",
    "married_present": "Married",
    "married_absent": "Married",
    "married": "Married",
    "separated": "Separated",
    "divorced": "Divorced",
    "widowed": "Widowed",
}
EDUCATION = {
    "less_than_9th": "Less than 9th grade",
    "9th_12th_no_diploma": "9th to 12th grade, no diploma",
    "high_school": "High school diploma",
    "some_college": "Some college, no degree",
    "associates": "Associate's degree",
    "bachelors": "Bachelor's degree",
    "graduate": "Graduate or professional degree",
}
NO_OCCUPATION = ("not_in_workforce", "no_occupation", "unemployed", "retired", "student")


def is_nemotron(columns: Sequence[str]) -> bool:
    return set(columns) >= RECOGNISED_BY


def attributes_of(row: dict[str, Any]) -> Parsed:
    """Sex, age, marital status, education, occupation, and four texts; provenance `imported`."""
    parsed = Parsed()
    put(parsed, "sex", row.get("sex"))
    put(parsed, "age", row.get("age"))
    put(
        parsed,
        "marital_status",
        MARITAL_STATUS.get(coded(row.get("marital_status")), in_words(row.get("marital_status"))),
    )
    put(parsed, "education", EDUCATION.get(coded(row.get("education_level")), in_words(row.get("education_level"))))
    if coded(row.get("occupation")) in NO_OCCUPATION:
        parsed.attributes.leave_out("occupation_category", "not_applicable")
    else:
        put(parsed, "occupation_category", in_words(row.get("occupation")))
    places = [str(row[name]).strip() for name in ("city", "zipcode") if row.get(name)]
    for attribute, column in PARAGRAPHS.items():
        put(parsed, attribute, opening(row.get(column), places))
    return parsed


def coded(value: Any) -> str:
    return str(value or "").strip().lower()


def in_words(value: Any) -> str:
    """`fast_food_or_counter_worker` -> `Fast food or counter worker`."""
    words = " ".join(str(value or "").replace("_", " ").split())
    return words[:1].upper() + words[1:]


def opening(text: Any, places: Sequence[str]) -> str | None:
    """The first whole sentences of at most MOST_WORDS words together, of those that name none of `places`; None if there is none."""
    if not isinstance(text, str):
        return None
    named = re.compile("|".join(rf"\b{re.escape(place)}\b" for place in places if place) or r"(?!)", re.IGNORECASE)
    kept: list[str] = []
    for sentence in re.split(r"(?<=[.!?])\s+", " ".join(text.split())):
        if named.search(sentence) or not sentence:
            continue
        if kept and len(" ".join([*kept, sentence]).split()) > MOST_WORDS:
            break
        kept.append(sentence)
    return " ".join(kept) or None
