"""The folder for a Space: it runs with its own code and with what its requirements install, and with nothing else of this machine."""

import importlib.metadata
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx2
import pytest
from packaging.requirements import Requirement

from builder.errors import InputError
from eval.human.opening import open_study
from eval.human.space import write_space
from eval.human.space_storage import COPIES_KEPT, NAME, Place, _state, admit, copied, place, take_up
from eval.human.store import Store
from eval.human.study import fingerprint_of, load_study, settings_of
from tests.human.conftest import REASON
from tests.waiting import wait_until

BUCKET = "overlay / overlay rw 0 0\nhf-mount {volume} fuse rw 0 0\n"
DISK = "overlay / overlay rw 0 0\n/dev/sdb {volume} ext4 rw 0 0\n"
PASSWORD = "a password for this test"


# ---- the folder ----


@pytest.fixture
def tokens(study_file: Path) -> list[str]:
    _, store = open_study(study_file)
    issued = store.issue_tokens(4)
    store.close()
    return issued


def test_the_folder_holds_the_study_its_code_and_no_token(study_file: Path, tokens: list[str], tmp_path: Path) -> None:
    said = write_space(study_file, tmp_path / "space", None)
    assert "4 tokens" in said
    folder = tmp_path / "space"
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert {
        "README.md",
        "app.py",
        "requirements.txt",
        "STUDY.yaml",
        "material.json",
        "raters.json",
        "LICENSE",
        "NOTICE",
    } <= files
    assert {"eval/human/app.py", "eval/web/templates/base.html", "eval/web/templates/style.css"} <= files
    assert not any(
        name.startswith(("tests", "benchmarks", "builder/llm/calls", "builder/judge", "builder/census", "data"))
        for name in files
    )
    everything = "".join(path.read_text(encoding="utf-8") for path in folder.rglob("*") if path.is_file())
    assert not any(token in everything for token in tokens)
    assert len(json.loads((folder / "raters.json").read_text())) == 4
    front = (folder / "README.md").read_text().split("---\n")[1]
    assert f'sdk_version: "{importlib.metadata.version("gradio")}"' in front
    assert 'title: "A small study"' in front
    assert 'sdk: "gradio"' in front
    assert 'app_file: "app.py"' in front
    assert "pinned: false" in front
    assert not re.search(r"\{[A-Z_]+\}", (folder / "README.md").read_text())


def test_the_folder_says_nothing_of_where_the_dataset_lies_and_is_the_same_study(
    study_file: Path, tokens: list[str], tmp_path: Path
) -> None:
    (tmp_path / "private place").mkdir()
    (tmp_path / "data").rename(tmp_path / "private place" / "data")
    text = study_file.read_text().replace("dataset: data", f"dataset: {tmp_path}/private place/data  # where it lies")
    study_file.write_text(text.replace("A small study", '"A small study: of café, yes or no?"'))
    open_study(study_file)[1].close()
    write_space(study_file, tmp_path / "space", None)
    written = tmp_path / "space" / "STUDY.yaml"
    assert "dataset: data\n" in written.read_text(encoding="utf-8")
    files = [path for path in (tmp_path / "space").rglob("*") if path.is_file()]
    assert not any("private place" in path.read_text(encoding="utf-8") for path in files)
    assert settings_of(load_study(written)) == settings_of(load_study(study_file))
    assert fingerprint_of(load_study(written)) == fingerprint_of(load_study(study_file))


def test_a_folder_that_is_there_stays_as_it_is(study_file: Path, tokens: list[str], tmp_path: Path) -> None:
    (tmp_path / "space").mkdir()
    with pytest.raises(InputError, match="is there already"):
        write_space(study_file, tmp_path / "space", None)
    assert not list((tmp_path / "space").iterdir())


def test_without_tokens_nobody_could_enter(study_file: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no token was issued"):
        write_space(study_file, tmp_path / "space", None)
    assert not (tmp_path / "space").exists()
    assert not study_file.with_suffix(".sqlite").exists()


def test_whoever_comes_needs_no_tokens(study_file: Path, tmp_path: Path) -> None:
    study_file.write_text(study_file.read_text() + "recruiting: open\n")
    assert "once for each PROLIFIC_PID" in write_space(study_file, tmp_path / "space", None)
    assert json.loads((tmp_path / "space" / "raters.json").read_text()) == []


def test_what_fails_half_way_leaves_nothing(
    study_file: Path, tokens: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eval.human.space.REQUIREMENTS", ("no-such-package",))
    before = set(tmp_path.iterdir())
    with pytest.raises(InputError, match="no-such-package is not installed"):
        write_space(study_file, tmp_path / "space", None)
    assert set(tmp_path.iterdir()) == before


# ---- the running Space ----


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what `pip install gradio` and the Space's requirements.txt install, linked from here: nothing else can be imported."""
    from eval.human.space import REQUIREMENTS

    folder = tmp_path_factory.mktemp("packages")
    waiting, done = ["gradio", *REQUIREMENTS], set()
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in done:
            continue
        done.add(name)
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # for another system
        for file in distribution.files or ():
            if file.parts[0] not in ("..", "__pycache__"):
                target = folder / file.parts[0]
                if not target.exists():
                    target.symlink_to(Path(str(distribution.locate_file(file.parts[0]))))
        for line in distribution.requires or ():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(requirement.name)
    assert not (folder / "torch").exists()
    return folder


@contextmanager
def running(folder: Path, packages: Path, environment: dict[str, str]) -> Iterator[str]:
    """The Space's app.py, with its folder and `packages` as all that Python can import; gives its address. Stopped by SIGTERM."""
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        port = chosen.getsockname()[1]
    process = start(folder, packages, environment | {"GRADIO_SERVER_PORT": str(port)})
    try:
        address = f"http://127.0.0.1:{port}"
        wait_until(lambda: process.poll() is not None or answers(address), 300, "an answer of the Space")
        if process.poll() is not None:
            raise AssertionError(f"the Space ended: {process.communicate()[0]}")
        yield address
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=30)
        assert process.returncode == 0, said
        assert "Traceback" not in said, said
    finally:
        process.kill()
        process.wait()


def answers(address: str) -> bool:
    try:
        httpx2.get(address)
    except httpx2.TransportError:
        return False
    return True


def start(folder: Path, packages: Path, environment: dict[str, str]) -> "subprocess.Popen[str]":
    code = f"import sys, runpy; sys.path[:0] = [{str(folder)!r}, {str(packages)!r}]; runpy.run_path('app.py', run_name='__main__')"
    base = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder.parent),
        "HF_HUB_OFFLINE": "1",
        "SYSTEM": "spaces",
        "SPACE_ID": "org/name",
    }
    return subprocess.Popen(
        [sys.executable, "-S", "-E", "-s", "-c", code],
        cwd=folder,
        env=base | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def answer_everything(address: str, token: str, questions: int = 4) -> str:
    """One rater, from the link to the end; the text of the last page. A question that is answered is passed over."""
    with httpx2.Client(base_url=address, follow_redirects=True) as client:
        client.post("/begin", data={"token": token, "consent": "yes"}).raise_for_status()
        for number in range(1, questions + 1):
            page = client.get("/question", params={"token": token, "n": number})
            item = re.search(r'name="item"[^>]*value="([^"]*)"', page.text)
            assert item, page.text
            form = {"token": token, "item": item[1], "choice": "A", "reason": f"{REASON} Number {number}."}
            client.post("/answer", data=form).raise_for_status()
        return client.post("/finish", data={"token": token}).raise_for_status().text


def test_a_rater_goes_through_the_space_and_the_answers_outlive_it(
    study_file: Path, tokens: list[str], tmp_path: Path, packages: Path
) -> None:
    write_space(study_file, tmp_path / "space", None)
    database = tmp_path / "kept" / "study.sqlite"
    environment = {"PERSONA_STUDY_DATABASE": str(database), "PERSONA_STUDY_PASSWORD": PASSWORD}
    with running(tmp_path / "space", packages, environment) as address:
        assert httpx2.get(f"{address}/", params={"token": "x" * 22}).status_code == 404
        assert "DONE-1234" in answer_everything(address, tokens[0])
        export = httpx2.get(f"{address}/export", auth=("anybody", PASSWORD))
        assert export.status_code == 200, export.text
        assert export.content.startswith(b"PK")
    # At home, with the study file that was there before.
    _, store = open_study(study_file, database, create=False)
    with closing(store):
        assert len(store.answers()) == 4
        assert sorted(rater.state for rater in store.raters()) == ["finished", "new", "new", "new"]


def test_without_storage_the_space_says_why_it_does_not_start(
    study_file: Path, tokens: list[str], tmp_path: Path, packages: Path
) -> None:
    if Path("/data").exists():
        pytest.skip("this machine has a /data")
    write_space(study_file, tmp_path / "space", None)
    process = start(tmp_path / "space", packages, {})
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "no storage at /data" in said
    assert "PERSONA_STUDY_DATABASE" in said
    assert "Traceback" not in said


# ---- where the database stands ----


def test_the_place_is_named_or_a_disk_or_copied_to_a_bucket(tmp_path: Path) -> None:
    volume = tmp_path / "data"
    volume.mkdir()
    bucket, disk = BUCKET.format(volume=volume), DISK.format(volume=volume)
    assert place({"PERSONA_STUDY_DATABASE": "/x/y.sqlite"}, bucket, volume) == Place(Path("/x/y.sqlite"), None)
    assert place({}, disk, volume) == Place(volume / NAME, None)
    on_bucket = place({}, bucket, volume)
    assert on_bucket.copies == volume
    assert volume not in on_bucket.database.parents
    for mounts in ("", "overlay / overlay rw 0 0\n", f"tmpfs {volume} tmpfs rw 0 0\n"):
        with pytest.raises(InputError, match="outlives a restart"):
            place({}, mounts, volume)


def test_what_was_answered_is_on_the_bucket_and_taken_up_at_the_next_start(store: Store, tmp_path: Path) -> None:
    bucket = tmp_path / "bucket"
    bucket.mkdir()
    first = Place(store.path, bucket)
    with copied(first, seconds=0.05):
        wait_until(lambda: bool(list(bucket.iterdir())), 60, "a copy while the study runs")
        token = store.issue_tokens(1)[0]
    next_start = Place(tmp_path / "disk" / NAME, bucket)
    assert take_up(next_start) == max(bucket.iterdir())
    with closing(sqlite3.connect(next_start.database)) as connection:
        assert connection.execute("SELECT COUNT(*) FROM raters").fetchone() == (1,)
    from eval.human.opening import open_store

    again = open_store(next_start.database, store.study, lambda: store.material, create=False)
    with closing(again):
        assert again.rater(token) is not None


def test_nothing_new_makes_no_copy_and_few_copies_are_kept(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = []

    def look(database: Path) -> tuple[int, ...]:
        looks.append(database)
        return _state(database)

    def two_more_looks() -> None:
        there = len(looks)
        wait_until(lambda: len(looks) >= there + 2, 60, "two more looks at the database")

    monkeypatch.setattr("eval.human.space_storage._state", look)
    bucket = tmp_path / "bucket"
    bucket.mkdir()
    earlier = bucket / f"{NAME}.20200101T000000000000.20200101T000000000000"
    earlier.write_bytes(b"of an earlier start")
    with copied(Place(store.path, bucket), seconds=0.02):
        for _ in range(COPIES_KEPT + 3):
            before = max(bucket.iterdir())
            store.issue_tokens(1)
            wait_until(lambda before=before: max(bucket.iterdir()) != before, 60, "a copy of what is new")
        two_more_looks()
        settled = set(bucket.iterdir())
        two_more_looks()
        assert set(bucket.iterdir()) == settled
    assert len(settled) == COPIES_KEPT + 1
    assert earlier in settled


def test_a_copy_that_is_cut_off_is_passed_over_and_the_last_whole_one_taken(store: Store, tmp_path: Path) -> None:
    bucket = tmp_path / "bucket"
    bucket.mkdir()
    with copied(Place(store.path, bucket)):
        pass
    whole = max(bucket.iterdir())
    cut = bucket / f"{NAME}.29990101T000000000000.29990101T000000000000"
    cut.write_bytes(whole.read_bytes()[:5000])
    target = Place(tmp_path / "disk" / NAME, bucket)
    assert take_up(target) == whole
    whole.unlink()
    target.database.unlink()
    with pytest.raises(InputError, match="None of the 1 copies"):
        take_up(target)
    assert not target.database.exists()


def test_a_bucket_that_fails_stops_no_rater(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with copied(Place(store.path, tmp_path / "gone"), seconds=0.02):
        wait_until(lambda: "could not be copied" in capsys.readouterr().out, 60, "a word on the copy that failed")
        assert store.issue_tokens(1)


def test_a_hash_lets_the_holder_of_the_token_in_and_no_one_twice(store: Store, tmp_path: Path) -> None:
    from eval.human.opening import open_store

    token = store.issue_tokens(1)[0]
    rater = store.rater(token)
    assert rater is not None
    elsewhere = open_store(tmp_path / "elsewhere.sqlite", store.study, lambda: store.material)
    with closing(elsewhere):
        assert elsewhere.rater(token) is None
        admit(elsewhere.path, [rater.rater_id])
        elsewhere.begin(rater.rater_id)
        admit(elsewhere.path, [rater.rater_id])
        found = elsewhere.rater(token)
        assert found is not None
        assert found.state == "open"
