"""Draws whole person records by their survey weight."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from builder.census.pums import CensusRecords
from builder.errors import InputError
from builder.randomness import rng_for

ADULT_AGE = 18


def draw_records(records: CensusRecords, count: int, seed: int, adults_only: bool) -> tuple[pa.Table, dict[str, int]]:
    """`count` rows drawn without replacement with probability proportional to PWGTP at every draw, in draw order.

    Returns the rows and the number of records left out by reason. The draw is Efraimidis and Spirakis (2006): every row gets the key
    log(u) / weight and the largest keys win, which equals drawing one row after the other by weight. The uniforms come from one
    generator over the file's rows in order, before any filter, so a row's key depends on the seed and its place in the file only: a
    larger `count` extends the smaller draw, and `adults_only` removes rows without moving the rest.
    Raises InputError where fewer than `count` rows are eligible.
    """
    table = records.table
    uniforms = 1.0 - rng_for(seed, "census_draw", "rows").random(
        table.num_rows
    )  # in (0, 1], so that the logarithm is finite
    keys = np.log(uniforms) / table["PWGTP"].to_numpy()
    eligible = np.ones(table.num_rows, dtype=bool)
    if adults_only:
        eligible = pc.fill_null(pc.greater_equal(table["AGEP"], ADULT_AGE), False).to_numpy()
    rows = np.flatnonzero(eligible)
    if len(rows) < count:
        who = "adults" if adults_only else "persons"
        advice = "Give a larger PUMS file, or lower personas.count."
        if adults_only and table.num_rows >= count:
            advice = "Give a larger PUMS file, lower personas.count, or set census.adults_only=false."
        raise InputError(f"{records.source} has {len(rows)} {who}, but {count} personas are asked for. {advice}")
    # Stable, so that equal keys (never in practice) fall by file order.
    order = rows[np.argsort(-keys[rows], kind="stable")[:count]]
    left_out = {f"under {ADULT_AGE}": int((~eligible).sum()), "not drawn": len(rows) - count}
    return table.take(pa.array(order)), left_out
