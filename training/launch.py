"""Start a training script through `accelerate launch`, once: a finished model of the same inputs is kept.

The scripts themselves (`training.dpo`, `training.reward` and so on) do not know about this; anyone may start them with accelerate
directly.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import yaml

from builder.errors import InputError
from builder.files import make_folder, read_json, sha256_file, write_json
from builder.hub.client import PREFIX, commit_of, parse_address
from builder.strict_yaml import parse_yaml
from training.kinds import METHODS, TRL_KINDS
from training.packaged import find_accelerate, find_recipe
from training.record import RECORD_FILE
from training.run_as_script import COMPLAINT_VARIABLE

LAUNCH_FILE = "launch.json"
LOCK_SECONDS = 5.0  # that a killed process may need to be gone
LAST_LINES = 12  # of a failed run's log, in the message


def train(
    method: str,
    dataset: str,
    output: Path,
    recipe: str | None = None,
    accelerate_config: str = "cpu",
    arguments: Sequence[str] = (),
    merge: bool = False,
    push_to: str | None = None,
    private: bool = False,
) -> tuple[bool, list[str]]:
    """Train into `output`; False if it already holds the model of exactly these inputs. And what was pushed, in sentences.

    dataset: a published folder, or hub:org/name@v1.0.0. recipe: a file, or a packaged recipe's name (default: `demo_dpo` and so on, the
    demo of the method). accelerate_config: likewise. arguments: passed on to the script (`--key value`), which checks them. merge: save the
    adapter merged into the base's weights. push_to: a repository on the Hub, `org/name`, for the finished folder, also for one that was
    finished before. A run that was interrupted goes on from its last checkpoint, if it wrote any.

    Raises InputError for unknown names, for another model or another run's checkpoints at `output`, where the script found its
    input at fault, and for what cannot be pushed; RuntimeError if the script failed otherwise.
    """
    if private and push_to is None:
        raise InputError("--private is for --push org/name, which was not given. Leave it out.")
    if method in METHODS and method not in TRL_KINDS:
        _refuse_hub_options(method, merge, push_to, arguments)
    if merge:
        arguments = [*arguments, "--merge_adapter", "true"]
    if push_to is None:
        return run_once(method, dataset, output, recipe, accelerate_config, arguments), []
    from training.push import push, refuse_before_training

    adapter = saves_adapter(find_recipe(method, recipe), arguments)
    terms = None if private else terms_of(dataset)
    remark = refuse_before_training(push_to, private, method, adapter, terms)
    if remark:
        print(remark, flush=True)
    trained = run_once(method, dataset, output, recipe, accelerate_config, arguments)
    return trained, push(output, push_to, private).said


def run_once(
    method: str,
    dataset: str,
    output: Path,
    recipe: str | None,
    accelerate_config: str,
    arguments: Sequence[str],
    log: Path | None = None,
) -> bool:
    """The training itself; False where `output` holds the model of exactly these inputs. log: where its output goes, if not here."""
    recipe_file = find_recipe(method, recipe)
    accelerate_file = find_accelerate(accelerate_config)
    inputs = _inputs(method, dataset, recipe_file, accelerate_file, arguments)
    with _held(output) as lock:
        return _run_held(method, dataset, output, recipe_file, accelerate_file, arguments, inputs, lock, log)


def _run_held(
    method: str,
    dataset: str,
    output: Path,
    recipe_file: Path,
    accelerate_file: Path,
    arguments: Sequence[str],
    inputs: dict[str, str],
    lock: int,
    log: Path | None,
) -> bool:
    partial = output.resolve().parent / f".{output.name}.partial"
    begun = output.resolve().parent / f".{output.name}.{LAUNCH_FILE}"
    if begun.is_file() and read_json(begun) == inputs and (output / RECORD_FILE).is_file():
        # Killed between the model's appearance and this move.
        begun.replace(output / LAUNCH_FILE)
    if (output / LAUNCH_FILE).is_file():
        if read_json(output / LAUNCH_FILE) == inputs:
            return False
        raise InputError(
            f"{output} holds a model of another dataset, recipe or arguments. Nothing was changed; give another output folder."
        )
    resume = any(partial.glob("checkpoint-*"))
    if resume and (not begun.is_file() or read_json(begun) != inputs):
        raise InputError(
            f"{partial} holds checkpoints of a run with another dataset, recipe or arguments. Remove that folder, or give another "
            "output folder."
        )
    write_json(begun, inputs)
    command = [
        *(sys.executable, "-m", "accelerate.commands.launch", "--quiet", "--config_file", str(accelerate_file)),
        *("-m", f"training.{method}", "--config", str(recipe_file), "--dataset", dataset, "--output_dir", str(output)),
        *arguments,
    ]
    if resume and "--resume_from_checkpoint" not in arguments:
        command += ["--resume_from_checkpoint", "true"]
    try:
        run_script(command, log, lock)
    except InputError:
        begun.unlink(missing_ok=True)
        raise
    begun.replace(output / LAUNCH_FILE)
    return True


def run_module(module: str, arguments: Sequence[str], log: Path | None = None) -> None:
    """Run `python -m module` in a process of its own; errors as in `run_script`."""
    run_script([sys.executable, "-m", module, *arguments], log)


def run_script(command: Sequence[str], log: Path | None = None, lock: int | None = None) -> None:
    """Run one of our scripts in a process of its own. lock: a descriptor that it holds for as long as it lives.

    Raises InputError with its message where it found its input at fault, RuntimeError where it failed otherwise.
    """
    with contextlib.ExitStack() as opened:
        folder = opened.enter_context(tempfile.TemporaryDirectory())
        # accelerate turns every failure of the script into exit code 1; this file tells bad input from a crash.
        complaint = Path(folder) / "input_error"
        written = opened.enter_context(log.open("wb")) if log else None
        finished = subprocess.run(
            command,
            check=False,
            env={**os.environ, COMPLAINT_VARIABLE: str(complaint), "PYTHONPATH": _module_path()},
            stdout=written,
            stderr=subprocess.STDOUT if log else None,
            pass_fds=() if lock is None else (lock,),
        )
        if complaint.is_file():
            raise InputError(complaint.read_text(encoding="utf-8"))
    if finished.returncode != 0:
        raise RuntimeError(f"It ended with exit code {finished.returncode}. {_reason(log)}")


def _module_path() -> str:
    """The project's own folder first: it need not be installed, nor the current folder."""
    return os.pathsep.join([str(Path(__file__).parent.parent), *filter(None, [os.environ.get("PYTHONPATH")])])


def _reason(log: Path | None) -> str:
    if log is None:
        return "The reason stands above. Run it again to go on."
    last = log.read_text(encoding="utf-8", errors="replace").rstrip().splitlines()[-LAST_LINES:]
    return "\n".join([f"Run it again to go on. The end of {log}:", *(f"    {line}" for line in last)])


@contextlib.contextmanager
def _held(output: Path) -> Iterator[int]:
    """Nobody else trains into `output` meanwhile. The training process inherits the lock: it outlives a killed parent, and would write
    into the same folder as the run that was started in its place.
    """
    path = make_folder(output.resolve().parent) / f".{output.name}.lock"
    with path.open("w") as lock:
        deadline = time.monotonic() + LOCK_SECONDS
        while not _locked(lock):
            if time.monotonic() > deadline:
                raise InputError(
                    f"Another process is training into {output}, perhaps one whose start was interrupted. Wait until it has ended, or end "
                    "it."
                )
            time.sleep(0.1)
        try:
            yield lock.fileno()
        finally:
            path.unlink(missing_ok=True)


def _locked(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _refuse_hub_options(method: str, merge: bool, push_to: str | None, arguments: Sequence[str]) -> None:
    given = {argument.partition("=")[0] for argument in arguments}
    if merge or "--merge" in given:
        raise InputError(f"--merge joins an adapter to its base, and a {method} model has none. Leave it out.")
    if push_to or given & {"--push", "--private"}:
        raise InputError(
            f"A {method} model loads with this project only, so it is not put on the Hub as a model for others. Leave out --push and "
            f"--private; these can be pushed: {', '.join(TRL_KINDS)}."
        )


def saves_adapter(recipe: Path, arguments: Sequence[str]) -> bool:
    """Whether the finished weights are an adapter's. The two keys are read as the script will read them, without loading its libraries;
    a recipe that cannot be read is the script's to refuse.
    """
    try:
        keys = parse_yaml(recipe.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        keys = None
    given = {
        key: str((keys if isinstance(keys, dict) else {}).get(key, False)) for key in ("use_peft", "merge_adapter")
    }
    for place, argument in enumerate(arguments):
        name, assigned, value = argument.partition("=")
        key = name.removeprefix("--").replace("-", "_")
        if name.startswith("--") and key in given:
            follows = arguments[place + 1 : place + 2]
            # The bare option switches on.
            given[key] = value if assigned else next((text for text in follows if not text.startswith("--")), "true")
    on = {key: value.lower() in ("true", "t", "yes", "y", "1") for key, value in given.items()}
    return on["use_peft"] and not on["merge_adapter"]


def terms_of(dataset: str) -> str | None:
    """Why a dataset may not be passed on. Such a one is a folder: the Hub is refused it."""
    build = Path(dataset) / "build.json"
    return read_json(build).get("not_for_publishing") if build.is_file() else None


def _inputs(method: str, dataset: str, recipe: Path, accelerate_file: Path, arguments: Sequence[str]) -> dict[str, str]:
    """What decides the model, as one hash: arguments and dataset may be paths of this machine, which stay out of the folder."""
    deciding = [dataset_content(dataset), sha256_file(recipe), sha256_file(accelerate_file), *_deciding(arguments)]
    return {"method": method, "inputs_sha256": hashlib.sha256(json.dumps(deciding).encode("utf-8")).hexdigest()}


def _deciding(arguments: Sequence[str]) -> list[str]:
    """Without the folder of shared scores, which spares time and changes nothing."""
    left, rest = [], list(arguments)
    while rest:
        argument = rest.pop(0)
        if argument == "--score_cache":
            rest = rest[1:]
        elif not argument.startswith("--score_cache="):
            left.append(argument)
    return left


def dataset_content(dataset: str) -> str:
    """What stays the same as long as the rows do."""
    build = Path(dataset) / "build.json"
    if build.is_file():
        return read_json(build).get("content_sha256") or dataset
    if dataset.startswith(PREFIX):
        address = parse_address(dataset)
        return f"{PREFIX}{address.repository}@{commit_of(address)}"  # a tag and its commit are the same rows
    return dataset
