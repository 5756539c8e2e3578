"""Early stopping on the specificity gap of the validation rows, with the best weights kept.

Never on a plain accuracy: "take the rewritten answer" wins most pairs without looking at the persona, so the checkpoint that it would
choose is not the one that learned anything of personas. And never on a test split, which would then test nothing.
"""

import re
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from safetensors.torch import load_file, save_file

from builder.errors import InputError
from builder.files import read_json, write_atomically, write_json
from training import preflight
from training.arguments import TrainingRun

BEST_FOLDER = "best"  # in the working folder
METRIC = re.compile(r"validation/(?P<config>[a-z_]+)/gap_(wrong|none)")


def check_early_stopping(run: TrainingRun) -> None:
    """Raises InputError for a metric that must not choose, or one that would never be measured."""
    data, metric = run.data, run.data.early_stopping_metric
    if metric is None:
        if "early_stopping_patience" in run.given:
            raise InputError(
                "early_stopping_patience is given, but no early_stopping_metric, so that it would do nothing. Set the metric, or remove it."
            )
        return
    configs = list(data.dataset_configs)
    found = METRIC.fullmatch(metric)
    if found is None or found["config"] not in configs:
        allowed = ", ".join(f"validation/{config}/gap_wrong, validation/{config}/gap_none" for config in configs)
        raise InputError(
            f"early_stopping_metric is {metric!r}. A run may stop only on a specificity gap of the validation rows: a plain accuracy can "
            f"be had without the persona, and a split that chooses the weights no longer tests them. Choose one of {allowed}."
        )
    if not data.validation_share:
        raise InputError(
            f"early_stopping_metric is {metric}, but no rows are kept back for it. Set validation_share, e.g. 0.1."
        )
    if not run.evaluates:
        raise InputError(
            f"early_stopping_metric is {metric}, but it would never be measured. Set eval_strategy: steps and eval_steps."
        )
    if data.eval_max_rows == 0:
        raise InputError(
            f"early_stopping_metric is {metric}, but eval_max_rows is 0, so no row is scored. Give a number of rows."
        )
    if data.early_stopping_patience < 1:
        raise InputError(
            f"early_stopping_patience is {data.early_stopping_patience}; give at least 1 evaluation without a gain."
        )


class EarlyStopping:
    """The metric at each evaluation so far, and the trainable weights of the best one.

    Both lie in `folder` from the moment they are known, so that an interrupted run finds them again.
    """

    def __init__(self, metric: str, patience: int, folder: Path):
        self.metric, self.patience, self.folder = metric, patience, folder
        self.history: list[dict[str, Any]] = []  # step, value

    def begin(self, step: int) -> None:
        """Training starts or goes on after `step`. What was measured later than that is measured again."""
        found: list[Any] = [None]
        if PartialState().is_main_process and step and (self.folder / "history.json").is_file():
            found = [read_json(self.folder / "history.json")]
        broadcast_object_list(found)
        self.history = [entry for entry in found[0] or [] if entry["step"] <= step]

    def best(self) -> dict[str, Any] | None:
        return max(self.history, key=lambda entry: (entry["value"], -entry["step"]), default=None)

    def seen(self, step: int, value: float, model: Any, last_checkpoint: int) -> bool:
        """Note an evaluation; keep the weights if it is the best. Returns whether to stop. last_checkpoint: its step, 0: none."""
        before = self.best()
        self.history.append({"step": step, "value": value})
        best = self.best()
        assert best is not None
        if PartialState().is_main_process:
            if best["step"] == step:
                tensors = {name: tensor.detach().cpu().clone() for name, tensor in _trainable(model).items()}
                write_atomically(self._weights(step), lambda path: save_file(tensors, path))
                # A run that goes on from the last checkpoint needs the best weights of that time, should the later ones not come again.
                if before is not None and before["step"] > last_checkpoint:
                    self._weights(before["step"]).unlink(missing_ok=True)
            write_json(self.folder / "history.json", self.history)
        later = [entry for entry in self.history if entry["step"] > best["step"]]
        return len(later) >= self.patience

    def restore(self, model: Any) -> dict[str, Any]:
        """Put the best weights back; returns what the record says of them. All processes; the main one reads."""
        best = self.best()
        if best is None:
            raise InputError(
                f"early_stopping_metric is {self.metric}, but the run ended before the first evaluation. Lower eval_steps."
            )
        state = PartialState()
        saved = load_file(self._weights(best["step"])) if state.is_main_process else {}
        with torch.no_grad():
            for name, tensor in _trainable(model).items():
                if state.is_main_process:
                    tensor.copy_(saved[name])
                if state.num_processes > 1:
                    torch.distributed.broadcast(tensor.data, src=0)
        preflight.say(
            f"[train] best {self.metric} {best['value']:.3f} at step {best['step']}; its weights are kept (evaluated at "
            f"{', '.join(str(entry['step']) for entry in self.history)})"
        )
        return {"metric": self.metric, "patience": self.patience, "best": best, "evaluations": self.history}

    def _weights(self, step: int) -> Path:
        return self.folder / f"step-{step}.safetensors"


def _trainable(model: Any) -> dict[str, torch.Tensor]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
