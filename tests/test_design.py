"""The rules that a machine can keep: which way imports run, no global random state (docs/design.md), no test that sleeps."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = [
    ROOT / "persona.py",
    *(f for d in ("builder", "training", "eval", "dataset_card") for f in sorted((ROOT / d).rglob("*.py"))),
]
OURS = {"builder", "training", "eval", "dataset_card", "persona"}
# What a folder may import of the others; `builder.x` allows that part of builder only.
SHARED = (
    "builder.schema",
    "builder.randomness",
    "builder.errors",
    "builder.statistics",
    "builder.files",
    "builder.private_text",
    "builder.lexical",
    "builder.llm",
    "builder.judge",
    "builder.hub",
    "builder.published",
    "builder.strict_yaml",
)
ALLOWED = {
    "persona.py": ("builder", "training", "eval"),
    "builder": ("builder", "dataset_card"),
    # A model is shown parts of a profile, so training must read the lines that builder wrote, by the same labels; and it chooses the lines
    # that bear on a question by the word vectors that give the questions their topics.
    "training": ("training", *SHARED, "builder.personas.profile", "builder.prompts.vectors"),
    # An evaluation that changes one attribute prints the profile anew, as builder does.
    "eval": ("eval", "training", *SHARED, "builder.personas.profile"),
    "dataset_card": ("dataset_card",),
}
# A stage may import the parts before it in this order, and itself.
STAGES = ["census", "personas", "prompts", "pairs"]
SHARED_BY_STAGES = {
    "schema",
    "strict_yaml",
    "lexical",
    "randomness",
    "errors",
    "recipe",
    "files",
    "hub",
    "statistics",
    "tables",
    "llm",
    "judge",
}
GLOBAL_RANDOMNESS = {
    "numpy.random": [
        "seed",
        "rand",
        "randn",
        "randint",
        "choice",
        "shuffle",
        "permutation",
        "random",
        "uniform",
        "normal",
    ],
    "torch": ["manual_seed", "rand", "randn", "randint", "randperm", "multinomial", "bernoulli"],
}


def imports_of(path: Path) -> set[str]:
    """Dotted names of our modules that a file imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; name the folder, as everywhere else"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.split(".")[0] in OURS}


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_run_one_way(path):
    place = path.relative_to(ROOT).parts[0]
    for name in imports_of(path):
        allowed = any(name == prefix or name.startswith(f"{prefix}.") for prefix in ALLOWED[place])
        assert allowed, f"{path.relative_to(ROOT)} imports {name}; {place} may import {', '.join(ALLOWED[place])}"


@pytest.mark.parametrize(
    "path", [p for p in SOURCES if p.is_relative_to(ROOT / "builder")], ids=lambda p: str(p.relative_to(ROOT))
)
def test_a_stage_never_imports_a_later_stage(path):
    part = path.relative_to(ROOT / "builder").parts[0]
    for name in imports_of(path):
        other = name.split(".")[1]
        if part in STAGES:
            assert other in SHARED_BY_STAGES | set(STAGES[: STAGES.index(part) + 1]), (
                f"{path.name}: {part} imports {name}"
            )
        elif part in ("llm", "judge"):
            assert other in SHARED_BY_STAGES, f"{path.name}: {part} imports {name}"
    if path.name == "schema.py":
        assert imports_of(path) == set()


def test_only_publish_knows_the_card():
    users = {
        p.name
        for p in SOURCES
        if p.is_relative_to(ROOT / "builder") and any(n.startswith("dataset_card") for n in imports_of(p))
    }
    assert users == {"card.py"}


def dotted(node: ast.AST) -> str:
    return f"{dotted(node.value)}.{node.attr}" if isinstance(node, ast.Attribute) else getattr(node, "id", "")


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_global_random_state(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    banned = {f"{module}.{name}" for module, names in GLOBAL_RANDOMNESS.items() for name in names}
    banned |= {name.replace("numpy", "np") for name in banned}
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            modules = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module]
            assert "random" not in modules, f"{path.name}:{node.lineno}: random; use builder.randomness.rng_for"
        if isinstance(node, ast.Call):
            called = dotted(node.func)
            own_generator = any(keyword.arg == "generator" for keyword in node.keywords)
            assert called not in banned or own_generator, (
                f"{path.name}:{node.lineno}: {called}; use builder.randomness.rng_for"
            )
            if called.endswith("default_rng"):
                assert node.args or node.keywords, f"{path.name}:{node.lineno}: an unseeded generator"


def test_the_rules_above_would_notice():
    """The checks themselves, on code that breaks them."""
    bad = ast.parse("import numpy as np\nnp.random.seed(1)\nfrom time import sleep\nsleep(1)\ntime.sleep(1)")
    calls = [dotted(n.func) for n in ast.walk(bad) if isinstance(n, ast.Call)]
    assert calls == ["np.random.seed", "sleep", "time.sleep"]
    assert [sleeps(call) for call in calls] == [False, True, True]


def sleeps(called: str) -> bool:
    return called.rpartition(".")[2] in ("sleep", "wait_for_timeout")


def test_no_test_sleeps():
    """What is awaited is looked for: tests.waiting. A search that runs for minutes by itself (tests/fuzz) is no test."""
    for path in sorted((ROOT / "tests").rglob("*.py")):
        if path.name in ("waiting.py", "__main__.py"):
            continue
        calls = [n for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.Call)]
        found = [f"{path.name}:{n.lineno}" for n in calls if sleeps(dotted(n.func))]
        assert not found, f"{found}: use tests.waiting.wait_until"


def test_no_respondent_row_no_key_and_no_machine_path_is_tracked():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    for name in filter(None, listed.stdout.decode().split("\0")):
        path = ROOT / name
        if not path.is_file() or path.suffix in (".parquet", ".png"):
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        # Tests invent paths and records to see that they are caught.
        if not name.startswith("tests/"):
            for place in ("/ro" + "ot/", "/ho" + "me/", "/wo" + "rk/"):
                assert place not in text, f"{name} names a path of somebody's machine: {place}"
            assert not re.search(r"20\d\d(HU|GQ)\d{7}", text), f"{name} holds a record's SERIALNO"
        assert not re.search(r"\b(sk-[A-Za-z0-9]{32,}|hf_[A-Za-z0-9]{30,})", text), f"{name} holds a key"
