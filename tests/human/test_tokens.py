"""Tokens: in one file, for its owner alone, and nowhere else."""

import csv
import stat
from pathlib import Path

import pytest

from builder.errors import InputError
from eval.human.opening import open_study
from eval.human.tokens import checked_address, write_tokens


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_there_is_a_link_for_every_place_and_each_opens_the_study(study_file: Path) -> None:
    said = write_tokens(study_file, address="https://example.org/study/")
    out = study_file.with_name("STUDY.tokens.csv")
    rows = rows_of(out)
    assert len(rows) == 4
    assert len({row["token"] for row in rows}) == 4
    assert rows[0]["link"] == f"https://example.org/study/?token={rows[0]['token']}"
    assert "4 tokens" in said
    assert str(out) in said
    _, store = open_study(study_file, create=False)
    assert {store.rater(row["token"]).state for row in rows} == {"new"}
    store.close()


def test_only_the_owner_can_read_the_file_and_the_database(study_file: Path) -> None:
    write_tokens(study_file, count=1)
    for name in ("STUDY.tokens.csv", "STUDY.sqlite"):
        assert stat.S_IMODE((study_file.parent / name).stat().st_mode) == 0o600, name


def test_no_token_stands_in_the_database(study_file: Path) -> None:
    write_tokens(study_file, count=20)
    kept = b"".join(path.read_bytes() for path in study_file.parent.glob("STUDY.sqlite*"))
    for row in rows_of(study_file.with_name("STUDY.tokens.csv")):
        assert row["token"].encode() not in kept
    assert b"A small study" in kept


def test_a_file_that_is_there_is_never_overwritten_and_then_nothing_is_issued(study_file: Path) -> None:
    write_tokens(study_file, count=2)
    before = study_file.with_name("STUDY.tokens.csv").read_bytes()
    with pytest.raises(InputError, match=r"only file with its tokens.*Give another with --out"):
        write_tokens(study_file, count=2)
    assert study_file.with_name("STUDY.tokens.csv").read_bytes() == before
    more = study_file.with_name("more.csv")
    assert "4 are issued in all" in write_tokens(study_file, count=2, out=more)
    assert not {row["token"] for row in rows_of(more)} & {
        row["token"] for row in rows_of(study_file.with_name("STUDY.tokens.csv"))
    }
    assert not list(study_file.parent.glob(".*csv*"))  # no half-written file is left


def test_where_the_file_cannot_be_written_nothing_is_issued(study_file: Path) -> None:
    (study_file.parent / "blocked").write_text("a file, not a folder")
    with pytest.raises(InputError, match="Nothing was issued"):
        write_tokens(study_file, count=2, out=study_file.parent / "blocked" / "tokens.csv")
    _, store = open_study(study_file, create=False)
    assert store.raters() == []
    store.close()


@pytest.mark.parametrize("count", [0, -1, 100_001])
def test_a_senseless_count_is_refused(study_file: Path, count: int) -> None:
    with pytest.raises(InputError, match=f"--count is {count}"):
        write_tokens(study_file, count=count)
    assert not study_file.with_suffix(".sqlite").exists()


@pytest.mark.parametrize(
    "address", ["example.org", "ftp://example.org", "http://", "http://a/?b=c", "http://a/#b", "http://[", ""]
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(InputError, match="--address is"):
        checked_address(address)


def test_no_token_begins_like_a_formula(store) -> None:
    assert all(token[0].isalnum() and len(token) == 22 for token in store.issue_tokens(500))
