"""All figures of summaries, from the kept summaries alone: the same for a new evaluation and for `persona eval rescore`.

Values are matched, in words or numbers, by the rules of value_matching.py.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from builder.lexical import words
from builder.randomness import rng_for
from eval.results import row_counts, too_many_unscored
from eval.value_matching import holds_value, said_attributes
from training.estimates import estimate_columns

SUMMARIES = "summaries.parquet"
COLUMNS = {
    "item_id": "string",
    "persona_id": "string",
    "prompt_id": "string",
    "question": "string",
    "condition": "string",  # true: the persona's own summary; wrong: another persona's, for the same question
    "profile": "string",  # of persona_id, as the model was shown it under `true`
    "other_profile": "string",  # of the wrong persona
    "summary": "string",
    "failure": "string",
    "differences": "string",  # empty without --differ
    "differences_failure": "string",
}
MEASURES = ("removed", "removed_wrong", "whole_profile", "listed", "difference")
NO_DIFFERENCE = frozenset(
    {"none", "no", "nothing", "no differences", "no difference", "there are no differences", "equivalent"}
)


def content_of(rows: Sequence[Mapping[str, Any]], seed: int, with_differ: bool) -> dict[str, Any]:
    """All figures, from rows of COLUMNS. An attribute counts for the personas whose profile states it; `None`
    and `Not known` state nothing that a summary could hold.

    removed: share of own summaries without the value. removed_wrong: of another persona's summaries without it, where that persona has
    another value; difference: removed_wrong - removed. The nearer to 0, the less a summary says of its own persona.
    whole_profile: the share removed in the unabridged profile, 0 if the matching is sound. listed: share whose value the model's list
    of differences names.
    """
    own = {row["item_id"].rpartition("|")[0]: row for row in rows if row["condition"] == "true"}
    other = {row["item_id"].rpartition("|")[0]: row for row in rows if row["condition"] == "wrong"}
    keys = sorted(own)
    stated = [said_attributes(own[key]["profile"]) for key in keys]
    others = [said_attributes(own[key]["other_profile"]) for key in keys]
    names = list(dict.fromkeys(name for values in stated for name in values))
    cells = np.full((len(keys), len(names), 5), np.nan)
    for row, key in enumerate(keys):
        for place, name in enumerate(names):
            if (value := stated[row].get(name)) is not None:
                cells[row, place] = _cells(name, value, own[key], other.get(key), others[row].get(name))
    withheld = too_many_unscored(row_counts(row["failure"] or None for row in own.values()))
    kept = [own[key] for key in keys if not own[key]["failure"]]
    listed = [row for row in kept if with_differ and not row["differences_failure"]]
    content: dict[str, Any] = {
        "summaries": len(kept),
        "personas": len({row["persona_id"] for row in kept}),
        "withheld": withheld,
        "words": float(np.mean([len(words(row["summary"])) for row in kept])) if kept else None,
        "profile_words": float(np.mean([len(words(row["profile"])) for row in kept])) if kept else None,
        "nothing_removed": int(
            sum(np.nansum(cells[row, :, 0]) == 0 for row, key in enumerate(keys) if not own[key]["failure"])
        ),
        "differ": {
            "listed": len(listed),
            "unscored": row_counts(row["differences_failure"] or None for row in kept)["unscored"],
            "judged_equivalent": sum(_no_difference(row["differences"]) for row in listed),
        }
        if with_differ
        else None,
        "attributes": {},
    }
    if withheld:
        return content
    clusters = [(own[key]["persona_id"],) for key in keys]
    prompts = [own[key]["prompt_id"] for key in keys]
    for place, name in enumerate(names):
        content["attributes"][name] = _estimates(cells[:, place], clusters, prompts, seed, name)
    flat = cells.reshape(-1, cells.shape[2])
    repeated = [i for i in range(len(keys)) for _ in names]
    content["all"] = _estimates(flat, [clusters[i] for i in repeated], [prompts[i] for i in repeated], seed, "all")
    return content


def _cells(
    name: str, value: str, own: Mapping[str, Any], other: Mapping[str, Any] | None, other_value: str | None
) -> list[float]:
    """In the order of MEASURES; NaN where it does not count."""
    removed = math.nan if own["failure"] else float(not holds_value(name, value, own["summary"]))
    elsewhere = math.nan
    if other is not None and not other["failure"] and other_value != value:
        elsewhere = float(not holds_value(name, value, other["summary"]))
    listed = math.nan
    if own["differences"] and not own["differences_failure"] and not own["failure"]:
        listed = float(holds_value(name, value, own["differences"]))
    return [removed, elsewhere, float(not holds_value(name, value, own["profile"])), listed, elsewhere - removed]


def _estimates(
    cells: np.ndarray, clusters: Sequence[tuple[str, ...]], prompts: Sequence[str], seed: int, name: str
) -> dict[str, Any]:
    counted = ~np.isnan(cells).all(axis=1)
    estimates = estimate_columns(
        cells[counted],
        [cluster for cluster, counts in zip(clusters, counted, strict=True) if counts],
        rng_for(seed, "summaries", name),
        differences=1,
        prompts=[prompt for prompt, counts in zip(prompts, counted, strict=True) if counts],
    )
    return {measure: dataclasses.asdict(estimate) for measure, estimate in zip(MEASURES, estimates, strict=True)}


def _no_difference(text: str) -> bool:
    return text.strip().strip(".*- \n").lower() in NO_DIFFERENCE
