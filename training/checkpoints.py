"""A checkpoint is looked at before the trainer resumes from it: whole, and nothing in it but tensors and plain values.

The trainer's files are pickles, and a pickle can run code when it is read. transformers 5.23 reads its own with `weights_only=True`
(trainer.py: `_load_optimizer_and_scheduler`, `_load_rng_state`, `_load_scaler`, `_load_from_checkpoint`), which refuses code, but in words
that advise to switch the refusal off. Where optimizer state is missing it goes on without it, and the run becomes another one. Checkpoints
of several files are unpickled without such a limit: FSDP's sharded ones by torch (distributed/checkpoint/filesystem.py: `read_metadata`),
and DeepSpeed's by DeepSpeed.
"""

import json
import pickle
from pathlib import Path

import torch
from transformers.trainer_pt_utils import safe_globals
from transformers.trainer_utils import get_last_checkpoint

from builder.errors import InputError

TRAINER_STATE = "trainer_state.json"
# Each kind of state, and the names under which it may lie there (the second is FSDP's).
NEEDED_STATE = {
    "optimizer": ("optimizer.pt", "optimizer.bin"),
    "learning rate schedule": ("scheduler.pt",),
    "random state": ("rng_state*.pth",),
}
PLAIN_STATE = ("optimizer.pt", "optimizer.bin", "scheduler.pt", "scaler.pt", "rng_state*.pth", "pytorch_model_fsdp.bin")
PICKLED_WEIGHTS = ("adapter_model.bin", "pytorch_model.bin", "pytorch_model-*.bin", "pytorch_model.bin.index.json")
SHARDED_FOLDERS = ("pytorch_model_fsdp_*", "optimizer_*", "global_step*")


def check_resuming(resume: bool | str | None, working: Path) -> None:
    """Nothing to do for None. True: the last checkpoint in `working`; text: that folder.

    Raises InputError where it is unfinished or damaged, or holds anything that is not read as tensors and plain values.
    """
    if resume in (None, False):
        return
    folder = get_last_checkpoint(str(working)) if resume is True else str(resume)
    if folder is None or not Path(folder).is_dir():
        raise InputError(
            f"resume_from_checkpoint is {resume!r}, but there is no such checkpoint folder. Give `true` for the last checkpoint of the "
            "interrupted run, or remove the key."
        )
    check_checkpoint(Path(folder))


def check_checkpoint(folder: Path) -> None:
    """As `check_resuming`, for one checkpoint-N folder. `training_args.bin` is left alone: nothing reads it."""
    _check_format(folder)
    _check_whole(folder)
    for path in _present(folder, PLAIN_STATE):
        _check_plain(path)


def _check_format(folder: Path) -> None:
    sharded = [path.name for path in _present(folder, SHARDED_FOLDERS) if path.is_dir()]
    if sharded:
        raise InputError(
            f"{folder.name} holds {sharded[0]}, a checkpoint in several pieces (FSDP with SHARDED_STATE_DICT, or DeepSpeed). Such pieces "
            "are unpickled without a limit, so whatever code they hold would run. Remove the folder and train from the start; to be able "
            "to resume, use cpu, single_gpu, multi_gpu or fsdp2 (FULL_STATE_DICT) from accelerate_configs/."
        )
    pickled = [path.name for path in _present(folder, PICKLED_WEIGHTS)]
    if pickled:
        raise InputError(
            f"{folder.name} holds {pickled[0]}: weights as a pickle. Weights are read from safetensors only, and this project writes no "
            "others. Remove the folder; resuming then takes the checkpoint before it."
        )


def _check_whole(folder: Path) -> None:
    missing = [what for what, names in NEEDED_STATE.items() if not _present(folder, names)]
    if missing:
        raise InputError(
            f"{folder.name} holds no {' and no '.join(missing)} (a run that was stopped while writing it, or save_only_model: true), so "
            "training could not go on as it was. Remove the folder; resuming then takes the checkpoint before it."
        )
    try:
        json.loads((folder / TRAINER_STATE).read_text(encoding="utf-8"))["global_step"]
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(
            f"{folder.name} is unfinished: {TRAINER_STATE}, which is written last, is missing or damaged. Remove the folder; resuming then "
            "takes the checkpoint before it."
        ) from None


def _check_plain(path: Path) -> None:
    try:
        with safe_globals():  # the trainer's own list: numpy's arrays, for the random state
            # mmap: the tensors' bytes stay on disk, so that a large optimizer state costs nothing here.
            torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        raise InputError(
            f"{path.parent.name}/{path.name} is not read: it is damaged, or holds more than tensors and plain values, and then reading it "
            f"could run code ({_reason(error)}). Remove {path.parent.name}; resuming then takes the checkpoint before it. If the "
            "checkpoint is not your own, do not use it."
        ) from None


def _reason(error: Exception) -> str:
    """Torch's own words without its advice to read the file all the same."""
    lines = [line.strip() for line in str(error).splitlines() if "GLOBAL" in line or "Unsupported" in line]
    return next(iter(lines), type(error).__name__)[:160]


def _present(folder: Path, patterns: tuple[str, ...]) -> list[Path]:
    return sorted(path for pattern in patterns for path in folder.glob(pattern))
