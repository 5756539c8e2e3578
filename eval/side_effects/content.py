"""All figures of the side effects, from the kept tables alone: the same function for a new evaluation and for `persona eval rescore`."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from builder.lexical import words
from eval.results import row_counts, too_many_unscored
from eval.side_effects.accentuation import accentuation
from eval.side_effects.agreement_seeking import agreement_seeking
from eval.side_effects.asking import Said, read_choice
from eval.side_effects.facts import TIE, factual_accuracy, is_right
from eval.side_effects.groups import GROUPINGS, NAMING, groups_of
from eval.side_effects.homogenisation import homogenisation
from eval.side_effects.length import length_drift
from eval.side_effects.mention import mention_measures
from eval.side_effects.refusals import refusal_rate, refused

ANSWER_COLUMNS = {
    "probe": "string",  # question (of the dataset) or request (that should be declined)
    "item_id": "string",
    "persona_id": "string",
    "wrong_persona_id": "string",
    "condition": "string",
    "question": "string",
    "answer": "string",
    "tokens": "int64",
    "failure": "string",  # why it is no whole answer, else empty
}
CHOICE_COLUMNS = {
    "probe": "string",  # opinion or fact
    "item_id": "string",
    "persona_id": "string",
    "wrong_persona_id": "string",
    "condition": "string",
    "arm": "string",  # of an opinion: agreement_seeking.ARMS; of a fact: fact
    "parser": "string",
    "template": "string",
    "menu": "string",  # JSON list of words
    "right": "string",  # the word that counts
    "raw": "string",
    "failure": "string",
}
PERSONA_COLUMNS = {"persona_id": "string", "stated": "string"}  # stated: JSON object, attribute -> value as shown

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Tables:
    answers: Sequence[Row]
    choices: Sequence[Row]
    personas: Sequence[Row]


def content_of(tables: Tables, seed: int) -> dict[str, Any]:
    """{measure: {rows, withheld, ...}}; what each holds is said in its file and in docs/evaluation.md."""
    stated = {row["persona_id"]: json.loads(row["stated"]) for row in tables.personas}
    questions = [row for row in tables.answers if row["probe"] == "question"]
    items = _by_item(questions)
    texts = _texts(items)
    people = [item["persona_id"] for item in items]
    groups = {persona: groups_of(own) for persona, own in stated.items()}
    written = row_counts(row["failure"] or None for row in questions)
    named = [
        {
            "persona_id": item["persona_id"],
            "wrong_persona_id": item["wrong_persona_id"],
            "question": item["question"],
            "texts": {condition: answers[place] for condition, answers in texts.items()},
        }
        for place, item in enumerate(items)
    ]
    mention = mention_measures(named, stated, seed)
    recovered, alike = {}, {}
    asked = [item["question"] for item in items]
    for grouping in GROUPINGS:
        own = {persona: known[grouping] for persona, known in groups.items() if grouping in known}
        recovered[grouping] = accentuation(texts, asked, people, own, _naming_words(grouping, stated), seed, grouping)
        alike[grouping] = homogenisation(texts, asked, people, own, seed, grouping)
    opinions, opinion_rows = _opinions([row for row in tables.choices if row["probe"] == "opinion"], seed)
    facts, fact_rows = _facts([row for row in tables.choices if row["probe"] == "fact"], seed)
    requests = [row for row in tables.answers if row["probe"] == "request"]
    return {
        "mention": _gated(mention, written),
        "accentuation": _gated({"by_group": recovered}, written),
        "homogenisation": _gated({"by_group": alike}, written),
        "agreement": _gated(opinions, opinion_rows),
        "facts": _gated(facts, fact_rows),
        "refusals": {
            "questions": _gated(*_refusals(questions, seed, "questions")),
            "requests": _gated(*_refusals(requests, seed, "requests")),
        },
        "length": _gated({"words": length_drift(texts, asked, people, seed)}, written),
        "longest_answer_tokens": max((row["tokens"] for row in questions), default=0),
    }


def scored_rows(tables: Tables) -> dict[str, Any]:
    """`Result.rows`: each answer and each choice once. A refusal is a finding here, so it counts as scored."""
    answers = [None if refused(row["answer"], row["failure"]) is not None else row["failure"] for row in tables.answers]
    return row_counts([*answers, *(read(row)[1] or None for row in tables.choices)])


def read(row: Row) -> tuple[dict[str, float] | None, str]:
    """What a kept choice says: (word -> probability, reason)."""
    probabilities, reason = read_choice(
        row["parser"], row["template"], json.loads(row["menu"]), Said(row["raw"], row["failure"])
    )
    if probabilities is not None and row["probe"] == "fact" and is_right(probabilities, row["right"]) is None:
        return None, TIE
    return probabilities, reason


def _gated(figures: dict[str, Any], rows: dict[str, Any]) -> dict[str, Any]:
    """The figures with the rows that they are of; none where too many of these could not be scored."""
    withheld = too_many_unscored(rows)
    return {"rows": rows, "withheld": withheld} | ({} if withheld else figures)


def _by_item(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """One entry an item, its answers by condition; in the order of ids, so that the order of rows changes nothing."""
    items: dict[str, dict[str, Any]] = {}
    for row in sorted(rows, key=lambda row: (row["item_id"], row["condition"])):
        item = items.setdefault(row["item_id"], {**row, "by_condition": {}})
        item["by_condition"][row["condition"]] = row
    return list(items.values())


def _texts(items: Sequence[Mapping[str, Any]]) -> dict[str, list[str | None]]:
    """Condition -> the whole answers, None for what is none: a refusal, or a text that is cut off."""
    found: dict[str, list[str | None]] = {"true": [], "none": [], "wrong": []}
    for item in items:
        for condition, own in found.items():
            row = item["by_condition"].get(condition)
            whole = row is not None and not row["failure"] and refused(row["answer"], "") is False
            own.append(row["answer"] if row is not None and whole else None)
    return found


def _naming_words(grouping: str, stated: Mapping[str, Mapping[str, str]]) -> set[str]:
    """Every word of every value that names a group of this grouping, whoever has it."""
    naming = NAMING[grouping]
    told = {word for own in stated.values() for name in naming for word in words(own.get(name, ""))}
    return told | {f"{word}s" for word in told}


def _asked_about(row: Row) -> str:
    """What was asked, without whom: ids of items begin with the persona's."""
    return str(row["item_id"]).removeprefix(f"{row['persona_id']}/")


def _opinions(rows: Sequence[Row], seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
    asked: dict[str, tuple[str, str, dict[tuple[str, str], float | None]]] = {}
    reasons = []
    for row in sorted(rows, key=lambda row: (row["item_id"], row["condition"], row["arm"])):
        probabilities, reason = read(row)
        reasons.append(reason or None)
        values = asked.setdefault(row["item_id"], (row["persona_id"], _asked_about(row), {}))[2]
        values[row["condition"], row["arm"]] = None if probabilities is None else probabilities[row["right"]]
    return agreement_seeking(list(asked.values()), seed), row_counts(reasons)


def _facts(rows: Sequence[Row], seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
    asked: dict[str, tuple[str, str, dict[str, bool | None]]] = {}
    reasons = []
    for row in sorted(rows, key=lambda row: (row["item_id"], row["condition"])):
        probabilities, reason = read(row)
        reasons.append(reason or None)
        right = None if probabilities is None else is_right(probabilities, row["right"])
        asked.setdefault(row["item_id"], (row["persona_id"], _asked_about(row), {}))[2][row["condition"]] = right
    return {"accuracy": factual_accuracy(list(asked.values()), seed)}, row_counts(reasons)


def _refusals(rows: Sequence[Row], seed: int, key: str) -> tuple[dict[str, Any], dict[str, Any]]:
    asked: dict[str, tuple[str, str, dict[str, bool | None]]] = {}
    reasons = []
    for row in sorted(rows, key=lambda row: (row["item_id"], row["condition"])):
        declined = refused(row["answer"], row["failure"])
        reasons.append(row["failure"] if declined is None else None)
        asked.setdefault(row["item_id"], (row["persona_id"], _asked_about(row), {}))[2][row["condition"]] = declined
    return {"rate": refusal_rate(list(asked.values()), seed, key)}, row_counts(reasons)
