"""What judges replied, kept word by word beside a result, so that it can be read again without a call (`persona eval rescore`)."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from builder.errors import InputError
from builder.judge.critique import PASSES, CritiqueVerdict, critique_verdict
from builder.judge.critique import VERDICT_SECTION as CRITIQUE_SECTION
from builder.judge.judge import Judge, Reading, Verdict
from builder.judge.likelihood import verdict_of_margin
from builder.judge.pairwise import FIRST_PLACE, pairwise_verdict
from builder.judge.pairwise import VERDICT_SECTION as PAIRWISE_SECTION
from builder.judge.reading import BY_RULE, read_reply
from builder.llm.drawing import UNREADABLE

# item_id: the evaluation's own key of what was judged, unique with judge and order. order: AB, BA, both (likelihood) or one (critique).
# raw: the reply as it came, or the JSON of scores. failure: why there is no reply to be read (truncated, refused, an empty answer ...),
# else empty.
TRANSCRIPT_COLUMNS = {"item_id": "string", "judge": "string", "order": "string", "raw": "string", "failure": "string"}

Row = dict[str, Any]


def transcript_rows(judge: Judge, item_ids: Sequence[str], verdicts: Sequence[Verdict | CritiqueVerdict]) -> list[Row]:
    """The rows of TRANSCRIPT_COLUMNS for one judge's verdicts, one id each."""
    rows = []
    for item, verdict in zip(item_ids, verdicts, strict=True):
        if isinstance(verdict, CritiqueVerdict):
            rows.append(_row(judge, item, "one", verdict.reading.raw, verdict.reading.value, verdict.reading.reason))
        elif judge.kind == "likelihood":
            rows.append(_row(judge, item, "both", json.dumps({"margin": verdict.score}), verdict.score, verdict.reason))
        else:
            rows += [_row(judge, item, c.order, c.raw, c.probability, c.reason) for c in verdict.judgements]
    return rows


def reread(judge: Judge, rows: Sequence[Mapping[str, Any]]) -> dict[str, Verdict | CritiqueVerdict]:
    """item_id -> verdict, from the kept replies of this judge, by its present parser. Raises InputError where one is missing or twice."""
    by_item: dict[str, dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        orders = by_item.setdefault(row["item_id"], {})
        if row["order"] in orders:
            raise InputError(
                f"The transcript holds order {row['order']} of {row['item_id']} twice: the replies of one judge at a time can be read."
            )
        orders[row["order"]] = row
    return {item: _reread_item(judge, item, orders) for item, orders in by_item.items()}


def _reread_item(judge: Judge, item: str, orders: Mapping[str, Mapping[str, Any]]) -> Verdict | CritiqueVerdict:
    needed = {"critique": ("one",), "likelihood": ("both",), "pairwise": ("AB", "BA")}[judge.kind]
    missing = [order for order in needed if order not in orders]
    if missing:
        raise InputError(
            f"The transcript lacks order {missing[0]} of {item}, so it is not of a {judge.kind} judge as {judge.name} is. Evaluate again."
        )
    if judge.kind == "likelihood":
        row = orders["both"]
        margin = None if row["failure"] else json.loads(row["raw"])["margin"]
        return verdict_of_margin(judge, margin, row["failure"])
    section, worth = (CRITIQUE_SECTION, PASSES) if judge.kind == "critique" else (PAIRWISE_SECTION, FIRST_PLACE)
    readings = [
        Reading(BY_RULE.get(orders[order]["failure"]), orders[order]["failure"], orders[order]["raw"])
        if orders[order]["failure"]
        else read_reply(judge, orders[order]["raw"], section, worth)
        for order in needed
    ]
    return critique_verdict(readings[0]) if judge.kind == "critique" else pairwise_verdict(readings[0], readings[1])


def _row(judge: Judge, item: str, order: str, raw: str, value: float | None, reason: str) -> Row:
    # A reply that could not be read is kept as a reply: another parser may read it.
    failed = reason != UNREADABLE if value is None else not raw
    failure = reason if failed else ""
    return {"item_id": item, "judge": judge.label, "order": order, "raw": raw, "failure": failure}
