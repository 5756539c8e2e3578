"""The answers that are judged: the published base answer, and its refinement for one profile (critique, then revision, as in the paper).

Strong models follow the paper's form; a small one in this process writes free text, as in the small recipes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from builder.llm.drawing import draw_until_readable
from builder.llm.messages import ChatRequest, Message, Sampling
from builder.llm.templates import PromptTemplate, load_template
from eval.attributes.designs import Question
from eval.calls import MODEL_ROLE
from eval.language_models import LanguageModel

MAX_RETRIES = 3
PAPER = ("critique_paper", "revision_paper")
PLAIN = ("critique_plain", "revision_plain")
# As in builder/recipes/paper.yaml and small.yaml.
LONG = (Sampling(800, 0.7, 0.95), Sampling(600, 0.7, 0.95))
SHORT = (Sampling(48, 0.7, 0.9, end_sentence_after=20), Sampling(48, 0.7, 0.9, end_sentence_after=20))


@dataclass(frozen=True)
class Refinement:
    """`text` is None where there is none, and `problem` says why."""

    critique: str | None
    text: str | None
    problem: str = ""


@dataclass(frozen=True)
class _Written:
    text: str | None
    reason: str = ""


def templates_for(writer: LanguageModel) -> tuple[str, str]:
    return PLAIN if writer.recipe.provider == "transformers" else PAPER


def refine(calls: Any, writer: LanguageModel, asked: Sequence[tuple[str, Question]], seed: int) -> list[Refinement]:
    """One refinement of the question's base answer per (profile, question), in order. The reviser does not see the profile."""
    critique_template, revision_template = map(load_template, templates_for(writer))
    critique_sampling, revision_sampling = SHORT if writer.recipe.provider == "transformers" else LONG
    critiques = _write(
        calls,
        critique_template,
        [critique_template.render(profile=p, question=q.question, answer=q.answer) for p, q in asked],
        critique_sampling,
        seed,
        "critiques",
    )
    criticised = [i for i, critique in enumerate(critiques) if critique.text is not None]
    revisions = _write(
        calls,
        revision_template,
        [
            revision_template.render(
                question=asked[i][1].question, answer=asked[i][1].answer, critique=critiques[i].text
            )
            for i in criticised
        ],
        revision_sampling,
        seed,
        "revisions",
    )
    refined = [Refinement(None, None, f"critique_{critique.reason}") for critique in critiques]
    for i, revision in zip(criticised, revisions, strict=True):
        problem = "" if revision.text is not None else f"revision_{revision.reason}"
        refined[i] = Refinement(critiques[i].text, revision.text, problem)
    return refined


def _write(
    calls: Any,
    template: PromptTemplate,
    messages: Sequence[tuple[Message, ...]],
    sampling: Sampling,
    seed: int,
    label: str,
) -> list[_Written]:
    """The last section of each reply. What cannot be read, was cut or refused is drawn again, MAX_RETRIES times."""
    requests = [ChatRequest(asked, sampling, template.label, seed) for asked in messages]

    def read(_: int, text: str) -> str | None:
        return next(reversed((template.read(text) or {}).values()), None)

    drawn = draw_until_readable(calls, MODEL_ROLE, requests, read, MAX_RETRIES, label)
    return [_Written(one.read, one.failure) for one in drawn]
