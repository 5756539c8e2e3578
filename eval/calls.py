"""The models of an evaluation in front of the recorded responses of its folder: what was asked once is never asked again."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from builder.errors import InputError
from builder.files import make_folder
from builder.llm.budget import Budget, cost_usd
from builder.llm.calls import ModelCalls
from builder.llm.messages import Usage
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


def check_all_answered(calls: ModelCalls) -> None:
    """Before a result is written. Raises InputError where an endpoint left calls of this part open: a result with holes would count as
    finished, and nobody would ask again."""
    if calls.left_open:
        raise InputError(
            f"{calls.left_open:,} calls were left open by an endpoint, so no result is written. Run the same command again to fill them: "
            "what was answered is replayed."
        )


def part_usage(calls: ModelCalls) -> dict[str, Any]:
    """{responses, prompt_tokens, completion_tokens, cost_usd} of the replies of one result, which began with `calls.begin_part()`."""
    part = calls.part_usage()
    responses, prompt, completion = (sum(sums[i] for sums in part.values()) for i in range(3))
    cost = sum(cost_usd(Usage(*part[role][1:]), calls.recipe(role)) for role in sorted(part))
    return {"responses": responses, "prompt_tokens": prompt, "completion_tokens": completion, "cost_usd": cost}


def spent(calls: ModelCalls) -> str:
    """One sentence on what was called, replayed and paid; of a dry run, what would be."""
    spending = calls.spending
    said = (
        f"{spending.calls:,} calls, {spending.hits:,} replayed, {spending.prompt_tokens:,} prompt and "
        f"{spending.completion_tokens:,} completion tokens, {spending.cost_usd:.2f} USD"
    )
    return f"Dry run: this would take {said}. Nothing was called or written." if calls.dry_run else f"{said}."
