"""The list of pairs, filtered and searched."""

from typing import Any

from builder.schema import JUDGE_VERDICTS
from eval.explore import filters
from eval.explore.database import Row, Tables
from eval.explore.filters import Asked, BadRequest
from eval.explore.pages.excerpts import add_excerpts, add_questions
from eval.explore.pages.listing import value_counts
from eval.explore.pages.words import FLAG_WORDS
from eval.explore.search import PAGE, Found, find_pairs


def pairs_page(tables: Tables, asked: Asked) -> dict[str, Any]:
    _refuse_unknown_values(tables, asked)
    after, before = filters.place_in(asked)
    found = find_pairs(tables, asked, after, before)
    rows = tables.light_rows(found.numbers)
    add_questions(tables, rows)
    add_excerpts(tables, rows, asked)
    return {
        "asked": asked,
        "found": found,
        "rows": rows,
        "options": _pair_options(tables, asked),
        "flags": FLAG_WORDS,
        "searched": filters.SEARCHED,
        "first": after is None and before is None,
        "next_after": _later_place(found, before) if found.later else None,
        "next_before": _earlier_place(found, before) if found.earlier else None,
        "total": tables.rows,
        "page": PAGE,
        "more_open": any(
            asked[name] for name in ("persona", "partner", "prompt", "judge", *filters.PAIR_FLAGS, "group")
        ),
    }


def _later_place(found: Found, before: int | None) -> int | None:
    if before is not None:
        return found.numbers[-1] if found.numbers else before - 1 if before else None
    return found.stopped_at if found.stopped_at is not None else found.numbers[-1]


def _earlier_place(found: Found, before: int | None) -> int | None:
    if before is not None and found.stopped_at is not None:
        return found.stopped_at
    return found.numbers[0] if found.numbers else None


def _refuse_unknown_values(tables: Tables, asked: Asked) -> None:
    """A value that nothing has is a slip in the address, which an empty page would hide. Ids are left to the page."""
    for name in ("config", "split", "topic", "group", "verdict", "judge"):
        known = [row["value"] for row in value_counts(tables, "pairs", filters.PAIR_VALUES[name])]
        if name == "verdict":
            known += [verdict for verdict in JUDGE_VERDICTS if verdict not in known]
        if asked[name] and asked[name] not in known:
            listed = ", ".join(known[:30]) or "none"
            raise BadRequest(f"No pair has the {name} “{asked[name][:80]}”. There are: {listed}.")


def _pair_options(tables: Tables, asked: Asked) -> dict[str, list[Row]]:
    """What each filter can be, with how many pairs the other filters leave it; a search in texts is not counted through."""
    options = {}
    for name in ("config", "split", "topic", "group", "verdict", "judge"):
        where = filters.pairs_where(asked, leave_out=name)
        options[name] = value_counts(tables, "pairs", filters.PAIR_VALUES[name], where)
        if asked[name] and asked[name] not in [row["value"] for row in options[name]]:
            options[name].append({"value": asked[name], "n": 0})
    options["topic"] = sorted(options["topic"], key=lambda row: row["value"])
    return options
