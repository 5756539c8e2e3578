"""Whom a model serves worst: its accuracy by persona and by the groups that the profiles state.

None of these figures stands alone. On contrast pairs a persona-blind model scores one half over whole mirrored sets, but not for each
persona: it prefers the same text whoever asks, so that it serves one of two mirrored personas and fails the other. And the worst of many
groups is low by chance too. The figures under `none` are given beside those under `true` for that reason: what a group loses, it loses
only if it has more when nobody's persona is shown.
"""

from collections.abc import Iterable, Mapping, Sequence
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
