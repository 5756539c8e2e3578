"""Scores of a dataset's test rows by a finished model, or by a baseline that was never trained, in a process of its own.

python -m training.score --model FOLDER --dataset DATASET --out RESULT.json
python -m training.score --rule length --model_name_or_path embedded --dataset DATASET --out RESULT.json

Which rows are scored depends on `rows_seed` and `eval_max_rows` alone, so that every method is asked about the same ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from builder.errors import InputError
from builder.files import write_json
from training import preflight, public_reward
from training.arguments import TrainingRun, conditioning_of, parse_arguments
from training.base_model import context_of, load_tokenizer, resolve_base_model
from training.conditioning import (
    FEW_SHOT_MODES,
    Conditioning,
    chat_template_hash,
)
from training.data import TEST_SPLITS, TRAIN_SPLIT, PreferenceData, labelled_pairs, load_preference_data
from training.evaluation import Candidate, Evaluation, Scorer, plan_evaluation
from training.finish import evaluation_facts, print_metrics, versions, write_scores
from training.metrics import control_metrics
from training.prepare import check_score_cache, no_telemetry
from training.prompts import PersonaPrompts
from training.record import finished_record
from training.reference import reference_log_probabilities
from training.results import conditioning_facts, facts_of_record, margins_file, own_condition
from training.rules import RULES
from training.run_as_script import run_as_script
from training.scoring import answer_tokens, load_base_model
from training.selection import choose_rows, split_validation
from training.trained import items_of, load_scorer, usable_by

SCORERS = ("model", "rule", "prompted", "public_reward")
PROMPTED = ("sum", "per_token")


@dataclass
class ScoreConfig:
    """What scores, and where the result goes; exactly one of SCORERS. The keys of the data are those of training."""

    model: str | None = field(default=None, metadata={"help": "The folder of a finished model."})
    rule: str | None = field(
        default=None, metadata={"help": f"A rule fitted on the training rows: {', '.join(RULES)}."}
    )
    prompted: str | None = field(
        default=None,
        metadata={
            "help": f"The untrained base model's log-probability of the answer, over its tokens: {', '.join(PROMPTED)}."
        },
    )
    public_reward: str | None = field(
        default=None, metadata={"help": "A public reward model: a folder or Hub id of a classifier with one label."}
    )
    out: str | None = field(default=None, metadata={"help": "The JSON file to write; the margins stand beside it."})
    max_length: int = field(
        default=1024, metadata={"help": "Rules: longer training rows are left out, as in training."}
    )
    use_cpu: bool = field(default=False, metadata={"help": "Do not use a GPU."})
    seed: int | None = field(default=None, metadata={"help": "For the record: nothing here is drawn by it."})


def main(argv: list[str] | None = None) -> Path:
    """Score and write; returns the result's file. Raises InputError before a model is loaded where that is possible."""
    no_telemetry()
    run = parse_arguments(argv, ScoreConfig)
    scorer_name = _check_config(run)
    if scorer_name == "model":
        _as_trained(run)
    check_score_cache(run.data.score_cache)
    assert run.data.dataset is not None
    data = load_preference_data(run.data.dataset, run.data.dataset_configs, run.data.dataset_revision)
    scorer, facts = {
        "model": _finished_model,
        "rule": _rule,
        "prompted": _prompted,
        "public_reward": _public_reward,
    }[scorer_name](run, data)
    evaluation = plan_evaluation(
        {split: data.splits[split] for split in TEST_SPLITS},
        run.data.eval_max_rows,
        run.data.rows_seed,
        scorer.usable,
    )
    margins = evaluation.margins(scorer.score(evaluation.candidates))
    result = {
        **facts,
        "axis": {key: getattr(run.data, key) for key in ("few_shot_pairs", "persona_corruption") if key in run.given},
        "data": _data_facts(data.identity, run),
        **evaluation_facts(evaluation),
        "results": control_metrics(evaluation.rows, margins, run.data.rows_seed, data.profiles),
        "versions": versions(),
    }
    print_metrics(result["results"])
    assert run.config.out is not None
    return write_score_result(Path(run.config.out), result, evaluation, margins)


def write_score_result(
    out: Path, result: dict[str, Any], evaluation: Evaluation, margins: dict[str, list[float]]
) -> Path:
    """The margins first: where the JSON file is, the result is whole."""
    write_scores(margins_file(out), evaluation, margins)
    write_json(out, result)
    print(f"[done] {out}", flush=True)
    return out


def _check_config(run: TrainingRun) -> str:
    config = run.config
    named = [name for name in SCORERS if getattr(config, name) is not None]
    if len(named) != 1:
        raise InputError(
            f"{' and '.join(f'--{name}' for name in named) or 'Nothing'} is given to score with. Give one of "
            f"{', '.join(f'--{name}' for name in SCORERS)}."
        )
    if not config.out or not config.out.endswith(".json"):
        raise InputError(f"out is {config.out!r}; give the JSON file to write (--out RESULT.json).")
    for name, known in (("rule", tuple(RULES)), ("prompted", PROMPTED)):
        value = getattr(config, name)
        if value is not None and value not in known:
            raise InputError(f"{name} is {value!r}; choose one of {', '.join(known)}.")
    return named[0]


def _as_trained(run: TrainingRun) -> None:
    """What is not given stays as it was in the model's own evaluation. Changes `run.data`."""
    record = finished_record(Path(run.config.model))
    trained = {
        "dataset_configs": record["data"]["configs"],
        "eval_max_rows": record["evaluation"]["max_rows_a_cell"],
        "rows_seed": record["data"]["rows_seed"],
    }
    for key, value in trained.items():
        if key not in run.given:
            setattr(run.data, key, value)


def _finished_model(run: TrainingRun, data: PreferenceData) -> tuple[Scorer, dict[str, Any]]:
    given = {key: getattr(run.data, key) for key in ("few_shot_pairs", "persona_corruption") if key in run.given}
    scorer = load_scorer(
        Path(run.config.model),
        data.profiles,
        labelled_pairs(data),
        run.model.model_name_or_path,
        device=_device(run),
        dtype=run.loading_dtype,
        batch_size=run.data.eval_batch_texts,
        cache=run.cache,
        **given,
    )
    return scorer, facts_of_record(scorer.record, replace(Conditioning(**scorer.record["conditioning"]), **given))


def _rule(run: TrainingRun, data: PreferenceData) -> tuple[Scorer, dict[str, Any]]:
    """Fitted on the rows that a model with the same keys is trained on."""
    base = resolve_base_model(run.model.model_name_or_path, run.model.model_revision)
    tokenizer = load_tokenizer(base.folder, for_reward=False)
    keys = run.data
    chosen = choose_rows(
        data.splits[TRAIN_SPLIT], keys.dataset_shares, keys.dataset_configs, keys.max_train_rows, keys.rows_seed
    )
    train, _ = split_validation(chosen, keys.validation_share, keys.rows_seed)
    kept, _ = preflight.keep_rows(train, TRAIN_SPLIT, _prompts(run, data), tokenizer, run.config.max_length, keys)
    facts = {
        "method": f"rule: {run.config.rule}",
        "seed": None,
        **conditioning_facts(Conditioning("none"), "none"),
        "chat_template_hash": None,
        "base_model": None,
        "train_rows": len(kept),
    }
    return Scorer(RULES[run.config.rule](list(kept)), lambda candidate: True, {}), facts


def _prompted(run: TrainingRun, data: PreferenceData) -> tuple[Scorer, dict[str, Any]]:
    """In mode `none` no condition shows a persona, so that all three are alike: the blind baseline of the other modes."""
    prompts = _prompts(run, data)
    base = resolve_base_model(run.model.model_name_or_path, run.model.model_revision, run.data.base_model_id)
    model = load_base_model(str(base.folder), _device(run), run.loading_dtype)
    model.record["base_model"] = base.declared()
    preflight.check_chat_template(model.tokenizer, prompts.conditioning)

    def score(candidates: Sequence[Candidate]) -> list[float]:
        items = items_of(prompts, candidates)
        sums = reference_log_probabilities(model, items, run.cache, run.data.eval_batch_texts)
        if run.config.prompted == "sum":
            return sums
        return [total / length for total, length in zip(sums, answer_tokens(model, items), strict=True)]

    facts = {
        "method": f"prompted base model, log-probability: {run.config.prompted}",
        "seed": None,
        **conditioning_facts(prompts.conditioning, own_condition("prompted", prompts.conditioning.mode)),
        "chat_template_hash": chat_template_hash(model.tokenizer),
        "base_model": model.record["base_model"],
    }
    return Scorer(score, usable_by(model.tokenizer, prompts, context_of(model.model)), {}), facts


def _public_reward(run: TrainingRun, data: PreferenceData) -> tuple[Scorer, dict[str, Any]]:
    prompts = _prompts(run, data)
    model = public_reward.load(run.config.public_reward, run.model.model_revision, _device(run), run.loading_dtype)
    scorer = Scorer(
        lambda candidates: public_reward.rewards(model, items_of(prompts, candidates), run.data.eval_batch_texts),
        lambda candidate: (
            prompts.has_examples(candidate.persona_id, candidate.prompt_id)
            and public_reward.fits(model, items_of(prompts, [candidate])[0])
        ),
        {},
    )
    template = getattr(model.tokenizer, "chat_template", None)
    facts = {
        "method": "public reward model",
        "seed": None,
        **conditioning_facts(prompts.conditioning, own_condition("public_reward", prompts.conditioning.mode)),
        "chat_template_hash": chat_template_hash(model.tokenizer) if template else None,
        "base_model": model.base.declared(),
    }
    return scorer, facts


def _prompts(run: TrainingRun, data: PreferenceData) -> PersonaPrompts:
    conditioning = conditioning_of(run.data)
    if conditioning.mode == "shuffled":
        raise InputError(
            "persona is 'shuffled', which is a way of training: whose persona is shown here is said by the conditions. Use persona: full."
        )
    return PersonaPrompts(
        conditioning, data.profiles, labelled_pairs(data) if conditioning.mode in FEW_SHOT_MODES else {}
    )


def _data_facts(identity: dict[str, Any], run: TrainingRun) -> dict[str, Any]:
    return {
        **identity,
        "configs": list(run.data.dataset_configs),
        "rows_seed": run.data.rows_seed,
        "eval_max_rows": run.data.eval_max_rows,
    }


def _device(run: TrainingRun) -> str | None:
    return "cpu" if run.config.use_cpu else None


if __name__ == "__main__":
    run_as_script(main)
