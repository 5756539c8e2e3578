"""Rules that never see the persona, fitted on the training rows: the length of an answer, and how often a text was preferred before.

What they score on a test split, a model can score without having learned anything of personas.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from builder.lexical import words
from training.data import TRAIN_SPLIT
from training.evaluation import Candidate, ScoreFunction

Row = Mapping[str, Any]


def length_rule(train: Sequence[Row]) -> ScoreFunction:
    """Prefers the shorter answer where the shorter ones are chosen at least as often in `train`, else the longer one."""
    longer_won = sum(
        (len(words(row["chosen"][0]["content"])) > len(words(row["rejected"][0]["content"])))
        - (len(words(row["chosen"][0]["content"])) < len(words(row["rejected"][0]["content"])))
        for row in train
    )
    sign = 1.0 if longer_won > 0 else -1.0

    def score(candidates: Sequence[Candidate]) -> list[float]:
        return [sign * len(words(candidate.answer)) for candidate in candidates]

    return score


def majority_rule(train: Sequence[Row]) -> ScoreFunction:
    """The share of the training rows with this question and text in which the text was chosen; one half where there are none.

    A base answer shared by many personas is rejected every time it occurs, so that this rule wins wherever it occurs again.
    """
    chosen: dict[tuple[str, str], int] = {}
    seen: dict[tuple[str, str], int] = {}
    for row in train:
        for side in ("chosen", "rejected"):
            key = (row["prompt_id"], row[side][0]["content"])
            seen[key] = seen.get(key, 0) + 1
            chosen[key] = chosen.get(key, 0) + (side == "chosen")

    def score(candidates: Sequence[Candidate]) -> list[float]:
        keys = [(candidate.prompt_id, candidate.answer) for candidate in candidates]
        return [chosen[key] / seen[key] if key in seen else 0.5 for key in keys]

    return score


RULES = {"length": length_rule, "majority": majority_rule}


def shortcut_figures(rows: Mapping[str, Sequence[Row]]) -> dict[str, dict[str, float]]:
    """Split and pair config -> rule -> accuracy, ties half. The training rows themselves are left out."""
    figures: dict[str, dict[str, float]] = {}
    scores = {name: rule(rows[TRAIN_SPLIT]) for name, rule in RULES.items()}
    for split, own in rows.items():
        if split == TRAIN_SPLIT:
            continue
        for config in sorted({row["pair_kind"] for row in own}):
            part = [row for row in own if row["pair_kind"] == config]
            figures[f"{split}, {config}"] = {name: _accuracy(part, score) for name, score in scores.items()}
    return figures


def _accuracy(rows: Sequence[Row], score: ScoreFunction) -> float:
    sides = [
        score([Candidate(None, row["prompt_id"], row["question"], row[side][0]["content"]) for row in rows])
        for side in ("chosen", "rejected")
    ]
    return sum((a > b) + 0.5 * (a == b) for a, b in zip(*sides, strict=True)) / len(rows)
