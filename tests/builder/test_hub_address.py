"""`hub:org/name@revision`: what is an address, what comes from there, and what the Hub's errors say."""

import re
import sys

import httpx2
import pytest
from huggingface_hub import constants
from huggingface_hub.utils import are_progress_bars_disabled, enable_progress_bars

from builder.errors import InputError
from builder.files import write_json
from builder.hub.client import (
    HubAddress,
    commit_of,
    hub_api,
    hub_error,
    may_create,
    parse_address,
    scrubbed,
    snapshot,
)
from builder.published import version_folder
from tests.hub_server import READ_TOKEN, WRITE_TOKEN

PUBLISHED = {"configs": {"dpf": {"train": {"rows": 1, "file": "data/dpf/train.parquet"}}}, "content_sha256": "0" * 64}


@pytest.mark.parametrize(
    ("text", "repository", "revision"),
    [
        ("hub:org/name", "org/name", None),
        ("hub:org/name@v1.0.0", "org/name", "v1.0.0"),
        ("hub:Org-1/a.b_c@refs/pr/3", "Org-1/a.b_c", "refs/pr/3"),
        ("hub:org/name@fix/#12+x", "org/name", "fix/#12+x"),
    ],
)
def test_an_address_is_a_repository_and_perhaps_a_revision(text, repository, revision):
    address = parse_address(text)
    assert address == HubAddress(repository, revision)
    assert str(address) == text


@pytest.mark.parametrize(
    "text", ["org/name", "hub:name", "hub:a/b/c", "hub:org/name@", "hub:org/na me", "hub:o/n@a b", ""]
)
def test_what_is_no_address_is_refused_with_the_form(text):
    with pytest.raises(InputError, match=r"Write hub:org/name, or hub:org/name@v1\.0\.0"):
        parse_address(text)


@pytest.mark.parametrize("name", ["org/a--b", "org/a..b", "org/.a", "org/a-", "org/name.git", f"org/{'a' * 97}"])
def test_names_that_the_hub_does_not_allow_are_refused_before_it_is_asked(name):
    with pytest.raises(InputError, match="the Hub allows no such name"):
        parse_address(f"hub:{name}")


def test_a_version_comes_from_a_folder_as_it_is_and_from_the_hub_by_its_tag(hub, tmp_path):
    write_json(tmp_path / "build.json", PUBLISHED)
    (tmp_path / "README.md").write_text("One")
    assert version_folder(str(tmp_path)) == tmp_path
    first = hub.commit("org/personas", tmp_path, ("v1.0.0",))
    (tmp_path / "README.md").write_text("Two")
    hub.commit("org/personas", tmp_path, ("v1.1.0",))
    folder = version_folder("hub:org/personas@v1.0.0")
    assert folder.name == first
    assert (folder / "README.md").read_text() == "One"
    assert (version_folder("hub:org/personas@v1.1.0") / "README.md").read_text() == "Two"


def test_only_what_is_asked_for_comes(hub):
    hub.commit("org/own", {"a.jsonl": "{}", "b.bin": "\0"}, ("v1",))
    folder = snapshot(HubAddress("org/own", "v1"), ["*.jsonl"])
    assert [p.name for p in folder.iterdir()] == ["a.jsonl"]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("hub:org/personas", "name a version of a dataset repository, as hub:org/personas@v1.0.0"),
        ("hub:org/personas@v9.0.0", "cannot be had from the Hub"),
        ("hub:org/none@v1.0.0", "cannot be had from the Hub"),
        ("hub:org/other@v1", "is no published version"),
        ("hub:org/build@v1", "is no published version"),
        ("{folder}/build", "is no published version"),
        ("{folder}/none", "does not exist"),
    ],
)
def test_what_is_no_published_version_is_refused(hub, tmp_path, source, said):
    (tmp_path / "build").mkdir()
    write_json(tmp_path / "build" / "build.json", {"recipe": {}})
    hub.commit("org/personas", {"build.json": "{}"})
    hub.commit("org/other", {"data.csv": "a\n1\n" * 1000}, ("v1",))
    hub.commit("org/build", tmp_path / "build", ("v1",))
    with pytest.raises(InputError, match=re.escape(said)):
        version_folder(source.format(folder=tmp_path))
    assert not any("data.csv" in path for _, path in hub.requests)


def test_a_private_dataset_is_had_with_a_token_and_told_like_an_absent_one_without(hub, monkeypatch):
    hub.commit("org/own", {"a.txt": "A"}, ("v1",), private=True)
    monkeypatch.setenv("HF_TOKEN", READ_TOKEN)
    assert (snapshot(HubAddress("org/own", "v1")) / "a.txt").read_text() == "A"
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(InputError, match="that you may see"):
        snapshot(HubAddress("org/own", "main"))


def test_a_branch_is_asked_once_for_its_commit_and_a_commit_never(hub):
    commit_of.cache_clear()
    first = hub.commit("org/own", {"a.txt": "A"})
    assert commit_of(HubAddress("org/own", "main")) == first
    hub.commit("org/own", {"a.txt": "B"})
    hub.requests.clear()
    assert commit_of(HubAddress("org/own", "main")) == first
    assert commit_of(HubAddress("org/own", "0" * 40)) == "0" * 40
    assert hub.requests == []
    commit_of.cache_clear()


def test_an_error_carries_neither_a_token_nor_the_signature_of_an_address(hub):
    other = "hf_" + "b" * 34
    text = f"Bearer {WRITE_TOKEN} and {other} were sent to https://s3.example.org/put?X-Amz-Signature=0a1b2c&X-Amz-Credential=me failed"
    clean = scrubbed(text)
    assert WRITE_TOKEN not in clean
    assert other not in clean
    assert "Signature" not in clean
    assert "https://s3.example.org/put failed" in clean
    assert WRITE_TOKEN not in str(hub_error(httpx2.ConnectError(f"no way to {WRITE_TOKEN}"), "It cannot be had"))


@pytest.mark.parametrize(
    ("terminal", "chosen", "bars"), [(False, None, False), (True, None, True), (False, False, True)]
)
def test_bars_are_drawn_on_a_terminal_only_unless_the_user_has_chosen(hub, monkeypatch, capsys, terminal, chosen, bars):
    """`chosen`: the client's own variable, HF_HUB_DISABLE_PROGRESS_BARS, as it reads it at import."""
    hub.commit("org/own", {"a.txt": "A", "b.txt": "B"}, ("v1",))
    enable_progress_bars()
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", chosen)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    snapshot(HubAddress("org/own", "v1"))
    assert ("Fetching" in capsys.readouterr().err) == bars
    assert are_progress_bars_disabled() != bars


def test_a_new_repository_needs_a_token_that_may_write_and_better_its_own_namespace(hub, monkeypatch):
    assert may_create(hub_api(), "tester/new") == ""
    assert "the Hub may refuse" in may_create(hub_api(), "org/new")
    monkeypatch.setenv("HF_TOKEN", READ_TOKEN)
    with pytest.raises(InputError, match=r"may only read.*hf auth login"):
        may_create(hub_api(), "tester/new")
    assert not any(method == "POST" for method, _ in hub.requests)
