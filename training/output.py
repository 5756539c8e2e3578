"""The finished folder: written beside its final name, cleaned of all that belongs to one machine, then renamed."""

import json
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from accelerate import PartialState

from builder.errors import InputError
from builder.files import write_json
from builder.private_text import Kind, kinds_in

CHECKED_SUFFIXES = (".json", ".md", ".jsonl", ".yaml", ".txt")
# Vocabularies: their entries can look like paths.
UNCHECKED_FILES = ("tokenizer.json", "vocab.json", "merges.txt", "added_tokens.json")
RESUME_FILES = (
    "optimizer.pt",
    "scheduler.pt",
    "scaler.pt",
    "rng_state*.pth",
    "training_args.bin",
    "trainer_state.json",
)


def working_folder(output_dir: str | None, resume: bool) -> tuple[Path, Path]:
    """(final folder, folder to write in until all is done).

    Raises InputError if the final folder has content, or an interrupted run's checkpoints would be lost. Every process
    gets the same answer.
    """
    if not output_dir or output_dir == "trainer_output":
        raise InputError("output_dir is missing. Say where the trained model goes (--output_dir).")
    final = Path(output_dir).expanduser().resolve()
    working = final.parent / f".{final.name}.partial"
    if final.exists() and (not final.is_dir() or any(final.iterdir())):
        raise InputError(
            f"{output_dir} exists already. Nothing is overwritten: choose another output_dir, or remove it."
        )
    checkpoints = sorted(working.glob("checkpoint-*"))
    if checkpoints and not resume:
        raise InputError(
            f"An interrupted run left {checkpoints[-1].name} in {working.name}, beside {output_dir}. Continue it with "
            "--resume_from_checkpoint true, or remove that folder."
        )
    if resume and not checkpoints:
        raise InputError(
            f"resume_from_checkpoint is set, but there is no checkpoint of an interrupted run of {output_dir}. Remove "
            "the key."
        )
    state = PartialState()
    state.wait_for_everyone()  # nobody may look at the folder after the main process has begun to change it
    if state.is_local_main_process:
        if working.exists() and not resume:
            shutil.rmtree(working)
        working.mkdir(parents=True, exist_ok=True)
    state.wait_for_everyone()
    return final, working


def clean(working: Path, base_folder: Path, model_id: str, revision: str | None, keep_checkpoints: bool) -> None:
    """Remove what only resuming needs, and name the base model by its id wherever its folder was written."""
    for checkpoint in working.glob("checkpoint-*"):
        if not keep_checkpoints:
            shutil.rmtree(checkpoint)
    for name in ("reference", "best"):  # the reference's log-probabilities; the best weights of an early-stopped run
        shutil.rmtree(working / name, ignore_errors=True)
    for folder in (working, *working.glob("checkpoint-*")):
        for pattern in RESUME_FILES:
            for path in folder.glob(pattern):
                path.unlink()
        (folder / "README.md").unlink(missing_ok=True)  # TRL's and PEFT's card; ours is written afterwards
        if (folder / "adapter_config.json").is_file():
            config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
            config |= {"base_model_name_or_path": model_id, "revision": revision}
            write_json(folder / "adapter_config.json", config)
    for path in text_files(working):
        if path.suffix == ".json":
            content = json.loads(path.read_text(encoding="utf-8"))
            renamed = _replaced(content, str(base_folder), model_id)
            if renamed != content:
                write_json(path, renamed)


def private_defects(folder: Path, files: Iterable[Path], kinds: Sequence[Kind]) -> list[str]:
    """Which text files in `folder` hold text of these kinds, in words; empty if all is well. Weights and vocabularies are no text of
    anybody's, and long enough to look like anything.
    """
    return [
        f"{path.relative_to(folder)} holds {kind.name}"
        for path in files
        if is_text(path)
        for kind in kinds_in(path.read_text(encoding="utf-8"), kinds)
    ]


def publish(working: Path, final: Path) -> None:
    """The whole folder appears under its name at once."""
    if final.is_dir():
        final.rmdir()  # empty: checked at the start, and it fails otherwise
    os.replace(working, final)


def text_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if is_text(path))


def is_text(path: Path) -> bool:
    return path.suffix in CHECKED_SUFFIXES and path.name not in UNCHECKED_FILES


def _replaced(value: Any, old: str, new: str) -> Any:
    if isinstance(value, dict):
        return {key: _replaced(inner, old, new) for key, inner in value.items()}
    if isinstance(value, list):
        return [_replaced(inner, old, new) for inner in value]
    return new if value == old else value
