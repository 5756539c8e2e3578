"""A small build on the scripted client, shared by the tests that only read it."""

from pathlib import Path

import pytest

from builder.pipeline import BuildResult, run_build
from builder.recipe import BuildRecipe, load_recipe

SCRIPTED = [
    f"models.{role}.provider=scripted" for role in ("enricher", "checker", "generator", "critic", "reviser", "judge")
]
TEMPLATES = ["pairs.critique_template=critique_paper", "pairs.revision_template=revision_paper"]


def scripted_recipe(*overrides: str, name: str = "demo") -> BuildRecipe:
    return load_recipe(name, [*SCRIPTED, *TEMPLATES, *overrides])


@pytest.fixture(scope="session")
def scripted_build(tmp_path_factory: pytest.TempPathFactory) -> BuildResult:
    return run_build(scripted_recipe(), Path(tmp_path_factory.mktemp("scripted")) / "build")
