"""A finished model on the Hub: one commit with the folder's files and no others, and the proof that it reads back as it was written.

The commit is the version: a model carries no number of its own, so it gets no tag. Pushing the same folder again does nothing, and an
interrupted push is mended by running it again, since nothing is there before the one commit and everything after it.
"""

import re
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.errors import InputError, few
from builder.files import read_json
from builder.hub.client import ADDRESS, PREFIX, hub_api, hub_errors, may_create, parse_address
from builder.hub.commit import send_commit
from builder.hub.files import LocalFile, Upload, differing_files, local_file, remote_files, same_files
from builder.private_text import SECRET_KINDS, known_secrets, machine_places
from training import output
from training.kinds import TITLES
from training.model_card import model_card
from training.record import RECORD_FILE, finished_record

CARD = "README.md"
LOCAL_FILES = ("launch.json",)  # from which inputs the folder was begun; says nothing to anybody else
FOR_OWN_USE = "Ask their owners; for a repository of your own: --private."
ADAPTER_FILES = re.compile(r"adapter_(config\.json|model.*\.safetensors)")
WHOLE_FILES = re.compile(r"(config\.json|model.*\.safetensors(\.index\.json)?)")


@dataclass(frozen=True)
class Pushed:
    """commit: its SHA. said: what was done, in sentences."""

    commit: str
    said: list[str]


def model_repository(name: str) -> str:
    """`org/name`, also given as hub:org/name. Raises InputError for anything else."""
    text = f"{PREFIX}{name.removeprefix(PREFIX)}"
    if ADDRESS.fullmatch(text) is None:
        raise InputError(f"--push {name} is no repository of a model. Write org/name.")
    address = parse_address(text)
    if address.revision is not None:
        raise InputError(f"--push {name} names a revision, but a push makes one. Write org/name.")
    return address.repository


def refuse_before_training(name: str, private: bool, kind: str, adapter: bool, terms: str | None = None) -> str:
    """What would stop the push after hours of training. Raises InputError; writes nothing. What else is to be said, or "".

    kind: dpo or reward. adapter: the weights will be an adapter's, not a whole model's. terms: why the data may not be passed on.
    """
    repository = model_repository(name)
    if terms and not private:
        raise InputError(f"The data may not be passed on ({terms}), and a model can repeat them. {FOR_OWN_USE}")
    api = hub_api(token_needed=True)
    with hub_errors(f"A push to {repository} would fail", "Nothing was trained or sent."):
        if not api.repo_exists(repository):
            return may_create(api, repository)
        api.auth_check(repository, write=True)
        _, there = refuse_foreign(api, repository, kind, None, private)
    stale = WHOLE_FILES if adapter else ADAPTER_FILES
    refuse_left_over(repository, [path for path in there if stale.fullmatch(path)])
    return ""


def push(folder: Path, name: str, private: bool = False) -> Pushed:
    """Put the finished model in `folder` on the Hub as `org/name`.

    Raises InputError if the folder is no finished model or holds a machine path or a secret, if the repository holds what is not this
    model, if somebody commits meanwhile, and where the Hub refuses; the message says what is on the Hub then.
    """
    repository = model_repository(name)
    record = finished_record(folder, "Train it with `persona train`.")
    refuse_terms(folder, record, private)
    refuse_private(folder)
    kind = TITLES[record["kind"]]
    files = files_of(folder, record, repository)
    upload = Upload("model", repository, files, name="this model", title=commit_message(record), tag="")
    api = hub_api(token_needed=True)
    with hub_errors(f"{repository} cannot be made on the Hub", "No file was sent."):
        api.create_repo(repository, private=True if private else None, exist_ok=True)
    again = f"Nothing of this model is in {repository} yet; the model itself is whole in {folder}."
    with hub_errors(f"{repository} cannot be read on the Hub", again):
        head, theirs = refuse_foreign(api, repository, record["kind"], files, private)
    if same_files(files, theirs):
        commit, done = head, f"{kind} already on the Hub with this content"
    else:
        commit, _ = send_commit(api, upload, head, theirs)
        done = f"{kind} pushed to the Hub in one commit"
    read_back(api, upload, commit)
    size = f"{len(files)} files, {sum(file.size for file in files.values()) / 1e6:,.1f} MB"
    return Pushed(
        commit,
        [
            f"{done}: {api.endpoint}/{repository}, commit {commit}, {size}; every file was compared there.",
            f"Next: hf download {repository} --revision {commit}, or the snippets of its card.",
        ],
    )


def refuse_terms(folder: Path, record: Mapping[str, Any], private: bool) -> None:
    terms = record["data"].get("not_for_publishing")
    if terms and not private:
        raise InputError(
            f"{folder} was trained on data that may not be passed on ({terms}), and a model can repeat them. {FOR_OWN_USE}"
        )


def refuse_private(folder: Path) -> None:
    """Raises InputError for a path of this machine, and for what looks like a key or is one of those in use here."""
    kinds = [*SECRET_KINDS, *known_secrets(), *machine_places({"folder of the model": folder})]
    defects = output.private_defects(folder, model_files(folder), kinds)
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


def files_of(folder: Path, record: Mapping[str, Any], repository: str) -> dict[str, LocalFile]:
    """By path. The card names the repository, unless somebody has edited it."""
    files = {path.relative_to(folder).as_posix(): local_file(path) for path in model_files(folder)}
    written = (folder / CARD).read_text(encoding="utf-8") if CARD in files else model_card(record)
    if written == model_card(record):
        files[CARD] = local_file(model_card(record, repository).encode("utf-8"))
    return files


def refuse_foreign(
    api: Any, repository: str, kind: str, files: Mapping[str, LocalFile] | None, private: bool
) -> tuple[str, dict[str, Any]]:
    """(head of the repository, its files), in which there is nothing but a model of this kind whose files these replace, or nothing at all.

    files: None where they are not known yet.
    """
    info = api.model_info(repository)
    if private and not info.private:
        raise InputError(
            f"{repository} exists and is public, and --private was asked for. Make it private in its settings, or give another name."
        )
    there = remote_files(api, "model", repository, info.sha)
    if not there:
        return str(info.sha), there
    if RECORD_FILE not in there:
        raise InputError(
            f"{repository} holds files that are not of a model of this project ({few(sorted(there))}). They are neither replaced nor "
            "deleted. Give another name, or empty the repository yourself."
        )
    with tempfile.TemporaryDirectory() as folder:
        found = read_json(Path(api.hf_hub_download(repository, RECORD_FILE, revision=info.sha, local_dir=folder)))
    if not isinstance(found, dict) or found.get("kind") != kind:
        raise InputError(
            f"{repository} holds another kind of model ({found.get('kind') if isinstance(found, dict) else 'unknown'}, this one is "
            f"{kind}). It is not replaced. Give another name."
        )
    refuse_left_over(repository, there.keys() - files.keys() if files is not None else ())
    return str(info.sha), there


def refuse_left_over(repository: str, foreign: Collection[str]) -> None:
    if foreign:
        raise InputError(
            f"{repository} holds files that this model does not have ({few(sorted(foreign))}), and they would stay beside it. They are not "
            "deleted. Give another name, or delete them on the Hub and run the same command again."
        )


def read_back(api: Any, upload: Upload, commit: str) -> None:
    """Every file at the commit has the SHA-256 that was sent. Weights are too large to come back for that: the Hub stores them under
    their SHA-256 and checks it on arrival, and is asked for it.
    """
    state = f"The commit {commit} is in {upload.repository}; run the same command again to compare."
    with hub_errors(f"{upload.repository} cannot be read back", state):
        defects = differing_files(api, upload, commit, commit, download_large=False)
    if defects:
        raise InputError(
            f"What is in {upload.repository} at commit {commit} is not what was sent: {'; '.join(sorted(defects)[:4])}. Do not use that "
            "commit; run the same command again."
        )


def commit_message(record: Mapping[str, Any]) -> str:
    data = record["data"]
    revision = data["tag"] or data["revision"]
    return f"{TITLES[record['kind']]}, trained on {data['dataset']}" + (f"@{revision}" if revision else "")
