"""Judging by role-play: the judge model reads profile, question and both answers, in both orders.

A judge that prefers the first place in both orders has contradicted itself: a tie. A reply without a readable verdict, cut off or
refused is tried again and then unscored with its reason; it is never wrong and never half right.
"""

from collections.abc import Sequence
from typing import Any

from builder.judge.judge import Comparison, Judge, Judgement, Verdict
from builder.llm.messages import ChatRequest, Failure
from builder.llm.templates import load_template

NO_PROFILE = "Nothing is known about the person."
# The judged value of the answer in first place, by what the judge said.
FIRST_PLACE = {"A": 1.0, "B": 0.0, "tie": 0.5}


def compare_pairwise(judge: Judge, calls: Any, comparisons: Sequence[Comparison], label: str) -> list[Verdict]:
    orders = [c.answers for c in comparisons] + [(c.answers[1], c.answers[0]) for c in comparisons]
    said = _ask(judge, calls, list(comparisons) * 2, orders, label)
    return [_verdict(said[i], said[i + len(comparisons)]) for i in range(len(comparisons))]


def _ask(
    judge: Judge, calls: Any, comparisons: Sequence[Comparison], orders: Sequence[tuple[str, str]], label: str
) -> list[tuple[float | None, str]]:
    """Per question the value of the first answer (None if unreadable) and the reason."""
    template = load_template(judge.template)
    said: list[tuple[float | None, str]] = [(None, "not asked")] * len(comparisons)
    open_questions = list(range(len(comparisons)))
    for attempt in range(judge.max_retries + 1):
        requests = [
            ChatRequest(
                messages=template.render(
                    profile=NO_PROFILE if comparisons[i].profile is None else comparisons[i].profile,
                    question=comparisons[i].question,
                    answer_a=orders[i][0],
                    answer_b=orders[i][1],
                ),
                sampling=judge.sampling,
                template=template.label,
                seed=judge.seed,
                attempt=attempt,
            )
            for i in open_questions
        ]
        unread = []
        for i, reply in zip(open_questions, calls.generate(judge.role, requests, label), strict=True):
            if isinstance(reply, Failure):
                said[i] = (None, reply.reason)
            else:
                sections = template.read(reply.text)
                said[i] = (
                    (FIRST_PLACE[sections["verdict"]], sections.get("reason", "")) if sections else (None, "unreadable")
                )
            if said[i][0] is None and (not isinstance(reply, Failure) or reply.worth_another_attempt):
                unread.append(i)
        open_questions = unread
        if not open_questions:
            break
    return said


def _verdict(forward: tuple[float | None, str], backward: tuple[float | None, str]) -> Verdict:
    """`backward` was asked with the answers exchanged."""
    calls = (
        _judgement("AB", *forward),
        _judgement("BA", None if backward[0] is None else 1 - backward[0], backward[1]),
    )
    if forward[0] is None or backward[0] is None:
        reasons = [reason for value, reason in (forward, backward) if value is None]
        return Verdict("unscored", None, ", ".join(sorted(set(reasons))), calls)
    probability = (forward[0] + 1 - backward[0]) / 2
    return Verdict("A" if probability > 0.5 else "B" if probability < 0.5 else "tie", probability, forward[1], calls)


def _judgement(order: str, probability: float | None, reason: str) -> Judgement:
    """`probability` that the first answer of the comparison is the preferred one."""
    if probability is None:
        return Judgement(order, "unscored", None, reason)
    return Judgement(order, "A" if probability > 0.5 else "B" if probability < 0.5 else "tie", probability, reason)
