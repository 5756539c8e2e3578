"""Bins cover all that the codebooks can say, and records described in groups read as records described one by one."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from builder.census.codebook import codebook_for, packaged_years
from builder.census.pums import CensusRecords, read_packaged
from builder.errors import InputError
from builder.fidelity.bins import MOST_BINS, binned_attributes, binning
from builder.fidelity.people import DEPENDS_ON, people_of_records
from builder.personas.demographics import describe_demographics
from builder.randomness import rng_for

# Codes that never become a value: answers "no", and universes that another column describes.
NEVER_TOLD: dict[str, set[int]] = {
    **{column: {2} for column in ("DIS", "DREM", "DEYE", "DEAR", "FER")},
    **{"COW": {9}, "INDP": {9920}, "OCCP": {9920}, "HISP": {1, 12, 22, 24}, "TYPEHUGQ": {1}},
}


def every_word(attribute: str, year: int) -> set[str]:
    labels = codebook_for(year)
    told = {
        words
        for column in DEPENDS_ON[attribute]
        for code, words in labels.get(column, {}).items()
        if code not in NEVER_TOLD.get(column, ())
    }
    # HHL only says who lives in group quarters where it stands beside the household's type or children, as SEX does beside births.
    beside = {"household_type": ("HHL",), "family_presence_and_age": ("HHT", "HHL"), "fertility": ("SEX",)}
    beside["household_language"] = ("HHT",)
    for column in beside.get(attribute, ()):
        told -= set(labels[column].values())
    return told | ({"Never married"} if attribute == "marital_status" else set())


@pytest.mark.parametrize("attribute", [name for name in binned_attributes() if name not in ("age", "income")])
def test_every_word_of_every_year_falls_in_a_bin(attribute: str) -> None:
    for year in packaged_years():
        bins = binning(attribute, year)
        words = every_word(attribute, year)
        assert words, year
        for word in words:
            assert 0 <= bins.place((word, None)) < len(bins.labels)


@pytest.mark.parametrize("attribute", binned_attributes())
def test_at_most_twelve_bins_each_with_its_own_label(attribute: str) -> None:
    bins = binning(attribute, 2024)
    assert 2 <= len(bins.labels) <= MOST_BINS
    assert len(set(bins.labels)) == len(bins.labels)
    assert all(bins.labels)


def test_numbers_and_nulls_fall_where_they_belong() -> None:
    age, income, birth = binning("age", 2024), binning("income", 2024), binning("fertility", 2024)
    assert [age.labels[age.place((years, None))] for years in (0, 4, 5, 17, 18, 75, 99)] == [
        *("0 to 4", "0 to 4", "5 to 9", "15 to 17", "18 to 24", "75 and older", "75 and older")
    ]
    assert income.labels[income.place((-400, None))] == "Loss"
    assert income.labels[income.place((0, None))] == "None"
    assert income.labels[income.place((149_999, None))] == "$100,000 to $149,999"
    assert income.labels[income.place((None, "not_applicable"))] == "Under 15 years"
    assert birth.labels[birth.place((None, "none"))] == "No"
    assert birth.labels[birth.place((None, "missing"))] == "Not known"


def test_words_that_no_codebook_has_are_refused() -> None:
    with pytest.raises(InputError, match="'Martian', which no codebook of this version says"):
        binning("race", 2024).place(("Martian", None))


def shuffled_records(rows: int) -> CensusRecords:
    """Packaged records whose columns were shuffled one by one, with blanks and the optional columns: combinations that nobody has."""
    packaged = read_packaged()
    start = packaged.table.slice(0, rows)
    rng = rng_for(7, "test", "shuffled")
    columns: dict[str, Any] = {}
    for name in start.column_names:
        column = start[name].combine_chunks().take(pa.array(rng.permutation(rows)))
        if pa.types.is_integer(column.type) and name not in ("AGEP", "PWGTP", "SEX"):
            column = pa.array(column.to_pylist(), pa.int32(), mask=rng.random(rows) < 0.1, from_pandas=True)
        columns[name] = column
    for name, codes in (("HHT2", 12), ("FPARC", 4)):
        columns[name] = pa.array(rng.integers(1, codes + 1, rows), pa.int32(), mask=rng.random(rows) < 0.3)
    return CensusRecords(pa.table(columns), packaged.survey_year, "shuffled", "", imputed=("ANC1P", "POBP"))


@pytest.mark.parametrize("round_income", [True, False])
def test_grouped_description_equals_describing_one_by_one(round_income: bool) -> None:
    records = shuffled_records(4000)
    people = people_of_records(records, adults_only=False, round_income=round_income)
    labels = codebook_for(records.survey_year)
    for row, record in enumerate(records.table.to_pylist()):
        alone = describe_demographics(record, labels, records.imputed, round_income)
        for name, answers in people.answers.items():
            assert answers.distinct[answers.codes[row]] == (alone.values[name], alone.reasons[name]), (name, record)
    assert people.imputed == {"ancestry", "place_of_birth"}


def test_adults_only_and_the_effective_size() -> None:
    records = read_packaged()
    everybody, adults = (people_of_records(records, adults_only, True) for adults_only in (False, True))
    ages = [adults.answers["age"].distinct[code][0] for code in np.unique(adults.answers["age"].codes)]
    assert min(ages) == 18
    assert len(adults) < len(everybody) == records.table.num_rows
    weights = everybody.weights
    assert everybody.effective_size == pytest.approx(weights.sum() ** 2 / (weights**2).sum())
