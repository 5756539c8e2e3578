"""What differs between two published versions: rows by id, columns, splits."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Difference:
    """See diff_versions."""

    step: str  # none, patch, minor, major


def diff_versions(before: Path, after: Path, after_build: dict[str, Any] | None = None) -> Difference:
    """Both are published folders; `after_build` stands for the build.json that `after` has not got yet."""
    raise NotImplementedError
