"""Evaluate trained models, the untrained base model and the baselines on a published dataset, under the three persona
conditions.

One result file per scorer, whole or not at all. Running again keeps what is there and computes what is missing.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from builder.errors import InputError
from eval.baselines import BASELINES
from eval.judging import other_parts
from eval.language_models import file_name
from eval.metrics import measure
from eval.pair_results import EVALUATION, KIND_NAMES, MODEL_KINDS, as_content, result_name, write_scores
from eval.provenance import dataset_identity, provenance
from eval.results import SCHEMA_VERSION, Result, digest, is_finished, row_counts, without_paths, write_result
from eval.rows import EvaluatedRow, load_profiles, load_rows, read_build
from eval.scores import Score, pair_scores, plan_scoring
from training.conditioning import (
    FEW_SHOT_MODES,
    LabelledPair,
    as_record,
    from_record,
    template_hash,
)
from training.evaluation import Candidate
from training.kinds import DESCRIPTIONS, LEARN_FROM_PAIRS, TRL_KINDS
from training.prompts import PersonaPrompts
from training.record import RECORD_FILE, finished_record

# What may differ between two trainings that are one but for the seed, and what of their data may not.
SEED_KEYS = ("seed", "data_seed", "rows_seed", "run_name", "output_dir")
DATA_KEYS = ("build_sha256", "content_sha256", "revision", "configs")
PER_TOKEN = "-per-token"
REFERENCE_FOLDER = "reference"  # in the results folder: the untrained model's log-probabilities, by hash of the text
BATCH_TEXTS = 16
TOO_LONG = "longer than the model's context"
TOO_FEW_PAIRS = "too few labelled pairs of the persona"
# Kinds that cannot score every persona, and why.
NEED_TO_KNOW_THE_PERSONA = dict.fromkeys(LEARN_FROM_PAIRS, TOO_FEW_PAIRS) | {
    "per_persona": "no model was trained for the persona"
}

Labelled = Mapping[str, Sequence[LabelledPair]]

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
    identity = dataset_identity(folder, Counter(f"{row.config}/{row.split}" for row in rows))
    scorers = list_scorers(
        models, {"schema": SCHEMA_VERSION, "dataset": identity["content_sha256"], "limit": limit, "seed": seed}
    )
    missing = {
        scorer.name for scorer in scorers if not is_finished(output, result_name(scorer.name), scorer.fingerprint)
    }
    if not missing:
        log.info("All %d results in %s are up to date.", len(scorers), output)
        return output
    judges = judges_of_rows(read_build(folder) or {}, rows)
    plan = plan_scoring(rows, profiles)
    log.info(
        "%d pairs under %d conditions: %d distinct (prompt, text) to score.",
        len(rows),
        len(plan.places),
        len(plan.candidates),
    )
    for scorer, values in score_all(scorers, missing, plan.candidates, folder, profiles, output, base_model):
        scores = pair_scores(plan, values)
        figures = measure(rows, scores, seed, profiles)
        name = result_name(scorer.name)
        path = write_result(
            output,
            Result(
                evaluation=EVALUATION,
                name=name,
                description=scorer.description,
                fingerprint=scorer.fingerprint,
                dataset=identity,
                subject=subject_of(scorer),
                judges=judges,
                settings={"limit": limit, "conditions": list(scores)},
                seed=seed,
                provenance=provenance(command),
                rows=row_counts(score.reason for values in scores.values() for score in values),
                files=write_scores(output, name, rows, scores),
                content=as_content(figures),
            ),
        )
        log.info("%s written.", path)
    return output


def subject_of(scorer: Scorer) -> dict[str, Any]:
    """`Result.subject`: name and kind of the scorer, its base model, and of a trained one its training.json."""
    base = (scorer.training or {}).get("base_model") or {}
    return {
        "name": scorer.name,
        "kind": KIND_NAMES[scorer.kind],
        "kind_id": scorer.kind,
        "provider": "transformers" if scorer.training else None,
        "model": base.get("model_id"),
        "revision": base.get("revision"),
        "seed_group": seed_group(scorer.training) if scorer.kind in MODEL_KINDS and scorer.training else None,
        "training": scorer.training,
    }


def seed_group(record: dict[str, Any]) -> str:
    """The same for two trainings that differ in seed only: same method, recipe, base model and data."""
    recipe = {key: value for key, value in (record.get("recipe") or {}).items() if key not in SEED_KEYS}
    data = {key: value for key, value in (record.get("data") or {}).items() if key in DATA_KEYS}
    conditioning = {key: value for key, value in record["conditioning"].items() if key != "seed"}
    parts = [record["kind"], recipe, record["base_model"], record["template_hash"], conditioning, data]
    return digest(parts)[:16]


def list_scorers(models: Sequence[Path], shared: dict[str, Any]) -> list[Scorer]:
    """Every result to be, models first. `shared` is the part of the fingerprint that all have in common."""
    scorers: list[Scorer] = []

    def add(name: str, kind: str, description: str, folder: Path | None, training: dict[str, Any] | None) -> None:
        if any(scorer.name == name for scorer in scorers):
            raise InputError(
                f"Two results would be called {name}: results are named by the model folder. Rename one folder."
            )
        extra = {} if training is None else {"training": digest(training)}
        scorers.append(Scorer(name, kind, description, folder, training, shared | extra))

    records = [(folder, without_paths(read_training(folder))) for folder in models]
    for folder, record in records:
        add(file_name(folder.resolve().name), record["kind"], describe(record), folder, record)
    measured: list[dict[str, Any]] = []
    for folder, record in records:
        if record["kind"] != "dpo":
            continue
        base = base_record(record)
        if base in measured:
            continue  # several DPO models of one base share its untrained scores
        measured.append(base)
        name = "-".join(["untrained", _last_part(base["base_model"]["model_id"]), *_suffix(base["shown"])])
        add(name, "base", "untrained model, by the log-probability of the whole answer", folder, base)
        add(f"{name}{PER_TOKEN}", "base", "untrained model, by the log-probability per token", folder, base)
    for name, (_, description) in BASELINES.items():
        add(name, "baseline", description, None, None)
    return scorers


def score_all(
    scorers: Sequence[Scorer],
    missing: set[str],
    candidates: Sequence[Candidate],
    folder: Path,
    profiles: Mapping[str, str],
    output: Path,
    base_model: str | None,
) -> Iterator[tuple[Scorer, Sequence[Score]]]:
    """Each missing scorer with one score per candidate. A model is loaded when its turn comes and dropped afterwards.

    folder: of the published dataset, for the labelled pairs of models that look at them.
    """
    for scorer in scorers:
        if scorer.kind == "baseline" and scorer.name in missing:
            score, _ = BASELINES[scorer.name]
            yield scorer, score(candidates, profiles)
        elif scorer.kind == "dpo":
            family = [other for other in scorers if other.folder == scorer.folder and other.name in missing]
            if family:
                yield from score_dpo_folder(
                    family, candidates, profiles, labelled_of(scorer, folder), output, base_model
                )
        elif scorer.kind in MODEL_KINDS and scorer.name in missing:
            yield scorer, score_folder(scorer, candidates, profiles, labelled_of(scorer, folder), base_model)


def score_folder(
    scorer: Scorer,
    candidates: Sequence[Candidate],
    profiles: Mapping[str, str],
    labelled: Labelled,
    base_model: str | None,
) -> list[Score]:
    """One score per candidate by the model of any kind in the scorer's folder."""
    from training.trained import load_scorer

    assert scorer.folder is not None
    log.info("Scoring with %s.", scorer.name)
    model = load_scorer(scorer.folder, profiles, labelled, base_model, batch_size=BATCH_TEXTS)
    prompts = prompts_of(model.record, profiles, labelled)
    reasons = [reason_against(candidate, scorer.kind, prompts, model.usable) for candidate in candidates]
    return _filled(reasons, model.score(_scorable(candidates, reasons)))


def score_dpo_folder(
    family: Sequence[Scorer],
    candidates: Sequence[Candidate],
    profiles: Mapping[str, str],
    labelled: Labelled,
    output: Path,
    base_model: str | None,
) -> Iterator[tuple[Scorer, Sequence[Score]]]:
    """Of a DPO model and the untrained model that it carries, both summed and per token, those in `family`.

    The untrained model is the reference, whose log-probabilities the implicit reward needs anyway, so that this control costs nothing.
    (Where the reference was not shown the persona in training, the untrained model still is: that is scored in addition.)
    """
    from training.base_model import context_of
    from training.reference import reference_log_probabilities
    from training.scoring import answer_tokens, load_dpo_model
    from training.trained import dpo_scores, items_of, usable_by

    folder = family[0].folder
    assert folder is not None
    log.info("Scoring with %s.", ", ".join(scorer.name for scorer in family))
    model = load_dpo_model(folder, base_model=base_model)
    prompts = prompts_of(model.record, profiles, labelled)
    usable = usable_by(model.tokenizer, prompts, context_of(model.model))
    reasons = [reason_against(candidate, "dpo", prompts, usable) for candidate in candidates]
    scorable = _scorable(candidates, reasons)
    items = items_of(prompts, scorable)
    # Shared by the models that ask the reference for the same texts. With those of others in it, which texts are computed together, and
    # with that the last digits, would depend on what was evaluated before.
    kept = output / REFERENCE_FOLDER / digest([shown(model.record), model.record["reference_persona"]])[:16]
    for scorer in family:
        if scorer.kind == "dpo":
            values = dpo_scores(model, prompts, scorable, BATCH_TEXTS, kept)
        else:
            values = reference_log_probabilities(model, items, kept, BATCH_TEXTS)
            if scorer.name.endswith(PER_TOKEN):
                lengths = answer_tokens(model, items)
                values = [value / length for value, length in zip(values, lengths, strict=True)]
        yield scorer, _filled(reasons, values)


def prompts_of(record: dict[str, Any], profiles: Mapping[str, str], labelled: Labelled) -> PersonaPrompts:
    """As the model of this training.json is shown personas in evaluation."""
    from training.prepare import evaluation_prompts

    return evaluation_prompts(PersonaPrompts(from_record(record), profiles, labelled))


def labelled_of(scorer: Scorer, folder: Path) -> Labelled:
    """The labelled pairs that the model may look at, from the configs that it was trained on; none where it looks at none."""
    from training.data import labelled_pairs, load_preference_data

    assert scorer.training is not None
    record = scorer.training
    if record["kind"] not in LEARN_FROM_PAIRS and record["conditioning"]["mode"] not in FEW_SHOT_MODES:
        return {}
    return labelled_pairs(load_preference_data(str(folder), record["data"]["configs"]))


def reason_against(
    candidate: Candidate, kind: str, prompts: PersonaPrompts, usable: Callable[[Candidate], bool]
) -> str | None:
    """Why a model of this kind cannot score the candidate; None where it can."""
    if usable(candidate):
        return None
    if not prompts.has_examples(candidate.persona_id, candidate.prompt_id):
        return TOO_FEW_PAIRS
    if kind in NEED_TO_KNOW_THE_PERSONA and usable(replace(candidate, persona_id=None)):
        return NEED_TO_KNOW_THE_PERSONA[kind]
    return TOO_LONG


def _scorable(candidates: Sequence[Candidate], reasons: Sequence[str | None]) -> list[Candidate]:
    return [candidate for candidate, reason in zip(candidates, reasons, strict=True) if reason is None]


def _filled(reasons: Sequence[str | None], values: Sequence[float]) -> list[Score]:
    """Reason or value of each candidate. values: one for each without a reason."""
    remaining = iter(values)
    return [next(remaining) if reason is None else reason for reason in reasons]


def read_training(folder: Path) -> dict[str, Any]:
    """A model folder's training.json. Raises InputError where it is absent, of no known kind or trained with another
    template.
    """
    record = finished_record(folder)
    if record["kind"] not in MODEL_KINDS:
        raise InputError(
            f"{folder / RECORD_FILE} says kind {record['kind']!r}; it must be one of {', '.join(MODEL_KINDS)}. Train again."
        )
    try:
        from_record(record)
    except InputError as error:
        raise InputError(f"{folder}: {error}") from None
    return record


def describe(record: dict[str, Any]) -> str:
    """The model in one line: its kind, and where its prompts are not the usual ones."""
    mode = from_record(record).mode
    said = [DESCRIPTIONS[record["kind"]]]
    if record["kind"] in TRL_KINDS:
        said += {"none": ["trained without the persona"], "shuffled": ["trained with another persona's profile"]}.get(
            mode, []
        )
        words = _suffix(shown(record))
        said += [f"prompts: {' '.join(words)}"] if words else []
    if record.get("reference_persona") is False:
        said.append("reference without the persona")
    return ", ".join(said)


def base_record(record: dict[str, Any]) -> dict[str, Any]:
    """What of a DPO model's training.json decides the scores of its untrained base model."""
    return {
        "base_model": record["base_model"],
        "template_hash": template_hash(prompts_of(record, {}, {}).conditioning),
        "chat_template_hash": record["chat_template_hash"],
        "shown": shown(record),
    }


def shown(record: dict[str, Any]) -> dict[str, Any]:
    """How a model of this training.json is shown personas in evaluation: those keys of its conditioning that matter in its mode."""
    conditioning = prompts_of(record, {}, {}).conditioning
    few_shot = conditioning.mode in FEW_SHOT_MODES
    matters = {
        "mode": True,
        "persona_role": True,
        "relevant_attributes": conditioning.mode in ("relevant", "summary"),
        "few_shot_pairs": few_shot,
        "persona_corruption": conditioning.persona_corruption > 0,
        "seed": few_shot or conditioning.persona_corruption > 0,
    }
    found = {key: value for key, value in as_record(conditioning).items() if matters[key]}
    return found | ({"configs": record["data"]["configs"]} if few_shot else {})


def _suffix(shown: dict[str, Any]) -> list[str]:
    """Words for all that is not the whole profile as a system message."""
    words = [] if shown["mode"] == "full" else [shown["mode"]]
    words += [f"k{shown['few_shot_pairs']}", "+".join(shown["configs"])] if "few_shot_pairs" in shown else []
    words += [f"top{shown['relevant_attributes']}"] if "relevant_attributes" in shown else []
    words += [] if shown["persona_role"] == "system" else [shown["persona_role"]]
    words += [f"without{shown['persona_corruption'] * 100:.0f}"] if "persona_corruption" in shown else []
    return words + ([f"seed{shown['seed']}"] if shown.get("seed") else [])


def _last_part(model_id: str) -> str:
    return model_id.rstrip("/").rsplit("/", 1)[-1]


def judges_of_rows(build: Mapping[str, Any], rows: Sequence[EvaluatedRow]) -> list[dict[str, Any]]:
    """`Result.judges`: those whose verdicts the rows carry, with what else their models did for the dataset where build.json says it."""
    declared, models = build.get("judge") or {}, build.get("models") or {}
    model = models.get("judge") or {}
    return [
        {
            "label": label,
            "name": label.partition("@")[0],
            "kind": declared.get("kind") or "of unknown kind",
            "provider": model.get("provider"),
            "model": model.get("model") or "unknown",
            "scripted": model.get("provider") == "scripted",
            "also": other_parts(model["model"], build) if model.get("model") else [],
            "of": "the dataset's rows",
        }
        for label in sorted({row.published["judge"] for row in rows if row.published.get("judge")})
    ]
