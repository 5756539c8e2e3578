"""A dataset on the Hub by its address, `hub:org/name@revision`, and its files at one revision."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from builder.errors import InputError

PREFIX = "hub:"
ADDRESS = re.compile(r"hub:(?P<repository>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")


@dataclass(frozen=True)
class HubAddress:
    """repository: `org/name`. revision: a tag, branch or commit, or None."""

    repository: str
    revision: str | None


def parse_address(text: str) -> HubAddress:
    found = ADDRESS.fullmatch(text)
    if found is None:
        raise InputError(f"{text} is no address of a dataset on the Hub. Write hub:org/name, or hub:org/name@v1.0.0.")
    return HubAddress(found["repository"], found["revision"])


def snapshot(address: HubAddress, patterns: Sequence[str] | None = None) -> Path:
    """The folder with the files of this revision (those that match `patterns`), through the Hub client's cache."""
    raise NotImplementedError


def version_folder(source: str) -> Path:
    """The files of a published version: a folder as it is, `hub:org/name@v1.0.0` through the cache.

    Raises InputError where it is no published version, and for an address without revision: what others rely on must not change
    underneath.
    """
    raise NotImplementedError
