"""One pair, its two answers compared word by word."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from eval.explore.database import Row, Tables
from eval.explore.filters import Asked, BadRequest, NotFound
from eval.explore.pages.personas import facet_label
from eval.explore.pages.words import CONDITION_WORDS, SIDES, SPLIT_WORDS
from eval.explore.search import neighbours
from eval.explore.word_diff import word_difference


def pair_page(tables: Tables, asked: Asked) -> dict[str, Any]:
    """A pair with everything that is known of it, and its neighbours in the filter from which it was opened."""
    number = tables.number_of(asked["id"])
    if number is None:
        raise NotFound(f"There is no pair {asked['id'][:120]} in this dataset.")
    row = tables.whole_row(number)
    light = tables.light_rows([number])[0]
    chosen, rejected = content(row["chosen"]), content(row["rejected"])
    profile = content(row["prompt"][:1]) if len(row["prompt"]) > 1 else ""
    partner = row.get("partner_persona_id")
    difference = word_difference(rejected, chosen)
    beside = neighbours(tables, asked, number)
    numbers = [n for n in (beside.earlier, beside.later) if n is not None]
    ids = {found["num"]: found["pair_id"] for found in tables.light_rows(numbers)}
    if asked["view"] not in ("", "plain", "row"):
        raise BadRequest("“view” is plain or row.")
    hidden = ("num", "file_row_number")
    return {
        "asked": asked,
        "row": row,
        "light": light,
        "question": content(row["prompt"]),
        "profile": profile,
        "partner": partner,
        "partner_profile": _profile(tables, partner) if partner else "",
        "mirror": row.get("mirror_pair_id")
        if row.get("mirror_pair_id") and tables.number_of(row["mirror_pair_id"]) is not None
        else None,
        "chosen": difference.after,
        "rejected": difference.before,
        "chosen_text": chosen,
        "rejected_text": rejected,
        "shared": difference.shared,
        "marked": difference.marked and asked["view"] != "plain",
        "can_mark": difference.marked,
        "sides": SIDES[row["config"]],
        "judgements": tables.judgements_of(row["pair_id"]),
        "conditions": CONDITION_WORDS,
        "earlier": None if beside.earlier is None else ids.get(beside.earlier),
        "later": None if beside.later is None else ids.get(beside.later),
        "unknown": " and ".join(beside.unknown),
        # A list that goes on from this very pair.
        "around": asked.address("pairs", id=None, view=None, before=None, after=max(number - 1, 0) or None),
        "filtered": bool([name for name in asked.values if name not in ("id", "view")]),
        "split_words": SPLIT_WORDS.get(row["split"], ""),
        "inferable": [facet_label(name) for name in row.get("inferable_attributes") or []],
        "siblings": _siblings(tables, light),
        "raw": json.dumps({k: v for k, v in row.items() if k not in hidden}, indent=2, ensure_ascii=False, default=str)
        if asked["view"] == "row"
        else None,
    }


def content(messages: Sequence[Mapping[str, Any]] | None) -> str:
    """The text of the last message."""
    return str(messages[-1].get("content") or "") if messages else ""


def _profile(tables: Tables, identifier: str) -> str:
    if not tables.attributes:
        return ""
    found = tables.ask("SELECT profile FROM personas WHERE persona_id = ?", [identifier])
    return str(found[0]["profile"] or "") if found else ""


def _siblings(tables: Tables, light: Row) -> list[Row]:
    """The other pairs of this persona and this question."""
    query = (
        "SELECT pair_id, config::VARCHAR AS config, split::VARCHAR AS split, partner_persona_id::VARCHAR AS partner FROM pairs "
        "WHERE persona_id = TRY_CAST(? AS persona_id_values) AND prompt_id = TRY_CAST(? AS prompt_id_values) AND num <> ? "
        "ORDER BY num LIMIT 20"
    )
    return tables.ask(query, [light["persona_id"], light["prompt_id"], light["num"]])
