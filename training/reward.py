"""Persona-conditioned reward model (Bradley-Terry).

accelerate launch --config_file accelerate_configs/cpu.yaml -m training.reward --config demo_reward --dataset FOLDER --output_dir OUT
"""

from pathlib import Path
from typing import Any

from trl import RewardConfig, get_peft_config, get_quantization_config

from training.arguments import parse_arguments
from training.run import finish, pair_items, prepare, train, trainer_datasets
from training.run_as_script import run_as_script
from training.scoring import ScoringModel, score_rewards
from training.trainers import NamedSplitsRewardTrainer


def main(argv: list[str] | None = None) -> Path:
    """Train, check and write a reward model; returns its folder. `argv`: arguments as on the command line.

    Raises InputError for anything wrong with recipe, data or base model, before training starts where that is possible.
    """
    run = parse_arguments(argv, RewardConfig)
    prepared = prepare(run, "reward")
    datasets = trainer_datasets(prepared)
    trainer = NamedSplitsRewardTrainer(
        model=str(prepared.base.folder),
        args=run.config,
        train_dataset=datasets["train"],
        # Never a dict: the two test splits would share one name in the log. It is NamedSplits that evaluates both.
        eval_dataset=datasets["seen_test"] if run.config.eval_strategy != "no" else None,
        processing_class=prepared.tokenizer,
        quantization_config=get_quantization_config(run.model),
        peft_config=get_peft_config(run.model),
    )
    facts = train(trainer, prepared)

    def margins_of(model: ScoringModel, rows: Any) -> list[float]:
        rewards = score_rewards(model, pair_items(rows), run.data.eval_batch_texts)
        return [chosen - rejected for chosen, rejected in zip(rewards[::2], rewards[1::2], strict=True)]

    return finish(trainer, prepared, "reward", facts, margins_of)


if __name__ == "__main__":
    run_as_script(main)
