"""One check of the audit: what was found, and whether that is well.

A proof holds by construction or is broken, at any number of rows but none. A band check fails when its whole 95 % interval lies
outside the recipe's band; with few pairs it is `inconclusive`, because so wide an interval meets almost any band. What is only told is a
`report`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from builder.randomness import rng_for
from builder.statistics import Cluster, cluster_sums, resampled_means

Check = dict[str, Any]  # name, value, low, high, n, verdict, note, band, proof
EXACT_HALF = (0.5, 0.5)


@dataclass(frozen=True)
class Outcome:
    """What a rule or probe does on each pair: 1 it takes the chosen answer, 0 the rejected, a half a tie, NaN not asked.

    `values` has shape (pairs,), or is None where the probe could not be run; `note` then says why. `exact`: must be one half in every case.
    """

    name: str
    values: np.ndarray | None
    note: str
    band: Sequence[float] | None = None
    exact: bool = False


def proof(config: str, name: str, defects: int, n: int, note: str, excused: bool = False) -> Check:
    """Passes when there is no defect; `excused` defects are reported. Of nothing nothing is proved: `inconclusive`."""
    verdict = ("pass" if n else "inconclusive") if defects == 0 else "report" if excused else "fail"
    return _check(config, name, int(defects), n, verdict, note, proof=True)


def unknown(config: str, name: str, n: int, note: str, verdict: str = "inconclusive") -> Check:
    """A check that could not be made; the note says why."""
    return _check(config, name, None, n, verdict, note)


def figure(config: str, name: str, value: float, n: int, note: str) -> Check:
    """A number that is told and not judged."""
    return _check(config, name, value, n, "report", note)


def shares(
    config: str, outcomes: Sequence[Outcome], clusters: Sequence[Cluster], seed: int, min_pairs: int
) -> list[Check]:
    """One check per outcome: its mean, and the 95 % interval over the drawn `clusters` (builder/statistics.py), one per pair."""
    run = [outcome for outcome in outcomes if outcome.values is not None and not np.isnan(outcome.values).all()]
    intervals = {}
    if run:
        columns = np.column_stack([np.asarray(outcome.values, dtype=float) for outcome in run])
        names = "|".join(outcome.name for outcome in run)
        means = resampled_means(cluster_sums(columns, clusters), rng_for(seed, "audit.interval", f"{config}|{names}"))
        low, high = np.nanquantile(means, [0.025, 0.975], axis=0)
        intervals = {o.name: (float(a), float(b)) for o, a, b in zip(run, low, high, strict=True)}
    checks = []
    for outcome in outcomes:
        if outcome.name not in intervals:
            checks.append(unknown(config, outcome.name, 0, outcome.note))
            continue
        values = np.asarray(outcome.values, dtype=float)
        n = int((~np.isnan(values)).sum())
        value = float(np.nansum(values) / n)
        lowest, highest = intervals[outcome.name]
        band = EXACT_HALF if outcome.exact else outcome.band
        verdict = (
            _exactly(value)
            if outcome.exact
            else "report"
            if band is None
            else _within(lowest, highest, band, n, min_pairs)
        )
        checks.append(
            _check(config, outcome.name, value, n, verdict, outcome.note, lowest, highest, band, proof=outcome.exact)
        )
    return checks


def _within(low: float, high: float, band: Sequence[float], n: int, min_pairs: int) -> str:
    if n < min_pairs:
        return "inconclusive"
    return "fail" if high < band[0] or low > band[1] else "pass"


def _exactly(value: float) -> str:
    # Sums of ones and halves have no rounding error, so equality is meant.
    return "pass" if value == 0.5 else "fail"


def _check(
    config: str,
    name: str,
    value: float | int | None,
    n: int,
    verdict: str,
    note: str,
    low: float | None = None,
    high: float | None = None,
    band: Sequence[float] | None = None,
    proof: bool = False,
) -> Check:
    return {
        "name": f"{config}: {name}",
        "value": value,
        "low": low,
        "high": high,
        "n": int(n),
        "verdict": verdict,
        "note": note,
        "band": None if band is None else list(band),
        "proof": proof,
    }
