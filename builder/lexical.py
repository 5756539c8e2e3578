"""Words of a text, and how many of them a profile holds: the lexical baseline of audit and evaluation."""

import re

SHORTEST_CONTENT_WORD = 4  # letters


def words(text: str) -> list[str]:
    """Lower-case words, digits and apostrophes included."""
    return re.findall(r"[\w'’]+", text.lower())


def profile_overlap(answer: str, profile: str) -> float:
    """The share, in [0, 1], of an answer's longer words that the profile contains; 0 without a profile."""
    told = [word for word in words(answer) if len(word) >= SHORTEST_CONTENT_WORD]
    known = set(words(profile))
    return sum(word in known for word in told) / len(told) if told else 0.0
