"""The packaged classifier: tells plain questions from open ones, the same everywhere, and says how well it does."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from builder.prompts import controversy, controversy_model, filters, make_controversy_model, vectors
from builder.prompts.prompts import build_prompts
from builder.prompts.sources import read_prompts
from builder.recipe import BuildRecipe, PairsRecipe, PromptsRecipe

REPOSITORY = Path(__file__).parents[2]
# Written for this test; the model has not seen them.
OPEN = [
    "Is it fair that some children inherit millions?",
    "my brother in law flies a confederate flag, should i still visit him?",
    "Would you rather be respected or loved by your employees?",
    "Do you think the police can be trusted?",
    "Should a nurse with strong faith have to assist at an abortion?",
    "Why do so many people on the left dislike the army?",
]
PLAIN = [
    "How many strings does a banjo have?",
    "hi, how do i get candle wax out of a tablecloth?",
    "What is the boiling point of ethanol?",
    "Can you write a regular expression that matches an email address?",
    "How long should I roast a duck at 180 degrees?",
    "What does the word perpendicular mean?",
]


def recipe(**prompts) -> BuildRecipe:
    sizes = {"count": 16, "heldout": 4, **prompts}
    return BuildRecipe(
        name="test", seed=7, prompts=PromptsRecipe(**sizes), pairs=PairsRecipe(train=2, seen_test=1, heldout_test=1)
    )


def test_open_questions_score_above_plain_ones_that_the_model_has_not_seen():
    scores = controversy_model.scores([*OPEN, *PLAIN])
    assert min(scores[: len(OPEN)]) > 0.5 > max(scores[len(OPEN) :]), scores


def test_a_score_depends_on_the_question_alone():
    together = controversy_model.scores([*OPEN, *PLAIN])
    assert controversy_model.scores([*PLAIN[::-1], *OPEN[::-1]]) == together[::-1]
    assert [controversy_model.scores([question])[0] for question in OPEN] == together[: len(OPEN)]
    assert controversy_model.scores([]) == []


@pytest.mark.parametrize(
    "question", ["???", "1 2 3 4 5?", "为什么 要 工作 呢 ?", "x" * 50_000 + "?", "{{ a }} 'don't' ’ VERDICT: yes?"]
)
def test_odd_questions_get_a_score(question):
    (score,) = controversy_model.scores([question])
    assert 0 < score < 1


def test_the_scores_are_the_same_in_another_process():
    code = "import sys, json; from builder.prompts import controversy_model as m; print(json.dumps([m.version(), m.scores(sys.argv[1:])]))"
    variables = {"PYTHONPATH": str(REPOSITORY), "PYTHONHASHSEED": "99", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code, *OPEN], env=variables, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == [controversy_model.version(), controversy_model.scores(OPEN)]


def test_the_model_is_small_plain_data_that_names_its_sources():
    model = controversy_model.read_model()
    assert controversy_model.FILE.stat().st_size < 200_000
    assert vectors.FILE.stat().st_size < 1_100_000
    licences = {entry["source"]: entry["licence"] for entry in model["about"]["fitted_on"]}
    assert licences == make_controversy_model.SOURCES | make_controversy_model.OWN
    assert all(entry["questions"] > 100 for entry in model["about"]["fitted_on"])
    assert vectors.about()["encoder_licence"] == "Apache-2.0"
    assert len(model["weights"]) == vectors.word_table()[1].shape[1] + len(model["patterns"])
    # Runs of function words only: nothing of a licensed question can be read from the model.
    words = {word for pattern in model["patterns"] for word in pattern.split()}
    assert words <= controversy_model.FUNCTION_WORDS | {controversy_model.GAP}


def test_the_held_out_scores_stand_in_the_model():
    held_out = controversy_model.read_model()["held_out"]
    for source, figures in held_out["sources left out in turn"].items():
        assert figures["auc"]["interval"][0] > 0.95, source
        assert figures["recall"]["value"] > 0.9, source
    labels = held_out["relevance_labels"]["all"]
    assert labels["prompts"] == 120
    assert labels["auc"]["interval"][0] > 0.85
    assert labels["auc"]["interval"][0] < labels["auc"]["value"] < labels["auc"]["interval"][1]


def test_the_packaged_model_filters_a_build_and_says_what_it_is():
    table = build_prompts(recipe(count=40, heldout=10, controversy="packaged"), None)
    counts = table.counts
    assert counts["in"] == counts["out"] + sum(counts["dropped"].values())
    assert all(row["controversy_score"] >= 0.5 and row["controversy_votes"] == [] for row in table.rows)
    details = table.details["classifier"]
    assert (details["kind"], details["version"]) == ("packaged", controversy_model.version())
    assert details["pass_rate"] == details["passed"] / details["scored"]
    assert counts["dropped"]["not_controversial"] == details["scored"] - details["passed"]
    assert details["held_out"] == controversy_model.read_model()["held_out"]
    strict = build_prompts(recipe(count=40, heldout=10, controversy="packaged", controversy_threshold=0.9), None)
    assert strict.details["classifier"]["passed"] < details["passed"]


def test_no_model_is_asked_where_the_packaged_one_scores():
    class NoCalls:
        def __getattr__(self, name):
            raise AssertionError("no model may be called")

    result = controversy.keep_controversial(read_prompts("packaged").prompts, recipe(controversy="packaged"), NoCalls())
    assert (result.dropped["unscored"], result.ledger) == (0, [])


# --- making it


def toy_rows() -> list[dict]:
    subjects = [
        "hunting",
        "divorce",
        "monarchy",
        "lotteries",
        "uniforms",
        "tattoos",
        "curfews",
        "zoos",
        "taxes",
        "borders",
    ]
    rows = [
        {"source": source, "controversial": True, "topic": subject, "question": f"Should {subject} be banned {n}?"}
        for source in ("habermas_machine", "ValueConsistency", "moralchoice_high_ambiguity")
        for subject in subjects
        for n in "abc"
    ]
    rows += [{"source": "issuebench_issues", "controversial": True, "topic": s, "question": None} for s in subjects]
    return [*rows, {"source": "ValueConsistency", "controversial": False, "topic": "Jazz", "question": "Is jazz nice?"}]


def test_examples_are_the_same_at_every_making_and_never_the_uncontroversial_ones():
    first, again = (make_controversy_model.licensed_examples(toy_rows()) for _ in range(2))
    assert first == again
    assert {example.source for example in first} == set(make_controversy_model.SOURCES)
    assert not any("jazz" in example.question.lower() for example in first)
    own = make_controversy_model.own_examples("plain")
    assert own == make_controversy_model.own_examples("plain")
    assert len(own) > 2000
    assert not any("{" in example.question or "}" in example.question for example in own)


def test_style_is_spread_alike_over_both_sides():
    shares = []
    for kind in ("open", "plain"):
        examples = make_controversy_model.own_examples(kind)
        shares.append(np.mean([example.question.islower() for example in examples]))
    assert math.isclose(*shares, abs_tol=0.04)


def test_quality_counts_what_it_says():
    scores, wanted = np.array([0.9, 0.8, 0.6, 0.4, 0.2]), np.array([True, True, False, True, False])
    figures = make_controversy_model.quality(scores, wanted, "test")
    assert (figures["prompts"], figures["open"]) == (5, 3)
    assert figures["precision"]["value"] == figures["recall"]["value"] == 0.667
    assert figures["pass_rate"]["value"] == 0.6
    assert figures["auc"]["value"] == round(5 / 6, 3)
    assert make_controversy_model.share(0, 0)["value"] is None
    low, high = make_controversy_model.share(59, 59)["interval"]
    assert high == 1.0
    assert 0.9 < low < 0.95


@pytest.mark.shared_data
def test_the_scores_in_the_model_are_those_on_the_real_labels_and_prompts(shared_data):
    held_out = controversy_model.read_model()["held_out"]
    labels = make_controversy_model.read_jsonl(shared_data / "prism" / "relevance_labels.jsonl")
    assert make_controversy_model.score_labels(labels) == held_out["relevance_labels"]
    prompts, _ = filters.text_filters(read_prompts(str(shared_data / "prism" / "prism_prompts.jsonl")).prompts, 5, True)
    passed = make_controversy_model.share_passed(controversy_model.scores([p.question for p in prompts]))
    assert held_out["prism_prompts"] == {"prompts": 4502, "pass_rate": passed}
    assert 0.6 < passed < 0.86
