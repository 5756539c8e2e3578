from pathlib import Path

import pytest
from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file

FOLDER = Path(__file__).parents[2] / "accelerate_configs"
EXPECTED = {
    "cpu": ("NO", 1),
    "single_gpu": ("NO", 1),
    "multi_gpu": ("MULTI_GPU", 4),
    "fsdp2": ("FSDP", 4),
    "zero2": ("DEEPSPEED", 4),
    "zero3": ("DEEPSPEED", 4),
}


def test_all_files_are_expected():
    assert {path.stem for path in FOLDER.glob("*.yaml")} == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_accelerate_reads_the_file(name):
    config = load_config_from_file(str(FOLDER / f"{name}.yaml"))
    assert isinstance(config, ClusterConfig)
    kind, processes = EXPECTED[name]
    assert str(config.distributed_type).upper().endswith(kind)
    assert config.num_processes == processes
    assert config.use_cpu == (name == "cpu")
    if name == "fsdp2":
        assert config.fsdp_config["fsdp_version"] == 2
    if kind == "DEEPSPEED":
        assert config.deepspeed_config["zero_stage"] == int(name[-1])
