"""Finished personas from a file instead of the census: plain ones with a profile or attributes, or Nemotron-Personas.

The file's rows are drawn by weight as census records are; nothing is sampled, written by a model or checked for consistency.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from builder.census.draw import ADULT_AGE
from builder.errors import InputError
from builder.imports import nemotron
from builder.imports.clusters import cluster_imported
from builder.imports.persona_text import (
    Parsed,
    attribute_named,
    imported_row,
    is_adult,
    parse_attributes,
    parse_persona,
)
from builder.imports.reading import Source, column_names, open_source, read_rows
from builder.personas.groups import assign_groups, describe_clusters
from builder.personas.personas import PersonaTable, null_rates, provenance_shares
from builder.personas.profile import fit_profiles, profile_lines
from builder.prompts.rows import text_of
from builder.randomness import rng_for
from builder.recipe import BuildRecipe, seen_count
from builder.schema import GROUPS, NULL_REASONS, persona_id

LAYOUTS = (
    'Each row needs "profile" (the persona as text) or attributes by their names ("age", "marital_status" or "marital status", ...), at '
    'the top or under "attributes"; "id", "group" (seen, unseen) and "weight" are optional. Nemotron-Personas is read as it is.'
)
OWN_COLUMNS = (
    "profile",
    "attributes",
    "id",
    "persona_id",
    "group",
    "weight",
    "extras",
    "null_reasons",
    "provenance",
    "is_adult",
)
EXTRAS = ("core_values", "entertainment_preferences")
# A profile that is written as lines `key: value` gives its attributes too; below so many known keys it is running text with colons.
FEWEST_KEYS = 3
MOST_PEOPLE = 1e15  # that a weight can stand for; the table's column holds whole numbers below 2 ** 63
SHOWN = 5


@dataclass(frozen=True)
class FilePersona:
    """One usable row. `profile`: its text as it is, or None where it is to be written from the attributes."""

    row: int
    source_id: str | None
    profile: str | None
    parsed: Parsed
    extras: dict[str, list[str]]
    weight: float
    group: str | None


@dataclass(frozen=True)
class DrawnPersonas:
    """`personas`: in the order of the draw. `dropped`: rows by reason, those that were not drawn among them."""

    source: Source
    licence: str | None
    personas: list[FilePersona]
    rows: int
    dropped: dict[str, int]
    ledger: list[dict[str, str]]


def read_persona_file(
    recipe: BuildRecipe, count_tokens: Callable[[list[str]], list[int]], drawn: DrawnPersonas | None = None
) -> PersonaTable:
    """The persona table of `recipe.personas.count` rows drawn from `recipe.personas.source`, a file or a dataset of the Hub.

    `drawn` is read here unless it was read before. count_tokens: texts -> tokens, by the tokenizer that will read the profiles. A profile
    that the file gives is used as it is; one that is written from attributes leaves out what has no room, as for census personas.
    Personas are numbered in the order of the draw, so a larger count extends a smaller one. Raises InputError for a file that cannot be
    used, that holds too few usable rows, or whose profiles are longer than personas.profile_max_tokens.
    """
    drawn = drawn or draw_personas(recipe)
    profiles, left_out = write_profiles(recipe, drawn, count_tokens)
    rows = [
        imported_row(persona_id(n), profile, persona.parsed.attributes, max(1, round(persona.weight)), persona.extras)
        for n, (persona, profile) in enumerate(zip(drawn.personas, profiles, strict=True))
    ]
    clusters = cluster_imported(rows)
    given = given_groups(recipe, drawn)
    groups = given or assign_groups(clusters, seen_count(recipe.personas), recipe.seed)
    for row, group in zip(rows, groups, strict=True):
        row["group"] = group
    unknown = Counter(key for persona in drawn.personas for key in set(persona.parsed.unknown))
    unreadable = Counter(key for persona in drawn.personas for key in persona.parsed.unreadable)
    return PersonaTable(
        rows=rows,
        records=pa.table(
            {
                "persona_id": pa.array([row["persona_id"] for row in rows], pa.string()),
                "position": pa.array(range(len(rows)), pa.int64()),
                "source_row": pa.array([persona.row for persona in drawn.personas], pa.int64()),
                "source_id": pa.array([persona.source_id for persona in drawn.personas], pa.string()),
            }
        ),
        counts={"in": drawn.rows, "out": len(rows), "dropped": drawn.dropped},
        details={
            "source": drawn.source.name,
            "sha256": drawn.source.sha256,
            "licence": drawn.licence,
            "survey_year": None,
            "groups": "as the file gives them" if given else "by seed",
            "clusters": describe_clusters(clusters, groups, [row["persona_id"] for row in rows]),
            "profile_attributes_left_out": {
                "personas": sum(n > 0 for n in left_out),
                "attributes": sum(left_out),
                "most": max(left_out, default=0),
            },
            "unknown_keys": dict(sorted(unknown.items())),
            "unreadable_values": dict(sorted(unreadable.items())),
            "null_rates": null_rates(rows),
            "provenance": provenance_shares(rows),
        },
        ledger=drawn.ledger,
    )


def hash_persona_source(source: str) -> str:
    """The SHA-256 of a file's content, or `hub:org/name@COMMIT`, whose tables come into the Hub's cache for it. Raises InputError."""
    opened = open_source(source)
    return opened.name if source.startswith("hub:") else opened.sha256


def draw_personas(recipe: BuildRecipe) -> DrawnPersonas:
    """Read the file twice: once to see which rows can be used, once for those that are drawn. Raises InputError.

    With `census.adults_only` rows whose age is known to be under 18 are left out, as they are of a census file.
    """
    source, count = open_source(recipe.personas.source), recipe.personas.count
    known = nemotron.is_nemotron(column_names(source))
    read = from_nemotron if known else from_plain
    columns = nemotron.COLUMNS if known else None

    weights: list[float] = []  # 0: cannot be used
    ledger: list[dict[str, str]] = []
    dropped: Counter[str] = Counter()
    ids: set[str] = set()
    for number, value in read_rows(source, columns):
        persona, problem = read(number, value)
        if persona is not None and persona.source_id is not None:
            if persona.source_id in ids:
                problem = ("duplicate_id", persona.source_id)
            ids.add(persona.source_id)
        if (
            problem is None
            and persona is not None
            and recipe.census.adults_only
            and is_adult(persona.parsed.attributes) is False
        ):
            dropped[f"under {ADULT_AGE}"] += 1
            weights.append(0.0)
            continue
        if problem is not None or persona is None:
            reason, detail = problem or ("unreadable", "")
            ledger.append({"stage": "personas", "item": f"row {number}", "reason": reason, "detail": detail})
            dropped[reason] += 1
            weights.append(0.0)
            continue
        weights.append(persona.weight)
    order = draw_rows(np.array(weights), recipe.seed)
    if len(order) < count:
        went = ", ".join(f"{reason} {n}" for reason, n in sorted(dropped.items())) or "none turned away"
        raise InputError(
            f"{source.name} has {len(order)} usable personas of {len(weights)} rows ({went}), but personas.count is {count}. Give a larger "
            f"file or lower personas.count. {LAYOUTS}"
        )
    place = {int(row) + 1: position for position, row in enumerate(order[:count])}
    chosen: list[FilePersona | None] = [None] * count
    for number, value in read_rows(source, columns):
        if number in place:
            chosen[place[number]] = read(number, value)[0]
    if len(order) > count:
        dropped["not drawn"] = len(order) - count
    personas = [persona for persona in chosen if persona is not None]
    licence = nemotron.LICENCE if known else None
    return DrawnPersonas(source, licence, personas, len(weights), dict(sorted(dropped.items())), ledger)


def draw_rows(weights: np.ndarray, seed: int) -> np.ndarray:
    """Numbers (from 0 on) of the rows with a weight above 0 in the order in which they are drawn: without replacement, by weight.

    As in census.draw: key log(u) / weight, the largest first, and a row's u depends on the seed and its place in the file only.
    """
    uniforms = 1.0 - rng_for(seed, "persona_file", "rows").random(len(weights))
    rows = np.flatnonzero(weights > 0)
    keys = np.log(uniforms[rows]) / weights[rows]
    return rows[np.argsort(-keys, kind="stable")]


def from_nemotron(number: int, value: Any) -> tuple[FilePersona | None, tuple[str, str] | None]:
    """(persona, None), or (None, (reason, detail))."""
    if not isinstance(value, dict):
        return None, ("unreadable", "no object with columns")
    if None in value:
        return None, ("unreadable", "more cells than columns")
    parsed = nemotron.attributes_of(value)
    if all(known is None for known in parsed.attributes.values.values()):
        return None, ("empty_persona", "none of the columns that are read has a value")
    return FilePersona(number, text_of(value.get("uuid")), None, parsed, no_extras(), 1.0, None), None


def from_plain(number: int, value: Any) -> tuple[FilePersona | None, tuple[str, str] | None]:
    """(persona, None), or (None or the persona, (reason, detail)) for a row that cannot be used."""
    if not isinstance(value, dict):
        return None, ("unreadable", "no JSON object")
    if None in value:
        return None, ("unreadable", "more cells than columns")
    profile = text_of(value.get("profile"))
    nested = value.get("attributes")
    pairs = list(nested.items()) if isinstance(nested, dict) else []
    pairs += [(key, item) for key, item in value.items() if key not in OWN_COLUMNS]
    parsed = parse_attributes(pairs)
    if profile is not None and not parsed.known:
        written = parse_persona(profile)
        if len(written.known) >= FEWEST_KEYS:
            parsed = written
    reasons = value.get("null_reasons")
    for key, reason in reasons.items() if isinstance(reasons, dict) else ():
        attribute = attribute_named(key)
        if attribute is not None and reason in NULL_REASONS and parsed.attributes.values[attribute] is None:
            parsed.attributes.leave_out(attribute, reason)
    if profile is None and all(known is None for known in parsed.attributes.values.values()):
        return None, ("empty_persona", "neither a profile nor an attribute with a value")
    weight = value.get("weight")
    number_of_people = 1.0 if weight is None else as_weight(weight)
    if number_of_people is None:
        return None, ("unusable_weight", f"{weight!r:.40}; a weight is a number above 0, at most 1e15")
    group = value.get("group") or None
    if group is not None and group not in GROUPS:
        return None, ("unknown_group", f"{group!r:.40}; a group is {' or '.join(GROUPS)}")
    own = value.get("id", value.get("persona_id"))
    source_id = str(own) if isinstance(own, int) else text_of(own)
    return FilePersona(
        number, source_id, profile, parsed, extras_of(value.get("extras")), number_of_people, group
    ), None


def as_weight(value: Any) -> float | None:
    try:
        weight = float(value)
    except (TypeError, ValueError, OverflowError):  # OverflowError: a whole number of hundreds of digits
        return None
    return weight if not isinstance(value, bool) and 0 < weight <= MOST_PEOPLE else None


def no_extras() -> dict[str, list[str]]:
    return {name: [] for name in EXTRAS}


def extras_of(value: Any) -> dict[str, list[str]]:
    """Core values and entertainment preferences, where they are lists of texts."""
    given = value if isinstance(value, dict) else {}
    lists = {name: given[name] if isinstance(given.get(name), list) else [] for name in EXTRAS}
    return {name: [text for item in items if (text := text_of(item))] for name, items in lists.items()}


def given_groups(recipe: BuildRecipe, drawn: DrawnPersonas) -> list[str] | None:
    """The file's groups, or None where it gives none. Raises InputError where some rows have one and others not, or the recipe differs."""
    groups = [persona.group for persona in drawn.personas if persona.group is not None]
    if not groups:
        return None
    if len(groups) < len(drawn.personas):
        raise InputError(
            f"{drawn.source.name} gives a group to {len(groups)} of the {len(drawn.personas)} personas drawn. Give one to all of them, or "
            "to none, and they are divided by seed."
        )
    seen = groups.count("seen")
    if recipe.personas.seen is not None and recipe.personas.seen != seen:
        raise InputError(
            f"personas.seen is {recipe.personas.seen}, but {drawn.source.name} says `seen` of {seen} of the {len(groups)} personas drawn. "
            "Leave personas.seen out, or remove the groups from the file."
        )
    return groups


def write_profiles(
    recipe: BuildRecipe, drawn: DrawnPersonas, count_tokens: Callable[[list[str]], list[int]]
) -> tuple[list[str], list[int]]:
    """The profile of each persona, and how many of its attributes were left out."""
    settings = recipe.personas
    given = [n for n, persona in enumerate(drawn.personas) if persona.profile is not None]
    texts = [persona.profile or "" for persona in drawn.personas]
    lengths = count_tokens([texts[n] for n in given])
    refuse_too_long(drawn, given, lengths, settings.profile_max_tokens)

    missing = [n for n, persona in enumerate(drawn.personas) if persona.profile is None]
    lines = [
        profile_lines(
            drawn.personas[n].parsed.attributes.values,
            settings.profile_attributes,
            drawn.personas[n].parsed.attributes.reasons if settings.profile_shows_nulls else None,
        )
        for n in missing
    ]
    left_out = [0] * len(texts)
    if missing:
        written, omitted = fit_profiles(lines, settings.profile_max_tokens, count_tokens)
        for n, text, lines_left_out in zip(missing, written, omitted, strict=True):
            texts[n], left_out[n] = text, lines_left_out
    return texts, left_out


def refuse_too_long(drawn: DrawnPersonas, given: Sequence[int], lengths: Sequence[int], most: int) -> None:
    too_long = sorted(((length, n) for n, length in zip(given, lengths, strict=True) if length > most), reverse=True)
    if too_long:
        shown = ", ".join(f"row {drawn.personas[n].row}: {length}" for length, n in too_long[:SHOWN])
        raise InputError(
            f"{len(too_long)} of {len(given)} profiles in {drawn.source.name} have more tokens than personas.profile_max_tokens, which is "
            f"{most} ({shown}{', ...' if len(too_long) > SHOWN else ''}). A given profile is never cut: raise it to at least "
            f"{too_long[0][0]}, or shorten the profiles."
        )
