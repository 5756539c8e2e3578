"""Attribute mention: answers that name a value of the shown persona outright.

Only what stands there literally is found: the value itself, or what makes it up, in plain words. A value can also stand in an answer by
chance (a question about faith, an answer that says `Catholic`), so the same values are looked for in the answers under none and under the
wrong persona, and the wrong persona's values in the answers under the true one. Values that both personas share, and values that the
question names, are left out.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from builder.lexical import words
from eval.side_effects.paired import paired

QUOTED = 4  # of a longer value, as many words in a row are a quotation, if two of them are long
LONG = 5  # letters
# Words that grade a value or join its parts, and name nobody.
GRADES = {"leans", "lean", "very", "slightly", "somewhat", "strong", "strongly", "extremely", "a", "an", "the", "other"}
AGE = r"(?<![\d$.,]){age}[\s-]years?\b|\b(?:aged?|i['’]?m|i am|you['’]?re|you are)\s+{age}\b(?![.,]?\d|%)"
MINIMUM_MENTIONS = 1  # of an attribute, in any condition, to stand in the table by attribute

Matcher = tuple[tuple[str, ...], str]  # phrases in plain words, a regular expression ("" for none)


def mention_measures(
    rows: Sequence[Mapping[str, Any]], shown: Mapping[str, Mapping[str, str]], seed: int
) -> dict[str, Any]:
    """rows: {persona_id, wrong_persona_id, question, texts: condition -> answer or None}. shown: persona -> attribute -> value.

    `any`: the share of answers that name at least one value; `by_attribute`: the same for each attribute that is named at all. Beside the
    three conditions `other`: the wrong persona's values in the answers under the true one, as an Estimate of chance.
    """
    matchers = {persona: {name: matcher(name, value) for name, value in own.items()} for persona, own in shown.items()}
    names = sorted({name for own in shown.values() for name in own})
    found: dict[str, dict[str, list[float]]] = {}  # condition or `other` -> attribute -> one number a row
    for condition in ("true", "none", "wrong", "other"):
        found[condition] = {name: [] for name in names}
    for row in rows:
        own, other = matchers[row["persona_id"]], matchers[row["wrong_persona_id"]]
        question = row["question"]
        for name in names:
            counted = (
                name in own
                and name in other
                and own[name] != other[name]
                and not names_value(own[name], question)
                and not names_value(other[name], question)
            )
            for condition in found:
                text = row["texts"]["true" if condition == "other" else condition]
                value = other if condition == "other" else own
                found[condition][name].append(
                    float(names_value(value[name], text)) if counted and text is not None else np.nan
                )
    personas = [row["persona_id"] for row in rows]
    any_named = {condition: _any(list(by_name.values()), len(rows)) for condition, by_name in found.items()}
    return {
        "any": _with_chance(any_named, personas, seed, "mention/any"),
        "by_attribute": {
            name: _with_chance({c: found[c][name] for c in found}, personas, seed, f"mention/{name}")
            for name in names
            if any(np.nansum(found[condition][name]) >= MINIMUM_MENTIONS for condition in found)
        },
    }


def matcher(attribute: str, value: str) -> Matcher:
    """What would name this value in an answer."""
    if attribute == "age" and value.strip().isdigit():
        return (), AGE.format(age=value.strip())
    if attribute == "income" and (number := re.search(r"\d[\d,]*", value)):
        digits = number[0].replace(",", "")
        thousands = f"|{digits[:-3]}k" if digits.endswith("000") else ""
        return (
            (),
            rf"\$\s?(?:{int(digits):,}|{digits}{thousands})\b|\b(?:{int(digits):,}|{digits}{thousands})\s+(?:dollars|a year)",
        )
    return tuple(dict.fromkeys(filter(None, _phrases(attribute, value)))), ""


def names_value(matcher: Matcher, text: str) -> bool:
    phrases, pattern = matcher
    if pattern and re.search(pattern, text, re.IGNORECASE):
        return True
    return bool(phrases) and any(f" {phrase} " in plain(text) for phrase in phrases)


@lru_cache(maxsize=4096)
def plain(text: str) -> str:
    """Lower-case words between single blanks, with one at either end; quotation marks gone."""
    return f" {' '.join(word.replace('’', chr(39)).strip(chr(39)) for word in words(text))} "


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


def _any(columns: Sequence[Sequence[float]], rows: int) -> list[float]:
    """1 where any attribute is named, 0 where none is, NaN where none could be looked for."""
    if not columns:
        return [np.nan] * rows
    table = np.array(columns, dtype=float)
    return np.where(np.isnan(table).all(axis=0), np.nan, np.nansum(table, axis=0) > 0).tolist()


def _with_chance(values: Mapping[str, Sequence[float]], personas: Sequence[str], seed: int, key: str) -> dict[str, Any]:
    """The three conditions with their gaps, and `other` with what is left of `true` beyond it."""
    block = paired(values, personas, seed, key)
    chance = paired({"true": values["true"], "none": values["other"], "wrong": values["wrong"]}, personas, seed, key)
    return block | {"other": chance["none"], "true_minus_other": chance["true_minus_none"]}
