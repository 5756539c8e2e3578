"""Judging one answer at a time: does it need revision to suit this person? (paper, section 5)

An answer that needs none passes. An empty answer fails without a call. A reply without a readable verdict, cut off or refused is tried
again and then unscored with its reason; it is never a failure of the answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from builder.errors import InputError
from builder.judge.judge import Judge, Reading
from builder.judge.reading import NO_PROFILE, ask_judge, by_rule

VERDICT_SECTION = "needs_revision"
PASSES = {"yes": 0.0, "no": 1.0}  # by what the judge said of the need for revision


@dataclass(frozen=True)
class Critique:
    """What is judged. `profile` None: a judge that is told nothing about the person."""

    profile: str | None
    question: str
    answer: str


@dataclass(frozen=True)
class CritiqueVerdict:
    """`verdict`: pass, needs_revision or unscored. `score`: 1 for a pass and 0 for a need of revision, or with scored verdict tokens the
    probability of a pass (exactly one half is no pass); None if unscored. `reading`: the one call that it is made of."""

    verdict: str
    score: float | None
    reading: Reading

    @property
    def reason(self) -> str:
        return self.reading.reason


def criticise(
    judge: Judge, calls: Any, items: Sequence[Critique], label: str = "criticising", sample: int = 0
) -> list[CritiqueVerdict]:
    """One verdict per item, in order. `calls`: builder.llm.calls.ModelCalls. sample: another draw of the same judge's replies.

    Raises InputError for a judge of another kind.
    """
    if judge.kind != "critique":
        raise InputError(
            f"The judge {judge.name} is of kind {judge.kind} and cannot examine one answer alone. Choose a judge of kind critique, for "
            "example critique or critique_choice."
        )
    values = [
        {
            "profile": NO_PROFILE if item.profile is None else item.profile,
            "question": item.question,
            "answer": item.answer,
        }
        for item in items
    ]
    rules = [by_rule([item.answer]) for item in items]
    said = ask_judge(judge, calls, values, VERDICT_SECTION, PASSES, label, rules, sample)
    return [critique_verdict(reading) for reading in said]


def critique_verdict(reading: Reading) -> CritiqueVerdict:
    if reading.value is None:
        return CritiqueVerdict("unscored", None, reading)
    return CritiqueVerdict("pass" if reading.value > 0.5 else "needs_revision", reading.value, reading)
