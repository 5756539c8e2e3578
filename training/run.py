"""What a DPO run and a reward run have in common: everything before the trainer, and everything after it."""

import importlib.metadata
import json
import os
import platform
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from datasets import Dataset

from builder.errors import InputError
from builder.files import write_json
from builder.private_text import machine_places
from training import output, preflight, scoring
from training.arguments import TrainingRun
from training.base_model import BaseModel, declared_licence, load_tokenizer, resolve_base_model
from training.conditioning import TRAINING_CONDITIONS, chat_template_hash, prompt_messages, template_hash
from training.data import TEST_SPLITS, TRAIN_SPLIT, condition_rows, load_preference_data, rows_hash, trainer_rows
from training.evaluation import plan_evaluation
from training.metrics import control_metrics, split_figures
from training.model_card import model_card
from training.trainers import answers_only_head

RELOAD_ROWS = 4
RELOAD_TOLERANCE = {"float32": 1e-3, "bfloat16": 0.25, "float16": 0.05}  # absolute, in reward units or nats
VERSIONED_PACKAGES = ("trl", "transformers", "peft", "accelerate", "datasets", "torch")


@dataclass(frozen=True)
class Prepared:
    """All that a trainer needs. `rows`: the three splits, conditioned and cut to the rows that both trainers keep
    whole.
    """

    run: TrainingRun
    final: Path
    working: Path
    base: BaseModel
    tokenizer: Any
    rows: dict[str, Dataset]
    reports: dict[str, preflight.SplitReport]
    profiles: dict[str, str]
    identity: dict[str, Any]


def prepare(run: TrainingRun, kind: str) -> Prepared:
    """Everything that can be wrong is found here, before a model is loaded. Raises InputError."""
    _no_telemetry()
    _check_config(run, kind)
    base = resolve_base_model(run.model.model_name_or_path, run.model.model_revision, run.data.base_model_id)
    tokenizer = load_tokenizer(base.folder, for_reward=kind == "reward")
    preflight.check_chat_template(tokenizer)
    assert run.data.dataset is not None
    data = load_preference_data(run.data.dataset, run.data.dataset_configs, run.data.dataset_revision)
    max_length = run.config.max_length
    rows, reports = {}, {}
    for split, all_rows in data.splits.items():
        conditioned = condition_rows(all_rows, run.data.persona)
        preflight.check_profile_lengths(conditioned, tokenizer, max_length)
        rows[split], reports[split] = preflight.keep_rows(
            conditioned, split, tokenizer, max_length, run.data.max_dropped_share
        )
    if len(rows[TRAIN_SPLIT]) == 0:
        raise InputError("No train row is left after the length checks above. Raise max_length.")
    preflight.print_sample(rows[TRAIN_SPLIT], tokenizer)
    final, working = output.working_folder(run.config.output_dir, bool(run.config.resume_from_checkpoint))
    run.config.output_dir = str(working)
    run.config.model_init_kwargs = {
        **(run.config.model_init_kwargs or {}),
        "dtype": run.model.dtype,
        "attn_implementation": run.model.attn_implementation,
        "use_safetensors": True,
    }
    return Prepared(run, final, working, base, tokenizer, rows, reports, data.profiles, data.identity)


def trainer_datasets(prepared: Prepared) -> dict[str, Dataset]:
    return {split: trainer_rows(rows) for split, rows in prepared.rows.items()}


def train(trainer: Any, prepared: Prepared) -> dict[str, Any]:
    """Run the trainer. Returns model facts, steps, seconds and the last training loss."""
    facts = preflight.print_model(trainer.model, prepared.tokenizer)
    trainer.test_splits = {
        split: trainer_rows(rows) for split, rows in prepared.rows.items() if split in TEST_SPLITS and len(rows)
    }
    started = time.monotonic()
    with answers_only_head(trainer.accelerator.device):
        result = trainer.train(resume_from_checkpoint=_resume(prepared.run.config.resume_from_checkpoint))
    seconds = time.monotonic() - started
    steps = trainer.state.global_step
    preflight.say(f"[train] {steps} steps in {seconds:.0f} s ({seconds / max(steps, 1):.2f} s a step)")
    return {
        **facts,
        "steps": steps,
        "seconds": round(seconds, 1),
        **_rows_of(trainer),
        "train_loss": result.training_loss,
        "history": trainer.state.log_history,
    }


def finish(
    trainer: Any, prepared: Prepared, kind: str, facts: dict[str, Any], scores_of: Callable[..., list[float]]
) -> Path:
    """Save, read back from disk, score the test splits with what was read back, and let the folder appear.

    `scores_of(model, items)` gives a score for each (messages, text). Raises RuntimeError if the saved model scores other than the
    trained one, or a file names a path of this machine.
    """
    state = PartialState()
    run, working = prepared.run, prepared.working
    record = _record(prepared, kind, facts, adapter=hasattr(trainer.model, "peft_config"))
    sharded = trainer.is_fsdp_enabled or (
        trainer.args.deepspeed_plugin is not None and trainer.args.deepspeed_plugin.zero_stage == 3
    )
    probe = pair_items(prepared.rows[TRAIN_SPLIT].select(range(min(RELOAD_ROWS, len(prepared.rows[TRAIN_SPLIT])))))
    model = trainer.accelerator.unwrap_model(trainer.model)
    context = getattr(model.config, "max_position_embeddings", None)
    live = None
    if state.is_main_process and not sharded:
        model.eval()
        live = scores_of(
            scoring.ScoringModel(model, prepared.tokenizer, kind, record.get("beta", 0.0), _frozen(trainer)), probe
        )
    trainer.save_model(str(working))
    del model
    dtype = run.model.dtype if run.model.dtype in RELOAD_TOLERANCE else "float32"
    device = str(trainer.accelerator.device)
    _release(trainer)
    if state.is_main_process:
        prepared.tokenizer.save_pretrained(str(working))
        if run.data.merge_adapter:
            _merge(prepared, kind, record, dtype)
            record |= {"adapter": False, "merged": True}
        write_json(working / scoring.RECORD_FILE, record)
    state.wait_for_everyone()

    # Each process that sees the folder scores its share. The rows are those of the saved model, so the figures are of
    # what is kept.
    sees_folder = (working / scoring.RECORD_FILE).is_file()
    workers = [rank for rank, sees in gather_object([(state.process_index, sees_folder)]) if sees]
    reloaded = _reload(prepared, kind, record, device, dtype) if sees_folder else None
    evaluation = plan_evaluation(
        {split: list(prepared.rows[split]) for split in TEST_SPLITS},
        prepared.profiles,
        run.data.eval_max_rows,
        run.config.seed,
        prepared.tokenizer,
        context,
    )
    results: list[tuple[int, list[float]]] = []
    if reloaded is not None:
        # Neighbouring items share a prompt, so each process takes a run of them.
        place, size = workers.index(state.process_index), len(evaluation.items)
        share = evaluation.items[size * place // len(workers) : size * (place + 1) // len(workers)]
        results = [(place, scores_of(reloaded, share))]
    results = gather_object(results)
    if state.is_main_process:
        if live is not None:
            record["reload_difference"] = _check_reload(live, scores_of(reloaded, probe), dtype)
        scores = [score for _, part in sorted(results) for score in part]
        margins = evaluation.margins(scores)
        record["results"] = control_metrics(evaluation.rows, margins, run.config.seed)
        record["metrics"] = split_figures(evaluation.rows, margins[TRAINING_CONDITIONS[run.data.persona]])
        record["evaluation"] = {
            "max_rows_a_split": run.data.eval_max_rows,
            "rows": dict(Counter(row["split"] for row in evaluation.rows)),
            "left_out_too_long": evaluation.left_out,
            "texts_scored": len(evaluation.items),
        }
        _print_metrics(record["results"])
        base = prepared.base
        output.clean(working, base.folder, base.model_id, base.revision, run.data.keep_checkpoints)
        write_json(working / scoring.RECORD_FILE, record)
        (working / "README.md").write_text(model_card(record), encoding="utf-8")
        places = machine_places({"base model": base.folder, "output folder": prepared.final, "working copy": working})
        defects = output.private_defects(working, output.text_files(working), places)
        if defects:
            raise RuntimeError(
                f"The finished model names paths of this machine: {'; '.join(defects)}. This is a bug; please report "
                "it."
            )
        output.publish(working, prepared.final)
        print(f"[done] {kind} model in {prepared.final}", flush=True)
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


def _no_telemetry() -> None:
    """TRL's trainers report their use to the Hub unless told not to. The constant is read at import, hence both."""
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY = True


def _check_config(run: TrainingRun, kind: str) -> None:
    config, model = run.config, run.model
    if config.trust_remote_code:
        raise InputError(
            "trust_remote_code runs code from the model's repository. Use a model whose code is part of transformers."
        )
    if config.push_to_hub:
        raise InputError(
            "push_to_hub would upload the folder before it is complete. Use persona train ... --push org/name, which uploads the finished "
            "one."
        )
    if config.load_best_model_at_end:
        raise InputError(
            "load_best_model_at_end would choose a checkpoint by a test split. Train for a fixed number of steps."
        )
    if config.max_length is None:
        raise InputError("max_length is null, so that no length could be checked. Set it to a number of tokens.")
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
    if not (config.use_cpu or torch.cuda.is_available()) and (config.bf16 or config.fp16):
        raise InputError("bf16 or fp16 is on, but there is no GPU. Set use_cpu: true and bf16: false.")


def _resume(value: Any) -> bool | str | None:
    """`true` from YAML or the command line means the last checkpoint of the interrupted run."""
    if value in (None, False, "false", "False"):
        return None
    return True if value in (True, "true", "True") else str(value)


def _frozen(trainer: Any) -> Any:
    """The reference model of a full fine-tuning run; None with an adapter, where it is the model with its adapter
    disabled.
    """
    reference = getattr(trainer, "ref_model", None)
    return None if reference is None else trainer.accelerator.unwrap_model(reference).eval()


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
        return scoring._load_reward(prepared.working, record, base, device, dtype)
    return scoring._load_dpo(prepared.working, record, prepared.base, device, dtype)


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


def _record(prepared: Prepared, kind: str, facts: dict[str, Any], adapter: bool) -> dict[str, Any]:
    run = prepared.run
    recipe = {
        # Paths of this machine, and a key that TRL would take.
        key: value
        for key, value in run.given.items()
        if key not in ("output_dir", "dataset", "resume_from_checkpoint", "hub_token")
    }
    if "model_name_or_path" in recipe:
        recipe["model_name_or_path"] = "embedded" if prepared.base.given == "embedded" else prepared.base.model_id
    packages = {name: importlib.metadata.version(name) for name in VERSIONED_PACKAGES}
    record: dict[str, Any] = {
        "kind": kind,
        "persona": run.data.persona,
        "adapter": adapter,
        "merged": False,
        "recipe": json.loads(json.dumps(recipe)),  # the libraries' enumerations as the words that they stand for
        "base_model": prepared.base.declared(),
        "base_licence": declared_licence(prepared.base),
        "template_hash": template_hash(),
        "chat_template_hash": chat_template_hash(prepared.tokenizer),
        "max_length": run.config.max_length,
        "data": {
            **prepared.identity,
            "configs": list(run.data.dataset_configs),
            "splits": {split: asdict(report) for split, report in prepared.reports.items()},
            "train_rows_sha256": rows_hash(prepared.rows[TRAIN_SPLIT]),
        },
        "run": facts,
        "evaluation": {},
        "results": [],
        "metrics": {},
        "versions": {"python": platform.python_version(), **packages},
    }
    if kind == "dpo":
        record["beta"] = run.config.beta
    return record


def _print_metrics(metrics: list[dict[str, Any]]) -> None:
    for entry in metrics:
        won = ", ".join(
            f"{condition} {outcome['wins']}" + (f" + {outcome['ties']} tied" if outcome["ties"] else "")
            for condition, outcome in entry["conditions"].items()
        )
        preflight.say(
            f"[eval] {entry['config']}, {entry['cell']}: of {entry['rows']} pairs won by persona shown: {won}"
        )


def pair_items(rows: Any) -> list[scoring.Item]:
    """Two items a row, chosen then rejected. The rows are conditioned already, so their own prompt is shown."""
    items: list[scoring.Item] = []
    for row in rows:
        messages = prompt_messages("true", row, {})
        items += [(messages, row[side][0]["content"]) for side in ("chosen", "rejected")]
    return items
