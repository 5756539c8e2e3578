"""Which profiles are set against each other: the designs, and the personas and questions that they are tried on.

A unit is one persona under one change: `base`, the profile before it, `changed`, the profile after it, and `null`, the lines of `base` in
another order. All three annotators judge the same pairs of answers.

add_one_in     the paper's (section 4.1, where it is called leave-one-out): three attributes of the persona, drawn at random, and one more
leave_one_out  the whole persona, and the persona without one attribute
swap           the whole persona, and the persona with another person's value of one attribute and nothing else changed
corruption     the whole persona, and the persona without a quarter, half or three quarters of its attributes
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from builder.errors import InputError
from builder.personas.profile import shown
from builder.randomness import rng_for, seed_for
from builder.schema import ATTRIBUTES, paper_key
from eval.attributes.influence import FEWEST_PERSONAS
from eval.items import Persona
from eval.rows import EVALUATED_SPLITS, load_config
from training.profiles import NULLS, as_lines, corrupted, stated_attributes

DESIGNS = ("add_one_in", "leave_one_out", "swap", "corruption")
STARTING_ATTRIBUTES = 3  # of a persona in add_one_in, as in the paper
CORRUPTION = {"25 % left out": 0.25, "50 % left out": 0.5, "75 % left out": 0.75}
# The paper's text speaks once of "disability type", which is none of its 33 attributes.
OTHER_NAMES = {"disability_type": "disability"}

Stated = dict[str, str]  # attribute -> value as printed


@dataclass(frozen=True)
class Question:
    prompt_id: str
    question: str
    answer: str  # the published base answer, written without a persona


@dataclass(frozen=True)
class Unit:
    """One persona under one change; the fields are profiles. `wrong`: another persona's profile, for the control; empty where this unit
    carries no controls.
    """

    attribute: str  # that changes; in `corruption` the share left out
    persona_id: str
    base: str
    changed: str
    null: str
    wrong: str = ""


def attribute_names(given: Sequence[str] | None) -> list[str]:
    """The attributes asked for, in the order of the paper. Raises InputError for one that is none of the 33."""
    found = set()
    for name in given or ATTRIBUTES:
        key = "_".join(name.lower().replace("_", " ").split())
        key = OTHER_NAMES.get(key, key)
        if key not in ATTRIBUTES:
            near = difflib.get_close_matches(key, ATTRIBUTES, 3) or ATTRIBUTES
            raise InputError(f"{name!r} is none of the 33 attributes. Did you mean {', '.join(near)}?")
        found.add(key)
    return [name for name in ATTRIBUTES if name in found]


def design_names(given: Sequence[str] | None) -> list[str]:
    """Raises InputError for a design that does not exist."""
    for name in given or ():
        if name not in DESIGNS:
            raise InputError(f"--design is {name!r}; it takes {', '.join(DESIGNS)}.")
    return [name for name in DESIGNS if not given or name in given]


def draw_questions(folder: Path, count: int, seed: int) -> list[Question]:
    """`count` questions of the test splits of `dpf`, or all where there are fewer, drawn by seed and id and sorted by id.

    Of several base answers to one question (`base_answer: fresh`) the one with the smallest pair id counts. Raises InputError where no
    question has an answer.
    """
    tables = load_config(folder, "dpf")
    found: dict[str, tuple[str, Question]] = {}
    for split in EVALUATED_SPLITS:
        for row in tables.get(split, ()):
            answer = row["rejected"][-1]["content"].strip() if row["rejected"] else ""
            key = row["prompt_id"]
            if answer and (key not in found or row["pair_id"] < found[key][0]):
                found[key] = (row["pair_id"], Question(key, row["prompt"][-1]["content"], answer))
    if not found:
        raise InputError(
            f"{folder} has no test question with a base answer in dpf. Build with pairs.seen_test or pairs.heldout_test above 0."
        )
    drawn = sorted(found, key=lambda key: (seed_for(seed, "eval/attributes/questions", key), key))
    return [found[key][1] for key in sorted(drawn[:count])]


def stated_by(persona: Persona) -> Stated:
    """Every attribute of the persona that has a value, in the paper's order: as its profile prints it, else from the table.

    A published profile may state fewer than the persona has (`profile_attributes`, `profile_max_tokens`); here all are stated.
    """
    try:
        lines = stated_attributes(persona.profile)
    except InputError:  # a profile in prose: only the table has attributes
        lines = {}
    printed = {name: value for name, value in lines.items() if value not in NULLS}
    for name, value in persona.values.items():
        if name not in printed and value is not None:
            printed[name] = shown(name, value)
    return {name: printed[name] for name in ATTRIBUTES if name in printed}


def plan_units(
    design: str, personas: Mapping[str, Persona], attributes: Sequence[str], count: int, seed: int
) -> tuple[list[Unit], dict[str, str]]:
    """The units of a design, at most `count` personas an attribute, and {attribute: why it is not tried}.

    Personas are taken in one order, drawn by seed and id, so that attributes share personas (and calls) as far as they have them. The
    first unit of each persona carries the controls.
    """
    stated = {persona_id: stated_by(personas[persona_id]) for persona_id in sorted(personas)}
    order = sorted(stated, key=lambda p: (seed_for(seed, "eval/attributes/personas", p), p))
    units: list[Unit] = []
    not_tried: dict[str, str] = {}
    for label in CORRUPTION if design == "corruption" else attributes:
        able = [p for p in order if _can(design, label, p, stated)]
        if len(able) < min(count, FEWEST_PERSONAS):
            not_tried[label] = _too_few(design, label, len(able))
            continue
        units += [_unit(design, label, p, stated, seed) for p in able[:count]]
    return _with_controls(units, stated, seed), not_tried


def _can(design: str, label: str, persona: str, stated: Mapping[str, Stated]) -> bool:
    own = stated[persona]
    if design == "corruption":
        return len(own) >= 4
    others = len(own) - (label in own)
    if label not in own or others < 2:  # one line has no other order
        return False
    if design == "add_one_in":
        return others >= STARTING_ATTRIBUTES
    return design == "leave_one_out" or any(other.get(label, own[label]) != own[label] for other in stated.values())


def _too_few(design: str, label: str, able: int) -> str:
    what = "at least 4 attributes" if design == "corruption" else f"{paper_key(label)} and enough beside it"
    if design == "swap":
        what += ", and somebody else another value"
    return (
        f"only {able} of the personas have {what}; at least {FEWEST_PERSONAS} are needed, or as many as were asked for"
    )


def _unit(design: str, label: str, persona: str, stated: Mapping[str, Stated], seed: int) -> Unit:
    own = stated[persona]
    key = f"{design}/{label}/{persona}"
    base, changed = own, own
    if design == "add_one_in":
        others = [name for name in own if name != label]
        drawn = rng_for(seed, "eval/attributes/reduced", key).choice(len(others), STARTING_ATTRIBUTES, replace=False)
        names = {others[place] for place in drawn}
        base = {name: value for name, value in own.items() if name in names}
        changed = {name: value for name, value in own.items() if name in names or name == label}
    elif design == "leave_one_out":
        changed = {name: value for name, value in own.items() if name != label}
    elif design == "swap":
        # A value is drawn as often as people have it: a person met at random, who is different in this.
        values = [other[label] for other in stated.values() if other.get(label, own[label]) != own[label]]
        changed = own | {label: values[int(rng_for(seed, "eval/attributes/swap", key).integers(len(values)))]}
    else:
        changed = corrupted(own, CORRUPTION[label], seed)
    return Unit(label, persona, as_lines(base), as_lines(changed), as_lines(reordered(base, persona, seed)))


def reordered(lines: Stated, persona: str, seed: int) -> Stated:
    """The same lines in another order, drawn by persona and lines: what is said stays word by word the same."""
    names = list(lines)
    rng = rng_for(seed, "eval/attributes/null", f"{persona}/{'/'.join(names)}")
    shuffled = names
    while shuffled == names:
        shuffled = [names[place] for place in rng.permutation(len(names))]
    return {name: lines[name] for name in shuffled}


def _with_controls(units: Sequence[Unit], stated: Mapping[str, Stated], seed: int) -> list[Unit]:
    """The first unit of each persona gets a wrong persona: another one's values of the attributes that its base states."""
    result, done = [], set[str]()
    for unit in units:
        if unit.persona_id in done:
            result.append(unit)
            continue
        done.add(unit.persona_id)
        names = [name for name in ATTRIBUTES if name in stated_attributes(unit.base)]
        others = [
            as_lines({name: own[name] for name in names if name in own})
            for persona, own in stated.items()
            if persona != unit.persona_id and any(name in own for name in names)
        ]
        others = [text for text in others if text != unit.base]
        rng = rng_for(seed, "eval/attributes/wrong", f"{unit.persona_id}/{'/'.join(names)}")
        wrong = others[int(rng.integers(len(others)))] if others else ""
        result.append(Unit(unit.attribute, unit.persona_id, unit.base, unit.changed, unit.null, wrong))
    return result
