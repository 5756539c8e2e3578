"""The persona judge: which of two answers would this person prefer?

A judge is a data file (builder.judge.judge_file) together with a model. `compare` and `choose_best` ask about two or more answers;
builder.judge.critique asks about one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from builder.errors import InputError
from builder.llm.messages import Failure, Sampling
from builder.llm.model_recipe import ModelRecipe


@dataclass(frozen=True)
class Judge:
    """`label` names the judge in every published row: file name, content hash and model."""

    name: str
    kind: str  # `likelihood`, `pairwise` or `critique`
    version: str
    model: str
    seed: int
    temperature: float = 1.0  # likelihood: divides the margin
    role: str = "judge"  # the role of ModelCalls that answers: in a build `judge` or `second_judge`
    template: str = ""  # pairwise and critique
    parser: str = "markers"  # pairwise and critique: `markers` or `verdict_tokens`, see builder.judge.reading
    sampling: Sampling = field(default_factory=lambda: Sampling(max_tokens=300))
    max_retries: int = 0
    model_recipe: ModelRecipe | None = None  # of a file that names a model of its own

    @property
    def label(self) -> str:
        return f"{self.name}@{self.version}:{self.model}"


@dataclass(frozen=True)
class Comparison:
    """Two answers to one question for one person. `profile` None: a judge that is told nothing about the person."""

    profile: str | None
    question: str
    answers: tuple[str, str]


@dataclass(frozen=True)
class Judgement:
    """One call of a verdict. `order`: AB (as given), BA (exchanged) or both (one score for the two). `verdict` and `probability` are
    about the answers as given: A is the first of the comparison, whatever place it was shown in."""

    order: str
    verdict: str
    probability: float | None
    reason: str = ""
    raw: str = ""  # the reply itself


@dataclass(frozen=True)
class Reading:
    """What one reply says. value: what the verdict counts, in [0, 1]; None if it cannot be read, and `reason` says why. raw: the reply."""

    value: float | None
    reason: str
    raw: str


@dataclass(frozen=True)
class Verdict:
    """`verdict`: A, B, tie or unscored. `score`: for a pairwise judge P(A) over both orders (0, 0.25, 0.5, 0.75, 1), for a likelihood
    judge the margin in nats per token, positive for A; None if unscored. `reason` says why it is unscored or what the judge wrote.
    `judgements`: the calls that it is made of."""

    verdict: str
    score: float | None
    reason: str = ""
    judgements: tuple[Judgement, ...] = ()


@dataclass(frozen=True)
class Choice:
    """`index` of the candidate that the judge likes best. `judged`: it gave a verdict on at least one comparison of them (else the first
    is taken). `may_pass`: a call failed that may succeed when the build is run again."""

    index: int
    judged: bool = True
    may_pass: bool = False


# What a verdict counts for the first answer.
WORTH = {"A": 1.0, "tie": 0.5, "B": 0.0}
PUBLISHED_VERDICTS = {"A": "chosen", "B": "rejected", "tie": "tie", "unscored": "unscored"}


def published_verdict(verdict: Verdict | Judgement) -> str:
    """The verdict on (chosen, rejected) as the tables say it."""
    return PUBLISHED_VERDICTS[verdict.verdict]


def margin(judge: Judge, verdict: Verdict) -> float | None:
    """Positive where the judge prefers the first answer: nats per token, or P(A) - 0.5."""
    if verdict.score is None:
        return None
    return verdict.score if judge.kind == "likelihood" else verdict.score - 0.5


def may_pass(verdict: Verdict) -> bool:
    """A call of it failed because of the endpoint. What a judge wrote on another call is not looked at: it may quote anything."""
    return any(call.verdict == "unscored" and Failure(call.reason).may_pass for call in verdict.judgements)


def compare(
    judge: Judge, calls: Any, comparisons: Sequence[Comparison], label: str = "judging", sample: int = 0
) -> list[Verdict]:
    """One verdict per comparison, in order. `calls`: builder.llm.calls.ModelCalls. sample: another draw of the same judge's replies; scores
    are not drawn, so it changes nothing where there is no reply in words.

    Raises InputError for a critique judge, which is asked about one answer at a time.
    """
    from builder.judge.likelihood import compare_by_likelihood
    from builder.judge.pairwise import compare_pairwise

    if judge.kind == "critique":
        raise InputError(
            f"The judge {judge.name} examines one answer at a time and cannot choose between two. Choose a judge of kind likelihood or "
            "pairwise, for example likelihood or roleplay."
        )
    if judge.kind == "likelihood":
        return compare_by_likelihood(judge, calls, comparisons, label)
    return compare_pairwise(judge, calls, comparisons, label, sample)


def choose_best(
    judge: Judge, calls: Any, items: Sequence[tuple[str, str, Sequence[str]]], label: str = "choosing"
) -> list[Choice]:
    """For each (profile, question, candidates) the candidate that the judge likes best; the first of equals.

    With a pairwise judge every candidate meets every other, and the largest share of points wins; a tie is half a point. A comparison
    that could not be scored counts for neither side.
    """
    from builder.judge.likelihood import rank_by_likelihood

    if judge.kind == "likelihood":
        return [Choice(index) for index in rank_by_likelihood(judge, calls, items, label)]
    matches = [(n, i, j) for n, (_, _, c) in enumerate(items) for i in range(len(c)) for j in range(i + 1, len(c))]
    comparisons = [Comparison(items[n][0], items[n][1], (items[n][2][i], items[n][2][j])) for n, i, j in matches]
    points: list[list[list[float]]] = [[[] for _ in candidates] for _, _, candidates in items]
    left_open = [False] * len(items)
    for (n, i, j), verdict in zip(matches, compare(judge, calls, comparisons, label), strict=True):
        left_open[n] |= may_pass(verdict)
        if verdict.verdict != "unscored":
            won = WORTH[verdict.verdict]
            points[n][i].append(won)
            points[n][j].append(1 - won)
    return [Choice(_best(own), any(own), is_open) for own, is_open in zip(points, left_open, strict=True)]


def _best(points: Sequence[Sequence[float]]) -> int:
    """The highest mean. Not the highest sum: a reply that cannot be read would count as a defeat of both."""
    return max(range(len(points)), key=lambda i: (sum(points[i]) / len(points[i]) if points[i] else -1.0, -i))
