"""Simulated people: annotators whose answers are planted, to try the analysis on before there are people, and to see that it finds what was
put in. They are no evidence about people, and everything made of them is labelled *simulated*.

Each persona has its own preferences, those of the data's labels. A simulated person answers by them with a stated reliability and the other
way otherwise, so two of them agree with kappa (2r - 1)(2s - 1) in the long run.
"""

from builder.randomness import rng_for

MOST_RELIABLE, LEAST_RELIABLE = 0.9, 0.75


def simulated_names(count: int) -> dict[str, float]:
    """Name -> reliability: the share of items answered by the persona's preference; evenly spread between the two ends."""
    step = (MOST_RELIABLE - LEAST_RELIABLE) / max(1, count - 1)
    return {f"simulated person {number + 1}": round(MOST_RELIABLE - number * step, 4) for number in range(count)}


def simulated_answer(name: str, reliability: float, pair_id: str, label: str, seed: int) -> str:
    """`A` or `B`; depends on nothing but the arguments. label: the answer that the persona prefers."""
    follows = rng_for(seed, "agreement/simulated", f"{name}/{pair_id}").random() < reliability
    return label if follows else {"A": "B", "B": "A"}[label]
