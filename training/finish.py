"""What every method does at its end: describe the run, score the test rows under the three conditions, let the folder appear."""

import importlib.metadata
import json
import platform
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from builder.files import write_atomically, write_json
from builder.private_text import machine_places
from training import output, preflight
from training.base_model import declared_licence
from training.conditioning import (
    CONDITIONS,
    as_record,
    chat_template_hash,
    template_hash,
)
from training.data import TEST_SPLITS, TRAIN_SPLIT, rows_hash
from training.evaluation import Candidate, Evaluation, plan_evaluation
from training.metrics import control_metrics, split_figures
from training.model_card import model_card
from training.prepare import Prepared
from training.record import RECORD_FILE, SCORES_FILE
from training.results import own_condition

VERSIONED_PACKAGES = ("trl", "transformers", "peft", "accelerate", "datasets", "torch")


def model_record(prepared: Prepared, kind: str, facts: Mapping[str, Any], adapter: bool) -> dict[str, Any]:
    """training.json, but for the results. facts: what the run itself found (steps, seconds, losses)."""
    run = prepared.run
    recipe = {
        # Paths of this machine, and a key that TRL would take.
        key: value
        for key, value in run.given.items()
        if key not in ("output_dir", "dataset", "resume_from_checkpoint", "hub_token", "score_cache")
    }
    if "model_name_or_path" in recipe:
        recipe["model_name_or_path"] = "embedded" if prepared.base.given == "embedded" else prepared.base.model_id
    conditioning = prepared.prompts.conditioning
    return {
        "kind": kind,
        "persona": run.data.persona,
        "conditioning": as_record(conditioning),
        "adapter": adapter,
        "merged": False,
        "recipe": json.loads(json.dumps(recipe)),  # the libraries' enumerations as the words that they stand for
        "base_model": prepared.base.declared(),
        "base_licence": declared_licence(prepared.base),
        "template_hash": template_hash(conditioning),
        "chat_template_hash": chat_template_hash(prepared.tokenizer),
        "max_length": run.config.max_length,
        "data": {
            **prepared.identity,
            "configs": list(run.data.dataset_configs),
            "splits": {split: asdict(report) for split, report in prepared.reports.items()},
            "shortcuts": prepared.shortcuts,
            "train_rows": len(prepared.rows[TRAIN_SPLIT]),
            "train_rows_sha256": rows_hash(prepared.rows[TRAIN_SPLIT]),
            "rows_seed": run.data.rows_seed,
        },
        "run": dict(facts),
        "evaluation": {},
        "results": [],
        "metrics": {},
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Of Python and of the packages that decide what training and scoring compute."""
    return {"python": platform.python_version()} | {
        name: importlib.metadata.version(name) for name in VERSIONED_PACKAGES
    }


def evaluation_of(prepared: Prepared, usable: Callable[[Candidate], bool]) -> Evaluation:
    """What is scored of the test rows, whichever of them the trainer kept."""
    splits = {split: prepared.test_rows[split] for split in TEST_SPLITS}
    return plan_evaluation(splits, prepared.run.data.eval_max_rows, prepared.run.data.rows_seed, usable)


def evaluation_facts(evaluation: Evaluation) -> dict[str, Any]:
    """What was scored, without the scores."""
    return {
        "rows": dict(Counter(row["split"] for row in evaluation.rows)),
        "left_out": evaluation.left_out,
        "texts_scored": len(evaluation.candidates),
    }


def publish_model(prepared: Prepared, record: dict[str, Any], evaluation: Evaluation, scores: Sequence[float]) -> Path:
    """Results, record, card and scores into the working folder, which then appears under its name. One process.

    scores: one a candidate of `evaluation`. Raises RuntimeError if a file names a path of this machine.
    """
    run, working, base = prepared.run, prepared.working, prepared.base
    margins = evaluation.margins(scores)
    record["results"] = control_metrics(evaluation.rows, margins, run.data.rows_seed, prepared.data.profiles)
    record["metrics"] = split_figures(evaluation.rows, margins[own_condition(record["kind"], run.data.persona)])
    record["evaluation"] = {"max_rows_a_cell": run.data.eval_max_rows, **evaluation_facts(evaluation)}
    print_metrics(record["results"])
    output.clean(working, base.folder, base.model_id, base.revision, run.data.keep_checkpoints)
    write_json(working / RECORD_FILE, record)
    write_scores(working / SCORES_FILE, evaluation, margins)
    (working / "README.md").write_text(model_card(record), encoding="utf-8")
    places = machine_places({"base model": base.folder, "output folder": prepared.final, "working copy": working})
    defects = output.private_defects(working, output.text_files(working), places)
    if defects:
        raise RuntimeError(
            f"The finished model names paths of this machine: {'; '.join(defects)}. This is a bug; please report it."
        )
    output.publish(working, prepared.final)
    print(f"[done] {record['kind']} model in {prepared.final}", flush=True)
    return prepared.final


def write_scores(path: Path, evaluation: Evaluation, margins: Mapping[str, Sequence[float]]) -> None:
    """A row a test pair: its ids, and score(chosen) - score(rejected) under each condition."""
    names = ("pair_id", "mirror_pair_id", "persona_id", "prompt_id", "pair_kind", "split", "persona_group")
    columns: dict[str, Any] = {name: pa.array([row[name] for row in evaluation.rows], pa.string()) for name in names}
    columns |= {f"margin_{name}": pa.array(margins[name], pa.float64()) for name in CONDITIONS}
    write_atomically(path, lambda temporary: pq.write_table(pa.table(columns), temporary))


def print_metrics(metrics: Sequence[Mapping[str, Any]]) -> None:
    for entry in metrics:
        won = ", ".join(
            f"{condition} {outcome['wins']}" + (f" + {outcome['ties']} tied" if outcome["ties"] else "")
            for condition, outcome in entry["conditions"].items()
        )
        preflight.say(
            f"[eval] {entry['config']}, {entry['cell']}: of {entry['rows']} pairs won by persona shown: {won}"
        )
