"""Does an answer name an attribute of the persona outright?

Only what stands there literally is looked for. Whether an answer lets the persona be *inferred* is a matter for a fitted probe
(`inferable_attributes`).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from builder.schema import ATTRIBUTES


def _listed(text: str) -> frozenset[str]:
    return frozenset(" ".join(part.split()) for part in text.split(","))


# Values, and parts of values, so common in any answer that finding one says nothing; singular or plural.
TOO_COMMON = _listed(
    """male, female, married, separated, employed, student, with a disability, none, other, yes, two, average, high, low, well, very
    well, not well, not at all, moderate, independent, no children, white, black, american, english, native, christian, church,
    religion, no particular religion, particular religion, cook, manager, worker, assistant, driver, service, sale, construction,
    english only, some other race, other race, two or more race, more race, race, other religion, other language"""
)
# What may stand at either end of a part without telling anything.
FILLERS = _listed(
    """a, an, and, as, at, for, in, of, or, the, to, with, other, some, very, leans, lean, slightly, somewhat, strong, strongly, only,
    except, language, languages, degree"""
)
# Attributes whose values are made of parts, each of which tells something.
IN_PARTS = _listed(
    "race, ancestry, household_language, occupation_category, place_of_birth, ideology, political_views, religion, veteran_status"
)
# Those by which people are called, in the singular and the plural, and those of which a single word tells.
CALLED = _listed("race, ancestry, occupation_category, ideology, political_views, religion, veteran_status")
IN_WORDS = _listed("race, ancestry, ideology, political_views, religion")
# Of these, words that say where, or to which church in general, and not who.
VAGUE = _listed(
    """northern, southern, eastern, western, south, north, united, states, island, islander, pacific, nothing, latter, saint, saints,
    democratic, christianity, african, particular"""
)
# Attributes in free words: whoever repeats so many words in a row is quoting.
IN_FREE_WORDS = ("detailed_job_description", "defining_quirks", "mannerisms", "personal_time", "lifestyle")
QUOTED_WORDS = 4
# Every mark but letters and digits becomes a space. Other alphabets keep all their bytes.
_TO_SPACE = bytes(b if chr(b).isalnum() or b >= 128 else 32 for b in range(256))
_CURLY = re.compile("[‘’“”–—…\u00a0]")


@dataclass(frozen=True)
class Statements:
    """What would name an attribute, by the one word that must occur in an answer before anything else is looked at.

    `phrases`: plain words with a space at either end. `numbers`: regular expressions for the text as it stands.
    """

    phrases: Mapping[bytes, tuple[str, ...]]
    numbers: Mapping[bytes, tuple[str, ...]]
    keywords: frozenset[bytes]


def leaks_attribute(persona: dict[str, Any], answer: str, known_texts: Sequence[str]) -> bool:
    """True if the answer names an attribute of the persona that none of `known_texts` (question, base answer) names.

    For one answer; over many, `statements_of` each persona once and `find_leak` in each answer.
    """
    return find_leak(statements_of(persona), answer, known_texts) is not None


def find_leak(statements: Statements, answer: str, known_texts: Sequence[str]) -> str | None:
    """The words that name an attribute in the answer and in none of `known_texts`; None if there are none."""
    words = _words(answer)
    found = statements.keywords.intersection(words)
    if not found:
        return None
    plain, known = _joined(words), ""
    for keyword in sorted(found):
        for phrase in statements.phrases.get(keyword, ()):
            if phrase in plain:
                known = known or _joined(_words("\n".join(known_texts)))
                # Without its last space, so that a plural is known too.
                if phrase[:-1] not in known:
                    return phrase.strip()
        for pattern in statements.numbers.get(keyword, ()):
            said = re.search(pattern, answer, re.IGNORECASE)
            if said and not any(re.search(pattern, text, re.IGNORECASE) for text in known_texts):
                return said.group().strip()
    return None


def statements_of(persona: dict[str, Any]) -> Statements:
    """All that would name an attribute of the persona."""
    phrases: dict[bytes, list[str]] = {}
    numbers: dict[bytes, list[str]] = {}
    for phrase in dict.fromkeys(_phrases(persona)):
        # The longest word is the least likely to stand in an answer by chance.
        keyword = max(phrase.split(), key=len)
        phrases.setdefault(keyword.encode("utf-8", "surrogatepass"), []).append(f" {phrase} ")
    # Age and income may begin with the same digits: 54, and 54,000.
    for keyword, pattern in _numbers(persona):
        numbers.setdefault(keyword.encode("ascii"), []).append(pattern)
    return Statements(
        {keyword: tuple(own) for keyword, own in phrases.items()},
        {keyword: tuple(own) for keyword, own in numbers.items()},
        frozenset(phrases) | frozenset(numbers),
    )


def _phrases(persona: dict[str, Any]) -> Iterator[str]:
    """Plain phrases, each of at least four letters and not too common."""
    for attribute in ATTRIBUTES:
        value = persona.get(attribute)
        if isinstance(value, dict):
            for trait, level in value.items():
                yield from (_plain(f"{level}{link}{trait}") for link in (" ", " in "))
        for text in value if isinstance(value, list | tuple) else [value]:
            if isinstance(text, str) and not text.strip().isdigit():
                yield from filter(_tells, _forms(attribute, text))


def _forms(attribute: str, text: str) -> Iterator[str]:
    """The value itself, its parts, its telling words, and runs of its words, as far as the attribute's values are made that way."""
    whole = _plain(text)
    words = whole.split()
    yield whole
    if attribute in IN_PARTS:
        for part in re.split(r"[,;/():]|\b(?:or|and)\b", text):
            core = _without_fillers(_plain(part).split())
            # `Life, physical, and social science technicians`: of an occupation one word tells only where it is a noun in the plural.
            if len(core) > 1 or (core and (attribute != "occupation_category" or core[0].endswith("s"))):
                yield from _singular_and_plural(core) if attribute in CALLED else [" ".join(core)]
    if attribute in IN_WORDS:
        for word in words:
            if len(word) > 4 and word not in VAGUE | FILLERS:
                yield from _singular_and_plural([word])
    if attribute == "detailed_job_description":
        # `Works as a registered nurse (hospitals) for a private company`, but not the first of an enumeration
        for job in re.findall(r"\bas an? ([^(,;.]+?)(?= \(| for | in | at |[;.]|$)", text):
            yield from _singular_and_plural(_plain(job).split())
    if attribute in IN_FREE_WORDS:
        for start in range(len(words) - QUOTED_WORDS + 1):
            run = words[start : start + QUOTED_WORDS]
            if sum(len(word) > 4 for word in run) >= 2:
                yield " ".join(run)


def _without_fillers(words: list[str]) -> list[str]:
    while words and words[0] in FILLERS:
        words = words[1:]
    while words and words[-1] in FILLERS:
        words = words[:-1]
    return words


def _singular_and_plural(words: list[str]) -> Iterator[str]:
    """Occupations are listed in the plural (`Registered nurses`) and stated in the singular; faiths the other way round."""
    if not words:
        return
    *front, noun = words
    singular = (
        noun[:-3] + "y"
        if noun.endswith("ies")
        else noun[:-1]
        if noun.endswith("s") and not noun.endswith("ss")
        else noun
    )
    for form in (noun, singular, f"{singular}s"):
        yield " ".join([*front, form])


def _tells(phrase: str) -> bool:
    return len(phrase) >= 4 and phrase not in TOO_COMMON and phrase.removesuffix("s") not in TOO_COMMON


def _numbers(persona: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(keyword, regular expression) for age and income. A bare number may count anything, so its unit, a word that announces it, or
    quotation marks must stand beside it."""
    age, income = _whole(persona.get("age")), _whole(persona.get("income"))
    if age is not None:
        yield (
            str(age),
            rf"""(?<!\d){age}[\s-]years?[\s-](?:old|of\sage)\b|\b(?:aged|age:?|age\s(?:of|is)|turn(?:ed|ing)|being|i['’]?m|i\sam|you['’]?re|you\sare)\s{age}"""
            rf"""(?![\d%]|[.,]\d)|["“'‘]{age}["”'’]""",
        )
    if income:
        thousands = [f"{income // 1000}k"] if income % 1000 == 0 else []
        forms = "|".join([f"{income:,}", str(income), *thousands])
        pattern = (
            rf"""(?:\$\s?|(?<![\d.,$])\bincome\s(?:of|is)\s|\bearn(?:s|ed|ing)?\s|\bmak(?:es|e|ing)\s)(?:{forms})(?![\d%]|[.,]\d)\b"""
            rf"""|(?<![\d.,])(?:{forms})\s(?:dollars|usd|(?:a|per)\syear|annually|yearly)\b|["“'‘]\$?(?:{forms})["”'’]"""
        )
        # The words that each way of writing the number leaves in plain text: `54,000` is there as `54` and `000`.
        for keyword in {f"{income:,}".split(",")[0], str(income), *thousands}:
            yield keyword, pattern


def _whole(value: Any) -> int | None:
    text = str(value).strip()
    return int(text) if text.isascii() and text.isdigit() else None


def _plain(text: str) -> str:
    """Lower-case words between single spaces; an apostrophe separates too."""
    return _joined(_words(text)).strip()


def _words(text: str) -> list[bytes]:
    """Bytes, because a translation table is many times faster on them than a pattern on text."""
    text = text.lower()
    if not text.isascii():
        text = _CURLY.sub(" ", text)
    return text.encode("utf-8", "surrogatepass").translate(_TO_SPACE).split()


def _joined(words: Sequence[bytes]) -> str:
    """One space between words and at either end."""
    return f" {b' '.join(words).decode('utf-8', 'surrogatepass')} "
