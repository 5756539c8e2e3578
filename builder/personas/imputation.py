"""Ancestry and birthplace for records whose file lacks them, from one donor among the packaged synthetic records.

A donor shares citizenship, race, Hispanic origin, household language and age band with the person, as many of these as leave at least
five donors. Both values come from the same donor, so that they belong together. They are labelled `imputed`.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from builder.census.codebook import codebook_for
from builder.census.pums import read_packaged
from builder.personas.demographics import NOT_HISPANIC, Record

AGE_BAND_STARTS = (0, 18, 30, 45, 65)
ENOUGH_DONORS = 5
BORN_IN_US = 1
# What donor and person share; from the right, one after the other is given up until enough donors share the rest.
MATCHED = ("CIT", "hispanic", "RAC1P", "HISP", "HHL", "band", "STATE")
Key = tuple[int | None, ...]


@dataclass(frozen=True)
class Imputed:
    ancestry: str | None
    place_of_birth: str | None


@dataclass(frozen=True)
class Donors:
    """The packaged records in the order of MATCHED, so that whoever shares the first few of them lies side by side.

    spans: values of the first few of MATCHED -> first donor and the one after the last; only where there are enough of them (or just
    CIT is shared). ancestry, birthplace, state: codes, shape (donors,). ancestry_words, birthplace_words: code -> words.
    """

    spans: dict[Key, tuple[int, int]]
    ancestry: np.ndarray
    birthplace: np.ndarray
    state: np.ndarray
    ancestry_words: dict[int, str]
    birthplace_words: dict[int, str]


def impute_origin(record: Record, rng: np.random.Generator) -> Imputed:
    """Ancestry and birthplace in words, from one donor; None where no donor shares even the citizenship, or it is not known."""
    donors = packaged_donors()
    key = matching_values(record)
    for shared in range(len(key), 0, -1):
        span = donors.spans.get(key[:shared])
        if span is not None:
            break
    else:
        return Imputed(None, None)
    donor = int(rng.integers(*span))
    birthplace = int(donors.birthplace[donor])
    # "Born where they live" carries over to the person's own state.
    if key[0] == BORN_IN_US and birthplace == donors.state[donor] and record.get("STATE") is not None:
        birthplace = record["STATE"]
    return Imputed(donors.ancestry_words.get(int(donors.ancestry[donor])), donors.birthplace_words.get(birthplace))


def matching_values(record: Record) -> Key:
    """The person's values of MATCHED, up to the first that is not known. A blank HHL (group quarters) is a value, 0."""
    hispanic = None if record.get("HISP") is None else int(record["HISP"] != NOT_HISPANIC)
    band = sum(record["AGEP"] >= start for start in AGE_BAND_STARTS)
    values = (
        *(record.get("CIT"), hispanic, record.get("RAC1P"), record.get("HISP")),
        *(record.get("HHL") or 0, band, record.get("STATE")),
    )
    return values[: values.index(None)] if None in values else values


@lru_cache(maxsize=1)
def packaged_donors() -> Donors:
    records = read_packaged()
    columns = ("AGEP", "CIT", "RAC1P", "HISP", "HHL", "STATE", "ANC1P", "POBP")
    codes = {name: records.table[name].fill_null(0).to_numpy().astype(np.int16) for name in columns}
    codes["hispanic"] = (codes["HISP"] != NOT_HISPANIC).astype(np.int16)
    codes["band"] = np.searchsorted(AGE_BAND_STARTS, codes["AGEP"], side="right").astype(np.int16)
    order = np.lexsort([codes[name] for name in reversed(MATCHED)])
    matched = np.column_stack([codes[name][order] for name in MATCHED])

    spans: dict[Key, tuple[int, int]] = {}
    differs = np.zeros(len(order), dtype=bool)  # from the donor before, in what is shared
    differs[0] = True
    for shared in range(1, len(MATCHED) + 1):
        differs[1:] |= matched[1:, shared - 1] != matched[:-1, shared - 1]
        starts = np.flatnonzero(differs)
        stops = np.append(starts[1:], len(order))
        kept = (stops - starts >= ENOUGH_DONORS) | (shared == 1)
        keys = map(tuple, matched[starts[kept], :shared].tolist())
        spans |= zip(keys, zip(starts[kept].tolist(), stops[kept].tolist(), strict=True), strict=True)
    labels = codebook_for(records.survey_year)
    return Donors(
        spans, codes["ANC1P"][order], codes["POBP"][order], codes["STATE"][order], labels["ANC1P"], labels["POBP"]
    )
