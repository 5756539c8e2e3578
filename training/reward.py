"""Persona-conditioned reward model (Bradley-Terry).

accelerate launch --config_file accelerate_configs/cpu.yaml -m training.reward --config demo_reward --dataset FOLDER --output_dir OUT
"""

from pathlib import Path

from trl import RewardConfig, get_peft_config, get_quantization_config

from training.arguments import parse_arguments
from training.monitor import check_monitoring, evaluated_splits
from training.robust import check_robust, with_groups
from training.run import building_trainer, check_dropout, finish, prepare_trl, train, trainer_datasets
from training.run_as_script import run_as_script
from training.trainers import NamedSplitsRewardTrainer


def main(argv: list[str] | None = None) -> Path:
    """Train, check and write a reward model; returns its folder. `argv`: arguments as on the command line.

    Raises InputError for anything wrong with recipe, data or base model, before training starts where that is possible.
    """
    run = parse_arguments(argv, RewardConfig)
    check_monitoring(run)
    check_robust(run)
    check_dropout(run)
    prepared = prepare_trl(run, "reward")
    datasets = trainer_datasets(prepared)
    datasets["train"], group_weights = with_groups(prepared, datasets["train"])
    with building_trainer():
        trainer = NamedSplitsRewardTrainer(
            model=str(prepared.base.folder),
            args=run.config,
            train_dataset=datasets["train"],
            eval_dataset=evaluated_splits(run, datasets),
            processing_class=prepared.tokenizer,
            quantization_config=get_quantization_config(run.model),
            peft_config=get_peft_config(run.model),
        )
    if group_weights is not None:
        trainer.weigh_groups(group_weights)
    facts = train(trainer, prepared, "reward")
    return finish(trainer, prepared, "reward", facts)


if __name__ == "__main__":
    run_as_script(main)
