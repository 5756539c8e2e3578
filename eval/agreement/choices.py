"""Files of choices that people (or anything else) made: .jsonl, an object a line, or .csv with a header.

annotator: who chose. pair_id, or persona_id and prompt_id for a pair of dpf. choice: `chosen`, `rejected` or `tie`; or `A` or `B`, the
answer's place in this evaluation's table of pairs. kind: `human` (if left out), `model` or `simulated`.
"""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.errors import InputError
from builder.schema import dpf_pair_id

SUFFIXES = (".jsonl", ".csv")
CHOICES = ("chosen", "rejected", "tie", "A", "B")
KINDS = ("human", "model", "simulated")
COLUMNS = "annotator, pair_id (or persona_id and prompt_id), choice and, if it is no human, kind"


@dataclass(frozen=True)
class Choice:
    """One annotator's choice; `choice` as the file has it."""

    annotator: str
    kind: str
    pair_id: str
    persona_id: str | None
    choice: str


def read_choices(paths: Sequence[Path]) -> list[Choice]:
    """Of all files together. Raises InputError for one that cannot be read, or for an annotator who stands in two."""
    found: dict[str, str] = {}
    choices: list[Choice] = []
    for path in paths:
        own = _read_file(path)
        for name in sorted({choice.annotator for choice in own}):
            if name in found:
                raise InputError(
                    f"The annotator {name} stands in {found[name]} and in {path.name}. Put the choices into one file."
                )
            found[name] = path.name
        choices += own
    return _by_slot(choices)


def _read_file(path: Path) -> list[Choice]:
    """Raises InputError, with the number of the line, for a file that is not as said above."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(
            f"The file of choices {path} does not exist. Give a .jsonl or .csv file with {COLUMNS}."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"The file of choices {path} cannot be read ({error}). Save it as UTF-8 text.") from None
    lines = _csv_lines(path, text) if path.suffix == ".csv" else _json_lines(path, text)
    choices: list[Choice] = []
    seen: dict[tuple[str, str], int] = {}
    for number, raw in lines:
        choice = _choice(path, number, raw)
        first = seen.setdefault((choice.annotator, choice.pair_id), number)
        if first != number:
            raise InputError(
                f"{path.name}, line {number}: {choice.annotator} has rated {choice.pair_id} in line {first} already. Keep one of the two."
            )
        choices.append(choice)
    if not choices:
        raise InputError(f"{path.name} holds no choice. Each line needs {COLUMNS}.")
    kinds: dict[str, str] = {}
    for choice in choices:
        if kinds.setdefault(choice.annotator, choice.kind) != choice.kind:
            raise InputError(
                f"{path.name}: {choice.annotator} is of kind {kinds[choice.annotator]} and of kind {choice.kind}. Give each annotator one "
                "kind."
            )
    return choices


def _by_slot(choices: list[Choice]) -> list[Choice]:
    """Where every annotator saw one persona only, and more than one persona was seen, the first rater of each persona becomes `person 1`
    and so on: four people a persona are four columns, not eighty. Otherwise the choices as they are."""
    seen: dict[str, set[str]] = {}
    for choice in choices:
        seen.setdefault(choice.annotator, set()).add(choice.persona_id or "")
    personas = {persona for own in seen.values() for persona in own}
    if len(personas) < 2 or "" in personas or any(len(own) > 1 for own in seen.values()):
        return choices
    raters: dict[tuple[str, str], list[str]] = {}
    for annotator, kind in sorted({(choice.annotator, choice.kind) for choice in choices}):
        (persona,) = seen[annotator]
        raters.setdefault((persona, kind), []).append(annotator)
    slots = {name: number for own in raters.values() for number, name in enumerate(own, 1)}
    return [
        Choice(
            f"{choice.kind} rater {slots[choice.annotator]}",
            choice.kind,
            choice.pair_id,
            choice.persona_id,
            choice.choice,
        )
        for choice in choices
    ]


def _json_lines(path: Path, text: str) -> list[tuple[int, dict[str, Any]]]:
    lines = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            raw = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(
                f"{path.name}, line {number} is not JSON ({error.msg}). Each line is an object with {COLUMNS}."
            ) from None
        if not isinstance(raw, dict):
            raise InputError(
                f"{path.name}, line {number} is {type(raw).__name__}; it must be an object with {COLUMNS}."
            )
        lines.append((number, raw))
    return lines


def _csv_lines(path: Path, text: str) -> list[tuple[int, dict[str, Any]]]:
    reader = csv.DictReader(io.StringIO(text, newline=""))
    lines = []
    for raw in reader:
        if None in raw or None in raw.values():
            raise InputError(f"{path.name}, line {reader.line_num} has not as many fields as the header. Mend it.")
        lines.append((reader.line_num, {str(key).strip(): value.strip() for key, value in raw.items()}))
    return lines


def _choice(path: Path, number: int, raw: dict[str, Any]) -> Choice:
    def text(key: str) -> str | None:
        value = raw.get(key)
        if value in (None, ""):
            return None
        if not isinstance(value, str):
            raise InputError(f"{path.name}, line {number}: {key} is {value!r}; it takes a text.")
        return value

    annotator, pair, persona, prompt = (text(key) for key in ("annotator", "pair_id", "persona_id", "prompt_id"))
    if annotator is None:
        raise InputError(f"{path.name}, line {number} names no annotator. Each line needs {COLUMNS}.")
    if pair is None and persona is not None and prompt is not None:
        pair = dpf_pair_id(persona, prompt)
    if pair is None:
        raise InputError(f"{path.name}, line {number} names no pair. Give pair_id, or persona_id and prompt_id.")
    kind = text("kind") or "human"
    if kind not in KINDS:
        raise InputError(f"{path.name}, line {number}: kind is {kind!r}; it takes {', '.join(KINDS)}.")
    choice = text("choice")
    if choice not in CHOICES:
        raise InputError(f"{path.name}, line {number}: choice is {choice!r}; it takes {', '.join(CHOICES)}.")
    return Choice(annotator, kind, pair, persona or _persona_of(pair), choice)


def _persona_of(pair_id: str) -> str | None:
    """`dpf/p00000/q00015` and `contrast/p00000-p00011/q00015` -> p00000."""
    parts = pair_id.split("/")
    return parts[1].split("-")[0] if len(parts) == 3 else None
