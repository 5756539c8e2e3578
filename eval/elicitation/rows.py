"""The kept rows of both learners: the columns of the tables, and which scores there are for a pair."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eval.elicitation.curves import ALL
from eval.elicitation.material import wrong_persona
from eval.rows import EvaluatedRow

# One row for each pair, condition (none, true, wrong), order and k. order is empty where it plays no part: nothing or everything known.
# k: answers known; ALL for everything. asked: questions that it took. item_id: of the comparison that a judge made, else empty, and then
# `margin` is the verdict: positive for the chosen answer. reason: why there is none.
SCORE_COLUMNS = {
    "config": "string",
    "split": "string",
    "persona_group": "string",
    "pair_id": "string",
    "prompt_id": "string",
    "persona_id": "string",
    "partner_persona_id": "string",
    "shown_persona_id": "string",
    "order": "string",
    "condition": "string",
    "k": "int64",
    "asked": "int64",
    "item_id": "string",
    "margin": "double",
    "reason": "string",
}
# One row for each question of an interview. asked_about: an attribute, or the id of a pair. held_out_for: the persona whose test questions
# were left out of a pool (learner pairs). status: see simulator.Reply; of a pair `answered`.
INTERVIEW_COLUMNS = {
    "config": "string",
    "order": "string",
    "persona_id": "string",
    "held_out_for": "string",
    "step": "int64",
    "asked_about": "string",
    "question": "string",
    "answer": "string",
    "status": "string",
    "leaks": "int64",
    "failures": "string",
    "replaced": "bool",
    "states_value": "bool",
}

Row = dict[str, Any]


@dataclass(frozen=True)
class Known:
    """What an interview has told after k answers. what: lines of a profile, or places of labelled pairs."""

    k: int
    asked: int
    what: Any


def conditions(
    row: EvaluatedRow, orders: Sequence[str], known: Mapping[tuple[str, str], Sequence[Known]]
) -> Iterator[tuple[str, str, str, Known]]:
    """(order, condition, who was interviewed, what is known) of every score of one pair. Steps that an interview did not reach are not
    filled up: they are not there.
    """
    true, wrong = row.persona_id, wrong_persona(row)
    yield "", "none", true, Known(0, 0, {})
    for condition, person in (("true", true), ("wrong", wrong)):
        yield "", condition, person, Known(ALL, 0, None)
        for order in orders:
            for told in known[order, person]:
                yield order, condition, person, told


def score_row(row: EvaluatedRow, order: str, condition: str, person: str, told: Known) -> Row:
    missing = "chosen" if row.chosen is None else "rejected" if row.rejected is None else None
    return {
        "config": row.config,
        "split": row.split,
        "persona_group": row.persona_group,
        "pair_id": row.pair_id,
        "prompt_id": row.published["prompt_id"],
        "persona_id": row.persona_id,
        "partner_persona_id": row.published.get("partner_persona_id"),
        "shown_persona_id": person if told.k else None,
        "order": order,
        "condition": condition,
        "k": told.k,
        "asked": told.asked,
        "item_id": "",
        "margin": None,
        "reason": f"{missing} text missing" if missing else None,
    }
