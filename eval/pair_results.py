"""What `persona eval models` keeps of one scorer: its figures in and out of a result's content, and the Parquet file with every score.

The Parquet file stands on its own: one row per (pair, condition) with the pair's personas, prompt and label, so that other metrics, or a
comparison of two scorers, need neither a model nor the dataset.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from builder.errors import InputError
from builder.files import sha256_file, write_atomically
from eval.metrics import Figures, Gap, Measurement
from eval.results import Result, as_estimate, check_files, load_results
from eval.rows import EvaluatedRow
from eval.scores import PairScore
from training.kinds import OWN_KINDS, SHORT_NAMES

EVALUATION = "models"
MODEL_KINDS = ("reward", "dpo", *OWN_KINDS)
KINDS = (*MODEL_KINDS, "base", "baseline")  # in the order in which they are shown
KIND_NAMES = SHORT_NAMES | {"base": "untrained", "baseline": "baseline"}
# Of a pair, beside its scores. partner_persona_id and mirror_pair_id: contrast pairs have them.
PAIR_COLUMNS = (
    *("pair_id", "mirror_pair_id", "config", "cell", "persona_id", "partner_persona_id", "prompt_id", "judge_verdict"),
)
SCORES_SUFFIX = ".parquet"


def result_name(scorer: str) -> str:
    """Of the files of this scorer's result."""
    return f"{EVALUATION}-{scorer}"


def load_pair_results(folder: Path) -> list[Result]:
    """The results of a folder, trained models first, then untrained ones, then baselines. Raises InputError where there are none."""
    return in_order(load_results(folder, EVALUATION))


def in_order(results: Iterable[Result]) -> list[Result]:
    return sorted(results, key=lambda result: (KINDS.index(kind(result)), result.name))


def kind(result: Result) -> str:
    """One of KINDS."""
    return str((result.subject or {})["kind_id"])


def label(result: Result) -> str:
    """The scorer's name, as tables show it."""
    return str((result.subject or {})["name"])


def as_content(figures: Figures) -> dict[str, Any]:
    """`Result.content`: `measurements`, `gaps`, `disagreement` and `spread`, each a list of plain mappings."""
    return dataclasses.asdict(figures)


def measurements(result: Result) -> list[Measurement]:
    return [_measurement(raw) for raw in result.content["measurements"]]


def gaps(result: Result) -> list[Gap]:
    return [_gap(raw) for raw in result.content["gaps"]]


def measurement(result: Result, config: str, subset: str, cell: str, condition: str) -> Measurement | None:
    """None where nothing of it was evaluated."""
    wanted = {"config": config, "subset": subset, "cell": cell, "condition": condition}
    return next((_measurement(raw) for raw in result.content["measurements"] if wanted.items() <= raw.items()), None)


def gap(result: Result, config: str, subset: str, cell: str, against: str) -> Gap | None:
    wanted = {"config": config, "subset": subset, "cell": cell, "against": against}
    return next((_gap(raw) for raw in result.content["gaps"] if wanted.items() <= raw.items()), None)


def write_scores(
    folder: Path, name: str, rows: Sequence[EvaluatedRow], scores: Mapping[str, Sequence[PairScore]]
) -> dict[str, str]:
    """Write NAME.parquet; returns {file name: SHA-256}, for `Result.files`. scores: condition -> one a row."""
    import pyarrow
    import pyarrow.parquet

    conditions = list(scores)
    # Columns one by one: half a million rows as mappings would take a gigabyte.
    columns: dict[str, Any] = {}
    for column in PAIR_COLUMNS:
        values = [_of_row(row, column) for row in rows] * len(conditions)
        columns[column] = pyarrow.array(values, pyarrow.string()).dictionary_encode()
    names = [condition for condition in conditions for _ in rows]
    columns["condition"] = pyarrow.array(names, pyarrow.string()).dictionary_encode()

    def every(part: str) -> Iterator[Any]:
        return (getattr(score, part) for condition in conditions for score in scores[condition])

    columns["score_chosen"] = pyarrow.array(every("chosen"), pyarrow.float64())
    columns["score_rejected"] = pyarrow.array(every("rejected"), pyarrow.float64())
    columns["verdict"] = pyarrow.array(every("verdict"), pyarrow.string())
    columns["reason"] = pyarrow.array(every("reason"), pyarrow.string())
    path = folder / f"{name}{SCORES_SUFFIX}"
    table = pyarrow.table(columns)
    write_atomically(path, lambda partial: pyarrow.parquet.write_table(table, partial, compression="zstd"))
    return {path.name: sha256_file(path)}


def read_scores(folder: Path, result: Result, pair_ids: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of a result's score file that belong to `pair_ids`. Raises InputError where the file is absent or not the one that the
    result was computed from.
    """
    import pyarrow.parquet

    path = scores_path(folder, result)
    return pyarrow.parquet.read_table(path, filters=[("pair_id", "in", list(pair_ids))]).to_pylist() if pair_ids else []


def scores_path(folder: Path, result: Result) -> Path:
    """Raises InputError like `read_scores`."""
    check_files(folder, result)
    names = [name for name in result.files if name.endswith(SCORES_SUFFIX)]
    if len(names) != 1:
        raise InputError(
            f"{result.name}.json names {len(names)} files of scores, and it must be one. Delete it and evaluate again."
        )
    return folder / names[0]


def _measurement(raw: Mapping[str, Any]) -> Measurement:
    estimates = {key: as_estimate(raw[key]) for key in ("accuracy", "judge_agreement", "kappa")}
    return Measurement(**{**raw, **estimates})


def _gap(raw: Mapping[str, Any]) -> Gap:
    return Gap(**{**raw, "difference": as_estimate(raw["difference"])})


def _of_row(row: EvaluatedRow, column: str) -> str | None:
    if column == "partner_persona_id":
        value: str | None = row.published.get(column)
        return value
    found: str | None = getattr(row, column)
    return found
