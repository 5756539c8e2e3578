"""What would fail later, found before anything is spent."""

import functools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from builder.errors import InputError
from builder.llm.calls import make_client
from builder.llm.templates import load_template
from builder.ownership import hash_inputs, template_names
from builder.pipeline import load_judges
from builder.recipe import ROLES, BuildRecipe

# A recorded answer with its request takes about 3 kB in SQLite; the tables take about as much again.
BYTES_PER_CALL = 6_000


def check_recipe(recipe: BuildRecipe, folder: Path) -> list[tuple[str, str | None]]:
    """(what was looked at, the problem or None) for every check; a problem does not hide those after it."""
    checks: list[tuple[str, Callable[[], Any]]] = [
        ("input files", lambda: hash_inputs(recipe)),
        ("personas", lambda: _check_personas(recipe)),
        ("questions", lambda: _check_prompts(recipe)),
        ("prompt templates", lambda: _check_templates(recipe)),
        ("judges", lambda: load_judges(recipe)),
        ("disk space", lambda: _check_disk(recipe, folder)),
    ]
    checked: dict[Any, str] = {}
    for role in ROLES:
        model = getattr(recipe.models, role)
        unused = {"enricher": recipe.personas.enrichment == "none", "checker": recipe.personas.consistency == "rules"}
        if model.provider == "none" or unused.get(role):
            continue
        if model in checked:
            continue
        checked[model] = role
        name = f"model of the {role} ({model.provider}: {model.model})"
        checks.append((name, functools.partial(_check_model, recipe, role, model)))
    return [(name, _problem(check)) for name, check in checks]


def _problem(check: Callable[[], Any]) -> str | None:
    try:
        check()
    except InputError as error:
        return str(error)
    return None


def _check_personas(recipe: BuildRecipe) -> None:
    from builder.imports.personas_file import draw_personas
    from builder.personas.personas import read_records

    if recipe.personas.source == "census":
        read_records(recipe.census)
    else:
        draw_personas(recipe)


def _check_prompts(recipe: BuildRecipe) -> None:
    from builder.prompts.prompts import read_usable_prompts

    read_usable_prompts(recipe)


def _check_templates(recipe: BuildRecipe) -> None:
    for name in template_names(recipe):
        load_template(name)


def _check_model(recipe: BuildRecipe, role: str, model: Any) -> None:
    client = make_client(role, model)
    client.check()
    if model.provider != "transformers":
        return
    from transformers import AutoConfig

    room = getattr(AutoConfig.from_pretrained(client.located.folder), "max_position_embeddings", None)
    pairs = recipe.pairs
    # Profile, question and base answer go in, critique or revision comes out; questions are rarely longer than 300 tokens.
    longest = recipe.personas.profile_max_tokens + 300 + pairs.answer.max_tokens
    longest += max(pairs.critique.max_tokens, pairs.critique.max_tokens + pairs.revision.max_tokens)
    if room is not None and longest > room:
        raise InputError(
            f"Profile ({recipe.personas.profile_max_tokens}), question and answers may take {longest} tokens, but {model.model} reads "
            f"{room}. Lower personas.profile_max_tokens or pairs.*.max_tokens, or choose a model with a longer context."
        )


def _check_disk(recipe: BuildRecipe, folder: Path) -> None:
    existing = next(p for p in (folder.resolve(), *folder.resolve().parents) if p.exists())
    needed = estimated_calls(recipe) * BYTES_PER_CALL
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise InputError(
            f"The build needs about {needed / 1e9:.1f} GB in {folder}, and {free / 1e9:.1f} GB are free. Give a folder on another disk."
        )


def estimated_calls(recipe: BuildRecipe) -> int:
    """Generations of a build: base answers, critiques and revisions (paper size: 638,268), without retries, votes and judging."""
    pairs = recipe.pairs
    per_persona = pairs.train + pairs.seen_test + pairs.heldout_test
    return recipe.prompts.count + recipe.personas.count * per_persona * (1 + pairs.candidates)
