"""Group-robust weighting: the loss is minimised for the worst mixture of groups instead of for the mixture that the rows happen to have.

min over theta, max over alpha of sum_g alpha_g L_g, with alpha on the simplex and L_g the mean loss of group g (Sagawa et al. 2020; for
DPO and IPO Ramesh et al. 2024). After each batch alpha_g <- alpha_g exp(eta L_g) / Z. A batch of B rows, n_g of them of group g, gives
(n_g / B) / p_g times their mean loss as an unbiased estimate of L_g, p_g being the group's share of the training rows; a group that is
absent gives 0. The same estimates stand in the loss, so that a row weighs alpha_g / p_g. alpha starts at p: with eta 0 this is the plain
training.

eta must fit the loss: Bradley-Terry and sigmoid losses are near 0.7, an IPO loss with beta 0.01 near 2,500.
"""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import TrainerCallback

from builder.errors import InputError, few
from builder.files import read_json, write_json
from builder.schema import ATTRIBUTES
from training import preflight
from training.arguments import TrainingRun
from training.data import TRAIN_SPLIT
from training.fairness import NOT_STATED, group_of
from training.prepare import Prepared
from training.profiles import stated_attributes

GROUP_COLUMN = "robust_group"
MAXIMUM_GROUPS = 20
# Losses that join the rows of a batch, so that no row has a loss of its own.
JOINT_LOSSES = ("bco_pair", "aot", "aot_unpaired", "sft")
WEIGHTS_FILE = "group_weights.json"


def check_robust(run: TrainingRun) -> None:
    """Raises InputError for an attribute, a step or a loss that group-robust weighting cannot use."""
    attribute = run.data.robust_groups
    if attribute is None:
        if "robust_step" in run.given:
            raise InputError(
                "robust_step is given, but no robust_groups, so that it would do nothing. Set robust_groups, or remove it."
            )
        return
    if attribute not in ATTRIBUTES:
        raise InputError(
            f"robust_groups is {attribute!r}; give an attribute of the profiles, such as sex, race, religion or political_views."
        )
    if not run.data.robust_step >= 0:
        raise InputError(f"robust_step is {run.data.robust_step}; give 0 (plain training) or a small positive number.")
    losses = getattr(run.config, "loss_type", None) or []
    joint = [loss for loss in ([losses] if isinstance(losses, str) else losses) if loss in JOINT_LOSSES]
    if joint:
        raise InputError(
            f"robust_groups weighs rows, and loss_type {', '.join(joint)} has no loss a row. Use sigmoid, ipo, robust or hinge."
        )


class GroupWeights(TrainerCallback):
    """alpha, in the order of `names`; kept with each checkpoint."""

    def __init__(self, names: list[str], shares: list[float], step: float):
        self.names, self.shares, self.step = names, np.array(shares), step
        self.logarithms = np.log(self.shares)

    def weights(self) -> np.ndarray:
        """(groups,), sum 1."""
        exponentials = np.exp(self.logarithms - self.logarithms.max())
        return exponentials / exponentials.sum()

    def of_rows(self, groups: torch.Tensor) -> torch.Tensor:
        """(rows,) what each row's loss counts: alpha_g / p_g."""
        return torch.tensor(self.weights() / self.shares, dtype=torch.float32, device=groups.device)[groups]

    def estimates(self, groups: torch.Tensor, losses: torch.Tensor) -> torch.Tensor:
        """(groups,) this batch's estimate of each L_g. groups, losses: one a row."""
        shares = torch.tensor(self.shares, dtype=torch.float32, device=losses.device)
        sums = torch.zeros(len(self.names), device=losses.device)
        return sums.index_add(0, groups, losses.detach().float()) / len(groups) / shares

    def move(self, estimates: torch.Tensor) -> None:
        logarithms = self.logarithms + self.step * estimates.double().cpu().numpy()
        self.logarithms = logarithms - logarithms.max()

    def record(self) -> dict[str, Any]:
        named = zip(self.names, self.weights(), self.shares, strict=True)
        values = [
            {"value": name, "weight": float(weight), "share_of_rows": float(share)} for name, weight, share in named
        ]
        return {"step": self.step, "values": values}

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.is_world_process_zero:
            write_json(_beside(args, state), dict(zip(self.names, self.logarithms.tolist(), strict=True)))

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step:
            saved = read_json(_beside(args, state))
            if sorted(saved) != sorted(self.names):
                raise InputError(
                    f"The checkpoint has the groups {few(sorted(saved))}, but this run has {few(self.names)}. Continue with the recipe "
                    "that the run was started with."
                )
            self.logarithms = np.array([saved[name] for name in self.names])


class GroupRobust:
    """Mixed into a TRL trainer. Without `group_weights` it changes nothing."""

    group_weights: GroupWeights | None = None
    pending_estimates: list[torch.Tensor]
    data_collator: Any
    _signature_columns: Any

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()  # type: ignore[misc]
        if GROUP_COLUMN not in self._signature_columns:
            self._signature_columns = [*self._signature_columns, GROUP_COLUMN]

    def weigh_groups(self, weights: GroupWeights) -> None:
        """From now on, training batches carry their rows' groups (TRL's collators would leave them out)."""
        collate = self.data_collator

        def with_groups(rows: list[dict[str, Any]]) -> dict[str, Any]:
            batch: dict[str, Any] = collate(rows)
            if GROUP_COLUMN in rows[0]:
                batch[GROUP_COLUMN] = torch.tensor([row[GROUP_COLUMN] for row in rows])
            return batch

        self.data_collator = with_groups
        self.group_weights, self.pending_estimates = weights, []
        self.add_callback(weights)  # type: ignore[attr-defined]

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        groups = inputs.pop(GROUP_COLUMN, None)
        if groups is None or self.group_weights is None:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)  # type: ignore[misc]
        # One call a row: TRL returns a mean over rows, and gathers its figures from all processes, so that each of them has to make as
        # many calls as the others, whatever groups are in its batch.
        single = []
        for row in range(len(groups)):
            single.append(super().compute_loss(model, _row(inputs, row, len(groups))))  # type: ignore[misc]
        losses = torch.stack(single)
        weights = self.group_weights
        estimates = self.accelerator.gather(weights.estimates(groups, losses)[None]).mean(dim=0)  # type: ignore[attr-defined]
        self.pending_estimates.append(estimates)
        if self.accelerator.sync_gradients:  # type: ignore[attr-defined]
            # Once a step of the optimiser, however many batches it is made of.
            weights.move(torch.stack(self.pending_estimates).mean(dim=0))
            self.pending_estimates.clear()
        collected = self._metrics["train"]  # type: ignore[attr-defined]
        for place, (name, weight) in enumerate(zip(weights.names, weights.weights(), strict=True)):
            collected[f"group_weight/{name}"].append(float(weight))
            collected[f"group_loss/{name}"].append(float(estimates[place]))
        return (weights.of_rows(groups) * losses).mean()


def with_groups(prepared: Prepared, train: Dataset) -> tuple[Dataset, GroupWeights | None]:
    """The trainer's training rows with the number of each row's group, and the weights at their start; unchanged without robust_groups."""
    data = prepared.run.data
    if data.robust_groups is None:
        return train, None
    names_of_rows = [
        _group(data.robust_groups, prepared.data.profiles[persona])
        for persona in prepared.rows[TRAIN_SPLIT]["persona_id"]
    ]
    counts = Counter(names_of_rows)
    names = sorted(counts)
    if not 2 <= len(names) <= MAXIMUM_GROUPS:
        raise InputError(
            f"robust_groups is {data.robust_groups}, which has {len(names)} values among the training rows ({few(names)}). Choose an "
            f"attribute with 2 to {MAXIMUM_GROUPS}."
        )
    said = ", ".join(f"{name} {counts[name]}" for name in names)
    preflight.say(f"[preflight] group-robust weighting by {data.robust_groups}, rows a group: {said}")
    column = [names.index(name) for name in names_of_rows]
    shares = [counts[name] / len(train) for name in names]
    return train.add_column(GROUP_COLUMN, column), GroupWeights(names, shares, data.robust_step)


def _group(attribute: str, profile: str) -> str:
    value = stated_attributes(profile).get(attribute)
    return NOT_STATED if value is None else group_of(attribute, value)


def _row(inputs: dict[str, Any], row: int, rows: int) -> dict[str, Any]:
    """The inputs of one row alone, without the padding that only the others needed: tensors hold a line a row, or the chosen answers' lines
    and then the rejected ones'.
    """
    lengths = inputs["attention_mask"][[row, row + rows]].sum(dim=1)
    longest = int(lengths.max())
    part = {}
    for name, value in inputs.items():
        if not isinstance(value, torch.Tensor):
            part[name] = value
        elif len(value) == rows:
            part[name] = value[row : row + 1]
        else:
            part[name] = value[[row, row + rows], :longest]
    return part


def _beside(args: Any, state: Any) -> Path:
    return Path(args.output_dir) / f"checkpoint-{state.global_step}" / WEIGHTS_FILE
