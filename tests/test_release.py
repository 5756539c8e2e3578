"""What a release promises: one version, licences that fit, nothing private in any commit that leads to it."""

import re
import shutil
import subprocess
import tomllib
from collections import defaultdict
from pathlib import Path

import pytest
import yaml
from packaging.utils import canonicalize_name

from builder.private_text import CENSUS_KINDS, PATH_KINDS, SECRET_KINDS, kinds_in
from tests.licences import PROJECT, fits, installed, licences, uses

ROOT = Path(__file__).parent.parent
# They name the folder of Ray's logs, the same on every machine, and the form of a SERIALNO by one that nobody has.
NAMED_ON_PURPOSE = {
    "builder/on_ray/engine.py": {"a path of somebody's machine"},
    "builder/ray_engine.py": {"a path of somebody's machine"},
    "builder/private_text.py": {"a SERIALNO of the Bureau"},
}
# Only what can hardly be anything else: code that reads census files names their keys.
KINDS = (*SECRET_KINDS, *(kind for kind in CENSUS_KINDS if kind.in_texts), *PATH_KINDS)


def test_the_version_stands_in_one_place_and_is_said_the_same_elsewhere():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == project["version"]
    assert citation["license"] == project["license"]
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert headings[0].split()[0] in (project["version"], "Unreleased")
    assert any(heading.split()[0] == project["version"] for heading in headings)


@pytest.mark.skipif(
    not (installed(PROJECT) and installed("pip-licenses")), reason="runs where `make setup` installed the project"
)
def test_what_is_installed_is_listed_and_its_licence_fits():
    page = (ROOT / "docs" / "licences.md").read_text(encoding="utf-8")
    rows = page[page.index("| --- |") :].splitlines()[1:]
    listed = {row.split(" | ")[0].removeprefix("| "): row.split(" | ")[2].removesuffix(" |") for row in rows}
    # Another Python or a build for GPUs brings more; the list is that of the versions that the project is tested with.
    pinned = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    tested = {canonicalize_name(line.partition("==")[0]) for line in pinned if "==" in line}
    stated = licences(sorted(set(uses()) & tested))
    assert len(stated) > 60
    assert [f"{package}: {licence}" for package, licence in stated.items() if not fits(licence)] == []
    assert sorted(set(stated) - set(listed)) == [], "not in docs/licences.md; run `make licences` and read what is new"
    assert [package for package, licence in listed.items() if not fits(licence)] == []


@pytest.mark.parametrize(
    ("licence", "fitting"),
    [
        ("MIT AND PSF-2.0", True),
        ("MPL-2.0 AND (Apache-2.0 OR MIT)", True),
        ("GPL-3.0-only", False),
        ("GPL-2.0-only OR MIT", True),
        ("MIT AND LGPL-3.0", False),
        ("UNKNOWN", False),
        ("Proprietary; MIT License", False),
        ("Limited Use License", False),
        ("SSPL (unlimited)", False),
        ("permitted for evaluation", False),
        ("GNU General Public License v2 (no MIT)", False),
        ("3-Clause BSD License", True),
        ("ISC License (ISCL)", True),
        ("Mozilla Public License 2.0 (MPL 2.0)", True),
    ],
)
def test_which_licences_fit(licence, fitting):
    assert fits(licence) is fitting


def test_no_commit_ever_held_a_secret_a_machine_path_or_a_census_key():
    """Every line that any commit added, tests aside, which invent such things to see them caught; and every commit's message."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    command = ["git", "log", "HEAD", "--no-color", "--no-ext-diff", "--unified=0", "--format=commit %H%n%B", "--patch"]
    history = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    added: dict[str, list[str]] = defaultdict(list)
    name = "a commit's message"
    for line in history.stdout.decode("utf-8", errors="replace").split("\n"):
        if line.startswith("commit "):
            name = "a commit's message"
        elif line.startswith("+++ "):
            name = line.removeprefix("+++ ").removeprefix("b/")
        elif line.startswith("+") or name == "a commit's message":
            added[name].append(line.removeprefix("+"))
    assert len(added["a commit's message"]) > 0
    for name, lines in added.items():
        if not name.startswith("tests/"):
            found = {kind.name for kind in kinds_in("\n".join(lines), KINDS)}
            assert found <= NAMED_ON_PURPOSE.get(name, set()), name
