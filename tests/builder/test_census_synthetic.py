"""The packaged synthetic records, the script that made them, and the imputation that draws on them."""

import itertools
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from builder.census import make_synthetic as making
from builder.census.codebook import codebook_for, null_unknown_codes
from builder.census.make_synthetic import NONE, Step
from builder.census.pums import PACKAGED_RECORDS, PERSON_COLUMNS, CensusRecords, read_packaged
from builder.personas import imputation
from builder.personas.imputation import Imputed, impute_origin
from builder.randomness import rng_for

IN_HOUSEHOLD = ["HHT", "HUPAC", "HHL", "HHT2"]
AT_WORK = (1, 2, 4, 5)  # ESR
LIMIT = 2_000_000  # bytes of the packaged file


@pytest.fixture(scope="module")
def people() -> pd.DataFrame:
    return read_packaged().table.to_pandas()


# --- the file


def test_the_file_is_small_and_has_a_hundred_thousand_adults(people: pd.DataFrame) -> None:
    assert PACKAGED_RECORDS.stat().st_size < LIMIT
    assert (people.AGEP >= 18).sum() >= 100_000
    assert set(PERSON_COLUMNS) | set(IN_HOUSEHOLD) | {"FPARC", "ANC1P", "POBP", "ENG", "STATE"} <= set(people.columns)
    assert people.PWGTP.nunique() == 1
    assert people.PWGTP.sum() == pytest.approx(making.POPULATION, rel=0.001)


def test_no_serial_number_is_one_of_the_bureau(people: pd.DataFrame) -> None:
    """The Bureau's begin with a year, or are numbers; here one follows the other, and nobody shares one."""
    assert people.SERIALNO.str.fullmatch(r"SYN\d{7}").all()
    assert people.SERIALNO.is_unique


def test_the_file_says_what_is_imputed_and_what_is_modelled() -> None:
    metadata = pq.read_schema(PACKAGED_RECORDS).metadata
    assert metadata[b"imputed_columns"] == b"ANC1P,POBP"
    assert metadata[b"modelled_on_2011"] == b"HHT2,FPARC"
    assert b"pandas" not in metadata


def test_every_code_has_words() -> None:
    records = read_packaged()
    table, unknown = null_unknown_codes(records.table, records.survey_year)
    assert unknown == {}
    assert table["ANC1P"].null_count == table["POBP"].null_count == 0


@pytest.mark.parametrize(
    ("columns", "asked"),
    [
        (["SCHL"], lambda p: p.AGEP >= 3),
        (["DREM"], lambda p: p.AGEP >= 5),
        (["PINCP"], lambda p: p.AGEP >= 15),
        (["ESR"], lambda p: p.AGEP >= 16),
        (["MIL"], lambda p: p.AGEP >= 17),
        (["FER"], lambda p: (p.SEX == 2) & p.AGEP.between(15, 50)),
        (IN_HOUSEHOLD, lambda p: p.TYPEHUGQ == 1),
        (["FPARC"], lambda p: p.HHT.isin([1, 2, 3])),
        (["MAR", "CIT", "DIS", "DEAR", "DEYE", "HICOV", "RAC1P", "HISP", "STATE", "NATIVITY"], lambda p: p.AGEP >= 0),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, list) else "",
)
def test_who_is_asked_has_an_answer_and_nobody_else(people: pd.DataFrame, columns: list[str], asked) -> None:
    for column in columns:
        assert (people[column].notna() == asked(people)).all(), column


IMPOSSIBLE = {
    "a job under 16": lambda p: (p.AGEP < 16) & p[["ESR", "COW", "OCCP", "INDP"]].notna().any(axis=1),
    "employed without an occupation": lambda p: p.ESR.isin(AT_WORK) & ~p.OCCP.between(1, 9919),
    "occupation, industry and class of worker not blank together": lambda p: (
        p[["OCCP", "INDP", "COW"]].notna().sum(axis=1).isin([1, 2])
    ),
    "never worked by one column and not by another": lambda p: (
        ((p.COW == 9) != (p.OCCP == 9920)) | ((p.COW == 9) != (p.INDP == 9920))
    ),
    "a soldier who never served": lambda p: p.ESR.isin([4, 5]) & (p.MIL == 4),
    "a civilian at work in the military's industry": lambda p: p.ESR.isin([1, 2]) & p.INDP.between(9670, 9870),
    "never served, and last worked for the military": lambda p: (p.MIL == 4) & p.INDP.between(9670, 9870),
    "public administration by a private employer": lambda p: p.INDP.between(9370, 9590) & p.COW.isin([1, 6, 7, 8]),
    "in the labor force in an institution": lambda p: (p.TYPEHUGQ == 2) & p.ESR.isin([1, 2, 3, 4, 5]),
    "married under 15": lambda p: (p.AGEP < 15) & (p.MAR != 5),
    "a bachelor's degree under 17": lambda p: (p.SCHL >= 21) & (p.AGEP < 17),
    "a doctorate under 20": lambda p: (p.SCHL >= 23) & (p.AGEP < 20),
    "college under 15": lambda p: (p.SCHL >= 18) & (p.AGEP < 15),
    "alone with children": lambda p: p.HHT.isin([4, 6]) & (p.HUPAC != 4),
    "alone under 15": lambda p: p.HHT.isin([4, 6]) & (p.AGEP < 15),
    "a woman as man living alone": lambda p: ((p.HHT == 4) & (p.SEX == 2)) | ((p.HHT == 6) & (p.SEX == 1)),
    "a child in a household without children": lambda p: (p.AGEP < 15) & (p.HUPAC == 4),
    "a child under 6 where all are older": lambda p: (p.AGEP < 6) & (p.HUPAC == 2),
    "a child of 6 to 14 where all are younger": lambda p: p.AGEP.between(6, 14) & (p.HUPAC == 1),
    "another language in a household of English only": lambda p: (p.HHL == 1) & p.ENG.notna(),
    "alone in a household whose language one does not speak": lambda p: (
        p.HHT.isin([4, 6]) & (p.HHL > 1) & p.ENG.isna() & (p.AGEP >= 5)
    ),
    "English asked under 5": lambda p: (p.AGEP < 5) & p.ENG.notna(),
    "a difficulty without disability": lambda p: (p.DIS == 2) & ((p.DREM == 1) | (p.DEAR == 1) | (p.DEYE == 1)),
    "native and naturalized": lambda p: (p.NATIVITY == 2) != p.CIT.isin([4, 5]),
    "born in a state, and no citizen by that": lambda p: (p.POBP < 60) != (p.CIT == 1),
    "born in an island area, and no citizen by that": lambda p: p.POBP.between(60, 99) != (p.CIT == 2),
    "married couple by HHT and not by HHT2": lambda p: (p.HHT == 1) != p.HHT2.isin([1, 2]),
    "alone by HHT and not by HHT2": lambda p: ((p.HHT == 6) != (p.HHT2 == 5)) | ((p.HHT == 4) != (p.HHT2 == 9)),
    "the householder's sex by HHT is not that of HHT2": lambda p: (
        (p.HHT2.isin([6, 7, 8]) & ~p.HHT.isin([3, 7])) | (p.HHT2.isin([10, 11, 12]) & ~p.HHT.isin([2, 5]))
    ),
    "no family by HHT, relatives by HHT2": lambda p: p.HHT.isin([5, 7]) & ~p.HHT2.isin([4, 8, 12]),
    "own children without children": lambda p: p.HHT2.isin([1, 3, 6, 10]) & (p.HUPAC == 4),
    "own children without related children": lambda p: p.HHT2.isin([1, 3, 6, 10]) & (p.FPARC == 4),
    "related children where there are none": lambda p: p.FPARC.notna() & ((p.HUPAC == 4) != (p.FPARC == 4)),
    "related children under 5 where all are over 5": lambda p: (p.HUPAC == 2) & p.FPARC.isin([1, 3]),
    "no related child over 5 where one is": lambda p: (p.HUPAC == 3) & (p.FPARC == 1),
    "a child under 5 who is not counted": lambda p: (p.AGEP < 5) & (p.FPARC == 2),
    "a child of 5 to 14 who is not counted": lambda p: p.AGEP.between(5, 14) & (p.FPARC == 1),
}


@pytest.mark.parametrize("broken", IMPOSSIBLE.values(), ids=IMPOSSIBLE.keys())
def test_nobody_is_impossible(people: pd.DataFrame, broken) -> None:
    assert broken(people).sum() == 0


# Unlikely, and in the real file too: per 100,000 persons of ACS PUMS 2024 (48 states and DC, by PWGTP).
UNLIKELY = {
    "married, living alone": (427, lambda p: p.HHT.isin([4, 6]) & (p.MAR == 1)),
    "married, separated, divorced or widowed at 15 to 17": (35, lambda p: p.AGEP.between(15, 17) & (p.MAR != 5)),
    "a birth last year, no child under 6": (157, lambda p: (p.FER == 1) & p.HUPAC.isin([2, 4])),
    "a mother under 18": (8, lambda p: (p.FER == 1) & (p.AGEP < 18)),
    "a veteran under 20": (6, lambda p: (p.MIL == 2) & (p.AGEP < 20)),
    "a doctorate or professional degree under 24": (11, lambda p: (p.SCHL >= 23) & (p.AGEP < 24)),
    "at work at 90 or older": (12, lambda p: (p.AGEP >= 90) & p.ESR.isin([1, 2])),
    "65 or older without insurance": (129, lambda p: (p.AGEP >= 65) & (p.HICOV == 2)),
    "at work without income": (24, lambda p: p.ESR.isin([1, 4]) & (p.PINCP <= 0) & (p.COW != 8)),
    "a loss on wages": (20, lambda p: (p.PINCP < 0) & p.COW.between(1, 5)),
    "a physician or lawyer without a master's degree": (
        39,
        lambda p: p.OCCP.isin([2100, 3090, 3100, 3010]) & (p.SCHL < 22),
    ),
    "a minor with more than 50,000 dollars": (2.3, lambda p: (p.AGEP < 18) & (p.PINCP > 50_000)),
}


@pytest.mark.parametrize(("real", "unlikely"), UNLIKELY.values(), ids=UNLIKELY.keys())
def test_the_unlikely_is_no_more_common_than_it_is(people: pd.DataFrame, real: float, unlikely) -> None:
    expected = real * len(people) / 100_000
    # Three standard deviations of the count, and of that in the real sample of about the same size.
    assert unlikely(people).sum() <= expected + 3 * np.sqrt(2 * expected) + 1


def test_national_shares(people: pd.DataFrame) -> None:
    """ACS PUMS 2024, all states, by PWGTP; cohabiting and born-in-state shares only roughly, for they come from other years."""
    housed, natives, adults = people[people.TYPEHUGQ == 1], people[people.CIT == 1], people[people.AGEP >= 18]
    shares = {
        "hispanic": ((people.HISP > 1).mean(), 0.1999, 0.003),
        "Asian": ((people.RAC1P == 6).mean(), 0.0625, 0.003),
        "in California": ((people.STATE == 6).mean(), 0.1159, 0.003),
        "disabled adults": ((adults.DIS == 1).mean(), 0.1652, 0.003),
        "in married couples' households": ((housed.HHT == 1).mean(), 0.5954, 0.003),
        "in cohabiting couples' households": (housed.HHT2.isin([3, 4]).mean(), 0.07, 0.015),
        "natives in the state of their birth": ((natives.POBP == natives.STATE).mean(), 0.67, 0.04),
    }
    for name, (found, wanted, tolerance) in shares.items():
        assert found == pytest.approx(wanted, abs=tolerance), name


# --- beside the real records


@pytest.fixture(scope="module")
def synthetic(people: pd.DataFrame) -> pd.DataFrame:
    """The packaged records as the script has them: blanks are -1."""
    return making.with_derived(people.drop(columns="SERIALNO").astype("float64").fillna(NONE))


@pytest.fixture(scope="module")
def real(shared_data: Path) -> pd.DataFrame:
    pums = shared_data / "pums"
    return making.read_real(pums / "persons_2024.parquet", pums / "persons_2024_CA_TX_partial.parquet")


@pytest.mark.shared_data
def test_marginals_are_the_published_ones(shared_data: Path, synthetic: pd.DataFrame) -> None:
    marginals = json.loads((shared_data / "pums" / "marginals_2024.json").read_text(encoding="utf-8"))["us_all51"]
    assert len(marginals) > 20
    for name in marginals:
        keys, shares = making.published(synthetic, marginals, name)
        counts = keys.value_counts().reindex(list(shares)).fillna(0)
        found, noise = making.distance(np.array(list(shares.values())), counts, rng_for(0, "test", name))
        assert found - noise < 0.005, name


@pytest.mark.shared_data
def test_marginals_of_the_complete_states(synthetic: pd.DataFrame, real: pd.DataFrame) -> None:
    there = real[real.complete]
    here = synthetic[synthetic.STATE.isin(there.STATE.unique())]
    for youngest in (0, 18):
        wanted, sample = (part[part["AGEP"] >= youngest] for part in (there, here))
        for column in making.SHARED_COLUMNS:
            codes, ours, size = making.binned(column, wanted, sample)
            found, noise = making.distance(
                np.bincount(codes, wanted.PWGTP, size), np.bincount(ours, minlength=size), rng_for(0, "test", column)
            )
            assert found - noise < 0.015, (column, youngest)


@pytest.mark.shared_data
def test_pairs_of_the_complete_states(synthetic: pd.DataFrame, real: pd.DataFrame) -> None:
    there = real[real.complete]
    here = synthetic[synthetic.STATE.isin(there.STATE.unique())]
    bins = {column: making.binned(column, there, here) for column in making.SHARED_COLUMNS}
    rng = rng_for(0, "test", "pairs")
    excess = []
    for (a, b, size), (c, d, width) in itertools.combinations(bins.values(), 2):
        cells = size * width
        wanted, counts = np.bincount(a * width + c, there.PWGTP, cells), np.bincount(b * width + d, minlength=cells)
        found, noise = making.distance(wanted, counts, rng, draws=2)
        excess.append(found - noise)
    assert np.mean(excess) < 0.01
    assert max(excess) < 0.05


@pytest.mark.shared_data
def test_respondents_are_met_no_more_often_than_by_chance(synthetic: pd.DataFrame, real: pd.DataFrame) -> None:
    there = real[real.complete]
    here = synthetic[synthetic.STATE.isin(there.STATE.unique())]
    half = rng_for(0, "test", "halves").random(len(there)) < 0.5
    for chosen in (lambda f: f.AGEP >= 0, lambda f: f.AGEP >= 18, lambda f: f.works == 1):
        known, others, ours = (part[chosen(part)] for part in (there[half], there[~half], here))
        first, *parts = making.row_hashes([known, others, ours])
        by_chance, found = making.equal_rows(first, parts, left_out=0)
        chance = np.average(by_chance, weights=others.PWGTP)
        # Three standard deviations of the estimated chance.
        assert found.mean() <= chance + 3 * np.sqrt(chance / len(others))


# --- the script


def small_world(rows: int = 400) -> pd.DataFrame:
    rng = rng_for(0, "test", "world")
    frame = pd.DataFrame({"AGEP": rng.integers(18, 80, rows).astype(float), "COW": rng.integers(1, 4, rows)})
    # The answer depends on the age within a class of worker, and never leaves the class's own decade.
    frame["SCHL"] = frame["COW"] * 10.0 + (frame["AGEP"] > 40)
    frame["weight"] = 1.0
    return frame


def test_strata_are_never_mixed_and_trees_follow_their_features() -> None:
    real, wanted = small_world(), small_world()[["AGEP", "COW"]]
    step = Step("SCHL", ("AGEP",), ("COW",), leaf=20)
    drawn = making.draw_column(step, real, wanted, rng_for(1, "test", "draw"))
    assert (drawn // 10 == wanted.COW).all()
    far = (wanted.AGEP < 30) | (wanted.AGEP > 50)
    assert ((drawn % 10) == (wanted.AGEP > 40))[far].mean() > 0.97
    assert (drawn == making.draw_column(step, real, wanted, rng_for(1, "test", "draw"))).all()


def test_a_stratum_without_a_real_person_gives_up_its_last_column() -> None:
    real = small_world()
    wanted = real[["AGEP", "COW"]].assign(works=7)
    drawn = making.draw_column(
        Step("SCHL", ("AGEP",), ("COW", "works")), real.assign(works=0), wanted, rng_for(1, "t", "d")
    )
    assert (drawn // 10 == wanted.COW).all()


def test_who_is_not_asked_stays_blank() -> None:
    real = small_world()
    wanted = real[["AGEP", "COW"]].assign(AGEP=np.where(np.arange(len(real)) < 50, 2.0, 30.0))
    drawn = making.draw_column(Step("SCHL", ("AGEP",)), real, wanted, rng_for(1, "t", "d"))
    assert (drawn[:50] == NONE).all()
    assert (drawn[50:] != NONE).all()


def test_drawing_by_weight_keeps_the_shares_and_mixes_the_order() -> None:
    drawn = making.draw_by_weight(np.array([1, 2, 3]), np.array([1.0, 2.0, 7.0]), 1000, rng_for(1, "t", "d"))
    assert np.bincount(drawn)[1:] == pytest.approx([100, 200, 700], abs=1)
    assert (np.diff(drawn) != 0).sum() > 300


def test_raking_reaches_the_marginals() -> None:
    real = pd.DataFrame({"AGEP": [20, 20, 70, 70], "SEX": [1, 2, 1, 2], "CIT": [1, 1, 1, 5], "PWGTP": [1, 1, 1, 1]})
    marginals = {
        "SEX__all": {"values": {"1": {"share": 0.3}, "2": {"share": 0.7}}},
        "CIT__18plus": {"values": {"1": {"share": 0.9}, "5": {"share": 0.1}}},
    }
    weight = making.rake(real, marginals, names=tuple(marginals))
    assert weight[real.SEX == 2].sum() / weight.sum() == pytest.approx(0.7)
    assert weight[real.CIT == 5].sum() / weight.sum() == pytest.approx(0.1)


def test_perturbed_incomes_stay_incomes() -> None:
    values = np.array([0.0, NONE, 50_000, 47_300, -3_000, 20, 1_234_000] * 200)
    noisy = making.perturb_income(values, rng_for(1, "t", "d"))
    untouched = (values == 0) | (values == NONE)
    assert (noisy[untouched] == values[untouched]).all()
    assert (np.sign(noisy) == np.sign(values)).all()
    assert not np.isin(noisy[~untouched], [0, NONE]).any()
    assert (noisy[values == 50_000] % 10_000 == 0).all()
    assert (noisy[values == 47_300] == 47_300).mean() < 0.1
    assert np.abs(noisy[values == 1_234_000] / 1_234_000 - 1).mean() == pytest.approx(0.08 * 0.8, abs=0.02)


HOUSEHOLDS_2011 = pd.DataFrame(
    [
        # SERIALNO, SPORDER, RELP, PARTNER, AGEP, SEX, HHT, HUPAC, HUPARC
        (1, 1, 0, 0, 40, 1, 1, 2, 2),  # a couple with a son of 5 to 17
        (1, 2, 1, 0, 39, 2, 1, 2, 2),
        (1, 3, 2, 0, 9, 1, 1, 2, 2),
        (2, 1, 0, 0, 60, 2, 1, 3, 3),  # a couple with grandchildren of 2 and 7
        (2, 2, 1, 0, 61, 1, 1, 3, 3),
        (2, 3, 7, 0, 2, 1, 1, 3, 3),
        (2, 4, 7, 0, 7, 1, 1, 3, 3),
        (3, 1, 0, 4, 30, 2, 3, 1, 1),  # a cohabiting couple with her baby
        (3, 2, 13, 4, 31, 1, 3, 1, 1),
        (3, 3, 2, 4, 0, 2, 3, 1, 1),
        (4, 1, 0, 2, 30, 1, 5, 2, 4),  # a cohabiting couple with the partner's child, no relative of his
        (4, 2, 13, 2, 31, 2, 5, 2, 4),
        (4, 3, 15, 2, 8, 2, 5, 2, 4),
        (5, 1, 0, 0, 80, 2, 6, 4, 4),  # alone
        (6, 1, 0, 0, 50, 1, 2, 4, 4),  # a man with his grown daughter
        (6, 2, 2, 0, 22, 2, 2, 4, 4),
        (7, 1, 0, 0, 25, 2, 7, 4, 4),  # flatmates
        (7, 2, 12, 0, 26, 2, 7, 4, 4),
        (8, 1, 0, 0, 33, 2, 3, 1, 1),  # a mother with a child of five
        (8, 2, 2, 0, 5, 2, 3, 1, 1),
        (9, 1, 0, 0, 33, 2, 3, 3, 1),  # a mother with her baby and a foster child: FPARC is left out
        (9, 2, 2, 0, 1, 2, 3, 3, 1),
        (9, 3, 14, 0, 9, 2, 3, 3, 1),
        (10, 1, 16, None, 33, 2, None, None, None),  # group quarters
    ],
    columns=["SERIALNO", "SPORDER", "RELP", "PARTNER", "AGEP", "SEX", "HHT", "HUPAC", "HUPARC"],
).assign(PWGTP=1, WGTP=1, MAR=5, HISP=1, RAC1P=1, TYPE=1)


def test_household_types_by_the_definitions_of_2024() -> None:
    persons = making.households_with_types(HOUSEHOLDS_2011)
    first = persons.groupby("SERIALNO").first()
    assert first.HHT2.tolist() == [1, 2, 3, 4, 5, 11, 8, 6, 6, NONE]
    assert first.FPARC.drop(9).tolist() == [2, 3, 1, NONE, NONE, 4, NONE, 2, NONE]
    assert np.isnan(persons.loc[persons.SERIALNO == 9, "FPARC"]).all()
    assert (persons.groupby("SERIALNO").HHT2.nunique() == 1).all()


def test_cohabiting_households_are_raised_to_their_published_share() -> None:
    # Of 100 households without a married couple, 2 cohabit; in 2024 all households are of this kind.
    persons = pd.DataFrame({"SPORDER": 1, "HHT": 5, "WGTP": 1, "PARTNER": np.arange(100) < 2})
    factor = making.cohabiting_factor(persons, pd.DataFrame({"HHT": [5, NONE], "WGTP": 1, "NP": [2, 1]}))
    odds = 0.02 / 0.98 * factor
    assert odds / (1 + odds) == pytest.approx(making.COHABITING_HOUSEHOLDS)


def test_languages_fall_into_the_groups_of_hhl() -> None:
    donors = pd.DataFrame({"LANP": [625, 1200, 620, 1170, 728, 1960, 777, 4500, NONE], "ENG": [1] * 8 + [NONE]})
    assert making.language_group(donors).tolist() == [2, 2, 3, 3, 4, 4, 5, 5, 1]


def test_rows_that_are_nearly_equal_are_found() -> None:
    def person(**other: float) -> dict[str, float]:
        return dict.fromkeys(making.SHARED_COLUMNS, 1.0) | other

    known = pd.DataFrame([person(), person(AGEP=50, SEX=2, MAR=3, ESR=6)])
    rows = pd.DataFrame([person(), person(AGEP=9), person(AGEP=9, SEX=9), person(AGEP=9, SEX=9, MAR=9)])
    first, second = making.row_hashes([known, rows])
    assert making.equal_rows(first, [second], left_out=0)[0].tolist() == [True, False, False, False]
    assert making.equal_rows(first, [second], left_out=2)[0].tolist() == [True, True, True, False]


# --- imputation


def donor(**other: int | None) -> dict[str, int | None]:
    plain = {"AGEP": 40, "CIT": 1, "RAC1P": 1, "HISP": 1, "HHL": 1, "STATE": 36, "ANC1P": 51, "POBP": 36}
    return plain | other


@pytest.fixture
def donors(monkeypatch: pytest.MonkeyPatch):
    """Imputation from the donors of the test's choice."""

    def use(rows: list[dict[str, int | None]]) -> None:
        records = CensusRecords(pa.Table.from_pylist(rows), 2024, "test", "")
        monkeypatch.setattr(imputation, "read_packaged", lambda: records)
        imputation.packaged_donors.cache_clear()

    yield use
    imputation.packaged_donors.cache_clear()


def imputed(record: dict[str, int | None], times: int = 40) -> set[tuple[str | None, str | None]]:
    found = [impute_origin(record, rng_for(1, "test", str(number))) for number in range(times)]
    return {(one.ancestry, one.place_of_birth) for one in found}


def test_five_donors_of_the_same_state_are_enough_and_four_are_not(donors) -> None:
    elsewhere = [donor(STATE=6, ANC1P=26, POBP=17)] * 20
    donors([donor()] * 5 + elsewhere)
    assert imputed(donor()) == {("Italian", "New York")}
    donors([donor()] * 4 + elsewhere)
    assert imputed(donor()) == {("Italian", "New York"), ("French", "Illinois")}


def test_what_is_shared_is_given_up_from_the_right(donors) -> None:
    # Band, language, origin and race differ from the person's in turn; the five that share most are the donors.
    same_race = [donor(HISP=2, ANC1P=210, POBP=48)] * 5
    other_race = [donor(RAC1P=8, HISP=2, ANC1P=221, POBP=12)] * 50
    not_hispanic = [donor(ANC1P=51, POBP=36)] * 50
    donors(same_race + other_race + not_hispanic)
    assert imputed(donor(HISP=3, STATE=6)) == {("Mexican", "Texas")}
    donors(same_race[:4] + other_race + not_hispanic)
    assert ("Italian", "New York") not in imputed(donor(HISP=3, STATE=6))


def test_both_values_come_from_one_donor(donors) -> None:
    pairs = [(51, 36), (26, 17), (32, 42), (21, 26), (88, 25)]
    donors([donor(ANC1P=ancestry, POBP=place, STATE=6) for ancestry, place in pairs])
    labels = codebook_for(2024)
    wanted = {(labels["ANC1P"][ancestry], labels["POBP"][place]) for ancestry, place in pairs}
    assert imputed(donor(STATE=6), times=200) == wanted


def test_born_where_they_live_carries_over(donors) -> None:
    donors([donor()] * 5)  # born in New York, where they live
    assert imputed(donor(STATE=56)) == {("Italian", "Wyoming")}
    assert imputed(donor(STATE=None)) == {("Italian", "New York")}
    donors([donor(POBP=42)] * 5)
    assert imputed(donor(STATE=56)) == {("Italian", "Pennsylvania")}


def test_what_is_not_known_is_not_matched(donors) -> None:
    donors([donor()] * 20 + [donor(CIT=5, POBP=303, ANC1P=210, HISP=2, HHL=2)])
    assert imputed(donor(RAC1P=None)) == imputed(donor(HISP=None)) == {("Italian", "New York")}
    # One donor is enough where nobody else has the citizenship, and none is too few.
    assert imputed(donor(CIT=5)) == {("Mexican", "Mexico")}
    assert impute_origin(donor(CIT=4), rng_for(1, "test", "x")) == Imputed(None, None)
    assert impute_origin(donor(CIT=None), rng_for(1, "test", "x")) == Imputed(None, None)


def test_blank_household_language_matches_blanks(donors) -> None:
    donors([donor()] * 50 + [donor(HHL=None, ANC1P=26, POBP=17)] * 5)
    assert imputed(donor(HHL=None)) == {("French", "Illinois")}


def test_packaged_donors_lie_together_with_who_shares_their_values() -> None:
    found = imputation.packaged_donors()
    table = read_packaged().table
    of_citizenship = {(code,): int((table["CIT"].to_numpy() == code).sum()) for code in range(1, 6)}
    sizes = {key: stop - start for key, (start, stop) in found.spans.items()}
    assert {key: size for key, size in sizes.items() if len(key) == 1} == of_citizenship
    assert min(sizes.values()) >= imputation.ENOUGH_DONORS
    assert all(sizes[key[:-1]] >= size for key, size in sizes.items() if len(key) > 1)
    for key in ((1, 0, 1, 1, 1, 3, 36), (5, 1, 8, 2, 2)):
        start, stop = found.spans[key]
        chosen = {"CIT": key[0], "RAC1P": key[2], "HISP": key[3], "HHL": key[4]} | (
            {"STATE": key[6]} if key[6:] else {}
        )
        rows = table.to_pandas()[[*chosen, "AGEP", "ANC1P", "POBP"]]
        rows = rows[(rows[list(chosen)] == pd.Series(chosen)).all(axis=1)]
        rows = rows[rows.AGEP.between(30, 44)] if key[6:] else rows
        donors = zip(found.ancestry[start:stop].tolist(), found.birthplace[start:stop].tolist(), strict=True)
        assert sorted(donors) == sorted(zip(rows.ANC1P.tolist(), rows.POBP.tolist(), strict=True))
