"""What judges said of the published pairs, as a table of its own: put together of all stages of pairs once the last is done."""

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from builder.files import write_atomically
from builder.stages.site import Site
from builder.tables import keep_pairs, read_columns, table_schema


def write_judgements(site: Site, stages: Sequence[str]) -> int:
    """RUN/tables/judgements.parquet: the calls of judges on published pairs, stage by stage; gives the number of rows."""
    import pyarrow.parquet as parquet

    written = 0

    def write(temporary: Path) -> None:
        nonlocal written
        with parquet.ParquetWriter(temporary, table_schema("judgements"), compression="zstd") as file:
            tables: Any = chain.from_iterable(judgements_of(site.folder, stage) for stage in stages)
            if site.earlier is not None and site.earlier.judgements() is not None:
                tables = chain([site.earlier.judgements().cast(table_schema("judgements"))], tables)
            for table in tables:
                file.write_table(table)
                written += table.num_rows

    write_atomically(site.folder / "tables" / "judgements.parquet", write)
    return written


def judgements_of(folder: Path, stage: str) -> Iterator[Any]:
    """What the stage's shards wrote of judges' calls. Shards of `matched` are judged before the pairs are selected."""
    import pyarrow.parquet as parquet

    kept = set(read_columns(folder, "dpf_matched", ("pair_id",))["pair_id"].to_pylist()) if stage == "matched" else None
    for path in sorted((folder / "shards" / stage).glob("*.judgements.parquet")):
        yield keep_pairs(parquet.read_table(path), kept)
