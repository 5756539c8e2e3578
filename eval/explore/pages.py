"""What each page shows, as plain values for its template."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from builder.personas.profile import label, shown
from builder.schema import ATTRIBUTES, BIG_FIVE, GROUPS, JUDGE_VERDICTS, PAIR_CONFIGS
from eval.explore import filters
from eval.explore.database import Row, Tables
from eval.explore.filters import Asked, BadRequest, Where
from eval.explore.search import PAGE, Found, find_pairs, neighbours
from eval.explore.word_diff import word_difference

EXCERPT = 170  # characters
ANSWERS = 10  # a page of a question's answers, whole
FACET_VALUES = 60  # values of an attribute that are offered

CONFIG_WORDS = {
    "dpf": "The base answer against its revision for this persona.",
    "dpf_matched": "As dpf, with both answers of about one length.",
    "contrast": "One persona's revision against another persona's, every pair with its mirror.",
    "personas": "Who is asking: 33 attributes and the profile that models are shown.",
    "prompts": "The questions, with topic and votes on whether people disagree about them.",
    "judgements": "Every verdict of every judge: one pair, one condition, one order of the answers.",
}
SPLIT_WORDS = {
    "train": "seen personas, training questions",
    "seen_test": "questions that others trained on, never this persona",
    "heldout_test": "questions that nobody trained on",
    "support": "unseen personas, training questions: for few-shot use only",
}
SIDES = {
    "dpf": ("the revision for this persona", "the base answer, written for nobody in particular"),
    "dpf_matched": ("the revision for this persona", "the base answer, rewritten to about the same length"),
    "contrast": ("this persona's revision", "the partner's revision of the same answer"),
}
PROVENANCE_WORDS = {
    "census": "census record",
    "imputed": "from a donor record",
    "sampled": "drawn from a published distribution",
    "lm": "written by a language model",
    "repaired": "drawn again, so that it fits the rest",
    "imported": "imported",
}
NULL_WORDS = {
    "missing": "the source does not say",
    "not_applicable": "does not apply to this person",
    "none": "applies, and the answer is none",
}
CONDITION_WORDS = {"true": "its persona", "none": "no persona", "wrong": "a wrong persona", "partner": "the partner"}
FLAG_WORDS = {
    "flip": ("Judge changes sides", "The judge prefers each persona's own revision under that persona"),
    "length": ("Length violation", "chosen has at least as many tokens as rejected"),
    "leak": ("Attribute leak", "chosen states one of the persona's attribute values outright"),
    "adult": ("Adult", "The persona is 18 or older"),
}
LIST_COLUMNS = ("age", "sex", "race", "education", "occupation_category", "political_views", "religion")


EVERYTHING = Where()


class NotFound(Exception):  # noqa: N818 - shown as a page
    """No such persona, question, pair or result."""


# ---- home


def home(tables: Tables) -> dict[str, Any]:
    published = tables.published
    configs = []
    for config, splits in published.files.items():
        counts = _split_counts(tables, config) if config in PAIR_CONFIGS else {"all": _rows_of(tables, config)}
        configs.append(
            {
                "name": config,
                "words": CONFIG_WORDS[config],
                "rows": sum(counts.values()),
                "splits": [(split, counts.get(split, 0), SPLIT_WORDS.get(split, "")) for split in splits]
                if config in PAIR_CONFIGS
                else [],
            }
        )
    build = published.build
    judge = build.get("judge")
    facts = [
        ("Version", published.version),
        ("Licence", build.get("licence")),
        ("Judge", judge.get("label") if isinstance(judge, dict) else None),
        ("Fingerprint of the build", str(build.get("fingerprint") or "")[:12]),
        ("Hash of the data", str(build.get("content_sha256") or "")[:12]),
    ]
    return {
        "configs": configs,
        "facts": [(name, str(value)) for name, value in facts if value],
        "numbers": _numbers_of_configs(tables),
        "personas": _rows_of(tables, "personas"),
        "prompts": _rows_of(tables, "prompts"),
        "groups": _by(tables, "personas", '"group"') if tables.attributes else [],
        "default": next((c["name"] for c in configs if c["name"] in PAIR_CONFIGS), "dpf"),
        "hub": published.source.removeprefix("hub:").partition("@")[0] if published.source.startswith("hub:") else None,
        "revision": published.source.partition("@")[2],
    }


def _split_counts(tables: Tables, config: str) -> dict[str, int]:
    counts: dict[str, int] = {}
    for part in tables.parts:
        if part.config == config:
            counts[part.split] = counts.get(part.split, 0) + part.rows
    return counts


def _rows_of(tables: Tables, config: str) -> int:
    if config == "judgements":
        query = "SELECT count(*) AS n FROM read_parquet(?)"
        return int(tables.keep(query, lambda: tables.ask(query, [tables.judgements])[0]["n"]))
    return tables.count(config, EVERYTHING)


def _numbers_of_configs(tables: Tables) -> list[Row]:
    """One row a config: shares in %, None where nothing is known."""
    share = "100.0 * avg(({0})::INTEGER)"
    query = (
        "SELECT config::VARCHAR AS config, count(*) AS rows, count(DISTINCT persona_id) AS personas, "
        "count(DISTINCT prompt_id) AS prompts, "
        # Where the judge gave no verdict, it prefers neither.
        f"{share.format(_is_verdict('chosen'))} FILTER (WHERE NOT {_is_verdict('unscored')}) AS chosen, "
        f"{share.format('length_violation')} AS length, "
        f"{share.format('attribute_leak')} AS leak, {share.format('flip')} AS flip, "
        "avg(chosen_tokens) AS chosen_tokens, avg(rejected_tokens) AS rejected_tokens FROM pairs GROUP BY ALL ORDER BY min(num)"
    )
    return tables.ask_once(query)


def _is_verdict(verdict: str) -> str:
    return f"judge_verdict::VARCHAR = '{verdict}'"


def _by(tables: Tables, table: str, column: str, where: Where = EVERYTHING) -> list[Row]:
    """Values of a column with how often each occurs, most frequent first."""
    query = f"SELECT {column}::VARCHAR AS value, count(*) AS n FROM {table} WHERE {where.sql()} GROUP BY ALL ORDER BY n DESC, value"
    return [row for row in tables.ask_once(query, where.parameters) if row["value"] is not None]


# ---- personas


def personas(tables: Tables, asked: Asked) -> dict[str, Any]:
    _needs_config(tables, "personas")
    where = filters.personas_where(asked)
    after, before = filters.place_in(asked)
    columns = ", ".join(["num", "persona_id", '"group"', "is_adult", *LIST_COLUMNS])
    rows, earlier, later = _page_of(tables, "personas", columns, where, after, before)
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
        found = [(row["value"], row["n"]) for row in _by(tables, "personas", column, where)[:FACET_VALUES]]
    nothing = tables.count("personas", where.with_(f"{column} IS NULL"))
    found += [(filters.NOT_GIVEN, nothing)] if nothing else []
    return [
        {"value": value, "label": value_label(name, value), "n": n, "chosen": asked[name] == value}
        for value, n in found
        if n
    ]


def persona(tables: Tables, identifier: str) -> dict[str, Any]:
    _needs_config(tables, "personas")
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
        f"count(*) FILTER (WHERE {_is_verdict('chosen')}) AS chosen, "
        f"count(judge_verdict) FILTER (WHERE NOT {_is_verdict('unscored')}) AS judged, "
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
        "topics": _by(tables, "pairs", "topic", own)[:12],
        "neighbours": _ids_beside(tables, "personas", "persona_id", row["num"]),
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


# ---- questions


def prompts(tables: Tables, asked: Asked) -> dict[str, Any]:
    _needs_config(tables, "prompts")
    where = filters.prompts_where(asked)
    after, before = filters.place_in(asked)
    rows, earlier, later = _page_of(tables, "prompts", "*", where, after, before)
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
        "topics": _by(tables, "prompts", "topic"),
        "pools": _by(tables, "prompts", "pool"),
        "voted": bool(tables.count("prompts", Where().with_("controversy_score IS NOT NULL"))),
    }


def votes_text(row: Row) -> str:
    votes = [vote for vote in row.get("controversy_votes") or [] if vote is not None]
    if votes:
        return f"{sum(votes)} of {len(votes)}"
    score = row.get("controversy_score")
    return "" if score is None else f"{score:.2f}"


def prompt(tables: Tables, asked: Asked) -> dict[str, Any]:
    _needs_config(tables, "prompts")
    identifier = asked["id"]
    found = tables.ask("SELECT * FROM prompts WHERE prompt_id = ?", [identifier])
    if not found:
        raise NotFound(f"There is no question {identifier[:60]} in this dataset.")
    after, before = filters.place_in(asked)
    configs = [c for c in PAIR_CONFIGS if c in tables.published.files]
    config = asked["config"] or next(iter(configs), "dpf")
    where = filters.pairs_where(Asked({"prompt": identifier, "config": config}))
    rows, earlier, later = _page_of(tables, "pairs", "*", where, after, before, ANSWERS)
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
        "neighbours": _ids_beside(tables, "prompts", "prompt_id", found[0]["num"]),
    }


# ---- pairs


def pairs(tables: Tables, asked: Asked) -> dict[str, Any]:
    _refuse_unknown_values(tables, asked)
    after, before = filters.place_in(asked)
    found = find_pairs(tables, asked, after, before)
    rows = tables.light_rows(found.numbers)
    add_questions(tables, rows)
    _add_excerpts(tables, rows, asked)
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
        known = [row["value"] for row in _by(tables, "pairs", filters.PAIR_VALUES[name])]
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
        options[name] = _by(tables, "pairs", filters.PAIR_VALUES[name], where)
        if asked[name] and asked[name] not in [row["value"] for row in options[name]]:
            options[name].append({"value": asked[name], "n": 0})
    options["topic"] = sorted(options["topic"], key=lambda row: row["value"])
    return options


def add_questions(tables: Tables, rows: Sequence[Row]) -> None:
    """The question of each row, as `question`."""
    if not rows:
        return
    if tables.prompt_columns:
        ids = list({row["prompt_id"] for row in rows})
        query = f"SELECT prompt_id, question FROM prompts WHERE prompt_id IN ({', '.join('?' * len(ids))})"
        asked = {row["prompt_id"]: row["question"] for row in tables.ask(query, ids)}
    else:
        asked = {}
    missing = [row["num"] for row in rows if row["prompt_id"] not in asked]
    texts = tables.texts(missing, ["question"]) if missing else {}
    for row in rows:
        row["question"] = asked.get(row["prompt_id"]) or texts.get(row["num"], {}).get("question") or "(no question)"


def _add_excerpts(tables: Tables, rows: Sequence[Row], asked: Asked) -> None:
    """The beginning of the chosen answer; in a search the place that was found, and in which text."""
    names = ["chosen"] if not asked["q"] else ["chosen", "rejected", "critique"]
    texts = tables.texts([row["num"] for row in rows], names)
    for row in rows:
        own = texts.get(row["num"], {})
        row["excerpts"] = []
        for name in names if asked["q"] and asked["in"] in ("", "any") else [asked["in"]] if asked["q"] else []:
            text = own.get(name) or ""
            hit = hit_in(text, asked["q"])
            if hit is not None:
                row["excerpts"].append((name, around(text, *hit)))
        if not row["excerpts"]:
            row["excerpts"] = [("chosen", (shortened(own.get("chosen") or ""), "", ""))]
        row["marked_question"] = None
        hit = hit_in(row["question"], asked["q"]) if asked["in"] in ("", "any", "question") else None
        if hit is not None:
            question = row["question"]
            row["marked_question"] = (question[: hit[0]], question[hit[0] : hit[1]], question[hit[1] :])


def hit_in(text: str, sought: str) -> tuple[int, int] | None:
    """Where the words stand, whatever their case, from and to. In the text itself: a text in small letters may be of another length."""
    found = re.search(re.escape(sought), text, re.IGNORECASE) if sought else None
    return None if found is None else found.span()


def around(text: str, place: int, stop: int) -> tuple[str, str, str]:
    """(before, the hit from `place` to `stop`, behind), as long as an excerpt."""
    room = max(20, EXCERPT - (stop - place))
    start = max(0, place - room // 3)
    end = min(len(text), stop + room)
    before, behind = text[start:place], text[stop:end]
    if start:
        before = "… " + before.partition(" ")[2]
    if end < len(text):
        behind = behind.rpartition(" ")[0] + " …"
    return before, text[place:stop], behind


def shortened(text: str) -> str:
    return text if len(text) <= EXCERPT else text[:EXCERPT].rsplit(" ", 1)[0] + " …"


def pair(tables: Tables, asked: Asked) -> dict[str, Any]:
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


# ---- search over everything


def search(tables: Tables, text: str) -> dict[str, Any] | str:
    """An address to go to where the text is an id, else what was found."""
    if tables.number_of(text) is not None:
        return Asked({"id": text}).address("pair")
    for config, page in (("personas", "persona"), ("prompts", "prompt")):
        key = f"{page}_id"
        if tables.ask(f"SELECT 1 FROM {config} WHERE {key} = ?", [text]):
            return Asked({"id": text}).address(page)
    asked = Asked({"q": text})
    people = filters.personas_where(asked) if tables.attributes else Where(("false",))
    questions = filters.prompts_where(asked) if tables.prompt_columns else Where(("false",))
    columns = "persona_id, profile" if tables.attributes else "persona_id"
    found = tables.ask(f"SELECT {columns} FROM personas WHERE {people.sql()} ORDER BY num LIMIT 5", people.parameters)
    for row in found:
        profile = row["profile"] or ""
        row["excerpt"] = around(profile, *(hit_in(profile, text) or (0, 0)))
    pairs_found = find_pairs(tables, asked)
    rows = tables.light_rows(pairs_found.numbers[:8])
    add_questions(tables, rows)
    _add_excerpts(tables, rows, asked)
    return {
        "text": text,
        "asked": asked,
        "personas": found,
        "persona_count": tables.count("personas", people),
        "prompts": tables.ask(
            f"SELECT * FROM prompts WHERE {questions.sql()} ORDER BY num LIMIT 5", questions.parameters
        ),
        "prompt_count": tables.count("prompts", questions),
        "pairs": rows,
        "pair_count": pairs_found.count,
        "finished": pairs_found.stopped_at is None,
    }


# ---- common


def _page_of(
    tables: Tables, table: str, columns: str, where: Where, after: int | None, before: int | None, size: int = PAGE
) -> tuple[list[Row], bool, bool]:
    """(rows, whether there are earlier ones, whether there are later ones)"""
    if before is not None:
        inside = where.with_("num < ?", before)
        rows = tables.ask(
            f"SELECT {columns} FROM {table} WHERE {inside.sql()} ORDER BY num DESC LIMIT {size + 1}", inside.parameters
        )
        return rows[:size][::-1], len(rows) > size, True
    inside = where.with_("num > ?", -1 if after is None else after)
    rows = tables.ask(
        f"SELECT {columns} FROM {table} WHERE {inside.sql()} ORDER BY num LIMIT {size + 1}", inside.parameters
    )
    return rows[:size], after is not None, len(rows) > size


def _needs_config(tables: Tables, config: str) -> None:
    if config not in tables.published.files:
        raise NotFound(f"This dataset has no config {config}: its card lists {', '.join(tables.published.files)}.")


def _pairs_of(tables: Tables, column: str, values: Sequence[str]) -> dict[str, int]:
    if not values:
        return {}
    wanted = ", ".join([f"TRY_CAST(? AS {column}_values)"] * len(values))
    query = f"SELECT {column}::VARCHAR AS value, count(*) AS n FROM pairs WHERE {column} IN ({wanted}) GROUP BY ALL"
    return {row["value"]: row["n"] for row in tables.ask_once(query, tuple(values))}


def _ids_beside(tables: Tables, table: str, key: str, number: int) -> tuple[str | None, str | None]:
    rows = tables.ask(f"SELECT num, {key} AS id FROM {table} WHERE num IN (?, ?)", [number - 1, number + 1])
    found = {row["num"]: row["id"] for row in rows}
    return found.get(number - 1), found.get(number + 1)
