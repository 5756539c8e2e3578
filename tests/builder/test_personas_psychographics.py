"""Sampled beliefs and traits: against the published figures that they are drawn from."""

from collections import Counter
from typing import Any

import numpy as np
import pytest

from builder.errors import InputError
from builder.personas.lists import FACTS, draw_phrases, load_phrases, make_phrase
from builder.personas.personas import build_personas
from builder.personas.psychographics import class_probabilities, draw_big_five, religion_factors
from builder.randomness import rng_for
from builder.recipe import BuildRecipe, CensusRecipe, PersonasRecipe
from builder.schema import BIG_FIVE_LEVELS

LISTS = ("lifestyle", "personal_time", "defining_quirks", "mannerisms", "core_values", "entertainment_preferences")


@pytest.fixture(scope="module")
def adults() -> list[dict[str, Any]]:
    recipe = BuildRecipe("t", 3, CensusRecipe(), PersonasRecipe(count=4000, seen=2000, enrichment="none"))
    return build_personas(recipe, None, lambda texts: [1] * len(texts)).rows


def share(rows: list[dict[str, Any]], attribute: str, *values: str) -> float:
    return sum(row[attribute] in values for row in rows) / len(rows)


def test_religion_and_politics_are_near_the_surveys(adults: list[dict[str, Any]]) -> None:
    """Pew Religious Landscape Study 2023-24: 62 % Christian, 29 % unaffiliated. Pew NPORS 2025: 46 % Rep/lean, 45 % Dem/lean."""
    christian = ("Catholic", "Evangelical Protestant", "Protestant", "Latter-day Saint", "Orthodox Christian")
    assert share(adults, "religion", *christian) == pytest.approx(0.62, abs=0.05)
    assert share(adults, "religion", "Atheist", "Agnostic", "No particular religion") == pytest.approx(0.29, abs=0.05)
    assert share(adults, "political_views", "Democrat", "Leans Democrat") == pytest.approx(0.45, abs=0.05)
    assert share(adults, "political_views", "Republican", "Leans Republican") == pytest.approx(0.46, abs=0.05)


def test_party_goes_with_ideology_and_race(adults: list[dict[str, Any]]) -> None:
    republicans = [row for row in adults if row["political_views"] == "Republican"]
    black = [row for row in adults if row["race"] == "Black or African American"]
    assert share(republicans, "ideology", "Conservative", "Very conservative") > 0.6
    assert share(black, "political_views", "Democrat", "Leans Democrat") > 0.6


def test_probabilities_add_up_and_missing_groups_are_allowed() -> None:
    for situation in ({}, {"race5": "Asian NH"}, {"race5": "White NH", "age4": "65+", "region4": "South"}):
        assert sum(class_probabilities("religion", situation).values()) == pytest.approx(1.0)


def test_asian_origins_have_their_own_religions() -> None:
    """Pew 2022-23: 48 % of Indian Americans are Hindu; Pew 2012: 65 % of Filipino Americans are Catholic."""
    situation = {
        "race5": "Asian NH",
        "age4": "65+",
        "sex": "Female",
        "educ3": "College grad+",
        "nativity": "Foreign-born",
    }
    plain = class_probabilities("religion", situation)
    for origin, religion in (("Filipino", "Catholic"), ("Indian", "Hindu"), ("Vietnamese", "Buddhist")):
        factors = religion_factors(origin, situation)
        weights = {name: p * factors[name] for name, p in plain.items()}
        assert max(weights, key=lambda name: weights[name]) == religion


def test_big_five_levels_are_about_equally_frequent_and_women_more_agreeable() -> None:
    women = [draw_big_five(40, 2, rng_for(1, "t", f"w{n}")) for n in range(2000)]
    men = [draw_big_five(40, 1, rng_for(1, "t", f"m{n}")) for n in range(2000)]
    counts = Counter(levels["openness"] for levels in women + men)
    assert all(0.16 < counts[level] / 4000 < 0.24 for level in BIG_FIVE_LEVELS)

    def mean(people: list[dict[str, str]], trait: str) -> float:
        return float(np.mean([BIG_FIVE_LEVELS.index(levels[trait]) for levels in people]))

    assert mean(women, "agreeableness") > mean(men, "agreeableness") + 0.2


@pytest.mark.parametrize("name", LISTS)
def test_lists_are_long_enough_distinct_and_cover_every_age(name: str) -> None:
    phrases = load_phrases(name)
    adult = [phrase for phrase in phrases if phrase.ages[1] >= 18]
    assert len(adult) >= 60
    assert len({phrase.text.lower() for phrase in phrases}) == len(phrases)
    for age in range(0, 100):
        assert draw_phrases(name, 1, age, set(), rng_for(0, "t", str(age)))
    everything_hard = {"vision_difficulty", "hearing_difficulty", "cognitive_difficulty", "disability", "institution"}
    assert draw_phrases(name, 1, 70, set(everything_hard), rng_for(0, "t", "hard"))


def test_a_misspelt_condition_is_an_error() -> None:
    with pytest.raises(InputError, match="hearing_dificulty"):
        make_phrase({"text": "Sings", "not_with": ["hearing_dificulty"]}, "quirks")
    assert "hearing_difficulty" in FACTS


def test_a_drawn_phrase_excludes_its_opposite_later() -> None:
    facts: set[str] = {"early_riser"}
    drawn = draw_phrases("defining_quirks", 200, 40, facts, rng_for(0, "t", "x"))
    assert "Does the best thinking after midnight" not in drawn
    assert len(drawn) == len(set(drawn))
