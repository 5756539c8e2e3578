"""TRL's own scripts on the published dataset under its name on the Hub, with nothing said about configs or splits."""

import json
import subprocess
import sys
from collections import Counter

import pyarrow.parquet as parquet
import pytest

from builder.pipeline import run_build
from builder.publishing.publish import publish
from tests.builder.conftest import scripted_recipe
from tests.hub_server import environment, hub_server

TRAINERS = {"dpo": "DPOTrainer", "reward": "RewardTrainer"}
# The scripts as `trl dpo` and `trl reward` run them, one after the other, since a process takes seconds to start; before a trainer gets its
# rows, they are written down.
PROGRAM = """
import json, pathlib, runpy, sys
import trl

def noting(trainer, path):
    begin = trainer.__init__

    def with_note(self, *arguments, **named):
        rows = named["train_dataset"].select_columns(["pair_id", "persona_group"]).to_dict()
        path.write_text(json.dumps(rows))
        begin(self, *arguments, **named)

    trainer.__init__ = with_note

folder, trainers, words = pathlib.Path(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3:]
for script, trainer in trainers.items():
    noting(getattr(trl, trainer), folder / f"{script}.json")
    sys.argv = [script, *words, "--output_dir", str(folder / script)]
    runpy.run_module(f"trl.scripts.{script}", run_name="__main__")
"""


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    folder = tmp_path_factory.mktemp("published")
    run_build(scripted_recipe(), folder / "build")
    publish(folder / "build", folder / "data")
    return folder / "data"


@pytest.fixture(scope="module")
def trained(published, tiny_model, tmp_path_factory):
    """The folder with both models and the rows that each was trained on."""
    folder = tmp_path_factory.mktemp("trained")
    arguments = {
        **{"dataset_name": "org/name", "model_name_or_path": tiny_model},
        **{"max_steps": 1, "per_device_train_batch_size": 2, "use_cpu": True, "bf16": False, "max_length": 512},
    }
    words = [str(word) for key, value in arguments.items() for word in (f"--{key}", value)]
    with hub_server() as server:
        server.commit("org/name", published, ("v1.0.0",))
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(folder), json.dumps(TRAINERS), *words],
            env=environment(server, folder / "cache") | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
            capture_output=True,
            text=True,
            check=False,
            timeout=900,
        )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.mark.parametrize("script", TRAINERS)
def test_trls_script_trains_on_seen_personas_only(published, trained, script):
    assert (trained / script / "model.safetensors").is_file()
    rows = json.loads((trained / f"{script}.json").read_text())
    train = json.loads((published / "build.json").read_text())["configs"]["dpf"]["train"]
    assert Counter(rows["persona_group"]) == {"seen": train["rows"]}
    assert rows["pair_id"] == parquet.read_table(published / train["file"])["pair_id"].to_pylist()
    personas = parquet.read_table(next((published / "data" / "personas").iterdir())).to_pylist()
    seen = {row["persona_id"] for row in personas if row["group"] == "seen"}
    assert {pair.split("/")[1] for pair in rows["pair_id"]} == seen
    assert len(seen) < len(personas)
