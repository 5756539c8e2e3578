"""Reading PUMS files: formats, renames, blanks, years, household join, and the errors for files that cannot be used."""

import gzip
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from builder.census import pums_files, tables
from builder.census.pums import HOUSEHOLD_COLUMNS, adjinc_factors, read_packaged, read_pums
from builder.census.pums_files import input_files
from builder.errors import InputError
from builder.files import sha256_file

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
    assert tables[0][0]["PUMA"] == 100


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


@pytest.mark.parametrize("age", ["", "-3", "100", "999"])
def test_an_age_that_nobody_has_is_refused(tmp_path: Path, age: str) -> None:
    rows = [PERSON | HOUSEHOLD, PERSON | HOUSEHOLD | {"SERIALNO": "2018HU0000002", "AGEP": age}]
    with pytest.raises(InputError, match=rf"1 row\(s\) whose age \(AGEP\) .* {age or 'blank'}\)"):
        read_pums(write_csv(tmp_path / "p.csv", rows))


@pytest.mark.parametrize(("year", "kept"), [(2018, False), (2019, False), (2020, True), (2022, True)])
def test_detailed_race_is_read_only_where_its_codes_are_known(tmp_path: Path, year: int, kept: bool) -> None:
    row = PERSON | HOUSEHOLD | {"SERIALNO": f"{year}HU0000001", "RAC2P": "43"}
    assert ("RAC2P" in read_pums(write_csv(tmp_path / "p.csv", [row])).table.column_names) == kept


def test_one_blank_factor_does_not_hide_the_year(tmp_path: Path) -> None:
    rows = [PERSON | HOUSEHOLD | {"SERIALNO": str(n), "ADJINC": factor} for n, factor in ((1, "1013097"), (2, ""))]
    assert read_pums(write_csv(tmp_path / "p.csv", rows)).survey_year == 2018


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


def write_zip(path: Path, members: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return path


def person(number: int, **changed: str) -> dict[str, str]:
    return PERSON | {"SERIALNO": f"2018HU{number:07d}"} | changed


def household(number: int, **changed: str) -> dict[str, str]:
    return {"RT": "H", "SERIALNO": f"2018HU{number:07d}", "NP": "1", **HOUSEHOLD} | changed


def bureau_folder(folder: Path, states: dict[str, int]) -> Path:
    """As `persona census fetch` leaves it: state -> number of its one household."""
    for state, number in states.items():
        write_zip(folder / f"csv_p{state}.zip", {f"psam_p{number:02d}.csv": csv_text([person(number)])})
        write_zip(folder / f"csv_h{state}.zip", {f"psam_h{number:02d}.csv": csv_text([household(number)])})
    (folder / "manifest.json").write_text("{}")
    (folder / ".lock").touch()
    return folder


def test_a_national_zip_holds_several_files(tmp_path: Path) -> None:
    parts = [[person(1), person(2)], [person(3)]]
    national = write_zip(
        tmp_path / "csv_pus.zip",
        {
            "psam_pusb.csv": csv_text(parts[1]),
            "psam_pusa.csv": csv_text(parts[0]),
            "__MACOSX/._psam_pusa.csv": "not a table",
            "ACS2018_PUMS_README.pdf": "not a table",
        },
    )
    housing = write_zip(
        tmp_path / "csv_hus.zip",
        {"psam_husa.csv": csv_text([household(3), household(1)]), "psam_husb.csv": csv_text([household(2, HHT="4")])},
    )
    records = read_pums(national, housing)
    assert records.table["SERIALNO"].to_pylist() == ["2018HU0000001", "2018HU0000002", "2018HU0000003"]
    assert records.table["HHT"].to_pylist() == [1, 4, 1]


def test_a_folder_is_read_with_its_housing_files(tmp_path: Path) -> None:
    folder = bureau_folder(tmp_path, {"wy": 56, "co": 8})
    records = read_pums(folder)
    assert records.table["SERIALNO"].to_pylist() == ["2018HU0000008", "2018HU0000056"]
    assert records.source == "csv_pco.zip ... csv_pwy.zip (2 files) + csv_hco.zip ... csv_hwy.zip (2 files)"
    names = ["csv_hco.zip", "csv_hwy.zip", "csv_pco.zip", "csv_pwy.zip"]
    assert [path.name for path in input_files(folder)] == names
    assert input_files(folder / "csv_pwy.zip") == [folder / "csv_pwy.zip"]
    alone = read_pums(folder / "csv_pco.zip", folder / "csv_hco.zip")
    assert alone.table.to_pylist() == records.table.slice(0, 1).to_pylist()
    # The housing records may also lie in a folder of their own.
    (tmp_path / "housing").mkdir()
    for name in ("csv_hco.zip", "csv_hwy.zip"):
        (folder / name).rename(tmp_path / "housing" / name)
    assert read_pums(folder / "csv_pco.zip", tmp_path / "housing").table.to_pylist() == alone.table.to_pylist()
    assert read_pums(folder, tmp_path / "housing").table.to_pylist() == records.table.to_pylist()


def test_a_folder_of_unpacked_files(tmp_path: Path) -> None:
    write_csv(tmp_path / "psam_pusa.csv", [person(1)])
    write_csv(tmp_path / "psam_pusb.csv", [person(2)])
    write_csv(tmp_path / "psam_husa.csv", [household(1)])
    write_csv(tmp_path / "psam_husb.csv", [household(2)])
    assert read_pums(tmp_path).table.num_rows == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "csv_hwy.zip").unlink(), r"csv_pwy\.zip but not the housing file"),
        (lambda folder: (folder / "csv_pwy.zip").unlink(), r"csv_hwy\.zip but not the person file"),
        (lambda folder: [path.unlink() for path in folder.glob("csv_p*")], "no PUMS person file"),
        (lambda folder: [path.unlink() for path in folder.glob("csv_*")], "no PUMS file"),
        (lambda folder: (folder / "csv_pco.zip.part").touch(), "did not finish"),
        (lambda folder: bureau_folder(folder, {"us": 99}), r"csv_pus\.zip and csv_pco\.zip.*twice"),
        (lambda folder: write_csv(folder / "psam_p56.csv", [person(56)]), r"csv_pco\.zip and psam_p56\.csv.*twice"),
    ],
    ids=[
        "no housing file",
        "no person file",
        "no person files",
        "nothing",
        "unfinished",
        "nation and states",
        "zip and csv",
    ],
)
def test_a_folder_that_cannot_be_read_as_one(tmp_path: Path, change: Callable[[Path], Any], message: str) -> None:
    change(bureau_folder(tmp_path, {"wy": 56, "co": 8}))
    with pytest.raises(InputError, match=message):
        read_pums(tmp_path)


def test_states_of_two_years_are_not_one_file(tmp_path: Path) -> None:
    folder = bureau_folder(tmp_path, {"wy": 56, "co": 8})
    write_zip(folder / "csv_pco.zip", {"psam_p08.csv": csv_text([person(8, SERIALNO="2019HU0000008")])})
    with pytest.raises(InputError, match=r"psam_p08\.csv in csv_pco\.zip is of survey year 2019 and psam_p56.*2018"):
        read_pums(folder)


def test_parts_with_other_columns_are_not_one_file(tmp_path: Path) -> None:
    without = person(2)
    del without["FER"]
    parts = {"psam_pusa.csv": csv_text([person(1)]), "psam_pusb.csv": csv_text([without])}
    with pytest.raises(InputError, match=r"only one of them has FER"):
        read_pums(write_zip(tmp_path / "csv_pus.zip", parts))


@pytest.mark.parametrize("rest", ["", "\n", "\r\n\r\n"])
def test_a_part_without_a_row_is_named(tmp_path: Path, rest: str) -> None:
    header = csv_text([person(1)]).splitlines()[0]
    parts = {"psam_pusa.csv": csv_text([person(1)]), "psam_pusb.csv": f"{header}\n{rest}"}
    with pytest.raises(InputError, match=r"psam_pusb\.csv in csv_pus\.zip holds a header and no records"):
        read_pums(write_zip(tmp_path / "csv_pus.zip", parts))


@pytest.mark.parametrize("kept", [0.3, 0.98])
def test_a_zip_that_was_cut_off(tmp_path: Path, kept: float) -> None:
    whole = write_zip(tmp_path / "csv_pwy.zip", {"psam_p56.csv": csv_text([person(i) for i in range(500)])})
    whole.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * kept)])
    with pytest.raises(InputError, match=r"csv_pwy\.zip cannot be read as a zip archive.*[Dd]ownload it again"):
        read_pums(whole)


def test_a_zip_with_a_wrong_byte_names_the_file_inside(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "csv_pwy.zip", {"psam_p56.csv": csv_text([person(i) for i in range(5_000)])})
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"psam_p56\.csv in csv_pwy\.zip"):
        read_pums(path)


def test_an_error_about_a_row_does_not_show_the_row(tmp_path: Path) -> None:
    text = csv_text([person(1), person(2)])
    path = tmp_path / "p.csv"
    path.write_text(text[: text.rindex(",52000")] + "\n")
    with pytest.raises(InputError) as caught:
        read_pums(path)
    assert "2018HU" not in str(caught.value)


@pytest.mark.parametrize("cell", ["16.0", " 16", "16"])
def test_many_blocks_give_the_same_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cell: str) -> None:
    """Also where a cell of a late block makes the reader begin again."""
    rows = [
        PERSON | HOUSEHOLD | {"SERIALNO": f"2018HU{i:07d}", "AGEP": str(i % 90), "SCHL": "16"} for i in range(2_000)
    ]
    rows[1_800] |= {"SCHL": cell, "OCCP": ""}
    path = write_csv(tmp_path / "p.csv", rows)
    whole = read_pums(path).table
    monkeypatch.setattr(tables, "CSV_BLOCK_BYTES", 4_000)
    blocks = read_pums(path).table
    assert blocks["AGEP"].num_chunks > 10
    assert blocks.to_pylist() == whole.to_pylist()
    assert set(blocks["SCHL"].to_pylist()) == {16}
    assert blocks["OCCP"][1_800].as_py() is None


def test_columns_that_nobody_asked_for_take_no_memory(tmp_path: Path) -> None:
    """Arrow's own peak while it reads 40 MB of text of which the wanted columns are a tenth."""
    header = [*PERSON, *HOUSEHOLD, *(f"PWGTP{i}" for i in range(240))]
    line = ",".join([*PERSON.values(), *HOUSEHOLD.values(), *["100"] * 240])
    path = tmp_path / "wide.csv"
    path.write_text(",".join(header) + "\n" + f"{line}\n" * 40_000)
    script = (
        "import sys, pyarrow; from builder.census import tables, pums; tables.CSV_BLOCK_BYTES = 1 << 20; "
        "assert pums.read_pums(sys.argv[1]).table.num_rows == 40_000; print(pyarrow.default_memory_pool().max_memory())"
    )
    ran = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
    assert path.stat().st_size > 40e6
    assert int(ran.stdout) < 16e6


def test_households_of_another_year_are_refused_naming_both(tmp_path: Path) -> None:
    persons = write_csv(tmp_path / "p.csv", [person(1)])
    by_serial = write_csv(tmp_path / "h1.csv", [household(1, SERIALNO="2019HU0000001")])
    with pytest.raises(InputError, match=r"persons of p\.csv are of survey year 2018.*households of h1\.csv of 2019"):
        read_pums(persons, by_serial)
    # Before 2017 a SERIALNO has no year, and the same numbers come again every year.
    old = write_csv(tmp_path / "old.csv", [PERSON | {"SERIALNO": "19", "ADJINC": "1018237"}])
    by_adjinc = write_csv(tmp_path / "h2.csv", [household(1, SERIALNO="19", ADJINC="1013097")])
    with pytest.raises(InputError, match=r"2011.*h2\.csv of 2018"):
        read_pums(old, by_adjinc)


def test_vacant_units_join_nobody(tmp_path: Path) -> None:
    persons = write_csv(tmp_path / "p.csv", [person(2), person(2, AGEP="3")])
    vacant = household(1, NP="0", HHL="", HHT="", HUPAC="")
    records = read_pums(persons, write_csv(tmp_path / "h.csv", [vacant, household(2), vacant | household(3, NP="0")]))
    assert records.table["HHT"].to_pylist() == [1, 1]


def test_a_household_is_named_once_in_all_parts(tmp_path: Path) -> None:
    persons = write_csv(tmp_path / "p.csv", [person(1)])
    parts = {"psam_husa.csv": csv_text([household(1)]), "psam_husb.csv": csv_text([household(1)])}
    with pytest.raises(InputError, match="more than once"):
        read_pums(persons, write_zip(tmp_path / "csv_hus.zip", parts))


def test_every_person_has_a_household(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"1 row\(s\) without SERIALNO"):
        read_pums(write_csv(tmp_path / "p.csv", [PERSON | HOUSEHOLD, PERSON | HOUSEHOLD | {"SERIALNO": ""}]))


def test_names_before_2024(tmp_path: Path) -> None:
    old = PERSON | HOUSEHOLD | {"SERIALNO": "2017000000016", "RELP": "0", "TYPE": "1"}
    records = read_pums(write_csv(tmp_path / "p.csv", [old]))
    assert records.survey_year == 2017
    row = records.table.to_pylist()[0]
    assert (row["SERIALNO"], row["RELSHIPP"], row["TYPEHUGQ"], row["STATE"]) == ("2017000000016", 0, 1, 56)


def test_five_year_files(tmp_path: Path) -> None:
    """Five factors that bring incomes to dollars of the last year; PUMAs of two censuses; numbers of 2017 and before have no letters."""
    rows = [
        PERSON | HOUSEHOLD | {"SERIALNO": "2017000000016", "ADJINC": "1105000", "PUMA10": "00300", "PUMA20": "-0009"},
        PERSON | HOUSEHOLD | {"SERIALNO": "2018HU0000001", "ADJINC": "1080000", "PUMA10": "00200", "PUMA20": "-0009"},
        PERSON | HOUSEHOLD | {"SERIALNO": "2021GQ0000001", "ADJINC": "1029928", "PUMA10": "-0009", "PUMA20": "00501"},
        PERSON | HOUSEHOLD | {"SERIALNO": "2021HU0000002", "ADJINC": "1029928", "PUMA10": "-0009", "PUMA20": ""},
    ]
    for row in rows:
        del row["PUMA"]
    records = read_pums(write_csv(tmp_path / "p.csv", rows))
    assert records.survey_year == 2021
    assert adjinc_factors(records) == {1029928: 2, 1080000: 1, 1105000: 1}
    assert records.table["ADJINC"].to_pylist() == [1105000, 1080000, 1029928, 1029928]
    assert records.table["PUMA"].to_pylist() == [300, 200, 501, None]
    assert not {"PUMA10", "PUMA20"} & set(records.table.column_names)


def test_files_without_adjinc_have_no_factors(tmp_path: Path) -> None:
    row = PERSON | HOUSEHOLD
    del row["ADJINC"]
    assert adjinc_factors(read_pums(write_csv(tmp_path / "p.csv", [row]))) == {}


def test_adjinc_of_the_housing_file_serves_where_the_person_file_has_none(tmp_path: Path) -> None:
    row = person(1)
    del row["ADJINC"]
    housing = write_csv(tmp_path / "h.csv", [household(1, ADJINC="1013097")])
    assert adjinc_factors(read_pums(write_csv(tmp_path / "p.csv", [row]), housing)) == {1013097: 1}


def test_an_input_is_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[Path] = []
    monkeypatch.setattr(pums_files, "sha256_file", lambda path: hashed.append(path) or sha256_file(path))
    path = write_csv(tmp_path / "p.csv", [PERSON | HOUSEHOLD])
    before = pums_files.content_hash(pums_files.input_files(path))
    assert before == read_pums(path).sha256 == sha256_file(path)
    assert len(hashed) == 1
    write_csv(path, [PERSON | HOUSEHOLD | {"AGEP": "42"}])  # of the same size
    os.utime(path, ns=(0, 0))
    assert read_pums(path).sha256 == sha256_file(path) != before


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.csv", None, "does not exist"),
        ("empty.csv", b"", "is empty"),
        ("broken.parquet", b"PAR1 and then nothing", "cannot be read as Parquet"),
        ("broken.csv.gz", b"\x1f\x8bnot gzip at all", "cannot be read as CSV"),
        (
            "cut_row.csv",
            csv_text([PERSON | HOUSEHOLD] * 3)[:-60].encode() + b"\n",
            "has a row of .* cells under a header of",
        ),
        ("cut_cell.csv", csv_text([PERSON | HOUSEHOLD] * 3)[:-1].encode(), "ends in the middle of a line"),
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
