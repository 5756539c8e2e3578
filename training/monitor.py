"""Evaluation while training: each split under its own name, under the true, no and a wrong persona, without disturbing the training.

The figures are of the live model, by the scorer that also evaluates finished models; they stand in the log as `<split>/<config>/true`,
`none` and `wrong` (accuracy, ties half), `gap_wrong` and `gap_none` (true minus that), the same by persona group as
`<split>/<config>/seen/...` and `unseen/...`, and `worst_persona`, `tenth_percentile` and `worst_group` with their counterparts under
`none`, since figures by persona of a blind model are not balanced (training.fairness).
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from datasets import Dataset
from transformers import TrainerCallback
from transformers.integrations import (
    TensorBoardCallback,
    is_tensorboard_available,
    is_trackio_available,
    is_wandb_available,
)

from builder.errors import InputError
from training import preflight
from training.arguments import TrainingRun
from training.base_model import context_of
from training.conditioning import CONDITIONS
from training.data import TRAIN_SPLIT
from training.early_stopping import BEST_FOLDER, EarlyStopping, check_early_stopping
from training.evaluation import Candidate, Evaluation, plan_evaluation
from training.fairness import persona_groups, spread
from training.metrics import CONTROLS
from training.prepare import VALIDATION_SPLIT, Prepared
from training.reference import REFERENCE_FOLDER, reference_log_probabilities
from training.scoring import ScoringModel, load_base_model
from training.trained import dpo_scores, implicit_reward_facts, items_of, reward_scores, usable_by

TRACKERS = {"trackio": is_trackio_available, "wandb": is_wandb_available, "tensorboard": is_tensorboard_available}


def check_monitoring(run: TrainingRun) -> None:
    """Raises InputError for trackers that are not there, and for an early stopping that must not or cannot be."""
    for tracker in run.config.report_to or []:
        if tracker not in TRACKERS:
            raise InputError(f"report_to is {tracker!r}; choose none or some of {', '.join(TRACKERS)}.")
        if not TRACKERS[tracker]():
            raise InputError(
                f"report_to is {tracker}, but the package {tracker} is not installed. Run `pip install {tracker}`, or set report_to: none."
            )
    check_early_stopping(run)


def evaluated_splits(run: TrainingRun, datasets: Mapping[str, Dataset]) -> dict[str, Dataset] | None:
    """What the trainer is to evaluate while training: validation and test splits, each by its name; None if it is not to."""
    if not run.evaluates:
        return None
    return {split: rows for split, rows in datasets.items() if split != TRAIN_SPLIT and len(rows)}


class Monitor(TrainerCallback):
    """Scores the live model at each evaluation, and stops the run where early stopping says so."""

    def __init__(self, trainer: Any, prepared: Prepared, kind: str):
        self.trainer, self.prepared, self.kind = trainer, prepared, kind
        self.plan: Evaluation | None = None
        self.stopping: EarlyStopping | None = None
        self.reference_computed = False
        self.groups = persona_groups(prepared.data.profiles)
        data, config = prepared.run.data, prepared.run.config
        if trainer.eval_dataset is None or data.eval_max_rows == 0:
            return
        if sharded(trainer):
            if data.early_stopping_metric:
                raise InputError(
                    "early_stopping_metric needs the whole model in each process, and FSDP and ZeRO-3 divide its weights. Use multi_gpu or "
                    "zero2, or remove the key."
                )
            preflight.say(
                "[preflight] evaluation while training: without persona controls, because the weights are divided"
            )
            return
        context = context_of(trainer.accelerator.unwrap_model(trainer.model))
        usable = usable_by(prepared.tokenizer, prepared.evaluation_prompts, context)
        self.plan = plan_evaluation(prepared.test_rows, data.eval_max_rows, data.rows_seed, usable)
        if data.early_stopping_metric:
            wanted = data.early_stopping_metric.split("/")[1]
            if not [row for row in self.plan.rows if (row["split"], row["pair_kind"]) == (VALIDATION_SPLIT, wanted)]:
                raise InputError(
                    f"early_stopping_metric is {data.early_stopping_metric}, but no {wanted} row is among the validation rows. Raise "
                    "validation_share or eval_max_rows."
                )
            folder = Path(config.output_dir) / BEST_FOLDER
            self.stopping = EarlyStopping(data.early_stopping_metric, data.early_stopping_patience, folder)

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.stopping is not None:
            if args.eval_strategy == "steps" and args.eval_steps > state.max_steps:
                raise InputError(
                    f"early_stopping_metric is {self.stopping.metric}, but eval_steps is {args.eval_steps:g} and the run has "
                    f"{state.max_steps} steps, so it would never be measured. Lower eval_steps."
                )
            self.stopping.begin(state.global_step)

    def evaluate(self) -> dict[str, float]:
        """The figures of the live model; may ask the trainer to stop."""
        if self.plan is None:
            return {}
        figures = control_figures(self.plan, self._scores(self.plan), self.groups)
        if self.stopping is not None:
            state = self.trainer.state
            value, model = figures[self.stopping.metric], self.trainer.accelerator.unwrap_model(self.trainer.model)
            if self.stopping.seen(
                state.global_step, value, model, _last_checkpoint(Path(self.trainer.args.output_dir))
            ):
                preflight.say(
                    f"[train] stopped at step {state.global_step}: {self.stopping.metric} has not risen in "
                    f"{self.stopping.patience} evaluations"
                )
                self.trainer.control.should_training_stop = True
        return figures

    def conclude(self) -> dict[str, Any]:
        """After the last step: the best weights into the model. Returns what the record says of them; empty without early stopping."""
        if self.stopping is None:
            return {}
        model = self.trainer.accelerator.unwrap_model(self.trainer.model)
        return {"early_stopping": self.stopping.restore(model)}  # training.output removes the weights in the end

    def _scores(self, plan: Evaluation) -> list[float]:
        """One a candidate. Each process scores its share."""
        trainer, prepared, state = self.trainer, self.prepared, PartialState()
        run, size = prepared.run, len(plan.candidates)
        share = plan.candidates[
            size * state.process_index // state.num_processes : size * (state.process_index + 1) // state.num_processes
        ]
        model = trainer.accelerator.unwrap_model(trainer.model)
        reference = getattr(trainer, "ref_model", None)
        record = {"base_model": prepared.base.declared()} | (implicit_reward_facts(run) if self.kind == "dpo" else {})
        loaded = ScoringModel(
            model,
            prepared.tokenizer,
            self.kind,
            getattr(run.config, "beta", 0.0),
            None if reference is None else trainer.accelerator.unwrap_model(reference),
            record,
        )
        if self.kind == "reward":
            scores = reward_scores(loaded, prepared.evaluation_prompts, share, run.data.eval_batch_texts)
        else:
            # The reference never changes: what the first evaluation computes of it, the later ones find in the cache.
            cache = run.cache or prepared.working / REFERENCE_FOLDER
            if reference is None and not hasattr(model, "disable_adapter"):
                self._compute_reference(cache, loaded, share)
            scores = dpo_scores(loaded, prepared.evaluation_prompts, share, run.data.eval_batch_texts, cache)
        return [score for part in gather_object([scores]) for score in part]

    def _compute_reference(self, cache: Path, loaded: ScoringModel, share: Sequence[Candidate]) -> None:
        """Full fine-tuning without a second copy: the base is loaded once more, for the first evaluation alone."""
        if self.reference_computed:
            return
        prepared, run = self.prepared, self.prepared.run
        dtype = str(next(loaded.model.parameters()).dtype).removeprefix("torch.")
        base = load_base_model(str(prepared.base.folder), str(self.trainer.accelerator.device), dtype)
        base.record["base_model"] = prepared.base.declared()
        seen = share if run.data.reference_persona else [replace(candidate, persona_id=None) for candidate in share]
        reference_log_probabilities(base, items_of(prepared.evaluation_prompts, seen), cache, run.data.eval_batch_texts)
        self.reference_computed = True


def control_figures(
    plan: Evaluation, scores: Sequence[float], groups: Mapping[str, Mapping[str, str]]
) -> dict[str, float]:
    """The names of this file's first lines -> shares and differences of shares. scores: one a candidate. groups: of each persona."""
    outcomes = {condition: (np.sign(margins) + 1) / 2 for condition, margins in plan.margins(scores).items()}
    places: dict[str, list[int]] = {}
    for place, row in enumerate(plan.rows):
        name = f"{row['split']}/{row['pair_kind']}"
        for part in (name, f"{name}/{row['persona_group']}"):
            places.setdefault(part, []).append(place)
    figures: dict[str, float] = {}
    for part, own in places.items():
        shares = {condition: float(np.mean(outcomes[condition][own])) for condition in CONDITIONS}
        figures |= {f"{part}/{condition}": share for condition, share in shares.items()}
        figures |= {f"{part}/gap_{control}": shares["true"] - shares[control] for control in CONTROLS}
        personas = [plan.rows[place]["persona_id"] for place in own]
        for condition, ending in (("true", ""), ("none", "_none")):
            unequal = spread(outcomes[condition][own], personas, groups)
            for figure in ("worst_persona", "tenth_percentile"):
                if unequal[figure] is not None:
                    figures[f"{part}/{figure}{ending}"] = unequal[figure]
            if unequal["worst_group"] is not None:
                figures[f"{part}/worst_group{ending}"] = unequal["worst_group"]["accuracy"]
    return figures


def keep_logs_outside(trainer: Any, prepared: Prepared) -> None:
    """TensorBoard's files name paths of this machine, so they go beside the model's folder, into `<name>.tensorboard`, not into it."""
    for callback in trainer.callback_handler.callbacks:
        if isinstance(callback, TensorBoardCallback) and callback.logging_dir is None:
            callback.logging_dir = str(prepared.final.with_name(f"{prepared.final.name}.tensorboard"))


def sharded(trainer: Any) -> bool:
    """Whether no process holds the whole model."""
    plugin = trainer.args.deepspeed_plugin
    return bool(trainer.is_fsdp_enabled or (plugin is not None and plugin.zero_stage == 3))


@contextlib.contextmanager
def undisturbed(model: Any) -> Iterator[None]:
    """What happens inside takes nothing from torch's generators, and leaves the model in the mode that it was in.

    Even an evaluation without dropout draws: every pass over a DataLoader takes a number from torch's generator.
    """
    mode = model.training
    try:
        devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        model.train(mode)


def _last_checkpoint(folder: Path) -> int:
    numbers = [path.name.removeprefix("checkpoint-") for path in folder.glob("checkpoint-*")]
    return max((int(number) for number in numbers if number.isdigit()), default=0)
