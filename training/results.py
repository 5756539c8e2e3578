"""A result file: the figures of one method with one seed, and beside it the margins of every test row that they come from."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from training.conditioning import WITHOUT_OWN_PERSONA, Conditioning, as_record, template_hash
from training.kinds import BY_PERSONA_ID
from training.record import finished_record


def result_of_training(folder: Path) -> dict[str, Any]:
    """The result that training itself wrote into a finished model's folder, as `training.score` would write it."""
    record = finished_record(folder)
    return {
        **facts_of_record(record, Conditioning(**record["conditioning"])),
        "axis": {},
        "data": {
            **{
                key: value
                for key, value in record["data"].items()
                if key not in ("splits", "train_rows", "train_rows_sha256", "shortcuts")
            },
            "eval_max_rows": record["evaluation"]["max_rows_a_cell"],
        },
        **{key: record["evaluation"][key] for key in ("rows", "left_out", "texts_scored")},
        "results": record["results"],
        "versions": record["versions"],
    }


def facts_of_record(record: dict[str, Any], conditioning: Conditioning) -> dict[str, Any]:
    return {
        "method": record["kind"],
        "seed": record["recipe"].get("seed"),
        **conditioning_facts(conditioning, own_condition(record["kind"], record["persona"])),
        "chat_template_hash": record["chat_template_hash"],
        "base_model": record["base_model"],
        "trainable_parameters": record["run"].get("trainable_parameters"),
        "steps": record["run"].get("steps"),
        "train_rows": record["data"]["train_rows"],
    }


def conditioning_facts(conditioning: Conditioning, own: str) -> dict[str, Any]:
    return {
        "persona": conditioning.mode,
        "own_condition": own,
        "conditioning": as_record(conditioning),
        "template_hash": template_hash(conditioning),
    }


def own_condition(kind: str, mode: str) -> str:
    """The condition under which a method is shown what it was made for. Methods that know personas by their id have prompts without one."""
    return "none" if mode in WITHOUT_OWN_PERSONA and kind not in BY_PERSONA_ID else "true"


def margins_file(result: Path) -> Path:
    return result.with_suffix(".parquet")


def read_margins(result: Path) -> list[dict[str, Any]]:
    """A row a test pair: ids, and `margin_true`, `margin_none`, `margin_wrong`."""
    return pq.read_table(margins_file(result)).to_pylist()
