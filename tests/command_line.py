"""`persona ...` as a person calls it, in this process: a process of its own takes seconds to import what this one has."""

import contextlib
import io
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import persona as program

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Done:
    """What subprocess.run would give."""

    returncode: int
    stdout: str
    stderr: str


def persona(*arguments: object) -> Done:
    """Runs in the project's folder, from the words of the command line to the exit code."""
    out, err = io.StringIO(), io.StringIO()
    code: object = 0
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        patch.setattr(sys, "argv", ["persona", *map(str, arguments)])
        patch.chdir(ROOT)
        try:
            program.main()
        except SystemExit as ended:
            code = ended.code
    return Done(code if isinstance(code, int) else int(code is not None), out.getvalue(), err.getvalue())
