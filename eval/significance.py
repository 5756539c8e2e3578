"""Is one scorer better than another on the same rows? Differences with intervals and p-values.

Each model is compared with the best scorer that learned nothing and with the best model, so that a table of m models needs 2 m - 1 tests.
Which control is best is read off the same rows: that favours the control.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from builder.randomness import rng_for
from eval.metrics import SUBSETS, outcomes_of
from eval.pair_results import MODEL_KINDS, kind, label, scores_path
from eval.paired_test import paired_p_values
from eval.results import Result
from training.estimates import MINIMUM_ROWS, Estimate, estimate_mean, resample

SEED = 0  # of the resamples, so that everybody who reads these results gets the same figures
MEASURES = ("gap", "accuracy")  # accuracy(true) - accuracy(wrong), and accuracy(true)


@dataclass(frozen=True)
class Comparison:
    """`first` less `second`, by the measure, over the rows that both are counted on.

    p_value: of no difference, two-sided (eval.paired_test). holm: the same for all comparisons of this config and measure together (Holm
    1979). Both None where the difference is withheld.
    """

    config: str
    measure: str
    first: str
    second: str
    against: str  # `control` or `model`
    difference: Estimate
    p_value: float | None
    holm: float | None


@dataclass(frozen=True)
class Rows:
    """The pairs that all scorers have, and by scorer and measure what each is worth; NaN where it does not count."""

    pair_ids: list[str]
    clusters: list[tuple[str, ...]]
    prompts: list[str]
    values: dict[str, dict[str, np.ndarray]]


def compare_scorers(folder: Path, results: Sequence[Result]) -> list[Comparison]:
    """All comparisons of the results of `persona eval models` in `folder`. Raises InputError where a file of scores is damaged."""
    if not any(kind(result) in MODEL_KINDS for result in results):
        return []
    tables = {label(result): _scores(scores_path(folder, result)) for result in results}
    models = [label(result) for result in results if kind(result) in MODEL_KINDS]
    controls = [label(result) for result in results if kind(result) not in MODEL_KINDS]
    found = []
    for config in SUBSETS:
        rows = _shared_rows(tables, config)
        if not rows.pair_ids:
            continue
        for measure in MEASURES:
            found += _compare(rows, config, measure, models, controls)
    return found


def _compare(rows: Rows, config: str, measure: str, models: Sequence[str], controls: Sequence[str]) -> list[Comparison]:
    values = {name: own[measure] for name, own in rows.values.items()}
    pairs = []
    for against, candidates in (("control", controls), ("model", models)):
        best = _best(values, candidates)
        pairs += [(name, best, against) for name in models if best is not None and name != best]
    if not pairs:
        return []
    differences = np.stack([values[first] - values[second] for first, second, _ in pairs], axis=1)
    key = f"{config}/{measure}"
    resampled = resample(differences, rows.clusters, rng_for(SEED, "eval/significance", key), rows.prompts)
    estimates = [estimate_mean(resampled, column, is_difference=True) for column in range(len(pairs))]
    p_values = paired_p_values(differences, rows.clusters, rows.prompts, rng_for(SEED, "eval/sign_flip", key))
    tested = [place for place, estimate in enumerate(estimates) if estimate.value is not None]
    corrected = dict(zip(tested, holm([p_values[place] for place in tested]), strict=True))
    return [
        Comparison(
            config,
            measure,
            *pair,
            difference=estimates[place],
            p_value=p_values[place] if place in corrected else None,
            holm=corrected.get(place),
        )
        for place, pair in enumerate(pairs)
    ]


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted for testing all of them (Holm 1979, Scandinavian Journal of Statistics 6(2))."""
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda place: p_values[place])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = highest
    return adjusted


def _best(values: Mapping[str, np.ndarray], names: Sequence[str]) -> str | None:
    """The highest mean; the first by name of equals. One with fewer than MINIMUM_ROWS rows is no candidate."""
    means = {name: np.nanmean(values[name]) for name in names if (~np.isnan(values[name])).sum() >= MINIMUM_ROWS}
    return min(means, key=lambda name: (-means[name], name), default=None)


def _scores(path: Path) -> dict[str, Any]:
    import pyarrow.parquet

    columns = ["pair_id", "mirror_pair_id", "config", "persona_id", "partner_persona_id", "prompt_id", "condition"]
    table = pyarrow.parquet.read_table(path, columns=[*columns, "verdict"]).to_pydict()
    by_condition: dict[str, dict[str, str]] = {}
    for condition, pair, verdict in zip(table["condition"], table["pair_id"], table["verdict"], strict=True):
        by_condition.setdefault(condition, {})[pair] = verdict
    facts = {
        pair: (config, mirror, persona, partner, prompt)
        for pair, config, mirror, persona, partner, prompt in zip(
            *(table[name] for name in ("pair_id", "config", "mirror_pair_id")),
            *(table[name] for name in ("persona_id", "partner_persona_id", "prompt_id")),
            strict=True,
        )
    }
    return {"facts": facts, "verdicts": by_condition}


def _shared_rows(tables: Mapping[str, Mapping[str, Any]], config: str) -> Rows:
    facts = next(iter(tables.values()))["facts"]
    pairs = sorted(
        pair
        for pair, fact in facts.items()
        if fact[0] == config and all(pair in table["facts"] for table in tables.values())
    )
    ids = [(pair, facts[pair][1]) for pair in pairs]
    values = {}
    for name, table in tables.items():
        outcomes = {
            condition: outcomes_of(ids, [table["verdicts"][condition][pair] for pair in pairs])
            for condition in ("true", "wrong")
        }
        values[name] = {"accuracy": outcomes["true"], "gap": outcomes["true"] - outcomes["wrong"]}
    return Rows(
        pairs,
        [tuple(sorted({facts[pair][2], facts[pair][3] or facts[pair][2]})) for pair in pairs],
        [facts[pair][4] for pair in pairs],
        values,
    )
