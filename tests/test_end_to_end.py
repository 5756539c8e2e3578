"""The whole road through the command line: once small and fast, once as `make demo` runs it (slow)."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.builder.conftest import SCRIPTED, TEMPLATES
from tests.builder.test_pipeline import file_hashes, recorded_answers

ROOT = Path(__file__).parent.parent
PERSONA = [sys.executable, str(ROOT / "persona.py")]


def run(*arguments, check=True, **settings):
    done = subprocess.run(
        [*PERSONA, *map(str, arguments)], capture_output=True, text=True, check=False, cwd=ROOT, **settings
    )
    assert done.returncode == 0 or not check, f"{arguments}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done


def test_from_records_to_a_report_with_a_tiny_model(tmp_path, tiny_model):
    # The tiny model reads 512 tokens, and its tokenizer makes many of a word.
    settings = [f"--set={s}" for s in (*SCRIPTED, *TEMPLATES, "personas.profile_max_tokens=90")]
    run("build", "demo", "--out", tmp_path / "build", *settings)
    run("publish", tmp_path / "build", "--to", tmp_path / "data")
    models = {method: tmp_path / "models" / method for method in ("dpo", "reward")}
    quick = [
        "--model_name_or_path",
        tiny_model,
        "--base_model_id",
        "test/tiny",
        "--max_length",
        "512",
        "--max_steps",
        "3",
    ]
    for method, folder in models.items():
        first = run("train", method, tmp_path / "data", "--out", folder, *quick)
        assert "Trained: " in first.stdout
        assert "Already trained: " in run("train", method, tmp_path / "data", "--out", folder, *quick).stdout
    other = run("train", "dpo", tmp_path / "data", "--out", models["dpo"], *quick, "--seed", "1", check=False)
    assert other.returncode == 2
    assert "holds a model of another dataset, recipe or arguments" in other.stderr

    assert json.loads((models["dpo"] / "launch.json").read_text())["method"] == "dpo"
    assert str(tmp_path) not in (models["dpo"] / "launch.json").read_text()

    chosen = [f"--model={folder}" for folder in models.values()]
    table = run("eval", "models", tmp_path / "data", *chosen, "--out", tmp_path / "results", "--base-model", tiny_model)
    for condition in ("true persona", "no persona", "wrong persona"):
        assert condition in table.stdout
    report = run("report", tmp_path / "results", "--dataset", tmp_path / "data", "--run", tmp_path / "build")
    page = (tmp_path / "results" / "report.html").read_text()
    assert "Report in" in report.stdout
    assert page.count("<html") == 1
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert 'src="http' not in page


@pytest.mark.slow
def test_a_demo_killed_twice_ends_with_the_dataset_of_an_undisturbed_build(tmp_path):
    """About half an hour on two cores: the embedded model, SIGKILL during generation and during training, then to the end."""

    def demo(until=None):
        process = subprocess.Popen(
            [*PERSONA, "demo", "--out", str(tmp_path / "demo")], cwd=ROOT, start_new_session=True
        )
        while until is not None and not until() and process.poll() is None:
            time.sleep(0.5)
        if until is not None:
            assert process.poll() is None, "the demo was over before it could be killed"
            os.killpg(process.pid, signal.SIGKILL)
        return process.wait()

    def recorded():
        try:
            return recorded_answers(tmp_path / "demo" / "build")
        except sqlite3.OperationalError:  # not there yet
            return 0

    demo(until=lambda: recorded() >= 200)
    assert 200 <= recorded() < 1000
    demo(until=lambda: (tmp_path / "demo" / "models" / ".dpo.partial").exists())
    assert demo() == 0
    assert demo() == 0  # a replay
    build = json.loads((tmp_path / "demo" / "build" / "build.json").read_text())
    assert build["usage"]["calls"] == 0

    run("build", "demo", "--out", tmp_path / "undisturbed")
    run("publish", tmp_path / "undisturbed", "--to", tmp_path / "published")
    assert file_hashes(tmp_path / "demo" / "published") == file_hashes(tmp_path / "published")
