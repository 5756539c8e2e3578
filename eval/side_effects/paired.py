"""One measure under the three conditions, over the same items: its value under each, and what the true persona changes."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from builder.randomness import rng_for
from training.conditioning import CONDITIONS
from training.estimates import estimate_columns

GAPS = (("true", "none"), ("true", "wrong"))


def paired(
    values: Mapping[str, Sequence[float]], personas: Sequence[str], prompts: Sequence[str], seed: int, key: str
) -> dict[str, Any]:
    """{true, none, wrong, true_minus_none, true_minus_wrong}, each an Estimate as a dict, with intervals over personas and prompts.

    values: condition -> one number a row, NaN = not scored; rows in the same order. prompts: what each row's persona was asked, which
    other personas are asked too. A gap counts the rows scored under both. The order of rows changes nothing.
    """
    arrays = [np.asarray(values[condition], dtype=float) for condition in CONDITIONS]
    differences = [np.asarray(values[a], dtype=float) - np.asarray(values[b], dtype=float) for a, b in GAPS]
    names = [*CONDITIONS, *(f"{a}_minus_{b}" for a, b in GAPS)]
    if not len(personas):
        arrays, differences, personas, prompts = [np.full(1, np.nan)] * 3, [np.full(1, np.nan)] * 2, [""], [""]
    estimates = estimate_columns(
        np.stack([*arrays, *differences], axis=1),
        [(persona,) for persona in personas],
        rng_for(seed, "eval/side_effects", key),
        differences=len(names) if _beyond_shares(arrays) else len(GAPS),
        prompts=prompts,
    )
    return dict(zip(names, map(asdict, estimates), strict=True))


def _beyond_shares(arrays: Sequence[np.ndarray]) -> bool:
    """Differences and counts of words: the score interval of a share of 0 or 1 is not theirs."""
    counted = np.concatenate(arrays)
    counted = counted[~np.isnan(counted)]
    return bool(len(counted)) and bool(counted.min() < 0 or counted.max() > 1)
