"""Census records and personas as the same thing: the answers of many people to each attribute, in words.

Records are described by the code that describes personas. An attribute depends on few columns, so each combination of these columns is
described once and stands for all who have it: millions of records take seconds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from builder.census.codebook import codebook_for
from builder.census.draw import ADULT_AGE
from builder.census.pums import CensusRecords
from builder.errors import InputError
from builder.fidelity.bins import Answer, binned_attributes
from builder.personas.demographics import describe_demographics

# The columns on which an attribute depends; `age band` stands for AGEP where only the limits of a question's universe matter.
AGE_BAND = "age band"
AGE_LIMITS = (3, 5, 15, 16, 17, 51)
DEPENDS_ON: dict[str, tuple[str, ...]] = {
    "age": ("AGEP",),
    "sex": ("SEX",),
    "race": ("RAC1P",),
    "ancestry": ("ANC1P", "HISP"),
    "household_language": ("HHL", "HHT"),
    "education": ("SCHL", AGE_BAND),
    "employment_status": ("ESR", AGE_BAND),
    "class_of_worker": ("COW", AGE_BAND),
    "industry_category": ("INDP", AGE_BAND),
    "occupation_category": ("OCCP", AGE_BAND),
    "income": ("PINCP", "ADJINC", AGE_BAND),
    "marital_status": ("MAR", AGE_BAND),
    "household_type": ("HHT", "HHL", "HHT2", "TYPEHUGQ"),
    "family_presence_and_age": ("HHT", "HHL", "FPARC", "HUPAC"),
    "place_of_birth": ("POBP",),
    "citizenship": ("CIT",),
    "veteran_status": ("MIL", AGE_BAND),
    "disability": ("DIS",),
    "health_insurance": ("HICOV",),
    "cognitive_difficulty": ("DREM", AGE_BAND),
    "ability_to_speak_english": ("ENG",),
    "vision_difficulty": ("DEYE",),
    "fertility": ("FER", "SEX", AGE_BAND),
    "hearing_difficulty": ("DEAR",),
}
BLANK = np.iinfo(np.int64).min


@dataclass(frozen=True)
class Answers:
    """codes: shape (people,), the place of each one's answer in `distinct`."""

    codes: np.ndarray
    distinct: list[Answer]


@dataclass(frozen=True)
class People:
    """weights: shape (people,); personas count 1 each. columns: those of the census file, None where it is not known.

    imputed: attributes of which some answers were not given by the person but taken from a donor.
    """

    answers: dict[str, Answers]
    weights: np.ndarray
    survey_year: int
    columns: frozenset[str] | None
    imputed: frozenset[str]

    def __len__(self) -> int:
        return len(self.weights)

    @property
    def effective_size(self) -> float:
        """Kish: the size of an unweighted sample that is as accurate, (sum w)^2 / sum w^2."""
        return float(self.weights.sum() ** 2 / (self.weights**2).sum())


def people_of_records(records: CensusRecords, adults_only: bool, round_income: bool) -> People:
    """All persons of a census table, or its adults. Raises InputError where there is none."""
    table = records.table
    if adults_only:
        table = table.filter(pc.fill_null(pc.greater_equal(table["AGEP"], ADULT_AGE), False))
    if not table.num_rows:
        raise InputError(f"{records.source} has no {'adults' if adults_only else 'persons'}. Give another census file.")
    table = table.combine_chunks()
    answers = {name: describe_distinct(name, table, records, round_income) for name in binned_attributes()}
    return People(
        answers,
        table["PWGTP"].to_numpy().astype(float),
        records.survey_year,
        frozenset(table.column_names),
        frozenset(name for name, columns in DEPENDS_ON.items() if set(columns) & set(records.imputed)),
    )


def describe_distinct(attribute: str, table: pa.Table, records: CensusRecords, round_income: bool) -> Answers:
    groups = np.zeros(table.num_rows, dtype=np.int64)
    for column in DEPENDS_ON[attribute]:
        if column == AGE_BAND:
            values = np.searchsorted(AGE_LIMITS, table["AGEP"].to_numpy(), side="right")
        elif column in table.column_names:
            values = pc.fill_null(table[column].cast(pa.int64()), BLANK).to_numpy()
        else:
            continue
        found, distinct = pd.factorize(values)
        groups = pd.factorize(groups * len(distinct) + found)[0]
    # Whoever comes first in a group speaks for it.
    first = np.empty(groups.max() + 1, dtype=np.int64)
    first[groups[::-1]] = np.arange(len(groups))[::-1]
    labels = codebook_for(records.survey_year)
    described = [
        describe_demographics(record, labels, records.imputed, round_income)
        for record in table.take(pa.array(first)).to_pylist()
    ]
    spoken = answers_of([(one.values[attribute], one.reasons[attribute]) for one in described])
    return Answers(spoken.codes[groups], spoken.distinct)


def people_of_personas(
    rows: Sequence[dict[str, Any]], survey_year: int, columns: frozenset[str] | None = None
) -> People:
    """rows: the table `personas`. columns: of the census file that they were drawn from, where it is known."""
    answers = {
        name: answers_of([(row[name], row["null_reasons"][name]) for row in rows]) for name in binned_attributes()
    }
    imputed = frozenset(name for name in answers if any(row["provenance"][name] == "imputed" for row in rows))
    return People(answers, np.ones(len(rows)), survey_year, columns, imputed)


def answers_of(answers: Sequence[Answer]) -> Answers:
    places: dict[Answer, int] = {}
    codes = np.array([places.setdefault(answer, len(places)) for answer in answers], dtype=np.int64)
    return Answers(codes, list(places))
