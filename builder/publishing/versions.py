"""Versions are major.minor.patch. What changed decides the smallest step: content of rows = patch, rows added = minor, else major."""

import re
from pathlib import Path
from typing import Any

from builder.errors import InputError
from builder.publishing.diff import Difference

VERSION = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)")
STEPS = ("none", "patch", "minor", "major")


def parse_version(text: str) -> tuple[int, int, int]:
    found = VERSION.fullmatch(text)
    if found is None:
        raise InputError(f"--version {text} is not of the form major.minor.patch. Give three numbers, as 1.2.0.")
    return int(found[1]), int(found[2]), int(found[3])


def tag_of(version: str) -> str:
    return f"v{version}"


def version_of(tag: str) -> str | None:
    """The version that a tag names, None for a tag that names none."""
    return tag[1:] if tag.startswith("v") and VERSION.fullmatch(tag[1:]) else None


def refuse_small_step(before: Path, version: str, difference: Difference) -> None:
    raise NotImplementedError


def changelog_entry(before: Path, version: str, difference: Difference) -> list[dict[str, Any]]:
    """The changelog of the version before (from its build.json) with this version's entry in front."""
    raise NotImplementedError
