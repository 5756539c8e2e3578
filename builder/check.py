"""What would fail later, found before anything is spent."""

import functools
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from builder.errors import InputError
from builder.llm.calls import make_client
from builder.ownership import check_templates, hash_inputs, load_judges
from builder.recipe import ROLES, BuildRecipe

# The arithmetic of docs/scaling.md, section 2, and its lengths in tokens; a recipe may allow less.
TOKENS = {"answer": 300, "critique": 250, "revision": 250, "judge": 60}
BYTES_PER_TOKEN = 4.5
BYTES_PER_REPLY = 100  # that the record takes beside the reply's text
# Two rows that draw each other are judged once: 310,015 comparisons for 317,200 rows at the paper's size.
CONTRAST_SHARE = 310_015 / 317_200
DPF_ROW_BYTES = 1_300  # compressed
CONTRAST_ROW_BYTES = 1_000


def check_recipe(recipe: BuildRecipe, folder: Path) -> list[tuple[str, str | None]]:
    """(what was looked at, the problem or None) for every check; a problem does not hide those after it."""
    checks: list[tuple[str, Callable[[], Any]]] = [
        ("input files", lambda: hash_inputs(recipe)),
        ("personas", lambda: _check_personas(recipe)),
        ("questions", lambda: _check_prompts(recipe)),
        ("prompt templates", lambda: check_templates(recipe)),
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


def _check_model(recipe: BuildRecipe, role: str, model: Any) -> None:
    client = make_client(role, model)
    client.check()
    if model.provider != "transformers":
        return
    from transformers import AutoConfig

    room = getattr(
        AutoConfig.from_pretrained(client.located.folder, trust_remote_code=False), "max_position_embeddings", None
    )
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
    needed = estimated_bytes(recipe)
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise InputError(
            f"The build needs about {needed / 1e9:.1f} GB in {folder}, and {free / 1e9:.1f} GB are free. Give a folder on another disk."
        )


def estimated_calls(recipe: BuildRecipe) -> dict[str, int]:
    """Calls of the pair stages by kind (answer, critique, revision, judge), without repeated attempts; 2,512,728 for the recipe `paper`.

    A judge that role-plays is assumed, which reads every comparison in both orders.
    """
    settings = recipe.pairs
    pairs = _pair_count(recipe)
    checked = min(settings.judge_check, pairs)
    judges = 1 + (recipe.models.second_judge.provider != "none")
    texts = pairs * (1 + ("dpf_matched" in recipe.configs))
    # Among n candidates every one meets every other.
    choosing = 2 * math.comb(settings.candidates, 2) * texts
    # In the judge check all judges read the same comparison, which the first has read where it is asked about all pairs.
    judged = 2 * (texts + checked * (judges - 1) if settings.judged == "all" else checked * judges)
    contrast = round(4 * CONTRAST_SHARE * pairs * recipe.contrast.partners) if "contrast" in recipe.configs else 0
    return {
        "answer": pairs if settings.base_answer == "fresh" else recipe.prompts.count,
        "critique": texts,
        "revision": texts * settings.candidates,
        "judge": choosing + judged + contrast * judges,
    }


def estimated_bytes(recipe: BuildRecipe) -> int:
    """What a build takes on disk at most: the record, the tables, and the shards of the same rows while a stage runs."""
    pairs = _pair_count(recipe)
    allowed = {part: getattr(recipe.pairs, part).max_tokens for part in ("answer", "critique", "revision")}
    record = sum(
        number * (BYTES_PER_TOKEN * min(TOKENS[kind], allowed.get(kind, TOKENS[kind])) + BYTES_PER_REPLY)
        for kind, number in estimated_calls(recipe).items()
    )
    tables = DPF_ROW_BYTES * pairs * (1 + ("dpf_matched" in recipe.configs))
    if "contrast" in recipe.configs:
        tables += round(2 * CONTRAST_ROW_BYTES * CONTRAST_SHARE * pairs * recipe.contrast.partners)
    return round(record + 2 * tables)


def _pair_count(recipe: BuildRecipe) -> int:
    pairs = recipe.pairs
    return recipe.personas.count * (pairs.train + pairs.seen_test + pairs.heldout_test)
