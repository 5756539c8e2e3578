"""Where a result comes from: the dataset it was computed on, and the versions of what computed it."""

import importlib.metadata
import platform
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from builder.llm.calls import ModelCalls
from builder.llm.templates import load_template
from eval.calls import part_usage
from eval.rows import content_hash, read_build

PACKAGES = ("persona-testbed", "torch", "transformers", "trl", "peft", "datasets", "numpy", "scikit-learn", "openai")


def dataset_identity(folder: Path, rows: Mapping[str, int]) -> dict[str, Any]:
    """`Result.dataset`: name, version and content hash. rows: what was evaluated, by config and split."""
    build = read_build(folder) or {}
    return {
        "name": (build.get("recipe") or {}).get("name") or folder.resolve().name,
        "version": build.get("version"),
        "content_sha256": content_hash(folder),
        "rows": dict(sorted(rows.items())),
    }


def rows_by_split(places: Iterable[tuple[str, str]]) -> dict[str, int]:
    """`config/split` -> rows. places: (config, split) of each row."""
    return dict(Counter(f"{config}/{split}" for config, split in places))


def provenance(command: str | None, templates: Iterable[str] = (), calls: ModelCalls | None = None) -> dict[str, Any]:
    """`Result.provenance`. templates: names of prompt templates, of which the labels (with their content hash) are kept. calls: in the
    part that this result began; `usage` is what its own replies took."""
    return {
        "command": command,
        "versions": package_versions(),
        "templates": [load_template(name).label for name in templates],
        "usage": part_usage(calls) if calls is not None else None,
    }


def package_versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return versions
