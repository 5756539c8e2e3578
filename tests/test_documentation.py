"""What README and docs tell people to type exists, and the README's commands are the ones that CI runs."""

import itertools
import re
import shlex
from pathlib import Path

import pytest
import typer

import persona

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands(path: Path, program: str) -> list[list[str]]:
    """The lines of the document's shell blocks that begin with `program`, as words."""
    blocks = re.findall(r"```(?:bash|sh|console)\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    lines = [line.strip().removeprefix("$ ") for line in lines]
    words = [shlex.split(line, comments=True) for line in lines if line.startswith(f"{program} ")]
    return [list(itertools.takewhile(lambda word: word not in ("||", "&&", "|", ";"), line)) for line in words]


PERSONA_COMMANDS = [(path.name, c) for path in DOCUMENTS for c in commands(path, "persona")]


@pytest.mark.parametrize(
    ("name", "words"), PERSONA_COMMANDS, ids=lambda v: v if isinstance(v, str) else " ".join(v)[:60]
)
def test_every_persona_command_in_the_documents_parses(name, words):
    command = typer.main.get_command(persona.app)
    arguments = words[1:]
    context = None
    while hasattr(command, "commands"):
        assert arguments, f"{name}: {' '.join(words)} names no verb"
        verb = arguments.pop(0)
        if verb == "--help":
            return
        assert verb in command.commands, f"{name}: there is no verb {verb}"
        command = command.commands[verb]
    if "--help" in arguments:
        return
    context = command.make_context(words[0], arguments)
    assert context.params


def test_there_are_commands_to_check():
    assert len(PERSONA_COMMANDS) >= 8


def test_make_targets_of_the_readme_exist_and_ci_runs_its_test_command():
    makefile = (ROOT / "Makefile").read_text()
    targets = {words[1] for words in commands(ROOT / "README.md", "make")}
    assert {"demo", "test"} <= targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), (
            f"make {target} is in the README but not in the Makefile"
        )
    assert "make test" in (ROOT / ".ci" / "run").read_text()


def test_every_folder_of_the_tree_is_in_the_readme():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for folder in (
        "builder/",
        "training/",
        "eval/",
        "dataset_card/",
        "accelerate_configs/",
        "benchmarks/",
        "tests/",
        "docs/",
    ):
        assert folder in readme


@pytest.mark.parametrize("path", [*DOCUMENTS, ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md"], ids=lambda p: p.name)
def test_links_between_documents_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#]+)", path.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (path.parent / target).exists(), f"{path.name} links to {target}, which is not there"


def test_the_study_file_of_the_documentation_is_the_one_that_is_there_and_loads():
    from eval.human.study import load_study

    file = ROOT / "docs" / "study_example.yaml"
    assert f"```yaml\n{file.read_text(encoding='utf-8')}```" in (ROOT / "docs" / "human_study.md").read_text(
        encoding="utf-8"
    )
    assert load_study(file).dataset == "runs/demo/published"  # what `make demo` makes, seen from the repository's root
