"""The persona judge: which of two answers would this person prefer?

A judge is a data file in `judges/` (its kind, template, sampling) together with the recipe's judge model. `compare` and `choose_best`
are all that the rest of the project asks of it.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from builder.errors import InputError
from builder.llm.messages import Sampling

JUDGE_FOLDER = Path(__file__).parent / "judges"


@dataclass(frozen=True)
class Judge:
    """`label` names the judge in every published row: file name, content hash and model."""

    name: str
    kind: str  # `likelihood` or `pairwise`
    version: str
    model: str
    seed: int
    temperature: float = 1.0  # likelihood: divides the margin
    role: str = "judge"  # the role of the recipe that answers: `judge` or `second_judge`
    template: str = ""  # pairwise
    sampling: Sampling = field(default_factory=lambda: Sampling(max_tokens=300))
    max_retries: int = 0

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


@dataclass(frozen=True)
class Verdict:
    """`verdict`: A, B, tie or unscored. `score`: for a pairwise judge P(A) over both orders (0, 0.25, 0.5, 0.75, 1), for a likelihood
    judge the margin in nats per token, positive for A; None if unscored. `reason` says why it is unscored or what the judge wrote.
    `judgements`: the calls that it is made of."""

    verdict: str
    score: float | None
    reason: str = ""
    judgements: tuple[Judgement, ...] = ()


PUBLISHED_VERDICTS = {"A": "chosen", "B": "rejected", "tie": "tie", "unscored": "unscored"}


def published_verdict(verdict: Verdict | Judgement) -> str:
    """The verdict on (chosen, rejected) as the tables say it."""
    return PUBLISHED_VERDICTS[verdict.verdict]


def margin(judge: Judge, verdict: Verdict) -> float | None:
    """Positive where the judge prefers the first answer: nats per token, or P(A) - 0.5."""
    if verdict.score is None:
        return None
    return verdict.score if judge.kind == "likelihood" else verdict.score - 0.5


def load_judge(name: str, provider: str, model: str, seed: int, role: str = "judge") -> Judge:
    """Read a judge file. `auto` chooses by likelihood for a model in this process (or scripted), by role-play for an endpoint."""
    if name == "auto":
        name = "roleplay" if provider == "openai" else "likelihood"
    path = Path(name) if name.endswith(".yaml") else JUDGE_FOLDER / f"{name}.yaml"
    if not path.is_file():
        names = ", ".join(sorted(p.stem for p in JUDGE_FOLDER.glob("*.yaml")))
        raise InputError(f"Judge {name} does not exist. Give a YAML file, or one of the packaged judges: {names}.")
    content = path.read_bytes()
    raw: dict[str, Any] = yaml.safe_load(content)
    known = {"kind", "temperature", "template", "sampling", "max_retries"}
    unknown = set(raw) - known
    if unknown:
        raise InputError(
            f"{path.name} has the unknown key {sorted(unknown)[0]}. A judge file takes {', '.join(sorted(known))}."
        )
    if raw.get("kind") not in ("likelihood", "pairwise"):
        raise InputError(f"{path.name}: kind is {raw.get('kind')!r}; it takes likelihood or pairwise.")
    if raw["kind"] == "likelihood" and provider == "openai":
        raise InputError(
            "The likelihood judge needs the log-probabilities of a given text, which chat endpoints do not give. Set judge: roleplay, "
            "or use a judge model in this process (models.judge.provider=transformers)."
        )
    sampling = Sampling(**raw.pop("sampling")) if "sampling" in raw else Sampling(max_tokens=300)
    return Judge(
        name=path.stem,
        version=hashlib.sha256(content).hexdigest()[:12],
        model=model,
        seed=seed,
        role=role,
        sampling=sampling,
        **raw,
    )


def compare(judge: Judge, calls: Any, comparisons: Sequence[Comparison], label: str = "judging") -> list[Verdict]:
    """One verdict per comparison, in order. `calls`: builder.llm.calls.ModelCalls."""
    from builder.judge.likelihood import compare_by_likelihood
    from builder.judge.pairwise import compare_pairwise

    return (compare_by_likelihood if judge.kind == "likelihood" else compare_pairwise)(judge, calls, comparisons, label)


def choose_best(
    judge: Judge, calls: Any, items: Sequence[tuple[str, str, Sequence[str]]], label: str = "choosing"
) -> list[int]:
    """For each (profile, question, candidates) the index of the candidate that the judge likes best; the first of equals."""
    from builder.judge.likelihood import rank_by_likelihood

    if judge.kind == "likelihood":
        return rank_by_likelihood(judge, calls, items, label)
    # Every candidate meets every other; most wins, ties half.
    matches = [(n, i, j) for n, (_, _, c) in enumerate(items) for i in range(len(c)) for j in range(i + 1, len(c))]
    comparisons = [Comparison(items[n][0], items[n][1], (items[n][2][i], items[n][2][j])) for n, i, j in matches]
    points = [[0.0] * len(candidates) for _, _, candidates in items]
    for (n, i, j), verdict in zip(matches, compare(judge, calls, comparisons, label), strict=True):
        share = {"A": 1.0, "B": 0.0}.get(verdict.verdict, 0.5)
        points[n][i] += share
        points[n][j] += 1 - share
    return [max(range(len(p)), key=lambda i, p=p: (p[i], -i)) for p in points]  # type: ignore[misc]
