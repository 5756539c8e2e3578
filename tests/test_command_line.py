"""The command line as a person or script meets it: exit codes, messages, last lines."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.builder.conftest import SCRIPTED, TEMPLATES
from tests.openai_server import openai_server

ROOT = Path(__file__).parent.parent
QUICK = [f"--set={s}" for s in (*SCRIPTED, *TEMPLATES)]


def persona(*arguments, **settings):
    command = [sys.executable, str(ROOT / "persona.py"), *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=settings.pop("cwd", ROOT), timeout=300, **settings
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli") / "build"
    done = persona("build", "demo", "--out", folder, *QUICK)
    assert done.returncode == 0, done.stderr
    return folder, done


def test_help_lists_every_verb_and_needs_no_heavy_import():
    shown = persona("--help")
    assert shown.returncode == 0
    for verb in ("demo", "build", "audit", "publish", "train", "eval", "report", "check", "preview"):
        assert f" {verb} " in shown.stdout
    code = "import sys, persona; sys.exit(any(m in sys.modules for m in ('torch', 'datasets', 'pyarrow', 'numpy', 'yaml')))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize("verb", ["build", "audit", "publish", "train dpo", "train reward", "eval", "report", "check"])
def test_every_verb_has_help(verb):
    assert persona(*verb.split(), "--help").returncode == 0


def test_build_says_what_it_did_and_what_comes_next(built):
    folder, done = built
    assert "personas" in done.stdout
    assert "calls:" in done.stdout
    assert (
        done.stdout.strip().splitlines()[-1]
        == f"Build in {folder}. Next: persona publish {folder} --to {folder}-published"
    )
    build = json.loads((folder / "build.json").read_text())
    assert set(build["stages"]) == {"personas", "prompts", "pairs", "contrast"}
    assert {"in", "out", "dropped", "seconds"} <= set(build["stages"]["pairs"])
    assert {"calls", "hits", "prompt_tokens", "completion_tokens", "cost_usd"} <= set(build["usage"])


def test_audit_and_publish(built, tmp_path):
    folder, _ = built
    audit = persona("audit", folder)
    assert audit.returncode == 0
    assert "contrast: shorter wins" in audit.stdout
    published = persona("publish", folder, "--to", tmp_path / "p", "--version", "0.1.0")
    assert published.returncode == 0, published.stderr
    assert "Next: persona train dpo" in published.stdout
    assert (tmp_path / "p" / "README.md").is_file()


def test_dry_run_writes_nothing(tmp_path):
    done = persona("build", "demo", "--dry-run", "--out", tmp_path / "b", *QUICK)
    assert done.returncode == 0, done.stderr
    assert "Nothing was called or written" in done.stdout
    assert not (tmp_path / "b").exists()


def test_budget_exit_code(tmp_path):
    done = persona("build", "demo", "--max-calls", 5, "--out", tmp_path / "b", *QUICK)
    assert done.returncode == 3
    assert "Stopped: Stopped by --max-calls 5" in done.stderr or "Stopped by --max-calls 5" in done.stderr


def test_preview_shows_one_persona_and_pair():
    done = persona("preview", "demo", *QUICK)
    assert done.returncode == 0, done.stderr
    for title in ("PERSONA", "QUESTION", "REJECTED", "CRITIQUE", "CHOSEN", "JUDGE"):
        assert title in done.stdout


def test_check_names_every_problem_at_once(tmp_path):
    fine = persona("check", "demo", "--out", tmp_path / "b", *QUICK)
    assert fine.returncode == 0, fine.stdout
    with openai_server() as endpoint:
        pass
    remote = [f"--set=models.judge.{k}={v}" for k, v in {"provider": "openai", "base_url": endpoint.base_url}.items()]
    done = persona(
        "check",
        "demo",
        "--prompts",
        tmp_path / "none.jsonl",
        *QUICK,
        *remote,
        "--set=judge=likelihood",
        "--out",
        tmp_path / "b",
    )
    assert done.returncode == 2
    assert "none.jsonl does not exist" in done.stdout
    assert "cannot be reached" in done.stdout
    assert "judge: roleplay" in done.stdout
    assert not (tmp_path / "b").exists()


def bad_files(tmp_path: Path) -> dict[str, Path]:
    files = {
        name: tmp_path / name
        for name in ("latin.jsonl", "empty.jsonl", "short.jsonl", "no.parquet", "few.csv", "noyear.csv")
    }
    files["latin.jsonl"].write_bytes('{"question": "Ist das schön oder nicht so?"}'.encode("latin-1"))
    files["empty.jsonl"].write_text("")
    files["short.jsonl"].write_text('{"question": "Why?"}\n{"question": "No mark at all here, really"}\n')
    files["no.parquet"].write_text("this is no parquet file")
    files["few.csv"].write_text("SERIALNO,ST,AGEP,SEX,RELP,PWGTP\n2018HU0000001,56,40,1,0,10\n")
    files["noyear.csv"].write_text("A,B\n1,2\n")
    return files


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["build", "demo", "--set", "personas.cuont=3"], r"closest valid key is personas.count"),
        (["build", "demo", "--set", "models.judge.api_key=sk-1234567890abcdef"], "environment variable"),
        (["build", "demo", "--set", "models.judge.base_url=http://me:pw123456@h/v1"], "carries credentials"),
        (["build", "missing.yaml"], "does not exist"),
        (["build", "demo", "--prompts", "missing.jsonl"], "does not exist"),
        (["build", "demo", "--census", "."], "holds no PUMS file"),
        (["build", "demo", "--prompts", "{latin.jsonl}"], "UTF-8"),
        (["build", "demo", "--prompts", "{empty.jsonl}"], "question"),
        (["build", "demo", "--prompts", "{short.jsonl}"], "question"),
        (["build", "demo", "--census", "{no.parquet}"], "no.parquet"),
        (["build", "demo", "--census", "{few.csv}"], "2018"),
        (["build", "demo", "--census", "{noyear.csv}"], "noyear.csv"),
        (["build", "demo", "--until", "publish"], "the stages are"),
        (["publish", "{nowhere}", "--to", "{target}"], "does not exist"),
        (["audit", "{nowhere}"], "does not exist"),
        (["train", "dpo", "{nowhere}", "--out", "{target}"], ""),
        (["train", "dpo", "{nowhere}", "--out", "{target}", "--recipe", "dop"], "demo_dpo"),
        (["eval", "{nowhere}", "--out", "{target}"], ""),
        (["report", "{nowhere}", "--published", "{nowhere}", "--results", "{nowhere}"], "build.json"),
    ],
)
def test_bad_input_is_exit_code_2_with_a_reason_and_writes_nothing(tmp_path, arguments, said):
    places = {f"{{{name}}}": str(path) for name, path in bad_files(tmp_path).items()}
    places |= {"{nowhere}": str(tmp_path / "nowhere"), "{target}": str(tmp_path / "target")}
    arguments = [places.get(a, a) for a in arguments]
    if arguments[0] == "build":
        arguments += ["--out", str(tmp_path / "out"), *QUICK]
    done = persona(*arguments)
    assert done.returncode == 2, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert "Error: " in done.stderr
    assert not (tmp_path / "target").exists()
    assert not list((tmp_path / "out").rglob("*.parquet"))


def test_an_endpoint_with_401_or_an_unknown_model(tmp_path):
    with openai_server(key="right", models=["test-model"]) as endpoint:
        remote = [
            f"--set=models.generator.{k}={v}" for k, v in {"provider": "openai", "base_url": endpoint.base_url}.items()
        ]
        refused = persona(
            "build", "demo", "--out", tmp_path / "a", *QUICK, *remote, "--set=models.generator.model=test-model"
        )
        endpoint.key = None
        unknown = persona(
            "build", "demo", "--out", tmp_path / "b", *QUICK, *remote, "--set=models.generator.model=tset-model"
        )
    assert (refused.returncode, unknown.returncode) == (2, 2)
    assert "401" in refused.stderr
    assert "test-model" in unknown.stderr
