"""Mutation testing of builder/pairs, builder/judge and training/scoring.py: docs/mutation.md says how, and what was found.

`prepare` copies the project so that mutmut can change it: mutmut leaves decorated functions alone, so in the copy the decorators become
calls below the functions. `run` takes the mutants that mutmut wrote and its notes which test calls which function. mutmut's own loop starts
pytest anew for each mutant; here the tests are collected and warmed up once, and each mutant gets a fork in which only they run.
"""

import gc
import json
import os
import random
import re
import resource
import shutil
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from _pytest.tmpdir import tmppath_result_key
from tqdm import tqdm

COPIED = ("builder", "training", "eval", "dataset_card", "accelerate_configs", "benchmarks", "tests", "docs")
FILES = ("persona.py", "pyproject.toml", "README.md")
MUTATED = ["builder/pairs/*.py", "builder/judge/*.py", "training/scoring.py"]
NAMES = "assignment contrast contrast_flips dpf flags judge judge_check judge_kinds matched pairs pair_stages inferable ownership"
TESTS = [f"tests/builder/test_{name}.py" for name in NAMES.split()] + ["tests/training/test_scoring.py"]
# Tests of a module in a file of another name run first, as those in a file of its own name do.
OWN = {
    "builder.pairs.flips": "contrast_flips",
    "builder.pairs.contrast_rows": "contrast",
    "builder.pairs.partners": "contrast",
    "builder.pairs.feedback": "dpf",
    "builder.pairs.judgements": "contrast",
    "builder.judge.reading": "judge_kinds",
    "builder.judge.critique": "judge_kinds",
    "builder.judge.pairwise": "judge",
    "builder.judge.likelihood": "judge",
    "builder.judge.judge_file": "judge",
}
SLOW = 0.4  # seconds; slower tests are not run without a mutant first
# (file, decorator, function, what stands below it instead); without its cache, because forks would share what one process had computed
DECORATED = (
    ("training/scoring.py", "@torch.no_grad()", "forward_answers", "torch.no_grad()({})"),
    ("training/scoring.py", "@contextlib.contextmanager", "quiet_loading", "contextlib.contextmanager({})"),
    ("training/scoring.py", "@contextlib.contextmanager", "_reference", "contextlib.contextmanager({})"),
    ("builder/pairs/matched.py", "@functools.cache", "_bin_starts", "{}"),
    ("builder/pairs/partners.py", "@property", "states_something", "property({})"),
    ("builder/judge/judge.py", "@property", "label", "property({})"),
    ("builder/judge/critique.py", "@property", "reason", "property({})"),
)
SETTINGS = f"""
[tool.mutmut]
source_paths = ["builder", "training"]
only_mutate = {json.dumps(MUTATED)}
also_copy = {json.dumps([name for name in (*COPIED, *FILES) if name not in ("builder", "training", "tests")])}
pytest_add_cli_args_test_selection = {json.dumps(TESTS)}
pytest_add_cli_args = ["-p", "no:cacheprovider"]
track_dependencies = false
use_git_change_detection = false
"""
# mutmut asks which functions a test calls, and forgets those that a fixture of several tests called for the first of them.
SHARED_FIXTURES = """

_called = {}


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef, request):
    if os.environ.get("MUTANT_UNDER_TEST") != "stats" or fixturedef.scope == "function":
        return (yield)
    from mutmut.state import state

    before = set(state()._stats)
    state()._stats.clear()
    result = yield
    _called[fixturedef.argname] = set(state()._stats)
    state()._stats |= before
    return result


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item):
    if os.environ.get("MUTANT_UNDER_TEST") == "stats":
        from mutmut.state import state

        for name in item.fixturenames:
            state()._stats |= _called.get(name, set())
"""
# Training two models for each mutant of the scoring would take most of the time: they are trained once.
TRAINED_ONCE = """

_ONCE = Path(os.environ["PERSONA_MUTATION_MODELS"])


@pytest.fixture(scope="session")
def place():
    place = Place(_ONCE / "tiny", _ONCE / "data")
    if not place.data.is_dir():
        build_tiny_model(place.base)
        write_published_folder(place.data)
    return place


@pytest.fixture(scope="session")
def dpo_folder(place):
    folder = _ONCE / "dpo"
    return folder if folder.is_dir() else dpo.main(place.arguments("demo_dpo", folder))


@pytest.fixture(scope="session")
def reward_folder(place):
    folder = _ONCE / "reward"
    return folder if folder.is_dir() else reward.main(place.arguments("demo_reward", folder))
"""


def prepare(target: Path) -> None:
    """`target` must not exist yet."""
    source = Path(__file__).parent.parent
    for name in COPIED:
        shutil.copytree(source / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy2(source / name, target / name)
    for file, decorator, function, call in DECORATED:
        path = target / file
        text = path.read_text("utf-8")
        pattern = rf"( *){re.escape(decorator)}\n( *def {function}\(.*?\n)(?=\n*(?:\1@|\1def |\1class |\Z|\S))"
        found = re.search(pattern, text, re.DOTALL)
        if not found:
            raise SystemExit(f"{file} has no {function} under {decorator}. Change DECORATED.")
        indent, body = found.groups()
        body = f"{body.rstrip()}\n\n{indent}{function} = {call.format(function)}\n\n"
        path.write_text(text[: found.start()] + body + text[found.end() :], "utf-8")
    for file, more in (
        ("tests/conftest.py", SHARED_FIXTURES),
        ("tests/training/conftest.py", TRAINED_ONCE),
        ("pyproject.toml", SETTINGS),
    ):
        with (target / file).open("a", encoding="utf-8") as opened:
            opened.write(more)


def sample(mutants: Path, size: int) -> list[str]:
    """Names of at most `size` mutants a module (0: all), drawn by the module's name."""
    names = []
    for path in sorted(mutants.rglob("*.py.meta")):
        own = sorted(json.loads(path.read_text("utf-8"))["exit_code_by_key"])
        if own:
            random.Random(f"0/{own[0].rpartition('.')[0]}").shuffle(own)
            names += own[: size or None]
    return names


class Forks:
    """A pytest plugin: instead of running the tests once, run for each mutant those that call its function, until one fails.

    budget: seconds of the processor for the tests of one mutant, those of its own file first, the quick ones before the slow ones. What
    survives is judged by hand, or run again by name with more.
    """

    def __init__(self, names: list[str], out: Path, budget: float) -> None:
        notes = json.loads(Path("mutmut-stats.json").read_text("utf-8"))
        self.names, self.out, self.budget = names, out, budget
        self.seconds: dict[str, float] = notes["duration_by_test"]
        self.tests_of: dict[str, list[str]] = notes["tests_by_mangled_function_name"]
        self.noted = set(self.seconds)
        self.running = ""

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: Any) -> bool:
        from mutmut.mutation.trampoline import set_mutant_under_test

        # tqdm's lock is shared by all processes: a fork that ends while it holds it would keep all later ones waiting.
        tqdm.monitor_interval = 0
        tqdm.set_lock(threading.RLock())
        set_mutant_under_test("")
        items = {item.nodeid: item for item in session.items}
        # Twice, for the first time pays for imports. A test that fails here ends everything.
        for _ in range(2):
            self.run_tests([item for name, item in items.items() if self.seconds.get(name, 0.0) < SLOW])
        gc.collect()
        gc.freeze()
        results = json.loads(self.out.read_text("utf-8")) if self.out.exists() else {}
        for mutant in self.names:
            if mutant not in results:
                results[mutant] = self.outcome(mutant, items)
                self.out.write_text(json.dumps(results, indent=0), "utf-8")
        return True

    def chosen(self, mutant: str, items: dict[str, Any]) -> tuple[list[Any], float]:
        """The tests for a mutant in the order in which they run, and their seconds."""
        module, _, function = mutant.rpartition(".")
        own = f"test_{OWN.get(module, module.rpartition('.')[2])}.py"
        names = [
            name for name in self.tests_of.get(f"{module}.{function.rpartition('__mutmut_')[0]}", []) if name in items
        ]
        # A test that was written since the notes may call anything of its module.
        names += [name for name in items if name not in self.noted and own in name]
        kept: list[str] = []
        total = 0.0
        for name in sorted(names, key=lambda name: (own not in name, self.seconds[name], name)):
            if not kept or total + self.seconds[name] <= self.budget:
                kept.append(name)
                total += self.seconds[name]
        # File by file, so that the fixtures of a file are made once.
        first = {name.partition("::")[0]: place for place, name in reversed(list(enumerate(kept)))}
        return [items[name] for name in sorted(kept, key=lambda name: first[name.partition("::")[0]])], total

    def run_tests(self, items: list[Any]) -> None:
        """Without pytest's reports, which cost more than most of these tests."""
        for item, following in zip(items, [*items[1:], None], strict=True):
            self.running, begun = item.nodeid, time.process_time()
            item.stash[tmppath_result_key] = {}
            item._initrequest()
            try:
                item.session._setupstate.setup(item)
                item.runtest()
            except pytest.skip.Exception:
                pass
            finally:
                item.session._setupstate.teardown_exact(following)
                # As pytest does: else the next run of the test, in a fork, would get these values of its fixtures.
                item._request, item.funcargs = False, None
            self.seconds[item.nodeid] = time.process_time() - begun

    def outcome(self, mutant: str, items: dict[str, Any]) -> list[Any]:
        """[what became of it, the test that failed, seconds]"""
        from mutmut.mutation.trampoline import set_mutant_under_test

        tests, expected = self.chosen(mutant, items)
        if not tests:
            return ["no tests", "", 0]
        read, write = os.pipe()
        begun = time.time()
        pid = os.fork()
        if pid == 0:
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, 1)
            os.dup2(null, 2)
            # Seconds of the processor, so that a busy machine makes no timeouts.
            limit = int(sum(os.times()[:2]) + 5 + 2 * expected)
            resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))
            signal.alarm(240)
            set_mutant_under_test(mutant)
            try:
                self.run_tests(tests)
            except BaseException:
                os.write(write, self.running.encode())
                os._exit(1)
            os._exit(0)
        os.close(write)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        failed = os.read(read, 1000).decode(errors="replace")
        os.close(read)
        timeouts = {-signal.SIGXCPU: "timeout", -signal.SIGALRM: "timeout"}
        said = {0: "survived", 1: "killed", **timeouts}.get(code, f"ended with {code}")
        return [said, failed, round(time.time() - begun, 2)]


def main(arguments: list[str]) -> None:
    match arguments:
        case ["prepare", target]:
            prepare(Path(target))
        case ["run", target, out, budget, size, *names]:
            out_path = Path(out).resolve()
            os.chdir(Path(target) / "mutants")
            sys.path.insert(0, os.getcwd())
            options = ["-q", "-s", "-p", "no:cacheprovider", "-p", "no:logging", "--rootdir=.", "-W", "ignore"]
            forks = Forks(names or sample(Path(), int(size)), out_path, float(budget))
            pytest.main([*options, *TESTS], plugins=[forks])
        case _:
            raise SystemExit("prepare FOLDER, or run FOLDER RESULTS.json SECONDS_A_MUTANT MUTANTS_A_MODULE [NAME ...]")


if __name__ == "__main__":
    main(sys.argv[1:])
