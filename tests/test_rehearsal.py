"""The rehearsal: its plan, its resuming and its measuring; the whole of it, small (slow)."""

import json
import sys

import pytest
import typer

import persona
from benchmarks import rehearsal
from benchmarks.measured import run_measured
from benchmarks.rehearsal import (
    PAPER_PERSONAS,
    Estimate,
    Step,
    begin,
    growth,
    plan,
    progress,
    rehearse,
    table,
    unfinished,
)
from builder.errors import InputError
from builder.files import read_json
from builder.recipe import load_recipe
from training.packaged import RECIPE_FOLDER


def step(folder, name, seconds=1.0, **more):
    """Adds its name to a file, so that it is seen how often it ran."""
    words = f"open({str(folder / 'ran.txt')!r}, 'a').write({name + chr(10)!r}); print('7 calls, 5 replayed')"
    return Step(name, [sys.executable, "-c", words], seconds, **more)


def ran(folder):
    path = folder / "ran.txt"
    return path.read_text().split() if path.exists() else []


def test_the_plan_has_every_training_recipe_once_and_names_are_unique(tmp_path):
    steps = plan(tmp_path, PAPER_PERSONAS)
    names = [step.name for step in steps]
    assert len(set(names)) == len(names)
    recipes = {path.stem for path in RECIPE_FOLDER.glob("*.yaml")}
    assert recipes == {name.removeprefix("train ") for name in names if name.startswith("train ")}
    for given in steps:
        if given.name.startswith("train "):
            recipe = given.name.removeprefix("train ")
            method = given.command[given.command.index("train") + 1]
            assert recipe.removeprefix("demo_").removeprefix("qlora_").startswith(method.replace("-", "_"))
    assert not list(tmp_path.iterdir())


def test_every_command_of_the_plan_is_one_that_the_command_line_knows(tmp_path):
    for given in plan(tmp_path, PAPER_PERSONAS):
        if given.command[1:3] != ["-m", "persona"]:
            continue
        command, words = typer.main.get_command(persona.app), given.command[3:]
        while hasattr(command, "commands"):
            command = command.commands[words.pop(0)]
        assert command.make_context(given.name, words).params


@pytest.mark.parametrize("personas", [8, 100, PAPER_PERSONAS])
def test_the_recipe_of_every_size_is_valid_and_asks_for_what_its_personas_need(personas):
    recipe = load_recipe("paper", rehearsal.recipe_settings(personas))
    assert recipe.personas.count == personas
    assert recipe.prompts.heldout >= recipe.pairs.heldout_test
    assert recipe.prompts.count - recipe.prompts.heldout >= recipe.pairs.train + recipe.pairs.seen_test
    if personas == PAPER_PERSONAS:
        assert (recipe.personas.seen, recipe.prompts.count, recipe.prompts.heldout) == (1000, 3868, 868)


def test_a_rehearsal_that_broke_off_goes_on_behind_what_is_finished(tmp_path):
    failing = Step("second", [sys.executable, "-c", "import sys; sys.exit('no good')"], 1.0, needed=True)
    with pytest.raises(SystemExit, match="no good"):
        rehearse(tmp_path, [step(tmp_path, "first"), failing, step(tmp_path, "third")], 4)
    assert ran(tmp_path) == ["first"]
    rehearse(tmp_path, [step(tmp_path, name) for name in ("first", "second", "third")], 4)
    assert ran(tmp_path) == ["first", "second", "third"]
    figures = read_json(tmp_path / "results.json")["steps"]
    assert [figures[name]["resumed"] for name in ("first", "second", "third")] == [False, True, False]
    assert (figures["third"]["calls"], figures["third"]["replays"]) == (7, 5)


def test_what_hangs_on_nothing_may_fail_and_is_tried_again(tmp_path):
    failing = Step("second", [sys.executable, "-c", "import sys; sys.exit('no good')"], 1.0)
    rehearse(tmp_path, [step(tmp_path, "first"), failing, step(tmp_path, "third")], 4)
    assert ran(tmp_path) == ["first", "third"]
    assert "no good" in read_json(tmp_path / "results.json")["failed"]["second"]
    rehearse(tmp_path, [step(tmp_path, name) for name in ("first", "second", "third")], 4)
    assert ran(tmp_path) == ["first", "third", "second"]
    assert not read_json(tmp_path / "results.json")["failed"]


def test_models_that_are_not_there_are_not_evaluated(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "training.json").write_text("{}")
    given = [
        "eval",
        "--model",
        str(tmp_path / "absent"),
        "--model",
        str(tmp_path / "there"),
        "--model",
        "scripted",
        "--out",
        "x",
    ]
    wanted = ["eval", "--model", str(tmp_path / "there"), "--model", "scripted", "--out", "x"]
    assert rehearsal.with_finished_models(given, tmp_path) == wanted


def test_a_step_that_cannot_run_here_is_named_with_the_reason(tmp_path):
    steps = [step(tmp_path, "first"), step(tmp_path, "second", without="no such library")]
    rehearse(tmp_path, steps, 4)
    assert ran(tmp_path) == ["first"]
    assert "second" in table(read_json(tmp_path / "results.json"), steps, None)
    assert "not run: no such library" in table(read_json(tmp_path / "results.json"), steps, None)


def test_a_folder_of_another_size_is_refused(tmp_path):
    begin(tmp_path, 4)
    with pytest.raises(InputError, match="rehearsal of 4 personas, and 5 were asked for"):
        begin(tmp_path, 5)


def test_steps_on_the_hub_are_done_together_or_not_at_all(tmp_path):
    steps = [
        step(tmp_path, "a"),
        step(tmp_path, "b", on_hub=True),
        step(tmp_path, "c", on_hub=True),
        step(tmp_path, "d"),
    ]
    done = {"steps": {"a": {}, "b": {}}}
    assert [s.name for s in unfinished(done, steps)] == ["b", "c", "d"]
    done["steps"]["c"] = {}
    assert [s.name for s in unfinished(done, steps)] == ["d"]


def test_what_is_left_is_estimated_from_what_was_slower_so_far(tmp_path):
    steps = [step(tmp_path, "a", 60.0), step(tmp_path, "b", 600.0)]
    estimate = Estimate(PAPER_PERSONAS)
    assert progress(1, steps, 0.0, estimate) == "[1/2] a  (0 min gone, about 11 left)"
    estimate.took(steps[0], 180.0)
    assert progress(2, steps, 180.0, estimate) == "[2/2] b  (3 min gone, about 30 left)"


def test_growth_is_of_processor_seconds_a_row():
    small, large = {"cpu": 10.0, "rows": 100}, {"cpu": 320.0, "rows": 1600}
    assert growth(large, small) == "2.00"
    assert growth(large, None) == growth({"cpu": 1.0, "rows": None}, small) == "-"


@pytest.mark.parametrize(
    ("said", "rows"),
    [("dpf train 1,000, support 200\npersonas train 12\n", 1212), ("100 rows of p00012\n", 100), ("", 0)],
)
def test_loaded_rows_are_read_from_what_the_scripts_print(said, rows):
    assert rehearsal.rows_loaded(said) == rows


@pytest.mark.skipif(sys.platform != "linux", reason="memory of several processes is read from /proc")
def test_memory_and_time_of_processes_underneath_are_counted():
    holding = "import time; held = bytearray(120 * 2**20); time.sleep(1.2)"
    words = f"import subprocess, sys; [p.wait() for p in [subprocess.Popen([sys.executable, '-c', {holding!r}]) for _ in range(2)]]"
    measured = run_measured([sys.executable, "-c", words])
    # Sampled, both at one time; the kernel's figure would be of one, or of this program, which its children are copies of at first.
    assert measured.own_gib > 0.23
    assert measured.together_gib >= measured.own_gib
    assert measured.peak_gib > 0.11
    assert measured.cpu > 0


def test_a_failing_command_ends_the_program_with_what_it_complained_of():
    with pytest.raises(SystemExit, match="nothing to be had"):
        run_measured([sys.executable, "-c", "import sys; sys.exit('nothing to be had')"])


@pytest.mark.slow
def test_the_whole_road_at_the_smallest_size(tmp_path):
    steps = [
        s for s in plan(tmp_path, 40) if not s.name.startswith("train ") or s.name in ("train demo_dpo", "train reward")
    ]
    rehearse(tmp_path, steps, 40)
    figures = json.loads((tmp_path / "results.json").read_text())["steps"]
    assert list(figures) == [s.name for s in steps]
    assert figures["build"]["calls"] > 0
    assert figures["build again, from the record"]["calls"] == 0
    assert figures["publish to the Hub"]["sent"] > 0
    assert figures["stream one persona"]["rows"] == 100
    assert (tmp_path / "report.html").is_file()
