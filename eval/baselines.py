"""Scorers that have learned nothing, measured beside every model.

`shorter answer` never sees the persona: what it gets, a model can get without one. `profile overlap` sees only the words that an
answer shares with the profile: what it gets, a model can get by parroting.
"""

import re
from collections.abc import Sequence

from builder.schema import NEUTRAL_SYSTEM_TEXT
from eval.scores import Item

WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")


def score_shorter_answer(items: Sequence[Item]) -> list[float]:
    """Minus the number of words. Persona-blind by construction."""
    return [-float(len(WORD.findall(text))) for _, text in items]


def score_profile_overlap(items: Sequence[Item]) -> list[float]:
    """The share, in [0, 1], of an answer's distinct content words that the profile contains; 0 without a profile (so a tie)."""
    return [_overlap(content_words(text), content_words(_profile(messages))) for messages, text in items]


def content_words(text: str) -> set[str]:
    """Lower-case words without the function words of English (scikit-learn's list)."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    return {word for word in WORD.findall(text.lower())} - ENGLISH_STOP_WORDS


def _profile(messages: Sequence[dict[str, str]]) -> str:
    system = "\n".join(message["content"] for message in messages if message["role"] == "system")
    return "" if system == NEUTRAL_SYSTEM_TEXT else system


def _overlap(answer: set[str], profile: set[str]) -> float:
    return len(answer & profile) / len(answer) if answer else 0.0


BASELINES = {
    "shorter-answer": (score_shorter_answer, "prefers the answer with fewer words; never sees the persona"),
    "profile-overlap": (score_profile_overlap, "prefers the answer that shares more of its words with the profile"),
}
