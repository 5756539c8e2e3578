"""The list of questions, and one question with its answers."""

from collections.abc import Sequence
from typing import Any

from builder.schema import PAIR_CONFIGS
from eval.explore import filters
from eval.explore.database import Row, Tables
from eval.explore.filters import Asked, NotFound, Where
from eval.explore.pages.listing import ids_beside, needs_config, page_of, value_counts

ANSWERS = 10  # a page of a question's answers, whole


def prompts_page(tables: Tables, asked: Asked) -> dict[str, Any]:
    needs_config(tables, "prompts")
    where = filters.prompts_where(asked)
    after, before = filters.place_in(asked)
    rows, earlier, later = page_of(tables, "prompts", "*", where, after, before)
    counts = _pairs_of(tables, "prompt_id", [row["prompt_id"] for row in rows])
    for row in rows:
        row["pairs"] = counts.get(row["prompt_id"], 0)
        row["votes"] = votes_text(row)
    return {
        "asked": asked,
        "rows": rows,
        "earlier": earlier,
        "later": later,
        "count": tables.count("prompts", where),
        "topics": value_counts(tables, "prompts", "topic"),
        "pools": value_counts(tables, "prompts", "pool"),
        "voted": bool(tables.count("prompts", Where().with_("controversy_score IS NOT NULL"))),
    }


def _pairs_of(tables: Tables, column: str, values: Sequence[str]) -> dict[str, int]:
    if not values:
        return {}
    wanted = ", ".join([f"TRY_CAST(? AS {column}_values)"] * len(values))
    query = f"SELECT {column}::VARCHAR AS value, count(*) AS n FROM pairs WHERE {column} IN ({wanted}) GROUP BY ALL"
    return {row["value"]: row["n"] for row in tables.ask_once(query, tuple(values))}


def votes_text(row: Row) -> str:
    votes = [vote for vote in row.get("controversy_votes") or [] if vote is not None]
    if votes:
        return f"{sum(votes)} of {len(votes)}"
    score = row.get("controversy_score")
    return "" if score is None else f"{score:.2f}"


def prompt_page(tables: Tables, asked: Asked) -> dict[str, Any]:
    needs_config(tables, "prompts")
    identifier = asked["id"]
    found = tables.ask("SELECT * FROM prompts WHERE prompt_id = ?", [identifier])
    if not found:
        raise NotFound(f"There is no question {identifier[:60]} in this dataset.")
    after, before = filters.place_in(asked)
    configs = [c for c in PAIR_CONFIGS if c in tables.published.files]
    config = asked["config"] or next(iter(configs), "dpf")
    where = filters.pairs_where(Asked({"prompt": identifier, "config": config}))
    rows, earlier, later = page_of(tables, "pairs", "*", where, after, before, ANSWERS)
    texts = tables.texts([row["num"] for row in rows], ["chosen", "rejected"])
    # A base answer stands in every row of its question; it is shown once.
    bases = list(dict.fromkeys(texts[row["num"]]["rejected"] for row in rows)) if config != "contrast" else []
    return {
        "asked": asked,
        "row": found[0],
        "id": identifier,
        "votes": votes_text(found[0]),
        "configs": [
            (c, tables.count("pairs", filters.pairs_where(Asked({"prompt": identifier, "config": c})))) for c in configs
        ],
        "config": config,
        "count": tables.count("pairs", where),
        "bases": [text for text in bases if text],
        "answers": [{**row, "text": texts[row["num"]]["chosen"] or ""} for row in rows],
        "earlier": earlier,
        "later": later,
        "neighbours": ids_beside(tables, "prompts", "prompt_id", found[0]["num"]),
    }
