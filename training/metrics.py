"""Preference accuracy of one split, by pair kind and persona group, ties apart."""

from collections.abc import Mapping, Sequence
from typing import Any

from builder.randomness import seed_for


def preference_metrics(split: str, rows: Sequence[Mapping[str, Any]], margins: Sequence[float]) -> dict[str, float]:
    """Flat figures `<split>/[<pair kind>/][<persona group>/]{rows,wins,ties,accuracy,mean_margin}`.

    `margins`: score of chosen minus score of rejected, one a row. Accuracy counts a tie as half (TRL counts it as
    wrong), so that a persona-blind scorer gets exactly one half on complete mirrored sets.
    """
    selections: dict[str, list[float]] = {}
    for row, margin in zip(rows, margins, strict=True):
        kind, group = row["pair_kind"], row["persona_group"]
        for name in (split, f"{split}/{group}", f"{split}/{kind}", f"{split}/{kind}/{group}"):
            selections.setdefault(name, []).append(margin)
    figures: dict[str, float] = {}
    for name, chosen in sorted(selections.items()):
        wins, ties = sum(margin > 0 for margin in chosen), sum(margin == 0 for margin in chosen)
        figures |= {
            f"{name}/rows": len(chosen),
            f"{name}/wins": wins,
            f"{name}/ties": ties,
            f"{name}/accuracy": (wins + 0.5 * ties) / len(chosen),
            f"{name}/mean_margin": sum(chosen) / len(chosen),
        }
    return figures


def sample_rows(rows: Sequence[Mapping[str, Any]], limit: int | None, seed: int) -> list[Mapping[str, Any]]:
    """At most `limit` rows, drawn by seed and id; a contrast pair and its mirror are drawn together. None: all rows."""
    if limit is None or limit >= len(rows):
        return list(rows)
    sets: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        key = min(row["pair_id"], row["mirror_pair_id"] or row["pair_id"])
        sets.setdefault(key, []).append(row)
    drawn: list[Mapping[str, Any]] = []
    for key in sorted(sets, key=lambda key: seed_for(seed, "training_evaluation", key)):
        if len(drawn) + len(sets[key]) <= limit:
            drawn += sets[key]
    return drawn
