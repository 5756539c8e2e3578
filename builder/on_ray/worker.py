"""The work on one shard, in a worker's process."""

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.errors import BudgetStop, InputError
from builder.llm.budget import Spending
from builder.llm.calls import ModelCalls
from builder.llm.record import Record
from builder.on_ray.budget import SharedBudget
from builder.on_ray.records import add_spending, record_path, spent_in
from builder.recipe import ModelsRecipe
from builder.stages.shards import FinishedShard, Work, run_shard, shard_path


@dataclass(frozen=True)
class Place:
    """What a worker knows of the build. `models`: of the recipe, each endpoint with the part of its concurrency that one shard has."""

    folder: Path
    record: Path
    started_in: Path
    models: ModelsRecipe
    max_cost_usd: float | None
    retry_failed: bool
    reuse: bool


@dataclass(frozen=True)
class Outcome:
    """What became of a shard: finished, or not for an error, or (neither) for a cap."""

    spending: Spending
    finished: FinishedShard | None = None
    error: InputError | None = None


def work_on_shard(place: Place, number: int, work: Work, shared: Any, shard: Any, key: str, purse: Any) -> Outcome:
    """Errors that the user is to read come back as values, so that Ray does not wrap them into a traceback."""
    # Files of a recipe are named from where the build was started.
    os.chdir(place.started_in)
    path = record_path(place.folder, number)
    # Not nothing where another worker died on this shard.
    before = spent_in(path, place.models)
    record = Record(path, fallback=place.record)
    budget = SharedBudget(max_cost_usd=place.max_cost_usd, purse=purse, shard=number, before=before)
    calls = ModelCalls(place.models, record, budget, retry_failed=place.retry_failed)
    finished, error = None, None
    try:
        finished = run_shard(shard_path(place.folder, number), work, shared, shard, calls, key, place.reuse)
    except InputError as raised:
        error = raised
    except BudgetStop:
        pass
    finally:
        record.close()
    # What the dead worker asked for are calls of this run, and not replies that were there.
    spending = dataclasses.replace(calls.spending, hits=max(0, calls.spending.hits - before.calls))
    add_spending(spending, before)
    # The purse hears of the last calls, and gets back what was granted and not used.
    budget.affordable(0)
    return Outcome(spending, finished, error)
