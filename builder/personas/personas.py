"""The persona stage: census records -> the table of personas."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from builder.census.codebook import codebook_for, null_unknown_codes
from builder.census.draw import ADULT_AGE, draw_records
from builder.census.pums import CensusRecords, read_packaged, read_pums
from builder.personas.attributes import Attributes
from builder.personas.demographics import Record, describe_demographics, facts_about
from builder.personas.enrichment import enrich
from builder.personas.imputation import impute_origin
from builder.personas.profile import fit_profiles, profile_lines
from builder.personas.psychographics import describe_psychographics
from builder.personas.work import describe_work_in_words
from builder.randomness import rng_for
from builder.recipe import BuildRecipe, CensusRecipe, seen_count
from builder.schema import ATTRIBUTES, persona_id


@dataclass
class PersonaTable:
    """rows: columns of schema.features("personas"), in order of persona id.

    counts: {"in": records read, "out": personas, "dropped": {reason: records}}; in = out + dropped.
    details: source, sha256, survey_year, imputed columns, unknown codes, profile attributes left out, null rates.
    ledger: {"stage", "item", "reason", "detail"} for every persona that the enricher failed on.
    """

    rows: list[dict[str, Any]]
    counts: dict[str, Any]
    details: dict[str, Any]
    ledger: list[dict[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class KnownRecords:
    """Census records in which every code has words; `unknown_codes`: {column: {code: rows}} of those that were nulled."""

    records: CensusRecords
    unknown_codes: dict[str, dict[int, int]]


def build_personas(
    recipe: BuildRecipe,
    calls: Any,
    count_tokens: Callable[[list[str]], list[int]],
    known: KnownRecords | None = None,
) -> PersonaTable:
    """Draw `recipe.personas.count` records by weight and make a persona of each. `known` is read here unless it was read before.

    calls: the language models (`generate(role, requests, label)`); used with enrichment `lm` only. count_tokens: texts -> numbers of
    tokens, by the tokenizer that will read the profiles. Raises InputError for a census file that cannot be used.
    """
    known = known or read_records(recipe.census)
    records = known.records
    drawn, left_out = draw_records(records, recipe.personas.count, recipe.seed, recipe.census.adults_only)
    people: list[Record] = drawn.to_pylist()

    labels = codebook_for(records.survey_year)
    personas: dict[str, Attributes] = {}
    extras: dict[str, dict[str, list[str]]] = {}
    for number, record in enumerate(people):
        identity = persona_id(number)
        attributes = describe_demographics(record, labels, records.imputed, recipe.personas.round_income)
        complete_origin(attributes, record, recipe.seed, identity)
        describe_work_in_words(attributes, record)
        facts = facts_about(record, veteran=attributes.values["veteran_status"] == "Veteran")
        extras[identity] = describe_psychographics(attributes, record, facts, recipe.seed, identity)
        personas[identity] = attributes

    ledger = enrich(personas, calls, recipe.seed) if recipe.personas.enrichment == "lm" else []
    lines = [profile_lines(a.values, recipe.personas.profile_attributes) for a in personas.values()]
    profiles, omitted = fit_profiles(lines, recipe.personas.profile_max_tokens, count_tokens)
    groups = assign_groups([record["SERIALNO"] for record in people], seen_count(recipe.personas), recipe.seed)
    rows = [
        {
            "persona_id": identity,
            "group": group,
            "is_adult": record["AGEP"] >= ADULT_AGE,
            "weight": record["PWGTP"],
            "profile": profile,
            **attributes.values,
            "extras": extras[identity],
            "null_reasons": attributes.reasons,
            "provenance": attributes.provenance,
        }
        for (identity, attributes), record, profile, group in zip(
            personas.items(), people, profiles, groups, strict=True
        )
    ]
    dropped = {reason: n for reason, n in {**records.dropped, **left_out}.items() if n}
    return PersonaTable(
        rows=rows,
        counts={"in": len(rows) + sum(dropped.values()), "out": len(rows), "dropped": dropped},
        details={
            "source": records.source,
            "sha256": records.sha256,
            "survey_year": records.survey_year,
            "imputed_in_source": list(records.imputed),
            "unknown_codes": known.unknown_codes,
            "profile_attributes_left_out": {
                "personas": sum(n > 0 for n in omitted),
                "attributes": sum(omitted),
                "most": max(omitted, default=0),
            },
            "null_rates": null_rates(personas.values()),
        },
        ledger=ledger,
    )


def read_records(census: CensusRecipe) -> KnownRecords:
    """Raises InputError for a file that cannot be used, or holds more than 1 % codes without words in a column."""
    if census.source == "packaged":
        records = read_packaged()
    else:
        records = read_pums(census.source, census.household_source, census.survey_year)
    table, unknown_codes = null_unknown_codes(records.table, records.survey_year)
    return KnownRecords(replace(records, table=table), unknown_codes)


def complete_origin(attributes: Attributes, record: Record, seed: int, identity: str) -> None:
    """Ancestry and birthplace from a donor, where the file does not have the columns. An answer that the file lacks stays missing."""
    if "ANC1P" in record and "POBP" in record:
        return
    origin = impute_origin(record, rng_for(seed, "persona_origin", identity))
    if "ANC1P" not in record and attributes.values["ancestry"] is None:
        attributes.put("ancestry", origin.ancestry, "imputed")
    if "POBP" not in record:
        attributes.put("place_of_birth", origin.place_of_birth, "imputed")


def assign_groups(households: Sequence[str], seen: int, seed: int) -> list[str]:
    """`seen` for exactly `seen` personas, else `unseen`: a seeded permutation that looks at nothing but who lives together.

    households: SERIALNO of each persona. Members of a household go to one group, so that nobody in `unseen` has a relative in `seen`;
    only where the number cannot be met otherwise is one household divided.
    """
    members: dict[str, list[int]] = {}
    for index, household in enumerate(households):
        members.setdefault(household, []).append(index)
    order = rng_for(seed, "persona_groups", "permutation").permutation(len(members))
    units = list(members.values())
    groups = ["unseen"] * len(households)
    places = seen
    passed_over: list[int] = []
    for number in order:
        unit = units[int(number)]
        if len(unit) <= places:
            for index in unit:
                groups[index] = "seen"
            places -= len(unit)
        else:
            passed_over += unit
    for index in passed_over[:places]:
        groups[index] = "seen"
    return groups


def null_rates(personas: Any) -> dict[str, dict[str, float]]:
    """Attribute -> reason -> share of the personas, for attributes that are ever null."""
    everyone = list(personas)
    rates = {}
    for attribute in ATTRIBUTES:
        reasons = Counter(attributes.reasons[attribute] for attributes in everyone)
        rates[attribute] = {
            reason: count / len(everyone) for reason, count in sorted(reasons.items(), key=str) if reason is not None
        }
    return {attribute: by_reason for attribute, by_reason in rates.items() if by_reason}
