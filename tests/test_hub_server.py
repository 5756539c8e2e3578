"""The Hub on 127.0.0.1 answers the real clients as the Hub does, and fails as a test tells it to."""

import base64
import hashlib
import io
import json
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import httpx2
import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, HfFileSystem, hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from tests import hub_target as targets
from tests.hub_server import QUOTA_MESSAGE, READ_TOKEN, WRITE_TOKEN, environment, hub_server

REPO = "org/personas"
CARD = b"---\nlicense: mit\n---\n# Personas\n"


def table(first=0, rows=100, group=10):
    """A Parquet file with `rows` rows, `group` to a row group."""
    numbers = range(first, first + rows)
    content = arrow.table({"persona_id": [f"p{n // 10}" for n in numbers], "text": [f"{n}" * 50 for n in numbers]})
    out = io.BytesIO()
    parquet.write_table(content, out, row_group_size=group)
    return out.getvalue()


def publish(files, repo=REPO, kind="dataset", message="Version 1.0.0", token=None, **settings):
    """One commit with these files through the real client."""
    api = HfApi(token=token)
    operations = [CommitOperationAdd(path, content) for path, content in files.items()]
    return api.create_commit(repo, operations, commit_message=message, repo_type=kind, **settings)


def sha256(content):
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def api(hub):
    api = HfApi()
    api.create_repo(REPO, repo_type="dataset")
    hub.requests.clear()
    return api


def fetch(url, method="GET", body=None, **headers):
    """Status, headers and body of one request, without a client that repeats it."""
    try:
        answer = urllib.request.urlopen(urllib.request.Request(url, body, headers, method=method))
    except urllib.error.HTTPError as error:
        answer = error
    return answer.status, answer.headers, answer.read()


# Writing


def test_text_and_lfs_files_arrive_in_one_commit(hub, api):
    files = {
        "README.md": CARD,
        "data/train.parquet": table(),
        "figures/one.png": b"\x89PNG\0" * 100,
        "build.json": b"{}",
    }
    before = hub.head(REPO)
    made = publish(files, parent_commit=before)
    assert hub.head(REPO) == made.oid
    assert {path: c for path, c in hub.files(REPO).items() if path != ".gitattributes"} == files
    assert [(c.sha, c.parent, c.title) for c in hub.log(REPO)] == [
        (made.oid, before, "Version 1.0.0"),
        (before, None, "initial commit"),
    ]
    assert [c.commit_id for c in api.list_repo_commits(REPO, repo_type="dataset")] == [made.oid, before]
    told = {f.path: f for f in api.get_paths_info(REPO, [*files, "absent"], repo_type="dataset")}
    assert set(told) == set(files)
    assert (told["README.md"].lfs, told["build.json"].size) == (None, 2)
    content = files["data/train.parquet"]
    assert (told["data/train.parquet"].lfs.sha256, told["data/train.parquet"].size) == (
        sha256(content),
        len(content),
    )
    info = api.dataset_info(REPO, files_metadata=True)
    assert (info.sha, info.private, info.card_data.license) == (made.oid, False, "mit")
    assert {s.rfilename for s in info.siblings if s.lfs} == {"data/train.parquet", "figures/one.png"}


def test_what_lfs_has_is_not_uploaded_twice_and_an_unchanged_file_makes_no_commit(hub, api):
    files = {"data/train.parquet": table(), "build.json": b"{}"}
    first = publish(files)
    publish({"data/copy.parquet": table()}, message="A copy")
    assert sum(method == "PUT" for method, _ in hub.requests) == 1
    again = publish(files, message="Nothing new")
    assert again.oid == hub.head(REPO) != first.oid
    assert hub.log(REPO)[0].title == "A copy"


def test_a_large_file_arrives_in_parts(hub, api):
    hub.part_bytes = 1000
    content = table(rows=300)
    publish({"data/train.parquet": content})
    assert hub.files(REPO)["data/train.parquet"] == content
    parts = [path for method, path in hub.requests if method == "PUT"]
    assert len(parts) == -(-len(content) // 1000) > 2
    assert sum(hub.bytes_received[path] for path in parts) == len(content)


def test_files_and_folders_are_deleted_in_the_commit_that_adds_others(hub, api):
    publish({"data/a/1.parquet": table(), "data/a/2.parquet": table(1), "old.json": b"1"})
    operations = [
        CommitOperationDelete("data/a/", is_folder=True),
        CommitOperationDelete("old.json"),
        CommitOperationAdd("new.json", b"2"),
    ]
    api.create_commit(REPO, operations, commit_message="New", repo_type="dataset")
    assert sorted(hub.files(REPO)) == [".gitattributes", "new.json"]
    with pytest.raises(EntryNotFoundError):
        api.create_commit(REPO, [CommitOperationDelete("old.json")], commit_message="Again", repo_type="dataset")


@pytest.mark.parametrize("status", [412, 409])
def test_a_commit_on_a_parent_that_is_no_longer_the_head_is_refused(hub, api, status):
    hub.stale_status = status
    stale = hub.head(REPO)
    other = publish({"theirs.json": b"1"}, message="Someone else's")
    with pytest.raises(HfHubHTTPError) as refused:
        publish({"data/train.parquet": table()}, parent_commit=stale)
    assert refused.value.response.status_code == status
    assert "commit has happened since" in str(refused.value)
    assert hub.head(REPO) == other.oid
    assert publish({"data/train.parquet": table()}, parent_commit=other.oid).oid == hub.head(REPO)


def test_a_tag_stays_where_it_was_put_and_is_not_made_twice(hub, api):
    first = publish({"build.json": b"1"})
    api.create_tag(REPO, tag="v1.0.0", revision=first.oid, repo_type="dataset")
    publish({"build.json": b"2"})
    with pytest.raises(HfHubHTTPError) as refused:
        api.create_tag(REPO, tag="v1.0.0", repo_type="dataset")
    assert refused.value.response.status_code == 409
    api.create_tag(REPO, tag="v1.0.0", repo_type="dataset", exist_ok=True)
    assert hub.tags(REPO) == {"v1.0.0": first.oid}
    assert [(t.name, t.target_commit) for t in api.list_repo_refs(REPO, repo_type="dataset").tags] == [
        ("v1.0.0", first.oid)
    ]
    assert hub.files(REPO, "v1.0.0")["build.json"] == b"1"
    with pytest.raises(RevisionNotFoundError):
        api.create_tag(REPO, tag="v2.0.0", revision="0" * 40, repo_type="dataset")
    api.delete_tag(REPO, tag="v1.0.0", repo_type="dataset")
    with pytest.raises(RevisionNotFoundError):
        api.delete_tag(REPO, tag="v1.0.0", repo_type="dataset")
    assert hub.tags(REPO) == {}


def test_a_pull_request_leaves_main_alone_until_it_is_merged_as_one_commit(hub, api):
    publish({"build.json": b"1", "old.json": b"old"})
    head = hub.head(REPO)
    opened = publish({"build.json": b"2", "data/train.parquet": table()}, message="Version 1.1.0", create_pr=True)
    assert (opened.pr_num, opened.pr_revision, hub.head(REPO)) == (1, "refs/pr/1", head)
    onto = [CommitOperationDelete("old.json")]
    api.create_commit(REPO, onto, commit_message="More", repo_type="dataset", revision="refs/pr/1")
    assert set(hub.files(REPO, "refs/pr/1")) == {".gitattributes", "build.json", "data/train.parquet"}
    refs = api.list_repo_refs(REPO, repo_type="dataset", include_pull_requests=True)
    assert [(r.ref, r.target_commit) for r in refs.pull_requests] == [("refs/pr/1", hub.pull_requests(REPO)[0].head)]
    assert api.list_repo_refs(REPO, repo_type="dataset").pull_requests is None
    path = hf_hub_download(REPO, "build.json", repo_type="dataset", revision="refs/pr/1")
    assert Path(path).read_bytes() == b"2"
    shown = list(api.get_repo_discussions(REPO, repo_type="dataset", discussion_status="open"))
    assert [(d.num, d.title, d.status, d.is_pull_request) for d in shown] == [(1, "Version 1.1.0", "open", True)]
    publish({"theirs.json": b"3"}, message="Someone else's")
    merged = hub.merge(REPO, 1)
    assert (hub.log(REPO)[0].sha, hub.log(REPO)[0].title) == (merged, "Version 1.1.0 (#1)")
    assert set(hub.files(REPO)) == {".gitattributes", "build.json", "data/train.parquet", "theirs.json"}
    details = api.get_discussion_details(REPO, 1, repo_type="dataset")
    assert (details.status, details.merge_commit_oid) == ("merged", merged)
    assert not list(api.get_repo_discussions(REPO, repo_type="dataset", discussion_status="open"))


def test_a_pull_request_is_merged_and_closed_through_the_client_too_and_a_conflict_is_refused(hub, api):
    publish({"build.json": b"1"})
    for number in (1, 2, 3):
        publish({"build.json": b"%d" % (number + 1)}, create_pr=True, message=f"Change {number}")
    api.merge_pull_request(REPO, 1, repo_type="dataset")
    assert hub.files(REPO)["build.json"] == b"2"
    with pytest.raises(HfHubHTTPError, match=r"Conflict in build\.json"):
        api.merge_pull_request(REPO, 2, repo_type="dataset")
    api.change_discussion_status(REPO, 3, "closed", repo_type="dataset")
    assert [p.status for p in hub.pull_requests(REPO)] == ["merged", "open", "closed"]


def test_a_branch_and_an_empty_pull_request_are_made_and_written_to(hub, api):
    first = publish({"build.json": b"1"}).oid
    api.create_branch(REPO, branch="work/next", revision=first, repo_type="dataset")
    publish({"build.json": b"2"}, revision="work/next")
    path = hf_hub_download(REPO, "build.json", repo_type="dataset", revision="work/next")
    assert Path(path).read_bytes() == b"2"
    assert hub.head(REPO) == first
    api.delete_branch(REPO, branch="work/next", repo_type="dataset")
    assert [b.name for b in api.list_repo_refs(REPO, repo_type="dataset").branches] == ["main"]
    draft = api.create_pull_request(REPO, "Next", repo_type="dataset")
    publish({"build.json": b"3"}, revision=draft.git_reference)
    assert (draft.status, hub.pull_requests(REPO)[0].head == first) == ("draft", False)
    api.change_discussion_status(REPO, draft.num, "open", repo_type="dataset")
    hub.merge(REPO, draft.num)
    assert hub.files(REPO)["build.json"] == b"3"


def test_a_repository_is_made_once_and_a_model_of_the_same_name_is_another(hub, api):
    with pytest.raises(HfHubHTTPError) as refused:
        api.create_repo(REPO, repo_type="dataset")
    assert refused.value.response.status_code == 409
    assert api.create_repo(REPO, repo_type="dataset", exist_ok=True).repo_id == REPO
    url = api.create_repo(REPO)
    assert (url.repo_type, url) == ("model", f"{hub.base_url}/{REPO}")
    publish({"model.safetensors": b"\0" * 100, "README.md": CARD}, kind="model")
    assert hub.files(REPO, kind="model")["model.safetensors"] == b"\0" * 100
    assert "model.safetensors" not in hub.files(REPO)
    path = hf_hub_download(REPO, "model.safetensors")
    assert Path(path).read_bytes() == b"\0" * 100
    assert api.model_info(REPO).sha == hub.head(REPO, kind="model")
    api.delete_repo(REPO, repo_type="dataset")
    with pytest.raises(RepositoryNotFoundError):
        api.dataset_info(REPO)
    assert api.model_info(REPO).id == REPO


def test_a_card_whose_metadata_is_no_yaml_is_refused(hub, api):
    with pytest.raises(ValueError, match=r"Invalid metadata in README\.md"):
        publish({"README.md": b"---\nlicense: [mit\n---\n"})
    assert [c.title for c in hub.log(REPO)] == ["initial commit"]


def commit_lines(url, *operations):
    """The commit that the client would send, without its uploads and checks."""
    lines = [{"key": "header", "value": {"summary": "By hand"}}, *operations]
    body = "\n".join(json.dumps(line) for line in lines).encode()
    return fetch(url, "POST", body, Authorization=f"Bearer {WRITE_TOKEN}")


def test_a_commit_is_taken_whole_or_not_at_all(hub, api):
    url = f"{hub.base_url}/api/datasets/{REPO}/commit/main"
    small = {"key": "file", "value": {"path": "a.json", "content": base64.b64encode(b"1").decode()}}
    absent = {"key": "lfsFile", "value": {"path": "b.parquet", "algo": "sha256", "oid": "0" * 64, "size": 1}}
    large = {"key": "file", "value": {"path": "c.txt", "content": base64.b64encode(b"1" * (10 * 2**20 + 1)).decode()}}
    status, _, body = commit_lines(url, small, absent)
    assert (status, b"LFS pointer" in body) == (400, True)
    assert commit_lines(url, small, large)[0] == 413
    assert sorted(hub.files(REPO)) == [".gitattributes"]
    assert commit_lines(url, small)[0] == 200
    assert commit_lines(url.replace("/main", f"/{hub.head(REPO)}"), small)[0] == 400
    upload = f"{hub.base_url}/lfs/dataset/{REPO}/{'0' * 64}/1/content"
    assert fetch(upload, "PUT", b"1")[0] == 400
    assert fetch(upload, "PUT", b"12")[0] == 400


# Who may do what


def test_a_private_repository_is_there_for_tokens_only(hub, api):
    api.update_repo_settings(REPO, repo_type="dataset", private=True)
    publish({"build.json": b"1"})
    with pytest.raises(RepositoryNotFoundError) as refused:
        HfApi(token=False).dataset_info(REPO)
    assert refused.value.response.status_code == 401
    with pytest.raises(RepositoryNotFoundError):
        hf_hub_download(REPO, "build.json", repo_type="dataset", token=False)
    assert HfApi(token=READ_TOKEN).dataset_info(REPO).private
    with pytest.raises(RepositoryNotFoundError) as absent:
        HfApi(token=READ_TOKEN).dataset_info("org/absent")
    assert absent.value.response.status_code == 404
    api.update_repo_settings(REPO, repo_type="dataset", private=False)
    assert not HfApi(token=False).dataset_info(REPO).private


def test_only_the_token_that_may_write_writes(hub, api):
    statuses = []
    for token in (READ_TOKEN, "hf_" + "x" * 34, False):
        other = HfApi(token=token)
        for do in (
            lambda other=other: other.create_repo("org/other", repo_type="dataset"),
            lambda token=token: publish({"build.json": b"1"}, token=token),
            lambda other=other: other.create_tag(REPO, tag="v1.0.0", repo_type="dataset"),
            lambda other=other: other.auth_check(REPO, repo_type="dataset", write=True),
        ):
            with pytest.raises(HfHubHTTPError) as refused:
                do()
            statuses.append(refused.value.response.status_code)
    assert statuses == [403] * 4 + [401] * 8
    assert (hub.tags(REPO), len(hub.log(REPO))) == ({}, 1)
    api.auth_check(REPO, repo_type="dataset", write=True)
    assert api.whoami()["auth"]["accessToken"]["role"] == "write"
    assert HfApi(token=READ_TOKEN).whoami()["auth"]["accessToken"]["role"] == "read"


# Reading


def test_parts_of_a_file_are_served_and_their_bytes_counted(hub):
    content = table()
    sha = hub.commit(REPO, {"data/train.parquet": content, "build.json": b"0123456789"}, tags=("v1.0.0",))
    url = f"{hub.base_url}/datasets/{REPO}/resolve/v1.0.0/data/train.parquet"
    status, headers, body = fetch(url, "HEAD")
    assert (status, int(headers["Content-Length"]), headers["X-Repo-Commit"], body) == (200, len(content), sha, b"")
    assert (headers["X-Linked-Size"], headers["X-Linked-Etag"]) == (str(len(content)), f'"{sha256(content)}"')
    small = url.replace("data/train.parquet", "build.json")
    assert fetch(small, "HEAD")[1]["X-Linked-Size"] is None
    wanted = {"bytes=2-4": b"234", "bytes=7-": b"789", "bytes=-2": b"89", "bytes=8-100": b"89"}
    for part, expected in wanted.items():
        status, headers, body = fetch(small, Range=part)
        assert (status, body) == (206, expected)
    assert headers["Content-Range"] == "bytes 8-9/10"
    assert fetch(small, Range="bytes=10-")[0] == 416
    path = f"/datasets/{REPO}/resolve/v1.0.0/build.json"
    # 416 has a body too, which says what is wrong.
    assert hub.bytes_sent[path] - len(fetch(small, Range="bytes=10-")[2]) == sum(map(len, wanted.values()))
    with HfFileSystem().open(f"datasets/{REPO}@v1.0.0/data/train.parquet", block_size=100) as file:
        file.seek(500)
        assert file.read(20) == content[500:520]
    assert 20 <= hub.bytes_sent[f"/datasets/{REPO}/resolve/v1.0.0/data/train.parquet"] < len(content) / 2


def test_long_lists_come_in_pages(hub, api):
    hub.page_size = 3
    publish({f"data/{n}.json": b"%d" % n for n in range(8)})
    for n in range(5):
        publish({"build.json": b"%d" % n}, message=f"Change {n}")
    paths = [f.path for f in api.list_repo_tree(REPO, repo_type="dataset", recursive=True)]
    assert paths == sorted([".gitattributes", "build.json", "data", *(f"data/{n}.json" for n in range(8))])
    assert [f.path for f in api.list_repo_tree(REPO, repo_type="dataset")] == [".gitattributes", "build.json", "data"]
    assert len(api.list_repo_commits(REPO, repo_type="dataset")) == 7
    assert sum("/tree/" in path for _, path in hub.requests) >= 5
    with pytest.raises(EntryNotFoundError):
        list(api.list_repo_tree(REPO, "absent", repo_type="dataset"))


READ_DATASET = """
import json, sys
from datasets import load_dataset
repo, revision = sys.argv[1:]
told = []
try:
    load_dataset(repo, split="train", revision=revision, token=False)
except Exception as error:
    told.append(type(error).__name__)
whole = load_dataset(repo, split="train", revision=revision)
other = load_dataset(repo, "contrast", split="seen_test", revision=revision)
one = load_dataset(repo, split="train", revision=revision, streaming=True, filters=[("persona_id", "==", "p7")])
told += [len(whole), len(other), [row["persona_id"] for row in one]]
print(json.dumps(told))
"""
CONFIGS = b"""---
configs:
- config_name: dpf
  default: true
  data_files: [{split: train, path: data/dpf/train-*.parquet}]
- config_name: contrast
  data_files: [{split: seen_test, path: data/contrast/seen_test-*.parquet}]
---
"""


def test_datasets_loads_configs_splits_and_streams_one_persona_from_a_private_version(hub, api, tmp_path):
    api.update_repo_settings(REPO, repo_type="dataset", private=True)
    files = {
        "README.md": CONFIGS,
        "data/dpf/train-00000-of-00001.parquet": table(),
        "data/contrast/seen_test-00000-of-00001.parquet": table(rows=30),
    }
    made = publish(files)
    api.create_tag(REPO, tag="v1.0.0", revision=made.oid, repo_type="dataset")
    publish({"data/dpf/train-00000-of-00001.parquet": table(rows=20)}, message="Later")

    done = subprocess.run(
        [sys.executable, "-c", READ_DATASET, REPO, "v1.0.0"],
        env=environment(hub, tmp_path, READ_TOKEN),
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout) == ["DatasetNotFoundError", 100, 30, ["p7"] * 10]


def test_the_clients_of_this_process_use_the_server_too(hub, api):
    from datasets import load_dataset

    publish({"README.md": CONFIGS, "data/dpf/train-0.parquet": table(), "data/contrast/seen_test-0.parquet": table()})
    assert len(load_dataset(REPO, split="train", revision=hub.head(REPO))) == 100
    assert next(iter(load_dataset(REPO, "contrast", split="seen_test", streaming=True)))["persona_id"] == "p0"


# Failing


@pytest.mark.parametrize(
    ("how", "status"),
    [(500, 500), (401, 401), (403, 403), (409, 409), (412, 412), (429, 429), ("quota", 403), ("500_after", 500)],
)
def test_a_chosen_request_is_answered_with_an_error(hub, api, how, status):
    fault = hub.fail(how=how, method="POST", path=r"/tag/")
    with pytest.raises(HfHubHTTPError) as told:
        api.create_tag(REPO, tag="v1.0.0", repo_type="dataset")
    assert (told.value.response.status_code, fault.fired) == (status, 1)
    assert (QUOTA_MESSAGE in str(told.value)) == (how == "quota")
    # After an effect that was not told of, the tag is there though the client was told that it failed.
    assert ("v1.0.0" in hub.tags(REPO)) == (how == "500_after")
    api.create_tag(REPO, tag="v1.0.1", repo_type="dataset")


@pytest.mark.parametrize(("how", "commits"), [("reset", 1), ("reset_after", 2)])
def test_the_connection_breaks_before_a_commit_or_after_it(hub, api, how, commits):
    hub.fail(how=how, path=r"/commit/")
    with pytest.raises(httpx2.TransportError):
        publish({"build.json": b"1"})
    assert len(hub.log(REPO)) == commits
    assert publish({"build.json": b"1"}).oid == hub.head(REPO)
    assert len(hub.log(REPO)) == 2


def test_the_nth_request_fails_and_so_do_those_after_it_as_often_as_asked(hub, api):
    hub.fail(how=403, nth=2, times=2)
    answers = []
    for _ in range(4):
        try:
            api.list_repo_refs(REPO, repo_type="dataset")
            answers.append(200)
        except HfHubHTTPError as error:
            answers.append(error.response.status_code)
    assert answers == [200, 403, 403, 200]
    gone = hub.fail(how="reset", nth=2, times=None)
    api.list_repo_refs(REPO, repo_type="dataset")
    for _ in range(3):
        with pytest.raises(httpx2.TransportError):
            api.list_repo_refs(REPO, repo_type="dataset")
    assert (gone.seen, gone.fired) == (4, 3)


def test_the_client_gets_over_one_lost_upload_and_gives_up_when_the_network_stays_lost(hub, api):
    for how in ("reset", "reset_after", 500, 429):
        fault = hub.fail(how=how, method="PUT")
        publish({f"data/{how}.parquet": table(rows=50 if how == "reset" else 60 + len(str(how)))}, message=str(how))
        hub.faults.remove(fault)
    assert sum(f.startswith("data/") for f in hub.files(REPO)) == 4
    before = hub.head(REPO)
    lost = hub.fail(how="reset", method="PUT", times=None)
    with pytest.raises(RuntimeError, match="uploading"):
        publish({"data/lost.parquet": table(rows=70)})
    assert (hub.head(REPO), lost.fired) == (before, 6)


def test_a_download_breaks_in_the_middle_and_is_taken_up_again(hub):
    content = table(rows=2000)
    hub.commit(REPO, {"data/train.parquet": content})
    fault = hub.fail(how="cut", method="GET", path="resolve")
    path = hf_hub_download(REPO, "data/train.parquet", repo_type="dataset")
    assert Path(path).read_bytes() == content
    assert fault.fired == 1
    gets = [path for method, path in hub.requests if method == "GET"]
    assert len(gets) == 2
    assert hub.bytes_sent[gets[0]] <= len(content) * 3 // 2


def test_a_slow_answer_is_later_than_the_client_waits(hub, api):
    hub.fail(how="slow", path=rf"/api/datasets/{REPO}$", times=2)
    with pytest.raises(httpx2.TimeoutException):
        api.dataset_info(REPO, timeout=0.2)
    hub.released.set()
    assert api.dataset_info(REPO, timeout=20).sha == hub.head(REPO)


def test_a_fault_of_the_server_itself_fails_the_test_that_meets_it():
    def meet_it():
        with hub_server() as server:
            fetch(f"{server.base_url}/lfs/dataset/org/absent/{'0' * 64}/1/content", "PUT")

    with pytest.raises(AssertionError, match="KeyError"):
        meet_it()


# Which Hub


def test_the_chosen_hub_takes_a_private_repository_and_gives_it_back(hub_target):
    api = hub_target.api()
    api.create_repo(hub_target.repo, repo_type="dataset", private=True)
    publish({"build.json": b"1"}, repo=hub_target.repo)
    path = hf_hub_download(hub_target.repo, "build.json", repo_type="dataset")
    assert Path(path).read_bytes() == b"1"


def test_with_a_token_and_a_name_the_target_is_a_new_repository_that_is_deleted_afterwards(monkeypatch, tmp_path):
    with hub_server() as real, pytest.MonkeyPatch.context() as patch:
        monkeypatch.setenv("HF_TOKEN", WRITE_TOKEN)
        monkeypatch.setenv("PERSONA_TEST_HUB_REPO", "org/test")
        monkeypatch.setattr(targets, "REAL_HUB", real.base_url)
        with targets.chosen_hub(patch, tmp_path) as target:
            assert target.server is None
            assert target.repo.startswith("org/test-")
            target.api().create_repo(target.repo, repo_type="dataset")
            assert target.environment(tmp_path)["HF_ENDPOINT"] == real.base_url
            assert ("dataset", target.repo) in real.repositories
        assert not real.repositories
