"""What is asked next: at random, in one fixed order for everybody, or where the persona is most uncertain.

No order looks at a test pair, neither at its texts nor at its label, and none looks at the profile of the persona that is asked.
"""

import math
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from builder.lexical import SHORTEST_CONTENT_WORD, words
from builder.randomness import rng_for
from builder.schema import ATTRIBUTES
from eval.elicitation.material import Pair
from eval.elicitation.simulator import UNSTATED, Reply, Stated, telling_words
from training.profiles import line_of

ORDERS = ("random", "fixed", "uncertainty")
NUMBERS = ("age", "income")  # compared by fifths of the population
BANDS = 5
PROBES = 60  # pairs of other personas on which an answer could tell
COPIED = 0.5  # how far a persona is taken for one of the population: half its answer, half anybody's


@dataclass(frozen=True)
class Population:
    """What is known of people before anybody is asked.

    values: attribute -> value of each person, None where its profile does not say. codes: the same, coarse enough to be compared.
    bits: attribute -> share of people who say it x entropy of what they say. swings: attribute -> (people, probes), how far a person's
    line moves the lexical preference on a probe pair (see `_swings`). probes: whose answers each probe pair holds.
    """

    people: list[str]
    values: Mapping[str, list[str | None]]
    codes: Mapping[str, list[str]]
    edges: Mapping[str, list[float]]
    bits: Mapping[str, float]
    swings: Mapping[str, np.ndarray]
    probes: list[tuple[str, ...]]


def describe_population(stated: Mapping[str, Stated], pairs: Sequence[Pair], seed: int) -> Population:
    """stated: persona -> profile, line by line. pairs: of the train split; their labels are not used."""
    people = sorted(stated)
    values: dict[str, list[str | None]] = {
        name: [_said(stated[person].get(name)) for person in people] for name in ATTRIBUTES
    }
    edges = {name: _edges(values[name]) for name in NUMBERS}
    codes = {name: [code_of(name, value, edges) for value in values[name]] for name in ATTRIBUTES}
    drawn = rng_for(seed, "elicitation/probes", "").permutation(len(pairs))[:PROBES]
    probes = [pairs[place] for place in sorted(drawn)]
    return Population(
        people=people,
        values=values,
        codes=codes,
        edges=edges,
        bits={name: _bits(codes[name]) for name in ATTRIBUTES},
        swings=_swings(values, probes),
        probes=[pair.personas for pair in probes],
    )


def fixed_order(population: Population) -> list[str]:
    """Attributes by what an answer is expected to tell of a person of whom nothing is known, in bits; of equals the schema's first."""
    return sorted(ATTRIBUTES, key=lambda name: -round(population.bits[name], 9))


def random_order(names: Sequence[str], seed: int, key: str) -> list[str]:
    """Drawn by seed and key, the same in whatever order the names come."""
    ordered = sorted(names)
    return [ordered[place] for place in rng_for(seed, "elicitation/random", key).permutation(len(ordered))]


def most_uncertain_attribute(
    population: Population, persona: str, given: Sequence[tuple[str, Reply]], for_everybody: Sequence[str]
) -> str | None:
    """The attribute whose answer would move the preferences most, as far as can be foreseen; None when all were asked.

    given: (attribute, reply) so far. for_everybody: the fixed order. The answer is foreseen from the population without the persona
    itself, each person weighted by how well it fits the replies so far. What is maximised is the variance that the line brings to the
    lexical preference on the probe pairs, which for a sum over lines is the variance that asking removes. Of equals the one that comes
    first in the fixed order.
    """
    asked = {name for name, _ in given}
    left = [name for name in for_everybody if name not in asked]
    if not left:
        return None
    weights = _likeness(population, persona, given)
    foreign = np.array([persona not in personas for personas in population.probes], dtype=bool)
    return max(left, key=lambda name: (_variance(population.swings[name], weights, foreign), -left.index(name)))


def code_of(name: str, value: str | None, edges: Mapping[str, Sequence[float]]) -> str:
    """A value as it is compared: a number's band, any other text in lower case, and nothing where nothing is said."""
    if value is None:
        return ""
    number = re.search(r"-?\$?\d[\d,]*", value) if name in edges else None
    if number is None:
        return value.casefold()
    return f"band {bisect_left(edges[name], _number(number[0]))}"


def _said(value: str | None) -> str | None:
    return None if value in UNSTATED else value


def _number(text: str) -> float:
    return float(text.replace("$", "").replace(",", ""))


def _edges(values: Sequence[str | None]) -> list[float]:
    """The upper ends of all fifths but the last."""
    found = [re.search(r"-?\$?\d[\d,]*", value) for value in values if value is not None]
    numbers = sorted(_number(match[0]) for match in found if match is not None)
    return [numbers[len(numbers) * part // BANDS] for part in range(1, BANDS)] if numbers else []


def _bits(codes: Sequence[str]) -> float:
    stated = Counter(code for code in codes if code)
    total = sum(stated.values())
    entropy = -math.fsum(count / total * math.log2(count / total) for count in stated.values())
    return total / len(codes) * entropy if total else 0.0


def _likeness(population: Population, persona: str, given: Sequence[tuple[str, Reply]]) -> np.ndarray:
    """(people,), summing to 1. Each reply is taken as that person's own with chance COPIED, else as anybody's."""
    weights = np.array([float(person != persona) for person in population.people])
    for name, reply in given:
        fits = _fits(population, name, reply)
        if (weights * fits).sum() > 0:
            weights = weights * (COPIED * fits + (1 - COPIED) * (weights * fits).sum() / weights.sum())
            weights /= weights.sum()
    return weights / max(weights.sum(), 1e-300)


def _fits(population: Population, name: str, reply: Reply) -> np.ndarray:
    """(people,): 1 where a person would say the same. A model's words are compared by the telling words of each person's value."""
    said = reply.learned.get(name)
    if said is None:
        return np.array([float(code == "") for code in population.codes[name]])
    code, telling = code_of(name, said, population.edges), telling_words(said)
    return np.array(
        [
            float(
                bool(own)
                and (own == code or (bool(telling_words(value or "")) and telling_words(value or "") <= telling))
            )
            for own, value in zip(population.codes[name], population.values[name], strict=True)
        ]
    )


def _variance(swings: np.ndarray, weights: np.ndarray, counted: np.ndarray) -> float:
    """Over people, the mean over the counted probes."""
    if not counted.any() or not len(weights):
        return 0.0
    own = swings[:, counted]
    # Rounded, so that a machine's last bits decide nothing.
    return round(float((weights @ own**2 - (weights @ own) ** 2).mean()), 12)


def _swings(values: Mapping[str, Sequence[str | None]], probes: Sequence[Pair]) -> dict[str, np.ndarray]:
    """Attribute -> (people, probes): by how much more of the first answer's longer words than of the second's stand in the person's line
    (builder.lexical.profile_overlap, line by line); 0 where the profile does not say.

    First and second are in alphabetical order, so that no label shows.
    """
    answers = [[_longer_words(text) for text in sorted((pair.preferred, pair.other))] for pair in probes]
    known = {word: place for place, word in enumerate(sorted({w for pair in answers for a in pair for w in a}))}
    shares = np.zeros((len(known), len(probes)))
    for probe, pair in enumerate(answers):
        for sign, answer in zip((1.0, -1.0), pair, strict=True):
            for word in answer:
                shares[known[word], probe] += sign / len(answer)
    swings = {}
    for name, column in values.items():
        lines = sorted({value for value in column if value is not None})
        moved = np.zeros((len(lines) + 1, len(probes)))  # the last row: not said
        for place, value in enumerate(lines):
            held = [known[word] for word in set(words(line_of(name, value))) if word in known]
            moved[place] = shares[held].sum(axis=0)
        row_of = {value: place for place, value in enumerate(lines)}
        swings[name] = moved[[row_of[value] if value is not None else len(lines) for value in column]]
    return swings


@lru_cache(maxsize=4096)
def _longer_words(text: str) -> tuple[str, ...]:
    return tuple(word for word in words(text) if len(word) >= SHORTEST_CONTENT_WORD)


def question_spread(pairs: Sequence[Pair], squared: Sequence[float]) -> dict[str, float]:
    """Question -> mean squared difference of the two answers to it, over a population's pairs: the fixed order of labelled pairs."""
    found: dict[str, list[float]] = {}
    for pair, value in zip(pairs, squared, strict=True):
        found.setdefault(pair.prompt_id, []).append(value)
    return {prompt: math.fsum(values) / len(values) for prompt, values in found.items()}


def fixed_pairs(pool: Collection[Pair], spread: Mapping[str, float]) -> list[Pair]:
    """A pool by its questions' spread, the same order of questions for everybody; questions that the population lacks come last."""
    return sorted(pool, key=lambda pair: (-round(spread.get(pair.prompt_id, 0.0), 9), pair.prompt_id, pair.pair_id))
