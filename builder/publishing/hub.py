"""One version on the Hub: one commit, one tag on exactly that commit, and the proof that it reads back as it was written."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.hub import HubAddress


@dataclass(frozen=True)
class Uploaded:
    """commit: its SHA, None in a dry run. tag: None for a pull request and in a dry run. url: of the version or the pull request.

    said: what was done, or would be, in sentences.
    """

    commit: str | None
    tag: str | None
    url: str
    said: list[str]


def version_before(address: HubAddress, version: str) -> str | None:
    """The newest version tag (`v1.1.0`) below `version`; None where the repository or such a tag does not exist."""
    raise NotImplementedError


def upload_version(
    folder: Path, address: HubAddress, published: dict[str, Any], *, private: bool, create_pr: bool, dry_run: bool
) -> Uploaded:
    raise NotImplementedError
