"""Which persona a model sees: one function from (condition, row) to prompt messages, used in training and in
evaluation.

`true` shows the row's own persona, `none` the neutral system text, `wrong` the seeded third persona of the same group
that the row names. Everything else of the prompt is the same, so that a difference between two conditions is a
difference in persona alone.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from builder.errors import InputError
from builder.schema import preference_messages

Messages = list[dict[str, str]]

CONDITIONS = ("true", "none", "wrong")
# The recipe's `persona` key: what a model is trained on. `none` is the persona-blind baseline.
TRAINING_CONDITIONS = {"full": "true", "none": "none"}


def prompt_messages(condition: str, row: Mapping[str, Any], profiles: Mapping[str, str]) -> Messages:
    """The messages before the answer: a system message (profile or neutral text) and the user's question.

    `row` is a row of a pair config (`prompt`, `wrong_persona_id`); `profiles` maps persona ids to profile texts and is
    read for `wrong` only. Raises InputError for an unknown condition or a persona without a profile.
    """
    question = row["prompt"][-1]["content"]
    if condition == "true":
        return preference_messages(row["prompt"][0]["content"], question)
    if condition == "none":
        return preference_messages(None, question)
    if condition == "wrong":
        wrong = row["wrong_persona_id"]
        if wrong not in profiles:
            raise InputError(
                f"Row {row.get('pair_id')} names {wrong!r} as its wrong persona, but the personas config has no such "
                "persona. "
                "The dataset is incomplete: build or download it again."
            )
        return preference_messages(profiles[wrong], question)
    raise InputError(f"Condition {condition!r} does not exist. Choose one of {', '.join(CONDITIONS)}.")


def template_hash() -> str:
    """SHA-256 of how profile and question become messages. A checkpoint carries it; scoring with another template is
    refused.
    """
    rendered = [preference_messages("{profile}", "{question}"), preference_messages(None, "{question}")]
    return hashlib.sha256(json.dumps(rendered, sort_keys=True).encode("utf-8")).hexdigest()


def chat_template_hash(tokenizer: Any) -> str:
    """SHA-256 of the tokenizer's chat template, which turns the messages into the text that the model reads."""
    return hashlib.sha256(str(tokenizer.chat_template).encode("utf-8")).hexdigest()
