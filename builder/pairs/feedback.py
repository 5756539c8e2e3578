"""Direct principle feedback: base answer -> critique by the persona -> revision (paper, section 3.2).

The base answer is written without a persona, once per prompt or once per pair. The critic reads persona and base answer; the reviser reads
the critique but not the persona. The reviser may draw several candidates: a strong model needs one, a small one rarely obeys.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from builder.llm.drawing import draw_until_readable
from builder.llm.messages import Answer, ChatRequest, Failure, Message, Sampling
from builder.llm.templates import PromptTemplate, load_template
from builder.recipe import BuildRecipe, SamplingRecipe
from builder.schema import NEUTRAL_SYSTEM_TEXT

EXCERPT = 200  # characters of an unusable reply that the ledger keeps


@dataclass(frozen=True, slots=True)
class Written:
    """A usable reply, or the reason why there is none after all retries. `tokens` of the text, where they were counted."""

    text: str | None
    reason: str = ""
    detail: str = ""
    tokens: int | None = None


def write_base_answers(recipe: BuildRecipe, calls: Any, questions: dict[str, str]) -> dict[str, Written]:
    """By prompt id: the answer to the question alone, by a model that knows no persona; shared by all pairs of the prompt."""
    ids = sorted(questions)
    return dict(zip(ids, answer_questions(recipe, calls, [questions[q] for q in ids]), strict=True))


def answer_questions(
    recipe: BuildRecipe, calls: Any, questions: Sequence[str], samples: Sequence[int] | None = None
) -> list[Written]:
    """One base answer per question, its tokens counted. `samples`: which draw of the answer it is; the shared one is number 0."""
    template = load_template(recipe.pairs.answer_template)
    messages = [template.render(question=question, neutral_system_text=NEUTRAL_SYSTEM_TEXT) for question in questions]
    written = write_texts(recipe, calls, "generator", template, messages, recipe.pairs.answer, "base answers", samples)
    tokens = iter(calls.count_tokens("generator", [w.text for w in written if w.text is not None]))
    return [w if w.text is None else replace(w, tokens=next(tokens)) for w in written]


def write_critiques(
    recipe: BuildRecipe,
    calls: Any,
    template_name: str,
    profiles: Sequence[str],
    questions: Sequence[str],
    answers: Sequence[Written],
) -> list[Written]:
    """One critique per pair, in order; none where there is no base answer."""
    template = load_template(template_name)
    answered = [i for i, answer in enumerate(answers) if answer.text is not None]
    messages = [template.render(profile=profiles[i], question=questions[i], answer=answers[i].text) for i in answered]
    written = write_texts(recipe, calls, "critic", template, messages, recipe.pairs.critique, "critiques")
    result = [Written(None, "no_base_answer")] * len(answers)
    for i, critique in zip(answered, written, strict=True):
        result[i] = critique
    return result


def write_revisions(
    recipe: BuildRecipe,
    calls: Any,
    template_name: str,
    questions: Sequence[str],
    answers: Sequence[Written],
    critiques: Sequence[Written],
) -> list[list[Written]]:
    """Per pair `candidates` revisions, in order; an empty list where there is no critique."""
    template = load_template(template_name)
    count = recipe.pairs.candidates
    criticised = [i for i, critique in enumerate(critiques) if critique.text is not None]
    messages: list[tuple[Message, ...]] = []
    for i in criticised:
        rendered = template.render(question=questions[i], answer=answers[i].text, critique=critiques[i].text)
        messages += [rendered] * count
    samples = list(range(count)) * len(criticised)
    written = write_texts(recipe, calls, "reviser", template, messages, recipe.pairs.revision, "revisions", samples)
    result: list[list[Written]] = [[] for _ in critiques]
    for position, i in enumerate(criticised):
        result[i] = written[position * count : (position + 1) * count]
    return result


def write_texts(
    recipe: BuildRecipe,
    calls: Any,
    role: str,
    template: PromptTemplate,
    messages: Sequence[tuple[Message, ...]],
    sampling: SamplingRecipe,
    label: str,
    sample_indices: Sequence[int] | None = None,
) -> list[Written]:
    """One text per messages: the template's last section. What cannot be read, was cut or refused is drawn again, `max_retries` times."""
    samples = sample_indices or [0] * len(messages)
    how = Sampling(**asdict(sampling))
    requests = [
        ChatRequest(messages=text, sampling=how, template=template.label, seed=recipe.seed, sample_index=sample)
        for text, sample in zip(messages, samples, strict=True)
    ]
    drawn = draw_until_readable(
        calls, role, requests, lambda _, text: last_section(template, text), recipe.pairs.max_retries, label
    )
    return [Written(d.read) if d.read is not None else Written(None, d.failure, excerpt(d.reply)) for d in drawn]


def last_section(template: PromptTemplate, text: str) -> str | None:
    sections = template.read(text)
    return next(reversed(sections.values())) if sections else None


def excerpt(reply: Answer | Failure) -> str:
    """What the ledger keeps of a reply of no use."""
    kept = reply.text[:EXCERPT]
    return " ".join(filter(None, (reply.detail, kept))) if isinstance(reply, Failure) else kept
