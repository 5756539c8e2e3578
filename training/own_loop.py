"""Settings of the methods that train with a loop of their own instead of TRL's: named as TRL's, read from recipes in the same way."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from accelerate import PartialState

from builder.errors import InputError
from builder.files import write_json
from training import preflight
from training.arguments import TrainingRun
from training.data import TRAIN_SPLIT
from training.evaluation import ScoreFunction, pair_candidates
from training.finish import evaluation_of, model_record, publish_model
from training.prepare import Prepared
from training.record import RECORD_FILE
from training.trained import load_scorer
from training.unread_keys import unread_keys

RELOAD_ROWS = 4
RELOAD_TOLERANCE = 1e-4


@dataclass
class OwnLoopConfig:
    """What every such method has; each adds its own in a subclass."""

    output_dir: str | None = field(default=None, metadata={"help": "The folder for the trained model."})
    max_length: int = field(
        default=1024, metadata={"help": "Tokens of prompt and answer; longer rows are dropped and counted."}
    )
    seed: int = field(default=0, metadata={"help": "Of initial weights and the order of rows."})
    use_cpu: bool = field(default=False, metadata={"help": "Do not use a GPU."})
    bf16: bool = field(default=False, metadata={"help": "Compute in bfloat16."})

    # Asked for by training.prepare; these methods are short and start anew.
    fp16: Any = field(default=False, init=False)
    resume_from_checkpoint: Any = field(default=None, init=False)


def check_own_loop(run: TrainingRun, method: str) -> None:
    """Raises InputError for keys that `method` does not read, and for more than one process."""
    unread = unread_keys(run, method)
    if unread:
        raise InputError(f"{method} does not read {', '.join(unread)}. Remove it from the recipe.")
    if PartialState().num_processes > 1:
        raise InputError(
            f"{method} trains in one process. Start it with accelerate_configs/cpu.yaml or single_gpu.yaml."
        )


def save_and_publish(prepared: Prepared, kind: str, facts: Mapping[str, Any], live: ScoreFunction) -> Path:
    """Record, reload and score what the method saved in the working folder, which then appears under its name.

    facts: `steps, seconds, trainable_parameters, parameters, train_loss` and what else the method found. live: the model as trained, to be
    compared with the one read back. Raises RuntimeError if they differ.
    """
    trained = preflight.share_in_words(facts["trainable_parameters"], facts["parameters"])
    preflight.say(f"[train] trained: {trained}; base in float32, pad {prepared.tokenizer.pad_token!r}")
    tokenizer = prepared.tokenizer
    facts = {
        "weights_dtype": ["float32"],
        "pad_token": tokenizer.pad_token,
        "eos_token": tokenizer.eos_token,
        **facts,
    }
    record = model_record(prepared, kind, facts, adapter=False)
    prepared.tokenizer.save_pretrained(str(prepared.working))
    write_json(prepared.working / RECORD_FILE, record)
    run = prepared.run
    scorer = load_scorer(
        prepared.working,
        prepared.data.profiles,
        prepared.prompts.labelled,
        str(prepared.base.folder),
        device="cpu" if run.config.use_cpu else None,
        batch_size=run.data.eval_batch_texts,
        cache=run.cache,
    )
    rows = prepared.rows[TRAIN_SPLIT].select(range(min(RELOAD_ROWS, len(prepared.rows[TRAIN_SPLIT]))))
    probe = [candidate for candidate in pair_candidates(rows) if scorer.usable(candidate)]
    pairs = zip(live(probe), scorer.score(probe), strict=True) if probe else ()
    difference = max((abs(trained - read) for trained, read in pairs), default=0.0)
    if not difference <= RELOAD_TOLERANCE:
        raise RuntimeError(
            f"The saved model does not score as the trained one: scores differ by up to {difference:.4g}. The folder is not published; "
            "please report this with your recipe."
        )
    preflight.say(f"[reload] the model read back from disk scores as before (largest difference {difference:.1e})")
    record["reload_difference"] = difference
    evaluation = evaluation_of(prepared, scorer.usable)
    return publish_model(prepared, record, evaluation, scorer.score(evaluation.candidates))
