"""Sampled attributes that no census asks for: personality, religion, party, ideology and the curated phrases.

Big Five: correlated normals with the correlations and sex differences of the BFI-2 (Soto and John 2017) and the age differences of ANES
2012 and 2016, cut into five levels at the quintiles of the standard normal. Religion given demographics, party given religion and
demographics, ideology given both: multinomial logits fitted on Pew surveys 2023-2025 (see data/religion_and_politics.json). Nothing
published covers minors: they get a religion as their parents' generation has it, no party and no ideology.
"""

import json
from collections.abc import Collection
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from builder.census.draw import ADULT_AGE
from builder.personas.attributes import Attributes
from builder.personas.demographics import NOT_HISPANIC, Record
from builder.personas.lists import BELIEF_FACTS, PERSONALITY_FACTS, draw_phrases
from builder.randomness import rng_for
from builder.schema import BIG_FIVE, BIG_FIVE_LEVELS

FOLDER = Path(__file__).parent / "data"
STAGE = "persona_psychographics"
PERSONALITY_FROM_AGE = 6
QUINTILES = (
    -0.8416,
    -0.2533,
    0.2533,
    0.8416,
)  # of the standard normal: five levels, equally frequent in the population
LISTS = {"lifestyle": 1, "personal_time": 1, "defining_quirks": 1, "mannerisms": 1}
EXTRAS = {"core_values": 3, "entertainment_preferences": 3}

REGION_STATES = {  # Census regions by state FIPS code
    "Northeast": (9, 23, 25, 33, 34, 36, 42, 44, 50),
    "Midwest": (17, 18, 19, 20, 26, 27, 29, 31, 38, 39, 46, 55),
    "South": (1, 5, 10, 11, 12, 13, 21, 22, 24, 28, 37, 40, 45, 47, 48, 51, 54),
    "West": (2, 4, 6, 8, 15, 16, 30, 32, 35, 41, 49, 53, 56),
}
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


def describe_psychographics(
    attributes: Attributes, record: Record, facts: set[str], seed: int, key: str
) -> dict[str, list[str]]:
    """Fill the sampled attributes and return the extras (core values, entertainment preferences). Adds to `facts`."""
    age = record["AGEP"]
    if age >= PERSONALITY_FROM_AGE:
        levels = draw_big_five(age, record["SEX"], rng_for(seed, STAGE, f"{key}|big_five"))
        attributes.put("big_five_scores", levels, "sampled")
        facts |= personality_as_facts(levels)
    else:
        attributes.leave_out("big_five_scores", "not_applicable")
    draw_beliefs(attributes, record, facts, rng_for(seed, STAGE, f"{key}|beliefs"))
    # In this order: what a lifestyle says must not be contradicted by a quirk.
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

    Religion, party and ideology hang together and are drawn together. A phrase is never drawn twice in a row. `key` must differ from
    every key used for this person before.
    """
    redrawn = [name for name in names if name in LISTS or name in EXTRAS]
    for name in redrawn:
        old = {attributes.values[name]} if name in LISTS else set(extras[name])
        count = {**LISTS, **EXTRAS}[name]
        drawn = draw_phrases(name, count, record["AGEP"], facts, rng_for(seed, STAGE, f"{key}|{name}"), without=old)
        if name in EXTRAS:
            extras[name] = drawn
        else:
            attributes.put(name, drawn[0] if drawn else None, "repaired")
    if "big_five_scores" in names and attributes.values["big_five_scores"] is not None:
        levels = draw_big_five(record["AGEP"], record["SEX"], rng_for(seed, STAGE, f"{key}|big_five"))
        attributes.put("big_five_scores", levels, "repaired")
        facts -= PERSONALITY_FACTS
        facts |= personality_as_facts(levels)
        redrawn.append("big_five_scores")
    beliefs = [name for name in ("religion", "political_views", "ideology") if attributes.values[name] is not None]
    if set(beliefs) & set(names):
        facts -= BELIEF_FACTS
        draw_beliefs(attributes, record, facts, rng_for(seed, STAGE, f"{key}|beliefs"))
        for name in beliefs:
            attributes.put(name, attributes.values[name], "repaired")
        redrawn += beliefs
    return redrawn


def draw_big_five(age: int, sex: int, rng: np.random.Generator) -> dict[str, str]:
    """Trait -> level. `sex` is the PUMS code: 1 male, 2 female."""
    norms = read_json("big_five")
    shift = np.array(norms["women_minus_men"]) * (0.5 if sex == 2 else -0.5)
    if age >= ADULT_AGE:
        shift = shift + np.array(norms["age_shift"][age_group(age)])
    scores = rng.multivariate_normal(shift, np.array(norms["correlations"]), method="cholesky")
    levels = np.searchsorted(QUINTILES, scores)
    return {trait: BIG_FIVE_LEVELS[level] for trait, level in zip(norms["traits"], levels, strict=True)}


def draw_beliefs(attributes: Attributes, record: Record, facts: set[str], rng: np.random.Generator) -> None:
    adult = record["AGEP"] >= ADULT_AGE
    situation = survey_groups(record)
    origin = asian_origin(record, attributes)
    religion = draw_class("religion", situation, rng, religion_factors(origin, situation) if origin else None)
    attributes.put("religion", RELIGION_WORDS.get(religion, religion), "sampled")
    facts |= beliefs_as_facts(religion)
    if not adult:
        attributes.leave_out("political_views", "not_applicable")
        attributes.leave_out("ideology", "not_applicable")
        return
    situation["religion13"] = religion
    party = draw_class("party", situation, rng)
    situation["party5"] = party
    ideology = draw_class("ideology", situation, rng)
    attributes.put("political_views", PARTY_WORDS.get(party, party), "sampled")
    attributes.put("ideology", ideology, "sampled")
    for side in ("liberal", "conservative"):
        if side in ideology.lower():
            facts |= {side, f"very_{side}"} if "Very" in ideology else {side}


def personality_as_facts(levels: dict[str, str]) -> set[str]:
    low = {f"low_{trait}" for trait, level in levels.items() if level in BIG_FIVE_LEVELS[:2]}
    return low | {f"high_{trait}" for trait, level in levels.items() if level in BIG_FIVE_LEVELS[3:]}


def beliefs_as_facts(religion: str) -> set[str]:
    facts = set()
    if religion not in (*UNAFFILIATED, "Something else"):
        facts.add("religious")
    if religion in CHRISTIAN:
        facts.add("christian")
    if religion == "Protestant (born-again/evangelical)":
        facts.add("evangelical")
    if religion == "Atheist":
        facts.add("atheist")
    return facts


def survey_groups(record: Record) -> dict[str, str]:
    """The person in the categories of the Pew surveys; a category that the record does not tell is left out."""
    age, schooling = record["AGEP"], record["SCHL"]
    adult = age >= ADULT_AGE
    groups = {
        "race5": race_group(record),
        # A minor's family religion: as the generation of the parents has it.
        "age4": age_group(age) if adult else "30-49",
        "sex": "Female" if record["SEX"] == 2 else "Male",
        "nativity": "Foreign-born" if record["CIT"] in (4, 5) else "Native",
    }
    if adult and schooling is not None:
        groups["educ3"] = "HS or less" if schooling < 18 else "Some college" if schooling < 21 else "College grad+"
    for region, states in REGION_STATES.items():
        if record.get("STATE") in states:
            groups["region4"] = region
    return groups


def race_group(record: Record) -> str:
    if record["HISP"] not in (None, NOT_HISPANIC):
        return "Hispanic"
    return {1: "White NH", 2: "Black NH", 6: "Asian NH"}.get(record["RAC1P"], "Other/Multiracial NH")


def age_group(age: int) -> str:
    return "18-29" if age < 30 else "30-49" if age < 50 else "50-64" if age < 65 else "65+"


def draw_class(
    model_name: str, situation: dict[str, str], rng: np.random.Generator, factors: dict[str, float] | None = None
) -> str:
    probabilities = class_probabilities(model_name, situation)
    if factors:
        probabilities = {name: p * factors[name] for name, p in probabilities.items()}
    weights = np.array(list(probabilities.values()))
    return str(rng.choice(list(probabilities), p=weights / weights.sum()))


def class_probabilities(model_name: str, situation: dict[str, str]) -> dict[str, float]:
    """P = softmax(intercept + sum of the coefficients of the features that hold). A feature is `a=x` or `a=x & b=y`."""
    classes, intercept, coefficients, positions = logit(model_name)
    held = [f"{name}={value}" for name, value in situation.items()]
    features = [*held, *(f"{first} & {second}" for first in held for second in held if first != second)]
    columns = [positions[feature] for feature in features if feature in positions]
    scores = intercept + coefficients[:, columns].sum(axis=1)
    weights = np.exp(scores - scores.max())
    return dict(zip(classes, (weights / weights.sum()).tolist(), strict=True))


@lru_cache(maxsize=4)
def logit(model_name: str) -> tuple[list[str], np.ndarray, np.ndarray, dict[str, int]]:
    model = read_json("religion_and_politics")[model_name]
    positions = {feature: index for index, feature in enumerate(model["features"])}
    return model["classes"], np.array(model["intercept"]), np.array(model["coef"]), positions


def asian_origin(record: Record, attributes: Attributes) -> str | None:
    """The Asian origin for which a religious composition is published, from ancestry, else birthplace."""
    if race_group(record) != "Asian NH":
        return None
    origins = read_json("religion_and_politics")["asian_origin_religion"]["origins"]
    for attribute in ("ancestry", "place_of_birth"):
        for origin, entry in origins.items():
            if attributes.values[attribute] in entry["words"]:
                return origin
    return None


def religion_factors(origin: str, situation: dict[str, str]) -> dict[str, float]:
    """Class -> factor by which the survey model's probability is multiplied for this origin.

    The surveys hold too few Asian respondents to tell origins apart. The factor is the origin's published share over the model's own for
    an average Asian adult of the same nativity, so differences by age, sex, schooling and region stay.
    """
    average = average_asian_religion(situation["nativity"])
    shares = read_json("religion_and_politics")["asian_origin_religion"]["origins"][origin]["shares"]
    factors: dict[str, float] = {}
    for names, share in shares.items():
        classes = names.split("+")
        total = sum(average[name] for name in classes)
        factors |= dict.fromkeys(classes, share / total)
    others = [name for name in average if name not in factors]
    rest = 1.0 - sum(shares.values())
    return factors | dict.fromkeys(others, rest / sum(average[name] for name in others))


@lru_cache(maxsize=2)
def average_asian_religion(nativity: str) -> dict[str, float]:
    """The model's shares over all combinations of age, sex, schooling and region, counted alike."""
    total: dict[str, float] = {}
    combinations = [
        {"race5": "Asian NH", "age4": age, "sex": sex, "educ3": education, "region4": region, "nativity": nativity}
        for age in ("18-29", "30-49", "50-64", "65+")
        for sex in ("Female", "Male")
        for education in ("HS or less", "Some college", "College grad+")
        for region in REGION_STATES
    ]
    for combination in combinations:
        for name, probability in class_probabilities("religion", combination).items():
            total[name] = total.get(name, 0.0) + probability / len(combinations)
    return total


@lru_cache(maxsize=4)
def read_json(name: str) -> Any:
    content = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    assert name != "big_five" or content["traits"] == list(BIG_FIVE)
    return content
