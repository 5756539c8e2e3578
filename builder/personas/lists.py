"""Curated phrases with conditions, and the draw of those that fit a person.

The lists are YAML files in `data/`, written for this project. A phrase can require or exclude facts about the person, and can add facts
itself, so that what is drawn later does not contradict what was drawn before.
"""

from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from builder.errors import InputError
from builder.schema import BIG_FIVE

FOLDER = Path(__file__).parent / "data"
ADULT = (18, 120)

# Every fact that a list may name. From the record: demographics.facts_about; from the sampled answers: psychographics.facts_about.
RECORD_FACTS = frozenset(
    [
        "worker",
        "unemployed",
        "retired",
        "military",
        "self_employed",
        "veteran",
        "children_at_home",
        "only_small_children",
        "new_baby",
        "partnered",
        "never_married",
        "lives_alone",
        "institution",
        "group_quarters",
        "disability",
        "cognitive_difficulty",
        "vision_difficulty",
        "hearing_difficulty",
        "foreign_born",
        "not_citizen",
        "other_language",
        "good_english",
        "weak_english",
        "spanish",
        "low_education",
        "low_income",
        "high_income",
    ]
)
BELIEF_FACTS = frozenset(
    ["religious", "christian", "evangelical", "atheist", "liberal", "very_liberal", "conservative", "very_conservative"]
)
PERSONALITY_FACTS = frozenset(f"{side}_{trait}" for side in ("low", "high") for trait in BIG_FIVE)
SAMPLED_FACTS = BELIEF_FACTS | PERSONALITY_FACTS
LIST_FACTS = frozenset(
    [
        "outdoorsy",
        "homebody",
        "frugal",
        "minimalist",
        "handy",
        "night_owl",
        "early_riser",
        "low_tech",
        "traveler",
        "cook",
        "sports_fan",
        "pets",
    ]
)
# Facts that set a person apart. Most people work, live with someone or speak English well; nobody is known for that.
TELLING_FACTS = RECORD_FACTS - {"worker", "partnered", "never_married", "good_english"}
FACTS = RECORD_FACTS | SAMPLED_FACTS | LIST_FACTS


@dataclass(frozen=True)
class Phrase:
    text: str
    ages: tuple[int, int] = ADULT
    needs: frozenset[str] = frozenset()
    not_with: frozenset[str] = frozenset()
    gives: frozenset[str] = frozenset()

    def fits(self, age: int, facts: set[str]) -> bool:
        return self.ages[0] <= age <= self.ages[1] and self.needs <= facts and not self.not_with & facts


@lru_cache(maxsize=16)
def load_phrases(name: str) -> tuple[Phrase, ...]:
    """The phrases of one list. Raises InputError for a condition that no fact can meet (a misspelt name)."""
    entries = yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    return tuple(make_phrase(entry, name) for entry in entries)


def make_phrase(entry: Any, name: str) -> Phrase:
    if isinstance(entry, str):
        return Phrase(entry)
    sets = {key: frozenset(entry.get(key, ())) for key in ("needs", "not_with", "gives")}
    unknown = (sets["needs"] | sets["not_with"] | sets["gives"]) - FACTS
    extra = set(entry) - {"text", "ages", *sets}
    if unknown or extra:
        raise InputError(
            f"{name}.yaml: {entry['text']!r} has the unknown condition(s) {', '.join(sorted(unknown | extra))}. See lists.py for the names."
        )
    low, high = entry.get("ages", ADULT)
    return Phrase(entry["text"], (low, high), sets["needs"], sets["not_with"], sets["gives"])


def draw_phrases(
    name: str,
    count: int,
    age: int,
    facts: set[str],
    rng: np.random.Generator,
    without: Collection[str | None] = (),
) -> list[str]:
    """Up to `count` different fitting phrases, none of `without`. Adds what they give to `facts`.

    A phrase that needs a telling fact was written for this person's situation and weighs three times as much as one that fits
    anybody, so that a new mother or a soldier is often described as one.
    """
    drawn: list[str] = []
    for _ in range(count):
        fitting = [
            phrase for phrase in load_phrases(name) if phrase.text not in (*drawn, *without) and phrase.fits(age, facts)
        ]
        if not fitting:
            break
        weights = np.array([3.0 if phrase.needs & TELLING_FACTS else 1.0 for phrase in fitting])
        phrase = fitting[int(rng.choice(len(fitting), p=weights / weights.sum()))]
        drawn.append(phrase.text)
        facts |= phrase.gives
    return drawn
