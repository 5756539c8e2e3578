"""The packaged files as accelerate itself reads them: its loader, its launch command's own arguments, what its processes are told."""

from argparse import Namespace
from pathlib import Path

import pytest
import yaml
from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_multi_gpu_env
from trl import DPOConfig

from training.arguments import parse_arguments
from training.packaged import RECIPE_FOLDER

FOLDER = Path(__file__).parents[2] / "accelerate_configs"
# Distributed type, processes, and what `accelerate launch` makes of it: the flag of its parsed arguments that decides the launcher.
EXPECTED = {
    "cpu": ("NO", 1, None),
    "multi_cpu": ("MULTI_GPU", 2, "multi_gpu"),  # see the file: with use_cpu that is gloo
    "single_gpu": ("NO", 1, None),
    "multi_gpu": ("MULTI_GPU", 4, "multi_gpu"),
    "fsdp2": ("FSDP", 4, "use_fsdp"),
    "zero2": ("DEEPSPEED", 4, "use_deepspeed"),
    "zero3": ("DEEPSPEED", 4, "use_deepspeed"),
}
LAUNCHERS = {"multi_gpu", "use_fsdp", "use_deepspeed", "use_megatron_lm", "tpu"}


def launched(name: str, *more: str) -> Namespace:
    """The arguments as `accelerate launch` holds them just before it starts processes."""
    command = ["--config_file", str(FOLDER / f"{name}.yaml"), *more, "train.py"]
    return _validate_launch_command(launch_command_parser().parse_args(command))[0]


def test_all_files_are_expected():
    assert {path.stem for path in FOLDER.glob("*.yaml")} == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_accelerate_reads_the_file(name):
    config = load_config_from_file(str(FOLDER / f"{name}.yaml"))
    assert isinstance(config, ClusterConfig)
    kind, processes, _ = EXPECTED[name]
    assert config.distributed_type.value == kind
    assert config.num_processes == processes
    assert config.use_cpu == name.endswith("cpu")
    if kind == "DEEPSPEED":
        assert config.deepspeed_config["zero_stage"] == int(name[-1])


@pytest.mark.parametrize("name", EXPECTED)
def test_accelerate_launches_what_the_file_says(name):
    _, processes, launcher = EXPECTED[name]
    arguments = launched(name)
    assert {flag for flag in LAUNCHERS if getattr(arguments, flag)} == ({launcher} if launcher else set())
    assert arguments.num_processes == processes
    assert arguments.num_machines == 1
    assert arguments.mixed_precision == ("no" if name.endswith("cpu") else "bf16")
    if processes > 1:
        assert launched(name, "--num_processes", "8").num_processes == 8


@pytest.mark.parametrize("name", EXPECTED)
def test_an_unknown_key_is_refused(name, tmp_path):
    """accelerate checks the outer keys. The inner ones it ignores, so every one here must be an option of its launch command."""
    config = yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    spoilt = tmp_path / "spoilt.yaml"
    spoilt.write_text(yaml.safe_dump(config | {"num_procesess": 2}), encoding="utf-8")
    with pytest.raises(ValueError, match="num_procesess"):
        load_config_from_file(str(spoilt))
    options = {action.dest for action in launch_command_parser()._actions}
    inner = {key for value in config.values() if isinstance(value, dict) for key in value}
    assert inner <= options


def test_fsdp2_tells_its_processes_what_the_recipes_need():
    arguments = launched("fsdp2")
    arguments.main_process_port = 0  # any that is free
    told = prepare_multi_gpu_env(arguments)
    assert told["FSDP_VERSION"] == "2"
    # Whole safetensors at the end, not a share of each process.
    assert told["FSDP_STATE_DICT_TYPE"] == "FULL_STATE_DICT"
    assert told["FSDP_RESHARD_AFTER_FORWARD"] == "true"
    assert told["FSDP_AUTO_WRAP_POLICY"] == "TRANSFORMER_BASED_WRAP"
    assert told["ACCELERATE_MIXED_PRECISION"] == "bf16"


def test_zero3_saves_whole_weights():
    config = load_config_from_file(str(FOLDER / "zero3.yaml"))
    assert config.deepspeed_config["zero3_save_16bit_model"] is True


@pytest.mark.parametrize("recipe", ["dpo", "reward", "qlora_dpo", "qlora_reward"])
def test_recipes_and_configurations_agree(recipe):
    """The precision of both is one, and activations are recomputed once: by the recipe's word."""
    keys = yaml.safe_load((RECIPE_FOLDER / f"{recipe}.yaml").read_text(encoding="utf-8"))
    assert keys["bf16"] is True
    assert keys["gradient_checkpointing"] is True
    assert "use_cpu" not in keys
    for name in EXPECTED:
        config = yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
        assert config["mixed_precision"] == ("no" if name.endswith("cpu") else "bf16")
        assert not (config.get("fsdp_config") or {}).get("fsdp_activation_checkpointing")


@pytest.mark.parametrize("recipe", ["demo_dpo"])
def test_recipes_for_processors_fit_the_configurations_for_processors(recipe):
    run = parse_arguments(["--config", recipe, "--dataset", "d"], DPOConfig)
    assert run.config.use_cpu
    assert not run.config.bf16
