"""What the numbers promise: exactly one half for a persona-blind scorer, no row wrong for being unscored, honest
intervals.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.schema import assistant_message, contrast_pair_id, dpf_pair_id, preference_messages
from eval.metrics import Figures, Gap, Measurement, disagreement_weights, measure
from eval.rows import EvaluatedRow, evaluated_row
from eval.scores import Score, pair_scores, plan_scoring
from training.evaluation import Candidate

Scorer = Callable[[Sequence[Candidate]], list[Score]]


def contrast_rows(personas: int, prompts: int, flip: bool = True) -> list[EvaluatedRow]:
    """Complete mirrored sets: every unordered pair of personas on every prompt, both ways."""
    rows = []
    for (own, other), prompt in itertools.product(itertools.permutations(range(personas), 2), range(prompts)):
        published = {
            **shared(own, prompt, personas),
            "pair_id": contrast_pair_id(f"p{own}", f"p{other}", f"q{prompt}"),
            "mirror_pair_id": contrast_pair_id(f"p{other}", f"p{own}", f"q{prompt}"),
            "partner_persona_id": f"p{other}",
            "chosen": assistant_message(f"answer of {own} to {prompt}"),
            "rejected": assistant_message(f"answer of {other} to {prompt}"),
            "flips": [{"judge": "j", "flip": flip, "margin": 0.1, "is_selector": True}],
        }
        rows.append(evaluated_row("contrast", "seen_test", published))
    return rows


def dpf_rows(personas: int, prompts: int, **changes: Any) -> list[EvaluatedRow]:
    rows = []
    for persona, prompt in itertools.product(range(personas), range(prompts)):
        published = {
            **shared(persona, prompt, personas),
            "pair_id": dpf_pair_id(f"p{persona}", f"q{prompt}"),
            "chosen": assistant_message(f"revision of {persona} for {prompt}"),
            "rejected": assistant_message(f"base answer to {prompt}"),
        }
        rows.append(evaluated_row("dpf", "seen_test", published | changes))
    return rows


def shared(persona: int, prompt: int, personas: int) -> dict[str, Any]:
    return {
        "persona_id": f"p{persona}",
        "prompt_id": f"q{prompt}",
        "prompt": preference_messages(f"profile {persona}", f"question {prompt}?"),
        "persona_group": "seen",
        "wrong_persona_id": f"p{(persona + 1) % personas}",
        "judge": "j",
        "judge_verdict": "unscored",
    }


def known_personas(personas: int) -> set[str]:
    return {f"p{persona}" for persona in range(personas)}


def figures_of(
    rows: Sequence[EvaluatedRow], scorer: Scorer, seed: int = 0, profiles: dict[str, str] | None = None
) -> Figures:
    plan = plan_scoring(rows, known_personas(50))
    return measure(rows, pair_scores(plan, scorer(plan.candidates)), seed, profiles)


def evaluate(rows: Sequence[EvaluatedRow], scorer: Scorer, seed: int = 0) -> tuple[list[Measurement], list[Gap]]:
    figures = figures_of(rows, scorer, seed)
    return figures.measurements, figures.gaps


def only(measurements: Sequence[Measurement], condition: str, subset: str = "all", cell: str = "all") -> Measurement:
    return next(m for m in measurements if (m.condition, m.subset, m.cell) == (condition, subset, cell))


def dpf_outcomes(wins: Sequence[float]) -> Scorer:
    """Scores row number i (five prompts a persona) so that its outcome is wins[i]; base answers get 0."""

    def score(candidates: Sequence[Candidate]) -> list[Score]:
        scores: list[Score] = []
        for candidate in candidates:
            words = candidate.answer.split()
            scores.append(wins[int(words[2]) * 5 + int(words[4])] - 0.5 if words[0] == "revision" else 0.0)
        return scores

    return score


# Few distinct values, so that ties are common.
text_scores = st.one_of(st.integers(-2, 2).map(float), st.floats(-1e6, 1e6))


@settings(max_examples=20, deadline=None)
@given(st.data(), st.integers(2, 5), st.integers(1, 3))
def test_scorer_that_ignores_the_persona_gets_exactly_half_on_mirrors(data: Any, personas: int, prompts: int) -> None:
    """Whatever it thinks of the texts: under every condition if it never looks at the persona, under `none` even if
    it does.
    """
    rows = contrast_rows(personas, prompts)
    known: dict[Any, float] = {}

    def by_text(candidates: Sequence[Candidate]) -> list[Score]:
        return [known.setdefault(candidate.answer, data.draw(text_scores)) for candidate in candidates]

    def by_persona_and_text(candidates: Sequence[Candidate]) -> list[Score]:
        return [known.setdefault((c.persona_id, c.answer), data.draw(text_scores)) for c in candidates]

    enough = len(rows) >= 20
    blind, _ = evaluate(rows, by_text)
    looking, _ = evaluate(rows, by_persona_and_text)
    for condition in ("true", "none", "wrong"):
        assert only(blind, condition).accuracy.value == (0.5 if enough else None)
    assert only(looking, "none").accuracy.value == (0.5 if enough else None)


@settings(max_examples=20, deadline=None)
@given(st.sets(st.integers(0, 24)), st.integers(0, 2**32))
def test_a_text_without_score_takes_both_mirrors_out_and_leaves_half(lost: set[int], seed: int) -> None:
    rows = contrast_rows(5, 5)
    rng = np.random.default_rng(seed)
    values = dict(zip([f"answer of {p} to {q}" for p in range(5) for q in range(5)], rng.normal(size=25), strict=True))
    for place in lost:
        values[f"answer of {place // 5} to {place % 5}"] = math.nan
    measurements, _ = evaluate(rows, lambda candidates: [float(values[c.answer]) for c in candidates])
    measured = only(measurements, "none")
    assert measured.rows == 100
    assert measured.accuracy.n + sum(measured.unscored.values()) == 100
    assert measured.accuracy.n % 2 == 0
    if measured.accuracy.n >= 20:
        assert measured.accuracy.value == 0.5


def test_a_row_whose_mirror_is_absent_is_dropped_and_counted() -> None:
    rows = contrast_rows(5, 2)[:-1]
    measurements, _ = evaluate(rows, lambda candidates: [float(len(c.answer)) for c in candidates])
    measured = only(measurements, "true")
    assert (measured.rows, measured.accuracy.n, measured.mirrors_dropped, measured.unscored) == (39, 38, 1, {})


@settings(max_examples=20, deadline=None)
@given(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=25, max_size=25), st.integers(0, 5))
def test_an_interval_contains_its_point_and_lies_in_the_range(wins: list[float], seed: int) -> None:
    measurements, gaps = evaluate(dpf_rows(5, 5), dpf_outcomes(wins), seed)
    estimates = [m.accuracy for m in measurements]
    for estimate in estimates:
        assert estimate.value is not None
        assert estimate.value == pytest.approx(sum(wins) / 25)
        if estimate.low is None or estimate.high is None:
            assert estimate.withheld
        else:
            assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
    assert all(gap.difference.value == 0 for gap in gaps)


@settings(max_examples=10, deadline=None)
@given(st.permutations(range(30)), st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=30, max_size=30))
def test_the_order_of_rows_changes_nothing(order: list[int], wins: list[float]) -> None:
    rows = dpf_rows(6, 5)
    assert evaluate(rows, dpf_outcomes(wins)) == evaluate([rows[place] for place in order], dpf_outcomes(wins))


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 19))
def test_shares_of_few_rows_are_withheld(count: int) -> None:
    measurements, gaps = evaluate(dpf_rows(5, 5)[:count], dpf_outcomes([1.0] * 25))
    for estimate in [*(m.accuracy for m in measurements), *(g.difference for g in gaps)]:
        assert (estimate.value, estimate.low, estimate.high) == (None, None, None)
        assert estimate.withheld == "n < 20"
        assert estimate.n == count


def test_accuracy_counts_ties_half_and_reports_them() -> None:
    measurements, _ = evaluate(dpf_rows(4, 5), dpf_outcomes([1.0] * 12 + [0.5] * 4 + [0.0] * 4))
    measured = only(measurements, "true")
    assert measured.accuracy.value == 0.7
    assert (measured.ties, measured.personas, measured.accuracy.clusters) == (4, 4, 4)


def test_the_interval_knows_that_rows_of_a_persona_go_together() -> None:
    """50 rows that are alike within each of ten personas tell less than 50 rows that vary within each."""
    together, _ = evaluate(dpf_rows(10, 5), dpf_outcomes([1.0] * 25 + [0.0] * 25))
    mixed, _ = evaluate(dpf_rows(10, 5), dpf_outcomes([1.0, 0.0] * 25))
    wide, narrow = only(together, "true").accuracy, only(mixed, "true").accuracy
    assert wide.low is not None
    assert wide.high is not None
    assert narrow.low is not None
    assert narrow.high is not None
    assert wide.value == narrow.value == 0.5
    # Less than twice as wide: prompts are drawn too, which counts what neither explains several times.
    assert wide.high - wide.low > 1.5 * (narrow.high - narrow.low)


def test_a_perfect_share_still_has_an_interval() -> None:
    measurements, _ = evaluate(dpf_rows(5, 5), dpf_outcomes([1.0] * 25))
    accuracy = only(measurements, "true").accuracy
    assert accuracy.high == 1.0
    assert accuracy.low == pytest.approx(0.5655, abs=1e-3)  # Wilson's interval for 5 of 5


def test_the_gap_is_taken_over_rows_counted_under_both_conditions() -> None:
    """The scorer reads the persona: right with the true one, wrong with any other; without a persona it has no score
    for half.
    """

    def score(candidates: Sequence[Candidate]) -> list[Score]:
        scores: list[Score] = []
        for candidate in candidates:
            text = candidate.answer
            if candidate.persona_id is None and text.endswith(("0", "1")):
                scores.append("refused")
            elif text.startswith("revision"):
                scores.append(1.0 if candidate.persona_id == f"p{text.split()[2]}" else -1.0)
            else:
                scores.append(0.0)
        return scores

    measurements, gaps = evaluate(dpf_rows(10, 4), score)
    by_condition = {gap.against: gap.difference for gap in gaps if gap.cell == "all"}
    assert only(measurements, "none").unscored == {"refused": 20}
    assert (by_condition["wrong"].value, by_condition["wrong"].n) == (1.0, 40)
    assert (by_condition["none"].value, by_condition["none"].n) == (1.0, 20)


def test_agreement_with_the_judge_leaves_unjudged_rows_out() -> None:
    judged = dpf_rows(5, 4, judge_verdict="chosen")[:10] + dpf_rows(5, 4, judge_verdict="rejected")[10:]
    unjudged = [row for row in dpf_rows(7, 4) if row.persona_id in ("p5", "p6")]
    measurements, _ = evaluate(
        judged + unjudged, lambda candidates: [float(c.answer.startswith("revision")) for c in candidates]
    )
    measured = only(measurements, "true")
    assert (measured.accuracy.value, measured.accuracy.n) == (1.0, 28)
    assert (measured.judge_agreement.value, measured.judge_agreement.n) == (0.5, 20)


def test_flipped_pairs_are_measured_apart() -> None:
    rows = contrast_rows(5, 2, flip=True) + dpf_rows(5, 5)
    rows += [row for row in contrast_rows(5, 3, flip=False) if row.pair_id.endswith("q2")]
    measurements, _ = evaluate(rows, lambda candidates: [0.0] * len(candidates))
    counts = {(m.config, m.subset): m.accuracy.n for m in measurements if m.cell == "all" and m.condition == "true"}
    assert counts == {("dpf", "all"): 25, ("contrast", "all"): 60, ("contrast", "flipped"): 40}


@pytest.mark.parametrize(
    ("changes", "conditions", "reason"),
    [
        ({"chosen": assistant_message("  ")}, ("true", "none", "wrong"), "chosen text missing"),
        ({"rejected": []}, ("true", "none", "wrong"), "rejected text missing"),
        ({"wrong_persona_id": "p99"}, ("wrong",), "no profile for the wrong persona"),
    ],
)
def test_a_row_that_cannot_be_scored_is_neither_wrong_nor_half_right(
    changes: dict[str, Any], conditions: Sequence[str], reason: str
) -> None:
    rows = dpf_rows(5, 5) + [row for row in dpf_rows(6, 1, **changes) if row.persona_id == "p5"]
    measurements, _ = evaluate(rows, lambda candidates: [float(c.answer.startswith("revision")) for c in candidates])
    for condition in ("true", "none", "wrong"):
        measured = only(measurements, condition)
        assert measured.accuracy.value == 1.0
        assert measured.unscored == ({reason: 1} if condition in conditions else {})


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_no_number_is_unscored(score: float) -> None:
    measurements, _ = evaluate(dpf_rows(5, 5), lambda candidates: [score] * len(candidates))
    measured = only(measurements, "true")
    assert measured.unscored == {"score is not a finite number": 25}
    assert (measured.accuracy.n, measured.accuracy.value) == (0, None)


def test_every_candidate_is_scored_once() -> None:
    rows = contrast_rows(4, 3)
    candidates = plan_scoring(rows, known_personas(4)).candidates
    assert len(set(candidates)) == len(candidates)
    # Per prompt: 4 answers without a persona and under each of 4 personas (own pairs show it `true`, others `wrong`).
    assert len(candidates) == 3 * (4 + 4 * 4)


# Falsifiers: what no honest measure may get wrong.


def prefers_own_text(candidates: Sequence[Candidate]) -> list[Score]:
    """The planted preference: the persona that is shown likes its own text, and nothing is known without one."""
    return [float(c.persona_id is not None and c.answer.split()[2] == c.persona_id[1:]) for c in candidates]


def test_a_planted_preference_is_found_and_its_opposite_lies_below_one_half() -> None:
    rows = contrast_rows(6, 3)
    planted, gaps = evaluate(rows, prefers_own_text)
    assert only(planted, "true").accuracy.value == 1.0
    assert only(planted, "none").accuracy.value == 0.5
    assert next(gap for gap in gaps if gap.against == "wrong").difference.value > 0.3  # type: ignore[operator]
    anti, gaps = evaluate(rows, lambda candidates: [-float(s) for s in prefers_own_text(candidates)])
    assert only(anti, "true").accuracy.value == 0.0
    assert next(gap for gap in gaps if gap.against == "wrong").difference.value < -0.3  # type: ignore[operator]


def test_shuffled_labels_give_one_half() -> None:
    """Chosen and rejected are exchanged in half of the mirrored sets, drawn at random: the planted preference is worth nothing."""
    rows = contrast_rows(8, 4)
    sets = sorted({min(row.pair_id, str(row.mirror_pair_id)) for row in rows})
    swapped = set(np.random.default_rng(0).permutation(sets)[: len(sets) // 2])
    shuffled = []
    for row in rows:
        own = dict(row.published)
        if min(row.pair_id, str(row.mirror_pair_id)) in swapped:
            own["chosen"], own["rejected"] = own["rejected"], own["chosen"]
        shuffled.append(evaluated_row("contrast", "seen_test", own))
    measured, _ = evaluate(shuffled, prefers_own_text)
    assert only(measured, "true").accuracy.value == 0.5


# Kappa and disagreement.


def judged(rows: Sequence[EvaluatedRow], verdicts: Sequence[str]) -> list[EvaluatedRow]:
    return [
        evaluated_row(row.config, row.split, row.published | {"judge_verdict": verdict})
        for row, verdict in zip(rows, verdicts, strict=True)
    ]


def side_of_first(row: EvaluatedRow, verdict: str) -> int:
    """The sides of a pair as the documentation has them: on contrast the text of the persona that comes first by id."""
    return int((verdict == "chosen") == (row.config == "dpf" or row.persona_id == row.cluster[0]))


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32), st.booleans())
def test_kappa_is_that_of_scikit_learn_over_rows_that_both_decide(seed: int, contrast: bool) -> None:
    from sklearn.metrics import cohen_kappa_score

    rng = np.random.default_rng(seed)
    rows = contrast_rows(6, 2) if contrast else dpf_rows(10, 5)
    rows = judged(rows, rng.choice(["chosen", "rejected", "tie", "unscored"], size=len(rows), p=[0.5, 0.3, 0.1, 0.1]))
    known: dict[Any, float] = {}

    def score(candidates: Sequence[Candidate]) -> list[Score]:
        return [known.setdefault((c.persona_id, c.answer), float(rng.integers(0, 4))) for c in candidates]

    plan = plan_scoring(rows, known_personas(50))
    scores = pair_scores(plan, score(plan.candidates))
    measured = only(measure(rows, scores, 0).measurements, "true")
    both = [
        (side_of_first(row, own.verdict), side_of_first(row, row.judge_verdict))
        for row, own in zip(rows, scores["true"], strict=True)
        if own.verdict in ("chosen", "rejected") and row.judge_verdict in ("chosen", "rejected")
    ]
    assert measured.kappa.n == len(both)
    assert measured.kappa.n + sum(measured.kappa_left_out.values()) == measured.accuracy.n
    if measured.kappa.value is not None:
        assert measured.kappa.value == pytest.approx(cohen_kappa_score(*zip(*both, strict=True)))


@pytest.mark.parametrize("verdicts", [["chosen"], ["chosen", "rejected"]])
def test_kappa_is_undefined_where_either_always_prefers_the_same_side(verdicts: list[str]) -> None:
    rows = judged(dpf_rows(10, 5), (verdicts * 50)[:50])
    measured = only(evaluate(rows, dpf_outcomes([1.0] * 50))[0], "true")
    assert measured.judge_agreement.value == 1.0 / len(verdicts)
    assert measured.kappa.value is None
    assert "undefined" in str(measured.kappa.withheld)


def test_a_persona_blind_scorer_has_no_kappa_above_chance_on_contrast() -> None:
    rows = judged(contrast_rows(8, 3), ["chosen"] * 168)
    measured = only(
        evaluate(rows, lambda candidates: [float(len(c.answer)) + hash_of(c) for c in candidates])[0], "true"
    )
    assert measured.kappa.value == pytest.approx(0.0, abs=1e-9)
    best = only(evaluate(rows, prefers_own_text)[0], "true")
    assert best.kappa.value == 1.0


def hash_of(candidate: Candidate) -> float:
    return math.sin(sum(map(ord, candidate.answer)))


def test_rows_weigh_as_much_as_others_disagree() -> None:
    rows = judged(dpf_rows(4, 1), ["chosen", "chosen", "chosen", "rejected"])
    assert disagreement_weights(rows).tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3, 1.0])
    rows = judged(dpf_rows(4, 1), ["chosen", "tie", "unscored", "rejected"])
    assert disagreement_weights(rows).tolist() == [1.0, 0.0, 0.0, 1.0]
    mirrors = contrast_rows(2, 1)
    assert disagreement_weights(judged(mirrors, ["chosen", "chosen"])).tolist() == [1.0, 1.0]
    assert disagreement_weights(judged(mirrors, ["chosen", "rejected"])).tolist() == [0.0, 0.0]


def test_a_scorer_that_knows_the_majority_alone_is_low_where_personas_disagree() -> None:
    rows = judged(dpf_rows(10, 4), ["rejected" if place % 40 < 8 else "chosen" for place in range(40)])

    def of(scorer: Scorer, condition: str = "true") -> Any:
        found = figures_of(rows, scorer).disagreement
        return next(d for d in found if (d.config, d.condition) == ("dpf", condition)).accuracy

    majority = of(lambda candidates: [float(c.answer.startswith("revision")) for c in candidates])
    assert majority.value == pytest.approx(0.5)
    minority = {"0", "1"}
    knows = of(
        lambda candidates: [
            float(c.answer.startswith("revision")) * (-1 if c.answer.split()[2] in minority else 1) for c in candidates
        ]
    )
    assert knows.value == 1.0


def test_unequal_service_is_found_in_the_groups_that_profiles_state() -> None:
    """Personas of one sex are always served wrongly; ages have nothing to do with it."""
    profiles = {
        f"p{i}": f"About the person asking:\nage: {20 + i}\nsex: {'Female' if i % 2 else 'Male'}" for i in range(20)
    }
    rows = dpf_rows(20, 5)
    figures = figures_of(rows, lambda candidates: [served(c) for c in candidates], profiles=profiles)
    own = next(s for s in figures.spread if (s["config"], s["condition"]) == ("dpf", "true"))
    assert own["gini"] == pytest.approx(0.5)
    assert own["largest_gap"]["attribute"] == "sex"
    assert own["largest_gap"]["difference"] == 1.0
    assert own["largest_gap"]["p_value"] < 0.01
    assert (own["worst_group"]["attribute"], own["worst_group"]["value"]) == ("sex", "Female")
    assert own["worst_intersection"]["accuracy"] == 0.0


def served(candidate: Candidate) -> float:
    words = candidate.answer.split()
    return 0.0 if words[0] == "base" else -1.0 if int(words[2]) % 2 else 1.0
