"""How long a run will take, measured before its first step on its own rows and in its own precision."""

import time
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from transformers import TrainerCallback

from training import preflight
from training.data import TEST_SPLITS
from training.evaluation import drawn_places
from training.monitor import undisturbed
from training.prepare import Prepared

QUICK = 2.0  # seconds; a first batch that is done sooner is mostly warming up, so a second one is timed


class TimeEstimate(TrainerCallback):
    """Computes loss and gradients of one or two batches when the training begins, throws them away, and prints what follows.

    `spent`: seconds that this took. `figures`: what was printed, for the record; None where nothing could be timed.
    """

    def __init__(self, trainer: Any, prepared: Prepared):
        self.trainer, self.prepared = trainer, prepared
        self.spent = 0.0
        self.figures: dict[str, float] | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        steps = state.max_steps - state.global_step
        trainer = self.trainer
        if trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled:
            # Their engines keep gradients that cannot be thrown away from outside.
            preflight.say(
                f"[preflight] estimated: {steps} steps; not timed, because the weights or the optimiser are divided"
            )
            return
        started = time.monotonic()
        loss_seconds, gradient_seconds = _timed_batch(trainer)
        if loss_seconds + gradient_seconds < QUICK:
            loss_seconds, gradient_seconds = _timed_batch(trainer)
        self.spent = time.monotonic() - started
        step_seconds = (loss_seconds + gradient_seconds) * args.gradient_accumulation_steps
        pair_seconds = loss_seconds / args.per_device_train_batch_size / args.world_size
        evaluating = _evaluated_pairs(self.prepared, trainer, args, state) * pair_seconds
        total = (steps * step_seconds + evaluating) / 60
        self.figures = {
            "steps": steps,
            "seconds_a_step": round(step_seconds, 3),
            "minutes": round(total, 2),
            "minutes_of_evaluation": round(evaluating / 60, 2),
        }
        preflight.say(
            f"[preflight] estimated: {steps} steps, about {total:.1f} min ({step_seconds:.2f} s a step, {evaluating / 60:.1f} min of "
            "evaluation)"
        )


def _timed_batch(trainer: Any) -> tuple[float, float]:
    """Seconds of the loss and of its gradients, for a batch of typical lengths. Weights, gradients and generators stay as they were."""
    model = trainer.model_wrapped
    rows = trainer.train_dataset
    texts = rows.select_columns(
        [name for name in ("prompt_ids", "chosen_ids", "rejected_ids") if name in rows.column_names]
    )
    lengths = [sum(len(ids) for ids in row.values()) for row in texts]
    size = min(trainer.args.per_device_train_batch_size, len(rows))
    order = np.argsort(lengths, kind="stable")
    middle = [int(order[int((place + 0.5) * len(rows) / size)]) for place in range(size)]
    needed = ("prompt_ids", "chosen_ids", "rejected_ids", "ref_chosen_logps", "ref_rejected_logps")
    batch = trainer.data_collator(
        [{name: rows[place][name] for name in needed if name in rows[place]} for place in middle]
    )
    tokens = getattr(trainer, "_total_train_tokens", 0)
    with undisturbed(model), trainer.accelerator.no_sync(model):
        model.train()
        inputs = trainer._prepare_inputs(batch)
        _wait(trainer)
        started = time.monotonic()
        with trainer.compute_loss_context_manager():
            loss = trainer.compute_loss(model, inputs)
        _wait(trainer)
        computed = time.monotonic()
        trainer.accelerator.backward(loss)
        _wait(trainer)
        ended = time.monotonic()
        model.zero_grad(set_to_none=True)
    trainer._metrics["train"].clear()
    trainer._total_train_tokens = tokens
    return computed - started, ended - computed


def _wait(trainer: Any) -> None:
    """A GPU has finished what it was given."""
    if trainer.accelerator.device.type == "cuda":
        torch.cuda.synchronize()


def _evaluated_pairs(prepared: Prepared, trainer: Any, args: Any, state: Any) -> float:
    """Pairs scored while training (TRL's figures and ours) and at the end. An upper bound: prompts are shared, references kept."""
    data = prepared.run.data

    def rows(splits: Iterable[str]) -> int:
        return sum(len(drawn_places(prepared.test_rows[s], data.eval_max_rows, data.rows_seed)) for s in splits)

    at_end = 3 * rows(split for split in TEST_SPLITS if split in prepared.test_rows)
    if trainer.eval_dataset is None:
        return float(at_end)
    remaining = state.max_steps - state.global_step
    times = remaining // max(1, int(state.eval_steps)) if args.eval_strategy == "steps" else args.num_train_epochs
    each = sum(len(split) for split in trainer.eval_dataset.values()) + 3 * rows(prepared.test_rows)
    return float(at_end + times * each)
