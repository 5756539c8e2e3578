"""Draws whole person records by their survey weight."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from builder.census.pums import CensusRecords
from builder.errors import InputError
from builder.randomness import rng_for

ADULT_AGE = 18


def draw_order(records: CensusRecords, seed: int, adults_only: bool) -> np.ndarray:
    """Row numbers of all eligible records in the order in which they are drawn, shape (eligible,).

    Without replacement, with probability proportional to PWGTP at every draw: every row gets the key log(u) / weight and the largest
    keys come first (Efraimidis and Spirakis 2006), which equals drawing one row after the other by weight. The uniforms come from one
    generator over the file's rows in order, before any filter, so a row's key depends on the seed and its place in the file only: a
    longer draw extends a shorter one, and `adults_only` removes rows without moving the rest.
    """
    table = records.table
    uniforms = 1.0 - rng_for(seed, "census_draw", "rows").random(
        table.num_rows
    )  # in (0, 1], so that the logarithm is finite
    keys = np.log(uniforms) / table["PWGTP"].to_numpy()
    rows = np.arange(table.num_rows)
    if adults_only:
        rows = np.flatnonzero(pc.fill_null(pc.greater_equal(table["AGEP"], ADULT_AGE), False).to_numpy())
    # Stable, so that equal keys (never in practice) fall by file order.
    return rows[np.argsort(-keys[rows], kind="stable")]


def draw_records(records: CensusRecords, count: int, seed: int, adults_only: bool) -> tuple[pa.Table, dict[str, int]]:
    """The first `count` records of the draw, and the number of records left out by reason.

    Raises InputError where fewer than `count` rows are eligible.
    """
    order = draw_order(records, seed, adults_only)
    refuse_too_few(records, len(order), count, adults_only)
    left_out = {f"under {ADULT_AGE}": records.table.num_rows - len(order), "not drawn": len(order) - count}
    return records.table.take(pa.array(order[:count])), left_out


def refuse_too_few(records: CensusRecords, eligible: int, count: int, adults_only: bool) -> None:
    if eligible >= count:
        return
    who = "adults" if adults_only else "persons"
    advice = "Give a larger PUMS file, or lower personas.count."
    if adults_only and records.table.num_rows >= count:
        advice = "Give a larger PUMS file, lower personas.count, or set census.adults_only=false."
    raise InputError(f"{records.source} has {eligible} {who}, but {count} personas are asked for. {advice}")
