"""pass@k: how likely at least one of k answers to a question passes, estimated without bias from n answers that were judged one by one.

1 - C(n - c, k) / C(n, k) with c passes among n (Chen et al. 2021, arXiv 2107.03374, equation 1).
"""

import math

from builder.errors import InputError

LARGEST_K = 16


def pass_at_k(scored: int, passed: int, k: int) -> float:
    """scored: answers with a verdict; passed: those of them that pass. NaN where there are fewer than k of them.

    Raises InputError for k < 1, a negative number, or more passes than answers.
    """
    if k < 1:
        raise InputError(f"k is {k}; pass@k is about at least 1 answer. Give k from 1 on.")
    if not 0 <= passed <= scored:
        raise InputError(f"{passed} of {scored} answers pass, which cannot be. Give 0 <= passed <= scored.")
    if k > scored:
        return math.nan
    return 1.0 - math.comb(scored - passed, k) / math.comb(scored, k)


def ks_for(samples: int) -> list[int]:
    """1, 2, 4, 8 and 16, as far as `samples` goes. Raises InputError below 1."""
    if samples < 1:
        raise InputError(
            f"--samples is {samples}; pass@k needs at least 1 answer to a question, and 16 for the paper's figure."
        )
    return [k for k in (1, 2, 4, 8, LARGEST_K) if k <= samples]


def check_samples(samples: int, temperature: float) -> None:
    """Raises InputError for samples that could not differ."""
    ks_for(samples)
    if samples > 1 and temperature == 0:
        raise InputError(
            f"--temperature 0 gives the same answer {samples} times, so pass@k would be pass@1. Give a temperature above 0, as 0.7."
        )
