"""Intervals over personas."""

import numpy as np
import pytest

from builder.statistics import clustered_interval


def test_an_interval_holds_its_mean_and_does_not_depend_on_the_order():
    rng = np.random.default_rng(0)
    values, clusters = rng.random(60).tolist(), [(f"p{i % 12}",) for i in range(60)]
    low, high = clustered_interval(values, clusters, 1, "x")
    assert low < np.mean(values) < high
    order = rng.permutation(60)
    assert clustered_interval([values[i] for i in order], [clusters[i] for i in order], 1, "x") == pytest.approx(
        (low, high)
    )


def test_rows_of_one_persona_count_as_one_observation():
    values = [1.0] * 50 + [0.0] * 50
    wide = clustered_interval(values, [(f"p{i // 25}",) for i in range(100)], 1, "x")
    narrow = clustered_interval(values, [(f"p{i}",) for i in range(100)], 1, "x")
    assert wide[1] - wide[0] > 2 * (narrow[1] - narrow[0])


def test_pairs_that_share_a_persona_are_not_independent():
    """Coverage under a strong persona effect: twelve personas, every pair once. Pairs taken as independent cover about 60 %."""
    covered = 0
    for seed in range(100):
        effect = np.random.default_rng(seed).normal(size=12)
        pairs = [(i, j) for i in range(12) for j in range(i)]
        values = [effect[i] + effect[j] for i, j in pairs]
        low, high = clustered_interval(values, [tuple(sorted((f"p{i:02}", f"p{j:02}"))) for i, j in pairs], seed, "x")
        covered += low <= 0 <= high
    assert covered >= 85
