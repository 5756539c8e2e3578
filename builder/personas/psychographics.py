"""Sampled attributes that no census asks for: religion, party, ideology, personality and the curated phrases.

Beliefs in a chain: religion given demographics, party given religion and demographics, ideology given all of these. Each step is a
multinomial logit fitted on Pew surveys 2023-2025; religion also follows the published differences between Asian and Hispanic origins.
Big Five: correlated normals whose mean depends on sex, age and beliefs, so that the adult population has the published correlations, sex
and age differences and differences between believers, parties and ideologies, and every fifth of it one of the five levels. Nothing
published covers minors: they get a religion as their parents' generation has it, no party, no ideology, and of the personality
differences only those between the sexes.

The tables, with sources and terms, are `data/religion_and_politics.json` and `data/big_five.json`, made by make_psychographics.py.
"""

import json
from bisect import bisect
from collections.abc import Collection, Mapping
from functools import lru_cache
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from builder.census.draw import ADULT_AGE
from builder.personas.attributes import Attributes
from builder.personas.demographics import NOT_HISPANIC, Record
from builder.personas.lists import BELIEF_FACTS, LIST_FACTS, PERSONALITY_FACTS, draw_phrases, load_phrases
from builder.randomness import rng_for
from builder.schema import BIG_FIVE, BIG_FIVE_LEVELS

FOLDER = Path(__file__).parent / "data"
STAGE = "persona_psychographics"
PERSONALITY_FROM_AGE = 6
OWN_BELIEFS_FROM_AGE = 13
BELIEFS = ("religion", "political_views", "ideology")
# In this order: what a lifestyle says must not be contradicted by a quirk.
LISTS = {"lifestyle": 1, "personal_time": 1, "defining_quirks": 1, "mannerisms": 1}
EXTRAS = {"core_values": 3, "entertainment_preferences": 3}

REGION_STATES = {  # Census regions by state FIPS code
    "Northeast": (9, 23, 25, 33, 34, 36, 42, 44, 50),
    "Midwest": (17, 18, 19, 20, 26, 27, 29, 31, 38, 39, 46, 55),
    "South": (1, 5, 10, 11, 12, 13, 21, 22, 24, 28, 37, 40, 45, 47, 48, 51, 54),
    "West": (2, 4, 6, 8, 15, 16, 30, 32, 35, 41, 49, 53, 56),
}
REGIONS = {state: region for region, states in REGION_STATES.items() for state in states}
RACES = {1: "White NH", 2: "Black NH", 6: "Asian NH"}  # RAC1P
OTHER_ASIAN, OTHER_HISPANIC = "Other Asian", "Other Hispanic"
RELIGION_WORDS = {
    "Protestant (born-again/evangelical)": "Evangelical Protestant",
    "Protestant (not born-again)": "Protestant",
    "Nothing in particular": "No particular religion",
    "Something else": "Other religion",
    "Orthodox": "Orthodox Christian",
}
PARTY_WORDS = {
    "Lean Democrat": "Leans Democrat",
    "Lean Republican": "Leans Republican",
    "Independent/Other (no lean)": "Independent",
}
UNAFFILIATED = ("Agnostic", "Atheist", "Nothing in particular")
CHRISTIAN = (
    *("Catholic", "Protestant (born-again/evangelical)", "Protestant (not born-again)", "Orthodox"),
    "Latter-day Saint",
)

Situation = dict[str, str]  # variable of the surveys -> category; one that the record does not tell is absent


class Logit(NamedTuple):
    """One multinomial logit. variables: name -> categories. intercept and every coefficient vector: (classes,).

    coefficients: the categories that must hold together ("age4=65+", or two of them for an interaction) -> what they add.
    """

    classes: list[str]
    variables: dict[str, list[str]]
    intercept: np.ndarray
    coefficients: dict[frozenset[str], np.ndarray]


def describe_psychographics(
    attributes: Attributes, record: Record, facts: set[str], seed: int, key: str
) -> dict[str, list[str]]:
    """Fill the sampled attributes and return the extras (core values, entertainment preferences). Adds to `facts`."""
    age = record["AGEP"]
    draw_beliefs(attributes, record, facts, rng_for(seed, STAGE, f"{key}|beliefs"))
    if age >= PERSONALITY_FROM_AGE:
        draw_personality(attributes, record, facts, rng_for(seed, STAGE, f"{key}|big_five"))
    else:
        attributes.leave_out("big_five_scores", "not_applicable")
    for name, count in LISTS.items():
        drawn = draw_phrases(name, count, age, facts, rng_for(seed, STAGE, f"{key}|{name}"))
        attributes.put(name, drawn[0] if drawn else None, "sampled")
    return {
        name: draw_phrases(name, count, age, facts, rng_for(seed, STAGE, f"{key}|{name}"))
        for name, count in EXTRAS.items()
    }


def redraw(
    names: Collection[str],
    attributes: Attributes,
    extras: dict[str, list[str]],
    record: Record,
    facts: set[str],
    seed: int,
    key: str,
) -> list[str]:
    """Draw the sampled attributes and extras among `names` again, with provenance `repaired`; returns those that were drawn.

    Religion, party and ideology hang together and are drawn together, without regard to the personality, which hardly depends on them.
    What the old values added to `facts` is taken back first. A phrase is never drawn twice in a row. `key` must differ from every key
    used for this person before.
    """
    redrawn = []
    beliefs = [name for name in BELIEFS if attributes.values[name] is not None]
    if set(beliefs) & set(names):
        facts -= BELIEF_FACTS
        draw_beliefs(attributes, record, facts, rng_for(seed, STAGE, f"{key}|beliefs"))
        redrawn += beliefs
    if "big_five_scores" in names and attributes.values["big_five_scores"] is not None:
        facts -= PERSONALITY_FACTS
        draw_personality(attributes, record, facts, rng_for(seed, STAGE, f"{key}|big_five"))
        redrawn.append("big_five_scores")
    for name in redrawn:
        attributes.put(name, attributes.values[name], "repaired")

    phrases = [name for name in (*LISTS, *EXTRAS) if name in names]
    old = {name: drawn_phrases(name, attributes, extras) for name in phrases}
    kept = [name for name in (*LISTS, *EXTRAS) if name not in phrases]
    still_given = given_facts({name: drawn_phrases(name, attributes, extras) for name in kept})
    facts -= (given_facts(old) - still_given) & LIST_FACTS
    for name in phrases:
        rng = rng_for(seed, STAGE, f"{key}|{name}")
        drawn = draw_phrases(name, {**LISTS, **EXTRAS}[name], record["AGEP"], facts, rng, without=old[name])
        if name in EXTRAS:
            extras[name] = drawn
        else:
            attributes.put(name, drawn[0] if drawn else None, "repaired")
    return redrawn + phrases


def drawn_phrases(name: str, attributes: Attributes, extras: dict[str, list[str]]) -> set[str]:
    if name in EXTRAS:
        return set(extras[name])
    return set() if attributes.values[name] is None else {attributes.values[name]}


def given_facts(texts: Mapping[str, Collection[str]]) -> set[str]:
    """What these phrases, list by list, have added to the facts."""
    return {
        fact for name in texts for phrase in load_phrases(name) if phrase.text in texts[name] for fact in phrase.gives
    }


def draw_beliefs(attributes: Attributes, record: Record, facts: set[str], rng: np.random.Generator) -> None:
    """Religion; for adults also party and ideology. Adds to `facts`."""
    situation = survey_situation(record)
    origin = origin_of(record, attributes.values["ancestry"], attributes.values["place_of_birth"])
    religion = draw_class("religion", situation, rng, origin)
    if record["AGEP"] < OWN_BELIEFS_FROM_AGE and religion in ("Atheist", "Agnostic"):
        # A small child's household belongs to no religion; a view of one's own on God comes later.
        religion = "Nothing in particular"
    attributes.put("religion", RELIGION_WORDS.get(religion, religion), "sampled")
    if record["AGEP"] < ADULT_AGE:
        attributes.leave_out("political_views", "not_applicable")
        attributes.leave_out("ideology", "not_applicable")
        facts |= beliefs_as_facts(religion, None, None)
        return
    situation["religion13"] = religion
    party = draw_class("party", situation, rng)
    situation["party5"] = party
    ideology = draw_class("ideology", situation, rng)
    attributes.put("political_views", PARTY_WORDS.get(party, party), "sampled")
    attributes.put("ideology", ideology, "sampled")
    facts |= beliefs_as_facts(religion, party, ideology)


def beliefs_as_facts(religion: str, party: str | None, ideology: str | None) -> set[str]:
    """All three in the words of the surveys. Who leans to a party counts with it."""
    facts = set()
    if religion not in (*UNAFFILIATED, "Something else"):
        facts.add("religious")
    if religion in CHRISTIAN:
        facts.add("christian")
    if religion in (*CHRISTIAN, "Jewish", "Muslim"):
        facts.add("abrahamic")
    if religion in ("Catholic", "Orthodox", "Jewish", "Muslim", "Hindu"):
        facts.add("feast_and_fast_faith")
    if religion == "Protestant (born-again/evangelical)":
        facts.add("evangelical")
    if religion in UNAFFILIATED:
        facts.add("unaffiliated")
    if religion in ("Atheist", "Latter-day Saint", "Muslim", "Buddhist", "Hindu"):
        facts.add(religion.lower().replace("-", "_").replace(" ", "_"))
    for name in ("Democrat", "Republican"):
        if party is not None and name in party:
            facts.add(name.lower())
    for side in ("liberal", "conservative"):
        if ideology is not None and side in ideology.lower():
            facts |= {side, f"very_{side}"} if "Very" in ideology else {side}
    return facts


def survey_situation(record: Record) -> Situation:
    """The person in the categories of the Pew surveys; a category that the record does not tell is left out."""
    age, schooling = record["AGEP"], record["SCHL"]
    adult = age >= ADULT_AGE
    situation = {
        "race5": race_group(record),
        # A minor's religion is the family's: as the generation of the parents has it.
        "age4": age_group(age) if adult else "30-49",
        "sex": "Female" if record["SEX"] == 2 else "Male",
        "nativity": "Foreign-born" if record["CIT"] in (4, 5) else "Native",
    }
    if adult and schooling is not None:
        situation["educ3"] = "HS or less" if schooling < 18 else "Some college" if schooling < 21 else "College grad+"
    if record.get("STATE") in REGIONS:
        situation["region4"] = REGIONS[record["STATE"]]
    return situation


def race_group(record: Record) -> str:
    if record["HISP"] not in (None, NOT_HISPANIC):
        return "Hispanic"
    return RACES.get(record["RAC1P"], "Other/Multiracial NH")


def age_group(age: int) -> str:
    return "18-29" if age < 30 else "30-49" if age < 50 else "50-64" if age < 65 else "65+"


def origin_of(record: Record, ancestry: str | None, birthplace: str | None) -> str | None:
    """Of a Hispanic or Asian person, from HISP; from the detailed race (RAC2P), else ancestry, else birthplace. None for all others."""
    race = race_group(record)
    if race == "Hispanic":
        return origins_by("HISP").get(record["HISP"], OTHER_HISPANIC)
    if race != "Asian NH":
        return None
    words = origins_by("words")
    known = origins_by("RAC2P").get(record.get("RAC2P")) or words.get(ancestry) or words.get(birthplace)
    return known or OTHER_ASIAN


@lru_cache(maxsize=3)
def origins_by(mark: str) -> dict[Any, str]:
    """Code or word by which an origin is known -> origin."""
    origins = read_json("religion_and_politics")["religion_by_origin"]["origins"]
    return {value: origin for origin, entry in origins.items() for value in entry["known_by"].get(mark, ())}


def draw_class(model: str, situation: Situation, rng: np.random.Generator, origin: str | None = None) -> str:
    variables = logit(model).variables
    known = tuple((name, value) for name, value in situation.items() if name in variables)
    classes, cumulative = cumulative_probabilities(model, known, origin)
    return classes[bisect(cumulative, rng.random())]


@lru_cache(maxsize=1 << 17)
def cumulative_probabilities(
    model: str, situation: tuple[tuple[str, str], ...], origin: str | None
) -> tuple[list[str], list[float]]:
    probabilities = class_probabilities(model, dict(situation), origin)
    cumulative = np.cumsum(list(probabilities.values()))
    return list(probabilities), [*(cumulative[:-1] / cumulative[-1]).tolist(), 1.0]


def class_probabilities(model: str, situation: Situation, origin: str | None = None) -> dict[str, float]:
    """Class -> probability, for `religion`, `party` or `ideology`. `origin` matters to religion only.

    Region and schooling may be absent: then the probabilities are averaged over their categories as adults of the same race and age
    have them. Raises KeyError where another variable of the model is absent or a category is unknown.
    """
    table = logit(model)
    for variable, numbers in read_json("religion_and_politics")["population"]["adults"].items():
        if variable not in situation:
            adults = numbers[situation["race5"]][situation["age4"]]
            mean = dict.fromkeys(table.classes, 0.0)
            for category, n in adults.items():
                for name, p in class_probabilities(model, {**situation, variable: category}, origin).items():
                    mean[name] += p * n / sum(adults.values())
            return mean
    return dict(zip(table.classes, softmax(table, situation, log_factors(origin)).tolist(), strict=True))


def softmax(table: Logit, situation: Situation, log_factors: np.ndarray | float = 0.0) -> np.ndarray:
    """(classes,): intercept, plus the coefficients of what holds, plus `log_factors` (classes,), as probabilities."""
    held = [f"{name}={situation[name]}" for name in table.variables]
    scores = table.intercept + log_factors
    for category in held:
        scores = scores + table.coefficients[frozenset((category,))]
    for pair in combinations(held, 2):
        if frozenset(pair) in table.coefficients:
            scores = scores + table.coefficients[frozenset(pair)]
    weights = np.exp(scores - scores.max())
    return weights / weights.sum()


def log_factors(origin: str | None) -> np.ndarray | float:
    """(classes,): by how much belonging to an origin changes the score of every religion."""
    if origin is None:
        return 0.0
    content = read_json("religion_and_politics")
    return factor_array(content["religion_by_origin"]["origins"][origin]["log_factors"], content["religion"]["classes"])


def factor_array(factors: dict[str, float], classes: list[str]) -> np.ndarray:
    return np.array([factors.get(name, 0.0) for name in classes])


@lru_cache(maxsize=3)
def logit(model: str) -> Logit:
    return logit_from(read_json("religion_and_politics")[model])


def logit_from(table: dict[str, Any]) -> Logit:
    coefficients = {frozenset(name.split(" & ")): np.array(values) for name, values in table["coefficients"].items()}
    return Logit(table["classes"], table["variables"], np.array(table["intercept"]), coefficients)


def draw_personality(attributes: Attributes, record: Record, facts: set[str], rng: np.random.Generator) -> None:
    """Big Five levels, given the beliefs already drawn. Adds to `facts`."""
    adult = record["AGEP"] >= ADULT_AGE
    groups = ("Female" if record["SEX"] == 2 else "Male",)
    if adult:
        groups += (age_group(record["AGEP"]), *(attributes.values[name] for name in BELIEFS))
    levels = levels_of(draw_scores(groups, rng))
    attributes.put("big_five_scores", levels, "sampled")
    facts |= personality_as_facts(levels)


def draw_scores(groups: tuple[str, ...], rng: np.random.Generator) -> np.ndarray:
    """(5,) latent scores in the order of BIG_FIVE; over all adults each has mean 0 and standard deviation 1.

    groups: sex; for adults also age group, religion, party and ideology as the persona has them.
    """
    noise, _ = big_five_noise_and_cuts()
    return mean_scores(groups) + noise @ rng.standard_normal(len(BIG_FIVE))


def levels_of(scores: np.ndarray) -> dict[str, str]:
    _, cuts = big_five_noise_and_cuts()
    numbers = (scores[:, None] > cuts).sum(axis=1).tolist()
    return {trait: BIG_FIVE_LEVELS[number] for trait, number in zip(BIG_FIVE, numbers, strict=True)}


@lru_cache(maxsize=1 << 13)
def mean_scores(groups: tuple[str, ...]) -> np.ndarray:
    """(5,): the sum of the shifts of every group that the person belongs to."""
    shifts = read_json("big_five")["shifts"]
    return np.sum([shifts[name][group] for name, group in zip(shifts, groups, strict=False)], axis=0)


@lru_cache(maxsize=1)
def big_five_noise_and_cuts() -> tuple[np.ndarray, np.ndarray]:
    """Lower-triangular factor of the covariance within groups, (5, 5), and the cut points between levels, (5, 4)."""
    table = read_json("big_five")
    assert table["traits"] == list(BIG_FIVE)
    assert list(table["shifts"]) == ["sex", "age", *BELIEFS]
    return np.linalg.cholesky(np.array(table["covariance_within_groups"])), np.array(table["cut_points"])


def personality_as_facts(levels: dict[str, str]) -> set[str]:
    low = {f"low_{trait}" for trait, level in levels.items() if level in BIG_FIVE_LEVELS[:2]}
    return low | {f"high_{trait}" for trait, level in levels.items() if level in BIG_FIVE_LEVELS[3:]}


@lru_cache(maxsize=2)
def read_json(name: str) -> Any:
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
