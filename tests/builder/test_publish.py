"""`publish` to folders: versions one after the other, what stops one, and what a fault leaves behind."""

import errno
import json
import shutil
from pathlib import Path

import pyarrow.parquet as parquet
import pytest

from builder.errors import InputError
from builder.files import locked, sha256_file
from builder.llm.transfer import import_responses
from builder.pipeline import run_build
from builder.publishing.publish import publish
from builder.publishing.summary import publishing_summary
from builder.publishing.target import sizes
from builder.tables import write_parquet

from .conftest import scripted_recipe


def hashes(folder: Path) -> dict[str, str]:
    return {name: sha256_file(folder / name) for name in sizes(folder)}


@pytest.fixture
def mended(scripted_build, tmp_path):
    """The same build with another critique in one row, as a maintainer who mends a row by hand would leave it."""
    folder = tmp_path / "mended"
    shutil.copytree(scripted_build.folder, folder)
    path = folder / "tables" / "dpf.parquet"
    table = parquet.read_table(path)
    critiques = table["critique"].to_pylist()
    critiques[0] = "Shorter, please."
    place = table.column_names.index("critique")
    write_parquet(path, table.set_column(place, table.schema.field(place), [critiques]))
    return folder


def test_a_version_after_another_says_what_changed(scripted_build, mended, tmp_path):
    publish(scripted_build.folder, tmp_path / "v1", "1.0.0")
    with pytest.raises(InputError, match=r"1\.0\.0"):
        publish(mended, tmp_path / "v2", "1.0.0", previous=str(tmp_path / "v1"))
    published = publish(mended, tmp_path / "v2", "1.0.1", previous=str(tmp_path / "v1"))
    assert published.difference.step == "patch"
    (entry,) = json.loads((tmp_path / "v2" / "build.json").read_text())["changelog"]
    assert (entry["version"], entry["previous"], entry["step"]) == ("1.0.1", "1.0.0", "patch")
    card = (tmp_path / "v2" / "README.md").read_text()
    assert all(change in card for change in entry["changes"])
    assert "1.0.0" in publishing_summary(published, str(tmp_path / "v2"), dry_run=False)


@pytest.mark.thorough
def test_a_smaller_step_than_the_difference_asks_for_is_refused_and_writes_nothing(scripted_build, tmp_path):
    publish(scripted_build.folder, tmp_path / "v1", "1.0.0")
    larger = run_build(scripted_recipe("personas.count=14", "personas.seen=9"), tmp_path / "larger").folder
    for version in ("1.0.1", "1.1.0"):  # other personas in the same places: rows changed, moved and added
        with pytest.raises(InputError, match=r"major.*2\.0\.0"):
            publish(larger, tmp_path / "v2", version, previous=str(tmp_path / "v1"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["larger", "v1"]
    publish(larger, tmp_path / "v2", "2.0.0", previous=str(tmp_path / "v1"))


def test_a_dry_run_checks_and_writes_nothing(scripted_build, mended, tmp_path):
    before = hashes(scripted_build.folder)
    said = publish(scripted_build.folder, tmp_path / "deep" / "v1", "1.0.0", dry_run=True)
    assert "Nothing was written to v1." in publishing_summary(said, "v1", dry_run=True)
    assert not (tmp_path / "deep").exists()
    assert hashes(scripted_build.folder).keys() - before.keys() <= {"audit.json"}
    publish(scripted_build.folder, tmp_path / "v1", "1.0.0")
    with pytest.raises(InputError, match="already holds something else"):
        publish(mended, tmp_path / "v1", "1.0.0", dry_run=True)


@pytest.mark.thorough
def test_the_recorded_responses_go_with_it_on_request(scripted_build, tmp_path):
    publish(scripted_build.folder, tmp_path / "without", "1.0.0")
    assert not list((tmp_path / "without").rglob("*responses*"))
    publish(scripted_build.folder, tmp_path / "with", "1.0.0", responses=True)
    assert import_responses(tmp_path / "with" / "responses.parquet", tmp_path / "again")["imported"] > 0
    rebuilt = run_build(scripted_recipe(), tmp_path / "again")
    assert rebuilt.build["usage"]["calls"] == 0
    # A table of responses is no split: what load_dataset gives is the same.
    publish(rebuilt.folder, tmp_path / "rebuilt", "1.0.0")
    assert hashes(tmp_path / "rebuilt") == hashes(tmp_path / "without")


@pytest.mark.parametrize("written", [0, 1, 3])
def test_a_full_disk_leaves_nothing_behind(scripted_build, tmp_path, monkeypatch, written):
    before = hashes(scripted_build.folder / "tables")
    writes = parquet.ParquetWriter.write_table
    left = [written]

    def full_after(self, *arguments, **options):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "Error writing bytes to file")
        return writes(self, *arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(parquet.ParquetWriter, "write_table", full_after)
        with pytest.raises(InputError, match=r"The disk is full.*publish again"):
            publish(scripted_build.folder, tmp_path / "v1", "1.0.0")
    assert list(tmp_path.iterdir()) == []
    assert hashes(scripted_build.folder / "tables") == before
    publish(scripted_build.folder, tmp_path / "v1", "1.0.0")


def test_arrow_reports_a_full_disk_as_the_test_above_does(tmp_path):
    import pyarrow as arrow

    # Arrow removes what it could not finish: a link, not the device itself.
    (tmp_path / "full").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left") as caught:
        parquet.write_table(arrow.table({"a": ["x" * 5_000_000]}), tmp_path / "full", compression="none")
    assert caught.value.errno == errno.ENOSPC


def test_what_a_killed_publish_left_is_cleared(scripted_build, tmp_path):
    (tmp_path / ".v1.unfinished" / "version" / "data").mkdir(parents=True)
    (tmp_path / ".v1.unfinished" / "version" / "data" / "half.parquet").write_bytes(b"PAR1")
    publish(scripted_build.folder, tmp_path / "v1", "1.0.0")
    assert [p.name for p in tmp_path.iterdir()] == ["v1"]
    assert not list((tmp_path / "v1").rglob("half.parquet"))


@pytest.mark.parametrize(
    ("target", "options", "said"),
    [
        ("folder", {"version": "1.2"}, "major.minor.patch"),
        ("folder", {"version": "v1.2.0"}, "major.minor.patch"),
        ("folder", {"version": "01.2.0"}, "major.minor.patch"),
        ("folder", {"private": True}, "--private is for the Hub"),
        ("folder", {"create_pr": True}, "--create-pr is for the Hub"),
        ("folder", {"previous": "nowhere"}, "nowhere"),
        ("folder", {"previous": "hub:org/name"}, "hub:org/name"),
        ("hub:name", {}, "hub:org/name"),
        ("", {}, "--to is empty"),
        ("HUB:team/x", {}, "Write hub:team/x"),
        ("hub://team/x", {}, "Write hub:team/x"),
        ("hub:datasets/team/x", {}, "Write hub:team/x"),
        ("https://huggingface.co/datasets/team/x", {}, "Write hub:team/x"),
        ("s3://b/x", {}, "nothing is published to s3://"),
        ("file:///x", {}, "nothing is published to file://"),
        ("hub:org/name@v1.0.0", {}, "names a revision"),
        ("hub:org/name", {"for_own_use": True}, "--for-own-use"),
        ("hub:org/name", {"previous": "folder"}, "--previous is for folders"),
    ],
)
def test_options_that_contradict_each_other_are_refused(scripted_build, tmp_path, monkeypatch, target, options, said):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=said):
        publish(scripted_build.folder, target, **options)
    assert list(tmp_path.iterdir()) == []


def test_a_target_that_cannot_take_the_version_is_refused_before_the_audit(scripted_build, tmp_path, monkeypatch):
    publish(scripted_build.folder, tmp_path / "v1", "1.0.0")
    (tmp_path / "file").write_text("x")
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "a.txt").write_text("x")
    monkeypatch.setattr("builder.publishing.publish.audit_build", lambda run: pytest.fail("audited first"))
    for target, said in [
        (scripted_build.folder, "build's own folder"),
        (scripted_build.folder / "published", "build's own folder"),
        (tmp_path / "v1" / "data" / "new", "is a published version and is never changed"),
        (tmp_path / "v1", "already holds version 1.0.0"),
        (tmp_path / "file", "is a file"),
        (tmp_path / "papers", r"is not empty and holds no published version \(a\.txt\)"),
    ]:
        with pytest.raises(InputError, match=said):
            publish(scripted_build.folder, target, "1.1.0")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "papers", "v1"]


@pytest.mark.parametrize("target", ["empty", "."])
@pytest.mark.thorough
def test_an_empty_folder_is_filled_and_stays_the_folder_it_is(scripted_build, tmp_path, monkeypatch, target):
    publish(scripted_build.folder, tmp_path / "v1", "1.0.0")
    place = tmp_path / "empty"
    place.mkdir()
    monkeypatch.chdir(place if target == "." else tmp_path)
    before = place.stat().st_ino
    publish(scripted_build.folder, target, "1.0.0", dry_run=True)
    assert list(place.iterdir()) == []
    publish(scripted_build.folder, target, "1.0.0")
    assert place.stat().st_ino == before
    assert hashes(place) == hashes(tmp_path / "v1")
    assert not (place / ".empty.unfinished").exists()
    publish(scripted_build.folder, target, "1.0.0")  # it holds this: nothing is done


@pytest.mark.thorough
def test_what_a_publish_into_an_empty_folder_left_is_completed(scripted_build, tmp_path):
    publish(scripted_build.folder, tmp_path / "v1", "1.0.0")
    place = tmp_path / "begun"
    (place / ".begun.unfinished" / "version").mkdir(parents=True)
    shutil.copy(tmp_path / "v1" / "README.md", place)
    publish(scripted_build.folder, place, "1.0.0")
    assert {p.name for p in place.iterdir()} == {p.name for p in (tmp_path / "v1").iterdir()}
    assert hashes(place) == hashes(tmp_path / "v1")


@pytest.mark.thorough
def test_what_is_absent_what_is_more_and_what_is_otherwise_is_told_apart(scripted_build, tmp_path):
    target = tmp_path / "v1"
    publish(scripted_build.folder, target, "1.0.0")
    (target / ".DS_Store").write_text("x")
    with pytest.raises(InputError, match=r"holds this version and something else \(extra: \.DS_Store\)\. Remove that"):
        publish(scripted_build.folder, target, "1.0.0")
    (target / "audit.json").unlink()
    (target / "README.md").write_text("x")
    with pytest.raises(InputError, match=r"\(differing: README\.md; absent: audit\.json; extra: \.DS_Store\)"):
        publish(scripted_build.folder, target, "1.0.0")


def test_a_published_version_is_not_taken_for_a_build(scripted_build, tmp_path):
    publish(scripted_build.folder, tmp_path / "v1", "1.0.0")
    with pytest.raises(InputError, match=r"v1 is already a published version \(1\.0\.0\).* Give the RUN"):
        publish(tmp_path / "v1", tmp_path / "v2", "1.0.0")


@pytest.mark.thorough
def test_a_folder_that_looks_like_a_repository_is_said_to_be_one(scripted_build, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    said = publishing_summary(publish(scripted_build.folder, "team/x", "1.0.0"), "team/x", dry_run=False)
    assert "team/x is a folder; for the Hub write hub:team/x." in said
    assert "hub:" not in publishing_summary(publish(scripted_build.folder, "runs/x", "1.0.0"), "runs/x", dry_run=False)


def test_another_publish_to_the_same_place_is_named_as_one(scripted_build, tmp_path):
    with (
        locked(tmp_path / ".v1.unfinished", "publish"),
        pytest.raises(InputError, match=r"Another publish of .*v1 is running\. Wait for it"),
    ):
        publish(scripted_build.folder, tmp_path / "v1", "1.0.0")
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match=r"cannot be written .* --to folder"):
        publish(scripted_build.folder, tmp_path / "file" / "v1", "1.0.0")


@pytest.mark.thorough
def test_replies_that_the_version_before_had_are_missed_aloud(scripted_build, tmp_path):
    publish(scripted_build.folder, tmp_path / "v1", "1.0.0", responses=True)
    published = publish(scripted_build.folder, tmp_path / "v2", "1.0.1", previous=str(tmp_path / "v1"))
    removed = "responses.parquet removed, which the version before has"
    assert published.build["changelog"][0]["changes"] == ["no row differs", removed]
    said = publishing_summary(published, str(tmp_path / "v2"), dry_run=False)
    assert removed in said
    assert "--responses adds it" in said
    kept = publish(scripted_build.folder, tmp_path / "kept", "1.0.1", previous=str(tmp_path / "v1"), responses=True)
    assert "responses" not in str(kept.build["changelog"]) + str(kept.warnings)
