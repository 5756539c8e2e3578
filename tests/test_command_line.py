"""The command line as a person or script meets it: exit codes, messages, last lines."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.builder.conftest import SCRIPTED, TEMPLATES
from tests.command_line import ROOT, persona
from tests.hub_server import environment, hub_server
from tests.openai_server import openai_server
from tests.published_folder import write_published_folder

QUICK = [f"--set={s}" for s in (*SCRIPTED, *TEMPLATES)]


def as_process(*arguments):
    """For what only a process of its own shows; everything else goes through `persona`."""
    command = [sys.executable, str(ROOT / "persona.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=900)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli") / "build"
    done = as_process("build", "demo", "--out", folder, *QUICK)
    assert done.returncode == 0, done.stderr
    return folder, done


def test_help_lists_every_verb_and_needs_no_heavy_import():
    shown = as_process("--help")
    assert shown.returncode == 0
    for verb in ("demo", "build", "audit", "publish", "train", "answer", "eval", "report", "check", "preview"):
        assert f" {verb} " in shown.stdout
    code = "import sys, persona; sys.exit(any(m in sys.modules for m in ('torch', 'datasets', 'pyarrow', 'numpy', 'yaml')))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


TRAINING_VERBS = ("dpo", "reward", "low-rank", "vpl", "p-dpo", "per-persona", "sweep", "score")


@pytest.mark.parametrize(
    "verb",
    ["build", "audit", "publish", *(f"train {name}" for name in TRAINING_VERBS), "answer", "eval", "report", "check"],
)
def test_every_verb_has_help(verb):
    assert persona(*verb.split(), "--help").returncode == 0


@pytest.mark.parametrize(
    ("verb", "packaged"),
    [("dpo", "demo_dpo dpo dpo_ipo qlora_dpo"), ("p-dpo", "demo_p_dpo p_dpo"), ("low-rank", "demo_low_rank low_rank")],
)
def test_the_help_of_a_method_names_its_recipes_and_where_its_keys_are(verb, packaged):
    shown = " ".join(persona("train", verb, "--help").stdout.split())
    method = verb.replace("-", "_")
    assert f"Without --recipe: demo_{method}." in shown
    named = shown.split("in training/recipes/: ")[1].split(". ")[0].split(", ")
    assert set(packaged.split()) <= set(named)
    assert not {"reward", "vpl", "p_dpo" if verb == "dpo" else "dpo"} & set(named)
    assert f"python -m training.{method} --help" in shown


def test_the_help_of_a_sweep_says_where_the_packaged_ones_are():
    assert "training/sweeps/" in persona("train", "sweep", "--help").stdout


def test_the_sweep_that_the_training_guide_shows_is_one(tmp_path):
    from training.sweep_recipe import all_cells, load_sweep

    shown = (ROOT / "docs" / "training.md").read_text(encoding="utf-8").split("A sweep of your own:\n```yaml\n")[1]
    (tmp_path / "mine.yaml").write_text(shown.split("```")[0])
    sweep = load_sweep(str(tmp_path / "mine.yaml"))
    assert {method.id for method in sweep.methods} == {"length", "blind", "fewshot", "public"}
    assert len(all_cells(sweep)) == 1 + 3 + 2 * 4


def test_the_training_guide_names_every_packaged_recipe():
    guide = (ROOT / "docs" / "training.md").read_text(encoding="utf-8").split("## 4. Methods")[1].split("## 5.")[0]
    for path in (ROOT / "training" / "recipes").glob("*.yaml"):
        assert f"`{path.stem}`" in guide


def test_answer_prints_what_a_model_writes_for_each_persona(tmp_path):
    """The embedded model, two tokens each: the command's road from arguments to lines."""
    data = write_published_folder(tmp_path / "data")
    asked = ["--persona", "p00003", "--persona", "none", "--question", "Why?", "--max-new-tokens", 2]
    done = persona("answer", "embedded", data, *asked)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line]
    assert [line.split(":")[0] for line in lines] == ["p00003", "none", "Next"]
    assert all("(cut at 2 tokens)" in line for line in lines[:2])


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
    done = as_process("build", "demo", "--max-calls", 5, "--out", tmp_path / "b", *QUICK)
    assert done.returncode == 3
    assert done.stderr.splitlines()[-1].startswith("Stopped by --max-calls 5: 5 calls made")


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
    assert "Choose roleplay" in done.stdout
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
        (["build", "demo", "--max-cost", "nan"], "--max-cost is nan; it takes an amount in USD, 0 or more"),
        (["build", "demo", "--max-cost", "-1"], "--max-cost is -1.0"),
        (["build", "demo", "--max-calls", "-1"], "--max-calls is -1"),
        (["build", "demo", "--pilot", "0"], "--pilot is 0"),
        (["build", "demo", "--pilot", "-3"], "--pilot is -3"),
        (["build", "demo", "--pilot", "3", "--dry-run"], "Run --pilot first"),
        (["build", "demo", "--engine", "ray", "--dry-run"], "nothing for --engine ray to do"),
        (["build", "demo", "--set", "personas.source=hub:org/people"], "names no revision"),
        (["build", "demo", "--set", "personas.source=none.jsonl"], "hub:org/name@revision"),
        (["publish", "{nowhere}", "--to", "{target}"], "does not exist"),
        (["audit", "{nowhere}"], "does not exist"),
        (["train", "dpo", "{nowhere}", "--out", "{target}"], ""),
        (["train", "dpo", "{nowhere}", "--out", "{target}", "--recipe", "dop"], "demo_dpo"),
        (["train", "low-rank", "{nowhere}", "--out", "{target}", "--recipe", "low"], "demo_low_rank"),
        (
            ["train", "p-dpo", "{nowhere}", "--out", "{target}", "--push", "org/name"],
            "A p_dpo model loads with this project only",
        ),
        (["train", "per-persona", "{nowhere}", "--out", "{target}", "--merge"], "a per_persona model has none"),
        (["train", "sweep", "baselnies", "{nowhere}", "--out", "{target}"], "baselines_cpu"),
        (["train", "sweep", "baselines_cpu", "{nowhere}", "--out", "{target}"], "does not exist"),
        (["train", "sweep", "baselines_cpu", ".", "--out", "{target}", "--only", "B66"], "closest is B6"),
        (["train", "score", "{nowhere}", "--out", "{target}"], "Nothing is given to score with"),
        (["answer", "{nowhere}", "{nowhere}", "--persona", "none", "--question", "Why?"], "holds no training.json"),
        (["eval", "models", "{nowhere}", "--out", "{target}"], ""),
        (["eval", "bench", "{nowhere}", "--out", "{target}"], ""),
        (["report", "{nowhere}"], "no evaluation result"),
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


def test_a_process_ends_with_that_exit_code_too(tmp_path):
    done = as_process("build", "missing.yaml", "--out", tmp_path / "out")
    assert done.returncode == 2
    assert done.stderr.startswith("Error: Recipe missing.yaml does not exist")


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


def test_a_folder_of_another_build_is_refused_with_the_values_that_differ_shortened(built):
    folder, _ = built
    done = persona("build", "demo", "--out", folder, *QUICK, "--set", f"models.judge.model=a/{'long-' * 40}name")
    assert done.returncode == 2
    assert "models.judge.model: " in done.stderr
    assert "long-long" in done.stderr
    assert "long-" * 15 not in done.stderr


READ_PERSONAS = """
import json, sys
from builder.check import check_recipe
from builder.ownership import new_build
from builder.errors import InputError
from builder.pipeline import run_build
from pathlib import Path
from tests.builder.conftest import scripted_recipe
for source, out in zip(sys.argv[1::2], sys.argv[2::2]):
    recipe = scripted_recipe(f"personas.source={source}", "personas.count=4", "personas.profile_max_tokens=300")
    try:
        result = run_build(recipe, Path(out), until="personas")
        said = {"inputs": result.build["inputs"], "profiles": sorted(r["profile"] for r in result.rows("personas"))}
    except InputError as error:
        said = {"error": str(error)}
    print(json.dumps(said))
"""


def test_finished_personas_come_from_the_hub_at_a_commit_that_the_build_keeps(tmp_path):
    people = "".join(json.dumps({"profile": f"Person {n} keeps bees."}) + "\n" for n in range(5))
    with hub_server() as server:
        old = server.commit("org/people", {"people.jsonl": people}, tags=("v1",))
        new = server.commit("org/people", {"people.jsonl": people.replace("bees", "cats")})
        source, moved = "hub:org/people@v1", "hub:org/people@main"
        runs = [(source, "a"), (moved, "b"), (f"hub:org/people@{old}", "a"), (moved, "a"), ("hub:org/none@v1", "c")]
        done = subprocess.run(
            [sys.executable, "-c", READ_PERSONAS, *(part for s, o in runs for part in (s, str(tmp_path / o)))],
            env=environment(server, tmp_path / "cache") | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    first, second, pinned, other, none = (json.loads(line) for line in done.stdout.splitlines())
    assert first["inputs"]["personas.source"] == f"hub:org/people@{old}"
    assert second["inputs"]["personas.source"] == f"hub:org/people@{new}"
    assert all("bees" in profile for profile in first["profiles"])
    assert all("cats" in profile for profile in second["profiles"])
    # The commit by its tag or by its name is one build, another commit is another.
    assert pinned == first
    assert "content of personas.source" in other["error"]
    assert "hub:org/none@v1" in none["error"]


def test_the_calls_and_the_disk_that_a_check_expects_are_those_of_the_scaling_guide():
    from builder.check import estimated_bytes, estimated_calls
    from builder.recipe import load_recipe

    calls = estimated_calls(load_recipe("paper"))
    assert calls["answer"] + calls["critique"] + calls["revision"] == 638_268
    assert calls["judge"] == pytest.approx(634_400 + 1_240_000, rel=1e-3)
    second = ["models.second_judge.provider=scripted", "models.second_judge.model=b"]
    with_second = estimated_calls(load_recipe("paper", second))
    assert with_second["judge"] - calls["judge"] == pytest.approx(1_244_000, rel=1e-3)
    matched = estimated_calls(load_recipe("paper", ["configs=[dpf, dpf_matched, contrast]"]))
    assert sum(matched.values()) - sum(calls.values()) == 1_268_800
    only_checked = estimated_calls(load_recipe("paper", ["pairs.judged=check", "configs=[dpf]", *second]))
    assert only_checked["judge"] == 8_000
    # Record 1.6 GB, tables 1.0 GB, and as much again for shards.
    assert estimated_bytes(load_recipe("paper")) == pytest.approx(3.6e9, rel=0.1)
