"""Models that differ in their training's seed alone: how far another seed moves a figure, which no interval over rows can say."""

from collections.abc import Sequence
from dataclasses import dataclass

from eval.pair_results import gap, measurement
from eval.results import Result


@dataclass(frozen=True)
class SeedSpread:
    mean: float
    low: float
    high: float
    seeds: int


def seed_groups(results: Sequence[Result]) -> list[list[Result]]:
    """The results of each training that was run with several seeds, in the order of the results."""
    groups: dict[str, list[Result]] = {}
    for result in results:
        key = (result.subject or {}).get("seed_group")
        if key:
            groups.setdefault(key, []).append(result)
    return [group for group in groups.values() if len(group) > 1]


def spread_over_seeds(
    group: Sequence[Result], config: str, cell: str = "all", condition: str | None = None
) -> SeedSpread | None:
    """Of the specificity gap (true - wrong), or with a condition of its accuracy; None where a seed has none."""
    values = []
    for result in group:
        if condition is None:
            found = gap(result, config, "all", cell, "wrong")
            estimate = found.difference if found else None
        else:
            measured = measurement(result, config, "all", cell, condition)
            estimate = measured.accuracy if measured else None
        if estimate is None or estimate.value is None:
            return None
        values.append(estimate.value)
    return SeedSpread(sum(values) / len(values), min(values), max(values), len(values)) if values else None
