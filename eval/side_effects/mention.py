"""Attribute mention: answers that name a value of the shown persona outright.

Only what stands there literally is found: the value itself, or what makes it up, in plain words. A value can also stand in an answer by
chance (a question about faith, an answer that says `Catholic`), so the same values are looked for in the answers under none and under the
wrong persona, and the wrong persona's values in the answers under the true one. Values that both personas share, and values that the
question names, are left out.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from eval.side_effects.paired import paired
from eval.value_matching import is_said, matcher, names_value

MINIMUM_MENTIONS = 1  # of an attribute, in any condition, to stand in the table by attribute


def mention_measures(
    rows: Sequence[Mapping[str, Any]], shown: Mapping[str, Mapping[str, str]], seed: int
) -> dict[str, Any]:
    """rows: {persona_id, wrong_persona_id, question, texts: condition -> answer or None}. shown: persona -> attribute -> value.

    `any`: the share of answers that name at least one value; `by_attribute`: the same for each attribute that is named at all. Beside the
    three conditions `other`: the wrong persona's values in the answers under the true one, as an Estimate of chance.
    """
    matchers = {
        persona: {name: matcher(name, value) for name, value in own.items() if is_said(value)}
        for persona, own in shown.items()
    }
    names = sorted({name for own in matchers.values() for name in own})
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
    personas, questions = [row["persona_id"] for row in rows], [row["question"] for row in rows]
    any_named = {condition: _any(list(by_name.values()), len(rows)) for condition, by_name in found.items()}
    return {
        "any": _with_chance(any_named, personas, questions, seed, "mention/any"),
        "by_attribute": {
            name: _with_chance({c: found[c][name] for c in found}, personas, questions, seed, f"mention/{name}")
            for name in names
            if any(np.nansum(found[condition][name]) >= MINIMUM_MENTIONS for condition in found)
        },
    }


def _any(columns: Sequence[Sequence[float]], rows: int) -> list[float]:
    """1 where any attribute is named, 0 where none is, NaN where none could be looked for."""
    if not columns:
        return [np.nan] * rows
    table = np.array(columns, dtype=float)
    return np.where(np.isnan(table).all(axis=0), np.nan, np.nansum(table, axis=0) > 0).tolist()


def _with_chance(
    values: Mapping[str, Sequence[float]], personas: Sequence[str], questions: Sequence[str], seed: int, key: str
) -> dict[str, Any]:
    """The three conditions with their gaps, and `other` with what is left of `true` beyond it."""
    block = paired(values, personas, questions, seed, key)
    swapped = {"true": values["true"], "none": values["other"], "wrong": values["wrong"]}
    chance = paired(swapped, personas, questions, seed, key)
    return block | {"other": chance["none"], "true_minus_other": chance["true_minus_none"]}
