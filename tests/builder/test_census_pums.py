"""Reading PUMS files: formats, renames, blanks, years, household join, and the errors for files that cannot be used."""

import gzip
import os
import zipfile
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from builder.census.pums import HOUSEHOLD_COLUMNS, read_packaged, read_pums
from builder.errors import InputError

PERSON = {
    **{"SERIALNO": "2018HU0000001", "PWGTP": "12", "AGEP": "41", "SEX": "2", "RAC1P": "1", "HISP": "01", "SCHL": "21"},
    **{"ESR": "1", "COW": "1", "INDP": "7860", "OCCP": "2310", "PINCP": "52000", "MAR": "1", "CIT": "1", "MIL": "4"},
    **{"DIS": "2", "HICOV": "1", "ST": "56", "ADJINC": "1013097", "FER": "", "PUMA": "00100"},
}
HOUSEHOLD = {"HHL": "1", "HHT": "1", "HUPAC": "4"}


def csv_text(rows: list[dict[str, str]]) -> str:
    return "\n".join([",".join(rows[0]), *(",".join(row.values()) for row in rows)]) + "\n"


def write_csv(path: Path, rows: list[dict[str, str]]) -> Path:
    path.write_text(csv_text(rows), encoding="utf-8")
    return path


def test_csv_gz_zip_and_parquet_give_the_same_records(tmp_path: Path) -> None:
    rows = [
        PERSON | HOUSEHOLD,
        PERSON | HOUSEHOLD | {"SERIALNO": "2018HU0000002", "COW": "", "INDP": "", "OCCP": "", "ESR": "6"},
    ]
    plain = write_csv(tmp_path / "persons.csv", rows)
    zipped = tmp_path / "csv_pwy.zip"
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("psam_p56.csv", csv_text(rows))
        archive.writestr("readme.pdf", b"not a table")
    packed = tmp_path / "persons.csv.gz"
    packed.write_bytes(gzip.compress(csv_text(rows).encode()))
    parquet = tmp_path / "persons.parquet"
    pd.DataFrame(rows).replace("", None).to_parquet(parquet)
    tables = [read_pums(path).table.to_pylist() for path in (plain, packed, zipped, parquet)]
    assert tables[0] == tables[1] == tables[2]
    assert {tuple(sorted(row.items(), key=str)) for row in tables[3]} == {
        tuple(sorted(r.items(), key=str)) for r in tables[0]
    }
    assert "PUMA" not in tables[0][0]


def test_blank_is_null_and_codes_are_whole_numbers(tmp_path: Path) -> None:
    records = read_pums(
        write_csv(tmp_path / "p.csv", [PERSON | HOUSEHOLD | {"OCCP": "", "SCHL": "16.0", "PINCP": "-500"}])
    )
    row = records.table.to_pylist()[0]
    assert row["OCCP"] is None
    assert row["FER"] is None
    assert row["SCHL"] == 16
    assert row["PINCP"] == -500
    assert row["STATE"] == 56  # ST before 2023
    assert records.survey_year == 2018


def test_source_is_named_without_its_folder_and_hashed_by_content(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first = read_pums(write_csv(tmp_path / "a" / "p.csv", [PERSON | HOUSEHOLD]))
    second = read_pums(write_csv(tmp_path / "b" / "p.csv", [PERSON | HOUSEHOLD]))
    other = read_pums(write_csv(tmp_path / "b" / "q.csv", [PERSON | HOUSEHOLD | {"AGEP": "40"}]))
    assert first.source == "p.csv"
    assert first.sha256 == second.sha256 != other.sha256


def test_household_file_is_joined_on_serialno(tmp_path: Path) -> None:
    persons = write_csv(tmp_path / "p.csv", [PERSON, PERSON | {"SERIALNO": "2018HU0000002"}, PERSON])
    households = write_csv(
        tmp_path / "h.csv",
        [
            {"SERIALNO": "2018HU0000002", "HHL": "2", "HHT": "4", "HUPAC": "4"},
            {"SERIALNO": "2018HU0000001", **HOUSEHOLD},
        ],
    )
    records = read_pums(persons, households)
    assert records.table["HHT"].to_pylist() == [1, 4, 1]
    assert records.source == "p.csv + h.csv"


def test_a_person_file_without_household_columns_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"HHL, HHT, HUPAC.*2018.*household_source"):
        read_pums(write_csv(tmp_path / "p.csv", [PERSON]))


def test_persons_without_their_household_stop_the_join(tmp_path: Path) -> None:
    persons = write_csv(tmp_path / "p.csv", [PERSON])
    households = write_csv(tmp_path / "h.csv", [{"SERIALNO": "2018HU0000009", **HOUSEHOLD}])
    with pytest.raises(InputError, match="1 of 1 persons"):
        read_pums(persons, households)


def test_derived_hupac_is_used_only_where_the_official_one_is_absent(tmp_path: Path) -> None:
    both = PERSON | HOUSEHOLD | {"HUPAC_DERIVED": "1"}
    assert read_pums(write_csv(tmp_path / "a.csv", [both])).table["HUPAC"].to_pylist() == [4]
    del both["HUPAC"]
    assert read_pums(write_csv(tmp_path / "b.csv", [both])).table["HUPAC"].to_pylist() == [1]


def test_the_year_comes_from_the_records_or_is_asked_for(tmp_path: Path) -> None:
    old = PERSON | HOUSEHOLD | {"SERIALNO": "19", "ADJINC": "1018237"}
    assert read_pums(write_csv(tmp_path / "a.csv", [old])).survey_year == 2011
    unknown = write_csv(tmp_path / "b.csv", [old | {"ADJINC": "999"}])
    with pytest.raises(InputError, match=r"census\.survey_year"):
        read_pums(unknown)
    assert read_pums(unknown, survey_year=2012).survey_year == 2012
    with pytest.raises(InputError, match=r"2016.*2011"):
        read_pums(tmp_path / "a.csv", survey_year=2016)
    five_years = [PERSON | HOUSEHOLD | {"SERIALNO": f"{year}HU0000001"} for year in (2018, 2022, 2020)]
    assert read_pums(write_csv(tmp_path / "c.csv", five_years)).survey_year == 2022


def test_rows_without_a_positive_weight_are_left_out_and_counted(tmp_path: Path) -> None:
    rows = [PERSON | HOUSEHOLD, PERSON | HOUSEHOLD | {"PWGTP": "0"}, PERSON | HOUSEHOLD | {"PWGTP": ""}]
    records = read_pums(write_csv(tmp_path / "p.csv", rows))
    assert records.table.num_rows == 1
    assert records.dropped == {"weight not positive": 2}
    with pytest.raises(InputError, match="PWGTP"):
        read_pums(write_csv(tmp_path / "q.csv", rows[1:]))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.csv", None, "does not exist"),
        ("empty.csv", b"", "is empty"),
        ("broken.parquet", b"PAR1 and then nothing", "cannot be read as Parquet"),
        ("broken.csv.gz", b"\x1f\x8bnot gzip at all", "cannot be read as CSV"),
        ("cut.csv.gz", gzip.compress(csv_text([PERSON | HOUSEHOLD] * 500).encode())[:-40], "cannot be read"),
        ("latin.csv", "SERIALNO,AGEP,\xe9\n1,2,3\n".encode("latin-1"), "UTF-8"),
        ("prose.csv", b"once upon a time\nthere was\n", "no PUMS column"),
        ("broken.zip", b"PK nothing", "cannot be read"),
        ("records.sas7bdat", b"x", "format"),
        ("header.csv", csv_text([PERSON | HOUSEHOLD]).splitlines()[0].encode() + b"\n", "no records|cannot be read"),
        ("words.csv", csv_text([PERSON | HOUSEHOLD | {"SEX": "Female"}]).encode(), "column SEX"),
        ("short.csv", csv_text([{k: PERSON[k] for k in ("SERIALNO", "AGEP")}]).encode(), "lacks the person column"),
    ],
)
def test_unusable_files_are_refused_with_a_reason(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_pums(path)


def test_packaged_records_are_synthetic_and_read_like_any_file() -> None:
    records = read_packaged()
    assert records.survey_year == 2024
    assert records.source == "synthetic_records.parquet"
    assert records.imputed == ("ANC1P", "POBP")
    assert set(HOUSEHOLD_COLUMNS) <= set(records.table.column_names)
    serials = records.table["SERIALNO"].to_pylist()
    assert all(serial.startswith("SYN") for serial in serials)
    assert len(set(serials)) == len(serials) >= 5_000


def test_packaged_records_keep_the_questionnaire() -> None:
    """Who is asked what: a blank where a question does not apply, and nowhere a contradiction between columns."""
    people = read_packaged().table.to_pandas()
    child = people.AGEP < 15
    assert people[people.AGEP < 16][["ESR", "COW", "OCCP", "INDP"]].isna().all(axis=None)
    assert people.loc[child, "PINCP"].isna().all()
    assert (people.loc[child, "MAR"] == 5).all()
    assert people.loc[people.SEX == 1, "FER"].isna().all()
    assert people.loc[people.TYPEHUGQ > 1, ["HHT", "HHL", "HUPAC"]].isna().all(axis=None)
    assert (people.OCCP.isna() == people.COW.isna()).all()
    assert (people.OCCP.isna() == people.INDP.isna()).all()
    assert (people.loc[people.HHT == 4, "SEX"] == 1).all()
    assert (people.loc[people.HHT == 6, "SEX"] == 2).all()
    assert ((people.POBP < 60) == (people.CIT == 1)).all()
    assert people.loc[people.ESR.isin([1, 2, 4, 5]), "OCCP"].notna().all()


@pytest.mark.shared_data
def test_real_files(tmp_path: Path) -> None:
    folder = os.environ.get("PERSONA_SHARED_DATA")
    if not folder:
        pytest.skip("PERSONA_SHARED_DATA does not name the folder with real PUMS files")
    pums = Path(folder) / "pums"
    records = read_pums(pums / "persons_2024.parquet")
    assert (records.survey_year, records.table.num_rows) == (2024, 150_001)
    assert read_pums(pums / "national_2011_joined.parquet").survey_year == 2011
    wyoming = pums / "state_56_2018_full.csv.gz"
    with pytest.raises(InputError, match="household_source"):
        read_pums(wyoming)
    serials = sorted(set(pd.read_csv(wyoming, usecols=["SERIALNO"])["SERIALNO"]))
    households = tmp_path / "h.parquet"
    pq.write_table(pa.table({"SERIALNO": serials, **{c: [1] * len(serials) for c in HOUSEHOLD_COLUMNS}}), households)
    joined = read_pums(wyoming, households)
    assert (joined.survey_year, joined.table.num_rows) == (2018, 5_740)
    assert set(joined.table["STATE"].to_pylist()) == {56}
