"""The three doors: each page and its file in examples/ hold the same commands, and each file runs from beginning to end, small."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as parquet
import pytest
import yaml

from builder.files import read_json
from builder.pipeline import run_build
from builder.publishing.publish import publish
from builder.recipe import as_dict
from tests.builder.conftest import scripted_recipe
from tests.hub_server import WRITE_TOKEN, environment, hub_server

ROOT = Path(__file__).parent.parent
DOORS = {"researcher": "researcher.py", "trainer": "trainer.sh", "maintainer": "maintainer.sh"}
# NAME=${NAME:-default} in a shell file, NAME = os.environ.get("NAME", "default") in a Python file. A default that is a command stays.
SETTING = re.compile(r'^(\w+)(?:=\$\{\1:-([^$\n]*)\}| = os\.environ\.get\("\1", "(.*)"\))$', re.MULTILINE)


def code_of(page: str) -> list[str]:
    """The lines of the page's blocks of commands and code; blocks of output have no language."""
    blocks = re.findall(r"^```(?:bash|python)\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    return [line.strip() for line in "".join(blocks).splitlines() if line.strip()]


def as_on_the_page(source: str) -> list[str]:
    """The file's lines with every default filled in where the file takes a setting from the environment."""
    for name, in_shell, in_python in SETTING.findall(source):
        default = in_shell or in_python
        source = source.replace(f'{name} = os.environ.get("{name}", "{default}")', f'{name} = "{default}"')
        source = re.sub(rf'"\${name}([^"\s]*)"', lambda found, default=default: default + found[1], source)
        source = source.replace(f"{{{name}}}", default)
    source = re.sub(r"\$\{\{(\w+):-(.*)\}\}$", r"\2", source, flags=re.MULTILINE)  # in an f-string
    return [line.strip().replace("\\\\", "\\") for line in source.splitlines()]


@pytest.mark.parametrize(("page", "file"), DOORS.items())
def test_every_command_of_a_page_stands_in_its_file_in_the_same_order(page, file):
    lines = iter(as_on_the_page((ROOT / "examples" / file).read_text(encoding="utf-8")))
    code = code_of((ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8"))
    assert len(code) >= 5
    for line in code:
        assert line in lines, f"docs/{page}.md has this line, and examples/{file} has it not, or not here: {line}"


@pytest.mark.parametrize(("page", "file"), DOORS.items())
def test_every_command_of_a_file_stands_on_its_page(page, file):
    code = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8").splitlines()
    ours = ("persona ", "trl ", "accelerate ")
    commands = [line for line in as_on_the_page((ROOT / "examples" / file).read_text()) if line.startswith(ours)]
    assert len(commands) >= 3
    assert [line for line in commands if line not in [c.strip() for c in code]] == []


@pytest.mark.parametrize("page", DOORS)
def test_a_door_is_a_short_page(page):
    assert len((ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8").splitlines()) <= 80


def test_the_sweep_on_the_page_is_the_one_that_is_run():
    sweep = (ROOT / "examples" / "sweep.yaml").read_text(encoding="utf-8")
    assert f"```yaml\n{sweep}```" in (ROOT / "docs" / "trainer.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """What `make demo` leaves, from the scripted client: build, published version, and the recipe that made them."""
    folder = tmp_path_factory.mktemp("demo")
    recipe = scripted_recipe("personas.profile_max_tokens=90")  # the tiny model makes many tokens of a word
    (folder / "recipe.yaml").write_text(yaml.safe_dump(as_dict(recipe)), encoding="utf-8")
    run_build(recipe, folder / "build")
    publish(folder / "build", folder / "published")
    return folder


def run(file: str, folder: Path, demo: Path, **settings: object) -> str:
    """Run an example in the project's folder, with `persona` as this checkout's; what it printed."""
    persona = folder / "bin" / "persona"
    persona.parent.mkdir()
    persona.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{ROOT / "persona.py"}" "$@"\n', encoding="utf-8")
    persona.chmod(0o755)
    done = subprocess.run(
        ["bash" if file.endswith(".sh") else sys.executable, str(ROOT / "examples" / file)],
        cwd=ROOT,
        env={
            **os.environ,
            "PATH": os.pathsep.join([str(persona.parent), str(Path(sys.executable).parent), os.environ["PATH"]]),
            **{"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            **{"DATA": str(demo / "published"), "BUILD": str(demo / "build"), "OUT": str(folder / "out")},
            **{name: str(value) for name, value in settings.items()},
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def test_the_researchers_file(demo, tmp_path, tiny_model):
    said = run("researcher.py", tmp_path, demo, MODEL=tiny_model)
    assert (tmp_path / "out" / "dpo" / "model.safetensors").is_file()
    table = said.splitlines()[-3:]
    assert [line.split()[0] for line in table] == ["pair_kind", "contrast", "dpf"]
    # No persona, and complete mirrors: exactly one half, whatever was learned.
    assert float(table[1].split()[2]) == 0.5


@pytest.mark.thorough
def test_the_trainers_file(demo, tmp_path, tiny_model):
    base = {"model_name_or_path": str(tiny_model), "base_model_id": "test/tiny", "max_length": 512}
    recipe = yaml.safe_load((ROOT / "training" / "recipes" / "demo_dpo.yaml").read_text(encoding="utf-8"))
    sweep = yaml.safe_load((ROOT / "examples" / "sweep.yaml").read_text(encoding="utf-8"))
    sweep["arguments"] |= base
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe | base), encoding="utf-8")
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(sweep), encoding="utf-8")
    said = run("trainer.sh", tmp_path, demo, RECIPE=tmp_path / "recipe.yaml", SWEEP=tmp_path / "sweep.yaml")
    assert "the same weights" in said
    assert said.count("contrast, all four cells together") == 2
    assert "4 of 6 results made now" not in said
    assert "2 of 6 results made now, 4 kept from before." in said


@pytest.mark.thorough
def test_the_maintainers_file(demo, tmp_path):
    with hub_server() as server:
        variables = environment(server, tmp_path / "cache", WRITE_TOKEN)
        hub = {name: variables[name] for name in variables if name.startswith(("HF_", "NO_PROXY"))}
        # Elsewhere the tests work offline; this one has a Hub of its own.
        hub["HF_HUB_OFFLINE"] = "0"
        said = run("maintainer.sh", tmp_path, demo, RECIPE=demo / "recipe.yaml", HUB="hub:some/body", **hub)
        assert set(server.tags("some/body")) == {"v0.1.0", "v0.2.0"}
    assert "exit code 2" in said
    assert "the same files" in said
    assert said.count("Step: minor. The next version after 0.1.0 is 0.2.0.") == 2
    again = read_json(tmp_path / "out" / "again" / "build.json")
    assert again["usage"]["calls"] == 0 < again["usage"]["hits"]
    before, after = (
        parquet.read_table(next((folder / "data" / "personas").iterdir()))["persona_id"].to_pylist()
        for folder in (demo / "published", tmp_path / "out" / "v0.2.0")
    )
    assert after[: len(before)] == before
    assert len(after) == 14
