"""Two files of a split side by side: the pieces of them that are not equal in Arrow."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from builder.errors import InputError
from builder.published import readable
from builder.schema import PAIR_CONFIGS
from builder.tables import ROWS_AT_A_TIME, by_persona

Pair = tuple[Any, Any]  # Arrow tables of one place in both versions, None where there is none
KEYS = {
    **dict.fromkeys(PAIR_CONFIGS, ("pair_id",)),
    "personas": ("persona_id",),
    "prompts": ("prompt_id",),
    "judgements": ("pair_id", "judge", "condition", "order"),
}
# So few rows become Python objects in one go; finding the differing one among them in Arrow would take longer.
FEW_ROWS = 16


def side_by_side(before: Path | None, after: Path | None, config: str, columns: Sequence[str]) -> Iterator[Pair]:
    """The blocks of one split in both versions; None where one side has no block of this name.

    In files that are not sorted by persona fewer blocks meet; their rows find each other later (builder.publishing.diff).
    """
    walks = [blocks(path, config, columns) for path in (before, after)]
    old, new = next(walks[0], None), next(walks[1], None)
    while old is not None or new is not None:
        if old is not None and (new is None or old[0] < new[0]):
            yield old[1], None
            old = next(walks[0], None)
        elif new is not None and (old is None or new[0] < old[0]):
            yield None, new[1]
            new = next(walks[1], None)
        elif old is not None and new is not None:
            yield old[1], new[1]
            old, new = next(walks[0], None), next(walks[1], None)


def blocks(path: Path | None, config: str, columns: Sequence[str]) -> Iterator[tuple[Any, Any]]:
    """(name, rows): of pairs a persona's, under its id; else some thousand rows, under their number."""
    for number, rows in enumerate(batches(path, config, columns) if path else ()):
        if config in PAIR_CONFIGS:
            yield from ((part["persona_id"][0].as_py() or "", part) for part in by_persona(rows))
        else:
            yield number, rows


def batches(path: Path, config: str, columns: Sequence[str]) -> Iterator[Any]:
    """Some thousand rows at a time, with these columns and those of the ids, which are plain strings."""
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    ids = [*KEYS[config], *(["persona_id"] if config in PAIR_CONFIGS else [])]
    wanted = list(dict.fromkeys((*ids, *columns)))
    with readable(path), parquet.ParquetFile(path, pre_buffer=False) as file:
        missing = [name for name in wanted if name not in file.schema_arrow.names]
        if missing:
            raise InputError(
                f"{path} has no column {', '.join(missing)}, by which rows are matched. It is not as `persona publish` writes it: get the "
                "version again."
            )
        for batch in file.iter_batches(ROWS_AT_A_TIME, columns=wanted):
            rows = arrow.Table.from_batches([batch]).select(wanted)
            for place, name in enumerate(wanted):
                if name in ids:
                    rows = rows.set_column(place, name, rows[name].cast(arrow.string()))
            yield rows


def unequal_parts(old: Any, new: Any, keys: Sequence[str]) -> Iterator[Pair]:
    """What is not alike of two blocks with the same ids in the same order, halved down to FEW_ROWS; of other blocks all."""
    if old is None or new is None:
        yield old, new
    elif not old.equals(new):
        if old.num_rows > FEW_ROWS and all(old[key].equals(new[key]) for key in keys):
            middle = old.num_rows // 2
            yield from unequal_parts(old.slice(0, middle), new.slice(0, middle), keys)
            yield from unequal_parts(old.slice(middle), new.slice(middle), keys)
        else:
            yield old, new
