"""The open comparison: which of two revisions of one question was written for the persona that the model is shown?

The items are contrast pairs: two personas of one group, one question, and the revision that was written for each. The evaluated model
stands in the place of a pairwise judge. It is shown persona A, the question and both revisions in both orders, and should choose A's. A
model that contradicts itself has tied, and a tie is half. The mirror of each pair asks the same for persona B, so without a persona every
complete set gives exactly one half, whatever the model prefers.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from builder.errors import InputError
from builder.judge.judge import WORTH, Comparison, Judge, compare
from builder.judge.judge_file import load_judge
from builder.randomness import rng_for, seed_for
from eval.bench.outcomes import Row, without_value
from eval.calls import MODEL_ROLE
from eval.items import Persona
from eval.language_models import LanguageModel, shown_persona_text
from eval.results import row_counts, too_many_unscored
from eval.rows import EvaluatedRow, load_rows
from eval.transcripts import reread, transcript_rows
from training.conditioning import CONDITIONS
from training.estimates import estimate_columns

JUDGES = {
    "plain": "roleplay_choice",
    "marked": "roleplay",
}  # of builder/judge/judges: the same question to the evaluated model
WON = {**WORTH, "unscored": math.nan}
MIRROR_UNSCORED = "mirror unscored"
PAIR_COLUMNS = {
    "item_id": "string",
    "pair_id": "string",
    "mirror_pair_id": "string",
    "persona_id": "string",
    "partner_persona_id": "string",
    "shown_persona_id": "string",
    "prompt_id": "string",
    "persona_group": "string",
    "split": "string",
    "condition": "string",
    "flip": "bool",
}


def draw_sets(folder: Path, limit: int | None, seed: int) -> list[EvaluatedRow]:
    """At most `limit` rows of `contrast`, in complete sets of a pair and its mirror, drawn by seed; sorted by pair id.

    Raises InputError for a limit below 2, and for a dataset without a complete set.
    """
    if limit is not None and limit < 2:
        raise InputError(
            f"The number of rows is {limit}; a contrast pair and its mirror need 2. Raise --limit or leave it out."
        )
    rows = {row.pair_id: row for row in load_rows(folder) if row.config == "contrast" and row.chosen and row.rejected}
    units = {min(pair, row.mirror_pair_id) for pair, row in rows.items() if row.mirror_pair_id in rows}
    if not units:
        raise InputError(
            f"{folder} has no contrast pair with its mirror in the test splits. Build it with contrast among the configs, or choose "
            "another --evaluation."
        )
    drawn = sorted(units, key=lambda pair: (seed_for(seed, "bench/comparison", pair), pair))
    kept = drawn if limit is None else drawn[: limit // 2]
    return sorted(
        [rows[pair] for unit in kept for pair in (unit, str(rows[unit].mirror_pair_id))], key=lambda row: row.pair_id
    )


def chooser(model: LanguageModel, form: str, seed: int) -> Judge:
    """The evaluated model as a pairwise judge."""
    return load_judge(JUDGES[form], model.recipe, seed, role=MODEL_ROLE)


def choose(
    calls: Any, model: LanguageModel, judge: Judge, rows: Sequence[EvaluatedRow], personas: Mapping[str, Persona]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(rows of PAIR_COLUMNS, the transcript): each pair under the true, no and the wrong persona."""
    pairs = [_pair(row, condition) for row in rows for condition in CONDITIONS]
    comparisons = [
        Comparison(
            _shown(model, pair["shown_persona_id"], row, personas), row.question, (str(row.chosen), str(row.rejected))
        )
        for pair, row in zip(pairs, (row for row in rows for _ in CONDITIONS), strict=True)
    ]
    verdicts = compare(judge, calls, comparisons, "choosing")
    return pairs, transcript_rows(judge, [pair["item_id"] for pair in pairs], verdicts)


def comparison_content(
    pairs: Sequence[Row], transcript: Sequence[Row], judges: Mapping[str, Judge], seed: int
) -> dict[str, Any]:
    """{"judges": label -> {"rows", "withheld", "accuracy", "cells", "flips", "orders_agree", "sets"}}."""
    found = {}
    for label, judge in judges.items():
        verdicts: dict[str, Any] = reread(judge, [row for row in transcript if row["judge"] == label])
        found[label] = _content(pairs, verdicts, seed)
    return {"judges": found}


def reasons_of(pairs: Sequence[Row], transcript: Sequence[Row], judges: Mapping[str, Judge]) -> list[str | None]:
    """Why each row is unscored, None for a scored one; over all judges."""
    found: list[str | None] = []
    for label, judge in judges.items():
        found += _reasons(pairs, reread(judge, [row for row in transcript if row["judge"] == label])).values()
    return found


def _content(pairs: Sequence[Row], verdicts: Mapping[str, Any], seed: int) -> dict[str, Any]:
    reasons = _reasons(pairs, verdicts)
    won = {
        pair["item_id"]: math.nan if reasons[pair["item_id"]] else WON[verdicts[pair["item_id"]].verdict]
        for pair in pairs
    }
    agree = {item: _orders_agree(verdicts.get(item)) for item in won}
    rows = {
        condition: row_counts(reasons[pair["item_id"]] for pair in pairs if pair["condition"] == condition)
        for condition in CONDITIONS
    }
    withheld = {condition: reason for condition in CONDITIONS if (reason := too_many_unscored(rows[condition]))}
    cells = sorted({_cell(pair) for pair in pairs})
    return {
        "sets": len({min(pair["pair_id"], pair["mirror_pair_id"]) for pair in pairs}),
        "rows": rows,
        "withheld": withheld,
        "accuracy": _estimates(pairs, won, withheld, seed, "all"),
        "cells": {
            cell: _estimates([pair for pair in pairs if _cell(pair) == cell], won, withheld, seed, cell)
            for cell in cells
        },
        "flips": _estimates([pair for pair in pairs if pair["flip"]], won, withheld, seed, "flips"),
        # A model that looks at the place alone never agrees with itself, and ties everywhere.
        "orders_agree": _estimates(pairs, agree, withheld, seed, "orders"),
    }


def _estimates(
    pairs: Sequence[Row], values: Mapping[str, float], withheld: Mapping[str, str], seed: int, key: str
) -> dict[str, Any] | None:
    """{true, none, wrong, gap, gain} as plain Estimates; None without rows."""
    if not pairs:
        return None
    ids = sorted({pair["pair_id"] for pair in pairs})
    by_pair = {pair["pair_id"]: pair for pair in pairs}
    shares = np.array([[values[f"{pair}/{condition}"] for condition in CONDITIONS] for pair in ids])
    true, none, wrong = shares.T
    estimates = estimate_columns(
        np.column_stack([shares, true - wrong, true - none]),
        [tuple(sorted((by_pair[i]["persona_id"], by_pair[i]["partner_persona_id"]))) for i in ids],
        rng_for(seed, "bench/comparison/bootstrap", key),
        differences=2,
        prompts=[by_pair[i]["prompt_id"] for i in ids],
    )
    needs = {"gap": ("true", "wrong"), "gain": ("true", "none")}
    found = {}
    for name, estimate in zip((*CONDITIONS, "gap", "gain"), estimates, strict=True):
        reason = next((withheld[c] for c in needs.get(name, (name,)) if c in withheld), None)
        found[name] = dataclasses.asdict(estimate if reason is None else without_value(estimate, reason))
    return found


def _reasons(pairs: Sequence[Row], verdicts: Mapping[str, Any]) -> dict[str, str | None]:
    """item_id -> why it is unscored. What drops one mirror drops both, or one half would no longer be chance."""
    own = {}
    for pair in pairs:
        verdict = verdicts.get(pair["item_id"])
        own[pair["item_id"]] = "not judged" if verdict is None else verdict.reason if verdict.score is None else None
    found = {}
    for pair in pairs:
        reason = own[pair["item_id"]]
        if reason is None and own[f"{pair['mirror_pair_id']}/{pair['condition']}"] is not None:
            reason = MIRROR_UNSCORED
        found[pair["item_id"]] = reason
    return found


def _orders_agree(verdict: Any) -> float:
    sides = [call.probability for call in verdict.judgements] if verdict is not None else []
    if len(sides) != 2 or None in sides:
        return math.nan
    return float((sides[0] - 0.5) * (sides[1] - 0.5) >= 0)


def _pair(row: EvaluatedRow, condition: str) -> dict[str, Any]:
    shown = {"true": row.persona_id, "wrong": row.published["wrong_persona_id"], "none": None}[condition]
    return {
        "item_id": f"{row.pair_id}/{condition}",
        "pair_id": row.pair_id,
        "mirror_pair_id": row.mirror_pair_id,
        "persona_id": row.persona_id,
        "partner_persona_id": row.published["partner_persona_id"],
        "shown_persona_id": shown,
        "prompt_id": row.published["prompt_id"],
        "persona_group": row.persona_group,
        "split": row.split,
        "condition": condition,
        "flip": row.flip,
    }


def _shown(model: LanguageModel, persona: str | None, row: EvaluatedRow, personas: Mapping[str, Persona]) -> str | None:
    return shown_persona_text(model, None if persona is None else personas[persona].profile, row.question)


def _cell(pair: Row) -> str:
    return f"{pair['persona_group']}/{pair['split']}"
