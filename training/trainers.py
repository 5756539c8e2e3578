"""TRL's trainers with four changes: every split keeps its own name in every log, evaluation does not disturb the training, a loss that is
not finite stops the run, and a pair's prompt is computed once (training.shared_prompt). A fifth, group-robust weighting, is in
training.robust.

TRL writes accuracy and margins under a hard-coded `eval_`, so that the last of two test splits overwrites the first, in
the returned figures and in every tracker (dpo_trainer.py and reward_trainer.py, `log`). Here each split is evaluated by
itself and logged as `validation/...`, `seen_test/...` and `heldout_test/...`.
"""

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import torch
import trl.trainer.utils
from datasets import Dataset
from transformers import Trainer
from trl import DPOTrainer, RewardTrainer

from builder.errors import InputError
from training.monitor import Monitor, undisturbed
from training.robust import GroupRobust
from training.shared_prompt import SharedPrompt


class NamedSplits:
    """Mixed into a TRL trainer whose `eval_dataset` is None or a dict of named splits."""

    monitor: Monitor | None = None
    current_split: str | None = None
    shares_prompt: bool = False

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        if self.shares_prompt and not return_outputs:
            model = SharedPrompt(model)
        return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)  # type: ignore[misc]

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        loss = super().training_step(*args, **kwargs)  # type: ignore[misc]
        # The trainer's own log leaves NaN losses out (logging_nan_inf_filter), so a broken run would look healthy.
        if not math.isfinite(loss.item()):
            raise InputError(
                f"The loss is {loss.item()} at step {self.state.global_step + 1}, so the weights are spoilt. "  # type: ignore[attr-defined]
                "Lower learning_rate, set max_grad_norm, or train in float32 (bf16: false, fp16: false)."
            )
        return loss

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """TRL's figures `<split>/<figure>` of each split, one at a time, and the monitor's, unless one dataset is asked for."""
        if eval_dataset is not None:
            return super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)  # type: ignore[misc]
        figures: dict[str, float] = {}
        with undisturbed(self.model):  # type: ignore[attr-defined]
            # By name, so that the rows tokenised at the start are taken, with the reference's log-probabilities where they are known.
            for split in self.eval_dataset:  # type: ignore[attr-defined]
                self.current_split = split
                try:
                    figures |= super().evaluate(split, ignore_keys, "eval")  # type: ignore[misc]
                finally:
                    self.current_split = None
            if self.monitor is not None:
                self.model.eval()  # type: ignore[attr-defined]
                controls = self.monitor.evaluate()
                Trainer.log(self, dict(controls))  # type: ignore[arg-type]
                figures |= controls
        return figures

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if self.current_split is None:
            super().log(logs, start_time)  # type: ignore[misc]
            return
        collected = self._metrics["eval"]  # type: ignore[attr-defined]
        figures = {**logs, **{f"eval_{key}": sum(values) / len(values) for key, values in collected.items()}}
        collected.clear()
        # In place: the caller returns this very dict.
        logs.clear()
        for key, value in figures.items():
            logs[f"{self.current_split}/{key.removeprefix('eval_')}" if key.startswith("eval_") else key] = value
        Trainer.log(self, logs, start_time)  # type: ignore[arg-type]


class NamedSplitsDPOTrainer(GroupRobust, NamedSplits, DPOTrainer):
    """trl.DPOTrainer with named splits and, if asked for, group-robust weighting."""

    def _precompute_ref_logps(self, dataset: Dataset, name: str, batch_size: int) -> Dataset:
        # training.reference has computed them already, with what the reference is to see.
        return dataset


class NamedSplitsRewardTrainer(GroupRobust, NamedSplits, RewardTrainer):
    """trl.RewardTrainer with named splits and, if asked for, group-robust weighting."""


@contextlib.contextmanager
def answers_only_head(device: torch.device) -> Iterator[None]:
    """On a processor, let the DPO trainer project only the answers' tokens onto the vocabulary.

    TRL does so on GPUs alone, because elsewhere changing shapes may mean recompilation, which does not concern a CPU.
    Same loss; measured on SmolLM2-135M with 155 prompt and 45 answer tokens: a step takes 7.1 s instead of 9.4 s (one
    thread). Does nothing where TRL no longer has this switch.
    """
    name = "_use_triton"
    switch = getattr(trl.trainer.utils, name, None)
    if device.type != "cpu" or switch is None:
        yield
        return
    setattr(trl.trainer.utils, name, lambda _: True)
    try:
        yield
    finally:
        setattr(trl.trainer.utils, name, switch)
