"""A finished model on the Hub: one commit with the folder's files and no others, and the proof that it reads back as it was written.

The commit is the version: a model carries no number of its own, so it gets no tag. Pushing the same folder again does nothing, and an
interrupted push is mended by running it again, since nothing is there before the one commit and everything after it.
"""

import hashlib
import io
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.errors import InputError
from builder.files import read_json
from builder.hub import HUB_ERRORS, hub_api, hub_error, hub_errors, parse_address, status_of
from builder.private_text import SECRET_KINDS, kinds_in, known_secrets
from training import output
from training.model_card import model_card

RECORD = "training.json"
CARD = "README.md"
HUB_FILES = (".gitattributes",)  # the Hub's own, in every repository
LOCAL_FILES = ("launch.json",)  # from which inputs the folder was begun; says nothing to anybody else
KINDS = {"dpo": "DPO model", "reward": "Reward model"}


@dataclass(frozen=True)
class Pushed:
    """commit: its SHA. said: what was done, in sentences."""

    commit: str
    said: list[str]


@dataclass(frozen=True)
class Content:
    """One file that is to be on the Hub. git_sha1: the id that git gives these bytes."""

    source: Path | bytes
    size: int
    sha256: str
    git_sha1: str


def model_repository(name: str) -> str:
    """`org/name`, also given as hub:org/name. Raises InputError for anything else."""
    wrong = f"--push {name} is no repository of a model. Write org/name."
    try:
        address = parse_address(f"hub:{name.removeprefix('hub:')}")
    except InputError as error:
        raise InputError(f"{wrong} {error}") from None
    if address.revision is not None:
        raise InputError(f"{wrong} It names a revision, but a push makes one.")
    return address.repository


def refuse_before_training(name: str, private: bool) -> None:
    """What would stop the push after hours of training. Raises InputError; writes nothing."""
    repository = model_repository(name)
    api = hub_api(token_needed=True)
    with hub_errors(f"The Hub cannot be asked about {repository}", "Nothing was trained or sent."):
        api.whoami()
        if api.repo_exists(repository):
            refuse_foreign(api, repository, None, None, private)


def push(folder: Path, name: str, private: bool = False) -> Pushed:
    """Put the finished model in `folder` on the Hub as `org/name`.

    Raises InputError if the folder is no finished model or holds a machine path or a secret, if the repository holds what is not this
    model, if somebody commits meanwhile, and where the Hub refuses; the message says what is on the Hub then.
    """
    repository = model_repository(name)
    record = finished_record(folder, private)
    refuse_private(folder)
    contents = contents_of(folder, record, repository)
    kind = KINDS[record["kind"]]
    api = hub_api(token_needed=True)
    with hub_errors(f"{repository} cannot be made on the Hub", "No file was sent."):
        api.create_repo(repository, private=True if private else None, exist_ok=True)
    again = f"Nothing of this model is in {repository} yet; the model itself is whole in {folder}."
    with hub_errors(f"{repository} cannot be read on the Hub", again):
        head = refuse_foreign(api, repository, record["kind"], contents, private)
        there = files_at(api, repository, head)
    size = f"{len(contents)} files, {sum(content.size for content in contents.values()) / 1e6:,.1f} MB"
    if same_content(there, contents):
        commit, done = head, f"{kind} already on the Hub with this content"
    else:
        commit = commit_files(api, repository, head, contents, commit_message(record), again)
        done = f"{kind} pushed to the Hub in one commit"
    read_back(api, repository, commit, contents)
    return Pushed(
        commit,
        [
            f"{done}: {api.endpoint}/{repository}, commit {commit}, {size}; every file was compared there.",
            f"Next: hf download {repository} --revision {commit}, or the snippets of its card.",
        ],
    )


def finished_record(folder: Path, private: bool) -> dict[str, Any]:
    if not (folder / RECORD).is_file():
        raise InputError(f"{folder} holds no {RECORD}, so it is no finished model. Train it with `persona train`.")
    record: dict[str, Any] = read_json(folder / RECORD)
    terms = record["data"].get("not_for_publishing")
    if terms and not private:
        raise InputError(
            f"{folder} was trained on data that may not be passed on ({terms}), and a model can repeat them. Ask their owners; for a "
            "repository of your own: --private."
        )
    return record


def refuse_private(folder: Path) -> None:
    """Raises InputError for a path of this machine, and for what looks like a key or is one of those in use here."""
    defects = output.machine_path_defects(folder, [folder])
    kinds = [*SECRET_KINDS, *known_secrets()]
    for path in model_files(folder):
        # Weights and vocabularies are no text of anybody's, and long enough to look like anything.
        if path.suffix in output.CHECKED_SUFFIXES and path.name not in output.UNCHECKED_FILES:
            found = kinds_in(path.read_text(encoding="utf-8"), kinds)
            defects += [f"{path.relative_to(folder)} holds {kind.name}" for kind in found]
    if defects:
        raise InputError(
            f"{folder} is not pushed: {'; '.join(defects)}. Nothing was sent. Remove it from the file, and push again."
        )


def model_files(folder: Path) -> list[Path]:
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and path.name not in LOCAL_FILES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]


def contents_of(folder: Path, record: Mapping[str, Any], repository: str) -> dict[str, Content]:
    """By path. The card names the repository, unless somebody has edited it."""
    contents = {path.relative_to(folder).as_posix(): content_of(path) for path in model_files(folder)}
    written = (folder / CARD).read_text(encoding="utf-8") if CARD in contents else model_card(record)
    if written == model_card(record):
        contents[CARD] = content_of(model_card(record, repository).encode("utf-8"))
    return contents


def content_of(source: Path | bytes) -> Content:
    size = len(source) if isinstance(source, bytes) else source.stat().st_size
    sha256, git = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % size)
    with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
        while block := file.read(1 << 20):
            sha256.update(block)
            git.update(block)
    return Content(source, size, sha256.hexdigest(), git.hexdigest())


def refuse_foreign(
    api: Any, repository: str, kind: str | None, contents: Mapping[str, Content] | None, private: bool
) -> str:
    """The head of the repository, in which there is nothing but a model of this kind whose files these replace, or nothing at all.

    kind, contents: None where they are not known yet.
    """
    info = api.model_info(repository)
    if private and not info.private:
        raise InputError(
            f"{repository} exists and is public, and --private was asked for. Make it private in its settings, or give another name."
        )
    there = {name for name in files_at(api, repository, info.sha) if name not in HUB_FILES}
    if not there:
        return str(info.sha)
    if RECORD not in there:
        raise InputError(
            f"{repository} holds files that are not of a model of this project ({named(there)}). They are neither replaced nor deleted. "
            "Give another name, or empty the repository yourself."
        )
    with tempfile.TemporaryDirectory() as folder:
        found = read_json(Path(api.hf_hub_download(repository, RECORD, revision=info.sha, local_dir=folder)))
    if kind is not None and (not isinstance(found, dict) or found.get("kind") != kind):
        raise InputError(
            f"{repository} holds another kind of model ({found.get('kind') if isinstance(found, dict) else 'unknown'}, this one is "
            f"{kind}). It is not replaced. Give another name."
        )
    foreign = there - contents.keys() if contents is not None else set()
    if foreign:
        raise InputError(
            f"{repository} holds files that this model does not have ({named(foreign)}), and they would stay beside it. They are not "
            "deleted. Give another name, or delete them on the Hub and run the same command again."
        )
    return str(info.sha)


def named(files: set[str]) -> str:
    shown = sorted(files)
    return ", ".join(shown[:4]) + (f" and {len(shown) - 4} more" if len(shown) > 4 else "")


def files_at(api: Any, repository: str, commit: str) -> dict[str, Any]:
    """Path -> the Hub's entry (size, blob_id, lfs) of every file."""
    from huggingface_hub.hf_api import RepoFile

    entries = api.list_repo_tree(repository, recursive=True, revision=commit)
    return {entry.path: entry for entry in entries if isinstance(entry, RepoFile)}


def same_content(there: Mapping[str, Any], contents: Mapping[str, Content]) -> bool:
    if there.keys() - set(HUB_FILES) != contents.keys() - set(HUB_FILES):
        return False
    return all(
        there[name].lfs.sha256 == content.sha256 if there[name].lfs else there[name].blob_id == content.git_sha1
        for name, content in contents.items()
    )


def commit_files(
    api: Any, repository: str, head: str, contents: Mapping[str, Content], message: str, before: str
) -> str:
    from huggingface_hub import CommitOperationAdd

    operations = [
        CommitOperationAdd(name, str(content.source) if isinstance(content.source, Path) else content.source)
        for name, content in contents.items()
    ]
    try:
        return str(api.create_commit(repository, operations, commit_message=message, parent_commit=head).oid)
    except HUB_ERRORS as error:
        if status_of(error) in (409, 412):
            raise InputError(
                f"Somebody else changed {repository} while this model was sent, so nothing was committed. Run the same command again; it "
                "looks at what is there now."
            ) from None
        raise hub_error(
            error,
            f"The commit to {repository} failed",
            f"{before} If the answer was lost after the commit, running the same command again finds it and does not repeat it.",
        ) from None


def read_back(api: Any, repository: str, commit: str, contents: Mapping[str, Content]) -> None:
    """Every file at the commit has the SHA-256 that was sent: small ones are downloaded, of those in LFS, which are stored under
    their SHA-256 and checked by the Hub on arrival, it is asked for.
    """
    state = f"The commit {commit} is in {repository}; run the same command again to compare."
    differing = []
    with hub_errors(f"{repository} cannot be read back", state), tempfile.TemporaryDirectory() as folder:
        there = files_at(api, repository, commit)
        for name, content in contents.items():
            if name not in there:
                differing.append(f"{name} is missing")
                continue
            if there[name].lfs:
                sha256 = there[name].lfs.sha256
            else:
                sha256 = content_of(
                    Path(api.hf_hub_download(repository, name, revision=commit, local_dir=folder))
                ).sha256
            if sha256 != content.sha256:
                differing.append(f"{name} differs")
    if differing:
        raise InputError(
            f"What is in {repository} at commit {commit} is not what was sent: {'; '.join(sorted(differing)[:4])}. Do not use that commit; "
            "run the same command again."
        )


def commit_message(record: Mapping[str, Any]) -> str:
    data = record["data"]
    revision = data["tag"] or data["revision"]
    return f"{KINDS[record['kind']]}, trained on {data['dataset']}" + (f"@{revision}" if revision else "")
