"""Evaluate trained models, the untrained base model and the baselines on a published dataset, under the three persona
conditions.

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
from builder.files import read_json
from builder.schema import assistant_message
from eval.baselines import BASELINES
from eval.metrics import measure
from eval.results import (
    SCHEMA_VERSION,
    Result,
    check_scores,
    read_result,
    result_path,
    without_paths,
    write_result,
    write_scores,
)
from eval.rows import EvaluatedRow, content_hash, load_profiles, load_rows, read_build
from eval.scores import Item, Score, ScoringPlan, pair_scores, plan_scoring
from training.conditioning import template_hash
from training.tokens import common_prefix_length, token_ids

PACKAGES = ("persona-testbed", "torch", "transformers", "trl", "peft", "datasets", "numpy")
# What of training.json decides the scores of the untrained base model.
BASE_KEYS = ("base_model", "template_hash", "chat_template_hash")
TOO_LONG = "longer than the model's context"

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

    `limit` caps the rows of each (config, split). `base_model` overrides where the base model of an adapter is loaded
    from. `command` is recorded in the results as it is.

    Raises InputError before any scoring for an unreadable dataset or model folder, and where `output` holds a result of
    the same name that came from something else.
    """
    rows = load_rows(folder, limit)
    profiles = load_profiles(folder)
    identity = dataset_identity(folder, rows)
    scorers = list_scorers(
        models, {"schema": SCHEMA_VERSION, "dataset": identity["content_sha256"], "limit": limit, "seed": seed}
    )
    missing = {scorer.name for scorer in scorers if not _is_finished(output, scorer)}
    if not missing:
        log.info("All %d results in %s are up to date.", len(scorers), output)
        return output
    judge = judge_facts(read_build(folder) or {}, rows)
    plan = plan_scoring(rows, profiles)
    log.info(
        "%d pairs under %d conditions: %d distinct (prompt, text) to score.",
        len(rows),
        len(plan.places),
        len(plan.items),
    )
    for scorer, values in score_all(scorers, missing, plan, base_model):
        scores = pair_scores(plan, values)
        measurements, gaps = measure(rows, scores, seed)
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

    def add(name: str, kind: str, description: str, folder: Path | None, training: dict[str, Any] | None) -> None:
        if any(scorer.name == name for scorer in scorers):
            raise InputError(
                f"Two results would be called {name}: results are named by the model folder. Rename one folder."
            )
        extra = {} if training is None else {"training": _digest(training)}
        scorers.append(Scorer(name, kind, description, folder, training, shared | extra))

    records = [(folder, without_paths(read_training(folder))) for folder in models]
    for folder, record in records:
        description = "reward model" if record["kind"] == "reward" else "DPO model, by its implicit reward"
        if record.get("persona") == "none":
            description += ", trained without the persona"
        add(folder.resolve().name, record["kind"], description, folder, record)
    measured: list[dict[str, Any]] = []
    for folder, record in records:
        base = {key: record[key] for key in BASE_KEYS}
        if record["kind"] != "dpo" or base in measured:
            continue  # several DPO models of one base share its untrained scores
        measured.append(base)
        name = "untrained-" + str(base["base_model"]["model_id"]).rstrip("/").rsplit("/", 1)[-1]
        add(name, "base", "untrained model, by the log-probability of the whole answer", folder, base)
        add(f"{name}-per-token", "base", "untrained model, by the log-probability per token", folder, base)
    for name, (_, description) in BASELINES.items():
        add(name, "baseline", description, None, None)
    return scorers


def score_all(
    scorers: Sequence[Scorer], missing: set[str], plan: ScoringPlan, base_model: str | None
) -> Iterator[tuple[Scorer, Sequence[Score]]]:
    """Each missing scorer with one score per item of the plan. A model is loaded when its turn comes and dropped
    afterwards.
    """
    for scorer in scorers:
        if scorer.name in missing and scorer.kind == "baseline":
            score, _ = BASELINES[scorer.name]
            yield scorer, score(plan.items)
        if scorer.name in missing and scorer.kind == "reward":
            assert scorer.folder is not None
            yield scorer, score_reward_folder(scorer.folder, plan.items, base_model, scorer.name)
        if scorer.kind == "dpo":
            assert scorer.folder is not None
            family = [other for other in scorers if other.folder == scorer.folder and other.name in missing]
            if family:
                implicit, summed, per_token = score_dpo_folder(scorer.folder, plan.items, base_model, scorer.name)
                for other in family:
                    values = per_token if other.name.endswith("-per-token") else summed
                    yield other, implicit if other is scorer else values


def score_reward_folder(folder: Path, items: Sequence[Item], base_model: str | None, name: str) -> list[Score]:
    from training.scoring import load_reward_model, score_rewards

    model = load_reward_model(folder, base_model=base_model)
    fits = _items_that_fit(model, items)
    rewards = iter(
        score_rewards(model, [item for item, length in zip(items, fits, strict=True) if length], description=name)
    )
    return [next(rewards) if length else TOO_LONG for length in fits]


def score_dpo_folder(
    folder: Path, items: Sequence[Item], base_model: str | None, name: str
) -> tuple[list[Score], list[Score], list[Score]]:
    """Implicit rewards, and the untrained reference's log-probabilities, summed and per token: these come with the
    former, so the untrained control costs nothing.
    """
    from training.scoring import load_dpo_model, score_implicit_rewards

    model = load_dpo_model(folder, base_model=base_model)
    fits = _items_that_fit(model, items)
    scored = [item for item, length in zip(items, fits, strict=True) if length]
    pairs = iter(score_implicit_rewards(model, scored, description=name))
    implicit: list[Score] = []
    summed: list[Score] = []
    per_token: list[Score] = []
    for length in fits:
        if not length:
            implicit.append(TOO_LONG)
            summed.append(TOO_LONG)
            per_token.append(TOO_LONG)
            continue
        policy, reference = next(pairs)
        implicit.append(model.beta * (policy - reference))
        summed.append(reference)
        per_token.append(reference / length)
    return implicit, summed, per_token


def _items_that_fit(model: Any, items: Sequence[Item]) -> list[int]:
    """The answer tokens of each item (with the end of turn); 0 where the item is longer than the model reads."""
    limit = getattr(model.model.config, "max_position_embeddings", None)
    prompts: dict[str, list[int]] = {}
    lengths = []
    for messages, text in items:
        key = json.dumps(messages)
        if key not in prompts:
            prompts[key] = token_ids(model.tokenizer, messages, open_answer=True)
        ids = token_ids(model.tokenizer, messages + assistant_message(text))
        answer = len(ids) - common_prefix_length(prompts[key], ids)
        lengths.append(0 if limit is not None and len(ids) > limit else max(1, answer))
    return lengths


def read_training(folder: Path) -> dict[str, Any]:
    """A model folder's training.json. Raises InputError where it is absent, of no known kind or trained with another
    template.
    """
    path = folder / "training.json"
    if not path.is_file():
        raise InputError(
            f"{folder} has no training.json, so it is no finished model. Give the folder that `persona train` wrote."
        )
    record = read_json(path)
    kind = record.get("kind") if isinstance(record, dict) else None
    if kind not in ("reward", "dpo"):
        raise InputError(f"{path} says kind {kind!r}; only `reward` and `dpo` can be evaluated. Train again.")
    lacking = [key for key in BASE_KEYS if key not in record]
    if lacking:
        raise InputError(f"{path} lacks {', '.join(lacking)}. It was written by another version: train again.")
    if record["template_hash"] != template_hash():
        raise InputError(f"{folder} was trained with another prompt template than this version's. Train again.")
    return record


def dataset_identity(folder: Path, rows: Sequence[EvaluatedRow]) -> dict[str, Any]:
    build = read_build(folder) or {}
    return {
        "name": (build.get("recipe") or {}).get("name") or folder.resolve().name,
        "version": build.get("version"),
        "content_sha256": content_hash(folder),
        "rows": dict(sorted(Counter(f"{row.config}/{row.split}" for row in rows).items())),
    }


def judge_facts(build: dict[str, Any], rows: Sequence[EvaluatedRow]) -> dict[str, Any]:
    """The label of the judge whose verdicts the rows carry, and its kind where build.json says it."""
    labels = sorted({row.published["judge"] for row in rows if row.published.get("judge")})
    return {"label": ", ".join(labels) or None, "kind": (build.get("judge") or {}).get("kind")}


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
    check_scores(output, result)
    return True


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode("utf-8")).hexdigest()
