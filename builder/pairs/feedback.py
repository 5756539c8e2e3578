"""Direct principle feedback: base answer -> critique by the persona -> revision (paper, section 3.2).

The base answer is written once per prompt, without a persona. The critic reads persona and base answer; the reviser reads the critique but
not the persona. The reviser may draw several candidates: a strong model needs one, a small one rarely obeys.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from builder.llm.messages import ChatRequest, Failure, Message, Sampling
from builder.llm.templates import PromptTemplate, load_template
from builder.pairs.assignment import Assigned
from builder.recipe import BuildRecipe, SamplingRecipe
from builder.schema import NEUTRAL_SYSTEM_TEXT


@dataclass(frozen=True)
class Written:
    """A usable reply, or the reason why there is none after all retries."""

    text: str | None
    reason: str = ""
    detail: str = ""


def write_base_answers(recipe: BuildRecipe, calls: Any, questions: dict[str, str]) -> dict[str, Written]:
    """By prompt id: the answer to the question alone, by a model that knows no persona."""
    template = load_template(recipe.pairs.answer_template)
    ids = sorted(questions)
    messages = [template.render(question=questions[q], neutral_system_text=NEUTRAL_SYSTEM_TEXT) for q in ids]
    written = write_texts(recipe, calls, "generator", template, messages, recipe.pairs.answer, "base answers")
    return dict(zip(ids, written, strict=True))


def write_critiques(
    recipe: BuildRecipe,
    calls: Any,
    assigned: Sequence[Assigned],
    persona_of: dict[str, dict[str, Any]],
    question_of: dict[str, str],
    base: dict[str, Written],
) -> dict[Assigned, Written]:
    template = load_template(recipe.pairs.critique_template)
    answered = [a for a in assigned if base[a.prompt_id].text is not None]
    messages = [
        template.render(
            profile=persona_of[a.persona_id]["profile"],
            question=question_of[a.prompt_id],
            answer=base[a.prompt_id].text,
        )
        for a in answered
    ]
    written = write_texts(recipe, calls, "critic", template, messages, recipe.pairs.critique, "critiques")
    result = dict.fromkeys(assigned, Written(None, "no_base_answer"))
    return result | dict(zip(answered, written, strict=True))


def write_revisions(
    recipe: BuildRecipe,
    calls: Any,
    assigned: Sequence[Assigned],
    question_of: dict[str, str],
    base: dict[str, Written],
    critiques: dict[Assigned, Written],
) -> dict[Assigned, list[Written]]:
    """Per pair `candidates` revisions."""
    template = load_template(recipe.pairs.revision_template)
    criticised = [a for a in assigned if critiques[a].text is not None]
    count = recipe.pairs.candidates
    messages = [
        template.render(question=question_of[a.prompt_id], answer=base[a.prompt_id].text, critique=critiques[a].text)
        for a in criticised
        for _ in range(count)
    ]
    samples = [i for _ in criticised for i in range(count)]
    written = write_texts(recipe, calls, "reviser", template, messages, recipe.pairs.revision, "revisions", samples)
    result: dict[Assigned, list[Written]] = {a: [] for a in assigned}
    for position, a in enumerate(criticised):
        result[a] = written[position * count : (position + 1) * count]
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
    results = [Written(None, "not_asked")] * len(messages)
    waiting = list(range(len(messages)))
    for attempt in range(recipe.pairs.max_retries + 1):
        requests = [
            ChatRequest(
                messages=messages[i],
                sampling=Sampling(**asdict(sampling)),
                template=template.label,
                seed=recipe.seed,
                sample_index=samples[i],
                attempt=attempt,
            )
            for i in waiting
        ]
        again = []
        for i, reply in zip(
            waiting, calls.generate(role, requests, label if attempt == 0 else f"{label}, retry {attempt}"), strict=True
        ):
            if isinstance(reply, Failure):
                results[i] = Written(None, reply.reason, reply.detail)
            else:
                sections = template.read(reply.text)
                results[i] = (
                    Written(list(sections.values())[-1]) if sections else Written(None, "unreadable", reply.text[:200])
                )
            if results[i].text is None and not (isinstance(reply, Failure) and reply.may_pass):
                again.append(i)
        waiting = again
        if not waiting:
            break
    return results
