"""Code labels per survey year, unknown codes, and the weighted draw."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.census.codebook import codebook_for, null_unknown_codes
from builder.census.draw import draw_records
from builder.census.pums import CensusRecords, read_packaged
from builder.errors import InputError


@pytest.mark.parametrize("year", [2010, 2011, 2012, 2016, 2018, 2019, 2022, 2024, 2026])
def test_every_year_has_readable_labels(year: int) -> None:
    labels = codebook_for(year)
    assert labels["OCCP"][10] == "Chief executives and legislators"
    assert labels["HHL"][4] == "Asian and Pacific Island languages"
    assert labels["POBP"][6] == "California"
    assert labels["RAC1P"][6] == "Asian"
    for column in ("OCCP", "INDP"):
        assert not any(text[:4].isupper() and text[3] == "-" for text in labels[column].values())
        assert not any(
            "*" in text or "n.e.c" in text.lower() or text != text.strip() for text in labels[column].values()
        )


def test_labels_follow_the_coding_of_the_year() -> None:
    assert codebook_for(2011)["MIL"][5] == codebook_for(2012)["MIL"][5] == "Non-Veteran"
    assert codebook_for(2013)["MIL"][4] == codebook_for(2024)["MIL"][4] == "Non-Veteran"
    assert codebook_for(2017)["OCCP"] == codebook_for(2016)["OCCP"] != codebook_for(2018)["OCCP"]
    with pytest.raises(InputError, match="2005"):
        codebook_for(2005)


def table_with(column: str, codes: list[int | None]) -> pa.Table:
    return pa.table({column: pa.array(codes, pa.int32())})


def test_few_unknown_codes_become_null_and_are_counted() -> None:
    table, unknown = null_unknown_codes(table_with("SCHL", [16] * 198 + [99, 98]), 2024)
    assert unknown == {"SCHL": {98: 1, 99: 1}}
    assert table["SCHL"].null_count == 2


def test_many_unknown_codes_stop_the_build() -> None:
    with pytest.raises(InputError, match=r"3 of 100.*SCHL.*2024"):
        null_unknown_codes(table_with("SCHL", [16] * 97 + [99] * 3), 2024)


def test_unreported_ancestry_is_missing_not_unknown() -> None:
    table, unknown = null_unknown_codes(table_with("ANC1P", [32, 999, 0, None]), 2018)
    assert unknown == {}
    assert table["ANC1P"].to_pylist() == [32, None, None, None]


def records_of(ages: list[int], weights: list[int]) -> CensusRecords:
    rows = pa.table(
        {
            "SERIALNO": [str(index) for index in range(len(ages))],
            "AGEP": pa.array(ages, pa.int32()),
            "PWGTP": pa.array(weights, pa.int32()),
        }
    )
    return CensusRecords(rows, 2024, "test.csv", "0" * 64)


@settings(max_examples=60, deadline=None)
@given(
    people=st.lists(st.tuples(st.integers(0, 95), st.integers(1, 500)), min_size=1, max_size=60),
    seed=st.integers(0, 2**32),
    adults_only=st.booleans(),
    data=st.data(),
)
def test_draw_gives_exactly_count_distinct_eligible_rows(
    people: list[tuple[int, int]], seed: int, adults_only: bool, data: st.DataObject
) -> None:
    records = records_of([age for age, _ in people], [weight for _, weight in people])
    eligible = [age for age, _ in people if age >= 18 or not adults_only]
    count = data.draw(st.integers(0, len(people)))
    if count > len(eligible):
        with pytest.raises(InputError, match="asked for"):
            draw_records(records, count, seed, adults_only)
        return
    drawn, left_out = draw_records(records, count, seed, adults_only)
    serials = drawn["SERIALNO"].to_pylist()
    assert len(serials) == len(set(serials)) == count
    assert not adults_only or all(age >= 18 for age in drawn["AGEP"].to_pylist())
    assert count + sum(left_out.values()) == len(people)
    if count:  # a smaller draw is the beginning of the larger one
        smaller, _ = draw_records(records, count - 1, seed, adults_only)
        assert smaller["SERIALNO"].to_pylist() == serials[:-1]


def test_draw_follows_the_weights() -> None:
    """First of each draw over many seeds: a row of weight 9 must come first nine times as often as one of weight 1."""
    records = records_of([30] * 4, [1, 9, 5, 5])
    first = [int(draw_records(records, 1, seed, True)[0]["SERIALNO"][0].as_py()) for seed in range(2_000)]
    shares = np.bincount(first, minlength=4) / len(first)
    assert np.abs(shares - np.array([1, 9, 5, 5]) / 20).max() < 0.035


def test_draw_repeats_and_depends_on_the_seed() -> None:
    records = read_packaged()
    first = draw_records(records, 50, 1, True)[0]["SERIALNO"].to_pylist()
    assert first == draw_records(records, 50, 1, True)[0]["SERIALNO"].to_pylist()
    assert first != draw_records(records, 50, 2, True)[0]["SERIALNO"].to_pylist()


def test_too_few_rows_say_so() -> None:
    with pytest.raises(InputError, match=r"1 adults.*2 personas.*adults_only=false"):
        draw_records(records_of([40, 3], [1, 1]), 2, 0, True)
