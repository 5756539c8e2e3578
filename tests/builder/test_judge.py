"""The persona judge: likelihood and role-play."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import InputError
from builder.judge.judge import Comparison, choose_best, compare, load_judge
from builder.llm.calls import ModelCalls
from builder.llm.record import Record
from builder.llm.scripted import ScriptedClient
from builder.llm.templates import load_template
from builder.recipe import ModelRecipe, ModelsRecipe

GARDENER = Comparison("likes gardens", "What to do on Sunday?", ("gardens", "motors"))


def ask(tmp_path, judge, comparisons, reply=None):
    models = ModelsRecipe(judge=ModelRecipe(provider="scripted", model="j"))
    calls = ModelCalls(
        models, Record(tmp_path / "r.sqlite"), clients={"judge": ScriptedClient("j", reply)} if reply else None
    )
    return compare(load_judge(judge, "scripted", "j", 1), calls, comparisons), calls


def roleplay(verdict_of):
    """A reply whose verdict depends on which answer stands first."""

    def reply(request):
        asked = request.messages[-1]["content"]
        first = asked.split("<answer_a>")[1].split("</answer_a>")[0].strip()
        return f"REASON: because\nVERDICT: {verdict_of(first)}"

    return reply


def test_likelihood_prefers_what_the_persona_makes_likelier(tmp_path):
    (verdict,), _ = ask(tmp_path, "likelihood", [GARDENER])
    assert verdict.verdict == "A"
    assert verdict.score == pytest.approx(1.0)


def test_likelihood_without_a_persona_is_a_tie_by_construction(tmp_path):
    (verdict,), _ = ask(tmp_path, "likelihood", [Comparison(None, "Sunday?", ("gardens", "motors"))])
    assert (verdict.verdict, verdict.score) == ("tie", 0.0)


def test_likelihood_compares_over_the_same_number_of_tokens(tmp_path):
    """Per token the short answer gains 1.0, the long one 1.0 over the same length and less over its whole."""
    (verdict,), _ = ask(
        tmp_path, "likelihood", [Comparison("likes gardens", "Sunday?", ("gardens", "gardens and many other things"))]
    )
    assert verdict.verdict == "tie"


@given(st.text(min_size=1), st.text(min_size=1), st.text(min_size=1))
def test_exchanging_the_answers_exchanges_the_likelihood_verdict(tmp_path_factory, profile, first, second):
    tmp_path = tmp_path_factory.mktemp("j")
    both, _ = ask(
        tmp_path, "likelihood", [Comparison(profile, "q?", (first, second)), Comparison(profile, "q?", (second, first))]
    )
    assert {"A": "B", "B": "A", "tie": "tie"}[both[0].verdict] == both[1].verdict
    assert both[0].score == pytest.approx(-both[1].score)


@pytest.mark.parametrize(
    ("verdict_of", "expected", "score"),
    [
        (lambda first: "A" if first == "gardens" else "B", "A", 1.0),
        (lambda first: "B" if first == "gardens" else "A", "B", 0.0),
        (lambda first: "A", "tie", 0.5),
        (lambda first: "B", "tie", 0.5),
        (lambda first: "tie", "tie", 0.5),
        (lambda first: "A" if first == "gardens" else "tie", "A", 0.75),
    ],
)
def test_roleplay_asks_in_both_orders(tmp_path, verdict_of, expected, score):
    (verdict,), calls = ask(tmp_path, "roleplay", [GARDENER], roleplay(verdict_of))
    assert (verdict.verdict, verdict.score) == (expected, score)
    assert calls.spending.calls == 2


NO_VERDICTS = [
    "I cannot decide.",
    "VERDICT: A, B or tie",
    "REASON: r\nVERDICT: A person like this prefers the second.",
    "VERDICT: C",
    "The verdict is A",
    "REASON: x\nVERDICT:",
]


@pytest.mark.parametrize("reply", NO_VERDICTS)
def test_a_reply_without_a_verdict_is_unscored_and_never_half(tmp_path, reply):
    (verdict,), calls = ask(tmp_path, "roleplay", [GARDENER], lambda request: reply)
    assert (verdict.verdict, verdict.score, verdict.reason) == ("unscored", None, "unreadable")
    assert calls.spending.calls == 6  # two orders, three attempts


def test_the_last_verdict_counts_not_one_that_was_quoted(tmp_path):
    quoted = "REASON: the profile says\nVERDICT: B\nbut I think\nREASON: gardens\nVERDICT: A"
    (verdict,), _ = ask(tmp_path, "roleplay", [GARDENER], lambda request: quoted)
    assert verdict.reason == "gardens"


def test_choose_best_takes_the_first_of_equals(tmp_path):
    models = ModelsRecipe(judge=ModelRecipe(provider="scripted", model="j"))
    calls = ModelCalls(models, Record(tmp_path / "r.sqlite"))
    judge = load_judge("likelihood", "scripted", "j", 1)
    items = [("gardens", "q?", ["motors", "gardens", "gardens"]), ("motors", "q?", ["same", "same"])]
    assert choose_best(judge, calls, items) == [1, 0]


def test_choose_best_by_roleplay_is_a_tournament(tmp_path):
    models = ModelsRecipe(judge=ModelRecipe(provider="scripted", model="j"))
    order = {"bad": 0, "good": 1, "best": 2}

    def reply(request):
        asked = request.messages[-1]["content"]
        a, b = (asked.split(f"<answer_{x}>")[1].split("</")[0].strip() for x in "ab")
        return f"REASON: r\nVERDICT: {'A' if order[a] > order[b] else 'B'}"

    calls = ModelCalls(models, Record(tmp_path / "r.sqlite"), clients={"judge": ScriptedClient("j", reply)})
    assert choose_best(load_judge("roleplay", "scripted", "j", 1), calls, [("p", "q?", ["bad", "best", "good"])]) == [1]


def test_auto_takes_likelihood_in_process_and_roleplay_for_endpoints():
    assert load_judge("auto", "transformers", "m", 1).kind == "likelihood"
    assert load_judge("auto", "openai", "m", 1).kind == "pairwise"


def test_judges_that_do_not_exist_or_do_not_fit(tmp_path):
    with pytest.raises(InputError, match="likelihood, roleplay"):
        load_judge("critic", "openai", "m", 1)
    with pytest.raises(InputError, match="judge: roleplay"):
        load_judge("likelihood", "openai", "m", 1)
    odd = tmp_path / "odd.yaml"
    odd.write_text(json.dumps({"kind": "likelihood", "temprature": 1}))
    with pytest.raises(InputError, match="unknown key temprature"):
        load_judge(str(odd), "transformers", "m", 1)
    odd.write_text(json.dumps({"kind": "vote"}))
    with pytest.raises(InputError, match="takes likelihood or pairwise"):
        load_judge(str(odd), "transformers", "m", 1)


@given(st.text(max_size=200), st.text(max_size=200))
def test_reading_templates_never_breaks(before, inside):
    for name in ("critique_paper", "revision_paper", "judge_roleplay", "classify_controversy", "answer"):
        sections = load_template(name).read(f"{before}\nEVALUATION: {inside}\nSUGGESTIONS: {inside}\nDONE")
        assert sections is None or all(sections.values())


@given(st.text(min_size=1, max_size=200))
def test_what_a_value_holds_is_never_rendered(text):
    (message,) = [
        m
        for m in load_template("answer").render(question="{{ 1 }}" + text, neutral_system_text="n")
        if m["role"] == "user"
    ]
    assert message["content"].startswith("{{ 1 }}")


def test_a_template_value_that_is_missing_is_an_error():
    with pytest.raises(Exception, match="question"):
        load_template("answer").render(neutral_system_text="x")
