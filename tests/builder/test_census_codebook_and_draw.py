"""Code labels per survey year, unknown codes, and the weighted draw."""

import json
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.census.codebook import (
    FOLDER,
    codebook_for,
    null_unknown_codes,
    packaged_columns,
    packaged_years,
    survey_year_of_adjinc,
    universe,
)
from builder.census.draw import draw_records
from builder.census.make_codebooks import make_codebooks
from builder.census.pums import CensusRecords, read_packaged
from builder.errors import InputError
from builder.personas.demographics import describe_demographics

YEARS = range(2010, 2025)
# The columns behind the paper's attributes, apart from age and income, which are numbers.
ATTRIBUTE_COLUMNS = {
    *(
        "SEX",
        "RAC1P",
        "ANC1P",
        "HISP",
        "HHL",
        "SCHL",
        "ESR",
        "COW",
        "INDP",
        "OCCP",
        "MAR",
        "HHT",
        "HUPAC",
        "FPARC",
        "POBP",
    ),
    *("CIT", "MIL", "DIS", "HICOV", "DREM", "ENG", "DEYE", "FER", "DEAR"),
}
TABLE_WRITING = re.compile(
    r"[*/&\\]|n\.e\.c|(?<!living )\balone\b|\b(misc|exc|incl|imm|nec|all other|not specified)\b|\s\s|[,.;]$|,\S|(?-i:^[A-Z]{3}-)",
    re.IGNORECASE,
)
# What the Bureau codes otherwise from some year on under the same number.
SAME_NUMBER_OTHER_MEANING = {
    "MIL": {3, 4},
    "OCCP": {810, 3940, 4130, 6220, 6420, 6765, 7100, 7950, 8100, 8330},
    "POBP": {463},
}
AN_ADULT = {
    **{
        "AGEP": 40,
        "SEX": 2,
        "RAC1P": 1,
        "HISP": 1,
        "ANC1P": 32,
        "POBP": 6,
        "SCHL": 21,
        "MAR": 1,
        "CIT": 1,
        "MIL": 4,
        "HICOV": 1,
    },
    **{
        "ESR": 1,
        "COW": 1,
        "INDP": 7860,
        "OCCP": 2310,
        "PINCP": 50_000,
        "HHL": 1,
        "HHT": 1,
        "HUPAC": 2,
        "DIS": 2,
        "ENG": None,
        "FER": 2,
    },
}


@pytest.mark.parametrize("year", [*YEARS, 2026])
def test_every_year_has_readable_labels(year: int) -> None:
    labels = codebook_for(year)
    assert not ATTRIBUTE_COLUMNS - labels.keys()
    assert labels["OCCP"][10] == "Chief executives and legislators"
    assert labels["HHL"][4] == "Asian and Pacific Island languages"
    assert labels["FPARC"][2] == "With related children 5 to 17 years only"
    assert labels["POBP"][6] == "California"
    assert labels["RAC1P"][6] == "Asian"
    for column, words in labels.items():
        assert words
        for text in words.values():
            assert not TABLE_WRITING.search(text), (column, text)
            assert text == text.strip(), (column, text)
            assert text[0].isupper() or text[0].isdigit(), (column, text)
            assert text == "USSR" or not text.isupper(), (column, text)


def test_the_same_code_has_the_same_words_in_all_years_where_it_means_the_same() -> None:
    for earlier, later in pairwise(codebook_for(year) for year in YEARS):
        for column in earlier.keys() & later.keys():
            for code in earlier[column].keys() & later[column].keys() - SAME_NUMBER_OTHER_MEANING.get(column, set()):
                assert earlier[column][code] == later[column][code]


def test_each_coding_begins_in_its_year() -> None:
    def begins(column: str) -> list[int]:
        books = {year: codebook_for(year).get(column) for year in (2009 + n for n in range(1, 18))}
        return [year for year in books if year > 2010 and books[year] != books[year - 1]]

    assert begins("MIL") == [2013]
    assert begins("OCCP") == [2012, 2018]
    assert begins("INDP") == [2013, 2018, 2023]
    assert begins("POBP") == [2017]
    assert begins("RELSHIPP") == begins("HHT2") == [2019]
    changing = {"MIL", "OCCP", "INDP", "POBP", "RELSHIPP", "HHT2"}
    assert not any(begins(column) for column in codebook_for(2024).keys() - changing)

    assert (codebook_for(2012)["MIL"][5], codebook_for(2013)["MIL"][4]) == ("Non-Veteran", "Non-Veteran")
    assert (codebook_for(2016)["POBP"][463], codebook_for(2017)["POBP"][463]) == ("Eastern Africa", "South Sudan")
    assert (codebook_for(2018)["RELSHIPP"][0], codebook_for(2019)["RELSHIPP"][20]) == (
        "Reference person",
        "Reference person",
    )
    assert (codebook_for(2022)["INDP"][5180], codebook_for(2023)["INDP"][5181]) == ("Shoe stores", "Shoe retailers")
    with pytest.raises(InputError, match="2005 is before 2010"):
        codebook_for(2005)


def test_every_coding_is_used_and_every_year_names_its_source() -> None:
    for column, described in packaged_columns().items():
        used = {facts["codings"].get(column, "every year") for facts in packaged_years().values()}
        assert described["codings"].keys() <= used
        assert described["universe"]
        assert described["source"]
    assert list(packaged_years()) == list(YEARS)
    assert all(facts["source"] for facts in packaged_years().values())
    assert [packaged_years()[year]["names"] for year in (2022, 2024)] == [{"STATE": "ST"}, {}]


def test_adjinc_names_the_year() -> None:
    assert packaged_years()[2022]["adjinc"] == 1_042_311
    for year, facts in packaged_years().items():
        assert survey_year_of_adjinc([facts["adjinc"]]) == year
        five = facts["adjinc_five_years"]
        if five is not None:
            assert survey_year_of_adjinc([*five, None]) == survey_year_of_adjinc(five[:2]) == year
            # Adjusted to the dollars of the last year, whose own factor stays as it is.
            assert (len(five), five[-1]) == (5, facts["adjinc"])
            assert five == sorted(five, reverse=True)
    assert survey_year_of_adjinc([1_042_311, 1_015_250]) is None
    assert survey_year_of_adjinc([1]) is survey_year_of_adjinc([]) is survey_year_of_adjinc([None]) is None


def test_universe_says_who_is_asked() -> None:
    assert universe("MIL", 2017) == "persons 17 years and over"
    assert universe("FER", 2024) == "women 15 to 50 years old"
    assert universe("SEX", 2010) == "all persons"
    with pytest.raises(InputError, match=r"HHT2 has no codes in survey year 2018.*HHT,"):
        universe("HHT2", 2018)


def table_with(column: str, codes: list[int | None]) -> pa.Table:
    return pa.table({column: pa.array(codes, pa.int32())})


def test_few_unknown_codes_become_null_and_are_counted() -> None:
    table, unknown = null_unknown_codes(table_with("SCHL", [16] * 197 + [99, 98, None]), 2024)
    assert unknown == {"SCHL": {98: 1, 99: 1}}
    assert table["SCHL"].to_pylist() == [16] * 197 + [None] * 3


def test_a_column_without_codes_in_that_year_is_left_alone() -> None:
    table, unknown = null_unknown_codes(table_with("HHT2", [1, 77]), 2018)
    assert (table["HHT2"].to_pylist(), unknown) == ([1, 77], {})


def test_many_unknown_codes_stop_the_build() -> None:
    with pytest.raises(InputError, match=r"3 of 100.*SCHL.*2024.*\(99\).*another year or has been recoded"):
        null_unknown_codes(table_with("SCHL", [16] * 97 + [99] * 3), 2024)


@pytest.mark.parametrize(
    ("column", "codes", "year", "hint"),
    [
        ("MIL", [5, 4, 1], 2016, "those of 2010-2012"),
        ("OCCP", [1021, 10], 2017, "those of 2018-2024"),
        ("INDP", [5180, 5090], 2024, "those of 2010-2022"),
        ("RELSHIPP", [0, 1, 2], 2019, "those of 2010-2018"),
        ("OCCP", [0, 1021], 2018, "OCCP is blank outside its universe .persons 16 years and over, except"),
        ("HHT2", [-9, 1], 2020, "-9 is no code"),
    ],
)
def test_a_refusal_says_whose_codes_they_are(column: str, codes: list[int | None], year: int, hint: str) -> None:
    with pytest.raises(InputError, match=hint):
        null_unknown_codes(table_with(column, codes), year)


def test_unreported_ancestry_is_missing_not_unknown() -> None:
    table, unknown = null_unknown_codes(table_with("ANC1P", [32, 999, 0, None]), 2018)
    assert unknown == {}
    assert table["ANC1P"].to_pylist() == [32, None, None, None]


@pytest.mark.parametrize("year", [*YEARS, 2025])
def test_household_words_of_every_year(year: int) -> None:
    labels = codebook_for(year)

    def household(record: dict[str, int | None]) -> tuple[str | None, str | None]:
        values = describe_demographics(AN_ADULT | record, labels, (), round_income=False).values
        return values["household_type"], values["family_presence_and_age"]

    assert household({}) == ("Married couple household", "With children 6 to 17 years only")
    finer, family = household({"HHT2": 1, "FPARC": 2})
    assert family == "With related children 5 to 17 years only"
    with_children = "Married couple household with children of the householder less than 18"
    assert finer == (with_children if year >= 2019 else "Married couple household")
    # FPARC is blank in a household that is no family.
    assert household({"HHT": 6, "HHT2": 5, "FPARC": None, "HUPAC": 4})[1] == "No children"
    assert household({"HHT2": None, "FPARC": None}) == household({})


@settings(max_examples=60, deadline=None)
@given(year=st.integers(2017, 2026), data=st.data())
def test_every_code_of_the_year_becomes_words(year: int, data: st.DataObject) -> None:
    labels = codebook_for(year)
    columns = data.draw(st.sets(st.sampled_from(sorted(ATTRIBUTE_COLUMNS | {"HHT2"} - {"SEX"}))))
    answers = {c: data.draw(st.sampled_from(sorted(labels[c])), label=c) for c in columns if c in labels}
    attributes = describe_demographics(AN_ADULT | answers, labels, (), round_income=True)
    for attribute, column in (
        *(
            ("race", "RAC1P"),
            ("ancestry", "ANC1P"),
            ("education", "SCHL"),
            ("veteran_status", "MIL"),
            ("citizenship", "CIT"),
        ),
        *(
            ("place_of_birth", "POBP"),
            ("household_language", "HHL"),
            ("employment_status", "ESR"),
            ("health_insurance", "HICOV"),
        ),
    ):
        assert attributes.values[attribute] == labels[column][(AN_ADULT | answers)[column]]
    for attribute in ("household_type", "family_presence_and_age", "marital_status"):
        assert attributes.values[attribute]


@pytest.mark.shared_data
def test_the_committed_words_are_those_of_the_dictionaries(shared_data: Path) -> None:
    newest = shared_data / "pums/data_dictionary.json"
    others = shared_data / "pums/data_dictionary_other_years.json"
    for name, content in make_codebooks(newest, others).items():
        assert (FOLDER / name).read_text(encoding="utf-8") == json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    dictionaries = json.loads(others.read_text(encoding="utf-8")) | {
        "2024": json.loads(newest.read_text(encoding="utf-8"))
    }
    for year, dictionary in dictionaries.items():
        facts = packaged_years()[int(year)]
        assert [int(factor) for factor in dictionary["ADJINC"]["values"]] == [facts["adjinc"]]
        assert all((facts["names"].get(column, column) in dictionary) for column in ("STATE", "RELSHIPP", "TYPEHUGQ"))
        # Every code that the dictionary has is known in its year, and blank exactly where the universe is not everybody.
        for column in codebook_for(int(year)).keys() - {"FPARC"}:
            codes = dictionary[facts["names"].get(column, column)]["values"]
            numbers = {int(code) for code in codes if code.isdigit()}
            assert numbers <= codebook_for(int(year))[column].keys() | packaged_columns()[column]["missing"].keys()
            assert any(set(code) == {"b"} for code in codes) == (universe(column, int(year)) != "all persons"), column


@pytest.mark.shared_data
def test_real_files_have_no_unknown_code(shared_data: Path) -> None:
    folder = shared_data / "pums"
    donors = pq.read_table(folder / "donors_anc1p_pobp.parquet")
    files = {
        "2011": (2011, pq.read_table(folder / "national_2011_joined.parquet")),
        "2018": (2018, pacsv.read_csv(folder / "state_56_2018_full.csv.gz")),
        "2024": (2024, pq.read_table(folder / "persons_2024.parquet")),
        "2024 CA, TX": (2024, pq.read_table(folder / "persons_2024_CA_TX_partial.parquet")),
        **{
            f"donors {year}": (year, donors.filter(pc.equal(donors["YEAR"], year))) for year in (2011, 2015, 2016, 2018)
        },
    }
    for name, (year, table) in files.items():
        modern = {old: new for new, old in packaged_years()[year]["names"].items()} | {"HUPAC_DERIVED": "HUPAC"}
        table = table.rename_columns([modern.get(column, column) for column in table.column_names])
        coded = table.select([column for column in table.column_names if column in codebook_for(year)])
        assert min(coded.num_rows / 1_000, coded.num_columns / 9) >= 1, name
        coded = coded.cast(pa.schema([(column, pa.int32()) for column in coded.column_names]))
        assert null_unknown_codes(coded, year)[1] == {}, name


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
