import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from builder.errors import InputError
from builder.judge.judge_file import load_judge
from builder.llm.budget import Budget
from builder.randomness import rng_for
from eval.agreement.annotators import LABEL
from eval.agreement.content import content_of
from eval.agreement.kappa import (
    ANSWERS,
    ONE_ANSWER,
    consensus,
    consensus_without,
    kappa_difference,
    kappa_estimates,
    kappa_value,
    krippendorffs_alpha,
)
from eval.agreement.pairs import draw_pairs
from eval.agreement.run import rescored, run_agreement
from eval.agreement.section import section
from eval.agreement.simulated import simulated_answer, simulated_names
from eval.drawings import heatmap_figure
from eval.language_models import model_recipe
from eval.results import Result, load_results
from training.estimates import Estimate

Pairs = list[tuple[str, str]]
ANSWER = st.sampled_from(ANSWERS)


def columns(text: str) -> list[list[str | None]]:
    """Raters in lines, `.` for no answer; the result: the answers to each item."""
    raters = [[None if answer == "." else answer for answer in line.split()] for line in text.strip().splitlines()]
    return [list(unit) for unit in zip(*raters, strict=True)]


# Krippendorff, Computing Krippendorff's Alpha-Reliability (2011): binary data of two, nominal data of two, four with missing values.
@pytest.mark.parametrize(
    ("raters", "alpha"),
    [
        ("0 1 0 0 0 0 0 0 1 0\n1 1 1 0 0 1 0 0 0 0", 0.095),
        ("a a b b d c c c e d d a\nb a b b b c c c e d d d", 0.692),
        (
            "1 2 3 3 2 1 4 1 2 . . .\n1 2 3 3 2 2 4 1 2 5 . 3\n. 3 3 3 2 3 4 2 2 5 1 .\n1 2 3 3 2 4 4 1 2 5 1 .",
            0.743,
        ),
    ],
)
def test_alpha_of_published_examples(raters: str, alpha: float) -> None:
    # An estimate needs 20 items. Of `times` as many alike, 1 - alpha is (times n - 1) / (times (n - 1)) of what it was, by the formula.
    units, times = columns(raters), 4
    n = sum(len(given) for unit in units if len(given := [answer for answer in unit if answer]) > 1)
    expected = 1 - (1 - alpha) * (times * n - 1) / (times * (n - 1))
    assert alpha_of(units * times).value == pytest.approx(expected, abs=6e-4)


def test_alpha_is_one_at_perfect_agreement_and_undefined_without_variety() -> None:
    perfect: list[list[str | None]] = [["A", "A", None], ["B", "B", "B"], ["A", None, None]]
    assert alpha_of(perfect * 15).value == 1.0
    undefined = alpha_of([["A", "A"]] * 30)
    assert (undefined.value, undefined.withheld) == (None, ONE_ANSWER)
    assert alpha_of([["A", None]] * 30).withheld == "n < 20"


def alpha_of(units: list[list[str | None]]) -> Estimate:
    clusters = [(f"p{i}",) for i in range(len(units))]
    return krippendorffs_alpha(units, clusters, ["q"] * len(units), rng_for(0, "test", "alpha"))


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(ANSWER, ANSWER), min_size=20, max_size=60), st.randoms(use_true_random=False))
def test_kappa_is_sklearns_symmetric_and_the_same_in_any_order(pairs: Pairs, random: object) -> None:
    first, second = ([pair[side] for pair in pairs] for side in (0, 1))
    value, n, reason = kappa_value(first, second)
    shuffled = list(pairs)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert n == len(pairs)
    assert kappa_value(second, first)[0] == pytest.approx(value)
    assert kappa_value([a for a, _ in shuffled], [b for _, b in shuffled])[0] == pytest.approx(value)
    if value is None:
        assert reason == ONE_ANSWER
        assert len(set(first)) == 1 or len(set(second)) == 1
        return
    clusters, prompts = [(f"p{i % 5}",) for i in range(n)], [f"q{i % 7}" for i in range(n)]
    ((estimate, agreement),) = kappa_estimates([(first, second)], clusters, prompts, rng_for(0, "test", "kappa"))
    assert estimate.value == pytest.approx(cohen_kappa_score(first, second), abs=1e-12)
    assert agreement.value == pytest.approx(sum(a == b for a, b in pairs) / n)


def test_identical_annotators_have_kappa_one_and_independent_ones_an_interval_around_zero() -> None:
    rng = rng_for(0, "test", "independent")
    first, second = (list(map(str, rng.choice(["A", "B"], 400))) for _ in range(2))
    clusters, prompts = [(f"p{i // 10:02}",) for i in range(400)], [f"q{i % 40}" for i in range(400)]
    (same, _), (independent, agreement) = kappa_estimates(
        [(first, first), (first, second)], clusters, prompts, rng_for(0, "test", "bootstrap")
    )
    assert same.value == pytest.approx(1.0)
    assert independent.low is not None
    assert independent.high is not None
    assert independent.low < 0 < independent.high
    assert agreement.value == pytest.approx(0.5, abs=0.06)


def test_a_difference_of_kappas_and_its_interval_are_of_the_items_that_both_have() -> None:
    rng = rng_for(0, "test", "difference")
    label, judge, twin = ([str(a) for a in rng.choice(["A", "B"], 200)] for _ in range(3))
    judge = [own if rng.random() < 0.7 else other for own, other in zip(label, judge, strict=True)]
    # The twin fails where the judge is wrong, so the judge's kappa is another on all items than on those that both have.
    failed = [own != other and rng.random() < 0.8 for own, other in zip(label, judge, strict=True)]
    common = [i for i, missing in enumerate(failed) if not missing]
    clusters, prompts = [(f"p{i // 10}",) for i in range(200)], [f"q{i % 10}" for i in range(200)]

    def difference(twins: list[str | None], places: Any) -> Estimate:
        own, first, second = ([answers[i] for i in places] for answers in (label, judge, twins))
        return kappa_difference(
            [(first, own)],
            [(second, own)],
            [clusters[i] for i in places],
            [prompts[i] for i in places],
            rng_for(0, "test", "draws"),
        )

    found = difference([None if missing else a for missing, a in zip(failed, twin, strict=True)], range(200))
    alone = difference(list(twin), common)
    assert found.n == alone.n == len(common) < 185
    assert (found.value, found.low, found.high) == pytest.approx((alone.value, alone.low, alone.high))


def test_a_kappa_that_is_not_defined_has_a_reason_and_no_value() -> None:
    assert kappa_value(["A"] * 30, ["A", "B"] * 15) == (None, 30, ONE_ANSWER)
    assert kappa_value(["A", None, "B"], ["A", "B", None]) == (None, 1, "n < 20")


def test_consensus_needs_three_of_four_and_two_of_three_when_one_is_dropped() -> None:
    assert consensus(["A", "A", "B", "A"]) == "A"
    assert consensus(["A", "A", "B", "B"]) is None
    assert consensus(["A", "A", None, None]) is None
    assert consensus_without(["A", "A", "B", "B"], 3) == "A"
    assert consensus_without(["A", "tie", "B", "B"], 3) is None


def test_a_persona_blind_annotator_agrees_with_half_of_mirrored_labels(published: Path) -> None:
    pairs, _ = draw_pairs(published, None, 0)
    contrast = [pair for pair in pairs if pair.row.config == "contrast"]
    labels = [pair.label for pair in contrast]
    blind = ["A" if min(pair.answers) == pair.answers[0] else "B" for pair in contrast]
    assert {pair.row.mirror_pair_id for pair in contrast} == {pair.pair_id for pair in contrast}
    assert np.mean([a == b for a, b in zip(labels, blind, strict=True)]) == 0.5
    assert kappa_value(labels, blind)[0] == pytest.approx(0.0, abs=1e-12)


def coin_flips(raters: int, items: int) -> dict[str, Any]:
    """Content of raters who flip coins, over items of 10 a persona."""
    rng = rng_for(0, "test", "coins")
    pairs = [
        {"pair_id": f"dpf/p{i // 10:03}/q{i % 10}", "config": "dpf", "split": "test", "persona_group": "seen"}
        | {"persona_id": f"p{i // 10:03}", "partner_persona_id": None, "prompt_id": f"q{i % 10}"}
        | {"mirror_pair_id": None, "first": ("chosen", "rejected")[i % 2], "published_verdict": "unscored"}
        for i in range(items)
    ]
    ratings = [
        {"annotator": f"rater {k}", "pair_id": pair["pair_id"], "answer": str(rng.choice(["A", "B"])), "reason": None}
        for k in range(raters)
        for pair in pairs
    ]
    annotators = [
        {"name": f"rater {k}", "group": "human", "condition": "", "of": f"rater {k}"}
        | {"judge": None, "reliability": None, "scripted": False}
        for k in range(raters)
    ]
    content: dict[str, Any] = content_of(pairs, ratings, annotators, 0)["configs"]["dpf"]
    return content


def test_a_rater_is_not_held_against_a_consensus_that_it_is_part_of() -> None:
    content = coin_flips(4, 400)
    names = {f"rater {k}" for k in range(4)}
    for entries in (content["kappas"], content["of_personas"]):
        assert not [
            e for e in entries if "human consensus" in (e["first"], e["second"]) and {e["first"], e["second"]} & names
        ]
    everyone = [e["kappa"]["value"] for e in content["kappas"] if e["group"] == "all"]
    (agreed,) = content["consensus"]
    assert set(agreed["with_others"]) == names
    everyone += [kappa["value"] for kappa in agreed["with_others"].values()]
    # Coins agree with nothing, whatever they are held against.
    assert all(abs(value) < 0.2 for value in everyone)


def test_kappas_with_one_rater_dropped_say_how_many_pairs_they_are_of_and_why_there_is_none() -> None:
    (agreed,) = coin_flips(3, 200)["consensus"]
    (label,) = agreed["drop_one"]
    assert label["with"] == LABEL
    assert set(label["kappas"]) == set(agreed["raters"])
    for kappa in label["kappas"].values():
        assert 60 < kappa["n"] < 140  # two of two must agree
        assert kappa["low"] <= kappa["value"] <= kappa["high"]
    (few,) = coin_flips(3, 20)["consensus"]
    assert {kappa["withheld"] for kappa in few["drop_one"][0]["kappas"].values()} == {"n < 20"}


def test_every_rated_pair_is_annotated_however_many_a_persona_has(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rated = {pair.pair_id for pair in draw_pairs(published, None, 0)[0] if pair.row.config == "dpf"}
    monkeypatch.setattr("eval.agreement.pairs.ITEMS_A_PERSONA", 1)
    assert len([pair for pair in draw_pairs(published, None, 0)[0] if pair.row.config == "dpf"]) < len(rated)
    assert {pair.pair_id for pair in draw_pairs(published, None, 0, rated)[0]} == rated
    path = tmp_path / "people.jsonl"
    lines = [{"annotator": "one", "pair_id": pair, "choice": "chosen"} for pair in sorted(rated)]
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    run_agreement(published, [str(path)], tmp_path / "all", limit=None)
    assert load_results(tmp_path / "all")[0].settings["rated_pairs_left_out"] == 0
    said = run_agreement(published, [str(path)], tmp_path / "few", limit=8)
    assert load_results(tmp_path / "few")[0].settings["rated_pairs_left_out"] == len(rated) - 8
    assert f"{len(rated) - 8} rated test pairs" in said


def test_pairs_are_drawn_persona_by_persona_with_mirrors_and_whatever_the_limit(published: Path) -> None:
    few, _ = draw_pairs(published, 40, 0)
    assert 30 <= len(few) <= 40
    contrast = {pair.pair_id: pair for pair in few if pair.row.config == "contrast"}
    assert all(pair.row.mirror_pair_id in contrast for pair in contrast.values())
    # Both mirrors show the same text first.
    assert all(pair.answers == contrast[str(pair.row.mirror_pair_id)].answers for pair in contrast.values())
    dpf = [pair for pair in few if pair.row.config == "dpf"]
    assert len({pair.row.persona_id for pair in dpf}) <= 8
    with pytest.raises(InputError, match="at least 2"):
        draw_pairs(published, 1, 0)


def test_simulated_people_are_found_again_by_the_analysis(published: Path, tmp_path: Path) -> None:
    said = run_agreement(published, ["simulated:4", "shorter-answer"], tmp_path, limit=None, command="test")
    assert "simulated" in said
    assert max(map(len, said.splitlines())) <= 110
    (result,) = load_results(tmp_path, "agreement")
    names = simulated_names(4)
    for config, content in result.content["configs"].items():
        kappas = {(e["first"], e["second"]): e["kappa"] for e in content["kappas"] if e["group"] == "all"}
        for name, reliability in names.items():
            found = next(v for key, v in kappas.items() if set(key) == {name, LABEL})
            assert found["low"] - 0.1 <= 2 * reliability - 1 <= found["high"] + 0.1, (config, name)
        people = next(entry for entry in content["alphas"] if entry["of"] == "simulated")
        assert 0.2 < people["alpha"]["value"] < 0.7
    # The persona-blind rule agrees with the labels of mirrored pairs half of the time.
    blind = next(
        e
        for e in result.content["configs"]["contrast"]["kappas"]
        if {e["first"], e["second"]} == {"shorter-answer", LABEL} and e["group"] == "all"
    )
    assert blind["agreement"]["value"] <= 0.5 + 1e-9


def test_a_simulated_answer_depends_on_its_arguments_alone() -> None:
    assert simulated_answer("a", 1.0, "x", "B", 0) == "B"
    assert simulated_answer("a", 0.0, "x", "B", 0) == "A"
    drawn = [simulated_answer("a", 0.8, f"x{i}", "A", 3) for i in range(500)]
    assert drawn == [simulated_answer("a", 0.8, f"x{i}", "A", 3) for i in range(500)]
    assert 0.74 < np.mean([answer == "A" for answer in drawn]) < 0.86


def test_judges_have_their_twins_beside_and_can_be_reread(published: Path, tmp_path: Path) -> None:
    words = ["likelihood=scripted", "roleplay=scripted", "profile-overlap", "simulated:4"]
    run_agreement(published, words, tmp_path, limit=60, command="test")
    (result,) = load_results(tmp_path)
    names = {annotator["name"] for annotator in result.content["annotators"]}
    assert {"roleplay", "roleplay (no persona)", "roleplay (wrong persona)", "likelihood (no persona)"} <= names
    dpf = result.content["configs"]["dpf"]
    # Without a persona the likelihood judge ties everywhere: no kappa, and not 0.
    silent = next(e for e in dpf["kappas"] if {e["first"], e["second"]} == {"likelihood (no persona)", LABEL})
    assert (silent["kappa"]["value"], silent["kappa"]["withheld"]) == (None, ONE_ANSWER)
    assert {judge["name"] for judge in result.judges} == {"likelihood", "roleplay"}
    assert all(judge["scripted"] for judge in result.judges)
    judges = {
        facts["label"]: load_judge(facts["name"], model_recipe("scripted"), result.seed) for facts in result.judges
    }
    again = rescored(result, tmp_path, judges)
    assert as_json(again) == as_json(result)
    # A judge whose file has changed since: its facts are today's, and its replies are found under its old label.
    changed = {key: replace(judge, version=f"{judge.version}x") for key, judge in judges.items()}
    today = rescored(result, tmp_path, changed)
    assert [facts["version"] for facts in today.judges] == [f"{facts['version']}x" for facts in result.judges]
    assert {facts["label"] for facts in today.judges} == {judge.label for judge in changed.values()}
    assert today.content["configs"] == result.content["configs"]
    assert run_agreement(published, words, tmp_path, limit=60) == run_agreement(published, words, tmp_path, limit=60)


def as_json(result: Result) -> str:
    return json.dumps([result.content, result.rows], sort_keys=True)


def test_the_order_of_rows_changes_nothing(published: Path) -> None:
    pairs, _ = draw_pairs(published, 60, 0)
    rows = [pair.as_row() for pair in pairs]
    ratings = [
        {"annotator": name, "pair_id": pair.pair_id, "answer": answer, "reason": None}
        for pair in pairs
        for name, answer in (("x", pair.label), ("y", "A" if len(pair.pair_id) % 2 else "B"))
    ]
    annotators = [
        {"name": n, "group": "human", "condition": "", "of": n, "judge": None, "reliability": None, "scripted": False}
        for n in ("x", "y")
    ]
    forward = content_of(rows, ratings, annotators, 0)
    backward = content_of(rows[::-1], ratings[::-1], annotators, 0)
    assert json.dumps(forward, sort_keys=True) == json.dumps(backward, sort_keys=True)


def test_files_of_choices_are_read_and_unknown_pairs_counted(published: Path, tmp_path: Path) -> None:
    pairs, _ = draw_pairs(published, None, 0)
    dpf = [pair for pair in pairs if pair.row.config == "dpf"]
    lines = [
        {"annotator": f"{pair.row.persona_id}-{k}", "persona_id": pair.row.persona_id}
        | {"prompt_id": pair.row.published["prompt_id"], "choice": "chosen" if k else "rejected"}
        for pair in dpf
        for k in range(4)
    ]
    lines.append({"annotator": "p00000-0", "pair_id": "dpf/p00000/q99999", "choice": "A"})
    path = tmp_path / "people.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    said = run_agreement(published, [str(path)], tmp_path / "out", limit=None)
    (result,) = load_results(tmp_path / "out")
    assert result.settings["rated_pairs_unknown"] == 1
    assert "1 rated pairs are no test pairs" in said
    # 30 personas of four raters each are four columns; three of four agree on every pair.
    content = result.content["configs"]["dpf"]
    assert list(result.content["configs"]) == ["dpf"]
    (agreed,) = content["consensus"]
    assert agreed["raters"] == [f"human rater {k}" for k in range(1, 5)]
    assert agreed["no_consensus"]["value"] == 0.0
    with_label = next(e for e in content["kappas"] if {e["first"], e["second"]} == {"human consensus", LABEL})
    assert with_label["kappa"]["value"] == pytest.approx(1.0)
    against = next(e for e in content["kappas"] if {e["first"], e["second"]} == {"human rater 1", LABEL})
    assert against["agreement"]["value"] == 0.0


def test_a_csv_file_gives_what_the_same_jsonl_file_gives(published: Path, tmp_path: Path) -> None:
    pairs, _ = draw_pairs(published, None, 0)
    rows = [
        {"annotator": name, "pair_id": pair.pair_id, "choice": choice, "kind": "model"}
        for pair in pairs[:60]
        for name, choice in (("one", "A"), ("two", "chosen"))
    ]
    with (tmp_path / "c.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    (tmp_path / "c.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    results = []
    for name in ("c.csv", "c.jsonl"):
        run_agreement(published, [str(tmp_path / name)], tmp_path / name[2:], limit=None)
        results += load_results(tmp_path / name[2:])
    assert results[0].content == results[1].content


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no choice"),
        ('{"annotator": "a", "pair_id": "x", "choice": "left"}', "line 1: choice is 'left'"),
        ('{"annotator": "a", "pair_id": "x", "choice": "A"}\n[1]', "line 2 is list"),
        ('{"annotator": "a", "choice": "A"}', "line 1 names no pair"),
        ('{"pair_id": "x", "choice": "A"}', "line 1 names no annotator"),
        ('{"annotator": 3, "pair_id": "x", "choice": "A"}', "annotator is 3"),
        ('{"annotator": "a", "pair_id": "x", "choice": "A", "kind": "dog"}', "kind is 'dog'"),
        ('\n{"annotator": "a", "pair_id": "x"', "line 2 is not JSON"),
        ('{"annotator": "a", "pair_id": "x", "choice": "A"}\n' * 2, "line 2: a has rated x in line 1"),
    ],
)
def test_a_malformed_file_is_refused_with_its_line(published: Path, tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "people.jsonl"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=said.replace("[", r"\[")):
        run_agreement(published, [str(path)], tmp_path / "out")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nobody"], "does not exist"),
        (["simulated:none"], "says no number"),
        (["simulated:0"], "says no number"),
        (["shorter-answer", "shorter-answer"], "given twice"),
        (["critique_choice"], "pairwise or likelihood is needed"),
        (["absent.jsonl"], "does not exist"),
    ],
)
def test_annotators_that_name_nobody_are_refused(published: Path, tmp_path: Path, words: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        run_agreement(published, words, tmp_path)


def test_a_dry_run_counts_and_writes_nothing(published: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    said = run_agreement(published, ["roleplay=scripted"], out, limit=20, budget=Budget(None, None), dry_run=True)
    assert said.startswith("Dry run")
    assert not out.exists()


def test_cells_that_are_no_part_of_a_matrix_say_nothing() -> None:
    """Neither a number nor the dash of an undefined kappa, whatever the matrix has there."""
    matrix = [[0.1, 0.5], [0.7, 0.2]]
    blanked = heatmap_figure(matrix, ["a", "b"], ["a", "b"], "kappa", blank=((1, 0),))
    assert blanked != heatmap_figure(matrix, ["a", "b"], ["a", "b"], "kappa")
    assert blanked == heatmap_figure([[0.1, 0.5], [None, 0.2]], ["a", "b"], ["a", "b"], "kappa", blank=((1, 0),))
    assert blanked != heatmap_figure([[0.1, 0.5], [None, 0.2]], ["a", "b"], ["a", "b"], "kappa")


def test_the_section_has_figures_6_to_9_and_says_what_is_simulated(published: Path, tmp_path: Path) -> None:
    words = ["roleplay=scripted", "likelihood=scripted", "simulated:4"]
    run_agreement(published, words, tmp_path, limit=80)
    made = section(load_results(tmp_path), tmp_path)
    assert made.scripted
    assert {figure.number for figure in made.figures} >= {"6", "8"}
    assert all("simulated" in figure.title for figure in made.figures if figure.number in ("6", "7"))
    assert all(figure.image.startswith("data:image/svg+xml") for figure in made.figures)
    assert any("wrong persona" in str(table.header) for table in made.tables)
