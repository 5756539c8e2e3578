"""Judging by likelihood: how much more likely does the persona make an answer?

score(answer) = log p(answer | persona, question) - log p(answer | question), averaged over tokens. Two answers are compared over the
same number of tokens, the shorter one's, because the per-token score falls with length.
"""

import math
from collections.abc import Sequence
from typing import Any

from builder.judge.judge import Comparison, Judge, Judgement, Verdict
from builder.llm.messages import ScoreRequest
from builder.schema import preference_messages

TEMPLATE_LABEL = "preference_messages@1"  # the published prompt itself; raise when its layout changes
# Log-probabilities of an answer's tokens with the persona and without.
Scored = tuple[tuple[float, ...], tuple[float, ...]]


def compare_by_likelihood(judge: Judge, calls: Any, comparisons: Sequence[Comparison], label: str) -> list[Verdict]:
    scored = _score(judge, calls, [(c.profile, c.question, answer) for c in comparisons for answer in c.answers], label)
    return [_verdict(judge, first, second) for first, second in zip(scored[::2], scored[1::2], strict=True)]


def rank_by_likelihood(
    judge: Judge, calls: Any, items: Sequence[tuple[str, str, Sequence[str]]], label: str
) -> list[int]:
    scored = _score(
        judge, calls, [(profile, question, text) for profile, question, texts in items for text in texts], label
    )
    best, start = [], 0
    for _, _, texts in items:
        own = scored[start : start + len(texts)]
        start += len(texts)
        length = min(len(with_persona) for with_persona, _ in own)
        best.append(max(range(len(own)), key=lambda i: (_gain(own[i], length), -i)))
    return best


def _verdict(judge: Judge, first: Scored, second: Scored) -> Verdict:
    length = min(len(first[0]), len(second[0]))
    if length == 0:
        return Verdict("unscored", None, "an answer has no tokens")
    margin = (_gain(first, length) - _gain(second, length)) / length
    if not math.isfinite(margin):
        return Verdict("unscored", None, "the model gives a token no probability at all")
    return verdict_of_margin(judge, margin)


def verdict_of_margin(judge: Judge, margin: float | None, reason: str = "") -> Verdict:
    """margin: nats per token by which the first answer is preferred; None with the reason why there is none."""
    if margin is None:
        return Verdict("unscored", None, reason)
    verdict = "A" if margin > 0 else "B" if margin < 0 else "tie"
    # The logistic function, written so that no margin is too large for it.
    probability = 0.5 + 0.5 * math.tanh(margin / judge.temperature / 2)
    return Verdict(verdict, margin, judgements=(Judgement("both", verdict, probability),))


def _gain(scored: Scored, length: int) -> float:
    """Sum over the first `length` tokens. Exact sums: what is equal token by token, in whatever order, is a tie."""
    with_persona, without = scored
    return math.fsum(with_persona[:length]) - math.fsum(without[:length])


def _score(judge: Judge, calls: Any, triples: Sequence[tuple[str | None, str, str]], label: str) -> list[Scored]:
    """Per (profile, question, answer). Without a profile both are the same, and the gain is zero by definition."""
    # An answer without the persona is scored once, however many personas it is judged for.
    places: dict[tuple[str | None, str, str], int] = {}
    for profile, question, answer in triples:
        places.setdefault((profile, question, answer), len(places))
        places.setdefault((None, question, answer), len(places))
    prompts = {key[:2]: tuple(preference_messages(*key[:2])) for key in places}
    requests = [ScoreRequest(prompts[key[:2]], key[2], TEMPLATE_LABEL) for key in places]
    scores = [reply.log_probabilities for reply in calls.score(judge.role, requests, label)]
    return [(scores[places[triple]], scores[places[None, triple[1], triple[2]]]) for triple in triples]
