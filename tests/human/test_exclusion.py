"""Each rule at its limit and beyond, and who counts of a persona's raters."""

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.human.exclusion import PASTED, Standing, reasons, standings
from eval.human.records import Answer, Rater
from eval.human.study import Exclusions

OFF = Exclusions(None, None, None, None, None)
CHECKS = {"check"}


def answer(number: int = 1, **changes: Any) -> Answer:
    """A careful one: 30 s, typed, said once."""
    choice = "AB"[number % 2]
    plain = Answer(
        "r1", f"i{number}", number, "chosen", choice, "chosen", f"Reason {number}.", 0, 0.0, 30.0, 30.0, changes=0
    )
    return dataclasses.replace(plain, **changes)


def ten(**changes: list[Any]) -> list[Answer]:
    """Ten careful answers; `changes`: a field -> its values in the first of them."""
    found = [answer(number) for number in range(1, 11)]
    for field, values in changes.items():
        for place, value in enumerate(values):
            found[place] = dataclasses.replace(found[place], **{field: value})
    return found


def check(passed: bool = True) -> Answer:
    return answer(99, item_id="check", preferred="chosen" if passed else "rejected")


def test_a_careful_rater_breaks_no_rule() -> None:
    assert reasons([*ten(), check()], CHECKS, Exclusions()) == []


# rule -> (its limit, answers that just keep to it, answers that break it, what is said)
RULES = {
    "median_seconds_below": (8.0, ten(seconds=[8.0] * 9), ten(seconds=[7.9] * 6), "Median time on a question 7.9 s"),
    "pasted_share_above": (
        0.5,
        ten(pasted=[PASTED] * 5 + [PASTED - 1] * 5),
        ten(pasted=[PASTED] * 6),
        "60% of the reasonings were pasted; the limit is 50%",
    ),
    "same_place_share_above": (
        0.8,
        ten(choice=["A"] * 8 + ["B"] * 2),
        ten(choice=["B"] * 9 + ["A"]),
        "90% of the choices fell on one side; the limit is 80%",
    ),
    "repeated_reasoning_above": (
        0.5,
        ten(reason=["Same words."] * 6),
        ten(reason=["Same words.", "same  WORDS.\n"] * 3 + ["Same words."]),
        "60% of the reasonings repeat an earlier one; the limit is 50%",
    ),
    "attention_checks_failed": (2, [*ten(), check(False)], [*ten(), check(False), check(False)], "2 attention checks"),
}


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_is_broken_beyond_its_limit_and_not_at_it(rule: str) -> None:
    limit, keeps, breaks, said = RULES[rule]
    rules = dataclasses.replace(OFF, **{rule: limit})
    assert reasons(keeps, CHECKS, rules) == []
    (found,) = reasons(breaks, CHECKS, rules)
    assert said in found
    assert reasons(breaks, CHECKS, OFF) == []


def test_who_writes_nothing_repeats_nothing() -> None:
    rules = dataclasses.replace(OFF, repeated_reasoning_above=0.5)
    assert reasons(ten(reason=["", " \n"] * 5), CHECKS, rules) == []
    assert len(reasons(ten(reason=[""] * 2 + ["Same words."] * 8), CHECKS, rules)) == 1


def test_a_share_of_exactly_the_limit_breaks_no_rule() -> None:
    """1 - 7 / 10 is a little more than 0.3."""
    rules = dataclasses.replace(OFF, repeated_reasoning_above=0.3)
    assert reasons(ten(reason=["Same words."] * 4), CHECKS, rules) == []
    assert len(reasons(ten(reason=["Same words."] * 5), CHECKS, rules)) == 1


def test_a_check_is_judged_by_its_answer_alone() -> None:
    """What a check says to choose, in how short a time and with which reasoning, is no behaviour of a rater on questions."""
    hasty = [dataclasses.replace(check(), seconds=0.1, pasted=500, reason="Same.", choice="A") for _ in range(30)]
    assert reasons([*ten(), *hasty], CHECKS, Exclusions()) == []
    assert reasons([*ten(), *hasty, check(False)], CHECKS, Exclusions()) == [
        "1 attention check failed; the limit is 1."
    ]


def test_a_careless_rater_is_told_every_rule_that_was_broken() -> None:
    careless = [answer(n, choice="A", seconds=2.0, pasted=300, reason="It fits.") for n in range(1, 11)]
    assert len(reasons([*careless, check(False)], CHECKS, Exclusions())) == 5


def test_without_an_answer_no_rule_is_broken() -> None:
    assert reasons([], CHECKS, Exclusions()) == []


def test_rejected_answers_to_questions_are_no_failed_checks() -> None:
    assert reasons(ten(preferred=["rejected"] * 10), CHECKS, Exclusions()) == []


def rater(name: str, persona: str | None, finished: float | None) -> Rater:
    state = "new" if persona is None else "open" if finished is None else "finished"
    return Rater(name, state, persona, 0.0, finished or 1.0, finished)


def by_name(found: list[Standing]) -> dict[str, Standing]:
    return {standing.rater.rater_id: standing for standing in found}


def test_the_first_to_finish_count_and_of_everybody_else_it_is_said_why_not() -> None:
    raters = [
        rater("first", "p0", 10.0),
        rater("hasty", "p0", 20.0),
        rater("later", "p0", 30.0),
        rater("latest", "p0", 40.0),
        rater("alone", "p1", 50.0),
        rater("gone", "p1", None),
        rater("never", None, None),
    ]
    answers = {name.rater_id: ten() for name in raters}
    answers |= {"hasty": ten(seconds=[1.0] * 10), "gone": ten()[:3]}
    found = by_name(standings(raters, answers, CHECKS, Exclusions(), 2))
    assert [name for name, standing in found.items() if standing.counts] == ["first", "later", "alone"]
    assert found["hasty"].excluded
    assert found["hasty"].reason == "Excluded: Median time on a question 1.0 s; the limit is 8 s."
    assert found["latest"].reason == "Finished when the persona's 2 places were taken."
    assert found["gone"].reason == "Did not finish; 3 answers are there."
    assert found["never"].reason == "Did not begin."
    assert not any(found[name].excluded for name in ("latest", "gone", "never"))


def test_of_two_who_finish_at_one_moment_the_order_of_the_list_decides_nothing() -> None:
    raters = [rater("b", "p0", 10.0), rater("a", "p0", 10.0)]
    for listed in (raters, raters[::-1]):
        found = by_name(standings(listed, {}, CHECKS, OFF, 1))
        assert found["a"].counts
        assert not found["b"].counts


@given(
    st.lists(
        st.tuples(st.sampled_from(["p0", "p1"]), st.one_of(st.none(), st.floats(1, 100)), st.booleans()), max_size=30
    ),
    st.integers(1, 4),
)
def test_of_no_persona_more_count_than_it_has_places(drawn, places: int) -> None:
    raters = [rater(f"r{number:02}", persona, finished) for number, (persona, finished, _) in enumerate(drawn)]
    answers = {f"r{n:02}": ten(seconds=[1.0] * 10) if hasty else ten() for n, (_, _, hasty) in enumerate(drawn)}
    found = standings(raters, answers, CHECKS, Exclusions(), places)
    assert [standing.rater for standing in found] == raters
    for persona in ("p0", "p1"):
        sound = [
            standing
            for standing, (own, finished, hasty) in zip(found, drawn, strict=True)
            if own == persona and finished is not None and not hasty
        ]
        counting = [standing for standing in sound if standing.counts]
        assert len(counting) == min(places, len(sound))
        late = [standing for standing in sound if not standing.counts]
        assert all(a.rater.finished <= b.rater.finished for a in counting for b in late)
    assert not any(standing.counts for standing, (_, _, hasty) in zip(found, drawn, strict=True) if hasty)
