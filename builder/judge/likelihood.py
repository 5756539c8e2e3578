"""Judging by likelihood: how much more likely does the persona make an answer?

score(answer) = log p(answer | persona, question) - log p(answer | question), averaged over tokens. Two answers are compared over the
same number of tokens, the shorter one's, because the per-token score falls with length.
"""

from collections.abc import Sequence
from typing import Any

from builder.judge.judge import Comparison, Judge, Verdict
from builder.llm.messages import ScoreRequest
from builder.schema import preference_messages

TEMPLATE_LABEL = "preference_messages@1"  # the published prompt itself; raise when its layout changes
Gains = list[float]  # per token: log-probability with the persona minus without


def compare_by_likelihood(judge: Judge, calls: Any, comparisons: Sequence[Comparison], label: str) -> list[Verdict]:
    gains = _gains(calls, [(c.profile, c.question, answer) for c in comparisons for answer in c.answers], label)
    verdicts = []
    for first, second in zip(gains[::2], gains[1::2], strict=True):
        length = min(len(first), len(second))
        if length == 0:
            verdicts.append(Verdict("unscored", None, "an answer has no tokens"))
            continue
        margin = (sum(first[:length]) - sum(second[:length])) / length
        verdicts.append(Verdict("A" if margin > 0 else "B" if margin < 0 else "tie", margin))
    return verdicts


def rank_by_likelihood(
    judge: Judge, calls: Any, items: Sequence[tuple[str, str, Sequence[str]]], label: str
) -> list[int]:
    gains = _gains(calls, [(profile, question, text) for profile, question, texts in items for text in texts], label)
    best, start = [], 0
    for _, _, texts in items:
        own = gains[start : start + len(texts)]
        start += len(texts)
        length = min(map(len, own))
        best.append(max(range(len(own)), key=lambda i: (sum(own[i][:length]), -i)))
    return best


def _gains(calls: Any, triples: Sequence[tuple[str | None, str, str]], label: str) -> list[Gains]:
    """Per (profile, question, answer) the gain of each token. Without a profile it is zero by definition."""
    requests = [
        ScoreRequest(tuple(preference_messages(given, question)), answer, TEMPLATE_LABEL)
        for profile, question, answer in triples
        for given in (profile, None)
    ]
    scores = calls.score("judge", requests, label)
    return [
        [a - b for a, b in zip(with_persona.log_probabilities, without.log_probabilities, strict=True)]
        for with_persona, without in zip(scores[::2], scores[1::2], strict=True)
    ]
