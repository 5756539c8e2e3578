"""What of a persona a model is shown, and where: one function from (mode, persona) to messages, used in training, in evaluation and in
generation.

In evaluation three conditions are compared: `true` shows the row's own persona, `none` the neutral text, `wrong` the persona that the
row names for it. Everything else of the prompt is the same, so that a difference between two conditions is one in persona alone.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from builder.errors import InputError
from builder.schema import NEUTRAL_SYSTEM_TEXT
from training import profiles

Messages = list[dict[str, str]]

CONDITIONS = ("true", "none", "wrong")
# The recipe's `persona` key. `none` is the persona-blind baseline; `shuffled` shows another persona's profile, which nothing can be
# learned from.
MODES = (
    "full",
    "prose",
    "summary",
    "demographics",
    "psychographics",
    "relevant",
    "few_shot",
    "full+few_shot",
    "shuffled",
    "none",
)
FEW_SHOT_MODES = ("few_shot", "full+few_shot")
# These are trained without the row's own persona. What they do when they are shown one is measured with the whole profile.
WITHOUT_OWN_PERSONA = ("none", "shuffled")
ROLES = ("system", "user")
FEW_SHOT_HEADER = "Answers between which this person has chosen before:"


@dataclass(frozen=True)
class Conditioning:
    """How a persona is shown; stands in the checkpoint.

    persona_role: `system`, or `user` for templates without a system role: then the text stands before the question.
    relevant_attributes: how many lines `relevant` keeps and `summary` puts first. few_shot_pairs: labelled pairs in the few-shot modes.
    persona_corruption: share of the stated attributes that is left out, in [0, 1). seed: of which attributes those are, and of which
    labelled pairs are drawn.
    """

    mode: str = "full"
    persona_role: str = "system"
    relevant_attributes: int = 5
    few_shot_pairs: int = 4
    persona_corruption: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class LabelledPair:
    """A persona's answer to another question, beside the one it does not prefer."""

    prompt_id: str
    question: str
    preferred: str
    other: str


def persona_messages(
    conditioning: Conditioning, profile: str | None, question: str, examples: Sequence[LabelledPair] = ()
) -> Messages:
    """The messages before the answer. Without a profile (None) the neutral text stands in its place, whatever the mode.

    Raises InputError for a mode or a role that does not exist, and for a profile that is not written in lines where the mode needs them.
    """
    text = NEUTRAL_SYSTEM_TEXT if profile is None else persona_text(conditioning, profile, question, examples)
    if conditioning.persona_role == "system":
        return [{"role": "system", "content": text}, {"role": "user", "content": question}]
    if conditioning.persona_role == "user":
        return [{"role": "user", "content": f"{text}\n\n{question}"}]
    raise InputError(f"persona_role is {conditioning.persona_role!r}; choose one of {', '.join(ROLES)}.")


def persona_text(conditioning: Conditioning, profile: str, question: str, examples: Sequence[LabelledPair] = ()) -> str:
    """What stands for the persona in the prompt; the neutral text in mode `none`."""
    mode = conditioning.mode
    if mode not in MODES:
        raise InputError(f"persona is {mode!r}; choose one of {', '.join(MODES)}.")
    if mode == "none":
        return NEUTRAL_SYSTEM_TEXT
    if mode == "few_shot":
        return few_shot_text(examples)
    if mode in ("full", "shuffled", "full+few_shot") and not conditioning.persona_corruption:
        text = profile  # as published
    else:
        stated = profiles.stated_attributes(profile)
        if conditioning.persona_corruption:
            stated = profiles.corrupted(stated, conditioning.persona_corruption, conditioning.seed)
        # A header without a line says nothing of the person, so it is as if there were no profile.
        text = _text_of(mode, stated, question, conditioning.relevant_attributes)
        text = text if text.replace(profiles.HEADER, "").strip() else NEUTRAL_SYSTEM_TEXT
    return f"{text}\n\n{few_shot_text(examples)}" if mode == "full+few_shot" and examples else text


def _text_of(mode: str, stated: dict[str, str], question: str, relevant: int) -> str:
    if mode == "prose":
        return profiles.as_prose(stated)
    if mode == "summary":
        # The lines that bear on the question first, in words; then the whole profile.
        return f"{profiles.as_prose(profiles.relevant(stated, question, relevant))}\n\n{profiles.as_lines(stated)}"
    if mode == "relevant":
        return profiles.as_lines(profiles.relevant(stated, question, relevant))
    if mode == "demographics":
        return profiles.as_lines(profiles.only(stated, profiles.DEMOGRAPHICS))
    if mode == "psychographics":
        return profiles.as_lines(profiles.only(stated, profiles.PSYCHOGRAPHICS))
    return profiles.as_lines(stated)


def few_shot_text(examples: Sequence[LabelledPair]) -> str:
    """Without an example (k = 0) the neutral text: nothing is known of the person."""
    if not examples:
        return NEUTRAL_SYSTEM_TEXT
    shown = [
        f"Question: {pair.question}\nPreferred: {pair.preferred}\nNot preferred: {pair.other}" for pair in examples
    ]
    return "\n\n".join([FEW_SHOT_HEADER, *shown])


def template_hash(conditioning: Conditioning) -> str:
    """SHA-256 of how persona and question become messages in this mode. A checkpoint carries it; scoring with another template is
    refused.
    """
    probe = profiles.as_lines({name: f"<{name}>" for name in (*profiles.DEMOGRAPHICS, *profiles.PSYCHOGRAPHICS)})
    examples = [LabelledPair(str(i), f"<question {i}>", f"<preferred {i}>", f"<other {i}>") for i in range(2)]
    template = Conditioning(conditioning.mode, conditioning.persona_role, conditioning.relevant_attributes)
    rendered = [
        persona_messages(template, probe, "What about work?", examples),
        persona_messages(template, None, "What about work?"),
        profiles.prose_wording() if conditioning.mode in ("prose", "summary") else [],
    ]
    return hashlib.sha256(json.dumps(rendered, sort_keys=True).encode("utf-8")).hexdigest()


def chat_template_hash(tokenizer: Any) -> str:
    """SHA-256 of the tokenizer's chat template, which turns the messages into the text that the model reads."""
    return hashlib.sha256(str(tokenizer.chat_template).encode("utf-8")).hexdigest()


def as_record(conditioning: Conditioning) -> dict[str, Any]:
    return asdict(conditioning)


def from_record(record: dict[str, Any]) -> Conditioning:
    """Of a finished model's training.json. Raises InputError if its template is not this version's."""
    try:
        conditioning = Conditioning(**record["conditioning"])
    except (KeyError, TypeError):
        raise InputError(
            "The model's training.json does not say how personas were shown as this version does; it was written by another one. Train "
            "again, or use the version that trained it."
        ) from None
    if record["template_hash"] != template_hash(conditioning):
        raise InputError(
            f"The model was trained with another prompt template ({record['template_hash'][:12]}, this version has "
            f"{template_hash(conditioning)[:12]}), so its scores would be of prompts that it never saw. Train again, or use the version "
            "that trained it."
        )
    return conditioning
