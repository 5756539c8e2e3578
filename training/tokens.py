"""Messages to token ids, in the one way that the trainers, the length checks and the scoring share."""

from typing import Any

from training.conditioning import Messages


def token_ids(tokenizer: Any, messages: Messages, open_answer: bool = False) -> list[int]:
    """The chat template's tokens; `open_answer` adds the tokens that begin the assistant's turn."""
    encoded = tokenizer.apply_chat_template(
        messages, tokenize=True, return_dict=True, add_generation_prompt=open_answer
    )
    return list(encoded["input_ids"])


def common_prefix_length(first: list[int], second: list[int]) -> int:
    """How many leading tokens are the same. The completion begins there (as in TRL's DPO trainer)."""
    length = 0
    for a, b in zip(first, second, strict=False):
        if a != b:
            break
        length += 1
    return length
