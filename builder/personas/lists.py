"""Curated phrases with conditions, and the draw of those that fit a person.

The lists are YAML files in `data/`, written for this project. A phrase can require or exclude facts about the person, and can add facts
itself, so that what is drawn later does not contradict what was drawn before. How an entry is written: head of data/lifestyle.yaml.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from builder.errors import InputError
from builder.schema import BIG_FIVE

FOLDER = Path(__file__).parent / "data"
OLDEST = 120
ADULT = (18, OLDEST)
TELLING_WEIGHT = 3

# The facts that an entry may name, by where they come from.
# 1. From the record, by demographics.facts_about. Some come together: a difficulty of any kind with `disability`, and `institution` with
# `group_quarters`. An entry need exclude the wider of the two only.
RECORD_FACTS = frozenset(
    [
        *("worker", "unemployed", "retired", "military", "self_employed", "veteran", "driver", "shift_job"),
        *("children_at_home", "only_small_children", "new_baby", "lives_alone", "institution", "group_quarters"),
        *("family_household", "cohabiting_household", "partnered", "married", "never_married", "widowed"),
        *("disability", "cognitive_difficulty", "vision_difficulty", "hearing_difficulty", "deafblind"),
        *("foreign_born", "not_citizen", "other_language", "good_english", "weak_english", "spanish"),
        *("low_education", "little_schooling", "low_income", "high_income"),
    ]
)
# Facts of the record that set a person apart. Most people work, live with someone or speak English well; nobody is known for that.
TELLING_FACTS = RECORD_FACTS - {"worker", "family_household", "partnered", "married", "never_married", "good_english"}

# 2. From the sampled religion, party, ideology and personality, by psychographics.beliefs_as_facts and personality_as_facts.
BELIEF_FACTS = frozenset(
    [
        *("religious", "christian", "evangelical", "latter_day_saint", "muslim", "buddhist", "hindu"),
        *("abrahamic", "feast_and_fast_faith", "unaffiliated", "atheist"),
        *("liberal", "very_liberal", "conservative", "very_conservative", "democrat", "republican"),
    ]
)
PERSONALITY_FACTS = frozenset(f"{side}_{trait}" for side in ("low", "high") for trait in BIG_FIVE)

# 3. From the lists themselves: what a drawn phrase says of the person. A fact and its opposite are never said of the same one.
OPPOSITES = (
    # day and work
    *(("early_riser", "night_owl"), ("busy", "unhurried"), ("work_first", "life_first")),
    *(("planner", "spontaneous"), ("punctual", "late"), ("patient", "impatient")),
    # place
    *(("homebody", "on_the_go"), ("homebody", "traveler"), ("rooted", "mobile"), ("rural", "urban")),
    *(("house", "apartment"), ("drives", "no_car"), ("outdoorsy", "indoors"), ("sporty", "sedentary")),
    # household
    *(("frugal", "spender"), ("minimalist", "keeper"), ("tidy", "messy"), ("handy", "not_handy")),
    *(("cook", "no_cook"), ("gardener", "no_garden"), ("pets", "no_pets"), ("dressed_up", "dressed_down")),
    # company
    *(("sociable", "solitary"), ("family_close", "family_distant"), ("private", "open"), ("talkative", "quiet")),
    *(("loud", "quiet"), ("loud", "soft_spoken"), ("listener", "interrupter"), ("blunt", "tactful")),
    *(("joker", "serious"), ("swears", "never_swears"), ("trusting", "wary"), ("competitive", "not_competitive")),
    # temper
    *(("calm", "worrier"), ("cheerful", "grumbler"), ("careful", "daring"), ("traditional", "unconventional")),
    ("good_memory", "forgetful"),
    # tastes
    *(("health_minded", "indulgent"), ("meat_eater", "vegetarian"), ("sweet_tooth", "no_sweets")),
    *(("coffee", "no_coffee"), ("alcohol", "no_alcohol"), ("noise", "silence"), ("reader", "nonreader")),
    *(("tv_viewer", "no_tv"), ("sports_fan", "no_sports"), ("news_follower", "news_avoider")),
    *(("low_tech", "online"), ("phone_caller", "no_phone_calls")),
)
LIST_FACTS = frozenset(fact for pair in OPPOSITES for fact in pair)
# And what it cannot be said with, of the facts that were there before.
RULED_OUT_BY = {
    # by where the person lives
    **{fact: ["group_quarters"] for fact in ("homebody", "house", "apartment", "handy", "cook", "gardener", "pets")},
    **{fact: ["institution"] for fact in ("on_the_go", "traveler")},
    # by what the person cannot do
    "drives": ["vision_difficulty", "institution"],
    "reader": ["vision_difficulty", "little_schooling"],
    "tv_viewer": ["vision_difficulty"],
    "sports_fan": ["deafblind"],
    "noise": ["hearing_difficulty"],
    "phone_caller": ["hearing_difficulty"],
    "listener": ["hearing_difficulty"],
    "interrupter": ["hearing_difficulty", "high_agreeableness"],
    "good_memory": ["cognitive_difficulty"],
    # by the present or last job
    "no_car": ["driver"],
    # by personality
    **{fact: ["low_extraversion"] for fact in ("sociable", "talkative", "loud")},
    **{fact: ["high_extraversion"] for fact in ("solitary", "quiet")},
    **{fact: ["low_conscientiousness"] for fact in ("tidy", "planner", "punctual", "work_first")},
    **{fact: ["high_conscientiousness"] for fact in ("messy", "spontaneous", "late")},
    **{fact: ["low_agreeableness"] for fact in ("tactful", "trusting")},
    **{fact: ["high_agreeableness"] for fact in ("blunt", "wary", "competitive")},
    "unconventional": ["low_openness"],
    "traditional": ["high_openness"],
    "worrier": ["low_neuroticism"],
    "calm": ["high_neuroticism"],
    # by religion
    "alcohol": ["muslim", "latter_day_saint"],
    "coffee": ["latter_day_saint"],
    "meat_eater": ["hindu"],
}

FACTS = RECORD_FACTS | BELIEF_FACTS | PERSONALITY_FACTS | LIST_FACTS


@dataclass(frozen=True)
class Phrase:
    """ages: youngest and oldest, both inclusive. not_with: what the entry excludes itself, and what its `gives` rule out."""

    text: str
    ages: tuple[int, int] = ADULT
    needs: frozenset[str] = frozenset()
    not_with: frozenset[str] = frozenset()
    gives: frozenset[str] = frozenset()

    def fits(self, age: int, facts: set[str]) -> bool:
        return self.ages[0] <= age <= self.ages[1] and self.needs <= facts and not self.not_with & facts


class PhraseIndex:
    """What a draw asks of a list, answered without a look at each phrase.

    A set of phrases is an int: bit i stands for the list's phrase i. Python's own integers take a set of any length through one
    operation, which at some 200 phrases is faster than an array.
    """

    def __init__(self, phrases: Sequence[Phrase]) -> None:
        self.phrases = phrases
        self.by_text = {phrase.text: 1 << number for number, phrase in enumerate(phrases)}
        ages = range(OLDEST + 1)
        self.by_age = [self.set_of(p for p in phrases if p.ages[0] <= age <= p.ages[1]) for age in ages]
        # Fact -> the phrases that name it; facts that none names are absent.
        needed = frozenset().union(*(phrase.needs for phrase in phrases))
        excluded = frozenset().union(*(phrase.not_with for phrase in phrases))
        self.needing = {fact: self.set_of(p for p in phrases if fact in p.needs) for fact in needed}
        self.excluded_by = {fact: self.set_of(p for p in phrases if fact in p.not_with) for fact in excluded}
        self.telling = self.set_of(p for p in phrases if p.needs & TELLING_FACTS)

    def set_of(self, phrases: Iterable[Phrase]) -> int:
        return sum(self.by_text[phrase.text] for phrase in phrases)

    def fitting(self, age: int, facts: set[str]) -> int:
        """The phrases for which `Phrase.fits(age, facts)` holds."""
        fitting = self.by_age[age] if 0 <= age < len(self.by_age) else 0
        for fact, phrases in self.needing.items():
            if fact not in facts:
                fitting &= ~phrases
        for fact in facts:
            fitting &= ~self.excluded_by.get(fact, 0)
        return fitting


@lru_cache(maxsize=16)
def load_phrases(name: str) -> tuple[Phrase, ...]:
    """The phrases of one list. Raises InputError for a condition that no fact can meet (a misspelt name)."""
    entries = yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    return tuple(make_phrase(entry, name) for entry in entries)


@lru_cache(maxsize=16)
def load_index(name: str) -> PhraseIndex:
    return PhraseIndex(load_phrases(name))


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
    # A fact that a later phrase gives would come too late for this phrase to exclude it: each of the two has to keep off the other.
    misplaced = (sets["not_with"] & LIST_FACTS) | (sets["gives"] - LIST_FACTS)
    if misplaced:
        raise InputError(
            f"{name}.yaml: {entry['text']!r} has {', '.join(sorted(misplaced))} in the wrong place. `not_with` takes facts about the "
            "person, `gives` facts of the lists: instead of excluding a fact of the lists, give its opposite."
        )
    low, high = entry.get("ages", ADULT)
    return Phrase(entry["text"], (low, high), sets["needs"], sets["not_with"] | ruled_out(sets["gives"]), sets["gives"])


def ruled_out(given: Collection[str]) -> frozenset[str]:
    """The facts that cannot hold beside `given`."""
    opposites = [second for pair in OPPOSITES for first, second in (pair, pair[::-1]) if first in given]
    return frozenset([*opposites, *(fact for name in given for fact in RULED_OUT_BY.get(name, ()))])


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
    index = load_index(name)
    unwanted = 0
    for text in without:
        unwanted |= index.by_text.get(text or "", 0)
    drawn: list[str] = []
    for _ in range(count):
        fitting = index.fitting(age, facts) & ~unwanted
        if not fitting:
            break
        # Tickets: one for each phrase, then two more for each telling one.
        telling = fitting & index.telling
        everyone, extra = fitting.bit_count(), TELLING_WEIGHT - 1
        ticket = int(rng.integers(everyone + extra * telling.bit_count()))
        if ticket < everyone:
            number = nth_bit(fitting, ticket)
        else:
            number = nth_bit(telling, (ticket - everyone) // extra)
        unwanted |= 1 << number
        phrase = index.phrases[number]
        drawn.append(phrase.text)
        facts |= phrase.gives
    return drawn


def nth_bit(bits: int, n: int) -> int:
    """Position of the set bit that has exactly `n` set bits below it, by bisection."""
    low, high = 0, bits.bit_length()
    while high - low > 1:
        middle = (low + high) // 2
        if (bits & ((1 << middle) - 1)).bit_count() <= n:
            low = middle
        else:
            high = middle
    return low
