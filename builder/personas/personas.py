"""The persona stage: census records -> the table of personas.

Records come in the order of the weighted draw, are described in words and completed, checked, enriched and checked again; whoever is turned
away is replaced by the next record of the draw, so that a larger build extends a smaller one.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa

from builder.census.codebook import codebook_for, null_unknown_codes, packaged_years
from builder.census.draw import ADULT_AGE, draw_order, refuse_too_few
from builder.census.pums import CensusRecords, adjinc_factors, read_packaged, read_pums
from builder.errors import InputError
from builder.personas.candidate import Candidate, make_candidate
from builder.personas.consistency import add_logs, check_after_enrichment, check_after_sampling
from builder.personas.enrichment import WRITTEN, enrich
from builder.personas.groups import Neighbours, assign_groups, describe_clusters, find_clusters
from builder.personas.profile import fit_profiles, profile_lines
from builder.recipe import BuildRecipe, CensusRecipe, seen_count
from builder.schema import ATTRIBUTES, persona_id

# Candidates that are in memory with everything known about them. Also the most that a language model is asked about at once.
ROUND = 8192


@dataclass
class PersonaTable:
    """rows: columns of schema.features("personas"), in order of persona id.

    records: one row a persona, the same order: persona_id, position in the draw, the census codes of the record (SERIALNO and PUMA
        among them), and `unwritten_<attribute>`, the text of the rule or the lists where a language model's stands now. It stays in the
        build and is never published.
    counts: {"in": records read, "out": personas, "dropped": {reason: records}}; in = out + dropped.
    details: source, sha256, survey_year, income, imputed columns, unknown codes, consistency, clusters, profile attributes left out, null
        rates, provenance.
    ledger: {"stage", "item", "reason", "detail"} for every candidate that was mended or turned away, or that a model failed on.
    """

    rows: list[dict[str, Any]]
    records: pa.Table
    counts: dict[str, Any]
    details: dict[str, Any]
    ledger: list[dict[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class KnownRecords:
    """Census records in which every code has words; `unknown_codes`: {column: {code: rows}} of those that were nulled."""

    records: CensusRecords
    unknown_codes: dict[str, dict[int, int]]


@dataclass(frozen=True)
class EarlierPersonas:
    """The personas of a published version, and the place in the draw after the last one that it had looked at."""

    rows: list[dict[str, Any]]
    examined: int


def build_personas(
    recipe: BuildRecipe,
    calls: Any,
    count_tokens: Callable[[list[str]], list[int]],
    known: KnownRecords | None = None,
    earlier: EarlierPersonas | None = None,
) -> PersonaTable:
    """Draw `recipe.personas.count` records by weight and make a persona of each. `known` is read here unless it was read before.

    calls: the language models (`generate(role, requests, label)`); used with enrichment or consistency `lm` only. count_tokens: texts ->
    numbers of tokens, by the tokenizer that will read the profiles. earlier: personas that exist; only those beyond them are made, from
    the rest of the same draw. Raises InputError for a census file that cannot be used.
    """
    known = known or read_records(recipe.census)
    earlier = earlier or EarlierPersonas([], 0)
    records, count = known.records, recipe.personas.count - len(earlier.rows)
    whole_draw = draw_order(records, recipe.seed, recipe.census.adults_only)
    refuse_too_few(records, len(whole_draw), recipe.personas.count, recipe.census.adults_only)
    places = places_left(records, whole_draw, earlier.examined)

    drawn = draw_until_enough(recipe, calls, count_tokens, records, whole_draw, places, count, earlier)
    rows = drawn.rows
    drawn_records = records.table.take(pa.array(whole_draw[np.array(drawn.positions, dtype=int)]))
    # No new persona shares a household with an earlier one (`places_left`), whose own households are not published.
    households = [f"earlier {i}" for i in range(len(earlier.rows))] + drawn_records["SERIALNO"].to_pylist()
    groups, clusters = put_into_groups(rows, earlier, households, recipe)
    dropped = {
        **records.dropped,
        f"under {ADULT_AGE}": records.table.num_rows - len(whole_draw),
        "drawn by the earlier version": earlier.examined,
        "household of an earlier draw": len(whole_draw) - earlier.examined - len(places),
        "not drawn": len(places) - drawn.looked_at,
        "inconsistent after sampling": drawn.consistency.get("after_sampling", {}).get("resampled", 0),
        "inconsistent after enrichment": drawn.consistency.get("after_enrichment", {}).get("dropped", 0),
        "near-clone between the earlier version's groups": drawn.bridges,
    }
    dropped = {reason: n for reason, n in dropped.items() if n}
    return PersonaTable(
        rows=rows,
        records=source_records(rows, drawn.positions, drawn_records, drawn.unwritten),
        counts={"in": len(rows) + sum(dropped.values()), "out": len(rows), "dropped": dropped},
        details={
            "source": records.source,
            "sha256": records.sha256,
            "survey_year": records.survey_year,
            "income": describe_income_unit(records, recipe.personas.round_income),
            "imputed_in_source": list(records.imputed),
            "unknown_codes": known.unknown_codes,
            "examined": int(places[drawn.looked_at - 1]) + 1 if drawn.looked_at else earlier.examined,
            "consistency": drawn.consistency,
            # Those linked to earlier seen personas are seen too, so a recipe with few new places can get more of them than it asks for.
            "seen": {"asked": seen_count(recipe.personas), "out": groups.count("seen")},
            "clusters": describe_clusters(clusters, groups, households),
            "profile_attributes_left_out": {
                "personas": sum(n > 0 for n in drawn.left_out),
                "attributes": sum(drawn.left_out),
                "most": max(drawn.left_out, default=0),
            },
            "null_rates": null_rates(rows),
            "provenance": provenance_shares(rows),
        },
        ledger=name_items(drawn.ledger, drawn.positions, len(earlier.rows)),
    )


@dataclass
class Drawn:
    """What the draw gave until there were enough personas, in the order of the draw.

    rows, positions, unwritten: of the personas that are kept: their published columns but the group, their place in the draw, and the texts
    that a language model's stand for now. left_out: attributes that did not fit into a profile, one number a persona. looked_at: places of
    the draw that were taken. bridges: candidates turned away because they link the earlier version's two groups.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    unwritten: list[dict[str, Any]] = field(default_factory=list)
    ledger: list[dict[str, str]] = field(default_factory=list)
    consistency: dict[str, dict[str, Any]] = field(default_factory=dict)
    left_out: list[int] = field(default_factory=list)
    looked_at: int = 0
    bridges: int = 0


def draw_until_enough(
    recipe: BuildRecipe,
    calls: Any,
    count_tokens: Callable[[list[str]], list[int]],
    records: CensusRecords,
    whole_draw: np.ndarray,
    places: np.ndarray,
    count: int,
    earlier: EarlierPersonas,
) -> Drawn:
    """Round by round as many records as are missing: described, checked, enriched, checked again. Raises InputError when the draw ends."""
    drawn = Drawn()
    neighbours = Neighbours([row["group"] for row in earlier.rows], earlier.rows)
    while len(drawn.rows) < count:
        round_places = places[drawn.looked_at : drawn.looked_at + min(count - len(drawn.rows), ROUND)]
        refuse_exhausted(records, round_places, len(drawn.rows), count, drawn.consistency, drawn.bridges)
        candidates = describe(recipe, records, whole_draw, round_places)
        drawn.looked_at += len(round_places)
        if earlier.rows:
            # Before anything is paid for: whoever links the two groups has no place, and the draw goes on.
            candidates, entries = between_the_groups(candidates, neighbours)
            drawn.ledger += entries
            drawn.bridges += len(entries)
        sampled = check_after_sampling(candidates, recipe, calls)
        drawn.ledger += sampled.ledger
        if recipe.personas.enrichment == "lm":
            drawn.ledger += enrich(sampled.kept, recipe, calls)
        enriched = check_after_enrichment(sampled.kept, recipe, calls)
        drawn.ledger += enriched.ledger
        for name, checked in (("after_sampling", sampled), ("after_enrichment", enriched)):
            before = drawn.consistency.get(name)
            drawn.consistency[name] = checked.log if before is None else add_logs(before, checked.log)
        profiles, left_out = write_profiles(recipe, enriched.kept, count_tokens)
        drawn.left_out += left_out
        for candidate, profile in zip(enriched.kept, profiles, strict=True):
            drawn.rows.append(persona_row(candidate, persona_id(len(earlier.rows) + len(drawn.rows)), profile))
            drawn.positions.append(candidate.position)
            drawn.unwritten.append(candidate.unwritten)
    return drawn


def put_into_groups(
    rows: list[dict[str, Any]], earlier: EarlierPersonas, households: list[str], recipe: BuildRecipe
) -> tuple[list[str], Any]:
    """Give every new row its group; the groups and the clusters of everybody, earlier personas first."""
    everyone = earlier.rows + rows
    linked_to_new = find_clusters(households, everyone, len(earlier.rows))
    old_groups = [row["group"] for row in earlier.rows]
    groups = assign_groups(linked_to_new, seen_count(recipe.personas), recipe.seed, old_groups)
    for row, group in zip(rows, groups[len(earlier.rows) :], strict=True):
        row["group"] = group
    return groups, find_clusters(households, everyone) if earlier.rows else linked_to_new


def name_items(ledger: list[dict[str, str]], positions: list[int], first: int) -> list[dict[str, str]]:
    """The entries with the published persona id in place of the place in the draw; who was turned away has none."""
    published = {persona_id(position): persona_id(first + number) for number, position in enumerate(positions)}
    return [
        entry | {"item": published.get(entry["item"], f"turned away, draw {int(entry['item'][1:])}")}
        for entry in ledger
    ]


def between_the_groups(
    candidates: list[Candidate], neighbours: Neighbours
) -> tuple[list[Candidate], list[dict[str, str]]]:
    """Those who have a place beside the earlier version's personas, and a ledger entry for every other."""
    places = neighbours.let_in([c.record["SERIALNO"] for c in candidates], [c.attributes.values for c in candidates])
    entries = [
        {
            "stage": "personas",
            "item": candidate.key,
            "reason": "near_clone_of_both_groups",
            "detail": "linked to seen and to unseen personas of the earlier version",
        }
        for candidate, has_place in zip(candidates, places, strict=True)
        if not has_place
    ]
    return [candidate for candidate, has_place in zip(candidates, places, strict=True) if has_place], entries


def places_left(records: CensusRecords, whole_draw: np.ndarray, examined: int) -> np.ndarray:
    """The places of the draw after the first `examined`, without people of households that were among those."""
    places = np.arange(examined, len(whole_draw))
    if not examined:
        return places
    households = records.table["SERIALNO"].take(pa.array(whole_draw)).to_pylist()
    known = set(households[:examined])
    return np.array([place for place in places if households[place] not in known], dtype=int)


def describe(
    recipe: BuildRecipe, records: CensusRecords, whole_draw: np.ndarray, places: np.ndarray
) -> list[Candidate]:
    """A candidate from each of these places of the draw."""
    labels = codebook_for(records.survey_year)
    return [
        make_candidate(int(place), record, labels, records.imputed, recipe.personas.round_income, recipe.seed)
        for place, record in zip(places, records.table.take(pa.array(whole_draw[places])).to_pylist(), strict=True)
    ]


def refuse_exhausted(
    records: CensusRecords,
    drawn: np.ndarray,
    found: int,
    count: int,
    consistency: dict[str, dict[str, Any]],
    bridges: int,
) -> None:
    if len(drawn):
        return
    resampled = consistency.get("after_sampling", {}).get("resampled", 0)
    dropped = consistency.get("after_enrichment", {}).get("dropped", 0)
    between = f", {bridges} near-clones of both groups of the earlier version" if bridges else ""
    raise InputError(
        f"All records of {records.source} have been drawn and only {found} of {count} personas are consistent ({resampled} turned away "
        f"after sampling, {dropped} after enrichment{between}). Give a larger PUMS file, lower personas.count, or set "
        "personas.consistency=rules."
    )


def write_profiles(
    recipe: BuildRecipe, candidates: list[Candidate], count_tokens: Callable[[list[str]], list[int]]
) -> tuple[list[str], list[int]]:
    settings = recipe.personas
    lines = [
        profile_lines(
            c.attributes.values,
            settings.profile_attributes,
            c.attributes.reasons if settings.profile_shows_nulls else None,
        )
        for c in candidates
    ]
    return fit_profiles(lines, settings.profile_max_tokens, count_tokens)


def persona_row(candidate: Candidate, identity: str, profile: str) -> dict[str, Any]:
    """Columns of schema.features("personas"); the group is decided when all are known."""
    return {
        "persona_id": identity,
        "group": None,
        "is_adult": candidate.is_adult,
        "weight": candidate.record["PWGTP"],
        "profile": profile,
        **candidate.attributes.values,
        "extras": candidate.extras,
        "null_reasons": candidate.attributes.reasons,
        "provenance": candidate.attributes.provenance,
    }


def source_records(
    rows: list[dict[str, Any]], positions: list[int], drawn: pa.Table, unwritten: list[dict[str, Any]]
) -> pa.Table:
    columns: dict[str, Any] = {
        "persona_id": pa.array([row["persona_id"] for row in rows], pa.string()),
        "position": pa.array(positions, pa.int64()),
    }
    columns |= {name: drawn[name] for name in drawn.column_names}
    columns |= {
        f"unwritten_{name}": pa.array([old.get(name) for old in unwritten], pa.string()) for name in WRITTEN.values()
    }
    return pa.table(columns)


def describe_income_unit(records: CensusRecords, rounded: bool) -> dict[str, Any]:
    return {
        "unit": f"dollars of {records.survey_year} a year",
        "adjinc_applied": {str(factor): n for factor, n in adjinc_factors(records).items()},
        "rounded_to_two_digits": rounded,
    }


def read_records(census: CensusRecipe) -> KnownRecords:
    """Raises InputError for a file that cannot be used, or holds more than 1 % codes without words in a column."""
    if census.source == "packaged":
        records = read_packaged()
    else:
        records = read_pums(census.source, census.household_source, census.survey_year)
    table, unknown_codes = null_unknown_codes(records.table, records.survey_year)
    table = with_adjinc(table, records.survey_year)
    return KnownRecords(replace(records, table=table), unknown_codes)


def with_adjinc(table: pa.Table, survey_year: int) -> pa.Table:
    """The Bureau's factor of the survey year where an extract has lost the column: PINCP alone is not in dollars of one year."""
    factor = packaged_years().get(survey_year, {}).get("adjinc")
    if "ADJINC" in table.column_names or factor is None:
        return table
    return table.append_column("ADJINC", pa.array(np.full(table.num_rows, factor), pa.int32()))


def null_rates(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Attribute -> reason -> share of the personas, for attributes that are ever null."""
    return shares_by_attribute(rows, "null_reasons")


def provenance_shares(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Attribute -> where its values came from -> share of the personas."""
    return shares_by_attribute(rows, "provenance")


def shares_by_attribute(rows: list[dict[str, Any]], column: str) -> dict[str, dict[str, float]]:
    shares = {}
    for attribute in ATTRIBUTES:
        counts = Counter(row[column][attribute] for row in rows)
        shares[attribute] = {value: n / len(rows) for value, n in sorted(counts.items(), key=str) if value is not None}
    return {attribute: by_value for attribute, by_value in shares.items() if by_value}
