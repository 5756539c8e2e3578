"""Start a training script through `accelerate launch`, once: a finished model of the same inputs is kept.

The scripts themselves (`training.dpo`, `training.reward`) do not know about this; anyone may start them with accelerate directly.
"""

import hashlib
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from builder.errors import InputError

METHODS = ("dpo", "reward")
ACCELERATE_FOLDER = Path(__file__).parent.parent / "accelerate_configs"
RECIPE_FOLDER = Path(__file__).parent / "recipes"
LAUNCH_FILE = "launch.json"


def train(
    method: str,
    dataset: str,
    output: Path,
    recipe: str | None = None,
    accelerate_config: str = "cpu",
    arguments: Sequence[str] = (),
) -> bool:
    """Train into `output`; False if it already holds the model of exactly these inputs.

    recipe: a file, or a packaged recipe's name (default: `demo_dpo` or `demo_reward`). accelerate_config: likewise. arguments: passed on
    to the script (`--key value`), which checks them. A run that was interrupted goes on from its last checkpoint, if it wrote any.

    Raises InputError for unknown names, for another model in `output`, and where the script found its input at fault (exit code 2;
    its message stands above). RuntimeError if it failed otherwise.
    """
    if method not in METHODS:
        raise InputError(f"There is no training method {method!r}. Choose one of {', '.join(METHODS)}.")
    recipe_file = _find(recipe or f"demo_{method}", RECIPE_FOLDER, "training recipe")
    accelerate_file = _find(accelerate_config, ACCELERATE_FOLDER, "accelerate configuration")
    inputs = _inputs(method, dataset, recipe_file, accelerate_file, arguments)
    launched = output / LAUNCH_FILE
    if launched.is_file():
        if json.loads(launched.read_text(encoding="utf-8")) == inputs:
            return False
        raise InputError(
            f"{output} holds a model of another dataset, recipe or arguments. Nothing was changed; give another output folder."
        )
    command = [
        *(sys.executable, "-m", "accelerate.commands.launch", "--quiet", "--config_file", str(accelerate_file)),
        *("-m", f"training.{method}", "--config", str(recipe_file), "--dataset", dataset, "--output_dir", str(output)),
        *arguments,
    ]
    checkpoints = (output.resolve().parent / f".{output.name}.partial").glob("checkpoint-*")
    if any(checkpoints) and "--resume_from_checkpoint" not in arguments:
        command += ["--resume_from_checkpoint", "true"]
    # The script's own lines (preflight, progress, metrics) go straight to the terminal.
    finished = subprocess.run(command, check=False)
    if finished.returncode != 0:
        # accelerate turns every failure of its child into exit code 1, so the script's message above says what was wrong.
        raise InputError(f"Training stopped; the reason stands above. Nothing was written to {output}.")
    launched.write_text(json.dumps(inputs, indent=1) + "\n", encoding="utf-8")
    return True


def _find(name: str, folder: Path, what: str) -> Path:
    path = Path(name)
    packaged = folder / f"{name}.yaml"
    if path.is_file():
        return path
    if packaged.is_file():
        return packaged
    names = ", ".join(sorted(p.stem for p in folder.glob("*.yaml")))
    raise InputError(f"The {what} {name} does not exist. Give a YAML file, or one of: {names}.")


def _inputs(method: str, dataset: str, recipe: Path, accelerate_file: Path, arguments: Sequence[str]) -> dict[str, Any]:
    """What decides the model, without machine paths: content hashes of the files."""
    build = Path(dataset) / "build.json"
    content = json.loads(build.read_text(encoding="utf-8")).get("content_sha256") if build.is_file() else None
    return {
        "method": method,
        "dataset": content or dataset,
        "recipe": hashlib.sha256(recipe.read_bytes()).hexdigest(),
        "accelerate": hashlib.sha256(accelerate_file.read_bytes()).hexdigest(),
        "arguments": list(arguments),
    }
