"""Which prompts are used, and which of them are held out.

Both draws are stratified by topic in proportion (largest remainder), so that train and held-out prompts have the same
mix of topics. Within a topic the order is a seeded shuffle that depends on the question alone: adding, removing or
moving other prompts does not turn it.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from builder.errors import InputError
from builder.randomness import seed_for
from builder.recipe import BuildRecipe


@dataclass(frozen=True)
class Sizes:
    """How many prompts a build uses and how many of them it holds out."""

    count: int
    heldout: int
    scaled_down: bool


def sizes(available: int, recipe: BuildRecipe, history: str) -> Sizes:
    """The recipe's sizes, or, where fewer prompts are available, all of them and proportionally fewer held out.

    Scaling never goes below what a persona's pairs need on either side. Raises InputError where both sides cannot be
    met; `history` says in it where the other prompts went.
    """
    asked, pairs = recipe.prompts, recipe.pairs
    if available >= asked.count:
        return Sizes(asked.count, asked.heldout, scaled_down=False)
    for_training = pairs.train + pairs.seen_test
    needed = max(1, for_training + pairs.heldout_test)
    if available < needed:
        raise InputError(
            f"{history}, and {available} prompts are left, but a persona's pairs need {needed}: "
            f"pairs.train {pairs.train} + pairs.seen_test {pairs.seen_test} in the train pool and pairs.heldout_test "
            f"{pairs.heldout_test} held out. Give a larger prompts.source, loosen the filters under prompts, or lower "
            "the numbers under pairs."
        )
    # Rounded half up in whole numbers, then moved no further than the pairs need.
    proportional = (2 * asked.heldout * available + asked.count) // (2 * asked.count)
    heldout = min(max(proportional, pairs.heldout_test), available - for_training)
    return Sizes(available, heldout, scaled_down=True)


def sizes_of_more(available: int, recipe: BuildRecipe, earlier: Sequence[str]) -> Sizes:
    """How many prompts come to those of an earlier version, whose pools are given, and how many of these are held out; fewer,
    in proportion, where fewer are available. Raises InputError where the recipe asks for fewer than there are.
    """
    asked = recipe.prompts
    more, heldout = asked.count - len(earlier), asked.heldout - earlier.count("heldout")
    if more < 0 or heldout < 0 or heldout > more:
        raise InputError(
            f"prompts.count {asked.count} and prompts.heldout {asked.heldout} leave {more} prompts to add, {heldout} of them held "
            f"out, to the {len(earlier)} of the earlier version ({earlier.count('heldout')} held out), which all stay where they "
            "are. Raise them."
        )
    if available >= more:
        return Sizes(more, heldout, scaled_down=False)
    return Sizes(available, (2 * heldout * available + more) // (2 * more), scaled_down=True)


def choose(scores: Mapping[str, float | None], topics: Mapping[str, str], count: int, seed: int) -> set[str]:
    """`count` of the questions: the highest scores first. Where a score is shared by more than are still wanted
    (without a classifier: always, as every score is null), those are drawn stratified by topic.

    `scores` and `topics` are keyed by question; count <= len(scores).
    """
    by_score: dict[float, list[str]] = defaultdict(list)
    for question, score in scores.items():
        by_score[-1.0 if score is None else score].append(question)
    chosen: set[str] = set()
    for score in sorted(by_score, reverse=True):
        wanted = min(count - len(chosen), len(by_score[score]))
        chosen |= stratified(by_score[score], topics, wanted, seed, "prompts.choose")
    return chosen


def hold_out(chosen: Sequence[str], topics: Mapping[str, str], heldout: int, seed: int) -> set[str]:
    """`heldout` of the chosen questions, stratified by topic."""
    return stratified(chosen, topics, heldout, seed, "prompts.heldout")


def stratified(questions: Sequence[str], topics: Mapping[str, str], wanted: int, seed: int, purpose: str) -> set[str]:
    """`wanted` of the (distinct) questions, from each topic its share by largest remainder."""
    strata: dict[str, list[str]] = defaultdict(list)
    for question in questions:
        strata[topics[question]].append(question)
    quotas = largest_remainder(
        {topic: len(members) for topic, members in strata.items()}, wanted, seed, f"{purpose}.topic"
    )
    return {
        question
        for topic, members in strata.items()
        for question in sorted(members, key=lambda member: (seed_for(seed, purpose, member), member))[: quotas[topic]]
    }


def largest_remainder(stratum_sizes: Mapping[str, int], wanted: int, seed: int, purpose: str) -> dict[str, int]:
    """Whole-number shares of `wanted` in proportion to the sizes; they add up to it and none exceeds its stratum.

    Equal remainders are served in a seeded order of the names, which `purpose` also decides, so that none is favoured by the alphabet.
    """
    total = sum(stratum_sizes.values())
    if wanted > total:
        raise ValueError(f"{wanted} wanted of {total}")
    if total == 0:
        return dict.fromkeys(stratum_sizes, 0)
    exact = {topic: divmod(wanted * size, total) for topic, size in stratum_sizes.items()}
    quotas = {topic: whole for topic, (whole, _) in exact.items()}
    order = sorted(exact, key=lambda topic: (-exact[topic][1], seed_for(seed, purpose, topic), topic))
    for topic in order[: wanted - sum(quotas.values())]:
        quotas[topic] += 1
    return quotas
