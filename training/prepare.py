"""Everything before the first step that all methods share: base model, rows, prompts, lengths. What can be wrong is found here."""

import os
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import torch
from datasets import Dataset

from builder.errors import InputError
from training import output, preflight
from training.arguments import TrainingRun, conditioning_of
from training.base_model import BaseModel, load_tokenizer, resolve_base_model
from training.conditioning import FEW_SHOT_MODES, WITHOUT_OWN_PERSONA
from training.data import TEST_SPLITS, TRAIN_SPLIT, PreferenceData, labelled_pairs, load_preference_data
from training.evaluation import drawn_places
from training.prompts import PersonaPrompts
from training.selection import choose_rows, split_validation

VALIDATION_SPLIT = "validation"
MEASURED_ROWS = 500  # of each pair config and cell, at least


@dataclass(frozen=True)
class Prepared:
    """All that a method needs.

    rows: train, validation, seen_test, heldout_test with the prompts that the trainer gets, cut to the rows that every trainer keeps whole.
    test_rows: both test splits (and validation) as published, with `question`. shortcuts: split and pair config -> what rules score that
    never see the persona. prompts: how personas are shown in training. evaluation_prompts: in evaluation, where a model trained without
    personas is shown whole profiles.
    """

    run: TrainingRun
    final: Path
    working: Path
    base: BaseModel
    tokenizer: Any
    rows: dict[str, Dataset]
    test_rows: dict[str, Dataset]
    reports: dict[str, preflight.SplitReport]
    shortcuts: dict[str, dict[str, float]]
    data: PreferenceData
    prompts: PersonaPrompts
    evaluation_prompts: PersonaPrompts

    @property
    def identity(self) -> dict[str, Any]:
        return self.data.identity


def prepare(run: TrainingRun, for_reward: bool, always_labelled: bool = False) -> Prepared:
    """for_reward: a reward is read at the last token, so padding must differ from the end. always_labelled: the method looks at labelled
    pairs whatever the mode. Raises InputError.
    """
    no_telemetry()
    _check_config(run)
    check_score_cache(run.data.score_cache)
    base = resolve_base_model(run.model.model_name_or_path, run.model.model_revision, run.data.base_model_id)
    tokenizer = load_tokenizer(base.folder, for_reward=for_reward)
    conditioning = conditioning_of(run.data)
    preflight.check_chat_template(tokenizer, conditioning)
    assert run.data.dataset is not None
    data = load_preference_data(run.data.dataset, run.data.dataset_configs, run.data.dataset_revision)
    chosen = choose_rows(
        data.splits[TRAIN_SPLIT],
        run.data.dataset_shares,
        run.data.dataset_configs,
        run.data.max_train_rows,
        run.data.rows_seed,
    )
    train, validation = split_validation(chosen, run.data.validation_share, run.data.rows_seed)
    needs_labelled = always_labelled or conditioning.mode in FEW_SHOT_MODES
    # No labelled pair is on a validation question: what the model is to be stopped by must be new to it.
    labelled = labelled_pairs(data, without=set(validation["prompt_id"])) if needs_labelled else {}
    prompts = PersonaPrompts(conditioning, data.profiles, labelled)
    raw = {TRAIN_SPLIT: train, VALIDATION_SPLIT: validation, **{split: data.splits[split] for split in TEST_SPLITS}}
    rows, reports = {}, {}
    for split, published in raw.items():
        if split == VALIDATION_SPLIT and not len(published):
            continue
        measured = measured_rows(run, split, published)
        rows[split], report = preflight.keep_rows(measured, split, prompts, tokenizer, run.config.max_length, run.data)
        reports[split] = replace(report, drawn_from=None if measured is published else len(published))
    if len(rows[TRAIN_SPLIT]) == 0:
        raise InputError("No train row is left after the length checks above. Raise max_length.")
    preflight.print_sample(rows[TRAIN_SPLIT], tokenizer)
    shortcuts = preflight.print_shortcuts(rows)
    final, working = output.working_folder(run.config.output_dir, bool(run.config.resume_from_checkpoint))
    run.config.output_dir = str(working)
    return Prepared(
        run,
        final,
        working,
        base,
        tokenizer,
        rows,
        {split: raw[split] for split in rows if split != TRAIN_SPLIT},
        reports,
        shortcuts,
        data,
        prompts,
        evaluation_prompts(prompts),
    )


def measured_rows(run: TrainingRun, split: str, published: Dataset) -> Dataset:
    """The rows of a split whose lengths are looked at: all that the trainer reads. Of test splits that it does not read, a draw of each
    cell, among it what the evaluation draws: to measure all half a million rows of a full dataset takes longer than a short training.
    """
    limit = run.data.eval_max_rows
    if split not in TEST_SPLITS or run.evaluates or limit is None:
        return published
    places = drawn_places(published, max(limit, MEASURED_ROWS), run.data.rows_seed)
    if len(places) == len(published):
        return published
    preflight.say(
        f"[preflight] {split}: {len(places)} of {len(published)} rows are measured, since the trainer reads none of them"
    )
    return published.select(sorted(places))


def evaluation_prompts(prompts: PersonaPrompts) -> PersonaPrompts:
    """A model trained without the row's own persona is shown whole profiles, to see what it does with them."""
    if prompts.conditioning.mode not in WITHOUT_OWN_PERSONA:
        return prompts
    return replace(prompts, conditioning=replace(prompts.conditioning, mode="full"))


def no_telemetry() -> None:
    """TRL's trainers report their use to the Hub unless told not to. The constant is read at import, hence both."""
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY = True


def check_score_cache(folder: str | None) -> None:
    """The folder, made if need be. Raises InputError where nothing can be written, so that no training ends without its scores."""
    if folder is None:
        return
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(
            f"score_cache is {folder}, where nothing can be written ({error.strerror}). Give another folder, or remove the key."
        ) from None


def _check_config(run: TrainingRun) -> None:
    config = run.config
    if config.max_length is None:
        raise InputError("max_length is null, so that no length could be checked. Set it to a number of tokens.")
    if not (config.use_cpu or torch.cuda.is_available()) and (config.bf16 or config.fp16):
        raise InputError("bf16 or fp16 is on, but there is no GPU. Set use_cpu: true and bf16: false.")
