"""Preference accuracy on the test splits under the three persona conditions, by pair kind and cell, ties apart.

No accuracy stands without its controls: the chosen text is the revised one, so a model that never looks at the persona can score highly.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from builder.randomness import rng_for, seed_for
from builder.statistics import Cluster
from training.conditioning import CONDITIONS
from training.estimates import Estimate, estimate_columns
from training.fairness import persona_groups, spread

Row = TypeVar("Row", bound=Mapping[str, Any])
CELLS = ("all", "seen/seen_test", "seen/heldout_test", "unseen/seen_test", "unseen/heldout_test")
CONTROLS = ("wrong", "none")


def control_metrics(
    rows: Sequence[Mapping[str, Any]],
    margins: Mapping[str, Sequence[float]],
    seed: int,
    profiles: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:
    """One entry for each pair config and cell that has rows.

    rows: `split, pair_kind, persona_group, pair_id, mirror_pair_id, persona_id`, contrast pairs with their mirrors. margins: for each
    condition score(chosen) - score(rejected), one a row. Accuracy counts a tie as half (TRL counts it as wrong), so that a
    persona-blind scorer gets exactly one half on complete mirrored sets. `gaps` are accuracy(true) - accuracy(control): against `wrong`
    it is the specificity gap. `spread` (training.fairness): worst persona, 10th percentile and worst group; per persona even a blind model
    is not balanced on contrast pairs, so read it beside that of `none`. profiles: persona id -> profile, from which the groups come.
    """
    values = {condition: np.asarray(margins[condition], dtype=float) for condition in CONDITIONS}
    outcomes = {condition: (np.sign(margin) + 1) / 2 for condition, margin in values.items()}
    clusters = persona_clusters(rows)
    groups = persona_groups(profiles or {})
    entries = []
    for config in dict.fromkeys(row["pair_kind"] for row in rows):
        for cell in CELLS:
            places = [
                place
                for place, row in enumerate(rows)
                if row["pair_kind"] == config and cell in ("all", f"{row['persona_group']}/{row['split']}")
            ]
            if not places:
                continue
            shares, gaps = condition_estimates(outcomes, places, clusters, seed, f"{config}/{cell}")
            entries.append(
                {
                    "config": config,
                    "cell": cell,
                    "rows": len(places),
                    "personas": shares[0].clusters,
                    "conditions": {
                        condition: {
                            "wins": int((values[condition][places] > 0).sum()),
                            "ties": int((values[condition][places] == 0).sum()),
                            "mean_margin": float(values[condition][places].mean()),
                            "accuracy": share.value,
                            **_interval(share),
                            "spread": spread(
                                outcomes[condition][places], [rows[place]["persona_id"] for place in places], groups
                            ),
                        }
                        for condition, share in zip(CONDITIONS, shares, strict=True)
                    },
                    "gaps": {
                        control: {"difference": gap.value, **_interval(gap)}
                        for control, gap in zip(CONTROLS, gaps, strict=True)
                    },
                }
            )
    return entries


def condition_estimates(
    outcomes: Mapping[str, np.ndarray], places: Sequence[int], clusters: Sequence[Cluster], seed: int, key: str
) -> tuple[list[Estimate], list[Estimate]]:
    """(accuracy under each condition, gap to each control) over the rows at `places`. outcomes: condition -> (rows,). key: of the draw."""
    columns = [outcomes[condition][places] for condition in CONDITIONS]
    columns += [outcomes["true"][places] - outcomes[control][places] for control in CONTROLS]
    estimates = estimate_columns(
        np.stack(columns, axis=1),
        [clusters[place] for place in places],
        rng_for(seed, "training/bootstrap", key),
        differences=len(CONTROLS),
    )
    return estimates[: len(CONDITIONS)], estimates[len(CONDITIONS) :]


def split_figures(rows: Sequence[Mapping[str, Any]], margins: Sequence[float]) -> dict[str, float]:
    """`<split>/{rows,wins,ties,accuracy,mean_margin}` under one condition, to set beside the rows that the training kept."""
    figures: dict[str, float] = {}
    for split in dict.fromkeys(row["split"] for row in rows):
        own = [margin for row, margin in zip(rows, margins, strict=True) if row["split"] == split]
        wins, ties = sum(margin > 0 for margin in own), sum(margin == 0 for margin in own)
        figures |= {
            f"{split}/rows": len(own),
            f"{split}/wins": wins,
            f"{split}/ties": ties,
            f"{split}/accuracy": (wins + 0.5 * ties) / len(own),
            f"{split}/mean_margin": sum(own) / len(own),
        }
    return figures


def sample_rows(rows: Sequence[Row], limit: int | None, seed: int) -> list[Row]:
    """At most `limit` rows, drawn by seed and id; a contrast pair and its mirror are drawn together. None: all rows."""
    if limit is None or limit >= len(rows):
        return list(rows)
    sets: dict[str, list[Row]] = {}
    for row in rows:
        key = min(row["pair_id"], row["mirror_pair_id"] or row["pair_id"])
        sets.setdefault(key, []).append(row)
    drawn: list[Row] = []
    for key in sorted(sets, key=lambda key: seed_for(seed, "training_evaluation", key)):
        if len(drawn) + len(sets[key]) <= limit:
            drawn += sets[key]
    return drawn


def persona_clusters(rows: Sequence[Mapping[str, Any]]) -> list[Cluster]:
    """The personas that are resampled: the row's own, and on contrast pairs the mirror's too."""
    persona = {row["pair_id"]: row["persona_id"] for row in rows}
    return [tuple(sorted({row["persona_id"], persona.get(row["mirror_pair_id"], row["persona_id"])})) for row in rows]


def _interval(estimate: Estimate) -> dict[str, Any]:
    return {"low": estimate.low, "high": estimate.high, "withheld": estimate.withheld}
