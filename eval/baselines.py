"""Scorers that have learned nothing, measured beside every model.

`shorter answer` never sees the persona: what it gets, a model can get without one. `profile overlap` sees only the
words that an answer shares with the profile: what it gets, a model can get by parroting.
"""

from collections.abc import Mapping, Sequence

from builder.lexical import profile_overlap, words
from eval.scores import Score
from training.evaluation import Candidate


def score_shorter_answer(candidates: Sequence[Candidate], profiles: Mapping[str, str]) -> list[Score]:
    """Minus the number of words. Persona-blind by construction."""
    return [-float(len(words(candidate.answer))) for candidate in candidates]


def score_profile_overlap(candidates: Sequence[Candidate], profiles: Mapping[str, str]) -> list[Score]:
    """The share, in [0, 1], of an answer's longer words that the profile contains; 0 without a profile (so a tie).

    The same rule as in the data's audit, so that the two figures can be compared.
    """
    return [profile_overlap(candidate.answer, shown_profile(candidate, profiles)) for candidate in candidates]


def shown_profile(candidate: Candidate, profiles: Mapping[str, str]) -> str:
    """The profile of the persona that is shown, empty where there is none."""
    return "" if candidate.persona_id is None else profiles[candidate.persona_id]


BASELINES = {
    "shorter-answer": (score_shorter_answer, "baseline: prefers the answer with fewer words; never sees the persona"),
    "profile-overlap": (
        score_profile_overlap,
        "baseline: prefers the answer that shares more of its words with the profile",
    ),
}
