"""The fuzzer on a small fixed number of inputs, on everything that once broke a parser, and on targets that break on purpose."""

import importlib
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from hypothesis import strategies as st

from builder.errors import InputError
from tests.fuzz.__main__ import TARGETS
from tests.fuzz.engine import Count, Crash, run_round, try_input, write_crash
from tests.fuzz.mutations import Files
from tests.fuzz.regressions import CASES

INPUTS = 25  # of each target; `python -m tests.fuzz` is for more


def module(target: str) -> ModuleType:
    return importlib.import_module(f"tests.fuzz.{target}")


@pytest.mark.parametrize("target", TARGETS)
def test_a_few_inputs_of_each_target_are_read_or_refused(target: str) -> None:
    count = Count()
    crash = run_round(module(target), 0, INPUTS, count)
    assert crash is None, crash.trace
    # Inputs that are all refused at the first look would try nothing.
    assert count.inputs - count.refused >= INPUTS // 20


@pytest.mark.parametrize(("target", "files"), CASES, ids=[f"{target}-{next(iter(files))}" for target, files in CASES])
def test_what_once_broke_a_parser_does_so_no_more(target: str, files: Files) -> None:
    try_input(module(target), files)


def broken(check: Any) -> Any:
    """A target whose inputs are texts of letters."""
    letters = st.text("abcx", max_size=20).map(lambda text: {"letters": text.encode()})
    return SimpleNamespace(inputs=lambda: letters, check=check)


def test_a_crash_is_found_minimised_and_written_whole(tmp_path: Path) -> None:
    def check(folder: Path, files: Files) -> None:
        if b"x" in (folder / "letters").read_bytes():
            raise KeyError("an x")

    crash = run_round(broken(check), 3, 200, Count())
    assert crash is not None
    assert crash.files == {"letters": b"x"}
    written = write_crash(tmp_path / "new", "pums", crash).read_text(encoding="utf-8")
    assert "(\"pums\", {'letters': b'x'})," in written
    assert "round 3" in written
    assert "KeyError: 'an x'" in written


def test_what_takes_too_long_is_a_crash_even_where_errors_are_caught() -> None:
    def check(folder: Path, files: Files) -> None:
        until = time.process_time() + 20
        while time.process_time() < until:
            try:
                sum(range(1000))
            except Exception:
                continue

    with pytest.raises(AssertionError, match="no answer after"):
        try_input(broken(check), {"letters": b""}, seconds=0.2)


@pytest.mark.parametrize("value", ["!!int {}", "http://user:{}℀@host/", "http://[{}"])
def test_a_refused_recipe_does_not_repeat_what_may_be_a_key(value: str) -> None:
    secret = "sk-0123456789abcdef"
    said = try_input(module("recipes"), {"recipe.yaml": f"name: {value.format(secret)}\nseed: 1\n".encode()})
    assert said is not None
    assert secret not in said


@pytest.mark.parametrize("message", ["", " "])
def test_a_refusal_says_something(message: str) -> None:
    def check(folder: Path, files: Files) -> None:
        raise InputError(message)

    with pytest.raises(AssertionError, match="without a message"):
        try_input(broken(check), {"letters": b""})


def test_the_same_round_tries_the_same_inputs() -> None:
    tried: list[list[Files]] = [[], []]
    for inputs in tried:
        assert run_round(module("verdicts"), 7, 10, Count(), inputs.append) is None
    assert tried[0] == tried[1]
    assert isinstance(Crash({}, ""), Crash)
