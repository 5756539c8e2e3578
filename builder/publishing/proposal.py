"""A version as a pull request on the Hub: the open one that has these files, else a new one. It has no tag before its merge."""

from collections.abc import Mapping
from typing import Any

from builder.hub.client import hub_errors
from builder.hub.commit import open_proposal, send_commit
from builder.hub.files import changes
from builder.publishing.dry_run import would_change
from builder.publishing.read_back import VersionUpload, read_back

# While it is not known yet what an earlier run has left on the Hub.
UNSENT = "This run uploaded nothing, and every version on the Hub is as it was."


def propose(
    api: Any,
    version: VersionUpload,
    head: str | None,
    theirs: Mapping[str, Any],
    merged: str | None,
    dry_run: bool,
    said: list[str],
) -> tuple[str | None, str, list[str]]:
    """(its commit, or None in a dry run; the address of its page; `said` with what was done, or would be, read back if it was).

    merged: the commit of main that has these files already, or None. theirs: the files at `head`.
    """
    page = f"{api.endpoint}/datasets/{version.repository}"
    later = f"the same command without --create-pr sets tag {version.tag}."
    if merged is not None:
        said.append(f"Commit {merged} on main has these files already, so there is nothing to propose; {later}")
        return merged, f"{page}/commit/{merged}", said
    with hub_errors(version.cannot, UNSENT):
        number, commit, others = open_proposal(api, version)
    if others:
        numbers = ", ".join(f"#{other}" for other in others)
        said.append(f"Other files are proposed under the same version ({numbers}): close what is not to be merged.")
    if commit is not None:
        said.append(f"Pull request #{number} has these files already: nothing was uploaded.")
    elif dry_run:
        return None, page, [*said, would_change(version, theirs), "It would be a pull request."]
    else:
        commit, number = send_commit(api, version, head, theirs, create_pr=True)
        said.append(f"Pull request #{number} was opened, commit {commit}.")
        _, deleted = changes(version.files, theirs)
        said += [f"Merged, it deletes what is of the version before alone: {', '.join(deleted)}."] if deleted else []
    url = f"{page}/discussions/{number}"
    if dry_run:
        return None, url, said
    read_back(api, version, f"refs/pr/{number}", commit)
    said.append(f"Read back whole at refs/pr/{number}. Once it is merged, {later}")
    return commit, url, said
