"""The result of one scorer: a JSON file with every measurement and where it came from, and beside it a Parquet file
with every score.

`NAME.json` is written last, so where it exists the result is whole. `NAME.parquet` has one row per (pair, condition):
`pair_id, condition, score_chosen, score_rejected, verdict, reason`, enough to inspect a pair or to compute other
metrics without a model.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from builder.errors import InputError
from builder.files import read_json, write_bytes, write_text
from eval.metrics import Gap, Measurement
from eval.rows import EvaluatedRow
from eval.scores import PairScore
from training.estimates import Estimate

SCHEMA_VERSION = 1  # raise it whenever the same scores would give another result file
MODEL_KINDS = ("reward", "dpo", "low_rank", "vpl", "p_dpo", "per_persona")
KINDS = (*MODEL_KINDS, "base", "baseline")  # in the order in which they are shown


@dataclass(frozen=True)
class Result:
    name: str  # the model's folder name, never its path
    kind: str
    description: str
    fingerprint: dict[
        str, Any
    ]  # what decides the content: a result whose fingerprint matches is kept, not computed again
    dataset: dict[str, Any]  # name, version, content_sha256, rows per (config, split)
    training: dict[str, Any] | None  # the model's training.json, paths reduced to names
    judge: dict[str, Any]  # whose verdicts the rows carry: label, kind
    versions: dict[str, str]
    seed: int
    limit: int | None
    command: str | None
    scores_file: str
    scores_sha256: str
    measurements: list[Measurement] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    schema_version: int = SCHEMA_VERSION

    def measurement(self, config: str, subset: str, cell: str, condition: str) -> Measurement | None:
        wanted = (config, subset, cell, condition)
        return next((m for m in self.measurements if (m.config, m.subset, m.cell, m.condition) == wanted), None)

    def gap(self, config: str, subset: str, cell: str, against: str) -> Gap | None:
        wanted = (config, subset, cell, against)
        return next((g for g in self.gaps if (g.config, g.subset, g.cell, g.against) == wanted), None)


def result_path(folder: Path, name: str) -> Path:
    return folder / f"{name}.json"


def write_result(folder: Path, result: Result) -> Path:
    text = json.dumps(dataclasses.asdict(result), indent=1, ensure_ascii=False, allow_nan=False)
    path = result_path(folder, result.name)
    write_text(path, text)
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
    raw["measurements"] = [
        Measurement(**(m | {key: Estimate(**m[key]) for key in ("accuracy", "judge_agreement")}))
        for m in raw["measurements"]
    ]
    raw["gaps"] = [Gap(**(g | {"difference": Estimate(**g["difference"])})) for g in raw["gaps"]]
    return Result(**raw)


def load_results(folder: Path) -> list[Result]:
    """All results of a folder, trained models first, then untrained ones, then baselines. Raises InputError where there
    are none.
    """
    results = [read_result(path) for path in sorted(folder.glob("*.json"))] if folder.is_dir() else []
    if not results:
        raise InputError(f"{folder} holds no evaluation result (*.json). Run `persona eval` first.")
    datasets = {result.dataset["content_sha256"] for result in results}
    if len(datasets) > 1:
        raise InputError(
            f"The results in {folder} come from {len(datasets)} different datasets, so they cannot stand in one table. "
            "Evaluate each dataset into its own folder."
        )
    return sorted(results, key=lambda result: (KINDS.index(result.kind), result.name))


def write_scores(
    folder: Path, name: str, rows: Sequence[EvaluatedRow], scores: Mapping[str, Sequence[PairScore]]
) -> tuple[str, str]:
    """Write NAME.parquet; returns its file name and SHA-256."""
    import pyarrow
    import pyarrow.parquet

    long = [
        (row.pair_id, condition, score)
        for condition, values in scores.items()
        for row, score in zip(rows, values, strict=True)
    ]
    table = pyarrow.table(
        {
            "pair_id": pyarrow.array([pair for pair, _, _ in long], pyarrow.string()),
            "condition": pyarrow.array([condition for _, condition, _ in long], pyarrow.string()),
            "score_chosen": pyarrow.array([score.chosen for _, _, score in long], pyarrow.float64()),
            "score_rejected": pyarrow.array([score.rejected for _, _, score in long], pyarrow.float64()),
            "verdict": pyarrow.array([score.verdict for _, _, score in long], pyarrow.string()),
            "reason": pyarrow.array([score.reason for _, _, score in long], pyarrow.string()),
        }
    )
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(table, sink, compression="zstd")
    content = sink.getvalue().to_pybytes()
    write_bytes(folder / f"{name}.parquet", content)
    return f"{name}.parquet", hashlib.sha256(content).hexdigest()


def read_scores(folder: Path, result: Result, pair_ids: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of a result's score file that belong to `pair_ids`. Raises InputError like `check_scores`."""
    import pyarrow.parquet

    path = check_scores(folder, result)
    return pyarrow.parquet.read_table(path, filters=[("pair_id", "in", list(pair_ids))]).to_pylist() if pair_ids else []


def check_scores(folder: Path, result: Result) -> Path:
    """The path of a result's score file. Raises InputError where it is absent or not the one the result was computed
    from.
    """

    path = folder / result.scores_file
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != result.scores_sha256:
        raise InputError(
            f"{path} is missing or not the file that {result.name}.json was computed from. "
            f"Delete {result.name}.json and evaluate again."
        )
    return path


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
