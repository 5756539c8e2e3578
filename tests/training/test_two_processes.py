"""Two processes on a processor train as one does: whole copies (DDP over gloo), and divided weights (FSDP2).

The same rows meet at every step. The permutation of an epoch comes from the seed, a process takes every second batch of it, and a batch
has half the rows, so two processes' k-th batches together are one process's k-th batch. This holds as long as the effective batch
divides the number of rows (here 36 = 9 x 4): otherwise accelerate fills an epoch's last step up with rows from its beginning, which one
process does not do. Sums are taken in another order, so figures agree to rounding, which Adam enlarges where a gradient is next to zero.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from tests.training.conftest import Place
from training.packaged import ACCELERATE_FOLDER

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]
ROWS_A_STEP = 4
# Nine steps are an epoch, so the last ones are of the second, which is shuffled anew.
STEPS = 12
# Measured: losses differ by 1e-6 at most, margins (up to 0.5) by 6e-5, weights (up to 0.3) by 2.4e-5.
LOSS_TOLERANCE, MARGIN_TOLERANCE, WEIGHT_TOLERANCE = 1e-5, 1e-3, 1e-3

Trained = Callable[..., tuple[dict[str, Any], dict[str, torch.Tensor]]]


@pytest.fixture(scope="module")
def trained(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """training.json and weights of a run started by `accelerate launch`; `configuration` is a name or a file."""
    runs: dict[tuple[str, ...], Path] = {}

    def run(configuration: str, method: str, processes: int, *more: str, script: tuple[str, ...] = ()) -> Any:
        key = (configuration, method, *more)
        if key not in runs:
            runs[key] = tmp_path_factory.mktemp("processes") / "model"
            batch = ["--per_device_train_batch_size", str(ROWS_A_STEP // processes)]
            arguments = place.arguments(f"demo_{method}", runs[key], "--max_steps", str(STEPS), "--lora_dropout", "0")
            known = ACCELERATE_FOLDER / f"{configuration}.yaml"
            launch = ["--quiet", "--config_file", str(known if known.is_file() else configuration)]
            launch += ["--main_process_port", "0", *(script or ("-m", f"training.{method}"))]
            environment = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(REPOSITORY)}
            done = subprocess.run(
                [sys.executable, "-m", "accelerate.commands.launch", *launch, *arguments, *batch, *more],
                cwd=REPOSITORY,
                env=os.environ | environment | ({"ACCELERATE_TORCH_DEVICE": "cpu"} if script else {}),
                capture_output=True,
                text=True,
                timeout=900,
            )
            assert done.returncode == 0, done.stderr[-3000:]
        record = json.loads((runs[key] / "training.json").read_text(encoding="utf-8"))
        (weights,) = runs[key].glob("*.safetensors")
        return record, load_file(weights)

    return run


def history(record: dict[str, Any], figure: str) -> list[float]:
    return [entry[figure] for entry in record["run"]["history"] if figure in entry]


def margins(record: dict[str, Any]) -> list[float]:
    return [shown["mean_margin"] for entry in record["results"] for shown in entry["conditions"].values()]


def compare(
    one: tuple[dict[str, Any], dict[str, torch.Tensor]], two: tuple[dict[str, Any], dict[str, torch.Tensor]]
) -> None:
    (first, first_weights), (second, second_weights) = one, two
    assert (first["run"]["processes"], second["run"]["processes"]) == (1, 2)
    # Tokens seen so far, counted over all processes: the same rows at every step.
    assert history(first, "num_tokens") == history(second, "num_tokens")
    assert len(history(first, "loss")) == STEPS
    assert min(history(first, "loss")) < history(first, "loss")[0] - 0.02  # or there would be nothing to differ in
    assert history(second, "loss") == pytest.approx(history(first, "loss"), abs=LOSS_TOLERANCE)
    assert first_weights.keys() == second_weights.keys()
    for name, weights in first_weights.items():
        assert weights.shape == second_weights[name].shape
        assert torch.allclose(weights, second_weights[name], rtol=0, atol=WEIGHT_TOLERANCE), name
    # The test splits are scored in shares, one of each process, by what was read back from disk.
    assert [entry["rows"] for entry in first["results"]] == [entry["rows"] for entry in second["results"]]
    assert margins(second) == pytest.approx(margins(first), abs=MARGIN_TOLERANCE)
    assert max(abs(margin) for margin in margins(first)) > 100 * MARGIN_TOLERANCE


@pytest.mark.parametrize("method", ["dpo", "reward"])
def test_two_processes_train_as_one(trained: Trained, method: str) -> None:
    one, two = trained("cpu", method, 1), trained("multi_cpu", method, 2)
    assert two[0]["run"]["distributed_type"] == "MULTI_CPU"
    compare(one, two)


@pytest.mark.parametrize("method", ["dpo", "reward"])
@pytest.mark.parametrize("use_peft", ["true", "false"])
def test_two_processes_with_divided_weights_train_as_one(
    trained: Trained, method: str, use_peft: str, tmp_path: Path
) -> None:
    # The packaged file but for the machine and the precision.
    configuration = yaml.safe_load((ACCELERATE_FOLDER / "fsdp2.yaml").read_text(encoding="utf-8"))
    configuration |= {"num_processes": 2, "mixed_precision": "no"}
    (tmp_path / "fsdp2.yaml").write_text(yaml.safe_dump(configuration), encoding="utf-8")
    adapter = () if use_peft == "true" else ("--use_peft", "false")
    one = trained("cpu", method, 1, *adapter)
    script = ("tests/training/fsdp_on_cpu.py", method)
    two = trained(str(tmp_path / "fsdp2.yaml"), method, 2, *adapter, "--use_cpu", "false", script=script)
    assert two[0]["run"]["distributed_type"] == "FSDP"
    compare(one, two)


@pytest.mark.parametrize(("configuration", "use_cpu"), [("multi_cpu", "false"), ("fsdp2", "true")])
def test_what_accelerate_changes_without_a_word_is_refused(
    place: Place, tmp_path: Path, configuration: str, use_cpu: str
) -> None:
    arguments = place.arguments("demo_reward", tmp_path / "model", "--use_cpu", use_cpu)
    launch = ["--quiet", "--config_file", str(ACCELERATE_FOLDER / f"{configuration}.yaml"), "--num_processes", "2"]
    done = subprocess.run(
        [sys.executable, "-m", "accelerate.commands.launch", *launch, "-m", "training.reward", *arguments],
        cwd=REPOSITORY,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode != 0
    assert "multi_cpu" in done.stderr
    assert not (tmp_path / "model").exists()
