"""Distances by hand and by law; simulated draws are the draw of a build; noise is what theory says."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.fidelity.distances import Cells, jensen_shannon, total_variation
from builder.fidelity.noise import simulated_draws
from builder.randomness import rng_for

CLOSE = 1e-9


def test_distances_computed_by_hand() -> None:
    half, one, other = np.array([0.5, 0.5]), np.array([1.0, 0.0]), np.array([0.0, 1.0])
    assert total_variation(half, one) == pytest.approx(0.5)
    # H(3/4, 1/4) = 0.811278 bits, less the mean entropy of 1 bit and 0 bits.
    assert jensen_shannon(half, one) == pytest.approx(0.311278, abs=1e-6)
    assert total_variation(one, other) == jensen_shannon(one, other) == 1.0
    assert total_variation(np.array([0.2, 0.3, 0.5]), np.array([0.4, 0.3, 0.3])) == pytest.approx(0.2)


def shares() -> st.SearchStrategy[np.ndarray]:
    counts = st.lists(st.integers(0, 1000), min_size=4, max_size=4).filter(any)
    return counts.map(lambda values: np.array(values) / sum(values))


@given(shares(), shares(), shares())
def test_laws_of_both_distances(p: np.ndarray, q: np.ndarray, r: np.ndarray) -> None:
    for distance in (total_variation, jensen_shannon):
        assert -CLOSE <= distance(p, q) <= 1 + CLOSE
        assert distance(p, q) == pytest.approx(distance(q, p), abs=CLOSE)
        assert distance(p, p) == pytest.approx(0, abs=CLOSE)
    assert total_variation(p, r) <= total_variation(p, q) + total_variation(q, r) + CLOSE
    # In bits the divergence never exceeds the total variation distance (Lin 1991).
    assert jensen_shannon(p, q) <= total_variation(p, q) + CLOSE


def test_joint_tables_of_all_attributes_equal_counting_pair_by_pair() -> None:
    rng = rng_for(1, "test", "cells")
    bins = (3, 2, 5)
    cells = Cells.of(bins)
    people = {
        name: np.column_stack([rng.integers(0, n, size) for n in bins]) for name, size in (("a", 700), ("b", 900))
    }
    weights = rng.integers(1, 50, 900).astype(float)
    p, q = cells.joint_shares(people["a"]), cells.joint_shares(people["b"], weights)
    tv, jsd = cells.distances(p, q)
    for first in range(3):
        for second in range(3):
            tables = []
            for codes, weight in ((people["a"], np.ones(700)), (people["b"], weights)):
                table = np.zeros((bins[first], bins[second]))
                np.add.at(table, (codes[:, first], codes[:, second]), weight)
                tables.append(table.ravel() / weight.sum())
            assert tv[first, second] == pytest.approx(total_variation(*tables), abs=1e-6)
            assert jsd[first, second] == pytest.approx(jensen_shannon(*tables), abs=1e-6)


@pytest.mark.parametrize("size", [2, 3])  # 2 of 5 rows: repeats are passed over; 3 of 5: by waiting times
def test_draws_without_replacement_have_the_probabilities_of_successive_drawing(size: int) -> None:
    weights = np.array([1.0, 2.0, 3.0, 4.0, 10.0])
    expected: dict[frozenset[int], float] = {}
    for order in permutations(range(5), size):
        probability, left = 1.0, weights.sum()
        for row in order:
            probability *= weights[row] / left
            left -= weights[row]
        expected[frozenset(order)] = expected.get(frozenset(order), 0.0) + probability
    draws = 20_000
    counts = dict.fromkeys(expected, 0)
    for rows in simulated_draws(weights, size, draws, rng_for(3, "test", f"draws {size}")):
        counts[frozenset(rows.tolist())] += 1
    for rows, probability in expected.items():
        error = (probability * (1 - probability) / draws) ** 0.5
        assert abs(counts[rows] / draws - probability) < 4.5 * error, rows


def test_a_draw_of_everybody_and_draws_with_replacement() -> None:
    weights = np.array([5.0, 1.0, 1.0])
    assert [sorted(rows.tolist()) for rows in simulated_draws(weights, 3, 2, rng_for(1, "test", "all"))] == [
        [0, 1, 2]
    ] * 2
    (rows,) = simulated_draws(weights, 9000, 1, rng_for(1, "test", "replace"), replace=True)
    assert np.bincount(rows) / 9000 == pytest.approx(weights / 7, abs=0.02)


def test_noise_of_a_multinomial_is_what_theory_expects() -> None:
    """E |X/n - p| of a binomial is sqrt(2 p (1 - p) / (pi n)); the distance is half the sum over the bins."""
    truth, size = np.array([0.5, 0.3, 0.15, 0.05]), 800
    codes = np.repeat(np.arange(4), (truth * 100_000).astype(int))[:, None]
    cells = Cells.of([4])
    reference = cells.joint_shares(codes)
    distances = [
        cells.distances(cells.joint_shares(codes[rows]), reference)[0][0, 0]
        for rows in simulated_draws(np.ones(len(codes)), size, 2000, rng_for(5, "test", "noise"))
    ]
    expected = np.sqrt(2 * truth * (1 - truth) / (np.pi * size)).sum() / 2
    assert np.mean(distances) == pytest.approx(expected, rel=0.03)
