"""Does a text hold a value of a profile? Three strengths of one question, with one reading of values for all three.

`holds_value`: of a text that is about the persona, as a summary; half of the words will do. `names_value`: of an answer on any subject,
where words occur by chance; only the value as it stands. `states_value`: of a reply in an interview, where a guess is to be caught; words
alone, whichever way they are turned.
"""

import math
import re
from collections.abc import Iterator
from functools import lru_cache

from builder.lexical import SHORTEST_CONTENT_WORD, words
from builder.schema import BIG_FIVE
from training.profiles import NULLS, label, stated_attributes

Matcher = tuple[tuple[str, ...], str]  # phrases in plain words, a regular expression ("" for none)
Signed = tuple[str, bool]  # a word, and whether it stands under a negation


def _listed(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Without these a value says nothing: words that join or grade.
JOINING = _listed(
    """a an and as at be by for from has have in is it of on only or other out own some that the their them then they this to under very was
    with years year old less more than leans lean slightly somewhat strong strongly extremely average high low person people us"""
)
NEGATIONS = _listed("no not never non nor neither without cannot")
REACH = 3  # words that a negation turns, up to the next comma or stop; joining words do not count
# A single word of these values tells the person's group; of any other value half of its words must be there.
ANY_WORD = ("ancestry", "ideology", "political_views", "religion")
# In half of `Born in the United States` there is nothing of birth.
ALL_WORDS = ("citizenship",)
TELLS_NOTHING = _listed(
    "race races american united states particular nothing something else language languages christian"
)
TRAITS = {
    "openness": "openness",
    "extraversion": "extra|extro",
}  # beginnings; a trait not named here begins with its first eight letters
DECADES = {
    20: "twenties",
    30: "thirties",
    40: "forties",
    50: "fifties",
    60: "sixties",
    70: "seventies",
    80: "eighties",
    90: "nineties",
}
QUOTED = 4  # of a longer value, as many words in a row are a quotation, if two of them are long
LONG = 5  # letters
# Words that grade a value or join its parts, and name nobody.
GRADES = {"leans", "lean", "very", "slightly", "somewhat", "strong", "strongly", "extremely", "a", "an", "the", "other"}
AGE = r"(?<![\d$.,]){age}[\s-]years?\b|\b(?:aged?|i['’]?m|i am|you['’]?re|you are)\s+{age}\b(?![.,]?\d|%)"
# A race of one word is also a colour or a cuisine: it counts before a word for a person, or where nothing follows that it could describe.
PERSON = (
    "man men woman women male female person people individual adult girl boy guy lady teenager student teacher worker nurse manager "
    "mother father parent mom dad grandmother grandfather widow widower wife husband retiree veteran citizen resident immigrant neighbor "
    "voter family household householder community american americans catholic protestant christian evangelical democrat republican "
    "independent liberal conservative moderate"
).replace(" ", "|")
FUNCTION = "a|an|the|of|to|in|on|at|by|for|from|with|is|are|was|were|that|who|and|or|but"
ONE_WORD_RACE = (
    r"(?<!not )(?<!non-)\b{race}s?\b(?=[ \t]*(?:[.,;:!?)(\d\n]|$|(?:and|or|who|race)\b)|[\s-]+(?:(?!(?:{function})\b)[\w'’]+[\s-]+){{0,2}}"
    r"(?:{person})s?\b)"
)


def said_attributes(profile: str) -> dict[str, str]:
    """Attribute -> value, without those of which the profile says that there is none: no text can hold `None`.

    Raises InputError for a text that is not a profile of lines.
    """
    return {name: value for name, value in stated_attributes(profile).items() if is_said(value)}


def is_said(value: str) -> bool:
    return value not in NULLS


def in_words(attribute: str, value: str) -> str:
    """The value as somebody would say it without its key: of yes and no the key is all that says anything, and `well` is of English."""
    plainly = value.strip().lower()
    if plainly in ("yes", "no"):
        return label(attribute) if plainly == "yes" else f"No {label(attribute).lower()}"
    if attribute == "ability_to_speak_english":
        return f"not speak English {plainly[4:]}" if plainly.startswith("not ") else f"speak English {plainly}"
    return value


def holds_value(attribute: str, value: str, text: str) -> bool:
    """Whether a text about a persona holds an attribute's value. Numbers in any usual writing, words without endings of the plural, each
    under a negation or not as in the value; no synonyms, so that a summary in other words counts as one that leaves the attribute out.

    Of a value in words at least half must be there (all of one or two, and of citizenship), of a race the whole.
    """
    if attribute == "age" and value.strip().isdigit():
        age = int(value)
        decade = age // 10 * 10
        return bool({str(age), f"{decade}s", DECADES.get(decade, "")} & {word for word, _ in _signed_stems(text)})
    if attribute == "income" and (number := re.search(r"\d[\d,]*", value)):
        return _plain_number(number[0]) in _numbers(text)
    if attribute == "big_five_scores":
        traits = [TRAITS.get(trait, trait[:8]) for trait in BIG_FIVE]
        return any(re.search(rf"\b(?:{trait})", text.lower()) for trait in traits)
    if attribute == "race":
        return names_value(matcher(attribute, value), text)
    if attribute == "ability_to_speak_english" and "english" not in words(text):
        return False
    key = rf"\b{re.escape(label(attribute))}:\s*"
    if value.strip().lower() in ("yes", "no"):
        # A copied line says the key whatever it says of it: `Hearing difficulty: No`.
        text = re.sub(rf"{key}no(?:ne)?\b", f"no {label(attribute)}", text, flags=re.IGNORECASE)
        value = in_words(attribute, value)
    else:
        text = re.sub(key, "\n", text, flags=re.IGNORECASE)
    told, stems = _signed_stems(text), list(_signed_stems(value))
    needed = [stem for stem in stems if stem[0] not in JOINING]
    if attribute in ANY_WORD and (
        telling := [stem for stem in needed if stem[0] not in TELLS_NOTHING and len(stem[0]) > 3]
    ):
        return any(stem in told for stem in telling)
    needed = needed or stems
    found = sum(stem in told for stem in needed)
    return found >= (len(needed) if len(needed) <= 2 or attribute in ALL_WORDS else math.ceil(len(needed) / 2))


def matcher(attribute: str, value: str) -> Matcher:
    """What would name this value in an answer."""
    if attribute == "age" and value.strip().isdigit():
        return (), AGE.format(age=value.strip())
    if attribute == "income" and (number := re.search(r"\d[\d,]*", value)):
        digits = str(_plain_number(number[0]))
        thousands = f"|{digits[:-3]}k" if digits.endswith("000") else ""
        return (
            (),
            rf"\$\s?(?:{int(digits):,}|{digits}{thousands})\b|\b(?:{int(digits):,}|{digits}{thousands})\s+(?:dollars|a year)",
        )
    if attribute == "race" and not value.startswith("Two or"):
        groups = re.split(r"\s+or\s+(?:other\s+)?", value.strip(), flags=re.I)
        alone = [
            ONE_WORD_RACE.format(race=re.escape(group), function=FUNCTION, person=PERSON)
            for group in groups
            if group.isalpha()
        ]
        phrases = [phrase for group in groups if not group.isalpha() for phrase in _phrases(attribute, group)]
        return tuple(dict.fromkeys(phrases)), "|".join(alone)
    return tuple(dict.fromkeys(filter(None, _phrases(attribute, in_words(attribute, value))))), ""


def names_value(matcher: Matcher, text: str) -> bool:
    phrases, pattern = matcher
    if pattern and re.search(pattern, text, re.IGNORECASE):
        return True
    return any(_stands(phrase, plain(text)) for phrase in phrases)


def states_value(text: str, value: str, allowed: frozenset[str] = frozenset()) -> bool:
    """Whether the telling words of a value stand in a text: all of one or two, more than half of more, or one of its numbers. `allowed`
    words do not count. False for a value without telling words.
    """
    telling, said = telling_words(value) - allowed, telling_words(text)
    if any(word.isdecimal() for word in telling & said):
        return True
    needed = len(telling) if len(telling) <= 2 else len(telling) // 2 + 1
    return bool(telling) and len(telling & said) >= needed


@lru_cache(maxsize=65536)
def telling_words(text: str) -> frozenset[str]:
    """Numbers of two digits or more, without commas, and words of SHORTEST_CONTENT_WORD letters or more."""
    joined = re.sub(r"(?<=\d),(?=\d)", "", text)
    return frozenset(word for word in words(joined) if len(word) >= (2 if word.isdecimal() else SHORTEST_CONTENT_WORD))


@lru_cache(maxsize=4096)
def plain(text: str) -> str:
    """Lower-case words between single blanks, with one at either end; quotation marks gone."""
    return f" {' '.join(word.replace('’', chr(39)).strip(chr(39)) for word in words(text))} "


def _stands(phrase: str, text: str) -> bool:
    """Whether a phrase stands in plain words, and not right after a negation: a non-veteran is no veteran."""
    start = text.find(f" {phrase} ")
    while start >= 0:
        before = [word for word in text[max(0, start - 24) : start].split()[-2:] if word not in ("a", "an")]
        if not before or before[-1] not in NEGATIONS:
            return True
        start = text.find(f" {phrase} ", start + 1)
    return False


def _phrases(attribute: str, value: str) -> Iterator[str]:
    if attribute == "big_five_scores":
        for part in value.split(","):
            trait, colon, level = map(str.strip, part.lower().partition(":"))
            if colon:
                yield from (f"{level} {trait}", f"{level} in {trait}", f"{trait} {level}")
        return
    told = [word.replace("’", "'") for word in words(value)]
    while told and told[0] in GRADES:
        told = told[1:]
    if not told:
        return
    if len(told) > QUOTED:
        runs = [told[start : start + QUOTED] for start in range(len(told) - QUOTED + 1)]
        yield from (" ".join(run) for run in runs if sum(len(word) >= LONG for word in run) > 1)
        return
    whole = " ".join(told)
    yield from (whole, f"{whole}s", whole.removesuffix("s"))


@lru_cache(maxsize=4096)
def _signed_stems(text: str) -> dict[Signed, None]:
    """Words without possessive and plural endings, in order, each with whether a negation reaches it; negations themselves left out.
    `68-year-old` is three words, `50s` stays as it is.
    """
    found: dict[Signed, None] = {}
    plainer = re.sub(r"\bu\.s\.", "us", text.replace("-", " "), flags=re.IGNORECASE)
    for clause in re.split(r"[,;:!?\n]|\.\s", plainer):
        told, reach = words(clause), 0
        for place, word in enumerate(told):
            following = told[place + 1] if place + 1 < len(told) else ""
            if (word in NEGATIONS and following not in ("only", "just")) or re.search(r"n['’]t$", word):
                reach = REACH
                continue
            bare = re.sub(r"['’]s?$", "", word)
            stem = bare if len(bare) < 4 or bare.endswith("ss") or bare[0].isdigit() else bare.removesuffix("s")
            found[stem, reach > 0] = None
            if bare in DECADES.values():
                found[bare, reach > 0] = None
            reach -= reach > 0 and stem not in JOINING
    return found


@lru_cache(maxsize=4096)
def _numbers(text: str) -> frozenset[int]:
    return frozenset(
        _plain_number(number) * (1000 if thousands else 1)
        for number, thousands in re.findall(r"(\d[\d,]*)(?:\.\d+)?\s?(k\b|thousand\b)?", text.lower())
    )


def _plain_number(text: str) -> int:
    return int(text.replace(",", "") or 0)
