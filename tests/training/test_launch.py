"""Starting a training once: what is kept, what is refused, and what is left to the script."""

import fcntl
import sys
from pathlib import Path

import pytest

from builder.errors import InputError
from builder.files import read_json, write_json
from training import launch
from training.kinds import METHODS
from training.launch import run_once, run_script, train
from training.packaged import find_recipe


@pytest.fixture
def started(monkeypatch):
    """Commands that would have been started; the script's only work is a finished folder."""
    commands = []

    def run(command, log=None, lock=None):
        commands.append(list(command))
        folder = Path(command[command.index("--output_dir") + 1])
        folder.mkdir(parents=True)
        write_json(folder / "training.json", {})

    monkeypatch.setattr(launch, "run_script", run)
    return commands


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_a_demo_recipe_and_its_own_script(method, started, tmp_path):
    assert find_recipe(method, None).name == f"demo_{method}.yaml"
    assert train(method, "d", tmp_path / "m", arguments=["--seed", "1"]) == (True, [])
    command = started[0]
    assert command[command.index("-m", command.index("--config_file")) + 1] == f"training.{method}"
    assert command[-2:] == ["--seed", "1"]
    assert train(method, "d", tmp_path / "m", arguments=["--seed", "1"]) == (False, [])
    assert len(started) == 1


def test_other_arguments_are_another_model_and_a_shared_cache_is_not(started, tmp_path):
    def again(*arguments):
        return run_once("dpo", "d", tmp_path / "m", None, "cpu", arguments)

    assert again("--seed", "1", "--score_cache", "a")
    assert not again("--seed", "1", "--score_cache", "b")
    assert not again("--score_cache=c", "--seed", "1")
    with pytest.raises(InputError, match="another dataset, recipe or arguments"):
        again("--seed", "2", "--score_cache", "a")


def test_a_run_killed_before_its_last_move_is_taken_as_finished(started, tmp_path, monkeypatch):
    run_once("dpo", "d", tmp_path / "m", None, "cpu", ())
    (tmp_path / "m" / "launch.json").rename(tmp_path / ".m.launch.json")
    assert not run_once("dpo", "d", tmp_path / "m", None, "cpu", ())
    assert read_json(tmp_path / "m" / "launch.json")["method"] == "dpo"


@pytest.mark.parametrize("options", [{"merge": True}, {"push_to": "org/name"}, {"arguments": ["--push", "org/name"]}])
def test_what_no_library_loads_is_neither_merged_nor_pushed(started, tmp_path, options):
    for method in ("low_rank", "vpl", "p_dpo", "per_persona"):
        with pytest.raises(InputError, match=r"--(merge|push)"):
            train(method, "d", tmp_path / "m", **options)
    assert not started


def test_two_trainings_into_one_folder_are_refused(started, tmp_path, monkeypatch):
    monkeypatch.setattr(launch, "LOCK_SECONDS", 0.1)
    with (tmp_path / ".m.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="Another process is training into"):
            run_once("dpo", "d", tmp_path / "m", None, "cpu", ())
    assert not started
    assert run_once("dpo", "d", tmp_path / "m", None, "cpu", ())


def test_a_script_that_outlives_its_parent_keeps_the_folder(tmp_path):
    """The lock is the process's: closed here, it is still held there."""
    import subprocess

    with launch._held(tmp_path / "m") as lock:
        child = subprocess.Popen(
            [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE, pass_fds=(lock,)
        )
        path = tmp_path / ".m.lock"
        path.rename(tmp_path / "kept")
    (tmp_path / "kept").rename(path)
    launch_seconds, launch.LOCK_SECONDS = launch.LOCK_SECONDS, 0.1
    try:
        with pytest.raises(InputError, match="Another process"), launch._held(tmp_path / "m"):
            pass
        child.communicate(b"")
        with launch._held(tmp_path / "m"):
            pass
    finally:
        launch.LOCK_SECONDS = launch_seconds


def test_how_a_script_ended_is_said_with_the_end_of_its_log(tmp_path):
    log = tmp_path / "log"
    code = "import sys; print('\\n'.join(map(str, range(50)))); sys.exit(3)"
    with pytest.raises(RuntimeError, match=r"(?s)exit code 3.*The end of .*log:.*    49$") as raised:
        run_script([sys.executable, "-c", code], log)
    assert "    12\n" not in str(raised.value)
    code = "import os; open(os.environ['PERSONA_INPUT_ERROR_FILE'], 'w').write('No such column.'); raise SystemExit(1)"
    with pytest.raises(InputError, match="No such column"):
        run_script([sys.executable, "-c", code], log)


def test_scripts_are_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_script([sys.executable, "-c", "import training.launch"], tmp_path / "log")
