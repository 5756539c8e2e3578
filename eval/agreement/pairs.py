"""Which pairs are annotated, and which answer stands first in each: the test pairs of a few personas, so that each persona has enough items
for a kappa of its own.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.errors import InputError
from builder.randomness import seed_for
from eval.rows import EVALUATED_CONFIGS, EVALUATED_SPLITS, EvaluatedRow, config_names, evaluated_row, load_config

ITEMS_A_PERSONA = 10  # as many as a participant of the paper's study saw
LIGHT = (
    "pair_id",
    "persona_id",
    "prompt_id",
)  # without the texts: at full size there are hundreds of thousands of rows
PAIR_COLUMNS = {
    "pair_id": "string",
    "config": "string",
    "split": "string",
    "persona_group": "string",
    "persona_id": "string",
    "partner_persona_id": "string",
    "prompt_id": "string",
    "mirror_pair_id": "string",
    "first": "string",
    "published_verdict": "string",
}


@dataclass(frozen=True)
class AnnotatedPair:
    """first: `chosen` or `rejected`, the one that is answer A. answers: A and B."""

    row: EvaluatedRow
    first: str
    answers: tuple[str, str]

    @property
    def pair_id(self) -> str:
        return self.row.pair_id

    @property
    def label(self) -> str:
        """The answer that the data call chosen."""
        return "A" if self.first == "chosen" else "B"

    def as_row(self) -> dict[str, Any]:
        """A row of PAIR_COLUMNS."""
        row = self.row
        return {
            "pair_id": row.pair_id,
            "config": row.config,
            "split": row.split,
            "persona_group": row.persona_group,
            "persona_id": row.persona_id,
            "partner_persona_id": row.published.get("partner_persona_id"),
            "prompt_id": row.published["prompt_id"],
            "mirror_pair_id": row.mirror_pair_id,
            "first": self.first,
            "published_verdict": row.judge_verdict,
        }


@dataclass(frozen=True)
class _Place:
    """Where a row stands in the dataset."""

    config: str
    split: str
    index: int
    pair_id: str
    persona_id: str
    mirror: str | None


def draw_pairs(
    folder: Path, limit: int | None, seed: int, rated: Collection[str] | None = None
) -> tuple[list[AnnotatedPair], int]:
    """(the pairs in the order of their ids, how many of `rated` are no test pair of this dataset).

    Half of `limit` (None: no limit) goes to dpf and half to contrast, persona by persona, ITEMS_A_PERSONA of each, contrast pairs with
    their mirrors. rated: only these pairs, those that people have rated, of each persona all: what a person has said is not thrown away.
    Raises InputError where the folder is no dataset, holds no test pair, or none that was rated.
    """
    if limit is not None and limit < 2:
        raise InputError(
            f"The number of items is {limit}; a contrast pair and its mirror need at least 2. Raise it, or leave it out."
        )
    tables = {
        (config, split): table
        for config in EVALUATED_CONFIGS
        if config in config_names(folder)
        for split, table in load_config(folder, config).items()
        if split in EVALUATED_SPLITS
    }
    places = list(_places(tables))
    if not places:
        raise InputError(f"{folder} has no test pair. Build with pairs.seen_test or pairs.heldout_test above 0.")
    unknown = 0
    if rated is not None:
        unknown = len(set(rated) - {place.pair_id for place in places})
        places = [place for place in places if place.pair_id in rated]
        if not places:
            raise InputError(
                f"None of the {len(set(rated)):,} rated pairs is a test pair of {folder}. Give the dataset that was rated; pair ids look "
                "like dpf/p00000/q00015."
            )
    present = sorted({place.config for place in places})
    share = None if limit is None else max(2, limit // len(present))
    most = ITEMS_A_PERSONA if rated is None else None
    chosen = [
        place for config in present for place in _draw([p for p in places if p.config == config], share, most, seed)
    ]
    pairs = []
    for (config, split), table in tables.items():
        own = [place.index for place in chosen if (place.config, place.split) == (config, split)]
        pairs += [annotated_pair(evaluated_row(config, split, row)) for row in (table.select(own) if own else ())]
    return sorted((pair for pair in pairs if pair is not None), key=lambda pair: pair.pair_id), unknown


def annotated_pair(row: EvaluatedRow) -> AnnotatedPair | None:
    """None where a text is missing. Which answer is A follows from the two texts alone: it tells nothing of the label, stays the same in
    every run, and is the same in both mirrors of a contrast pair, so that their labels are A as often as B."""
    if row.chosen is None or row.rejected is None:
        return None
    low, high = sorted((row.chosen, row.rejected))
    answers = (low, high) if seed_for(0, "agreement/side", f"{low}\n{high}") % 2 else (high, low)
    return AnnotatedPair(row, "chosen" if answers[0] == row.chosen else "rejected", answers)


def _places(tables: Mapping[tuple[str, str], Any]) -> Iterator[_Place]:
    for (config, split), table in tables.items():
        columns = [*LIGHT, "mirror_pair_id"] if config == "contrast" else list(LIGHT)
        for index, row in enumerate(table.select_columns(columns)):
            yield _Place(config, split, index, row["pair_id"], row["persona_id"], row.get("mirror_pair_id"))


def _draw(places: Sequence[_Place], limit: int | None, most: int | None, seed: int) -> list[_Place]:
    """Of one config, at most `most` sets of a persona. A set is a pair, or a contrast pair with its mirror; it is taken with the first of
    its personas that is drawn.
    """
    sets: dict[str, list[_Place]] = {}
    for place in places:
        sets.setdefault(min(place.pair_id, place.mirror or place.pair_id), []).append(place)
    of_persona: dict[str, list[str]] = {}
    for name, members in sets.items():
        for persona in {member.persona_id for member in members}:
            of_persona.setdefault(persona, []).append(name)

    def by_seed(name: str) -> tuple[int, str]:
        return seed_for(seed, "agreement/draw", name), name

    taken: dict[str, None] = {}
    count = 0
    for persona in sorted(of_persona, key=by_seed):
        for name in sorted(of_persona[persona], key=by_seed)[:most]:
            if name not in taken and (limit is None or count + len(sets[name]) <= limit):
                taken[name] = None
                count += len(sets[name])
    return [place for name in taken for place in sets[name]]
