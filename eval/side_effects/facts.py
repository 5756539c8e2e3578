"""The factual anchor: questions whose answer depends on nobody. What accuracy a persona costs is lost for nothing."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from eval.side_effects.paired import paired
from training.conditioning import CONDITIONS

TIE = "tie"


def factual_accuracy(rows: Sequence[tuple[str, str, Mapping[str, bool | None]]], seed: int) -> dict[str, Any]:
    """rows: (persona, fact, condition -> right or wrong, None if unscored). Of `paired`; the loss is minus `true_minus_none`."""
    values = {
        condition: [np.nan if right.get(condition) is None else float(bool(right[condition])) for _, _, right in rows]
        for condition in CONDITIONS
    }
    return paired(values, [persona for persona, _, _ in rows], [fact for _, fact, _ in rows], seed, "facts")


def is_right(probabilities: Mapping[str, float], answer: str) -> bool | None:
    """Whether the likeliest word is the answer; None where several are equally likely."""
    highest = max(probabilities.values())
    best = [word for word, probability in probabilities.items() if probability == highest]
    return best == [answer] if len(best) == 1 else None
