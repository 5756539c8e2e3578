"""Persona-conditioned DPO.

accelerate launch --config_file accelerate_configs/cpu.yaml -m training.dpo --config demo_dpo --dataset FOLDER --output_dir OUT
"""

from pathlib import Path

from trl import DPOConfig

from builder.errors import InputError
from training.arguments import TrainingRun, parse_arguments
from training.preflight import say
from training.reference import with_reference
from training.run import new_trainer, prepare_trl, save_and_publish, train, trainer_datasets
from training.run_as_script import run_as_script
from training.trainers import NamedSplitsDPOTrainer

# TRL 1.16 looks at a loss's name at the first step only (dpo_trainer.py, `_compute_loss`).
LOSSES = (
    "sigmoid",
    "hinge",
    "ipo",
    "exo_pair",
    "nca_pair",
    "robust",
    "bco_pair",
    "sppo_hard",
    "aot",
    "aot_unpaired",
    "apo_zero",
    "apo_down",
    "discopop",
    "sft",
    "sigmoid_norm",
)
SMOOTHED_LOSSES = ("robust", "exo_pair", "aot", "aot_unpaired")


def main(argv: list[str] | None = None) -> Path:
    """Train, check and write a DPO model; returns its folder. `argv`: arguments as on the command line.

    Raises InputError for anything wrong with recipe, data or base model, before training starts where that is possible.
    """
    run = parse_arguments(argv, DPOConfig)
    _check_loss(run.config)
    smooth_labels(run.config)
    prepared = prepare_trl(run, "dpo")
    datasets = trainer_datasets(prepared)
    if run.config.precompute_ref_log_probs or not run.data.reference_persona:
        run.config.precompute_ref_log_probs = True
        datasets = with_reference(prepared, datasets)
    trainer = new_trainer(NamedSplitsDPOTrainer, prepared, datasets)
    reference = reference_mode(trainer, run)
    say(f"[preflight] reference: {reference}")
    facts = train(trainer, prepared, "dpo") | {"reference": reference}
    return save_and_publish(trainer, prepared, "dpo", facts)


def _check_loss(config: DPOConfig) -> None:
    unknown = [name for name in config.loss_type if name not in LOSSES]
    if unknown:
        raise InputError(f"loss_type is {', '.join(unknown)}; choose from {', '.join(LOSSES)}.")
    if not config.beta > 0:
        raise InputError(
            f"beta is {config.beta}; with 0 nothing is learned, and below it the rejected answers are. Give 0.1, say."
        )


def smooth_labels(config: DPOConfig) -> None:
    """Make label_smoothing e mean cDPO with the sigmoid loss, where TRL ignores it (dpo_trainer.py reads it in other losses only).

    With a = -log sigma(x) and b = -log sigma(-x) TRL's robust loss is ((1 - e) a - e b) / (1 - 2 e), so that cDPO's (1 - e) a + e b is
    2 (1 - e) times the sigmoid loss minus (1 - 2 e) times the robust one. Raises InputError where label_smoothing is no share of wrong
    labels or would have no effect.
    """
    smoothing, losses = config.label_smoothing, list(config.loss_type)
    if not 0 <= smoothing < 0.5:
        raise InputError(f"label_smoothing is {smoothing}; it is the share of wrong labels, from 0 to below 0.5.")
    if smoothing == 0 or set(losses) <= set(SMOOTHED_LOSSES):
        return
    if losses != ["sigmoid"]:
        raise InputError(
            f"label_smoothing is {smoothing}, but loss_type {', '.join(losses)} does not use it everywhere. Set it to 0, or take one of "
            f"sigmoid (cDPO), {', '.join(SMOOTHED_LOSSES)}."
        )
    config.loss_type = ["sigmoid", "robust"]
    config.loss_weights = [2 * (1 - smoothing), -(1 - 2 * smoothing)]


def reference_mode(trainer: NamedSplitsDPOTrainer, run: TrainingRun) -> str:
    """What the policy is compared with, and what that sees of the persona, in words."""
    if trainer.precompute_ref_logps:
        how = "computed once, before training"
    elif trainer.ref_model is None:
        how = "the same model with its adapter disabled, at every step"
    else:
        how = "a second copy of the model, at every step"
    shown = run.data.reference_persona and run.data.persona != "none"
    return f"{how}; it sees {'what the policy sees of the persona' if shown else 'no persona'}"


if __name__ == "__main__":
    run_as_script(main)
