"""Judged answers and choices: what is asked and kept, and what the figures do when the truth is known."""

import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.errors import InputError
from builder.judge.judge import Verdict
from builder.judge.judge_file import load_judge
from builder.llm.model_recipe import ModelRecipe
from builder.llm.scripted import ScriptedClient
from builder.llm.transformers_client import TransformersClient
from builder.randomness import rng_for
from eval.generation_figures import AGAINST_BASE, BEST_OF, against_base_id, best_of_id, content_of
from eval.generations import evaluate_generations, rescored
from eval.generations_section import section
from eval.length_control import fit_logistic, length_controlled
from eval.rescore import rescore_results
from eval.results import Result, load_results, read_result
from eval.tables import read_table
from tests.eval.conftest import Trained
from training.conditioning import CONDITIONS
from training.estimates import resample

Row = dict[str, Any]
JUDGE = "likelihood=scripted"


@pytest.fixture(scope="module")
def evaluated(published: Path, trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model of random weights seldom ends an answer, so what it writes is scripted here; it scores for itself."""
    out = tmp_path_factory.mktemp("generations") / "results"

    def write(client: TransformersClient, *given: Any) -> None:
        ScriptedClient(client.identity["model"]).generate(*given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransformersClient, "generate", write)
        run(published, trained, out)
    return out


def run(published: Path, trained: Trained, out: Path, **options: Any) -> str:
    given = {"limit": 24, "best_of": 3, "base_model": str(trained.base), **options}
    return evaluate_generations(published, trained.models, [JUDGE], out, **given)


def result_of(out: Path, name: str) -> Result:
    return read_result(out / f"generations-{name}.json")


def test_each_model_gets_a_result_with_its_controls(evaluated: Path) -> None:
    assert [result.name for result in load_results(evaluated, "generations")] == [
        "generations-dpo",
        "generations-reward",
    ]
    for name in ("dpo", "reward"):
        result = result_of(evaluated, name)
        (judged,) = result.content["judges"].values()
        assert (judged[AGAINST_BASE] is None) == (name == "reward")
        best = judged[BEST_OF]
        assert best["candidates"] == 3
        assert set(best["picks"]) == set(CONDITIONS)
        assert set(best["gaps"]) == {"random", "none", "wrong"}
        # What the judge itself likes best is the most that a choice can win, and at random one wins what all do on average.
        assert best["picks"]["true"]["value"] <= best["best"]["value"]
        assert best["random"]["value"] <= best["best"]["value"]
        assert result.judges[0]["scripted"]
        assert (result.settings["writes_nothing"] is None) == (name == "dpo")


def test_answers_and_replies_are_kept_and_read_again_to_the_same_figures(evaluated: Path) -> None:
    result = result_of(evaluated, "dpo")
    answers = read_table(evaluated / "generations-dpo-answers.parquet")
    assert len(answers) == 24 * (2 * 3 + 3)
    judge = load_judge("likelihood", ModelRecipe(provider="scripted", model="scripted"), 0, role="judge1")
    assert rescored(result, evaluated, {judge.label: judge}) == result
    altered = evaluated / "generations-dpo-answers.parquet"
    kept = altered.read_bytes()
    altered.write_bytes(b"")
    with pytest.raises(InputError, match="is missing or not the file"):
        rescore_results(evaluated, [])
    altered.write_bytes(kept)


def test_a_second_run_asks_nothing_and_a_lost_result_is_made_again_from_the_record(
    published: Path, trained: Trained, evaluated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path.name: path.read_bytes() for path in evaluated.glob("generations-*")}
    (evaluated / "generations-reward.json").unlink()

    def refuse(*_: Any) -> None:
        raise AssertionError("a model was asked again")

    monkeypatch.setattr(TransformersClient, "generate", refuse)
    run(published, trained, evaluated)
    after = {path.name: path.read_bytes() for path in evaluated.glob("generations-*")}
    # What it took to make the answers is counted in full, replayed or not.
    assert after == before
    with pytest.raises(InputError, match="differing: best_of"):
        run(published, trained, evaluated, best_of=2)


def test_the_models_themselves_write(published: Path, trained: Trained, tmp_path: Path) -> None:
    run(published, trained, tmp_path, limit=2, best_of=2)
    answers = read_table(tmp_path / "generations-dpo-answers.parquet")
    texts = {(row["item"], row["condition"], row["writer"]): row["text"] for row in answers}
    assert all(row["failure"] in ("", "truncated") and row["text"] for row in answers)
    items = {row["item"] for row in answers}
    assert any(texts[item, "true", "model"] != texts[item, "true", "base"] for item in items)
    assert any(texts[item, "true", "model"] != texts[item, "none", "model"] for item in items)


def test_a_dry_run_counts_and_writes_nothing(published: Path, trained: Trained, tmp_path: Path) -> None:
    said = run(published, trained, tmp_path / "results", dry_run=True)
    assert said.count("Dry run: this would take") == 2
    assert not (tmp_path / "results").exists()


def test_the_table_fits_and_the_section_says_that_the_judge_is_scripted(
    evaluated: Path, published: Path, trained: Trained
) -> None:
    table = run(published, trained, evaluated)
    assert max(map(len, table.splitlines())) <= 110
    assert "(scripted)" in table
    made = section(load_results(evaluated, "generations"), evaluated)
    assert made.scripted
    assert len(made.tables) == 4
    assert "true - wrong by cell" in table
    assert made.examples
    for part in made.tables:
        assert all(len(row) == len(part.header) for row in part.rows)


def test_what_cannot_be_judged_is_refused_by_name(published: Path, trained: Trained, tmp_path: Path) -> None:
    out = tmp_path / "results"
    with pytest.raises(InputError, match="best_of is 1"):
        run(published, trained, out, best_of=1)
    with pytest.raises(InputError, match="kind critique"):
        evaluate_generations(published, trained.models, ["critique"], out, base_model=str(trained.base))
    with pytest.raises(InputError, match="base_model=PATH"):
        evaluate_generations(published, trained.models, [JUDGE], out)
    with pytest.raises(InputError, match=r"holds no training\.json|has no training\.json"):
        evaluate_generations(published, [tmp_path], [JUDGE], out)
    assert "No trained model" in evaluate_generations(published, [], [JUDGE], out)
    assert not out.exists()


# The figures, with the truth planted.


def verdict(value: float | None) -> Verdict:
    if value is None:
        return Verdict("unscored", None, "unreadable")
    return Verdict({1.0: "A", 0.5: "tie", 0.0: "B"}[value], value)


def answer(use: str, item: int, condition: str, writer: str, sample: int = 0, **changes: Any) -> Row:
    return {
        "use": use,
        "item": f"i{item:03}",
        "persona_id": f"p{item % 12}",
        "prompt_id": f"q{item // 12}",
        "cell": "seen/seen_test",
        "question": "?",
        "condition": condition,
        "writer": writer,
        "sample": sample,
        "text": "one two three",
        "failure": "",
        **changes,
    }


def against_base(
    count: int, win: Callable[[int, str], float | None], text: Callable[[int, str], str] = lambda i, w: "one two three"
) -> tuple[dict[str, Any], dict[str, Any]]:
    rows = [
        answer(AGAINST_BASE, item, condition, writer, text=text(item, writer))
        for item, condition, writer in itertools.product(range(count), CONDITIONS, ("model", "base"))
    ]
    verdicts = {
        against_base_id(f"i{item:03}", condition): verdict(win(item, condition))
        for item, condition in itertools.product(range(count), CONDITIONS)
    }
    content, counts = content_of(rows, [], {"j": verdicts}, 0)
    return content["judges"]["j"][AGAINST_BASE], counts


def test_a_planted_preference_is_found_and_its_gap_with_it() -> None:
    found, _ = against_base(60, lambda item, condition: 1.0 if condition == "true" or item % 2 else 0.0)
    assert found["conditions"]["true"]["win_rate"]["value"] == 1.0
    assert found["conditions"]["wrong"]["win_rate"]["value"] == 0.5
    assert found["gaps"]["wrong"]["value"] == 0.5
    reversed_, _ = against_base(60, lambda item, condition: 0.0 if condition == "true" or item % 2 else 1.0)
    assert reversed_["gaps"]["wrong"]["value"] == -0.5


def test_a_preference_that_only_seen_personas_have_stands_in_their_cells_alone() -> None:
    """Even items belong to a seen persona; of the last forty questions every one is held out."""

    def cell(item: int) -> str:
        return f"{'unseen' if item % 2 else 'seen'}/{'heldout_test' if item >= 80 else 'seen_test'}"

    rows = [
        answer(AGAINST_BASE, item, condition, writer, cell=cell(item))
        for item, condition, writer in itertools.product(range(120), CONDITIONS, ("model", "base"))
    ]
    verdicts = {
        against_base_id(f"i{item:03}", condition): verdict(
            None if (item, condition) == (1, "wrong") else float(condition == "true" or item % 2)
        )
        for item, condition in itertools.product(range(120), CONDITIONS)
    }
    content, _ = content_of(rows, [], {"j": verdicts}, 0)
    cells = content["judges"]["j"][AGAINST_BASE]["cells"]
    gaps = {name: (found["gaps"]["wrong"]["value"], found["gaps"]["wrong"]["n"]) for name, found in cells.items()}
    assert gaps == {
        "seen/seen_test": (1.0, 40),
        "seen/heldout_test": (1.0, 20),
        "unseen/seen_test": (0.0, 39),
        "unseen/heldout_test": (0.0, 20),
    }
    assert cells["seen/heldout_test"]["win_rates"]["none"]["value"] == 0.0
    assert cells["unseen/seen_test"]["rows"]["wrong"] == {"scored": 39, "unscored": {"unreadable": 1}}


def test_wins_that_only_length_explains_vanish_when_length_is_controlled() -> None:
    """The longer answer wins four times of five, whoever wrote it; the model's is longer in three of four."""
    longer = [item % 4 != 0 for item in range(80)]
    won = [own == (item // 4 % 5 != 0) for item, own in enumerate(longer)]

    def text(item: int, writer: str) -> str:
        return "word " * (30 if (writer == "model") == longer[item] else 10)

    found, _ = against_base(80, lambda item, _: 1.0 if won[item] else 0.0, text)
    true = found["conditions"]["true"]
    assert true["win_rate"]["value"] == 0.65
    assert true["length_controlled"]["value"] == pytest.approx(0.5, abs=0.01)
    assert true["length_slope"] > 1
    same, _ = against_base(80, lambda item, _: 1.0 if won[item] else 0.0)
    assert same["conditions"]["true"]["length_controlled"]["value"] == pytest.approx(0.65, abs=0.01)


def test_what_was_not_judged_counts_nowhere_and_too_much_of_it_withholds() -> None:
    few, counts = against_base(60, lambda item, _: None if item < 3 else 1.0)
    assert few["conditions"]["true"]["win_rate"]["n"] == 57
    assert few["conditions"]["true"]["win_rate"]["value"] == 1.0
    assert counts == {"scored": 171, "unscored": {"unreadable": 9}}
    many, _ = against_base(60, lambda item, _: None if item < 9 else 1.0)
    assert many["conditions"]["true"]["win_rate"]["value"] is None
    assert "unscored" in many["conditions"]["true"]["win_rate"]["withheld"]
    assert many["gaps"]["wrong"]["value"] is None


def test_an_answer_that_was_cut_off_is_unscored_with_its_reason() -> None:
    rows = [
        answer(AGAINST_BASE, item, c, w, failure="truncated" if (item, w) == (0, "model") else "")
        for item, c, w in itertools.product(range(30), CONDITIONS, ("model", "base"))
    ]
    verdicts = {against_base_id(f"i{i:03}", c): verdict(1.0) for i, c in itertools.product(range(1, 30), CONDITIONS)}
    _, counts = content_of(rows, [], {"j": verdicts}, 0)
    assert counts == {"scored": 87, "unscored": {"model's answer: truncated": 3}}


def best_of(won: np.ndarray, scores: dict[str, np.ndarray]) -> dict[str, Any]:
    """won, scores: (items, candidates); won of candidate 0 is one half."""
    items, candidates = won.shape
    rows = [
        answer(BEST_OF, item, "none", "base", sample)
        for item, sample in itertools.product(range(items), range(candidates))
    ]
    given = [
        {
            "item": f"i{item:03}",
            "sample": sample,
            "condition": condition,
            "score": float(scores[condition][item, sample]),
            "reason": None,
        }
        for item, sample, condition in itertools.product(range(items), range(candidates), CONDITIONS)
    ]
    verdicts = {
        best_of_id(f"i{item:03}", sample): verdict(float(won[item, sample]))
        for item, sample in itertools.product(range(items), range(1, candidates))
    }
    content, _ = content_of(rows, given, {"j": verdicts}, 0)
    found: dict[str, Any] = content["judges"]["j"][BEST_OF]
    return found


def planted_wins(items: int = 60, candidates: int = 4) -> np.ndarray:
    won = rng_for(0, "test", "wins").choice([0.0, 0.5, 1.0], size=(items, candidates))
    won[:, 0] = 0.5
    return won


def test_a_scorer_that_scores_as_the_judge_does_reaches_the_ceiling_and_its_opposite_the_floor() -> None:
    won = planted_wins()
    found = best_of(won, {"true": won, "none": np.zeros_like(won), "wrong": -won})
    picks = {condition: estimate["value"] for condition, estimate in found["picks"].items()}
    assert picks["true"] == found["best"]["value"] == pytest.approx(won.max(axis=1).mean())
    assert picks["wrong"] == pytest.approx(won.min(axis=1).mean())
    # A scorer that gives all the same has chosen at random.
    assert picks["none"] == found["random"]["value"] == pytest.approx(won.mean())
    assert found["gaps"]["random"]["value"] == pytest.approx(won.max(axis=1).mean() - won.mean())
    assert picks["wrong"] < 0.5 < picks["true"]


def test_scores_that_have_nothing_to_do_with_the_judge_win_what_a_random_choice_does() -> None:
    won = planted_wins(400)
    noise = {condition: rng_for(1, "test", condition).normal(size=won.shape) for condition in CONDITIONS}
    found = best_of(won, noise)
    for estimate in found["gaps"].values():
        assert estimate["low"] < 0 < estimate["high"]


def test_a_candidate_without_score_takes_its_item_out_under_that_condition_alone() -> None:
    won = planted_wins(40)
    rows = [answer(BEST_OF, i, "none", "base", s) for i, s in itertools.product(range(40), range(4))]
    scores = [
        {
            "item": f"i{i:03}",
            "sample": s,
            "condition": c,
            "score": None if (i, c) == (0, "wrong") else 1.0,
            "reason": "longer than the model's context" if (i, c) == (0, "wrong") else None,
        }
        for i, s, c in itertools.product(range(40), range(4), CONDITIONS)
    ]
    verdicts = {
        best_of_id(f"i{i:03}", s): verdict(float(won[i, s])) for i, s in itertools.product(range(40), (1, 2, 3))
    }
    content, _ = content_of(rows, scores, {"j": verdicts}, 0)
    found = content["judges"]["j"][BEST_OF]
    assert (found["picks"]["true"]["n"], found["picks"]["wrong"]["n"], found["gaps"]["wrong"]["n"]) == (40, 39, 39)
    assert found["rows"]["wrong"]["unscored"] == {"longer than the model's context": 1}


def test_content_is_plain_json_and_the_order_of_rows_changes_nothing(evaluated: Path) -> None:
    result = result_of(evaluated, "dpo")
    answers, scores, transcripts = (
        read_table(evaluated / f"generations-dpo-{part}.parquet") for part in ("answers", "scores", "transcripts")
    )
    from eval.transcripts import reread

    judge = load_judge("likelihood", ModelRecipe(provider="scripted", model="scripted"), 0, role="judge1")
    verdicts: Any = {judge.label: reread(judge, transcripts)}
    content, rows = content_of(answers[::-1], scores[::-1], verdicts, 0)
    assert json.loads(json.dumps(content)) == result.content
    assert rows == result.rows


# The regression.


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.integers(20, 80))
def test_the_fit_is_where_the_penalised_likelihood_is_highest(seed: int, rows: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=rows), rng.choice([0.0, 0.5, 1.0], size=rows)
    weights = rng.integers(0, 4, size=(3, rows)).astype(float)

    def likelihood(at: np.ndarray, own: np.ndarray) -> float:
        linear = at[0] + at[1] * x
        return float((own * (y * linear - np.logaddexp(0, linear))).sum() - 0.05 * (at**2).sum())

    for found, own in zip(fit_logistic(x, y, weights), weights, strict=True):
        best = likelihood(found, own)
        for step in itertools.product((-1e-3, 0, 1e-3), repeat=2):
            assert likelihood(found + np.array(step), own) <= best + 1e-9


def test_one_persona_gives_no_interval() -> None:
    values = rng_for(0, "test", "one").choice([0.0, 1.0], size=(40, 1))
    resampled = resample(values, [("p",)] * 40, rng_for(0, "a", "b"), [f"q{i}" for i in range(40)])
    estimate, slope = length_controlled(resampled, 0, np.linspace(-1, 1, 40), rng_for(0, "a", "c"))
    assert (estimate.low, estimate.high, estimate.withheld) == (None, None, "no interval: one cluster")
    assert estimate.value is not None
    assert slope is not None


def test_a_win_rate_of_one_stays_finite() -> None:
    values = np.ones((40, 1))
    resampled = resample(
        values, [(f"p{i % 8}",) for i in range(40)], rng_for(0, "a", "b"), [f"q{i}" for i in range(40)]
    )
    estimate, slope = length_controlled(resampled, 0, np.linspace(-1, 1, 40), rng_for(0, "a", "c"))
    assert estimate.value is not None
    assert 0.9 < estimate.value < 1.0
    assert slope is not None
    assert math.isfinite(slope)
