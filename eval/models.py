"""Evaluate trained models, the untrained base model and the baselines on a published dataset, under the three persona conditions.

One result file per scorer, whole or not at all. Running again keeps what is there and computes what is missing.
"""

import hashlib
import importlib.metadata
import json
import logging
import platform
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.errors import InputError
from eval.baselines import BASELINES
from eval.metrics import measure
from eval.results import (
    SCHEMA_VERSION,
    Result,
    read_result,
    read_scores,
    result_path,
    without_paths,
    write_result,
    write_scores,
)
from eval.rows import EvaluatedRow, content_hash, load_profiles, load_rows, read_build, read_json
from eval.scores import ScoringPlan, pair_scores, plan_scoring
from training.scoring import load_dpo_model, load_reward_model, score_implicit_rewards, score_rewards

PACKAGES = ("persona-testbed", "torch", "transformers", "trl", "peft", "datasets", "numpy")
# Training facts that do not change what the untrained base model answers.
BASE_MODEL_KEYS = ("base_model", "base_model_sha256", "base_revision", "template_sha256")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Scorer:
    """One result to be: a trained model, the untrained base model that a DPO model carries, or a baseline."""

    name: str
    kind: str
    description: str
    folder: Path | None
    training: dict[str, Any] | None
    fingerprint: dict[str, Any]


def evaluate_models(
    folder: Path,
    models: Sequence[Path],
    output: Path,
    limit: int | None = None,
    *,
    seed: int = 0,
    base_model: str | None = None,
    command: str | None = None,
) -> Path:
    """Evaluate every model folder of `models` and the baselines on the published dataset in `folder`; returns `output`.

    `limit` caps the rows of each (config, split). `base_model` overrides where the base model of an adapter is loaded from.
    `command` is recorded in the results as it is.

    Raises InputError before any scoring for an unreadable dataset or model folder, and where `output` holds a result of the same
    name that came from something else.
    """
    rows = load_rows(folder, limit)
    profiles = load_profiles(folder)
    identity = dataset_identity(folder, rows)
    scorers = list_scorers(models, {"schema": SCHEMA_VERSION, "dataset": identity["content_sha256"], "limit": limit, "seed": seed})
    missing = {scorer.name for scorer in scorers if not _is_finished(output, scorer)}
    if not missing:
        log.info("All %d results in %s are up to date.", len(scorers), output)
        return output
    judge = judge_facts(read_build(folder) or {})
    plan = plan_scoring(rows, profiles)
    log.info("%d pairs under %d conditions: %d distinct (prompt, text) to score.", len(rows), len(plan.places), len(plan.items))
    for scorer, values in score_all(scorers, missing, plan, base_model):
        scores = pair_scores(plan, values)
        measurements, gaps = measure(rows, scores, judge["threshold"], seed)
        scores_file, scores_sha256 = write_scores(output, scorer.name, rows, scores)
        path = write_result(
            output,
            Result(
                name=scorer.name,
                kind=scorer.kind,
                description=scorer.description,
                fingerprint=scorer.fingerprint,
                dataset=identity,
                training=scorer.training,
                judge=judge,
                versions=package_versions(),
                seed=seed,
                limit=limit,
                command=command,
                scores_file=scores_file,
                scores_sha256=scores_sha256,
                measurements=measurements,
                gaps=gaps,
            ),
        )
        log.info("%s written.", path)
    return output


def list_scorers(models: Sequence[Path], shared: dict[str, Any]) -> list[Scorer]:
    """Every result to be, models first. `shared` is the part of the fingerprint that all have in common."""
    scorers: list[Scorer] = []
    for folder in models:
        training = read_training(folder)
        name, method = folder.resolve().name, training["method"]
        if any(scorer.name == name for scorer in scorers):
            raise InputError(f"Two model folders are called {name}, and results are named by them. Rename one.")
        description = "reward model" if method == "reward" else "implicit reward of the DPO model"
        public = without_paths(training)
        scorers.append(Scorer(name, method, description, folder, public, shared | {"training": _digest(public)}))
    for dpo in [scorer for scorer in scorers if scorer.kind == "dpo"]:
        assert dpo.training is not None
        base = {key: dpo.training[key] for key in BASE_MODEL_KEYS if key in dpo.training}
        name = "untrained-" + str(base.get("base_model", dpo.name)).rstrip("/").rsplit("/", 1)[-1]
        if any(scorer.name == name for scorer in scorers):
            continue  # several DPO models of one base share its untrained scores
        description = "log-probability under the untrained base model, prompted with the persona"
        scorers.append(Scorer(name, "base", description, dpo.folder, base, shared | {"training": _digest(base)}))
    for name, (_, description) in BASELINES.items():
        if any(scorer.name == name for scorer in scorers):
            raise InputError(f"A model folder is called {name}, which is the name of a baseline. Rename the folder.")
        scorers.append(Scorer(name, "baseline", description, None, None, dict(shared)))
    return scorers


def score_all(
    scorers: Sequence[Scorer], missing: set[str], plan: ScoringPlan, base_model: str | None
) -> Iterator[tuple[Scorer, Sequence[float]]]:
    """Each missing scorer with one score per item of the plan. A model is loaded when its turn comes and dropped afterwards."""
    by_name = {scorer.name: scorer for scorer in scorers}
    for name, (score, _) in BASELINES.items():
        if name in missing:
            yield by_name[name], score(plan.items)
    for scorer in scorers:
        if scorer.kind == "reward" and scorer.name in missing:
            yield scorer, score_rewards(load_reward_model(scorer.folder, base_model=base_model), plan.items)
        if scorer.kind == "dpo":
            bases = [other for other in scorers if other.kind == "base" and other.folder == scorer.folder]
            wanted = [other for other in (scorer, *bases) if other.name in missing]
            if not wanted:
                continue
            pairs = score_implicit_rewards(load_dpo_model(scorer.folder, base_model=base_model), plan.items)
            beta = float((scorer.training or {}).get("beta") or 1.0)
            for other in wanted:
                # The reference is the base model itself, so the untrained control costs nothing.
                yield other, [beta * (policy - reference) if other is scorer else reference for policy, reference in pairs]


def read_training(folder: Path) -> dict[str, Any]:
    """A model folder's training.json. Raises InputError where it is absent or names no known method."""
    path = folder / "training.json"
    if not path.is_file():
        raise InputError(f"{folder} has no training.json, so it is no model of `persona train`. Give the folder that it wrote.")
    training = read_json(path)
    method = training.get("method") if isinstance(training, dict) else None
    if method not in ("reward", "dpo"):
        raise InputError(f"{path} says method {method!r}; only `reward` and `dpo` can be evaluated. Train again.")
    return training


def dataset_identity(folder: Path, rows: Sequence[EvaluatedRow]) -> dict[str, Any]:
    build = read_build(folder) or {}
    return {
        "name": (build.get("recipe") or {}).get("name") or folder.resolve().name,
        "version": build.get("version"),
        "content_sha256": content_hash(folder),
        "rows": dict(sorted(Counter(f"{row.config}/{row.split}" for row in rows).items())),
    }


def judge_facts(build: dict[str, Any]) -> dict[str, Any]:
    """Name and kind of the judge that labelled the pairs, and the judge score above which it prefers the chosen text."""
    judge = build.get("judge") or {}
    # A likelihood judge publishes a margin (log-probability, around 0), every other kind a probability (around 0.5).
    threshold = 0.0 if judge.get("kind", "likelihood") == "likelihood" else 0.5
    return {"name": judge.get("name"), "kind": judge.get("kind"), "threshold": threshold}


def package_versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return versions


def _is_finished(output: Path, scorer: Scorer) -> bool:
    """True where `output` holds this very result. Raises InputError where it holds another of the same name."""
    path = result_path(output, scorer.name)
    if not path.exists():
        return False
    result = read_result(path)
    differing = [key for key in scorer.fingerprint if scorer.fingerprint[key] != result.fingerprint.get(key)]
    if differing:
        raise InputError(
            f"{path} exists, but was computed from something else (differing: {', '.join(sorted(differing))}). "
            f"Give another output folder, or delete {scorer.name}.json to replace it."
        )
    read_scores(output, result)
    return True


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode("utf-8")).hexdigest()
