"""Persona-conditioned reward model (Bradley-Terry).

accelerate launch --config_file accelerate_configs/cpu.yaml -m training.reward --config demo_reward --dataset FOLDER --output_dir OUT
"""

from pathlib import Path

from trl import RewardConfig

from training.arguments import parse_arguments
from training.run import new_trainer, prepare_trl, save_and_publish, train, trainer_datasets
from training.run_as_script import run_as_script
from training.trainers import NamedSplitsRewardTrainer


def main(argv: list[str] | None = None) -> Path:
    """Train, check and write a reward model; returns its folder. `argv`: arguments as on the command line.

    Raises InputError for anything wrong with recipe, data or base model, before training starts where that is possible.
    """
    run = parse_arguments(argv, RewardConfig)
    prepared = prepare_trl(run, "reward")
    trainer = new_trainer(NamedSplitsRewardTrainer, prepared, trainer_datasets(prepared))
    facts = train(trainer, prepared, "reward")
    return save_and_publish(trainer, prepared, "reward", facts)


if __name__ == "__main__":
    run_as_script(main)
