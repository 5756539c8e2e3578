"""One version on the Hub: one commit, one tag on exactly that commit, and the proof that it reads back as it was written.

Every step first looks whether it is done already, so that what was interrupted at any request goes on from there when it is run again.
Whoever loads the dataset meanwhile gets the old version or the new one, whole: files become visible by the commit alone.
"""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.errors import InputError, few
from builder.hub.client import (
    HUB_ERRORS,
    HubAddress,
    hub_api,
    hub_error,
    hub_errors,
    is_passing,
    may_create,
    status_of,
)
from builder.hub.commit import finished_commit, refs_of, send_commit
from builder.hub.files import changes, local_files, remote_files
from builder.published import build_in, is_published, parse_version
from builder.publishing.dry_run import would_change, would_create, would_tag
from builder.publishing.proposal import UNSENT, propose
from builder.publishing.read_back import VersionUpload, read_back
from builder.publishing.versions import tag_of, version_of

KIND = "dataset"
# What the Hub, or somebody who makes a repository by hand, begins with. Of these a version replaces README.md alone.
BARE = {"README.md", "LICENSE", "LICENSE.md", "LICENSE.txt", ".gitignore"}


@dataclass(frozen=True)
class Uploaded:
    """commit: its SHA, None in a dry run. tag: None for a pull request and in a dry run. url: of the version or the pull request.

    said: what was done, or would be, in sentences.
    """

    commit: str | None
    tag: str | None
    url: str
    said: list[str]


def look_first(address: HubAddress, version: str, *, private: bool = False, create_pr: bool = False) -> str | None:
    """The newest version tag (`v1.1.0`) below `version`; None where the repository or such a tag does not exist.

    Raises InputError where it shows already that `version` cannot go there: without a token, without the right to write, for a version
    below the newest, for a public repository that should be private, for one that holds something else. What cannot be uploaded should
    not be prepared first.
    """
    api = hub_api(token_needed=True)
    with hub_errors(f"Version {version} cannot be published to {address}", "Nothing was sent."):
        there = repository_info(api, address.repository)
        if there is None:
            refuse_absent(address, create_pr)
            may_create(api, address.repository)
            return None
        refuse_reader(api, address, create_pr)
        refuse_public(address, bool(there.private), private)
        tags, head = refs_of(api, KIND, address.repository)
        if tag_of(version) not in tags:
            refuse_older(address, version, tags)
            if head is not None:
                refuse_foreign(api, address, head, remote_files(api, KIND, address.repository, head))
    lower = [tag for tag in version_tags(tags) if parse_version(tag[1:]) < parse_version(version)]
    return lower[-1] if lower else None


def upload_version(
    folder: Path, address: HubAddress, published: dict[str, Any], *, private: bool, create_pr: bool, dry_run: bool
) -> Uploaded:
    """Bring the files of `folder`, whose build.json is `published`, to the Hub as its version, and read them back.

    create_pr: as a pull request without a tag, or the open one that has these files; after its merge the same call without it sets the
    tag. dry_run: every look and check, and nothing is sent.

    The read-back keeps one file at a time on the disk beside `folder`, and in memory a block of it.

    Raises InputError, which says what is on the Hub and how to go on: without a token, without the right to write, for a tag that
    has other files, for a version below the newest, for a repository with something else in it, where somebody else committed meanwhile,
    where the Hub or the network fails, and where the version reads back otherwise than it was written.
    """
    number = str(published["version"])
    version = VersionUpload(
        kind=KIND,
        repository=address.repository,
        files=local_files(folder),
        name=f"version {number}",
        title=f"Version {number}",
        tag=tag_of(number),
        folder=folder,
        published=published,
    )
    api = hub_api(token_needed=True)
    url = f"{api.endpoint}/datasets/{version.repository}/tree/{version.tag}"
    with hub_errors(version.cannot, UNSENT):
        said, is_there = look_at_repository(api, version, private, create_pr, dry_run)
        if not is_there:
            return Uploaded(None, None, url, [*said, would_change(version, {}), would_tag(version)])
        tags, head = refs_of(api, KIND, version.repository)
        if version.tag in tags:
            refuse_other_content(version, version.files_at(api, tags[version.tag]))
            said.append(f"{version.tag} is on the Hub already, with the same files: nothing was uploaded.")
            theirs: dict[str, Any] = {}
            commit: str | None = tags[version.tag]
        else:
            refuse_older(version.address, number, tags)
            there = {} if head is None else remote_files(api, KIND, version.repository, head)
            theirs = version.own(there)
            commit = finished_commit(api, version, head, theirs)
            if commit is None and head is not None:
                refuse_foreign(api, version.address, head, there)
    if create_pr and version.tag not in tags:
        proposed, url, said = propose(api, version, head, theirs, commit, dry_run, said)
        return Uploaded(proposed, None, url, said)
    if dry_run:
        if commit is None:
            said.append(would_change(version, theirs))
        elif version.tag not in tags:
            said.append(f"Commit {commit} on main has these files already: nothing would be uploaded.")
        return Uploaded(
            None, None, url, [*said, "It would be read back." if version.tag in tags else would_tag(version)]
        )
    if version.tag not in tags:
        if commit is None:
            commit, _ = send_commit(api, version, head, theirs)
            said.append(f"Uploaded as one commit, {commit}.")
            said += replaced(version, theirs)
        else:
            said.append(f"Commit {commit} on main has these files already: nothing was uploaded.")
        set_tag(api, version, commit)
        said.append(f"Tag {version.tag} is on that commit.")
    read_back(api, version, version.tag, str(commit))
    said.append(f'Read back whole: load_dataset("{version.repository}", "dpf", revision="{version.tag}")')
    return Uploaded(commit, version.tag, url, said)


def look_at_repository(
    api: Any, version: VersionUpload, private: bool, create_pr: bool, dry_run: bool
) -> tuple[list[str], bool]:
    """(what is to be said, whether it is there): it is created if need be. Raises InputError where the token may not write there, and
    where it is public and should not be."""
    there = repository_info(api, version.repository)
    if there is None:
        refuse_absent(version.address, create_pr)
        if dry_run:
            return [would_create(api, version.address, private)], False
        api.create_repo(version.repository, repo_type=KIND, private=private or None, exist_ok=True)
        there = api.dataset_info(version.repository)
        said = [f"{version.address} was created{', private' if there.private else ''}."]
    else:
        refuse_reader(api, version.address, create_pr)
        said = [f"{version.address} is private and stays so."] if there.private and not private else []
    refuse_public(version.address, bool(there.private), private)
    return said, True


def repository_info(api: Any, repository: str) -> Any:
    """None where there is no such dataset that the token may see."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        return api.dataset_info(repository)
    except RepositoryNotFoundError as error:
        if isinstance(error, GatedRepoError):
            raise
        return None


def version_tags(tags: dict[str, str]) -> list[str]:
    """Those that name a version, oldest version first."""
    return sorted((tag for tag in tags if version_of(tag) is not None), key=lambda tag: parse_version(tag[1:]))


def refuse_reader(api: Any, address: HubAddress, create_pr: bool) -> None:
    if not create_pr:  # who may read may propose
        api.auth_check(address.repository, repo_type=KIND, write=True)


def refuse_absent(address: HubAddress, create_pr: bool) -> None:
    if create_pr:
        raise InputError(
            f"The Hub has no dataset {address.repository} that you may see, so there is nothing to propose a change to. Check the name, "
            "or publish without --create-pr, which creates it. Nothing was sent."
        )


def refuse_public(address: HubAddress, is_private: bool, private: bool) -> None:
    if private and not is_private:
        raise InputError(
            f"{address} is public, and --private makes only a new repository private: what is on it can be seen by all. Make it "
            "private in its settings on the Hub first, or leave --private out. Nothing was uploaded."
        )


def refuse_other_content(version: VersionUpload, theirs: dict[str, Any]) -> None:
    added, absent = changes(version.files, theirs)
    differing = sorted(added + absent)
    if differing:
        raise InputError(
            f"{version.tag} is on {version.address} already, with other files (differing: {few(differing, 6)}). A published version is "
            "never changed: give a higher --version. Nothing was uploaded."
        )


def refuse_older(address: HubAddress, number: str, tags: dict[str, str]) -> None:
    newest = version_tags(tags)[-1:]
    if newest and parse_version(number) < parse_version(newest[0][1:]):
        raise InputError(
            f"--version {number} is below {newest[0]}, the newest on {address}: whoever loads the dataset without a "
            f"revision would get the older data. Give a version above {newest[0][1:]}. Nothing was uploaded."
        )


def refuse_foreign(api: Any, address: HubAddress, head: str, there: Mapping[str, Any]) -> None:
    """Raises InputError where the head of main, with the files `there`, is neither a version of ours nor as good as empty: a mistyped
    name must not cost somebody else's files."""
    if there.keys() <= BARE:
        return
    if "build.json" in there:
        with tempfile.TemporaryDirectory() as folder:
            api.hf_hub_download(address.repository, "build.json", repo_type=KIND, revision=head, local_dir=folder)
            if is_published(build_in(Path(folder))):
                return
    raise InputError(
        f"{address} holds something else than versions of a dataset of `persona publish` ({few(sorted(there))}). None of it was "
        "replaced or deleted. Check the name, give another, or empty the repository on the Hub yourself if it is to hold this dataset."
    )


def replaced(version: VersionUpload, theirs: Mapping[str, Any]) -> list[str]:
    """What the commit onto `theirs` took away, in sentences."""
    _, deleted = changes(version.files, theirs)
    said = [f"It deleted what is of the version before alone: {', '.join(deleted)}."] if deleted else []
    if "README.md" in theirs and "build.json" not in theirs:
        said.append("It replaced the README.md that was there.")
    return said


def set_tag(api: Any, version: VersionUpload, commit: str) -> None:
    """The tag on exactly this commit. Raises InputError where it cannot be set, or stands on another commit."""
    target = f"Tag {version.tag} cannot be set on {version.address}"
    there = f"Commit {commit} with all files of the version is on main"
    try:
        api.create_tag(version.repository, tag=version.tag, revision=commit, repo_type=KIND)
        return
    except HUB_ERRORS as error:
        without = f"{there}, without its tag; the same command sets it."
        if status_of(error) != 409 and not is_passing(error):
            raise hub_error(error, target, without) from None
        try:
            tagged = refs_of(api, KIND, version.repository)[0].get(version.tag)
        except HUB_ERRORS:
            unknown = f"{there}; whether it has its tag is not known, and the same command sees to it."
            raise hub_error(error, target, unknown) from None
        if tagged is None:
            raise hub_error(error, target, without) from None
    # Set by another run, or by this one and its answer was lost: all is well.
    if tagged != commit:
        raise InputError(
            f"Somebody else set tag {version.tag} on {version.address} meanwhile, on commit {tagged}; ours is {commit}, on main without a "
            "tag. A published version is never changed. Run the same command again: it says whether that commit has the same files."
        )
