"""Which persona a rater is given: the one with the fewest places taken, so that the study stays balanced whoever drops out."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from builder.randomness import rng_for
from eval.human.records import Rater


def taken_places(raters: Sequence[Rater], excluded: Collection[str], idle_seconds: float, now: float) -> Counter[str]:
    """Persona id -> places taken: by who finished and is not excluded, and by who is at work, seen in the last `idle_seconds`.

    It can exceed the study's places: who was idle, lost the place to another and came back holds one again.
    """
    taken = Counter[str]()
    for rater in raters:
        if rater.persona_id is None or rater.rater_id in excluded:
            continue
        at_work = rater.last_seen is not None and now - rater.last_seen <= idle_seconds
        if rater.state == "finished" or at_work:
            taken[rater.persona_id] += 1
    return taken


def assign(
    personas: Sequence[str], taken: Mapping[str, int], raters_per_persona: int, seed: int, rater_id: str
) -> str | None:
    """The persona with the fewest places taken, one of them by lot where there are several; None where all places are taken.

    A pure function of its arguments. Without dropouts the counts never differ by more than one; with them every new rater goes where most
    are missing.
    """
    fewest = min((taken.get(persona, 0) for persona in personas), default=raters_per_persona)
    if fewest >= raters_per_persona:
        return None
    least = sorted(persona for persona in personas if taken.get(persona, 0) == fewest)
    return least[int(rng_for(seed, "study_assignment", rater_id).integers(len(least)))]
