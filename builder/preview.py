"""One persona and one pair, finished, before a whole build is paid for."""

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

from builder.pipeline import run_build
from builder.recipe import BuildRecipe


def preview(recipe: BuildRecipe, clients: dict[str, Any] | None = None) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """(persona row, pair row) from a build of one persona and one prompt in a temporary folder; the pair is None if it failed."""
    small = dataclasses.replace(
        recipe,
        personas=dataclasses.replace(recipe.personas, count=1, seen=1),
        prompts=dataclasses.replace(recipe.prompts, count=1, heldout=0, controversy="none"),
        # One question is taken as it comes: to have all of a source voted on for one pair would be dear.
        models=dataclasses.replace(
            recipe.models, classifier=dataclasses.replace(recipe.models.classifier, provider="none")
        ),
        pairs=dataclasses.replace(recipe.pairs, train=1, seen_test=0, heldout_test=0, judged="all", judge_check=0),
    )
    with tempfile.TemporaryDirectory(prefix="persona-preview-") as folder:
        result = run_build(small, Path(folder) / "build", until="pairs", clients=clients)
        return result.rows("personas")[0], next(iter(result.rows("dpf")), None)
