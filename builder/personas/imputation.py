"""Ancestry and birthplace for records whose file lacks them, from one donor among the packaged synthetic records.

A donor shares citizenship, race, Hispanic origin, household language and age band with the person, as many of these as leave at least
five donors. Both values come from the same donor, so that they belong together. They are labelled `imputed`.
"""

from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from builder.census.codebook import codebook_for
from builder.census.pums import read_packaged
from builder.personas.demographics import NOT_HISPANIC, Record

AGE_BAND_STARTS = (0, 18, 30, 45, 65)
ENOUGH_DONORS = 5
BORN_IN_US = 1
# From the closest match to the loosest.
LEVELS = (
    ("CIT", "RAC1P", "HISP", "HHL", "band", "STATE"),
    ("CIT", "RAC1P", "HISP", "HHL", "band"),
    ("CIT", "RAC1P", "HISP", "HHL"),
    ("CIT", "RAC1P", "HISP"),
    ("CIT", "RAC1P", "hispanic"),
    ("CIT", "hispanic"),
    ("CIT",),
)


@dataclass(frozen=True)
class Imputed:
    ancestry: str | None
    place_of_birth: str | None


def impute_origin(record: Record, rng: np.random.Generator) -> Imputed:
    """Ancestry and birthplace in words, from one donor."""
    donors, index = packaged_donors()
    keys = matching_values(record)
    for level in LEVELS:
        if any(keys[name] is None for name in level if name != "HHL"):
            continue
        candidates = index[level].get(tuple(keys[name] for name in level), ())
        if len(candidates) >= ENOUGH_DONORS or (level == LEVELS[-1] and candidates):
            donor = donors[candidates[int(rng.integers(len(candidates)))]]
            break
    else:
        return Imputed(None, None)
    labels = codebook_for(read_packaged_year())
    birthplace = donor["POBP"]
    # "Born where they live" carries over to the person's own state.
    if keys["CIT"] == BORN_IN_US and birthplace == donor["STATE"] and record.get("STATE") is not None:
        birthplace = record["STATE"]
    return Imputed(labels["ANC1P"].get(donor["ANC1P"]), labels["POBP"].get(birthplace))


def matching_values(record: Record) -> dict[str, int | None]:
    hispanic = None if record["HISP"] is None else int(record["HISP"] != NOT_HISPANIC)
    band = sum(record["AGEP"] >= start for start in AGE_BAND_STARTS)
    plain = {name: record.get(name) for name in ("CIT", "RAC1P", "HISP", "HHL", "STATE")}
    return {**plain, "hispanic": hispanic, "band": band}


@lru_cache(maxsize=1)
def packaged_donors() -> tuple[list[Record], dict[tuple[str, ...], dict[tuple[int | None, ...], list[int]]]]:
    donors = read_packaged().table.select(["AGEP", "RAC1P", "HISP", "CIT", "HHL", "STATE", "ANC1P", "POBP"]).to_pylist()
    index: dict[tuple[str, ...], dict[tuple[int | None, ...], list[int]]] = {
        level: defaultdict(list) for level in LEVELS
    }
    for number, donor in enumerate(donors):
        keys = matching_values(donor)
        for level in LEVELS:
            index[level][tuple(keys[name] for name in level)].append(number)
    return donors, index


@lru_cache(maxsize=1)
def read_packaged_year() -> int:
    return read_packaged().survey_year
