"""Which groups of personas a model serves better or worse than all others: groups by one attribute, by two, or by filters.

A group's pass rate is tested against that of all other personas by permuting personas: a persona's rows stay together, and only who belongs
to the group is drawn. Many groups are tested, so what is printed is the q value of Benjamini and Hochberg (1995), never p. The same is done
under the wrong persona: a difference that is there too is one of questions or of the judge, not of what the model makes of the persona.
"""

import dataclasses
import difflib
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from builder.errors import InputError, few
from builder.judge.judge import Judge
from builder.randomness import rng_for, seed_for
from builder.schema import ATTRIBUTES
from eval.bench.modes import BASELINE
from eval.bench.outcomes import (
    Outcome,
    Row,
    by_condition,
    condition_estimates,
    outcomes_of,
    rows_by_condition,
    withheld_conditions,
    without_value,
)
from eval.items import Item, Persona
from training.estimates import MINIMUM_ROWS, estimate_columns
from training.fairness import GROUPING_ATTRIBUTES, group_of
from training.profiles import stated_attributes

PERMUTATIONS = 9999  # the smallest p value is 1 in 10,000
LEAST_PERSONAS = 2  # on either side: of one persona nothing could be permuted
BLOCK = 250  # permutations at a time, which bounds the memory
GROUP_COLUMNS = {"persona_id": "string", "attribute": "string", "value": "string"}

Group = tuple[tuple[str, str], ...]  # (attribute, value), all of which hold


def group_rows(personas: Mapping[str, Persona], items: Sequence[Item]) -> list[dict[str, str]]:
    """Rows of GROUP_COLUMNS: the value of each attribute that a drawn persona's profile states, ages in bands."""
    return [
        {"persona_id": persona, "attribute": name, "value": value}
        for persona in sorted({item.persona_id for item in items})
        for name, value in _values(personas[persona]).items()
    ]


def parse_filters(where: Sequence[str], personas: Sequence[Persona]) -> Group:
    """`ATTRIBUTE=VALUE` each. Raises InputError for another form, and for an attribute or value that no profile states."""
    present: dict[str, set[str]] = {}
    for persona in personas:
        for name, value in _values(persona).items():
            present.setdefault(name, set()).add(value)
    if where and not present:
        raise InputError(
            "--where chooses by what profiles state, and no profile here is written in lines `Label: value`."
        )
    found = []
    for given in where:
        name, equals, value = (part.strip() for part in given.partition("="))
        if not equals or not value:
            raise InputError(f"--where {given!r} is not ATTRIBUTE=VALUE. Give for example {_example(present)}.")
        attribute = name.lower().replace(" ", "_")
        if attribute not in present:
            close = difflib.get_close_matches(attribute, sorted(present), n=1, cutoff=0.0)[0]
            raise InputError(
                f"--where {given}: no profile states {name!r}. Did you mean {close}? Stated are {', '.join(sorted(present))}."
            )
        values = {known.lower(): known for known in sorted(present[attribute])}
        if value.lower() not in values:
            close = values[difflib.get_close_matches(value.lower(), sorted(values), n=1, cutoff=0.0)[0]]
            raise InputError(
                f"--where {given}: no persona of the test splits has this {attribute}. Did you mean {close!r}? There are "
                f"{few(sorted(values.values()), 12)}."
            )
        found.append((attribute, values[value.lower()]))
    return tuple(sorted(set(found)))


def draw_for_group(
    items: Sequence[Item], personas: Mapping[str, Persona], group: Group, limit: int | None, seed: int
) -> list[Item]:
    """Items of the group's personas and of all others, half of `limit` each (fewer where there are fewer), sorted by key.

    Raises InputError where one side is empty.
    """
    inside = [item for item in items if _belongs(_values(personas[item.persona_id]), group)]
    outside = [item for item in items if not _belongs(_values(personas[item.persona_id]), group)]
    for side, words in (
        (inside, "no persona of the test splits has"),
        (outside, "every persona of the test splits has"),
    ):
        if not side:
            raise InputError(
                f"--where: {words} {group_name(group)}, so there is nothing to compare. Leave a filter out, or choose another."
            )
    half = None if limit is None else math.ceil(limit / 2)
    drawn = []
    for side in (inside, outside):
        drawn += sorted(side, key=lambda item: (seed_for(seed, "eval/items", item.key), item.key))[:half]
    return sorted(drawn, key=lambda item: item.key)


def intersections_content(
    answers: Sequence[Row],
    transcript: Sequence[Row],
    groups: Sequence[Row],
    judges: Mapping[str, Judge],
    settings: Mapping[str, Any],
    seed: int,
) -> dict[str, Any]:
    """{"judges": label -> {"modes": mode -> {"rows", "withheld", "pass", "groups": [group, ...], "tested", "permutations"}}}."""
    values: dict[str, dict[str, str]] = {}
    for row in groups:
        values.setdefault(row["persona_id"], {})[row["attribute"]] = row["value"]
    asked_for = tuple(tuple(condition) for condition in settings["where"])
    found = {}
    for label, judge in judges.items():
        outcomes = outcomes_of(answers, transcript, judge, label)
        found[label] = {
            "modes": {
                mode: _mode_groups([o for o in outcomes if o.mode in (mode, BASELINE)], values, asked_for, seed, mode)
                for mode in settings["modes"]
                if mode != BASELINE
            }
        }
    return {"judges": found}


def group_name(group: Group) -> str:
    return " and ".join(f"{name} = {value}" for name, value in group)


def compare_groups(
    sums: np.ndarray,
    counts: np.ndarray,
    members: np.ndarray,
    rng: np.random.Generator,
    permutations: int = PERMUTATIONS,
) -> tuple[np.ndarray, np.ndarray]:
    """(difference of the group's pass rate from that of all others, two-sided p value), each of shape (groups,).

    sums, counts: passes and scored rows of each persona, shape (personas,), counts above 0. members: (groups, personas), who belongs.
    """
    inside = members.astype(float)

    def differences(order: np.ndarray) -> np.ndarray:
        """order: (personas, draws) -> (groups, draws)."""
        passed, scored = inside @ sums[order], inside @ counts[order]
        return passed / scored - (sums.sum() - passed) / (counts.sum() - scored)

    observed = differences(np.arange(len(sums))[:, None])[:, 0]
    extreme = np.ones(len(members))
    for start in range(0, permutations, BLOCK):
        size = min(BLOCK, permutations - start)
        order = rng.permuted(np.tile(np.arange(len(sums)), (size, 1)), axis=1).T
        extreme += (np.abs(differences(order)) >= np.abs(observed)[:, None] - 1e-12).sum(axis=1)
    return observed, extreme / (permutations + 1)


def _mode_groups(
    outcomes: Sequence[Outcome], values: Mapping[str, Mapping[str, str]], asked_for: Group, seed: int, mode: str
) -> dict[str, Any]:
    rows = rows_by_condition(outcomes)
    withheld = withheld_conditions(rows)
    passed = by_condition(outcomes)
    candidates = [asked_for] if asked_for else _candidates(values)
    # The groups are the same under both conditions: those with enough rows in both.
    kept = [
        group
        for group in candidates
        if all(_is_large_enough(passed.get(c, {}), values, group) for c in ("true", "wrong"))
    ]
    by = {
        condition: _tested(passed[condition], values, kept, seed, f"{mode}/{condition}")
        for condition in ("true", "wrong")
    }
    entries = []
    for place, group in enumerate(kept):
        entry: dict[str, Any] = {"group": [list(pair) for pair in group], "name": group_name(group)}
        for condition, tested in by.items():
            entry[condition] = _without(tested[place], withheld[condition]) if condition in withheld else tested[place]
        entries.append(entry)
    return {
        "rows": rows,
        "withheld": withheld,
        "pass": condition_estimates(passed, withheld, seed, mode),
        "groups": sorted(entries, key=lambda entry: (_q(entry), entry["name"])),
        "tested": len(kept),
        "too_small": len(candidates) - len(kept),
        "minimum_rows": MINIMUM_ROWS,
        "permutations": PERMUTATIONS,
    }


def _tested(
    passed: Mapping[tuple[str, str], float],
    values: Mapping[str, Mapping[str, str]],
    groups: Sequence[Group],
    seed: int,
    key: str,
) -> list[dict[str, Any]]:
    """Per group {pass: Estimate, difference, q}."""
    from scipy.stats import false_discovery_control

    if not groups:
        return []
    items = sorted(item for item, value in passed.items() if not math.isnan(value))
    personas = sorted({persona for persona, _ in items})
    place = {persona: index for index, persona in enumerate(personas)}
    owner = np.array([place[persona] for persona, _ in items])
    outcomes = np.array([passed[item] for item in items])
    members = np.array([[_belongs(values.get(persona, {}), group) for persona in personas] for group in groups])
    differences, p_values = compare_groups(
        np.bincount(owner, outcomes, len(personas)),
        np.bincount(owner, minlength=len(personas)).astype(float),
        members,
        rng_for(seed, "bench/permutations", key),
    )
    estimates = estimate_columns(
        np.where(members[:, owner].T, outcomes[:, None], math.nan),
        [(persona,) for persona, _ in items],
        rng_for(seed, "bench/groups", key),
        prompts=[prompt for _, prompt in items],
    )
    q_values = false_discovery_control(p_values)
    return [
        {"pass": dataclasses.asdict(estimate), "difference": float(difference), "q": float(q)}
        for estimate, difference, q in zip(estimates, differences, q_values, strict=True)
    ]


def _candidates(values: Mapping[str, Mapping[str, str]]) -> list[Group]:
    """Every value of a grouping attribute, and every pair of values of two of them, that some persona has."""
    found: set[Group] = set()
    for own in values.values():
        stated = [(name, own[name]) for name in GROUPING_ATTRIBUTES if name in own]
        found |= {(one,) for one in stated}
        found |= set(itertools.combinations(stated, 2))
    return sorted(found)


def _is_large_enough(
    passed: Mapping[tuple[str, str], float], values: Mapping[str, Mapping[str, str]], group: Group
) -> bool:
    sides: dict[bool, list[str]] = {True: [], False: []}
    belongs = {persona: _belongs(values.get(persona, {}), group) for persona, _ in passed}
    for (persona, _), value in passed.items():
        if not math.isnan(value):
            sides[belongs[persona]].append(persona)
    return all(len(rows) >= MINIMUM_ROWS and len(set(rows)) >= LEAST_PERSONAS for rows in sides.values())


def _belongs(own: Mapping[str, str], group: Group) -> bool:
    return all(own.get(name) == value for name, value in group)


def _values(persona: Persona) -> dict[str, str]:
    try:
        stated = stated_attributes(persona.profile)
    except InputError:  # a profile that is not written in lines belongs to no group
        return {}
    return {name: group_of(name, value) for name, value in stated.items() if name in ATTRIBUTES}


def _without(tested: Mapping[str, Any], reason: str) -> dict[str, Any]:
    from training.estimates import Estimate

    return {
        "pass": dataclasses.asdict(without_value(Estimate(**tested["pass"]), reason)),
        "difference": None,
        "q": None,
    }


def _q(entry: Mapping[str, Any]) -> float:
    q = entry["true"]["q"]
    return 2.0 if q is None else float(q)


def _example(present: Mapping[str, set[str]]) -> str:
    name = min(present)
    return f"{name}={min(present[name])!r}"
