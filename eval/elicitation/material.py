"""What elicitation is measured on: test pairs of a few personas, the labelled pairs that they may be asked about, and a population."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.errors import InputError
from builder.randomness import seed_for
from eval.items import load_personas
from eval.rows import EVALUATED_CONFIGS, EVALUATED_SPLITS, EvaluatedRow, config_names, evaluated_row, load_config

# Test pairs of each persona, drawn by seed. On contrast the persona decides; dpf stands beside it.
PAIRS_A_PERSONA = {"contrast": 8, "dpf": 4}
LEARNED_SPLITS = ("train", "support")
TRAIN_PAIRS = 1500  # of other personas, read without their labels: what answers are like
POPULATION = 300  # personas with which a persona is compared


@dataclass(frozen=True)
class Pair:
    """A labelled pair: `preferred` is the persona's choice."""

    pair_id: str
    prompt_id: str
    personas: tuple[str, ...]  # whose pair it is; on contrast also whose answer the other one is
    question: str
    preferred: str
    other: str


@dataclass(frozen=True)
class Material:
    """rows: the test pairs. pools: config -> persona -> its labelled pairs, never of a test split. train: config -> pairs of `train`.
    population: personas of the group `seen`, profiles only.
    """

    rows: list[EvaluatedRow]
    profiles: Mapping[str, str]
    pools: Mapping[str, Mapping[str, list[Pair]]]
    train: Mapping[str, list[Pair]]
    population: list[str]

    @property
    def personas(self) -> list[str]:
        return sorted({row.persona_id for row in self.rows})


def load_material(folder: Path, limit: int | None, seed: int) -> Material:
    """At most `limit` personas (None: all), drawn by seed and id. Raises InputError for a folder without test pairs, or limit below 1."""
    if limit is not None and limit < 1:
        raise InputError(f"The number of personas is {limit}; give at least 1, or leave --limit out for all.")
    present = [config for config in EVALUATED_CONFIGS if config in config_names(folder)]
    tables = {config: load_config(folder, config) for config in present}
    drawn = _draw_personas(folder, tables, limit, seed)
    rows = [
        row for config in present for row in _draw_rows(config, tables[config], drawn, PAIRS_A_PERSONA[config], seed)
    ]
    personas = load_personas(folder)
    met = {row.persona_id for row in rows} | {wrong_persona(row) for row in rows}
    if unknown := sorted(met - personas.keys()):
        raise InputError(
            f"The rows of {folder} name persona {unknown[0]}, but its personas config has no such persona. Publish the dataset again."
        )
    seen = [name for name, persona in personas.items() if persona.group == "seen"]
    population = sorted(seen, key=lambda name: (seed_for(seed, "elicitation/population", name), name))
    return Material(
        rows=rows,
        profiles={name: persona.profile for name, persona in personas.items()},
        pools={config: _pools(tables[config], met) for config in present},
        train={config: _train_pairs(tables[config], seed) for config in present},
        population=sorted(population[:POPULATION]),
    )


def wrong_persona(row: EvaluatedRow) -> str:
    """The third persona that the row names for the control."""
    persona: str = row.published["wrong_persona_id"]
    return persona


def askable(pool: Sequence[Pair], rows: Sequence[EvaluatedRow]) -> list[Pair]:
    """The pairs of a pool whose question is none of the rows', by id."""
    held_out = {row.published["prompt_id"] for row in rows}
    return sorted((pair for pair in pool if pair.prompt_id not in held_out), key=lambda pair: pair.pair_id)


def _draw_personas(folder: Path, tables: Mapping[str, Mapping[str, Any]], limit: int | None, seed: int) -> set[str]:
    """From those with contrast test pairs, where there are any."""
    for config in ("contrast", "dpf"):
        counts = Counter(
            persona
            for split in EVALUATED_SPLITS
            if split in tables.get(config, {})
            for persona in tables[config][split]["persona_id"]
        )
        if counts:
            return set(sorted(counts, key=lambda p: (seed_for(seed, "elicitation/personas", p), p))[:limit])
    raise InputError(
        f"{folder} holds no row in {' or '.join(EVALUATED_SPLITS)} of {' or '.join(EVALUATED_CONFIGS)}. Build with pairs.seen_test or "
        "pairs.heldout_test above 0."
    )


def _draw_rows(
    config: str, splits: Mapping[str, Any], personas: Collection[str], count: int, seed: int
) -> list[EvaluatedRow]:
    found: dict[str, list[EvaluatedRow]] = {}
    for split in EVALUATED_SPLITS:
        for published in _rows_of(splits, split, personas):
            row = evaluated_row(config, split, published)
            found.setdefault(row.persona_id, []).append(row)
    return [
        row
        for persona in sorted(found)
        for row in sorted(
            sorted(found[persona], key=lambda r: (seed_for(seed, "elicitation/pairs", r.pair_id), r.pair_id))[:count],
            key=lambda r: r.pair_id,
        )
    ]


def _pools(splits: Mapping[str, Any], personas: Collection[str]) -> dict[str, list[Pair]]:
    pools: dict[str, list[Pair]] = {persona: [] for persona in personas}
    for split in LEARNED_SPLITS:
        for published in _rows_of(splits, split, personas):
            if (pair := _pair(published)) is not None:
                pools[published["persona_id"]].append(pair)
    return pools


def _train_pairs(splits: Mapping[str, Any], seed: int) -> list[Pair]:
    """At most TRAIN_PAIRS, by seed and id."""
    if "train" not in splits:
        return []
    table = splits["train"]
    ids = table["pair_id"][:]
    places = sorted(range(len(ids)), key=lambda place: (seed_for(seed, "elicitation/train", ids[place]), ids[place]))
    pairs = [_pair(published) for published in table.select(sorted(places[:TRAIN_PAIRS]))]
    return sorted((pair for pair in pairs if pair is not None), key=lambda pair: pair.pair_id)


def _rows_of(splits: Mapping[str, Any], split: str, personas: Collection[str]) -> Any:
    """The rows of these personas: only they are read into memory."""
    if split not in splits:
        return []
    owners = splits[split]["persona_id"][:]
    return splits[split].select([place for place, owner in enumerate(owners) if owner in personas])


def _pair(published: Mapping[str, Any]) -> Pair | None:
    """None where a text is missing."""
    row = evaluated_row("", "", dict(published))
    if row.chosen is None or row.rejected is None:
        return None
    return Pair(row.pair_id, published["prompt_id"], row.cluster, row.question, row.chosen, row.rejected)
