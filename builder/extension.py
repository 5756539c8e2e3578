"""A published version that a build extends: more personas or more prompts, every id kept, nothing old rewritten or asked for again.

The earlier version's rows are taken over as they are. New personas go on with the same weighted draw; new prompts are those that are not
near-duplicates of the old; pairs are made for new personas, and for old ones only where the recipe asks for more pairs a persona.
"""

import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.extension_rules import refuse_smaller_sizes, refuse_what_does_not_extend
from builder.pairs.assignment import Assigned
from builder.pairs.feedback import Written
from builder.personas.personas import EarlierPersonas
from builder.published import read_version, refuse_damaged, version_folder
from builder.recipe import BuildRecipe
from builder.schema import SPLITS
from builder.tables import ROWS_AT_A_TIME, table_schema

Row = dict[str, Any]
PERSONAS_AT_A_TIME = 40


@dataclass(frozen=True)
class EarlierVersion:
    """A published folder. `build`: its build.json."""

    folder: Path
    build: dict[str, Any]

    @functools.cached_property
    def personas(self) -> list[Row]:
        return self._rows("personas")

    @functools.cached_property
    def prompts(self) -> list[Row]:
        return self._rows("prompts")

    def earlier_personas(self) -> EarlierPersonas:
        return EarlierPersonas(self.personas, self.build["stages"]["personas"]["examined"])

    @functools.cached_property
    def assigned(self) -> list[Assigned]:
        """Who was asked what, as far as the pair was published; an unseen persona's `support` is its train part."""
        return [
            Assigned(row["persona_id"], row["prompt_id"], "train" if row["split"] == "support" else row["split"])
            for row in self.columns("dpf", ("persona_id", "prompt_id")).to_pylist()
        ]

    def base_answers(self) -> dict[str, Written]:
        """The shared base answers by prompt id."""
        if self.build["recipe"]["pairs"]["base_answer"] != "shared":
            return {}
        found: dict[str, Written] = {}
        for table in self._splits("dpf", ("prompt_id", "rejected")):
            for batch in table.to_batches(ROWS_AT_A_TIME):
                for row in batch.to_pylist():
                    found.setdefault(row["prompt_id"], Written(row["rejected"][0]["content"]))
        return found

    def columns(self, config: str, columns: Sequence[str]) -> Any:
        """These columns and `split` of all published rows of a pair config, as one Arrow table in no particular order."""
        import pyarrow as arrow

        names = [name for name in table_schema(config).names if name in (*columns, "split")]
        schema = arrow.schema([table_schema(config).field(name) for name in names])
        return arrow.concat_tables([schema.empty_table(), *self._splits(config, columns)])

    def rows_of(self, config: str, personas: Sequence[str]) -> Any:
        """The published rows of these personas as an Arrow table with `split`, sorted by persona and pair."""
        import pyarrow as arrow

        found = self._splits(config, None, [("persona_id", "in", list(personas))])
        whole = arrow.concat_tables([table_schema(config).empty_table(), *found])
        return whole.sort_by([("persona_id", "ascending"), ("pair_id", "ascending")])

    def judgements(self) -> Any:
        """The published judgements as an Arrow table, or None."""
        import pyarrow.parquet as parquet

        entry = self.build["configs"].get("judgements", {}).get("train", {})
        return parquet.read_table(self.folder / entry["file"]) if entry.get("file") else None

    def _rows(self, config: str) -> list[Row]:
        import pyarrow.parquet as parquet

        return parquet.read_table(self.folder / self.build["configs"][config]["train"]["file"]).to_pylist()

    def _splits(self, config: str, columns: Sequence[str] | None, filters: Any = None) -> Iterator[Any]:
        """Per split the rows with `split` in front."""
        import pyarrow as arrow
        import pyarrow.parquet as parquet

        names = [name for name in table_schema(config).names if columns is None or name in columns]
        for split in SPLITS:
            file = self.build["configs"].get(config, {}).get(split, {}).get("file")
            if file:
                wanted = [name for name in names if name != "split"]
                table = parquet.read_table(self.folder / file, columns=wanted, filters=filters).select(wanted)
                yield table.add_column(0, "split", arrow.array([split] * table.num_rows, arrow.string()))


def read_earlier(source: str, recipe: BuildRecipe, new: dict[str, Any]) -> EarlierVersion:
    """`source`: a published folder, or `hub:org/name@version`. new: `new_build(recipe)`, with the hashes of its inputs and templates.

    Raises InputError for what cannot be extended by this recipe, and for data files that are not as they were published: their rows are
    taken over unseen.
    """
    version = read_version(version_folder(source))
    earlier = EarlierVersion(version.folder, version.build)
    refuse_damaged(version)
    refuse_what_does_not_extend(source, earlier.build, recipe, new)
    refuse_smaller_sizes(source, earlier.build, earlier.personas, earlier.prompts, recipe)
    return earlier


def with_earlier(earlier: EarlierVersion | None, config: str, tables: Iterable[Any]) -> Iterator[Any]:
    """`tables`, which come in the order of personas, and between and among them the earlier version's rows."""
    import pyarrow as arrow

    if earlier is None:
        yield from tables
        return
    waiting = sorted(row["persona_id"] for row in earlier.personas)
    for table in tables:
        if not table.num_rows:
            continue
        first, last = table["persona_id"][0].as_py(), table["persona_id"][-1].as_py()
        before = [persona for persona in waiting if persona < first]
        among = [persona for persona in waiting if first <= persona <= last]
        waiting = waiting[len(before) + len(among) :]
        yield from earlier_blocks(earlier, config, before)
        both = arrow.concat_tables([earlier.rows_of(config, among), table]) if among else table
        yield both.sort_by([("persona_id", "ascending"), ("pair_id", "ascending")]) if among else both
    yield from earlier_blocks(earlier, config, waiting)


def earlier_blocks(earlier: EarlierVersion, config: str, personas: Sequence[str]) -> Iterator[Any]:
    for start in range(0, len(personas), PERSONAS_AT_A_TIME):
        yield earlier.rows_of(config, personas[start : start + PERSONAS_AT_A_TIME])
