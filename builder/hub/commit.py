"""One commit on the Hub that makes a repository's files ours, on main or as a pull request, and the search for it where its answer is lost.

Whoever loads the repository meanwhile gets the old files or the new ones, whole: files become visible by the commit alone.
"""

from collections.abc import Mapping
from typing import Any

from builder.errors import InputError
from builder.hub.client import HUB_ERRORS, first_lines, hub_error, hub_errors, is_passing, status_of
from builder.hub.files import Upload, changes, same_files

# A .gitignore that somebody put into the repository must not keep files back.
IGNORE_NOTHING = "# nothing\n"


def refs_of(api: Any, kind: str, repository: str) -> tuple[dict[str, str], str | None]:
    """({tag: commit}, the commit at the head of main or None in a repository without one)."""
    refs = api.list_repo_refs(repository, repo_type=kind)
    heads = {branch.name: branch.target_commit for branch in refs.branches}
    return {tag.name: tag.target_commit for tag in refs.tags}, heads.get("main")


def finished_commit(
    api: Any, upload: Upload, head: str | None, theirs: Mapping[str, Any], after: str | None = None
) -> str | None:
    """The commit of main that has exactly our files: its head, whose files are `theirs`, or one of this title that others came after.
    None where there is none.

    after: only what came after this commit is looked at. It is there if a run ended between commit and tag, or if a pull request with
    it was merged.
    """
    if head is None or same_files(upload.files, theirs):
        return head
    for commit in api.list_repo_commits(upload.repository, repo_type=upload.kind, revision=head):
        if commit.commit_id == after:
            return None
        # The Hub puts the number of a merged pull request behind its title.
        titled = commit.title == upload.title or commit.title.startswith(f"{upload.title} (#")
        if titled and same_files(upload.files, upload.files_at(api, commit.commit_id)):
            return str(commit.commit_id)
    return None


def open_proposal(api: Any, upload: Upload) -> tuple[int | None, str | None, list[int]]:
    """(number and commit of the open pull request of this title with exactly our files, or None twice; the numbers of others of the
    title)."""
    others: list[int] = []
    for each in api.get_repo_discussions(upload.repository, repo_type=upload.kind, discussion_type="pull_request"):
        if each.status in ("open", "draft") and each.title == upload.title:
            info = api.repo_info(upload.repository, repo_type=upload.kind, revision=each.git_reference)
            if same_files(upload.files, upload.files_at(api, info.sha)):
                return each.num, str(info.sha), others
            others.append(each.num)
    return None, None, others


def send_commit(
    api: Any, upload: Upload, head: str | None, theirs: Mapping[str, Any], create_pr: bool = False
) -> tuple[str, int | None]:
    """One commit makes `theirs`, the files at `head`, ours: (its SHA, the number of the pull request).

    Raises InputError where it cannot be sent, and where somebody else committed after `head`.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    added, deleted = changes(upload.files, theirs)
    additions = [CommitOperationAdd(path, upload.files[path].source) for path in added]
    with hub_errors(upload.cannot, upload.nothing):
        # Large files go first; the Hub shows them to nobody before a commit names them.
        api.preupload_lfs_files(
            upload.repository,
            additions,
            repo_type=upload.kind,
            create_pr=create_pr,
            gitignore_content=IGNORE_NOTHING,
            free_memory=False,
        )
    try:
        done = api.create_commit(
            upload.repository,
            [*additions, *(CommitOperationDelete(path, is_folder=False) for path in deleted)],
            commit_message=upload.title,
            repo_type=upload.kind,
            create_pr=create_pr,
            parent_commit=head,
        )
    except HUB_ERRORS as error:
        if status_of(error) in (409, 412):
            raise overtaken(api, upload, error) from None
        if not is_passing(error):
            raise hub_error(error, upload.cannot, upload.nothing) from None
        return landed(api, upload, error, head, create_pr)
    return done.oid, done.pr_num


def landed(
    api: Any, upload: Upload, error: BaseException, before: str | None, create_pr: bool
) -> tuple[str, int | None]:
    """The commit whose answer was lost, if it took effect, sent onto `before`. Raises InputError where it did not, or where the Hub cannot
    be asked."""
    try:
        if create_pr:
            proposal, commit, _ = open_proposal(api, upload)
        else:
            _, head = refs_of(api, upload.kind, upload.repository)
            theirs = {} if head is None else upload.files_at(api, head)
            proposal, commit = None, finished_commit(api, upload, head, theirs, after=before)
    except HUB_ERRORS:
        what = "a pull request" if create_pr else "a commit without its tag" if upload.tag else "a commit"
        raise hub_error(
            error,
            upload.cannot,
            f"The Hub does not answer, so it is not known whether {upload.name} is there as {what}; the same command finds it out and goes "
            "on from there.",
        ) from None
    if commit is None:
        # Not "nothing is": a request that took too long may still take effect.
        later = f"Asked afterwards, the Hub had nothing of {upload.name}; the same command looks first, and goes on."
        raise hub_error(error, upload.cannot, later) from None
    return commit, proposal


def overtaken(api: Any, upload: Upload, error: BaseException) -> InputError:
    try:
        now = api.list_repo_commits(upload.repository, repo_type=upload.kind)[0]
        there = f"main is now {now.commit_id}, {first_lines(Exception(now.title))!r}"
    except (*HUB_ERRORS, IndexError):
        there = f"the Hub said: {first_lines(error)}"
    return InputError(
        f"Somebody else committed to {upload.address} while {upload.name} was uploaded ({there}). {upload.nothing} Look at that commit, "
        "and run the same command again to publish on top of it."
    )
