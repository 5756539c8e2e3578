"""The four modes of PERSONA Bench as messages: no persona, the persona alone, the persona with reasoning, a summary of the persona.

Two forms. `plain`, for models in this process: the prompt that answers is the one that this project trains with (persona as system
message, question as user message), and reasoning or summary are a call of their own, because a small model keeps to no form with
markers. `marked`, for endpoints: the task is said, and reasoning and answer come in one reply with a marker each. `baseline` is the same
in both: the neutral system text and the question, and no word of thinking step by step.
"""

from collections.abc import Sequence

from builder.errors import InputError
from builder.llm.messages import Message, Sampling
from builder.llm.templates import load_template
from builder.schema import NEUTRAL_SYSTEM_TEXT
from eval.language_models import LanguageModel
from training.conditioning import Conditioning, persona_messages, template_hash
from training.profiles import HEADER

BASELINE = "baseline"
MODES = (BASELINE, "output_only", "chain_of_thought", "demographic_summary")
MAIN_MODE = (
    "chain_of_thought"  # the paper's main evaluation; pass@k and groups are measured in it unless others are asked for
)
FORMS = ("plain", "marked")
TRAINING_PROMPT = "persona_messages"  # in place of a template's name: the prompt of training.conditioning

# The template of the reply that holds the answer, and of a call before it.
ANSWERS = {
    "plain": {
        BASELINE: TRAINING_PROMPT,
        "output_only": TRAINING_PROMPT,
        "chain_of_thought": "bench_answer_plain",
        "demographic_summary": TRAINING_PROMPT,
    },
    "marked": {
        BASELINE: TRAINING_PROMPT,
        "output_only": "bench_output_only",
        "chain_of_thought": "bench_chain_of_thought",
        "demographic_summary": "bench_output_only",
    },
}
FIRST_CALLS = {
    "plain": {"chain_of_thought": "bench_reasoning_plain", "demographic_summary": "bench_summary"},
    "marked": {"demographic_summary": "bench_summary"},
}


def form_for(model: LanguageModel, given: str = "auto") -> str:
    """The form in which a model is asked. `auto`: marked for an endpoint, plain for a model in this process.

    Raises InputError for a form that does not exist, and for `marked` with a trained model, whose persona stands where training put it.
    """
    if given not in ("auto", *FORMS):
        raise InputError(f"--form is {given!r}; choose auto, {' or '.join(FORMS)}.")
    if given == "marked" and model.folder is not None:
        raise InputError(
            f"--form marked does not fit {model.name}: a trained model is asked with the prompt of its training, which says nothing of a "
            "form. Leave --form out."
        )
    if given != "auto":
        return given
    return "marked" if model.recipe.provider == "openai" else "plain"


def sampling_for(form: str, temperature: float, is_answer: bool) -> Sampling:
    """A small model seldom ends by itself, so in the plain form a text ends with the sentence that is open after so many tokens."""
    if form == "marked":
        return Sampling(1500 if is_answer else 600, temperature)
    return (
        Sampling(128, temperature, end_sentence_after=56)
        if is_answer
        else Sampling(80, temperature, end_sentence_after=32)
    )


def template_names(form: str, modes: Sequence[str]) -> list[str]:
    """The template files that these modes use."""
    names = {table[form].get(mode) for table in (ANSWERS, FIRST_CALLS) for mode in modes} - {None, TRAINING_PROMPT}
    return sorted(str(name) for name in names)


def template_label(name: str, model: LanguageModel) -> str:
    """`name@version`; of the training's prompt the version is the hash of how it places persona and question."""
    return f"{name}@{template_hash(_placing(model))[:12]}" if name == TRAINING_PROMPT else load_template(name).label


def summary_text(summary: str) -> str:
    """What stands in the persona's place in the second call of demographic_summary."""
    return f"{HEADER}\n{summary}"


def messages_of(
    name: str, model: LanguageModel, persona: str | None, question: str, thought: str = ""
) -> tuple[Message, ...]:
    """The messages of one call. persona: the text that stands for it (eval.language_models.shown_persona_text, or a summary), None
    without one. thought: what the first call of chain_of_thought wrote.
    """
    if name == TRAINING_PROMPT:
        return tuple(persona_messages(_placing(model), persona, question))
    text = NEUTRAL_SYSTEM_TEXT if persona is None else persona
    system, user, *rest = load_template(name).render(persona=text, question=question, thought=thought)
    if model.conditioning.persona_role == "user":
        return ({"role": "user", "content": f"{system['content']}\n\n{user['content']}"}, *rest)
    return (system, user, *rest)


def read_answer(name: str, reply: str) -> tuple[str, str] | None:
    """(answer, reasoning) of a reply, None where it lacks a marker or holds nothing."""
    if name == TRAINING_PROMPT:
        return (reply.strip(), "") if reply.strip() else None
    sections = load_template(name).read(reply)
    if not sections:
        return None
    return (sections["text"], "") if "text" in sections else (sections["answer"], sections["reasoning"])


def _placing(model: LanguageModel) -> Conditioning:
    """Where the persona stands; the text itself is made before."""
    return Conditioning(persona_role=model.conditioning.persona_role)
