"""The result of one evaluation of one subject: a JSON file in one schema for all evaluations, and beside it Parquet files with every
score, raw answer and reply of a judge that it was computed from.

`NAME.json` is written last, so where it exists the result is whole. docs/results.md says what every field is.
"""

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from builder.errors import InputError
from builder.files import read_json, sha256_file, write_text
from training.estimates import Estimate

SCHEMA_VERSION = 2  # raise it whenever the same scores would give another result file
# A result with a larger share of unscored rows says nothing of the subject: its figures are withheld.
MOST_UNSCORED = 0.1


@dataclass(frozen=True)
class Result:
    """One evaluation of one subject. Everything in it is plain JSON; paths are names, never places on a machine."""

    evaluation: str  # a name of eval.report.sections
    name: str  # of the files; unique in the folder
    description: str  # one line for a reader
    fingerprint: dict[
        str, Any
    ]  # what decides the content: a result whose fingerprint matches is kept, not computed again
    dataset: dict[str, Any] | None  # name, version, content_sha256, rows; None where no dataset was needed
    subject: (
        dict[str, Any] | None
    )  # the model that is evaluated: name, kind, provider, model, revision, training; None without one
    judges: list[dict[str, Any]]  # of eval.judging.judge_facts
    settings: dict[str, Any]  # what was asked for: limits, mode, number of samples
    seed: int
    provenance: dict[str, Any]  # versions of packages, labels of templates, command, usage of models
    rows: dict[str, Any]  # {"scored": n, "unscored": {reason: n}}
    files: dict[str, str]  # file name -> SHA-256, of what lies beside
    content: dict[str, Any] = field(default_factory=dict)  # the figures; its form is the evaluation's own
    schema_version: int = SCHEMA_VERSION


def result_path(folder: Path, name: str) -> Path:
    return folder / f"{name}.json"


def write_result(folder: Path, result: Result) -> Path:
    text = json.dumps(dataclasses.asdict(result), indent=1, ensure_ascii=False, allow_nan=False)
    path = result_path(folder, result.name)
    write_text(path, text + "\n")
    return path


def read_result(path: Path) -> Result:
    """Raises InputError for a file that is no result, or one of another schema version."""
    raw = read_json(path)
    version = raw.get("schema_version") if isinstance(raw, dict) else None
    if version != SCHEMA_VERSION:
        raise InputError(
            f"{path} is no result of schema version {SCHEMA_VERSION} (found {version}). Delete it, evaluate again."
        )
    known = {item.name for item in dataclasses.fields(Result)}
    if raw.keys() != known:
        odd = ", ".join(sorted(raw.keys() ^ known))
        raise InputError(f"{path} lacks or adds the keys {odd}. Delete it and evaluate again.")
    return Result(**raw)


def load_results(folder: Path, evaluation: str | None = None) -> list[Result]:
    """All results of a folder by name, or those of one evaluation. Raises InputError where there are none, or of several datasets."""
    results = [read_result(path) for path in sorted(folder.glob("*.json"))] if folder.is_dir() else []
    results = [result for result in results if evaluation in (None, result.evaluation)]
    if not results:
        what = "evaluation result" if evaluation is None else f"result of `persona eval {evaluation}`"
        raise InputError(f"{folder} holds no {what} (*.json). Run `persona eval` first.")
    datasets = {result.dataset["content_sha256"] for result in results if result.dataset}
    if len(datasets) > 1:
        raise InputError(
            f"The results in {folder} come from {len(datasets)} different datasets, so they cannot stand in one table. "
            "Evaluate each dataset into its own folder."
        )
    return results


def finished_result(folder: Path, name: str, fingerprint: dict[str, Any]) -> Result | None:
    """This very result, if `folder` holds it. Raises InputError where it holds another of the same name, or files that do not fit."""
    path = result_path(folder, name)
    if not path.exists():
        return None
    result = read_result(path)
    differing = [
        key
        for key in fingerprint.keys() | result.fingerprint.keys()
        if fingerprint.get(key) != result.fingerprint.get(key)
    ]
    if differing:
        raise InputError(
            f"{path} exists, but was computed from something else (differing: {', '.join(sorted(differing))}). "
            f"Give another output folder, or delete {name}.json to replace it."
        )
    check_files(folder, result)
    return result


def is_finished(folder: Path, name: str, fingerprint: dict[str, Any]) -> bool:
    return finished_result(folder, name, fingerprint) is not None


def check_files(folder: Path, result: Result) -> None:
    """Raises InputError where a file beside the result is absent or not the one that it was computed from."""
    for name, digest in result.files.items():
        path = folder / name
        if not path.is_file() or sha256_file(path) != digest:
            raise InputError(
                f"{path} is missing or not the file that {result.name}.json was computed from. "
                f"Delete {result.name}.json and evaluate again."
            )


def row_counts(reasons: Iterable[str | None]) -> dict[str, Any]:
    """The `rows` of a result: reasons, one a row, None for a scored one."""
    counts = Counter("" if reason is None else reason for reason in reasons)
    scored = counts.pop("", 0)
    return {"scored": scored, "unscored": dict(sorted(counts.items()))}


def too_many_unscored(rows: dict[str, Any]) -> str | None:
    """Why the figures of these rows are withheld; None where enough of them were scored."""
    unscored = sum(rows["unscored"].values())
    share = unscored / (unscored + rows["scored"]) if unscored else 0.0
    return f"{share:.0%} of rows unscored (at most {MOST_UNSCORED:.0%})" if share > MOST_UNSCORED else None


def is_scripted(result: Result) -> bool:
    """Whether a judge, the evaluated model or another model of the evaluation (which `settings` says) is scripted: a fixed function of
    the text, of which the figures say nothing."""
    judges, subject = any(judge.get("scripted") for judge in result.judges), result.subject or {}
    return judges or subject.get("provider") == "scripted" or bool(result.settings.get("scripted"))


def as_estimate(raw: dict[str, Any]) -> Estimate:
    """An Estimate out of a result's content."""
    return Estimate(**raw)


def digest(value: Any) -> str:
    """SHA-256 of a plain value, for fingerprints."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode("utf-8")).hexdigest()


def without_paths(value: Any) -> Any:
    """The same nested value with every absolute path reduced to its last part: results are published, folders of a
    machine are not.
    """
    if isinstance(value, dict):
        return {key: without_paths(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [without_paths(inner) for inner in value]
    if isinstance(value, str) and (value.startswith("/") or value[1:3] == ":\\") and "\n" not in value:
        return value.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]
    return value
