"""Scorers that have learned nothing, measured beside every model.

`shorter answer` never sees the persona: what it gets, a model can get without one. `profile overlap` sees only the
words that an answer shares with the profile: what it gets, a model can get by parroting.
"""

from collections.abc import Sequence

from builder.lexical import profile_overlap, words
from builder.schema import NEUTRAL_SYSTEM_TEXT
from eval.scores import Item, Score


def score_shorter_answer(items: Sequence[Item]) -> list[Score]:
    """Minus the number of words. Persona-blind by construction."""
    return [-float(len(words(text))) for _, text in items]


def score_profile_overlap(items: Sequence[Item]) -> list[Score]:
    """The share, in [0, 1], of an answer's longer words that the profile contains; 0 without a profile (so a tie).

    The same rule as in the data's audit, so that the two figures can be compared.
    """
    return [profile_overlap(text, shown_profile(messages)) for messages, text in items]


def shown_profile(messages: Sequence[dict[str, str]]) -> str:
    """The system text, empty where it is the neutral one."""
    system = "\n".join(message["content"] for message in messages if message["role"] == "system")
    return "" if system == NEUTRAL_SYSTEM_TEXT else system


BASELINES = {
    "shorter-answer": (score_shorter_answer, "baseline: prefers the answer with fewer words; never sees the persona"),
    "profile-overlap": (
        score_profile_overlap,
        "baseline: prefers the answer that shares more of its words with the profile",
    ),
}
