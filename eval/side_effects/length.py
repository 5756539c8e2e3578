"""Length drift: words of an answer with and without the persona. In words, not a share."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from builder.lexical import words
from eval.side_effects.paired import paired


def length_drift(
    texts: Mapping[str, Sequence[str | None]], questions: Sequence[str], personas: Sequence[str], seed: int
) -> dict[str, Any]:
    """Of `paired`, in words."""
    counts = {
        condition: [np.nan if answer is None else float(len(words(answer))) for answer in answers]
        for condition, answers in texts.items()
    }
    return paired(counts, personas, questions, seed, "length")
