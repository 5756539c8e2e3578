"""Fetching PUMS files from a server that breaks connections, refuses, lies and changes its mind."""

import fcntl
import hashlib
import io
import json
import os
import resource
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from builder.census import download
from builder.census.fetch import STATES, fetch_pums
from builder.census.pums import read_pums
from builder.errors import InputError
from tests.builder.test_census_pums import HOUSEHOLD, PERSON, csv_text
from tests.file_server import Fault, FileServer, file_server
from tests.waiting import wait_until

PERSONS_URL, HOUSING_URL = "/2018/1-Year/csv_pwy.zip", "/2018/1-Year/csv_hwy.zip"


def zip_of(name: str, text: str, padding: int = 40_000) -> bytes:
    """Stored, not packed, beside a file that makes it large enough to break in the middle."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), text)
        archive.writestr(zipfile.ZipInfo("readme.pdf", (2020, 1, 1, 0, 0, 0)), bytes(range(250)) * (padding // 250))
    return content.getvalue()


PERSONS = zip_of("psam_p56.csv", csv_text([PERSON]))
NEWER_PERSONS = zip_of("psam_p56.csv", csv_text([PERSON | {"AGEP": "42"}]))
HOUSING = zip_of("psam_h56.csv", csv_text([{"SERIALNO": PERSON["SERIALNO"], **HOUSEHOLD}]), padding=250)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with file_server({PERSONS_URL: PERSONS, HOUSING_URL: HOUSING}) as running:
        yield running


def fetch(server: FileServer, folder: Path, waited: list[float] | None = None, **settings: Any) -> dict[str, Any]:
    """Without waiting; what would have been waited for is kept in `waited`."""
    waits = [] if waited is None else waited
    arguments = {"year": 2018, "states": ["WY"], "base_url": server.base_url, "progress": False} | settings
    return fetch_pums(folder=folder, wait=waits.append, **arguments)


def files_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {".lock"}


WHOLE = {"csv_pwy.zip", "csv_hwy.zip", "manifest.json"}


def test_what_is_fetched_can_be_read_as_a_folder(server: FileServer, tmp_path: Path) -> None:
    manifest = fetch(server, tmp_path)
    assert files_in(tmp_path) == WHOLE
    assert (tmp_path / "csv_pwy.zip").read_bytes() == PERSONS
    records = read_pums(tmp_path)
    assert (records.survey_year, records.table["HHT"].to_pylist()) == (2018, [1])
    assert [path for path, _ in server.requests] == [PERSONS_URL, HOUSING_URL]
    assert json.loads((tmp_path / "manifest.json").read_text()) == manifest
    assert manifest["year"] == 2018
    assert manifest["period"] == "1-Year"
    entry = manifest["files"]["csv_pwy.zip"]
    assert entry["url"] == server.base_url + PERSONS_URL
    assert (entry["bytes"], entry["sha256"]) == (len(PERSONS), hashlib.sha256(PERSONS).hexdigest())
    assert entry["etag"].startswith('"')
    assert entry["last_modified"].endswith("GMT")


def test_a_second_run_checks_and_downloads_nothing(server: FileServer, tmp_path: Path) -> None:
    first = fetch(server, tmp_path)
    before = (tmp_path / "manifest.json").read_bytes()
    server.requests.clear()
    assert fetch(server, tmp_path) == first
    assert server.requests == []
    assert (tmp_path / "manifest.json").read_bytes() == before


def test_more_states_go_into_the_same_folder_and_manifest(server: FileServer, tmp_path: Path) -> None:
    fetch(server, tmp_path)
    server.files |= {"/2018/1-Year/csv_pco.zip": PERSONS, "/2018/1-Year/csv_hco.zip": HOUSING}
    manifest = fetch(server, tmp_path, states=["co", "WY", "CO"])
    assert list(manifest["files"]) == ["csv_hco.zip", "csv_hwy.zip", "csv_pco.zip", "csv_pwy.zip"]
    assert len(server.requests) == 4


def test_five_year_files_have_their_own_place(server: FileServer, tmp_path: Path) -> None:
    server.files = {path.replace("1-Year", "5-Year"): content for path, content in server.files.items()}
    assert fetch(server, tmp_path, five_year=True)["period"] == "5-Year"


def test_a_file_changed_on_disk_is_fetched_again(server: FileServer, tmp_path: Path) -> None:
    fetch(server, tmp_path)
    damaged = bytearray(PERSONS)
    damaged[100] ^= 1
    (tmp_path / "csv_pwy.zip").write_bytes(damaged)  # of the same size
    server.requests.clear()
    fetch(server, tmp_path)
    assert [path for path, _ in server.requests] == [PERSONS_URL]
    assert (tmp_path / "csv_pwy.zip").read_bytes() == PERSONS


def test_a_broken_connection_goes_on_where_it_stopped(server: FileServer, tmp_path: Path) -> None:
    server.faults = [Fault(break_after=15_000), Fault(break_after=10_000)]
    waited: list[float] = []
    fetch(server, tmp_path, waited)
    assert server.ranges() == [None, "bytes=15000-", "bytes=25000-", None]
    assert server.requests[1][1]["if-range"].startswith('"')
    assert (tmp_path / "csv_pwy.zip").read_bytes() == PERSONS
    assert server.bytes_sent == len(PERSONS) + len(HOUSING)  # nothing came twice
    assert waited == [1, 2]
    assert files_in(tmp_path) == WHOLE


@pytest.mark.parametrize(
    ("validators", "goes_on"),
    [(("Last-Modified",), True), (("ETag", "Last-Modified"), True), (("ETag",), False), ((), False)],
)
def test_a_server_without_strong_etags(
    server: FileServer, tmp_path: Path, validators: tuple[str, ...], goes_on: bool
) -> None:
    """Goes on by date; without one, nothing says that the rest belongs to the beginning, so all of it is asked for."""
    server.validators, server.weak_etags = validators, True
    server.faults = [Fault(break_after=15_000)]
    fetch(server, tmp_path)
    assert server.ranges()[1] == ("bytes=15000-" if goes_on else None)
    assert server.bytes_sent == len(PERSONS) + len(HOUSING) + (0 if goes_on else 15_000)
    assert (tmp_path / "csv_pwy.zip").read_bytes() == PERSONS


def test_a_rest_that_is_shorter_than_said_goes_on_from_there(server: FileServer, tmp_path: Path) -> None:
    server.faults = [Fault(break_after=15_000), Fault(cut_to=5_000)]
    fetch(server, tmp_path)
    assert server.ranges() == [None, "bytes=15000-", "bytes=20000-", None]
    assert server.bytes_sent == len(PERSONS) + len(HOUSING)


@pytest.mark.parametrize(
    "second", [None, Fault(ignore_if_range=True)], ids=["the server starts over", "it overlooks If-Range"]
)
def test_a_file_that_changes_between_two_attempts_is_never_pieced_together(
    server: FileServer, tmp_path: Path, second: Fault | None, capsys: pytest.CaptureFixture[str]
) -> None:
    server.faults = [Fault(break_after=15_000), second]

    def change_file(_: float) -> None:
        server.files[PERSONS_URL] = NEWER_PERSONS

    assert len(NEWER_PERSONS) == len(PERSONS)
    manifest = fetch_pums(2018, ["WY"], tmp_path, base_url=server.base_url, wait=change_file)
    # Noticed by what the answer says of its version, before any of it is written.
    assert ("went on with another version" in capsys.readouterr().err) == (second is not None)
    assert (tmp_path / "csv_pwy.zip").read_bytes() == NEWER_PERSONS
    assert manifest["files"]["csv_pwy.zip"]["etag"] == f'"{hashlib.sha256(NEWER_PERSONS).hexdigest()[:16]}"'


def test_a_server_that_ignores_ranges_sends_everything_again(server: FileServer, tmp_path: Path) -> None:
    server.faults = [Fault(break_after=15_000), Fault(ignore_range=True)]
    fetch(server, tmp_path)
    assert (tmp_path / "csv_pwy.zip").read_bytes() == PERSONS


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_busy_servers_are_asked_again(server: FileServer, tmp_path: Path, status: int) -> None:
    server.faults = [Fault(status=status), Fault(status=status)]
    waited: list[float] = []
    fetch(server, tmp_path, waited)
    assert waited == [1, 2]
    assert files_in(tmp_path) == WHOLE


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Retry-After": "7"}, 7),
        ({"Retry-After": "86400"}, download.LONGEST_WAIT_S),
        ({"Retry-After": "Tue, 02 Jan 2024 10:00:30 GMT", "Date": "Tue, 02 Jan 2024 10:00:00 GMT"}, 30),
        ({"Retry-After": "soon"}, 1),
    ],
)
def test_a_server_may_say_how_long_to_wait(
    server: FileServer, tmp_path: Path, headers: dict[str, str], expected: float
) -> None:
    server.faults = [Fault(status=503, headers=headers)]
    waited: list[float] = []
    fetch(server, tmp_path, waited)
    assert waited == [expected]


def test_a_missing_file_is_not_asked_for_again(server: FileServer, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"/2019/1-Year/csv_pwy\.zip: 404.*may not exist yet"):
        fetch(server, tmp_path, year=2019)
    assert len(server.requests) == 1
    with pytest.raises(InputError, match=r"experimental 1-year files"):
        fetch(server, tmp_path, year=2020)


def test_a_server_that_refuses_is_not_asked_again(server: FileServer, tmp_path: Path) -> None:
    server.faults = [Fault(status=403)]
    with pytest.raises(InputError, match="403"):
        fetch(server, tmp_path)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "fault",
    [Fault(cut_to=20_000), Fault(no_length=True, break_after=20_000), Fault(damage=True)],
    ids=["a short file with a matching length", "cut off without a length", "one wrong byte"],
)
def test_a_file_that_is_no_whole_zip_is_fetched_again(server: FileServer, tmp_path: Path, fault: Fault) -> None:
    server.faults = [fault]
    fetch(server, tmp_path)
    assert (tmp_path / "csv_pwy.zip").read_bytes() == PERSONS
    assert server.ranges() == [None, None, None]


def test_a_file_that_stays_damaged_gets_no_name(server: FileServer, tmp_path: Path) -> None:
    server.files[PERSONS_URL] = b"<html>Please log in to this network</html>"
    with pytest.raises(InputError, match="no whole zip archive"):
        fetch(server, tmp_path)
    assert files_in(tmp_path) == set()
    assert len(server.requests) == 3


def test_giving_up_keeps_what_arrived_and_the_next_run_goes_on(server: FileServer, tmp_path: Path) -> None:
    server.faults = [Fault(break_after=15_000), *[Fault(status=503)] * 5]
    waited: list[float] = []
    with pytest.raises(InputError, match=r"answers 503.*csv_pwy\.zip\.part"):
        fetch(server, tmp_path, waited)
    assert waited == [1, 2, 4, 8, 16]
    with pytest.raises(InputError, match="did not finish"):
        read_pums(tmp_path)
    fetch(server, tmp_path)
    assert "bytes=15000-" in server.ranges()
    assert (tmp_path / "csv_pwy.zip").read_bytes() == PERSONS


def test_a_long_file_over_a_bad_line_is_not_given_up(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More breaks than ATTEMPTS, each after a good piece; and an end to it where the same piece comes again and again."""
    monkeypatch.setattr(download, "PROGRESS_BYTES", 2_000)
    server.faults = [Fault(break_after=3_000)] * 10
    fetch(server, tmp_path / "pieces")
    server.faults = [Fault(break_after=3_000, ignore_range=True)] * 20
    with pytest.raises(InputError, match="could not be fetched"):
        fetch(server, tmp_path / "same piece")


def test_a_server_that_falls_silent(server: FileServer, tmp_path: Path) -> None:
    server.faults = [Fault(stall_after=15_000)]
    fetch(server, tmp_path, timeout_s=0.2)
    assert server.ranges()[1] == "bytes=15000-"


def test_nobody_there(tmp_path: Path) -> None:
    with file_server({}) as gone:
        pass
    with pytest.raises(InputError, match=r"could not be fetched; the last attempt: ConnectError"):
        fetch(gone, tmp_path)
    with pytest.raises(InputError, match="Check --base-url"):
        fetch(FileServer(base_url="ftp://127.0.0.1"), tmp_path)


def test_killed_in_the_middle_and_run_again(server: FileServer, tmp_path: Path) -> None:
    server.faults = [Fault(stall_after=15_000)]
    script = "import sys; from builder.census.fetch import fetch_pums; fetch_pums(2018, ['WY'], sys.argv[1], base_url=sys.argv[2])"
    child = subprocess.Popen([sys.executable, "-c", script, str(tmp_path), server.base_url], stderr=subprocess.DEVNULL)
    part = tmp_path / "csv_pwy.zip.part"
    wait_until(lambda: part.exists() and part.stat().st_size > 0, 300, "the first bytes")
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    kept = part.stat().st_size
    assert kept > 0
    fetch(server, tmp_path)
    assert server.ranges()[1] == f"bytes={kept}-"
    assert (tmp_path / "csv_pwy.zip").read_bytes() == PERSONS
    assert files_in(tmp_path) == WHOLE


def test_killed_before_the_last_step(server: FileServer, tmp_path: Path) -> None:
    """Everything has arrived and the manifest knows it, but the file has not got its name; or not even the manifest knows it."""
    fetch(server, tmp_path)
    (tmp_path / "csv_pwy.zip").rename(tmp_path / "csv_pwy.zip.part")
    server.requests.clear()
    fetch(server, tmp_path)
    assert server.requests == []
    assert files_in(tmp_path) == WHOLE

    manifest = json.loads((tmp_path / "manifest.json").read_text())
    entry = manifest["files"].pop("csv_pwy.zip")
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    (tmp_path / "csv_pwy.zip").rename(tmp_path / "csv_pwy.zip.part")
    (tmp_path / "csv_pwy.zip.part.json").write_text(json.dumps(entry))
    fetch(server, tmp_path)
    assert server.requests == []
    assert files_in(tmp_path) == WHOLE


def test_leftovers_of_another_address_are_not_continued(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "csv_pwy.zip.part").write_bytes(b"x" * 5_000)
    notes = {"url": "http://elsewhere/csv_pwy.zip", "bytes": len(PERSONS), "etag": '"x"', "last_modified": None}
    (tmp_path / "csv_pwy.zip.part.json").write_text(json.dumps(notes))
    fetch(server, tmp_path)
    assert server.ranges() == [None, None]
    assert (tmp_path / "csv_pwy.zip").read_bytes() == PERSONS


def test_two_fetches_do_not_share_a_folder(server: FileServer, tmp_path: Path) -> None:
    with (tmp_path / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="Another fetch is running"):
            fetch(server, tmp_path)
    assert server.requests == []
    fetch(server, tmp_path)


def test_years_do_not_mix_in_a_folder(server: FileServer, tmp_path: Path) -> None:
    fetch(server, tmp_path)
    with pytest.raises(InputError, match=r"1-Year files of 2018.*for the 1-Year files of 2019"):
        fetch(server, tmp_path, year=2019)
    with pytest.raises(InputError, match="for the 5-Year files of 2018"):
        fetch(server, tmp_path, five_year=True)


def test_a_file_that_the_manifest_does_not_know_stays_as_it_is(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "csv_pwy.zip").write_bytes(b"mine")
    with pytest.raises(InputError, match=r"csv_pwy\.zip is there, but manifest\.json does not list it"):
        fetch(server, tmp_path)
    assert (tmp_path / "csv_pwy.zip").read_bytes() == b"mine"


@pytest.mark.parametrize("content", ["not json", "[]", '{"year": 2018}'])
def test_a_manifest_that_cannot_be_read(server: FileServer, tmp_path: Path, content: str) -> None:
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(InputError, match="not the manifest of a fetch"):
        fetch(server, tmp_path)


@pytest.mark.parametrize(
    ("states", "message"),
    [
        (["wyo"], r"WY \(Wyoming\)"),
        (["Wyomin"], r"WY \(Wyoming\)"),
        (["xx"], "Give two letters"),
        (["us", "wy"], "twice"),
        ([], "names no state"),
        ([" "], "names no state"),
    ],
)
def test_states_are_postal_codes(tmp_path: Path, states: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        fetch_pums(2018, states, tmp_path / "new", base_url="http://127.0.0.1:9", progress=False)
    assert not (tmp_path / "new").exists()
    assert len(STATES) == 53  # 50 states, the capital, Puerto Rico, the nation


def test_a_folder_that_cannot_be_written(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        fetch(server, tmp_path / "file")
    with pytest.raises(InputError, match=r"--year is 1999"):
        fetch(server, tmp_path, year=1999)


def test_a_full_disk_keeps_what_arrived(server: FileServer, tmp_path: Path) -> None:
    """Stood in for by the largest file that this process may write."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16_384, limits[1]))
    try:
        with pytest.raises(InputError, match="free some space"):
            fetch(server, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    fetch(server, tmp_path)
    assert server.ranges()[1] == "bytes=16384-"
    assert (tmp_path / "csv_pwy.zip").read_bytes() == PERSONS


def test_progress_goes_to_stderr(server: FileServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server.faults = [Fault(status=503)]
    fetch(server, tmp_path, progress=True)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "the server answers 503; trying again in 1 s" in shown.err
    assert "csv_pwy.zip (1 of 2)" in shown.err
