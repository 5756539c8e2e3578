"""All randomness of a build comes from here.

Every item (a persona, a pair, one sampled answer) has its own generator, derived from the run's seed, the name of the stage and
the item's own key. Order of work, number of workers, interruption and hash seeds therefore change nothing.
"""

import hashlib

import numpy as np


def seed_for(seed: int, stage: str, key: str) -> int:
    """A 63-bit integer that depends on all three arguments and on nothing else."""
    # The length prefix keeps ("ab", "c") apart from ("a", "bc").
    text = f"{seed}|{len(stage)}|{stage}|{key}"
    return int.from_bytes(hashlib.sha256(text.encode("utf-8")).digest()[:8], "big") >> 1


def rng_for(seed: int, stage: str, key: str) -> np.random.Generator:
    """A fresh generator for one item of one stage."""
    return np.random.Generator(np.random.PCG64(seed_for(seed, stage, key)))
