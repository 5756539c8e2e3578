"""Which persona is asked which question: test pairs of a published dataset, each (persona, question) once."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.errors import InputError
from builder.randomness import seed_for
from builder.schema import ATTRIBUTES, GROUPS
from eval.rows import EVALUATED_SPLITS, load_config, read_rows


@dataclass(frozen=True)
class Item:
    """One persona and one question of the test splits. `wrong_persona_id`: the third persona that stands in the row, for the control."""

    persona_id: str
    wrong_persona_id: str
    prompt_id: str
    question: str
    topic: str
    persona_group: str
    split: str

    @property
    def key(self) -> str:
        return f"{self.persona_id}/{self.prompt_id}"

    @property
    def cell(self) -> str:
        return f"{self.persona_group}/{self.split}"


@dataclass(frozen=True)
class Persona:
    """`values`: the 33 attributes as published, None where there is none."""

    persona_id: str
    profile: str
    group: str
    values: dict[str, Any]


def draw_items(folder: Path, count: int | None, seed: int) -> list[Item]:
    """At most `count` items (None: all) of `dpf`, drawn by seed and id, the same whatever the order of rows; sorted by key.

    Raises InputError for a dataset without test rows, or a count below 1.
    """
    if count is not None and count < 1:
        raise InputError(f"The number of items is {count}; give at least 1, or leave it out for all.")
    tables = load_config(folder, "dpf")
    # By ids first: of a large dataset reading every text only to draw a few takes longer than everything that is done with them.
    places = [
        (f"{persona}/{prompt}", split, place)
        for split in EVALUATED_SPLITS
        if split in tables
        for place, (persona, prompt, group) in enumerate(
            zip(*(tables[split][name] for name in ("persona_id", "prompt_id", "persona_group")), strict=True)
        )
        if group in GROUPS
    ]
    drawn = sorted(places, key=lambda place: (seed_for(seed, "eval/items", place[0]), place[0]))[:count]
    if not drawn:
        raise InputError(
            f"{folder} has no test row of {' or '.join(GROUPS)} personas in dpf. Build with pairs.seen_test or pairs.heldout_test above 0."
        )
    items = [
        Item(
            persona_id=row["persona_id"],
            wrong_persona_id=row["wrong_persona_id"],
            prompt_id=row["prompt_id"],
            question=row["prompt"][-1]["content"],
            topic=row["topic"],
            persona_group=row["persona_group"],
            split=split,
        )
        for split in EVALUATED_SPLITS
        if split in tables
        for row in read_rows(
            tables[split]
            .select_columns(["persona_id", "wrong_persona_id", "prompt_id", "prompt", "topic", "persona_group"])
            .select(sorted(place for _, of_split, place in drawn if of_split == split))
        )
    ]
    return sorted(items, key=lambda item: item.key)


def load_personas(folder: Path) -> dict[str, Persona]:
    """Persona id -> persona, of the `personas` config (all its splits)."""
    found = {}
    for table in load_config(folder, "personas").values():
        for row in table.select_columns(["persona_id", "profile", "group", *ATTRIBUTES]):
            values = {name: row[name] for name in ATTRIBUTES}
            found[row["persona_id"]] = Persona(row["persona_id"], row["profile"], row["group"], values)
    return found
