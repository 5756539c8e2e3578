"""training.json: what a finished model's folder says of itself. Free of torch, because the launcher reads it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from builder.errors import InputError
from builder.files import read_json
from training.conditioning import from_record
from training.foreign_code import check_model_folder

RECORD_FILE = "training.json"
SCORES_FILE = "scores.parquet"  # beside it: the margins of the scored test rows
# What is read of every finished model's record, beside what its own method adds.
RECORD_KEYS = (
    "kind",
    "persona",
    "conditioning",
    "template_hash",
    "chat_template_hash",
    "base_model",
    "data",
    "run",
    "evaluation",
)


def read_record(folder: str | Path, kind: str) -> dict[str, Any]:
    """training.json of a checkpoint, checked for kind and prompt template."""
    record = finished_record(folder)
    check_model_folder(Path(folder))
    if record["kind"] != kind:
        raise InputError(f"{folder} is a {record['kind']} model, but a {kind} model is needed. Give another folder.")
    from_record(record)
    return record


def finished_record(folder: str | Path, advice: str = "Give a folder that `persona train` wrote.") -> dict[str, Any]:
    """training.json of a finished model. Raises InputError where there is none, or where it lacks what every one has.

    advice: what to do where there is none.
    """
    path = Path(folder) / RECORD_FILE
    if not path.is_file():
        raise InputError(f"{folder} holds no {RECORD_FILE}, so it is no finished model. {advice}")
    record = read_json(path)
    if not isinstance(record, dict):
        raise InputError(f"{path} holds {type(record).__name__} instead of keys. Restore it, or train again.")
    missing = [key for key in RECORD_KEYS if key not in record]
    if missing:
        raise InputError(f"{path} lacks {', '.join(missing)}. Restore it, or train again with this version.")
    return record


def is_blind(record: Mapping[str, Any]) -> bool:
    """Whether nothing in its training told one persona from another."""
    kind, mode = record["kind"], record["conditioning"]["mode"]
    if kind == "low_rank":
        return mode == "none" or record["run"].get("rank") == 0
    if kind == "vpl":
        return mode == "none" or record["run"].get("looks_at_pairs") is False
    if kind == "p_dpo":
        return record["recipe"].get("alpha") == 0  # then no offset ever leaves zero
    return kind != "per_persona" and mode == "none"
