"""What the enricher wrote for one attribute: cleaned, and its defects by name (the words are in data/written_phrases.yaml)."""

import re
from collections.abc import Collection
from functools import cache, lru_cache
from typing import Any

from builder.personas.lists import FOLDER
from builder.strict_yaml import read_yaml

MAX_CHARACTERS = 240
TOPICS = ("politics", "religion", "health", "income")
# A phrase of this many words that stands in the request was copied from it; fewer words can agree by chance.
COPIED_WORDS = 4


def clean(section: str) -> str:
    """Without the quotation marks and the full stop that models put around a phrase."""
    text = section.strip().rstrip(".").strip()
    around = re.fullmatch(r'["“]([^"“”]*)["”]', text)
    return (around.group(1) if around else text).strip().rstrip(".").strip()


def find_defects(phrase: str, given: str, markers: Collection[str], closed_topics: Collection[str]) -> dict[str, str]:
    """Name of each defect -> what is wrong, in words that can be told to the writer; empty for a phrase that can be used.

    given: the text of the request. markers: the labels that open the parts of a reply. closed_topics: those of TOPICS of which the phrase
    must not speak.
    """
    if not phrase:
        return {"missing": "is missing"}
    told = re.sub(r'"[^"]*"|“[^”]*”', '""', phrase)  # what the person likes to say is in the person's own words
    found = {
        "several_lines": "runs over more than one line" if "\n" in phrase else "",
        "too_long": f"has {len(phrase)} characters, more than {MAX_CHARACTERS}" if len(phrase) > MAX_CHARACTERS else "",
        "placeholder": "is a placeholder" if is_placeholder(phrase) else "",
        "marker_inside": "runs into another part" if any(marker in phrase for marker in markers) else "",
        "copied": "repeats what was given" if is_copied(phrase, given) else "",
        "not_third_person": said("is not in the third person", first_person(told)),
        "names_somebody": said("gives a name", name_in(told, given)),
        **{topic: said(f"speaks of {topic}", word_of(topic, phrase)) for topic in TOPICS if topic in closed_topics},
    }
    return {name: words for name, words in found.items() if words}


def said(complaint: str, word: str | None) -> str:
    return f'{complaint} ("{word}")' if word else ""


def is_placeholder(phrase: str) -> bool:
    """A gap to be filled, words that stand for one, or no word at all."""
    if re.search(r"<[^>]*>|\[[^\]]*\]|\{[^}]*\}|_{3,}", phrase) or not re.search(r"[^\W\d_]{2,}", phrase):
        return True
    return normal(phrase) in {normal(word) for word in words_of("placeholders")}


def is_copied(phrase: str, given: str) -> bool:
    """A whole line, value or complaint of the request, or a sequence of several words in it."""
    core = normal(phrase)
    lines = given.split("\n")
    if core in {normal(part) for line in lines for part in (line, line.partition(":")[2], *re.split(r"[:;]", line))}:
        return True
    return len(core.split()) >= COPIED_WORDS and f" {core} " in f" {normal(given)} "


def normal(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))


def first_person(phrase: str) -> str | None:
    found = re.search(r"\bI\b|\bus\b", phrase) or pattern_of("first_person").search(phrase)
    return found.group() if found else None


def name_in(phrase: str, given: str) -> str | None:
    """A word that looks like the name of somebody or something and that the description does not have."""
    called, titles = ("|".join(map(re.escape, words_of(key))) for key in ("called", "titles"))
    found = re.search(rf"\b(?:{called})\s+[A-Z]\w*|\b(?:{titles})\.?\s+[A-Z]\w*", phrase)
    if found:
        return found.group()
    known = {*words_of("capitals"), *re.findall(r"[A-Z][\w-]*", given)}
    for match in re.finditer(r"(?<![\w'’])[A-Z][\w-]*", phrase):
        word = match.group()
        if word in words_of("first_names") and word not in known:
            return word
        opens = match.start() == 0 or re.search(r"[.!?]\s+$", phrase[: match.start()])
        # A short word all in capitals is an abbreviation: TV, DIY.
        if not opens and word not in known and not (word.isupper() and len(word) <= 4):
            return word
    return None


def word_of(topic: str, text: str) -> str | None:
    """The first word in `text` that belongs to a topic."""
    found = pattern_of(topic).search(text)
    return found.group() if found else None


@cache
def pattern_of(key: str) -> re.Pattern[str]:
    # A hyphen joins: `thank-you notes` are not in the second person. Topics are topics also in part of a word like `debt-free`.
    joins = "" if key in TOPICS else "-"
    return re.compile(rf"(?<![\w{joins}])(?:{'|'.join(map(re.escape, words_of(key)))})(?![\w{joins}])", re.IGNORECASE)


@cache
def words_of(key: str) -> tuple[str, ...]:
    return tuple(read_words()[key])


@lru_cache(maxsize=1)
def read_words() -> dict[str, Any]:
    return read_yaml(FOLDER / "written_phrases.yaml")
