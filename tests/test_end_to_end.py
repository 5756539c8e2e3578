"""The whole road through the command line: once small and fast, once as `make demo` runs it (slow)."""

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys

import pytest

from builder.llm.record import Record
from tests.builder.conftest import SCRIPTED, TEMPLATES
from tests.builder.test_pipeline import recorded_answers
from tests.command_line import ROOT, persona
from tests.waiting import wait_until

PERSONA = [sys.executable, str(ROOT / "persona.py")]


def run(*arguments, check=True):
    done = persona(*arguments)
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
def test_a_demo_killed_twice_ends_and_goes_on_with_the_answers_of_an_undisturbed_build(tmp_path):
    """The embedded model, SIGKILL during generation and during training, then to the end and once again.

    After a kill other questions share a batch than without it, and no answer may depend on that: those before the kill and two hundred
    after it are compared. That equal answers make an equal dataset, test_pipeline shows with models that cost nothing.
    """
    here = tmp_path / "demo"

    def demo(until=None):
        process = subprocess.Popen([*PERSONA, "demo", "--out", str(here)], cwd=ROOT, start_new_session=True)
        if until is not None:
            wait_until(lambda: until() or process.poll() is not None, 3600, "the moment of the kill")
            assert process.poll() is None, "the demo was over before it could be killed"
            os.killpg(process.pid, signal.SIGKILL)
        return process.wait()

    def recorded():
        try:
            return recorded_answers(here / "build")
        except sqlite3.OperationalError:  # not there yet
            return 0

    demo(until=lambda: recorded() >= 200)
    at_kill = recorded()
    assert 200 <= at_kill < 1000
    demo(until=lambda: (here / "models" / ".dpo.partial").exists())
    assert demo() == 0
    assert demo() == 0  # a replay
    build = json.loads((here / "build" / "build.json").read_text())
    assert build["usage"]["calls"] == 0

    # A process of its own, for as many threads as the demo had: sums in another order would be other answers.
    part = ["build", "demo", "--out", str(tmp_path / "undisturbed"), "--max-calls", str(at_kill + 200)]
    assert subprocess.run([*PERSONA, *part], cwd=ROOT, check=False).returncode == 3
    undisturbed, whole = replies(tmp_path / "undisturbed"), replies(here / "build")
    assert len(undisturbed) >= at_kill + 150
    assert {key: whole[key] for key in undisturbed} == undisturbed


def replies(build):
    with contextlib.closing(Record(build / "responses.sqlite", read_only=True)) as record:
        return dict(record.read("SELECT key, reply FROM answers"))
