"""One version on the Hub: one commit, one tag on exactly that commit, and the proof that it reads back as it was written.

Every step first looks whether it is done already, so that what was interrupted at any request goes on from there when it is run again.
Whoever loads the dataset meanwhile gets the old version or the new one, whole: files become visible by the commit alone.
"""

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.errors import InputError
from builder.files import sha256_file
from builder.hub import (
    HUB_ERRORS,
    LOG_IN,
    HubAddress,
    first_lines,
    hub_api,
    hub_error,
    hub_errors,
    is_passing,
    status_of,
)
from builder.publishing.versions import parse_version, tag_of, version_of
from builder.schema import features

KIND = "dataset"
# The Hub's own file, which says what it stores as large files.
KEPT = (".gitattributes",)
# A .gitignore that somebody put into the repository must not keep files of a version back.
IGNORE_NOTHING = "# nothing\n"
# While it is not known yet what an earlier run has left on the Hub.
UNSENT = "This run uploaded nothing, and every version on the Hub is as it was."


@dataclass(frozen=True)
class Uploaded:
    """commit: its SHA, None in a dry run. tag: None for a pull request and in a dry run. url: of the version or the pull request.

    said: what was done, or would be, in sentences.
    """

    commit: str | None
    tag: str | None
    url: str
    said: list[str]


@dataclass(frozen=True)
class LocalFile:
    """git: the id that git gives the content. sha256: the id that a large file has on the Hub."""

    git: str
    sha256: str


@dataclass(frozen=True)
class Version:
    """What is to be on the Hub: the files of `folder`, by path in `files`, whose build.json is `published`, at `address`."""

    folder: Path
    address: HubAddress
    published: dict[str, Any]
    files: dict[str, LocalFile]

    @property
    def number(self) -> str:
        return str(self.published["version"])

    @property
    def tag(self) -> str:
        return tag_of(self.number)

    @property
    def title(self) -> str:
        """Of the commit and of the pull request."""
        return f"Version {self.number}"

    @property
    def repository(self) -> str:
        return self.address.repository

    @property
    def nothing(self) -> str:
        return f"Nothing of version {self.number} is visible on the Hub."

    @property
    def cannot(self) -> str:
        return f"Version {self.number} cannot be published to {self.address}"


def version_before(address: HubAddress, version: str) -> str | None:
    """The newest version tag (`v1.1.0`) below `version`; None where the repository or such a tag does not exist.

    Raises InputError without a token: what cannot be uploaded should not be prepared first.
    """
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    api = hub_api(token_needed=True)
    with hub_errors(f"{address} cannot be asked for its versions", "Nothing was sent."):
        try:
            tags, _ = refs_of(api, address.repository)
        except RepositoryNotFoundError as error:
            if isinstance(error, GatedRepoError):
                raise
            return None
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
    has other files, for a version below the newest, where somebody else committed meanwhile, where the Hub or the network fails,
    and where the version reads back otherwise than it was written.
    """
    version = Version(folder, address, published, local_files(folder))
    api = hub_api(token_needed=True)
    url = f"{api.endpoint}/datasets/{version.repository}/tree/{version.tag}"
    with hub_errors(version.cannot, UNSENT):
        said, is_there = look_at_repository(api, version, private, create_pr, dry_run)
        if not is_there:
            return Uploaded(None, None, url, [*said, would_change(version, {}), would_tag(version)])
        tags, head = refs_of(api, version.repository)
        if version.tag in tags:
            refuse_other_content(version, remote_files(api, version.repository, tags[version.tag]))
            said.append(f"{version.tag} is on the Hub already, with the same files: nothing was uploaded.")
            theirs: dict[str, Any] = {}
            commit: str | None = tags[version.tag]
        else:
            refuse_older(version, tags)
            theirs = {} if head is None else remote_files(api, version.repository, head)
            commit = finished_commit(api, version, head, theirs)
    if create_pr and version.tag not in tags:
        return propose(api, version, head, theirs, commit, dry_run, said)
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
            commit, _ = send_commit(api, version, head, theirs, create_pr=False)
            said.append(f"Uploaded as one commit, {commit}.")
        else:
            said.append(f"Commit {commit} on main has these files already: nothing was uploaded.")
        set_tag(api, version, commit)
        said.append(f"Tag {version.tag} is on that commit.")
    read_back(api, version, version.tag, str(commit))
    said.append(f'Read back whole: load_dataset("{version.repository}", "dpf", revision="{version.tag}")')
    return Uploaded(commit, version.tag, url, said)


def look_at_repository(
    api: Any, version: Version, private: bool, create_pr: bool, dry_run: bool
) -> tuple[list[str], bool]:
    """(what is to be said, whether it is there): it is created if need be. Raises InputError where the token may not write there, and
    where it is public and should not be."""
    there = repository_info(api, version.repository)
    if there is None:
        refuse_absent(version, create_pr)
        if dry_run:
            return [would_create(api, version, private)], False
        api.create_repo(version.repository, repo_type=KIND, private=private or None, exist_ok=True)
        there = api.dataset_info(version.repository)
        said = [f"{version.address} was created{', private' if there.private else ''}."]
    else:
        if not create_pr:  # who may read may propose
            api.auth_check(version.repository, repo_type=KIND, write=True)
        said = [f"{version.address} is private and stays so."] if there.private and not private else []
    refuse_public(version, bool(there.private), private)
    return said, True


def local_files(folder: Path) -> dict[str, LocalFile]:
    """{path: ids}, each file read once in blocks for both."""
    found = {}
    for place in sorted(p for p in folder.rglob("*") if p.is_file()):
        git, sha256 = hashlib.sha1(b"blob %d\0" % place.stat().st_size), hashlib.sha256()
        with place.open("rb") as handle:
            for block in iter(lambda: handle.read(1 << 20), b""):
                git.update(block)
                sha256.update(block)
        found[place.relative_to(folder).as_posix()] = LocalFile(git.hexdigest(), sha256.hexdigest())
    return found


def remote_files(api: Any, repository: str, revision: str) -> dict[str, Any]:
    """{path: its entry in the Hub's tree}, without the Hub's own files."""
    from huggingface_hub import RepoFile

    entries = api.list_repo_tree(repository, repo_type=KIND, revision=revision, recursive=True)
    return {e.path: e for e in entries if isinstance(e, RepoFile) and e.path not in KEPT}


def changes(version: Version, theirs: dict[str, Any]) -> tuple[list[str], list[str]]:
    """(paths to add or to replace, paths to delete) to make theirs ours. Both empty: the same files."""

    def same(file: LocalFile, entry: Any) -> bool:
        return bool(file.sha256 == entry.lfs.sha256 if entry.lfs else file.git == entry.blob_id)

    added = [path for path, file in version.files.items() if path not in theirs or not same(file, theirs[path])]
    return added, sorted(theirs.keys() - version.files.keys())


def same_files(version: Version, theirs: dict[str, Any]) -> bool:
    return changes(version, theirs) == ([], [])


def repository_info(api: Any, repository: str) -> Any:
    """None where there is no such dataset that the token may see."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        return api.dataset_info(repository)
    except RepositoryNotFoundError as error:
        if isinstance(error, GatedRepoError):
            raise
        return None


def refs_of(api: Any, repository: str) -> tuple[dict[str, str], str | None]:
    """({tag: commit}, the commit at the head of main or None in a repository without one)."""
    refs = api.list_repo_refs(repository, repo_type=KIND)
    heads = {branch.name: branch.target_commit for branch in refs.branches}
    return {tag.name: tag.target_commit for tag in refs.tags}, heads.get("main")


def version_tags(tags: dict[str, str]) -> list[str]:
    """Those that name a version, oldest version first."""
    return sorted((tag for tag in tags if version_of(tag) is not None), key=lambda tag: parse_version(tag[1:]))


def finished_commit(api: Any, version: Version, head: str | None, theirs: dict[str, Any]) -> str | None:
    """The commit of main that has exactly our files: its head, whose files are `theirs`, or one of this title that others came after.
    None where there is none.

    It is there if a run ended between commit and tag, or if a pull request with it was merged.
    """
    if head is None or same_files(version, theirs):
        return head
    for commit in api.list_repo_commits(version.repository, repo_type=KIND, revision=head):
        # The Hub puts the number of a merged pull request behind its title.
        titled = commit.title == version.title or commit.title.startswith(f"{version.title} (#")
        if titled and same_files(version, remote_files(api, version.repository, commit.commit_id)):
            return str(commit.commit_id)
    return None


def refuse_absent(version: Version, create_pr: bool) -> None:
    if create_pr:
        raise InputError(
            f"The Hub has no dataset {version.repository} that you may see, so there is nothing to propose a change to. Check the name, "
            "or publish without --create-pr, which creates it. Nothing was sent."
        )


def would_create(api: Any, version: Version, private: bool) -> str:
    """Raises InputError for a token that may not create it; whether the namespace lets it, only the Hub itself decides."""
    who = api.whoami()
    if who.get("auth", {}).get("accessToken", {}).get("role") == "read":
        raise InputError(f"The token may only read, and {version.address} is to be created. {LOG_IN} Nothing was sent.")
    own = [str(who.get("name")), *(str(each["name"]) for each in who.get("orgs", []))]
    foreign = version.repository.partition("/")[0] not in own
    return (
        f"{version.address} would be created{', private' if private else ''}."
        + f" The token is for {', '.join(own)}: the Hub may refuse." * foreign
    )


def refuse_public(version: Version, is_private: bool, private: bool) -> None:
    if private and not is_private:
        raise InputError(
            f"{version.address} is public, and --private makes only a new repository private: what is on it can be seen by all. Make it "
            "private in its settings on the Hub first, or leave --private out. Nothing was uploaded."
        )


def refuse_other_content(version: Version, theirs: dict[str, Any]) -> None:
    added, absent = changes(version, theirs)
    differing = sorted(added + absent)
    if differing:
        shown = ", ".join(differing[:6]) + (f" and {len(differing) - 6} more" if len(differing) > 6 else "")
        raise InputError(
            f"{version.tag} is on {version.address} already, with other files (differing: {shown}). A published version is never changed: "
            "give a higher --version. Nothing was uploaded."
        )


def refuse_older(version: Version, tags: dict[str, str]) -> None:
    newest = version_tags(tags)[-1:]
    if newest and parse_version(version.number) < parse_version(newest[0][1:]):
        raise InputError(
            f"--version {version.number} is below {newest[0]}, the newest on {version.address}: whoever loads the dataset without a "
            f"revision would get the older data. Give a version above {newest[0][1:]}. Nothing was uploaded."
        )


def would_change(version: Version, theirs: dict[str, Any]) -> str:
    added, deleted = changes(version, theirs)
    parts = [f"{what} {', '.join(paths)}" for what, paths in (("add", added), ("delete", deleted)) if paths]
    return f"One commit would {' and '.join(parts)}."


def would_tag(version: Version) -> str:
    return f"Tag {version.tag} would be set on that commit, and the version be read back."


def send_commit(
    api: Any, version: Version, head: str | None, theirs: dict[str, Any], create_pr: bool
) -> tuple[str, int | None]:
    """One commit makes `theirs`, the files at `head`, ours: (its SHA, the number of the pull request).

    Raises InputError where it cannot be sent, and where somebody else committed after `head`.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    added, deleted = changes(version, theirs)
    additions = [CommitOperationAdd(path, version.folder / path) for path in added]
    with hub_errors(version.cannot, version.nothing):
        # Large files go first; the Hub shows them to nobody before a commit names them.
        api.preupload_lfs_files(
            version.repository,
            additions,
            repo_type=KIND,
            create_pr=create_pr,
            gitignore_content=IGNORE_NOTHING,
            free_memory=False,
        )
    try:
        done = api.create_commit(
            version.repository,
            [*additions, *(CommitOperationDelete(path, is_folder=False) for path in deleted)],
            commit_message=version.title,
            repo_type=KIND,
            create_pr=create_pr,
            parent_commit=head,
        )
    except HUB_ERRORS as error:
        if status_of(error) in (409, 412):
            raise overtaken(api, version, error) from None
        if not is_passing(error):
            raise hub_error(error, version.cannot, version.nothing) from None
        return landed(api, version, error, create_pr)
    return done.oid, done.pr_num


def landed(api: Any, version: Version, error: BaseException, create_pr: bool) -> tuple[str, int | None]:
    """The commit whose answer was lost, if it took effect. Raises InputError where it did not, or where the Hub cannot be asked."""
    try:
        if create_pr:
            proposal, commit, _ = open_proposal(api, version)
        else:
            _, head = refs_of(api, version.repository)
            theirs = {} if head is None else remote_files(api, version.repository, head)
            proposal, commit = None, finished_commit(api, version, head, theirs)
    except HUB_ERRORS:
        what = "a pull request" if create_pr else "a commit without its tag"
        raise hub_error(
            error,
            version.cannot,
            f"The Hub does not answer, so it is not known whether version {version.number} is there as {what}; the same command finds it "
            "out and goes on from there.",
        ) from None
    if commit is None:
        # Not "nothing is": a request that took too long may still take effect.
        later = f"Asked afterwards, the Hub had nothing of version {version.number}; the same command looks first, and goes on."
        raise hub_error(error, version.cannot, later) from None
    return commit, proposal


def overtaken(api: Any, version: Version, error: BaseException) -> InputError:
    try:
        now = api.list_repo_commits(version.repository, repo_type=KIND)[0]
        there = f"main is now {now.commit_id}, {first_lines(Exception(now.title))!r}"
    except (*HUB_ERRORS, IndexError):
        there = f"the Hub said: {first_lines(error)}"
    return InputError(
        f"Somebody else committed to {version.address} while version {version.number} was uploaded ({there}). {version.nothing} Look at "
        "that commit, and run the same command again to publish on top of it."
    )


def set_tag(api: Any, version: Version, commit: str) -> None:
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
            tagged = refs_of(api, version.repository)[0].get(version.tag)
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


def propose(
    api: Any,
    version: Version,
    head: str | None,
    theirs: dict[str, Any],
    merged: str | None,
    dry_run: bool,
    said: list[str],
) -> Uploaded:
    """The version as a pull request: the open one that has these files, else a new one. Without a tag, which follows the merge."""
    page = f"{api.endpoint}/datasets/{version.repository}"
    later = f"the same command without --create-pr sets tag {version.tag}."
    if merged is not None:
        said.append(f"Commit {merged} on main has these files already, so there is nothing to propose; {later}")
        return Uploaded(merged, None, f"{page}/commit/{merged}", said)
    with hub_errors(version.cannot, UNSENT):
        number, commit, others = open_proposal(api, version)
    if others:
        numbers = ", ".join(f"#{other}" for other in others)
        said.append(f"Other files are proposed under the same version ({numbers}): close what is not to be merged.")
    if commit is not None:
        said.append(f"Pull request #{number} has these files already: nothing was uploaded.")
    elif dry_run:
        return Uploaded(None, None, page, [*said, would_change(version, theirs), "It would be a pull request."])
    else:
        commit, number = send_commit(api, version, head, theirs, create_pr=True)
        said.append(f"Pull request #{number} was opened, commit {commit}.")
    url = f"{page}/discussions/{number}"
    if dry_run:
        return Uploaded(None, None, url, said)
    read_back(api, version, f"refs/pr/{number}", commit)
    said.append(f"Read back whole at refs/pr/{number}. Once it is merged, {later}")
    return Uploaded(commit, None, url, said)


def open_proposal(api: Any, version: Version) -> tuple[int | None, str | None, list[int]]:
    """(number and commit of the open pull request of this title with exactly our files, or None twice; the numbers of others of the
    title)."""
    others: list[int] = []
    for each in api.get_repo_discussions(version.repository, repo_type=KIND, discussion_type="pull_request"):
        if each.status in ("open", "draft") and each.title == version.title:
            commit = api.dataset_info(version.repository, revision=each.git_reference).sha
            if same_files(version, remote_files(api, version.repository, commit)):
                return each.num, str(commit), others
            others.append(each.num)
    return None, None, others


def read_back(api: Any, version: Version, revision: str, commit: str) -> None:
    """Load what the Hub has at `revision` as others will, and compare it with what was written.

    Every file comes anew, past the caches, and is hashed; then `datasets` says which configs, splits and columns it sees there.
    Raises InputError for any difference.
    """
    where = f"{HubAddress(version.repository, revision)}"
    there = f"On the Hub: commit {commit}, with {'tag ' if revision == version.tag else ''}{revision}"
    with hub_errors(
        f"{where} cannot be read back",
        f"{there}. It is not proved yet; the same command uploads nothing and reads it back.",
    ):
        defects = differing_files(api, version, revision, commit) + differing_tables(version, revision)
    if defects:
        raise InputError(
            f"{where} does not read back as it was written: {'; '.join(defects[:6])}. {there}. Nobody should rely on this version. Run the "
            "same command again: it uploads nothing and reads back once more. If it says the same, say so in the dataset's card, and "
            "publish under a higher --version."
        )


def differing_files(api: Any, version: Version, revision: str, commit: str) -> list[str]:
    import pyarrow.parquet as parquet
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    rows = {
        entry["file"]: entry["rows"] for splits in version.published["configs"].values() for entry in splits.values()
    }
    extra = remote_files(api, version.repository, revision).keys() - version.files.keys()
    defects = [f"{path} should not be there" for path in sorted(extra)]
    for path, file in version.files.items():
        # A cache of its own for each file: what the user's cache holds proves nothing, and the disk holds one file at a time.
        with tempfile.TemporaryDirectory(prefix=".readback.", dir=version.folder.parent) as cache:
            try:
                place = Path(
                    api.hf_hub_download(version.repository, path, repo_type=KIND, revision=revision, cache_dir=cache)
                )
            except EntryNotFoundError as error:
                if isinstance(error, LocalEntryNotFoundError):  # the network's failure under another name
                    raise
                defects.append(f"{path} is not there")
                continue
            if commit not in place.relative_to(cache).parts:
                defects.append(f"{revision} is not at commit {commit}")
            if sha256_file(place) != file.sha256:
                defects.append(f"{path} has other content")
            elif path in rows and (found := parquet.read_metadata(place).num_rows) != rows[path]:
                defects.append(f"{path} has {found} rows, and build.json says {rows[path]}")
    return defects


def differing_tables(version: Version, revision: str) -> list[str]:
    """What `datasets` finds at this revision against build.json and builder.schema; of the data it reads the footers only."""
    wanted = {
        config: sorted(split for split, entry in splits.items() if entry["rows"])
        for config, splits in version.published["configs"].items()
        if any(entry["rows"] for entry in splits.values())
    }
    with tempfile.TemporaryDirectory(prefix=".readback.", dir=version.folder.parent) as cache:
        try:
            return seen_otherwise(version.repository, revision, cache, wanted)
        except ValueError as error:  # of `datasets`, about the card or a file; the network's are others
            if status_of(error) is not None:
                raise
            return [f"datasets cannot load it: {first_lines(error)}"]


def seen_otherwise(repository: str, revision: str, cache: str, wanted: dict[str, list[str]]) -> list[str]:
    from datasets import load_dataset_builder

    default = load_dataset_builder(repository, revision=revision, cache_dir=cache)
    seen, defects = default.builder_configs, []
    if set(seen) != set(wanted):
        defects.append(f"datasets sees the configs {', '.join(seen)}, not {', '.join(wanted)}")
    if default.config.name != "dpf":
        defects.append(f"the default config is {default.config.name}, not dpf")
    for config in [config for config in wanted if config in seen]:
        builder = load_dataset_builder(repository, config, revision=revision, cache_dir=cache)
        splits: Any = builder.as_streaming_dataset()
        if sorted(splits) != wanted[config]:
            defects.append(f"{config} has the splits {', '.join(splits)}, not {', '.join(wanted[config])}")
        for split, table in splits.items():
            if table.features != features(config):
                defects.append(f"{config}/{split} has other columns: {', '.join(table.features or ['none'])}")
    return defects
