"""Whom a model serves worst: its accuracy by persona and by the groups that the profiles state.

None of these figures stands alone. On contrast pairs a persona-blind model scores one half over whole mirrored sets, but not for each
persona: it prefers the same text whoever asks, so that it serves one of two mirrored personas and fails the other. And the worst of many
groups is low by chance too. The figures under `none` are given beside those under `true` for that reason: what a group loses, it loses
only if it has more when nobody's persona is shown.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from builder.errors import InputError
from training.estimates import MINIMUM_ROWS
from training.profiles import stated_attributes

PERSONA_ROWS = 5  # a persona with fewer rows has no share: of one row it would be 0 or 1
GROUPING_ATTRIBUTES = (
    "age",
    "sex",
    "race",
    "household_language",
    "education",
    "employment_status",
    "marital_status",
    "citizenship",
    "disability",
    "ideology",
    "political_views",
    "religion",
)
AGE_BANDS = ((0, "under 18"), (18, "18 to 29"), (30, "30 to 44"), (45, "45 to 64"), (65, "65 and over"))
NOT_STATED = "not stated"
SHUFFLES = 400  # of the personas over their groups

Groups = Mapping[str, str]  # attribute -> the group that a persona belongs to


def persona_groups(profiles: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Persona -> attribute -> group, for the attributes that its profile states; nothing for a profile that is not written in lines."""
    groups = {}
    for persona, profile in profiles.items():
        try:
            stated = stated_attributes(profile)
        except InputError:
            stated = {}
        groups[persona] = {name: group_of(name, stated[name]) for name in GROUPING_ATTRIBUTES if name in stated}
    return groups


def group_of(attribute: str, value: str) -> str:
    """The value itself, but ages in bands."""
    if attribute != "age" or not value.isdigit():
        return value
    return next(band for youngest, band in reversed(AGE_BANDS) if int(value) >= youngest)


def spread(outcomes: Iterable[float], personas: Sequence[str], groups: Mapping[str, Groups]) -> dict[str, Any]:
    """How unequally one condition's accuracy is spread. outcomes: 1 won, 0.5 tied, 0 lost, one a row; personas: whose row it is.

    `personas`: how many have at least `minimum_rows` rows; `worst_persona` and `tenth_percentile` are of their accuracies (the highest
    value that a tenth of them does not exceed), null without any. `worst_group`: the group of at least MINIMUM_ROWS rows with the lowest
    accuracy, null without any; of equal ones the first by name.
    """
    sums: dict[str, list[float]] = {}
    for outcome, persona in zip(outcomes, personas, strict=True):
        total = sums.setdefault(persona, [0.0, 0.0])
        total[0] += float(outcome)
        total[1] += 1
    shares = [won / rows for won, rows in sums.values() if rows >= PERSONA_ROWS]
    by_group: dict[tuple[str, str], list[float]] = {}
    for persona, (won, rows) in sums.items():
        for attribute, value in groups.get(persona, {}).items():
            total = by_group.setdefault((attribute, value), [0.0, 0.0])
            total[0] += won
            total[1] += rows
    worst = min(
        ((won / rows, name, int(rows)) for name, (won, rows) in by_group.items() if rows >= MINIMUM_ROWS), default=None
    )
    return {
        "personas": len(shares),
        "minimum_rows": PERSONA_ROWS,
        "worst_persona": min(shares, default=None),
        "tenth_percentile": float(np.percentile(shares, 10, method="lower")) if shares else None,
        "worst_group": None
        if worst is None
        else {"attribute": worst[1][0], "value": worst[1][1], "rows": worst[2], "accuracy": worst[0]},
    }


def inequality(
    outcomes: Sequence[float] | np.ndarray,
    personas: Sequence[str],
    groups: Mapping[str, Groups],
    rng: np.random.Generator,
) -> dict[str, Any]:
    """`spread` and more of one condition. outcomes, personas, groups: as there. rng: of the shuffles.

    `gini`: of the personas' accuracies (those of `minimum_rows`), in [0, 1), 0 where all are served alike; null without any, or where all
    are 0. `worst_intersection`: as `worst_group`, of the groups that two attributes make together. `largest_gap`: the attribute with the
    largest difference between its best and its worst group, each of MINIMUM_ROWS rows at least; null without any. Beside it
    `by_chance`, the median of that largest difference over SHUFFLES shuffles of which persona has which groups, and `p_value`, the share
    of shuffles with one as large: of many groups one is always worst.
    """
    totals: dict[str, list[float]] = {}
    for outcome, persona in zip(outcomes, personas, strict=True):
        total = totals.setdefault(persona, [0.0, 0.0])
        total[0] += float(outcome)
        total[1] += 1
    names = sorted(totals)
    won, rows = (np.array([totals[name][part] for name in names]) for part in (0, 1))
    shares = won[rows >= PERSONA_ROWS] / rows[rows >= PERSONA_ROWS]
    found = spread(outcomes, personas, groups)
    crossed = {persona: _crossed(own) for persona, own in groups.items()}
    found["worst_intersection"] = spread(outcomes, personas, crossed)["worst_group"]
    found["gini"] = gini(shares)
    found["largest_gap"] = _largest_gap(won, rows, [groups.get(name, {}) for name in names], rng)
    return found


def gini(shares: np.ndarray) -> float | None:
    """The mean difference of two of them over twice their mean; None of no share, or where all are 0."""
    if not len(shares) or not shares.any():
        return None
    ordered = np.sort(shares)
    places = np.arange(1, len(ordered) + 1)
    value = float((2 * places - len(ordered) - 1) @ ordered / (len(ordered) * ordered.sum()))
    return max(0.0, value)  # rounding can leave minus nothing


def _crossed(groups: Groups) -> dict[str, str]:
    return {
        f"{first} and {second}": f"{groups[first]}, {groups[second]}"
        for first, second in combinations(sorted(groups), 2)
    }


def _largest_gap(
    won: np.ndarray, rows: np.ndarray, groups: Sequence[Groups], rng: np.random.Generator
) -> dict[str, Any] | None:
    """won, rows: (personas,), and the groups of each. A shuffle deals the personas' results out anew among the places in the groups."""
    coded: dict[str, tuple[list[str], np.ndarray]] = {}
    for attribute in sorted({name for own in groups for name in own}):
        values = sorted({own[attribute] for own in groups if attribute in own})
        code = {value: place for place, value in enumerate(values)}
        # Who does not state the attribute stands in a group behind the last, which is left out.
        coded[attribute] = values, np.array([code.get(own.get(attribute, ""), len(values)) for own in groups])

    def gap_of(attribute: str, order: np.ndarray) -> tuple[float, int, int, np.ndarray, np.ndarray] | None:
        values, places = coded[attribute]
        size = len(values) + 1
        count = np.bincount(places, weights=rows[order], minlength=size)[:-1]
        good = np.bincount(places, weights=won[order], minlength=size)[:-1]
        if (count >= MINIMUM_ROWS).sum() < 2:
            return None
        shares = np.where(count >= MINIMUM_ROWS, good / np.maximum(count, 1), np.nan)
        best, worst = int(np.nanargmax(shares)), int(np.nanargmin(shares))
        return float(shares[best] - shares[worst]), best, worst, shares, count

    asked = np.arange(len(rows))
    gaps = {attribute: gap for attribute in coded if (gap := gap_of(attribute, asked)) is not None}
    if not gaps:
        return None
    attribute = max(gaps, key=lambda name: (gaps[name][0], name))
    difference, best, worst, shares, count = gaps[attribute]
    shuffled = []
    for _ in range(SHUFFLES):
        order = rng.permutation(len(rows))
        # Over all attributes: one whose groups are too small as they are may have the largest difference of a shuffle.
        shuffled.append(max((gap[0] for name in coded if (gap := gap_of(name, order)) is not None), default=0.0))
    return {
        "attribute": attribute,
        "difference": difference,
        **{
            side: {
                "value": coded[attribute][0][place],
                "rows": int(count[place]),
                "accuracy": float(shares[place]),
            }
            for side, place in (("best", best), ("worst", worst))
        },
        "by_chance": float(np.median(shuffled)),
        "p_value": (sum(gap >= difference - 1e-12 for gap in shuffled) + 1) / (SHUFFLES + 1),
    }
