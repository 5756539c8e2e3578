"""Which difference between two scorers is more than chance, and what a seed moves."""

import itertools
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import permutation_test, t

from builder.errors import InputError
from builder.randomness import rng_for
from eval.metrics import measure
from eval.models_section import section
from eval.models_table import result_table
from eval.pair_results import as_content, load_pair_results, result_name, write_scores
from eval.paired_test import crossed_p_values, paired_p_values, sign_flip_p_values
from eval.results import Result, write_result
from eval.scores import PairScore
from eval.seed_spread import seed_groups, spread_over_seeds
from eval.significance import compare_scorers, holm
from tests.eval.test_eval_metrics import contrast_rows, dpf_rows
from training.conditioning import CONDITIONS

ROWS = [*dpf_rows(16, 12, judge_verdict="chosen"), *contrast_rows(8, 2)]
Wins = Callable[[int, str], float]  # row number, condition -> how much the chosen text is ahead


def write(folder: Path, name: str, kind: str, wins: Wins, seed_group: str | None = None) -> None:
    scores = {c: [PairScore(wins(place, c), 0.0) for place in range(len(ROWS))] for c in CONDITIONS}
    file = result_name(name)
    subject = {"name": name, "kind": kind, "kind_id": kind, "seed_group": seed_group, "training": None}
    result = Result(
        evaluation="models",
        name=file,
        description=name,
        fingerprint={},
        dataset={"name": "d", "version": None, "content_sha256": "0", "rows": {}},
        subject=subject,
        judges=[],
        settings={},
        seed=0,
        provenance={},
        rows={"scored": 3 * len(ROWS), "unscored": {}},
        files=write_scores(folder, file, ROWS, scores),
        content=as_content(measure(ROWS, scores, 0)),
    )
    write_result(folder, result)


def noise(name: str, bias: float = 0.0) -> Wins:
    drawn = {c: rng_for(0, "test", f"{name}/{c}").normal(size=len(ROWS)) + bias for c in CONDITIONS}
    return lambda place, condition: float(drawn[condition][place])


def reads_the_persona(place: int, condition: str) -> float:
    """Right in nine of ten with the true persona, wrong in as many with another."""
    sure = 1.0 if place % 10 else -1.0
    return sure if condition == "true" else -sure if condition == "wrong" else 0.0


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("significance")
    write(folder, "good", "reward", reads_the_persona)
    write(folder, "anti", "reward", lambda place, condition: -reads_the_persona(place, condition))
    write(folder, "noise", "reward", noise("a"))
    write(folder, "blind", "baseline", lambda place, _: 1.0 if place % 2 else -1.0)
    return folder


@pytest.fixture
def results(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "results"))


def test_a_planted_difference_is_found_and_noise_is_not(results: Path) -> None:
    found = {
        (c.first, c.config, c.measure): c
        for c in compare_scorers(results, load_pair_results(results))
        if c.against == "control"
    }
    good, anti, nothing = (found[name, "dpf", "gap"] for name in ("good", "anti", "noise"))
    assert good.second == "blind"
    assert good.difference.value == pytest.approx(0.8, abs=0.05)
    assert good.holm is not None
    assert good.holm < 0.01
    assert good.difference.low is not None
    assert good.difference.low > 0
    assert anti.difference.value == pytest.approx(-0.8, abs=0.05)
    assert nothing.p_value is not None
    assert nothing.p_value > 0.05


def test_each_model_is_compared_with_the_best_control_and_the_best_model(results: Path) -> None:
    compared = compare_scorers(results, load_pair_results(results))
    own = {(c.first, c.second, c.against) for c in compared if (c.config, c.measure) == ("dpf", "gap")}
    assert own == {
        *((name, "blind", "control") for name in ("good", "anti", "noise")),
        *((name, "good", "model") for name in ("anti", "noise")),
    }


def test_without_a_model_there_is_nothing_to_compare(tmp_path: Path) -> None:
    write(tmp_path, "blind", "baseline", lambda place, _: 1.0)
    assert compare_scorers(tmp_path, load_pair_results(tmp_path)) == []


def test_a_damaged_file_of_scores_is_refused(results: Path) -> None:
    (results / "models-good.parquet").write_bytes(b"")
    with pytest.raises(InputError, match=r"Delete models-good\.json"):
        compare_scorers(results, load_pair_results(results))


def test_exchanging_scorers_is_the_permutation_test_of_paired_samples() -> None:
    """Against scipy, where each persona has one row."""
    rng = rng_for(0, "test", "paired")
    first, second = rng.normal(0.6, 1, size=10), rng.normal(size=10)
    (own,) = sign_flip_p_values((first - second)[:, None], [f"p{i}" for i in range(10)], rng_for(0, "a", "b"))
    theirs = permutation_test(
        (first, second), lambda x, y: (x - y).sum(), permutation_type="samples", n_resamples=2**12
    )
    assert own == pytest.approx(theirs.pvalue, abs=1e-9)


def test_drawn_signs_come_close_to_all_signs() -> None:
    rng = rng_for(0, "test", "drawn")
    values = np.concatenate([rng.normal(0.3, 1, size=(13, 1)), np.zeros((1, 1))])  # the last persona says nothing
    names = [f"p{i:02}" for i in range(14)]
    (exact,) = sign_flip_p_values(values[:13], names[:13], rng_for(0, "a", "b"))
    (drawn,) = sign_flip_p_values(values, names, rng_for(0, "a", "b"))
    assert drawn == pytest.approx(exact, abs=0.02)


def test_rows_of_a_persona_are_exchanged_together() -> None:
    """Five personas can never give a small p, however many rows they have."""
    values = np.ones((500, 1))
    (few,) = sign_flip_p_values(values, [f"p{i % 5}" for i in range(500)], rng_for(0, "a", "b"))
    assert few == 2 / 32
    (many,) = sign_flip_p_values(values, [f"p{i}" for i in range(500)], rng_for(0, "a", "b"))
    assert many == 1 / 10_000


def test_without_a_difference_p_is_uniform_enough() -> None:
    values = rng_for(0, "test", "null").normal(size=(120, 300))
    p_values = sign_flip_p_values(values, [f"p{i % 30}" for i in range(120)], rng_for(0, "a", "b"))
    assert 0.02 <= np.mean(np.array(p_values) < 0.05) <= 0.09


Effects = tuple[
    float, float
]  # standard deviations: of what a persona does to all its rows, and a question to all of its


def dpf_without_difference(rng: np.random.Generator, effects: Effects) -> tuple[np.ndarray, list[Any], list[str]]:
    """30 personas on 16 questions; the mean is 0 but for chance. Rows: -1, 0 or 1, as two scorers differ."""
    persona, prompt = (codes.ravel() for codes in np.indices((30, 16)))
    drawn = rng.normal(size=30)[persona] * effects[0] + rng.normal(size=16)[prompt] * effects[1]
    return (
        rounded(drawn + rng.normal(size=480)),
        [(f"p{code}",) for code in persona],
        [f"q{code}" for code in prompt],
    )


def contrast_without_difference(rng: np.random.Generator, effects: Effects) -> tuple[np.ndarray, list[Any], list[str]]:
    """150 sets of two of 30 personas on one of 16 questions, each with its mirror, which differs as the set does."""
    first = rng.integers(0, 30, size=150)
    second = (first + rng.integers(1, 30, size=150)) % 30
    prompt = rng.integers(0, 16, size=150)
    persona = rng.normal(size=30) * effects[0]
    drawn = persona[first] + persona[second] + rng.normal(size=16)[prompt] * effects[1] + rng.normal(size=150)
    clusters = [tuple(sorted((f"p{one}", f"p{other}"))) for one, other in zip(first, second, strict=True)]
    return np.tile(rounded(drawn), (2, 1)), clusters * 2, [f"q{code}" for code in prompt] * 2


def rounded(drawn: np.ndarray) -> np.ndarray:
    return (np.sign(drawn) * (np.abs(drawn) > 0.5))[:, None]


@pytest.mark.parametrize("draw", [dpf_without_difference, contrast_without_difference])
@pytest.mark.parametrize("effects", [(0.0, 0.0), (0.6, 0.0), (0.0, 0.6), (0.6, 0.6)])
def test_without_a_difference_few_are_significant_whatever_rows_have_in_common(draw: Any, effects: Effects) -> None:
    """Type I errors at 0.05 in 150 runs: 0.09 lies two standard errors above. Signs by persona alone give 0.2 and more."""
    p_values = []
    for run in range(150):
        rng = rng_for(run, "test", "type I")
        p_values += paired_p_values(*draw(rng, effects), rng)
    assert np.mean(np.array(p_values) < 0.05) <= 0.09
    if any(effects):  # where rows have something in common the test is no more careful than it must be
        assert np.mean(np.array(p_values) < 0.15) >= 0.04


def test_signs_by_one_grouping_alone_would_find_what_a_question_does() -> None:
    found = []
    for run in range(60):
        rng = rng_for(run, "test", "one way")
        values, clusters, prompts = dpf_without_difference(rng, (0.0, 0.6))
        found.append([sign_flip_p_values(values, clusters, rng)[0], paired_p_values(values, clusters, prompts, rng)[0]])
    by_persona, all_tests = (np.array(found) < 0.05).mean(axis=0)
    assert by_persona > 0.25 > all_tests


def test_a_difference_is_found_all_the_same() -> None:
    rng = rng_for(0, "test", "power")
    for draw in (dpf_without_difference, contrast_without_difference):
        values, clusters, prompts = draw(rng, (0.3, 0.3))
        (p,) = paired_p_values(np.where(values == 0, 1.0, values), clusters, prompts, rng)
        assert p < 0.05
        above, below = (
            paired_p_values(sign * np.where(values == 0, 1.0, values), clusters, prompts, rng, one_sided=True)[0]
            for sign in (1, -1)
        )
        assert above < 0.05 < 0.9 < below


def test_a_mirror_says_nothing_new() -> None:
    rng = rng_for(0, "test", "mirrors")
    values, clusters, prompts = contrast_without_difference(rng, (0.0, 0.0))
    half = len(values) // 2
    once, twice = (
        paired_p_values(values[:n], clusters[:n], prompts[:n], rng_for(0, "a", "b")) for n in (half, 2 * half)
    )
    assert once == pytest.approx(twice, abs=1e-9)


def test_the_variance_is_the_sum_over_rows_that_share_a_persona_or_a_question() -> None:
    rng = rng_for(0, "test", "variance")
    values, clusters, prompts = contrast_without_difference(rng, (0.5, 0.5))
    residuals = values[:, 0] - values.mean()
    shared = np.array(
        [
            [bool({*one} & {*other}) or prompt == another for other, another in zip(clusters, prompts, strict=True)]
            for one, prompt in zip(clusters, prompts, strict=True)
        ]
    )
    variance = residuals @ shared @ residuals
    expected = 2 * t.sf(abs(values.sum()) / np.sqrt(variance * 16 / 15), 15)
    assert crossed_p_values(values, clusters, prompts)[0] == pytest.approx(expected)


def test_one_question_or_one_persona_proves_nothing() -> None:
    values, names = np.ones((40, 1)), [f"x{i}" for i in range(40)]
    rng = rng_for(0, "a", "b")
    assert paired_p_values(values, [(name,) for name in names], ["q"] * 40, rng) == [1.0]
    assert paired_p_values(values, [("p",)] * 40, names, rng) == [1.0]
    assert paired_p_values(0 * values, [(name,) for name in names], names, rng) == [1.0]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_never_lowers_a_p_and_keeps_their_order(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    assert all(p <= after <= 1 for p, after in zip(p_values, adjusted, strict=True))
    for (p, a), (q, b) in itertools.combinations(zip(p_values, adjusted, strict=True), 2):
        assert p == q or (p < q) == (a < b) or a == b
    if p_values:
        assert min(adjusted) == min(1.0, len(p_values) * min(p_values))


def test_holm_on_a_known_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_the_table_names_the_best_control_and_fits(results: Path) -> None:
    table = result_table(results)
    assert max(map(len, table.splitlines())) <= 110
    assert "less that of the best control, blind" in table
    line = next(line for line in table.splitlines() if line.startswith("good") and "p = " in line)
    assert "+80" in line or "+79" in line or "+81" in line


def test_models_that_differ_in_seed_alone_are_shown_together(results: Path) -> None:
    for seed, share in enumerate((10, 5, 3)):
        write(
            results,
            f"seed-{seed}",
            "dpo",
            lambda place, condition, share=share: (1.0 if place % share else -1.0) * (1 if condition == "true" else -1),
            seed_group="same",
        )
    loaded = load_pair_results(results)
    (group,) = seed_groups(loaded)
    spread = spread_over_seeds(group, "dpf")
    assert spread is not None
    assert spread.seeds == 3
    assert (round(spread.low, 2), round(spread.high, 2)) == (0.33, 0.79)
    assert spread.low < spread.mean < spread.high
    assert "3 seeds (seed-0, seed-1, seed-2)" in result_table(results)
    other = [replace(group[0], subject={**(group[0].subject or {}), "seed_group": "other"}), *group[1:]]
    assert len(seed_groups(other)[0]) == 2


def test_the_section_holds_every_table_in_whole_rows(results: Path) -> None:
    made = section(load_pair_results(results), results)
    captions = " ".join(table.caption for table in made.tables)
    for words in ("Revision against base", "best control", "served worst"):
        assert words in captions
    for table in made.tables:
        assert all(len(row) == len(table.header) for row in table.rows)
    first = made.tables[0].rows
    assert [row[0] for row in first] == ["good", "noise", "anti", "blind"]
