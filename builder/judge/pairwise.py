"""Judging by role-play: the judge model reads profile, question and both answers, in both orders.

A judge that prefers the first place in both orders has contradicted itself: a tie. An empty answer loses without a call. A reply without
a readable verdict, cut off or refused is tried again and then unscored with its reason; it is never wrong and never half right.
"""

from collections.abc import Sequence
from typing import Any

from builder.judge.judge import WORTH, Comparison, Judge, Judgement, Reading, Verdict
from builder.judge.reading import NO_PROFILE, ask_judge, by_rule

VERDICT_SECTION = "verdict"
FIRST_PLACE = WORTH  # here of the answer in first place, by what the judge said


def compare_pairwise(
    judge: Judge, calls: Any, comparisons: Sequence[Comparison], label: str, sample: int = 0
) -> list[Verdict]:
    orders = [c.answers for c in comparisons] + [(c.answers[1], c.answers[0]) for c in comparisons]
    values = [
        {
            "profile": NO_PROFILE if comparison.profile is None else comparison.profile,
            "question": comparison.question,
            "answer_a": first,
            "answer_b": second,
        }
        for comparison, (first, second) in zip([*comparisons, *comparisons], orders, strict=True)
    ]
    rules = [by_rule(answers) for answers in orders]
    said = ask_judge(judge, calls, values, VERDICT_SECTION, FIRST_PLACE, label, rules, sample)
    return [pairwise_verdict(said[i], said[i + len(comparisons)]) for i in range(len(comparisons))]


def pairwise_verdict(forward: Reading, backward: Reading) -> Verdict:
    """`backward` was asked with the answers exchanged."""
    calls = (
        _judgement("AB", forward, forward.value),
        _judgement("BA", backward, None if backward.value is None else 1 - backward.value),
    )
    first, second = calls[0].probability, calls[1].probability
    if first is None or second is None:
        reasons = [reading.reason for reading in (forward, backward) if reading.value is None]
        return Verdict("unscored", None, ", ".join(sorted(set(reasons))), calls)
    probability = (first + second) / 2
    # Where the orders disagree it is a tie, however sure the judge was in one of them.
    if (first - 0.5) * (second - 0.5) < 0:
        return Verdict("tie", probability, forward.reason, calls)
    return Verdict(_side(probability), probability, forward.reason, calls)


def _judgement(order: str, reading: Reading, probability: float | None) -> Judgement:
    """`probability` that the first answer of the comparison is the preferred one."""
    if probability is None:
        return Judgement(order, "unscored", None, reading.reason, reading.raw)
    return Judgement(order, _side(probability), probability, reading.reason, reading.raw)


def _side(probability: float) -> str:
    return "A" if probability > 0.5 else "B" if probability < 0.5 else "tie"
