"""What a DPO run and a reward run have in common: TRL's trainer, and what was trained saved, read back and scored."""

import contextlib
import importlib.util
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from datasets import Dataset
from trl import get_peft_config, get_quantization_config

from builder.errors import InputError
from builder.files import write_json
from training import preflight, scoring
from training.arguments import TrainingRun
from training.base_model import context_of
from training.checkpoints import check_resuming
from training.data import TRAIN_SPLIT, trainer_rows
from training.evaluation import Candidate, pair_candidates
from training.finish import evaluation_of, model_record, publish_model
from training.foreign_code import check_loading_keys
from training.monitor import Monitor, check_monitoring, evaluated_splits, keep_logs_outside, sharded
from training.prepare import Prepared, prepare
from training.record import RECORD_FILE
from training.robust import check_robust, with_groups
from training.shared_prompt import reason_against
from training.time_estimate import TimeEstimate
from training.trained import dpo_scores, implicit_reward_facts, reward_scores, usable_by
from training.trainers import answers_only_head
from training.unread_keys import unread_keys

RELOAD_ROWS = 4
RELOAD_TOLERANCE = {"float32": 1e-3, "bfloat16": 0.25, "float16": 0.05}  # absolute, in reward units or nats


def prepare_trl(run: TrainingRun, kind: str) -> Prepared:
    """Everything that can be wrong is found here, before a model is loaded. kind: `dpo` or `reward`. Raises InputError."""
    check_monitoring(run)
    check_robust(run)
    check_dropout(run)
    _check_config(run, kind)
    prepared = prepare(run, for_reward=kind == "reward")
    check_resuming(_resume(run.config.resume_from_checkpoint), prepared.working)
    run.config.model_init_kwargs = {
        **(run.config.model_init_kwargs or {}),
        "dtype": run.model.dtype,
        "attn_implementation": run.model.attn_implementation,
        "use_safetensors": True,
        "trust_remote_code": False,
    }
    return prepared


def new_trainer(trainer_class: Any, prepared: Prepared, datasets: Mapping[str, Dataset]) -> Any:
    """TRL's trainer of the run, with group weights where they are asked for. datasets: of `trainer_datasets`. Raises InputError."""
    run = prepared.run
    train_rows, group_weights = with_groups(prepared, datasets[TRAIN_SPLIT])
    with building_trainer():
        trainer = trainer_class(
            model=str(prepared.base.folder),
            args=run.config,
            train_dataset=train_rows,
            eval_dataset=evaluated_splits(run, {**datasets, TRAIN_SPLIT: train_rows}),
            processing_class=prepared.tokenizer,
            quantization_config=get_quantization_config(run.model),
            peft_config=get_peft_config(run.model),
        )
    if group_weights is not None:
        trainer.weigh_groups(group_weights)
    return trainer


@contextlib.contextmanager
def building_trainer() -> Iterator[None]:
    """Around a trainer's construction, where TRL and PEFT look at the recipe themselves: their complaint as an InputError."""
    try:
        yield
    except (ValueError, NotImplementedError) as error:
        raise InputError(
            f"TRL or PEFT cannot make a trainer of this recipe: {error} Mend the key that this names, or start from a packaged recipe."
        ) from error


def check_dropout(run: TrainingRun) -> None:
    """Raises InputError for a lora_dropout that TRL would switch off; where none is asked for, the record says that there is none."""
    if not run.config.disable_dropout:
        return
    if run.given.get("lora_dropout"):
        raise InputError(
            f"lora_dropout is {run.model.lora_dropout}, but disable_dropout is true (TRL's default), so that it would do nothing. Set "
            "lora_dropout: 0.0, or disable_dropout: false to train with it."
        )
    run.model.lora_dropout = 0.0


def trainer_datasets(prepared: Prepared) -> dict[str, Dataset]:
    return {split: trainer_rows(rows) for split, rows in prepared.rows.items()}


def train(trainer: Any, prepared: Prepared, kind: str) -> dict[str, Any]:
    """Run the trainer. Returns model facts, steps, seconds and the last training loss."""
    facts = preflight.print_model(trainer.model, prepared.tokenizer)
    against = reason_against(trainer, prepared.run.data.share_prompt)
    trainer.shares_prompt = against is None
    preflight.say(f"[preflight] a pair's prompt is computed {'once' if against is None else f'twice ({against})'}")
    trainer.monitor = Monitor(trainer, prepared, kind)
    estimate = TimeEstimate(trainer, prepared)
    trainer.add_callback(trainer.monitor)
    trainer.callback_handler.callbacks.insert(0, estimate)  # before the progress bar is drawn
    keep_logs_outside(trainer, prepared)
    started = time.monotonic()
    with answers_only_head(trainer.accelerator.device):
        result = trainer.train(resume_from_checkpoint=_resume(prepared.run.config.resume_from_checkpoint))
    seconds = time.monotonic() - started - estimate.spent
    steps = trainer.state.global_step
    preflight.say(f"[train] {steps} steps in {seconds:.0f} s ({seconds / max(steps, 1):.2f} s a step)")
    facts |= trainer.monitor.conclude()
    if trainer.group_weights is not None:
        facts["groups"] = {"attribute": prepared.run.data.robust_groups, **trainer.group_weights.record()}
    return {
        **facts,
        "steps": steps,
        "processes": trainer.accelerator.num_processes,
        "distributed_type": str(trainer.accelerator.distributed_type.value),
        "estimated": estimate.figures,
        "seconds": round(seconds, 1),
        **_rows_of(trainer),
        "train_loss": result.training_loss,
        "history": trainer.state.log_history,
    }


def save_and_publish(trainer: Any, prepared: Prepared, kind: str, facts: dict[str, Any]) -> Path:
    """Save, read back from disk, score the test splits with what was read back, and let the folder appear.

    Raises RuntimeError if the saved model scores other than the trained one, or a file names a path of this machine.
    """
    state = PartialState()
    run, working = prepared.run, prepared.working
    record = model_record(prepared, kind, facts, adapter=hasattr(trainer.model, "peft_config"))
    quantization = get_quantization_config(run.model)
    record["quantization"] = quantization.to_dict() if quantization else None
    if kind == "dpo":
        record |= implicit_reward_facts(run)
    probe = pair_candidates(prepared.rows[TRAIN_SPLIT].select(range(min(RELOAD_ROWS, len(prepared.rows[TRAIN_SPLIT])))))
    # Without accelerate's autocast: the model is compared with one that is read back in its own precision.
    model = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
    context = context_of(model)

    def scores_of(loaded: scoring.ScoringModel, candidates: Sequence[Candidate]) -> list[float]:
        score = reward_scores if kind == "reward" else dpo_scores
        return score(loaded, prepared.evaluation_prompts, candidates, run.data.eval_batch_texts, run.cache)

    dtype = run.loading_dtype
    live = None
    if state.is_main_process and not sharded(trainer):
        model.eval()
        live = scores_of(
            scoring.ScoringModel(
                model,
                prepared.tokenizer,
                kind,
                record.get("beta", 0.0),
                _reference_of(trainer, prepared, kind, dtype),
                record,
            ),
            probe,
        )
    trainer.save_model(str(working))
    del model
    device = str(trainer.accelerator.device)
    _release(trainer)
    # transformers leaves a head that the base lacks without weights in all processes but the first, for FSDP to send them there. What
    # is loaded from here on is not divided any more.
    os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"
    if state.is_main_process:
        prepared.tokenizer.save_pretrained(str(working))
        if run.data.merge_adapter:
            _merge(prepared, kind, record, dtype)
            record |= {"adapter": False, "merged": True}
        write_json(working / RECORD_FILE, record)
    state.wait_for_everyone()

    # Each process that sees the folder scores its share. The rows are those of the saved model, so the figures are of
    # what is kept.
    sees_folder = (working / RECORD_FILE).is_file()
    workers = [rank for rank, sees in gather_object([(state.process_index, sees_folder)]) if sees]
    reloaded = _reload(prepared, kind, record, device, dtype) if sees_folder else None
    evaluation = evaluation_of(prepared, usable_by(prepared.tokenizer, prepared.evaluation_prompts, context))
    results: list[tuple[int, list[float]]] = []
    if reloaded is not None:
        # Neighbouring candidates share a prompt, so each process takes a run of them.
        place, size = workers.index(state.process_index), len(evaluation.candidates)
        share = evaluation.candidates[size * place // len(workers) : size * (place + 1) // len(workers)]
        results = [(place, scores_of(reloaded, share))]
    results = gather_object(results)
    if state.is_main_process:
        if live is not None and reloaded is not None:
            record["reload_difference"] = _check_reload(live, scores_of(reloaded, probe), dtype)
        publish_model(prepared, record, evaluation, [score for _, part in sorted(results) for score in part])
    state.wait_for_everyone()
    return prepared.final


def _rows_of(trainer: Any) -> dict[str, int]:
    """How many rows the trainer was left with after its own tokenising, and how many of them it cuts."""
    rows = trainer.train_dataset
    sides = rows.select_columns(
        [name for name in ("prompt_ids", "chosen_ids", "rejected_ids") if name in rows.column_names]
    )
    limit = trainer.args.max_length
    cut = sum(
        len(row.get("prompt_ids", ())) + max(len(row["chosen_ids"]), len(row["rejected_ids"])) > limit for row in sides
    )
    return {"trained_rows": len(rows), "truncated_rows": cut}


def _check_config(run: TrainingRun, kind: str) -> None:
    config, model = run.config, run.model
    unread = unread_keys(run, kind)
    if unread:
        raise InputError(f"{kind} does not read {', '.join(unread)}. Remove it from the recipe.")
    for name in ("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps"):
        if getattr(config, name) < 1:
            raise InputError(f"{name} is {getattr(config, name)}; give at least 1.")
    if not 0 < config.learning_rate < math.inf:
        raise InputError(f"learning_rate is {config.learning_rate}; give a number above 0.")
    if config.max_steps <= 0 and not config.num_train_epochs > 0:
        raise InputError(
            f"num_train_epochs is {config.num_train_epochs} and max_steps {config.max_steps}, so that nothing would be trained. Set one of "
            "them above 0."
        )
    if config.trust_remote_code:
        raise InputError(
            "trust_remote_code runs code from the model's repository. Use a model whose code is part of transformers."
        )
    check_loading_keys(config.model_init_kwargs, model.attn_implementation)
    if config.push_to_hub:
        raise InputError(
            "push_to_hub would upload the folder before it is complete. Use persona train ... --push org/name, which uploads the finished "
            "one."
        )
    if config.load_best_model_at_end:
        raise InputError(
            "load_best_model_at_end would choose a checkpoint by a test split. Give early_stopping_metric and validation_share instead."
        )
    wanted = "SEQ_CLS" if kind == "reward" else "CAUSAL_LM"
    if model.use_peft and model.lora_task_type != wanted:
        raise InputError(
            f"lora_task_type is {model.lora_task_type!r}, but a {kind} model with LoRA needs {wanted!r} (the other "
            "task type's adapter "
            f"crashes on this kind of model). Set lora_task_type: {wanted}."
        )
    if run.data.merge_adapter and not model.use_peft:
        raise InputError("merge_adapter merges an adapter, and use_peft is false. Remove merge_adapter.")
    if run.data.merge_adapter and (model.load_in_4bit or model.load_in_8bit):
        raise InputError(
            "merge_adapter would round the adapter into quantised weights, or join it to weights that it was not trained on. Keep the "
            "adapter, or train without load_in_4bit and load_in_8bit."
        )
    if (model.load_in_4bit or model.load_in_8bit) and not model.use_peft:
        raise InputError(
            "load_in_4bit and load_in_8bit need use_peft: true. Quantised weights cannot be trained themselves."
        )
    if _needs_bitsandbytes(run) and importlib.util.find_spec("bitsandbytes") is None:
        raise InputError(
            "load_in_4bit, load_in_8bit and the optimizers in 8 bits or paged are bitsandbytes', which is not installed. Run "
            "`pip install bitsandbytes` where the GPU is, or take a recipe without them (dpo, reward) and optim: adamw_torch_fused."
        )
    _check_processes(config.use_cpu)


def _needs_bitsandbytes(run: TrainingRun) -> bool:
    optimizer = str(getattr(run.config.optim, "value", run.config.optim))
    of_theirs = "bnb" in optimizer or optimizer == "adamw_8bit" or optimizer.startswith("paged_")
    return run.model.load_in_4bit or run.model.load_in_8bit or of_theirs


def _check_processes(use_cpu: bool) -> None:
    """accelerate changes both of these without a word: processes that do not find one another, and FSDP on a processor."""
    started, joined = int(os.environ.get("WORLD_SIZE", "1")), PartialState().num_processes
    if started != joined:
        raise InputError(
            f"{started} processes were started, but there is no GPU and use_cpu is false, so that each would train for itself and write "
            "the same folder. Set use_cpu: true, with accelerate_configs/multi_cpu.yaml."
        )
    if use_cpu and os.environ.get("ACCELERATE_USE_FSDP") == "true":
        raise InputError(
            "use_cpu is true, and there accelerate does not divide a model (FSDP): every process would hold a whole copy. Take "
            "accelerate_configs/multi_cpu.yaml for processors, or use_cpu: false for GPUs."
        )


def _resume(value: Any) -> bool | str | None:
    """`true` from YAML or the command line means the last checkpoint of the interrupted run."""
    if value in (None, False, "false", "False"):
        return None
    return True if value in (True, "true", "True") else str(value)


def _reference_of(trainer: Any, prepared: Prepared, kind: str, dtype: str) -> Any:
    """The reference model of a full fine-tuning run; None for a reward model, and with an adapter, where it is the model without it."""
    if kind == "reward" or hasattr(trainer.model, "peft_config"):
        return None
    if trainer.ref_model is not None:
        return trainer.accelerator.unwrap_model(trainer.ref_model).eval()
    # Its log-probabilities were computed before training, and no copy was kept.
    return scoring.load_base_model(str(prepared.base.folder), str(trainer.accelerator.device), dtype).model


def _release(trainer: Any) -> None:
    """Give back the memory of model and optimizer: the saved model is read next."""
    trainer.accelerator.free_memory()
    trainer.model = trainer.model_wrapped = trainer.optimizer = trainer.lr_scheduler = None
    if hasattr(trainer, "ref_model"):
        trainer.ref_model = None
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _merge(prepared: Prepared, kind: str, record: dict[str, Any], dtype: str) -> None:
    """The saved adapter on the base's own weights, saved as one model in its place."""
    merged = _reload(prepared, kind, record, "cpu", dtype).model.merge_and_unload()
    for path in prepared.working.glob("adapter_*"):
        path.unlink()
    merged.save_pretrained(str(prepared.working))


def _reload(prepared: Prepared, kind: str, record: dict[str, Any], device: str, dtype: str) -> scoring.ScoringModel:
    if kind == "reward":
        base = prepared.base if record["adapter"] else None
        return scoring.reward_model_on(prepared.working, record, base, device, dtype)
    return scoring.dpo_model_on(prepared.working, record, prepared.base, device, dtype)


def _check_reload(live: list[float], reloaded: list[float], dtype: str) -> float:
    difference = max(abs(a - b) for a, b in zip(live, reloaded, strict=True))
    if not difference <= RELOAD_TOLERANCE[dtype]:
        raise RuntimeError(
            f"The saved model does not score as the trained one: scores differ by up to {difference:.4g} on "
            f"{len(live)} texts "
            f"(trained {live}, saved {reloaded}). The folder is not published; please report this with your recipe."
        )
    preflight.say(
        f"[reload] the model read back from disk scores {len(live)} texts as before (largest difference "
        f"{difference:.1e})"
    )
    return difference
