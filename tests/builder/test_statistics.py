"""Intervals over personas and prompts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder import statistics
from builder.statistics import cluster_sums, clustered_interval, resampled_means, resampled_weights


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


def width(interval: tuple[float, float]) -> float:
    return interval[1] - interval[0]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.booleans(), st.integers(1, 5), st.integers(1, 40))
def test_two_way_means_are_those_of_counting_every_row_as_often_as_it_was_drawn(
    seed: int, pairs: bool, prompts: int, rows: int
):
    """Brute force: the same draws, each row by itself."""
    rng = np.random.default_rng(seed)
    values = np.where(rng.random((rows, 2)) < 0.2, np.nan, rng.random((rows, 2)))
    drawn = [sorted({f"p{rng.integers(6)}", f"p{rng.integers(6) if pairs else 9}"}) for _ in range(rows)]
    clusters = [tuple(names) if pairs else (names[0],) for names in drawn]
    asked = [f"q{rng.integers(prompts)}" for _ in range(rows)]
    sums = cluster_sums(values, clusters, asked)
    means = resampled_means(sums, np.random.default_rng(seed))

    repeated = np.random.default_rng(seed)
    personas, questions = sorted({p for c in clusters for p in c}), sorted(set(asked))
    size = min(statistics.RESAMPLES, max(1, 4_000_000 // len(set(zip(clusters, asked, strict=True)))))
    person_draws = repeated.multinomial(len(personas), np.full(len(personas), 1 / len(personas)), size=size)
    prompt_draws = repeated.multinomial(len(questions), np.full(len(questions), 1 / len(questions)), size=size)
    for draw in (0, 1, size - 1):
        person = dict(zip(personas, person_draws[draw], strict=True))
        prompt = dict(zip(questions, prompt_draws[draw], strict=True))
        for column in range(2):
            weights = [np.prod([person[p] for p in c]) * prompt[q] for c, q in zip(clusters, asked, strict=True)]
            own = [(w, v) for w, v in zip(weights, values[:, column], strict=True) if not np.isnan(v)]
            total = sum(w for w, _ in own)
            expected = sum(w * v for w, v in own) / total if total else np.nan
            assert means[draw, column] == pytest.approx(expected, nan_ok=True)


def test_prompts_that_matter_widen_the_interval_and_one_prompt_changes_nothing():
    rng = np.random.default_rng(0)
    effect = rng.normal(size=6)
    clusters = [(f"p{i:02}",) for i in range(40) for _ in range(6)]
    prompts = [f"q{j}" for _ in range(40) for j in range(6)]
    values = [effect[j] + 0.1 * rng.normal() for _ in range(40) for j in range(6)]
    one_way = clustered_interval(values, clusters, 1, "x")
    two_way = clustered_interval(values, clusters, 1, "x", prompts=prompts)
    assert width(two_way) > 10 * width(one_way)
    alike = clustered_interval(values, clusters, 1, "x", prompts=["q"] * len(values))
    assert width(alike) == pytest.approx(width(one_way), rel=0.1)


def test_coverage_where_personas_and_prompts_both_matter():
    """Ten personas, ten prompts, both with an effect: personas alone cover about 60 % of the time."""
    covered = {"one": 0, "two": 0}
    clusters = [(f"p{i}",) for i in range(10) for _ in range(10)]
    prompts = [f"q{j}" for _ in range(10) for j in range(10)]
    for seed in range(60):
        rng = np.random.default_rng(seed)
        person, prompt = rng.normal(size=10), rng.normal(size=10)
        values = [person[i] + prompt[j] + rng.normal() for i in range(10) for j in range(10)]
        for name, asked in (("one", None), ("two", prompts)):
            low, high = clustered_interval(values, clusters, seed, "x", prompts=asked)
            covered[name] += low <= 0 <= high
    assert covered["two"] >= 50
    assert covered["one"] < covered["two"]


def test_the_order_of_rows_changes_no_two_way_interval():
    rng = np.random.default_rng(0)
    values = rng.random(60).tolist()
    clusters, prompts = [(f"p{i % 12}",) for i in range(60)], [f"q{i % 5}" for i in range(60)]
    order = rng.permutation(60)
    assert clustered_interval(
        [values[i] for i in order], [clusters[i] for i in order], 1, "x", prompts=[prompts[i] for i in order]
    ) == pytest.approx(clustered_interval(values, clusters, 1, "x", prompts=prompts))


def test_weights_come_in_blocks_of_bounded_size():
    clusters = [(f"p{i % 97:02}",) for i in range(20_000)]
    sums = cluster_sums(np.ones((20_000, 1)), clusters, [f"q{i % 1009:04}" for i in range(20_000)])
    blocks = [block.shape for block in resampled_weights(sums, np.random.default_rng(0))]
    assert sum(rows for rows, _ in blocks) == statistics.RESAMPLES
    assert all(rows * columns <= 4_000_000 for rows, columns in blocks)
