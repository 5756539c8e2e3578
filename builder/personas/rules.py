"""The rules of consistency: what cannot be true of one person (data/consistency_rules.yaml, which says how a rule is written).

The table is read strictly: a name or value that nothing can meet is an error, because such a rule would look like one and never apply.
"""

import difflib
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cache, lru_cache
from operator import ge, gt, le, lt
from pathlib import Path
from typing import Any

from builder.census.codebook import codebook_for
from builder.census.pums import (
    HOUSEHOLD_COLUMNS,
    OPTIONAL_HOUSEHOLD_COLUMNS,
    OPTIONAL_PERSON_COLUMNS,
    PERSON_COLUMNS,
)
from builder.errors import InputError
from builder.personas.candidate import Candidate
from builder.personas.lists import FACTS, FOLDER, load_phrases
from builder.personas.psychographics import EXTRAS, LISTS, PARTY_WORDS, RELIGION_WORDS, read_json
from builder.schema import ATTRIBUTES
from builder.strict_yaml import read_yaml

RULES = FOLDER / "consistency_rules.yaml"
COLUMNS = {*PERSON_COLUMNS, *OPTIONAL_PERSON_COLUMNS, *HOUSEHOLD_COLUMNS, *OPTIONAL_HOUSEHOLD_COLUMNS} - {"SERIALNO"}
PHRASES = (*LISTS, *EXTRAS)
TEXTS = (*PHRASES, "detailed_job_description")
GROUPS = {"phrases": PHRASES, "texts": TEXTS}
# What can be drawn again, or taken back where a language model wrote it.
REPAIRABLE = {*TEXTS, "big_five_scores", "religion", "political_views", "ideology"}

NUMBERS = {"below": lt, "above": gt, "at_least": ge, "at_most": le}
# Years enough to meet every coding that a column had.
CODED_YEARS = range(2010, 2025)
OPERATORS = ("in", "not_in", *NUMBERS, "known", "says", "has", "lacks")
# What somebody never reads is not read.
DENIALS = ("never", "not", "no", "no longer", "cannot", "seldom", "without", "hates", "avoids")
# Attribute -> the census columns whose words it takes.
SOURCES = {
    "sex": ["SEX"],
    "race": ["RAC1P"],
    "household_language": ["HHL"],
    "education": ["SCHL"],
    "employment_status": ["ESR"],
    "class_of_worker": ["COW"],
    "marital_status": ["MAR"],
    "household_type": ["HHT", "HHT2", "TYPEHUGQ"],
    "family_presence_and_age": ["FPARC", "HUPAC"],
    "citizenship": ["CIT"],
    "veteran_status": ["MIL"],
    "disability": ["DIS"],
    "health_insurance": ["HICOV"],
    "cognitive_difficulty": ["DREM"],
    "ability_to_speak_english": ["ENG"],
    "vision_difficulty": ["DEYE"],
    "fertility": ["FER"],
    "hearing_difficulty": ["DEAR"],
}


@dataclass(frozen=True)
class Condition:
    """`name` is a census column, an attribute, an extra, `facts` or a group of texts; `operand` fits the operator (`says`: a pattern)."""

    name: str
    operator: str
    operand: Any

    def met_by(self, candidate: Candidate) -> list[str]:
        """The names that meet it: of a group of texts those that do, otherwise `name` itself; empty if nothing does."""
        if self.name == "facts":
            held = self.operand <= candidate.facts if self.operator == "has" else not self.operand & candidate.facts
            return ["facts"] if held else []
        return [name for name in GROUPS.get(self.name, (self.name,)) if self._met_by_value(name, candidate)]

    def _met_by_value(self, name: str, candidate: Candidate) -> bool:
        source = (
            candidate.record if name in COLUMNS else candidate.extras if name in EXTRAS else candidate.attributes.values
        )
        if name not in source:
            return False
        value = source[name]
        if self.operator == "known":
            return (value is not None) == self.operand
        if value is None:
            return False
        if self.operator in NUMBERS:
            return NUMBERS[self.operator](value, self.operand)
        values = value if isinstance(value, list) else [value]
        if self.operator == "says":
            return any(self.operand.search(text) for text in values)
        return any(v in self.operand for v in values) == (self.operator == "in")


@dataclass(frozen=True)
class Rule:
    name: str
    reason: str
    when: tuple[Condition, ...]
    between: tuple[str, ...]
    repair: tuple[str, ...]


@dataclass(frozen=True)
class Broken:
    """A rule that a candidate breaks; the groups in `between` and `repair` are replaced by the texts that said it."""

    rule: Rule
    between: tuple[str, ...]
    repair: tuple[str, ...]


def broken_rules(candidate: Candidate, rules: Iterable[Rule] | None = None) -> list[Broken]:
    """Those of the rules (the packaged ones) that the candidate breaks, in the order of the table."""
    broken = []
    for rule in load_rules() if rules is None else rules:
        met: dict[str, list[str]] = {}
        for condition in rule.when:
            names = condition.met_by(candidate)
            if not names:
                break
            met[condition.name] = names
        else:
            broken.append(Broken(rule, replace_groups(rule.between, met), replace_groups(rule.repair, met)))
    return broken


def replace_groups(names: Iterable[str], met: dict[str, list[str]]) -> tuple[str, ...]:
    return tuple(one for name in names for one in (met[name] if name in GROUPS else [name]))


@lru_cache(maxsize=4)
def load_rules(path: Path = RULES) -> tuple[Rule, ...]:
    """Raises InputError for a rule with a part, name, operator or value that is not known, naming the closest that is."""
    return tuple(make_rule(name, entry) for name, entry in read_yaml(path).items())


def make_rule(name: str, entry: Any) -> Rule:
    where = f"Consistency rule {name}"
    parts = ("reason", "when", "between", "repair")
    if not isinstance(entry, dict) or not isinstance(entry.get("when"), dict) or not entry["when"]:
        raise InputError(
            f"{where} has no conditions. Give it {', '.join(parts)}, and at least one condition under `when`."
        )
    for part in entry:
        refuse_unknown(where, "part", part, parts)
    missing = [part for part in parts if part not in entry]
    if missing:
        raise InputError(f"{where} lacks {', '.join(missing)}. Add it; `repair: []` says that nothing can be mended.")
    when = tuple(condition for key, test in entry["when"].items() for condition in make_conditions(where, key, test))
    for part, known in (("between", {*ATTRIBUTES, *EXTRAS}), ("repair", REPAIRABLE)):
        for attribute in entry[part]:
            refuse_unknown(f"{where}, {part}", "attribute", attribute, known | {*GROUPS})
            if attribute in GROUPS and attribute not in entry["when"]:
                raise InputError(
                    f"{where}, {part}: no condition asks about {attribute}. Name the attributes, or ask about them."
                )
    return Rule(name, entry["reason"], when, tuple(entry["between"]), tuple(entry["repair"]))


def make_conditions(where: str, name: str, test: Any) -> list[Condition]:
    refuse_unknown(where, "column or attribute", name, [*COLUMNS, *ATTRIBUTES, *EXTRAS, *GROUPS, "facts"])
    operators = test if isinstance(test, dict) else {"in": test}
    for operator in operators:
        refuse_unknown(f"{where}, {name}", "operator", operator, OPERATORS)
        fitting = operators_for(name)
        if operator not in fitting:
            raise InputError(f"{where}: `{operator}` cannot be asked of {name}. Ask one of {', '.join(fitting)}.")
    return [Condition(name, op, make_operand(f"{where}, {name}", name, op, given)) for op, given in operators.items()]


def operators_for(name: str) -> tuple[str, ...]:
    if name == "facts":
        return ("has", "lacks")
    if name in GROUPS:
        return ("says",)
    if name in COLUMNS or name in ("age", "income"):
        return ("in", "not_in", *NUMBERS, "known")
    return ("in", "not_in", "known", "says") if name in TEXTS else ("in", "not_in", "known")


def make_operand(where: str, name: str, operator: str, given: Any) -> Any:
    if operator in NUMBERS or operator == "known":
        wanted: type = bool if operator == "known" else int
        if type(given) is not wanted:
            raise InputError(
                f"{where}: {operator} is {given!r}; it takes {'true or false' if wanted is bool else 'a number'}."
            )
        return given
    values = given if isinstance(given, list) else [given]
    if operator == "says":
        words = "|".join(re.escape(str(word)) for word in values)
        denied = "".join(rf"(?<!{word} )" for word in DENIALS)
        # A hyphen joins: `semi-retired` does not say `retired`.
        return re.compile(rf"(?<![\w-]){denied}(?:{words})(?![\w-])", re.IGNORECASE)
    known = FACTS if operator in ("has", "lacks") else known_values(name)
    for value in values if known is not None else ():
        refuse_unknown(where, "value", value, known or ())
    return frozenset(values)


@cache
def known_values(name: str) -> Collection[Any] | None:
    """The codes or words that a column or attribute can have; None where they are not listed."""
    books = [codebook_for(year) for year in CODED_YEARS]
    if name in COLUMNS:
        return {code for book in books for code in book.get(name, ())} or None
    if name in SOURCES:
        words = {text for book in books for column in SOURCES[name] for text in book.get(column, {}).values()}
        return words | {"Never married"} if name == "marital_status" else words
    if name in ("religion", "political_views", "ideology"):
        model = {"political_views": "party"}.get(name, name)
        classes = read_json("religion_and_politics")[model]["classes"]
        return {{**RELIGION_WORDS, **PARTY_WORDS}.get(word, word) for word in classes}
    return {phrase.text for phrase in load_phrases(name)} if name in EXTRAS else None


def refuse_unknown(where: str, kind: str, given: Any, known: Iterable[Any]) -> None:
    known = list(known)
    if given in known and not isinstance(given, bool):
        return
    close = difflib.get_close_matches(str(given), sorted(map(str, known)), n=1, cutoff=0.0)[0]
    raise InputError(f"{where}: {kind} {given!r} is not known. The closest is {close!r}.")
