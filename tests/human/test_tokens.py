"""Tokens: in one file, for its owner alone, and nowhere else."""

import csv
import stat
from contextlib import closing
from pathlib import Path

import pytest

from builder.errors import InputError
from eval.human.opening import open_study
from eval.human.tokens import checked_address, panel_raters, write_tokens
from tests.human.conftest import answer_all


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


def test_the_file_says_which_rater_has_which_link(study_file: Path) -> None:
    write_tokens(study_file)
    rows = rows_of(study_file.with_name("STUDY.tokens.csv"))
    assert list(rows[0]) == ["token", "link", "rater"]
    _, store = open_study(study_file, create=False)
    with closing(store):
        assert [store.rater(row["token"]).rater_id for row in rows] == [row["rater"] for row in rows]


def test_of_a_panel_it_is_said_whom_to_pay_and_nobody_is_made_up(study_file: Path) -> None:
    study_file.write_text(study_file.read_text() + "recruiting: open\n")
    ids = study_file.with_name("ids.txt")
    ids.write_text("careful\nhasty\n\nbegan \nnever-came\n{{%PROLIFIC_PID%}}\ncareful\n")
    with pytest.raises(InputError, match="There is no database"):
        panel_raters(study_file, ids)
    _, store = open_study(study_file)
    with closing(store):
        raters = {
            name: store.begin(store.rater(store.token_for(name)).rater_id) for name in ("careful", "hasty", "began")
        }
        for name, seconds in (("careful", 30.0), ("hasty", 1.0)):
            end = answer_all(store, raters[name].rater_id, 1000.0, seconds)
            store.finish(raters[name].rater_id, now=end)
    said = panel_raters(study_file, ids)
    found = list(csv.DictReader(said.splitlines()))
    assert list(found[0]) == ["panel_id", "rater", "state", "counts", "reason"]
    assert [tuple(row.values())[:4] for row in found] == [
        ("careful", raters["careful"].rater_id, "finished", "yes"),
        ("hasty", raters["hasty"].rater_id, "finished", "no"),
        ("began", raters["began"].rater_id, "open", "no"),
        ("never-came", "", "unknown", "no"),
        ("{{%PROLIFIC_PID%}}", "", "unknown", "no"),
    ]
    assert found[1]["reason"].startswith("Excluded: Median time")
    assert found[3]["reason"] == "Did not come, or did not agree."
    out = study_file.with_name("paid.csv")
    assert "5 ids" in panel_raters(study_file, ids, out)
    assert out.read_text() == f"{said}\n"
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    _, store = open_study(study_file, create=False)
    with closing(store):
        assert len(store.raters()) == 3


def test_a_study_by_tokens_has_no_panel(study_file: Path) -> None:
    write_tokens(study_file)
    ids = study_file.with_name("ids.txt")
    ids.write_text("someone\n")
    with pytest.raises(InputError, match="recruits by tokens"):
        panel_raters(study_file, ids)
    with pytest.raises(InputError, match=r"none\.txt cannot be read"):
        panel_raters(study_file, ids.with_name("none.txt"))


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
