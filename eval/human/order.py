"""The order in which a rater meets the questions, and which of the two answers stands first. Drawn, so that neither tells anything."""

from collections.abc import Collection, Sequence

from builder.randomness import rng_for


def item_order(seed: int, rater_id: str, shown: Sequence[str], checks: Collection[str]) -> list[str]:
    """The rater's own order of the item ids `shown`, whatever order they are given in; checks: ids of attention checks.

    An attention check stands between two questions: never first, where nobody is tired yet, nor last, where who gave up half way would
    have met none. Two checks stand apart where there are enough questions. With a single question the checks follow it.
    """
    rng = rng_for(seed, "study_order", rater_id)
    questions = [str(item) for item in rng.permutation(sorted(set(shown) - set(checks)))]
    met = [str(item) for item in rng.permutation(sorted(set(shown) & set(checks)))]
    if not questions:
        return met
    gaps = max(len(questions) - 1, 1)
    places = rng.choice(gaps, size=len(met), replace=len(met) > gaps) + 1
    behind: dict[int, list[str]] = {}  # number of questions before -> the checks that follow there
    for check, place in zip(met, places, strict=True):
        behind.setdefault(int(place), []).append(check)
    return [item for number, question in enumerate(questions, start=1) for item in (question, *behind.get(number, ()))]


def first_answer(seed: int, rater_id: str, item_id: str) -> str:
    """`chosen` or `rejected`: which of the item's answers this rater sees as A."""
    return ("chosen", "rejected")[int(rng_for(seed, "study_first_answer", f"{rater_id}|{item_id}").integers(2))]
