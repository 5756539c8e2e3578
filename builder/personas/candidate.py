"""One drawn census record on its way to a persona: described in words and completed by the procedural sources, no language model."""

from dataclasses import dataclass, field
from typing import Any

from builder.census.codebook import Codebook
from builder.census.draw import ADULT_AGE
from builder.personas.attributes import Attributes
from builder.personas.demographics import Record, describe_demographics, facts_about
from builder.personas.imputation import impute_origin
from builder.personas.psychographics import describe_psychographics
from builder.personas.work import describe_work_in_words
from builder.randomness import rng_for
from builder.schema import persona_id


@dataclass
class Candidate:
    """position: place in the weighted draw, counted from 0; what is sampled for the candidate depends on it and the seed alone.

    record: the census codes. facts: what the phrase lists may ask about (lists.FACTS). extras: core values, entertainment preferences.
    unwritten: attribute -> what the rule or the lists had given where a language model's text now stands.
    """

    position: int
    record: Record
    attributes: Attributes
    facts: set[str]
    extras: dict[str, list[str]]
    unwritten: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """What random draws for this candidate are keyed by. Equals the persona's id as long as nobody before was turned away."""
        return persona_id(self.position)

    @property
    def is_adult(self) -> bool:
        return self.record["AGEP"] >= ADULT_AGE


def make_candidate(
    position: int, record: Record, labels: Codebook, imputed: tuple[str, ...], round_income: bool, seed: int
) -> Candidate:
    """All attributes that need no language model. `imputed`: columns that the source itself declares as imputed."""
    key = persona_id(position)
    attributes = describe_demographics(record, labels, imputed, round_income)
    complete_origin(attributes, record, seed, key)
    describe_work_in_words(attributes, record)
    facts = facts_about(record, veteran=attributes.values["veteran_status"] == "Veteran")
    extras = describe_psychographics(attributes, record, facts, seed, key)
    return Candidate(position, record, attributes, facts, extras)


def complete_origin(attributes: Attributes, record: Record, seed: int, key: str) -> None:
    """Ancestry and birthplace from a donor, where the file does not have the columns. An answer that the file lacks stays missing."""
    if "ANC1P" in record and "POBP" in record:
        return
    origin = impute_origin(record, rng_for(seed, "persona_origin", key))
    if "ANC1P" not in record and attributes.values["ancestry"] is None:
        attributes.put("ancestry", origin.ancestry, "imputed")
    if "POBP" not in record:
        attributes.put("place_of_birth", origin.place_of_birth, "imputed")
