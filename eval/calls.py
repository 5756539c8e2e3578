"""The models of an evaluation in front of the recorded responses of its folder: what was asked once is never asked again."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from builder.files import make_folder
from builder.llm.budget import Budget
from builder.llm.calls import ModelCalls
from builder.llm.model_recipe import ModelRecipe
from builder.llm.record import Record
from eval.judging import EvaluationJudge
from eval.language_models import LanguageModel
from eval.trained_client import TrainedClient

RECORD_FILE = "responses.sqlite"
MODEL_ROLE = "model"  # of the model that is evaluated


def open_calls(
    folder: Path,
    judges: Sequence[EvaluationJudge] = (),
    model: LanguageModel | None = None,
    *,
    more: Mapping[str, ModelRecipe] | None = None,
    base_model: str | None = None,
    budget: Budget | None = None,
    dry_run: bool = False,
) -> ModelCalls:
    """The calls of one evaluation, recorded in `folder`. A judge answers under its own role, the model under MODEL_ROLE.

    more: role -> recipe of further models. base_model: where a trained adapter's base is. dry_run: nothing is called or written.
    """
    recipes = {judge.judge.role: judge.recipe for judge in judges} | dict(more or {})
    clients: dict[str, Any] = {}
    if model is not None:
        recipes[MODEL_ROLE] = model.recipe
        if model.folder is not None:
            clients[MODEL_ROLE] = TrainedClient(model.folder, base_model, model.recipe.batch_size)
    if not dry_run:
        make_folder(folder)
    return ModelCalls(recipes, Record(folder / RECORD_FILE, read_only=dry_run), budget, dry_run, clients=clients)


def spent(calls: ModelCalls) -> str:
    """One sentence on what was called, replayed and paid; of a dry run, what would be."""
    spending = calls.spending
    said = (
        f"{spending.calls:,} calls, {spending.hits:,} replayed, {spending.prompt_tokens:,} prompt and "
        f"{spending.completion_tokens:,} completion tokens, {spending.cost_usd:.2f} USD"
    )
    return f"Dry run: this would take {said}. Nothing was called or written." if calls.dry_run else f"{said}."
