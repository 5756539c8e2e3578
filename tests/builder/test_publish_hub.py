"""A version on the Hub: one commit, one tag, read back; whatever goes wrong on the way, running again ends in the same state."""

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from datasets import load_dataset
from huggingface_hub import CommitOperationAdd, HfApi

from builder.errors import InputError
from builder.files import sha256_file, write_json
from builder.hub.client import HubAddress
from builder.publishing.folder import write_data
from builder.publishing.publish import publish
from builder.publishing.upload import Uploaded, look_first, upload_version
from tests.hub_server import READ_TOKEN, WRITE_TOKEN, HubServer
from tests.waiting import wait_until

REPO = "org/personas"
ADDRESS = HubAddress(REPO, None)


@dataclass(frozen=True)
class Release:
    """A published folder and its build.json."""

    folder: Path
    published: dict

    def upload(self, address: HubAddress = ADDRESS, **options) -> Uploaded:
        chosen = {"private": False, "create_pr": False, "dry_run": False} | options
        return upload_version(self.folder, address, self.published, **chosen)

    def files(self) -> dict[str, bytes]:
        found = sorted(p for p in self.folder.rglob("*") if p.is_file())
        return {p.relative_to(self.folder).as_posix(): p.read_bytes() for p in found}


def release(folder: Path, data: Path, published: dict, version: str, words: str = "") -> Release:
    """The data of `data` as this version, with a card of a few words."""
    shutil.copytree(data, folder)
    published = published | {"version": version}
    lines = []
    for config, splits in published["configs"].items():
        files = [(split, entry["file"]) for split, entry in splits.items() if entry["file"]]
        lines += [f"- config_name: {config}", *(["  default: true"] if config == "dpf" else []), "  data_files:"]
        lines += [line for split, file in files for line in (f"  - split: {split}", f"    path: {file}")]
    (folder / "README.md").write_text("\n".join(["---", "configs:", *lines, "---", f"Version {version}. {words}", ""]))
    write_json(folder / "build.json", published)
    return Release(folder, published)


@pytest.fixture(scope="module")
def data(scripted_build, tmp_path_factory):
    """The tables as they are published, of three configs only: every config costs ten requests for each of a hundred uploads below."""
    folder = tmp_path_factory.mktemp("data") / "data"
    folder.mkdir()
    published = write_data(folder, scripted_build.folder, scripted_build.build, [], "0.0.0")
    for config in set(published["configs"]) - {"dpf", "prompts"}:
        shutil.rmtree(folder / "data" / config)
        del published["configs"][config]
    for split in ("heldout_test", "support", "seen_test"):
        file = published["configs"]["dpf"][split]["file"]
        if file:
            (folder / file).unlink()
        published["configs"]["dpf"][split] = {"rows": 0, "file": None}
    return folder, published


@pytest.fixture(autouse=True)
def no_waits(monkeypatch):
    """`datasets` repeats a failed read twenty times, after five seconds each, and here the network stays away."""
    monkeypatch.setattr("datasets.config.STREAMING_READ_RETRY_INTERVAL", 0)


@pytest.fixture
def releases(data, tmp_path):
    """1.0.0, and 1.1.0 with the prompts alone changed."""
    one = release(tmp_path / "one" / "published", *data, "1.0.0")
    two = release(tmp_path / "two" / "published", *data, "1.1.0", "A word more.")
    (two.folder / "audit.json").unlink()
    (two.folder / "figures").mkdir()
    (two.folder / "figures" / "topics.png").write_bytes(b"\0picture")
    return one, two


def on_the_hub(hub: HubServer, revision: str = "main", repository: str = REPO) -> dict[str, bytes]:
    return {path: content for path, content in hub.files(repository, revision).items() if path != ".gitattributes"}


def test_a_new_repository_gets_one_commit_and_a_tag_on_it(hub, releases):
    one, _ = releases
    done = one.upload()
    head = hub.head(REPO)
    assert (done.commit, done.tag, hub.tags(REPO)) == (head, "v1.0.0", {"v1.0.0": head})
    assert [commit.title for commit in hub.log(REPO)] == ["Version 1.0.0", "initial commit"]
    assert on_the_hub(hub, "v1.0.0") == one.files()
    assert done.url.endswith("/datasets/org/personas/tree/v1.0.0")
    table = load_dataset(REPO, "dpf", split="train", revision="v1.0.0")
    assert table.num_rows == one.published["configs"]["dpf"]["train"]["rows"]


def upload_with_a_fault(hub: HubServer, new: Release, address: HubAddress, number: int, lost: str) -> str | None:
    """The network breaks at request `number` of the upload and stays away: before the request has its effect, or when it has had it.

    What the upload said then; None where it has fewer requests.
    """
    before = len(hub.requests)
    try:
        if lost == "after":
            hub.fail(how="reset_after", nth=number)
        hub.fail(how="reset", nth=number + (lost == "after"), times=None)
        new.upload(address)
    except InputError as error:
        return str(error)
    finally:
        hub.faults.clear()
    assert len(hub.requests) - before < number
    return None


def writing_requests(hub: HubServer, new: Release, address: HubAddress) -> list[bool]:
    hub.requests.clear()
    new.upload(address)
    return [method in ("POST", "PUT") for method, _ in hub.requests]


@pytest.mark.parametrize("lost", ["before", "after"])
def test_the_network_lost_at_any_request_and_run_again_it_ends_in_the_same_state(hub, releases, lost):
    one, two = releases
    old, new = one.files(), two.files()

    def hub_with_version_one(name: str) -> HubAddress:
        hub.commit(f"org/{name}", one.folder, ("v1.0.0",), title="Version 1.0.0")
        return HubAddress(f"org/{name}", None)

    writes = writing_requests(hub, two, hub_with_version_one("undisturbed"))
    assert writes.count(True) == 7
    said = {}
    # What only reads is the same before as after.
    for number in [n for n, writing in enumerate(writes, start=1) if lost == "before" or writing]:
        address = hub_with_version_one(f"lost-{number}")
        repository = address.repository
        said[number] = upload_with_a_fault(hub, two, address, number, lost)
        assert said[number] is not None
        # Whoever loads the dataset now gets one version or the other, whole.
        head, tags = on_the_hub(hub, repository=repository), hub.tags(repository)
        assert head in (old, new)
        assert "v1.1.0" not in tags or on_the_hub(hub, "v1.1.0", repository) == new
        if head == old:
            assert re.search(
                r"This run uploaded nothing|Nothing of version 1\.1\.0 is visible|not known whether", said[number]
            )
        elif "v1.1.0" not in tags:
            assert "without its tag" in said[number] or "whether it has its tag" in said[number]
        two.upload(address)
        assert [commit.title for commit in hub.log(repository)] == ["Version 1.1.0", "Version 1.0.0"]
        assert hub.tags(repository) == tags | {"v1.1.0": hub.head(repository)}
        assert on_the_hub(hub, "v1.1.0", repository) == new
        assert on_the_hub(hub, "v1.0.0", repository) == old
    assert len(set(said.values())) > 3


@pytest.mark.parametrize("lost", ["before", "after"])
def test_the_network_lost_while_a_repository_is_made(hub, releases, lost):
    one, _ = releases
    for number in range(1, 7):
        address = HubAddress(f"org/new-{number}", None)
        assert upload_with_a_fault(hub, one, address, number, lost) is not None
        done = one.upload(address)
        assert [commit.title for commit in hub.log(address.repository)] == ["Version 1.0.0", "initial commit"]
        assert hub.tags(address.repository) == {"v1.0.0": done.commit}


@pytest.mark.parametrize("how", ["reset_after", "502_after", "429_after"])
@pytest.mark.parametrize("where", ["/commit/main$", "/tag/"])
def test_a_lost_answer_is_looked_for_where_the_hub_is_back(hub, releases, how, where):
    fault = hub.fail(how=how, method="POST", path=where)
    done = releases[0].upload()
    assert fault.fired == 1
    assert [commit.title for commit in hub.log(REPO)] == ["Version 1.0.0", "initial commit"]
    assert hub.tags(REPO) == {"v1.0.0": done.commit}


@pytest.mark.parametrize(
    ("where", "how", "said"),
    [
        ("/preupload/", "500", "500"),
        ("/commit/main$", "500", "the Hub had nothing of version 1.1.0"),
        ("/commit/main$", "quota", "storage on the Hub is used up"),
        ("/objects/batch$", "quota", "storage on the Hub is used up"),
        ("/objects/batch$", "429", "wait some minutes"),
        ("/preupload/", "403", "token may not do this"),
        ("/tag/", "403", "without its tag"),
        ("/tag/", "500", "without its tag"),
        ("/validate-yaml$", "400", "Nothing of version 1.1.0 is visible"),
        ("/resolve/v1.1.0/build.json$", "500", "not proved yet"),
        ("/resolve/v1.1.0/build.json$", "cut", "not proved yet"),
        ("/resolve/v1.1.0/build.json$", "404", "not proved yet"),
    ],
)
def test_what_the_hub_refuses_is_said_with_what_is_on_it_and_mended_by_the_same_command(
    hub, releases, where, how, said
):
    one, two = releases
    one.upload()
    hub.fail(how=how, path=where, times=None)
    with pytest.raises(InputError, match=re.escape(said)):
        two.upload()
    hub.faults.clear()
    two.upload()
    assert [commit.title for commit in hub.log(REPO)][:2] == ["Version 1.1.0", "Version 1.0.0"]
    assert on_the_hub(hub, "v1.1.0") == two.files()


def test_a_hub_that_is_slow_to_commit_is_not_asked_twice(hub, releases, monkeypatch):
    monkeypatch.setattr("builder.hub.client.PATIENCE", 0.3)
    hub.fail(how="slow", path="/commit/main$")
    with pytest.raises(InputError, match=r"had nothing of version 1\.0\.0"):
        releases[0].upload()
    monkeypatch.setattr("builder.hub.client.PATIENCE", 300)
    hub.released.set()
    wait_until(lambda: hub.log(REPO)[0].title == "Version 1.0.0", 120, "the commit after all")
    releases[0].upload()
    assert [commit.title for commit in hub.log(REPO)] == ["Version 1.0.0", "initial commit"]


def test_files_of_the_version_before_go_and_the_hubs_own_stay(hub, releases):
    one, two = releases
    one.upload()
    two.upload()
    assert "audit.json" in on_the_hub(hub, "v1.0.0")
    assert on_the_hub(hub) == two.files()
    assert ".gitattributes" in hub.files(REPO)


def writes_of(hub: HubServer) -> list[str]:
    """The paths of what was sent to change something; who may write and what tokens may do are asked with GET."""
    return [path for method, path in hub.requests if method not in ("GET", "HEAD")]


@pytest.mark.parametrize(
    ("token", "said"),
    [
        (None, "There is no token"),
        (READ_TOKEN, "may not do this"),
        ("hf_" + "x" * 34, "does not take the token"),
    ],
)
@pytest.mark.parametrize("exists", [True, False])
@pytest.mark.parametrize("dry_run", [True, False])
def test_without_the_right_to_write_nothing_is_sent(hub, releases, monkeypatch, capfd, token, said, exists, dry_run):
    one, two = releases
    if exists:
        hub.commit(REPO, one.folder, ("v1.0.0",))
    if token is None:
        monkeypatch.delenv("HF_TOKEN")
    else:
        monkeypatch.setenv("HF_TOKEN", token)
    if token == READ_TOKEN and dry_run and not exists:
        said = "token may only read"
    hub.requests.clear()
    with pytest.raises(InputError) as caught:
        two.upload(dry_run=dry_run)
    assert said in str(caught.value)
    assert set(writes_of(hub)) <= {"/api/repos/create"}
    assert exists == (("dataset", REPO) in hub.repositories)
    assert (token or "hf_") not in str(caught.value) + "".join(capfd.readouterr())


def test_a_tag_that_is_there_with_the_same_files_is_read_back_and_no_more(hub, releases):
    one, _ = releases
    first = one.upload()
    hub.requests.clear()
    again = one.upload()
    assert (again.commit, again.tag) == (first.commit, first.tag)
    assert writes_of(hub) == []
    assert any(path.endswith(".parquet") for _, path in hub.requests)
    assert "nothing was uploaded" in again.said[0]


def test_a_tag_that_is_there_with_other_files_is_refused(hub, releases):
    one, _ = releases
    one.upload()
    before = hub.files(REPO, "v1.0.0")
    (one.folder / "README.md").write_text((one.folder / "README.md").read_text() + "More.")
    (one.folder / "extra.txt").write_text("More.")
    hub.requests.clear()
    with pytest.raises(InputError, match=r"differing: README.md, extra.txt\)"):
        one.upload()
    assert writes_of(hub) == []
    assert hub.files(REPO, "v1.0.0") == before


def test_a_version_below_the_newest_is_refused(hub, releases):
    one, two = releases
    two.upload()
    hub.requests.clear()
    with pytest.raises(InputError, match=r"1\.0\.0 is below v1\.1\.0"):
        one.upload()
    assert writes_of(hub) == []


@pytest.mark.parametrize("status", [409, 412])
def test_somebody_elses_commit_in_between_is_not_built_upon_unseen(hub, releases, monkeypatch, status):
    one, two = releases
    one.upload()
    hub.stale_status = status
    upload = HfApi.preupload_lfs_files

    def upload_while_another_commits(self, *arguments, **options):
        upload(self, *arguments, **options)
        if hub.log(REPO)[0].title != "Their change":
            hub.commit(REPO, {"README.md": "Another card."}, title="Their change")

    with monkeypatch.context() as patch:
        patch.setattr(HfApi, "preupload_lfs_files", upload_while_another_commits)
        with pytest.raises(InputError) as caught:
            two.upload()
    assert "Their change" in str(caught.value)
    assert "Nothing of version 1.1.0 is visible" in str(caught.value)
    assert hub.files(REPO) == {"README.md": b"Another card."}
    assert "v1.1.0" not in hub.tags(REPO)
    two.upload()
    assert [commit.title for commit in hub.log(REPO)][:3] == ["Version 1.1.0", "Their change", "Version 1.0.0"]
    assert on_the_hub(hub, "v1.1.0") == two.files()


def test_the_tag_goes_onto_the_versions_own_commit_though_others_came_after_it(hub, releases):
    one, two = releases
    one.upload()
    hub.fail(how=403, path="/tag/")
    with pytest.raises(InputError, match="without its tag"):
        two.upload()
    ours = hub.head(REPO)
    hub.commit(REPO, {"README.md": "Another card."}, title="Their change")
    two.upload()
    assert hub.tags(REPO)["v1.1.0"] == ours
    assert hub.log(REPO)[0].title == "Their change"


def test_a_head_that_has_these_files_is_tagged_whatever_its_title(hub, releases):
    one, two = releases
    one.upload()
    theirs = hub.commit(REPO, two.folder, title="Uploaded by hand")
    assert two.upload().commit == theirs == hub.tags(REPO)["v1.1.0"]


def test_a_tag_that_somebody_else_sets_meanwhile_is_left(hub, releases, monkeypatch):
    one, two = releases
    one.upload()
    theirs = hub.head(REPO)
    tag = HfApi.create_tag

    def another_is_quicker(self, *arguments, **options):
        hub.repositories["dataset", REPO].tags["v1.1.0"] = theirs
        tag(self, *arguments, **options)

    monkeypatch.setattr(HfApi, "create_tag", another_is_quicker)
    with pytest.raises(InputError, match=r"Somebody else set tag v1\.1\.0"):
        two.upload()
    assert hub.tags(REPO)["v1.1.0"] == theirs


@pytest.mark.parametrize("there", ["nothing", "version one", "its commit", "its tag"])
def test_a_dry_run_sends_nothing_and_says_what_would_be(hub, releases, there):
    one, two = releases
    if there != "nothing":
        hub.commit(REPO, one.folder, ("v1.0.0",))
    if there in ("its commit", "its tag"):
        hub.commit(REPO, two.folder, ("v1.1.0",) if there == "its tag" else ())
    hub.requests.clear()
    done = two.upload(dry_run=True)
    assert writes_of(hub) == []
    assert (done.commit, done.tag) == (None, None)
    said = " ".join(done.said)
    wanted = {
        "nothing": [
            "would be created",
            "add or replace 5 files, 0.0 MB: README.md, build.json, data/dpf (1 file, ",
            "Tag v1.1.0 would",
        ],
        "version one": [
            "add or replace 3 files, 0.0 MB: README.md, build.json, figures/topics.png and delete audit.json.",
            "Tag v1.1.0 would",
        ],
        "its commit": ["nothing would be uploaded", "Tag v1.1.0 would"],
        "its tag": ["nothing was uploaded", "would be read back"],
    }[there]
    assert all(words in said for words in wanted), said


def test_a_new_repository_is_private_if_asked_and_a_public_one_is_never_taken_for_one(hub, releases):
    one, two = releases
    done = one.upload(private=True)
    assert hub.repositories["dataset", REPO].private
    assert "was created, private" in done.said[0]
    assert "is private and stays so" in two.upload().said[0]
    public = HubAddress("org/public", None)
    one.upload(public)
    hub.requests.clear()
    with pytest.raises(InputError, match="is public"):
        two.upload(public, private=True)
    assert writes_of(hub) == []


def test_a_pull_request_is_proposed_once_and_tagged_after_its_merge(hub, releases):
    one, two = releases
    one.upload()
    proposed = two.upload(create_pr=True)
    assert proposed.tag is None
    assert proposed.url.endswith("/datasets/org/personas/discussions/1")
    assert on_the_hub(hub) == one.files()
    assert on_the_hub(hub, "refs/pr/1") == two.files()
    assert hub.tags(REPO).keys() == {"v1.0.0"}
    again = two.upload(create_pr=True)
    assert (again.url, again.commit) == (proposed.url, proposed.commit)
    assert len(hub.pull_requests(REPO)) == 1

    merged = hub.merge(REPO, 1)
    hub.commit(REPO, {"README.md": "Another card."}, title="Their change")
    assert two.upload(create_pr=True).commit == merged
    assert len(hub.pull_requests(REPO)) == 1
    done = two.upload()
    assert hub.tags(REPO)["v1.1.0"] == done.commit == merged
    assert on_the_hub(hub, "v1.1.0") == two.files()


def test_a_pull_request_whose_answer_is_lost_is_not_made_again(hub, releases):
    one, two = releases
    one.upload()
    hub.fail(how="reset_after", path="/commit/main$")
    hub.fail(how="reset", path="/discussions$", nth=2, times=None)
    with pytest.raises(InputError, match=r"not known whether version 1\.1\.0 is there as a pull request"):
        two.upload(create_pr=True)
    hub.faults.clear()
    two.upload(create_pr=True)
    assert len(hub.pull_requests(REPO)) == 1


def test_who_may_only_read_may_propose_and_other_proposals_are_named(hub, releases):
    one, two = releases
    with pytest.raises(InputError, match="nothing to propose a change to"):
        two.upload(create_pr=True)
    one.upload()
    two.upload(create_pr=True)
    (two.folder / "README.md").write_text((two.folder / "README.md").read_text() + "More.")
    hub.requests.clear()
    assert "(#1)" in " ".join(two.upload(create_pr=True, dry_run=True).said)
    assert writes_of(hub) == []
    assert two.upload(create_pr=True).url.endswith("/2")
    assert not any("auth-check" in path for _, path in hub.requests)


def test_what_reads_back_otherwise_is_not_passed_for_published(hub, releases):
    one, _ = releases
    done = one.upload()
    file = one.published["configs"]["dpf"]["train"]["file"]
    stored = hub.contents.folder / sha256_file(one.folder / file)
    content = stored.read_bytes()
    stored.write_bytes(content[:100] + bytes([content[100] ^ 1]) + content[101:])
    with pytest.raises(InputError) as caught:
        one.upload()
    for words in (f"{file} has other content", str(done.commit), "tag v1.0.0", "Nobody should rely"):
        assert words in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("- config_name: prompts", "- config_name: questions", "sees the configs dpf, questions, not dpf, prompts"),
        ("  default: true\n", "", "datasets cannot load it: Config name is missing"),
        ("  - split: train", "  - split: validation", "has the splits validation, not train"),
    ],
)
def test_a_card_that_names_other_configs_or_splits_is_found(hub, releases, old, new, said):
    one, _ = releases
    card = (one.folder / "README.md").read_text()
    assert old in card
    (one.folder / "README.md").write_text(card.replace(old, new))
    with pytest.raises(InputError, match=said):
        one.upload()


def test_other_columns_and_other_counts_than_the_schemas_are_found(hub, releases):
    import pyarrow.parquet as parquet

    one, _ = releases
    entry = one.published["configs"]["prompts"]["train"]
    table = parquet.read_table(one.folder / entry["file"])
    parquet.write_table(table.drop_columns(["licence"]).slice(1), one.folder / entry["file"])
    with pytest.raises(InputError) as caught:
        one.upload()
    assert "prompts/train has other columns" in str(caught.value)
    assert f"has {entry['rows'] - 1} rows, and build.json says {entry['rows']}" in str(caught.value)


def test_the_version_before_is_the_newest_below(hub, releases, monkeypatch):
    assert look_first(ADDRESS, "1.0.0") is None
    hub.commit(REPO, releases[0].folder, ("v1.0.0", "v1.9.0", "v1.10.0", "v2.0.0", "draft", "v1.10.1-rc1"))
    assert look_first(ADDRESS, "1.0.0") is None
    assert look_first(ADDRESS, "1.10.0") == "v1.9.0"
    assert look_first(ADDRESS, "2.0.1") == "v2.0.0"
    hub.status = 500
    with pytest.raises(InputError, match=r"Version 1\.11\.0 cannot be published .* Nothing was sent"):
        look_first(ADDRESS, "1.11.0")
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(InputError, match="no token"):
        look_first(ADDRESS, "1.11.0")


THEIRS = {"README.md": "# Ours", "data.csv": "a,b", "data/dpf/train-0.parquet": b"PAR1"}


@pytest.mark.parametrize(
    ("there", "token", "options", "said"),
    [
        ("version", READ_TOKEN, {}, "may not do this"),
        ("nothing", READ_TOKEN, {}, "may only read"),
        ("version", WRITE_TOKEN, {"private": True}, "is public"),
        ("nothing", WRITE_TOKEN, {"create_pr": True}, "nothing to propose a change to"),
        ("version", WRITE_TOKEN, {"version": "0.9.0"}, "below v1.0.0"),
        ("theirs", WRITE_TOKEN, {}, "holds something else .*README.md, data.csv, data/dpf/train-0.parquet"),
    ],
)
def test_what_cannot_go_there_is_said_before_the_audit(
    hub, releases, scripted_build, monkeypatch, there, token, options, said
):
    if there != "nothing":
        hub.commit(REPO, THEIRS if there == "theirs" else releases[0].folder, ("v1.0.0",) if there == "version" else ())
    monkeypatch.setenv("HF_TOKEN", token)
    monkeypatch.setattr("builder.publishing.publish.audit_build", lambda run: pytest.fail("audited first"))
    with pytest.raises(InputError, match=said):
        publish(scripted_build.folder, f"hub:{REPO}", **{"version": "1.1.0"} | options)
    assert writes_of(hub) == []


@pytest.mark.parametrize(
    "theirs",
    [
        THEIRS,
        {"build.json": '{"version": "1.0.0", "configs": ["a"]}', "README.md": "# Ours"},
        {"build.json": "no JSON"},
    ],
)
@pytest.mark.parametrize("options", [{}, {"create_pr": True}, {"dry_run": True}])
def test_a_repository_of_something_else_is_not_touched(hub, releases, theirs, options):
    hub.commit(REPO, theirs)
    before = hub.files(REPO)
    with pytest.raises(InputError, match=r"None of it was replaced or deleted"):
        releases[0].upload(**options)
    assert hub.files(REPO) == before
    assert writes_of(hub) == []


def test_a_repository_with_the_first_files_of_the_hub_takes_a_version(hub, releases):
    hub.commit(REPO, {"README.md": "---\nlicense: mit\n---\n", "LICENSE": "MIT"})
    done = releases[0].upload()
    assert "It replaced the README.md that was there." in done.said
    assert on_the_hub(hub, "v1.0.0") == releases[0].files() | {"LICENSE": b"MIT"}


@pytest.mark.parametrize("create_pr", [False, True])
def test_what_the_owner_keeps_beside_the_versions_stays_and_is_no_defect(hub, releases, create_pr):
    one, two = releases
    own = {"LICENSE": b"CC-BY", "data/notes.txt": b"Mine.", "scripts/load.py": b"pass"}
    one.upload()
    hub.commit(REPO, one.files() | own)
    before = one.files()
    if create_pr:
        two.upload(create_pr=True)
        two.upload(create_pr=True)
        assert len(hub.pull_requests(REPO)) == 1
        hub.merge(REPO, 1)
    done = two.upload()
    assert on_the_hub(hub, "v1.1.0") == two.files() | own
    assert on_the_hub(hub, "v1.0.0") == before
    assert create_pr or "It deleted what is of the version before alone: audit.json." in done.said
    hub.requests.clear()
    assert "nothing was uploaded" in two.upload().said[0]  # the tag is there
    assert writes_of(hub) == []
    del hub.repositories["dataset", REPO].tags["v1.1.0"]
    hub.commit(REPO, two.files() | own | {"LICENSE": b"CC0"})
    assert two.upload().commit == hub.head(REPO)  # its files are there, whatever else is


@pytest.mark.thorough
def test_a_relative_run_goes_to_the_hub_and_is_read_back(hub, scripted_build, tmp_path, monkeypatch):
    shutil.copytree(scripted_build.folder, tmp_path / "runs" / "demo")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("builder.publishing.publish.refuse_failed_audit", lambda *_, **__: [])
    published = publish(Path("runs/demo"), f"hub:{REPO}", "1.0.0")
    assert published.uploaded.tag == "v1.0.0"
    assert on_the_hub(hub, "v1.0.0").keys() == published.files.keys()
    assert not list(tmp_path.rglob("*unfinished*"))


def test_a_relative_folder_is_read_back(hub, releases, monkeypatch):
    one, _ = releases
    monkeypatch.chdir(one.folder.parent)
    assert Release(Path(one.folder.name), one.published).upload().tag == "v1.0.0"


def test_the_token_is_in_no_output_no_log_and_no_file(hub, releases, tmp_path, capfd, caplog):
    one, two = releases
    caplog.set_level("DEBUG")
    for logger in ("huggingface_hub", "datasets", "httpx2", "httpcore2"):
        caplog.set_level("DEBUG", logger)
    said = one.upload().said
    hub.fail(how="quota", path="/objects/batch$")
    with pytest.raises(InputError) as caught:
        two.upload()
    hub.fail(how=503, times=None)
    with pytest.raises(InputError) as again:
        two.upload()
    texts = [*said, str(caught.value), str(again.value), *capfd.readouterr(), caplog.text]
    assert not any(WRITE_TOKEN in text for text in texts)
    files = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert not any(WRITE_TOKEN.encode() in p.read_bytes() for p in files)
    assert not list(tmp_path.rglob(".readback*"))


def test_the_chosen_hub_takes_a_version_and_the_real_one_where_it_is_named(hub_target, releases):
    one, two = releases
    address = HubAddress(hub_target.repo, None)
    assert one.upload(address, private=True).tag == "v1.0.0"
    done = two.upload(address)
    refs = hub_target.api().list_repo_refs(hub_target.repo, repo_type="dataset")
    tags = {tag.name: tag.target_commit for tag in refs.tags}
    assert tags["v1.1.0"] == done.commit != tags["v1.0.0"]
    assert "nothing was uploaded" in two.upload(address).said[1]
    (two.folder / "README.md").write_text((two.folder / "README.md").read_text() + "More.")
    with pytest.raises(InputError, match="already, with other files"):
        two.upload(address)
    proposal = CommitOperationAdd("note.txt", b"A note.")
    hub_target.api().create_commit(hub_target.repo, [proposal], commit_message="A note", repo_type="dataset")
    assert look_first(address, "1.2.0") == "v1.1.0"
