"""The persona judge: which of two answers would this person prefer?

A judge is a data file in `judges/` (its kind, template, sampling) together with the recipe's judge model. `compare` and `choose_best`
are all that the rest of the project asks of it.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from builder.errors import InputError
from builder.llm.messages import Failure, Sampling
from builder.llm.templates import PLACES, check_renders, load_template, read_mapping, section_name

JUDGE_FOLDER = Path(__file__).parent / "judges"
JUDGE_KEYS = {"likelihood": ("kind", "temperature"), "pairwise": ("kind", "template", "sampling", "max_retries")}
# No end_sentence_after: it would cut a verdict off.
SAMPLING_KEYS = ("max_tokens", "temperature", "top_p")


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


@dataclass(frozen=True)
class Choice:
    """`index` of the candidate that the judge likes best. `judged`: it gave a verdict on at least one comparison of them (else the first
    is taken). `may_pass`: a call failed that may succeed when the build is run again."""

    index: int
    judged: bool = True
    may_pass: bool = False


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


def load_judge(name: str, provider: str, model: str, seed: int, role: str = "judge") -> Judge:
    """Read a judge file; raises InputError for one that could not judge.

    `auto` chooses by likelihood for a model in this process (or scripted), by role-play for an endpoint.
    """
    if name == "auto":
        name = "roleplay" if provider == "openai" else "likelihood"
    path = Path(name) if name.endswith(".yaml") else JUDGE_FOLDER / f"{name}.yaml"
    if not path.is_file():
        names = ", ".join(sorted(p.stem for p in JUDGE_FOLDER.glob("*.yaml")))
        raise InputError(f"Judge {name} does not exist. Give a YAML file, or one of the packaged judges: {names}.")
    content, raw = read_mapping(path, sorted({key for keys in JUDGE_KEYS.values() for key in keys}))
    kind = raw.get("kind")
    if kind not in tuple(JUDGE_KEYS):
        raise InputError(f"{path.name}: kind is {kind!r}; it takes likelihood or pairwise.")
    if foreign := sorted(set(raw) - set(JUDGE_KEYS[kind])):
        raise InputError(
            f"{path.name}: {foreign[0]} is no key of a {kind} judge. It takes {', '.join(JUDGE_KEYS[kind])}."
        )
    if kind == "likelihood" and provider == "openai":
        raise InputError(
            "The likelihood judge needs the log-probabilities of a given text, which chat endpoints do not give. Set judge: roleplay, "
            "or use a judge model in this process (models.judge.provider=transformers)."
        )
    _check_numbers(path.name, raw)
    if kind == "pairwise":
        _check_template(path.name, raw.get("template"))
    sampling = {"max_tokens": 300, **raw.pop("sampling", {})}
    return Judge(
        name=path.stem,
        version=hashlib.sha256(content).hexdigest()[:12],
        model=model,
        seed=seed,
        role=role,
        sampling=Sampling(**sampling),
        **raw,
    )


def _check_numbers(file: str, raw: dict[str, Any]) -> None:
    sampling = raw.get("sampling", {})
    if not isinstance(sampling, dict) or set(sampling) - set(SAMPLING_KEYS):
        raise InputError(f"{file}: sampling is {sampling!r}; it takes the keys {', '.join(SAMPLING_KEYS)}.")
    values = {**raw, **{f"sampling.{key}": value for key, value in sampling.items()}}
    for key, takes, fits in (
        ("temperature", "a number above 0, by which the margin is divided", lambda v: v > 0),
        ("max_retries", "a whole number from 0 on", lambda v: v >= 0 and type(v) is int),
        ("sampling.max_tokens", "a whole number from 1 on", lambda v: v >= 1 and type(v) is int),
        ("sampling.temperature", "a number from 0 on (0: the likeliest token)", lambda v: v >= 0),
        ("sampling.top_p", "a number above 0 and at most 1", lambda v: 0 < v <= 1),
    ):
        value = values.get(key, 1)
        if type(value) not in (int, float) or not math.isfinite(value) or not fits(value):
            raise InputError(f"{file}: {key} is {value!r}; it takes {takes}.")


def _check_template(file: str, name: Any) -> None:
    """A judge's template gets profile, question and two answers, and its reply holds one of three verdicts."""
    from builder.judge.pairwise import FIRST_PLACE

    if not isinstance(name, str) or not name:
        raise InputError(f"{file}: template is {name!r}; a pairwise judge needs one, for example judge_roleplay.")
    try:
        template = load_template(name)
        check_renders(template, *PLACES["judge"])
    except InputError as error:
        raise InputError(f"The template of judge {file} cannot be used: {error}") from None
    verdicts = next((words for marker, words in template.choices.items() if section_name(marker) == "verdict"), ())
    if not {"A", "B"} <= set(verdicts) <= set(FIRST_PLACE):
        raise InputError(
            f"The template {name} of judge {file} offers the verdicts {list(verdicts)}. Give it the marker VERDICT: with the choices "
            f"{', '.join(FIRST_PLACE)}."
        )


def compare(judge: Judge, calls: Any, comparisons: Sequence[Comparison], label: str = "judging") -> list[Verdict]:
    """One verdict per comparison, in order. `calls`: builder.llm.calls.ModelCalls."""
    from builder.judge.likelihood import compare_by_likelihood
    from builder.judge.pairwise import compare_pairwise

    return (compare_by_likelihood if judge.kind == "likelihood" else compare_pairwise)(judge, calls, comparisons, label)


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
            won = {"A": 1.0, "B": 0.0, "tie": 0.5}[verdict.verdict]
            points[n][i].append(won)
            points[n][j].append(1 - won)
    return [Choice(_best(own), any(own), is_open) for own, is_open in zip(points, left_open, strict=True)]


def _best(points: Sequence[Sequence[float]]) -> int:
    """The highest mean. Not the highest sum: a reply that cannot be read would count as a defeat of both."""
    return max(range(len(points)), key=lambda i: (sum(points[i]) / len(points[i]) if points[i] else -1.0, -i))
