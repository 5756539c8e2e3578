"""The list of personas, filtered by their attributes, and one persona with everything that is known of it."""

from typing import Any

from builder.personas.profile import label, shown
from builder.schema import ATTRIBUTES, BIG_FIVE, GROUPS
from eval.explore import filters
from eval.explore.database import Tables
from eval.explore.filters import Asked, BadRequest, NotFound, Where
from eval.explore.pages.listing import ids_beside, is_verdict, needs_config, page_of, value_counts
from eval.explore.pages.words import NULL_WORDS, PROVENANCE_WORDS

FACET_VALUES = 60  # values of an attribute that are offered
LIST_COLUMNS = ("age", "sex", "race", "education", "occupation_category", "political_views", "religion")


def personas_page(tables: Tables, asked: Asked) -> dict[str, Any]:
    needs_config(tables, "personas")
    where = filters.personas_where(asked)
    after, before = filters.place_in(asked)
    columns = ", ".join(["num", "persona_id", '"group"', "is_adult", *LIST_COLUMNS])
    rows, earlier, later = page_of(tables, "personas", columns, where, after, before)
    offered = [name for name in filters.FACETS if name != "big_five_scores"]
    show = asked["show"]
    if show and show not in offered:
        raise BadRequest(f"There is no attribute “{show[:60]}” here. There are: {', '.join(offered)}.")
    return {
        "asked": asked,
        "rows": [{**row, "shown": [_cell(name, row[name]) for name in LIST_COLUMNS]} for row in rows],
        "headers": [label(name) for name in LIST_COLUMNS],
        "earlier": earlier,
        "later": later,
        "count": tables.count("personas", where),
        "attributes": [(name, facet_label(name)) for name in offered],
        "values": _facet_values(tables, asked, show) if show else [],
        "show_label": facet_label(show) if show else "",
        "active": [(n, facet_label(n), value_label(n, asked[n])) for n in filters.FACETS if asked[n]],
        "groups": GROUPS,
    }


def facet_label(name: str) -> str:
    return name.capitalize() if name in BIG_FIVE else label(name)


def value_label(name: str, value: str) -> str:
    if name not in filters.BANDS or value == filters.NOT_GIVEN:
        return value
    low, high = filters.band(name, value)
    unit = "$" if name == "income" else ""
    if low == high:
        return f"{unit}{low:,}"
    if low is None:
        return "none or a loss" if name == "income" and high == 0 else f"up to {unit}{high:,}"
    return f"{unit}{low:,} or more" if high is None else f"{unit}{low:,} to {unit}{high:,}"


def _facet_values(tables: Tables, asked: Asked, name: str) -> list[dict[str, Any]]:
    """The values of an attribute, each with how many personas the other filters leave it."""
    where = filters.personas_where(asked, leave_out=name)
    column = filters.column_of(name)
    if name in filters.BANDS:
        found = []
        for low, high in filters.BANDS[name]:
            inside = where if low is None else where.with_(f"{column} >= ?", low)
            inside = inside if high is None else inside.with_(f"{column} <= ?", high)
            found.append((filters.band_text(low, high), tables.count("personas", inside)))
    else:
        found = [(row["value"], row["n"]) for row in value_counts(tables, "personas", column, where)[:FACET_VALUES]]
    nothing = tables.count("personas", where.with_(f"{column} IS NULL"))
    found += [(filters.NOT_GIVEN, nothing)] if nothing else []
    return [
        {"value": value, "label": value_label(name, value), "n": n, "chosen": asked[name] == value}
        for value, n in found
        if n
    ]


def persona_page(tables: Tables, identifier: str) -> dict[str, Any]:
    needs_config(tables, "personas")
    found = tables.ask("SELECT * FROM personas WHERE persona_id = ?", [identifier])
    if not found:
        raise NotFound(f"There is no persona {identifier[:60]} in this dataset.")
    row = found[0]
    reasons, origins = row.get("null_reasons") or {}, row.get("provenance") or {}
    attributes = [
        {
            "name": name,
            "label": label(name),
            "value": None if row.get(name) is None else _cell(name, row[name]),
            "why": NULL_WORDS.get(reasons.get(name) or "", ""),
            "from": PROVENANCE_WORDS.get(origins.get(name) or "", ""),
            "link": _facet_link(name, row.get(name)),
        }
        for name in ATTRIBUTES
        if name in row
    ]
    own = Where().with_("persona_id = TRY_CAST(? AS persona_id_values)", identifier)
    query = (
        "SELECT config::VARCHAR AS config, split::VARCHAR AS split, count(*) AS n, "
        f"count(*) FILTER (WHERE {is_verdict('chosen')}) AS chosen, "
        f"count(judge_verdict) FILTER (WHERE NOT {is_verdict('unscored')}) AS judged, "
        f"count(*) FILTER (WHERE length_violation) AS length, count(*) FILTER (WHERE attribute_leak) AS leak "
        f"FROM pairs WHERE {own.sql()} GROUP BY ALL ORDER BY min(num)"
    )
    partner = Where().with_("partner_persona_id = TRY_CAST(? AS partner_persona_id_values)", identifier)
    return {
        "id": identifier,
        "row": row,
        "profile": row.get("profile") or "",
        "attributes": attributes,
        "known": sum(entry["value"] is not None for entry in attributes),
        "extras": [(label(name), values) for name, values in (row.get("extras") or {}).items() if values],
        "pairs": tables.ask_once(query, own.parameters),
        "as_partner": tables.count("pairs", partner),
        "topics": value_counts(tables, "pairs", "topic", own)[:12],
        "neighbours": ids_beside(tables, "personas", "persona_id", row["num"]),
    }


def _facet_link(name: str, value: Any) -> str | None:
    if value is None or name in (
        "big_five_scores",
        "detailed_job_description",
        "defining_quirks",
        "mannerisms",
        "personal_time",
    ):
        return None
    if name in filters.BANDS:
        bands = filters.BANDS[name]
        return next(
            filters.band_text(a, b) for a, b in bands if (a is None or value >= a) and (b is None or value <= b)
        )
    return str(value) if len(str(value)) <= filters.LONGEST_VALUE else None


def _cell(name: str, value: Any) -> str:
    if value is None:
        return ""
    try:
        return shown(name, value)
    except (KeyError, TypeError, ValueError):  # a table that somebody else wrote
        return str(value)
