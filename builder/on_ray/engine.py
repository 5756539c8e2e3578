"""Shards on Ray: the work of builder/stages/shards.py done by several processes, on this machine or on a cluster."""

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from builder.errors import InputError
from builder.llm.budget import Budget
from builder.llm.calls import ModelCalls
from builder.on_ray.budget import Purse
from builder.on_ray.cluster import connected, first_line
from builder.on_ray.nodes import refuse_unfit_nodes
from builder.on_ray.records import absorb_shards, add_spending, left_to_readers, record_path, spent_in
from builder.on_ray.resources import room_for_shards, share_endpoints
from builder.on_ray.worker import Outcome, Place, work_on_shard
from builder.recipe import BuildRecipe, ModelsRecipe
from builder.stages.shards import FinishedShard, Work, run_shard, shard_key, shard_path

# How often a shard is begun again whose worker died: one that kills its worker every time must come to an end.
RETRIES = 3


@contextlib.contextmanager
def ray_engine(
    folder: Path, recipe: BuildRecipe, budget: Budget | None = None, retry_failed: bool = False
) -> Iterator["RayEngine"]:
    """Shards go to the cluster of builder.on_ray.cluster.connected.

    Raises InputError where Ray is missing, the cluster cannot be reached, or one of its nodes cannot work on this build.
    """
    with connected() as ray:
        refuse_unfit_nodes(ray, folder, recipe.models)
        yield RayEngine(ray, recipe.models, budget or Budget(), retry_failed)


@dataclass(frozen=True)
class RayEngine:
    """Runs the shards of a stage on the connected cluster."""

    ray: Any
    models: ModelsRecipe
    budget: Budget
    retry_failed: bool

    def run_shards(
        self,
        folder: Path,
        work: Work,
        shared: Any,
        shards: Sequence[Any],
        sizes: Sequence[int],
        calls: ModelCalls,
        key: str,
        reuse: bool,
    ) -> list[FinishedShard]:
        """As builder.stages.shards.run_shards, several shards at once; what the workers spent is added to `calls.spending`.

        Raises what a worker raised, InputError for a shard whose workers die, and BudgetStop.
        """
        ray = self.ray
        folder = folder.resolve()
        folder.mkdir(parents=True, exist_ok=True)
        together, resources = room_for_shards(ray, self.models, len(shards))
        models = share_endpoints(self.models, together)
        caps = (self.budget.max_calls, self.budget.max_cost_usd)
        place = Place(folder, calls.record.path.resolve(), Path.cwd(), models, caps[1], self.retry_failed, reuse)
        begun = (calls.spending.calls, calls.spending.cost_usd)
        purse = ray.remote(num_cpus=0)(Purse).remote(*caps, *begun, together)
        task = ray.remote(max_retries=RETRIES, scheduling_strategy="SPREAD", **resources)(work_on_shard)
        everything = ray.put(shared)
        keys = [shard_key(key, shard) for shard in shards]

        def begin(number: int) -> Any:
            return task.remote(place, number, work, everything, shards[number], keys[number], purse)

        ended: dict[int, Outcome] = {}
        try:
            with left_to_readers(calls.record):
                run_all(ray, begin, sizes, together, purse, folder.name, ended)
        finally:
            ray.kill(purse)
            for number in range(len(shards)):
                # Of a worker that died or was stopped, only its record says what it spent.
                spent = ended[number].spending if number in ended else spent_in(record_path(folder, number), models)
                add_spending(calls.spending, spent)
            stale = absorb_shards(folder, calls.record)
        finished = [outcome.finished for _, outcome in sorted(ended.items()) if outcome.finished]
        if len(finished) < len(shards):
            raise calls.budget.stop()
        hits = calls.spending.hits
        for number in stale:
            path = shard_path(folder, number)
            finished[number] = run_shard(path, work, shared, shards[number], calls, keys[number], reuse=False)
        # The shards that were done again have counted theirs.
        calls.spending.hits = hits
        for role in {role for shard in finished for role in shard.usage}:
            # What build.json says of a model, it asks of the driver's client.
            calls.client(role)
        return finished


def run_all(
    ray: Any,
    begin: Callable[[int], Any],
    sizes: Sequence[int],
    together: int,
    purse: Any,
    label: str,
    ended: dict[int, Outcome],
) -> None:
    """Shards in their order, `together` at a time; outcomes go to `ended` as they come. No more are begun once one met a cap.

    When it raises, the shards that were running have been stopped.
    """
    waiting = list(reversed(range(len(sizes))))
    running: dict[Any, int] = {}
    interval = 1.0 if sys.stderr.isatty() else 30.0
    try:
        with tqdm(total=sum(sizes), desc=label, unit="pair", leave=False, mininterval=interval) as progress:
            while running or waiting:
                while waiting and len(running) < together:
                    number = waiting.pop()
                    running[begin(number)] = number
                done, _ = ray.wait(list(running), timeout=interval)
                for reference in done:
                    number = running.pop(reference)
                    ended[number] = outcome = result_of(ray, reference, number, label)
                    if outcome.error is not None:
                        raise outcome.error
                    if outcome.finished is None:
                        waiting.clear()
                    progress.update(sizes[number])
                made, cost = ray.get(purse.spent.remote())
                progress.set_postfix_str(f"{len(running)} shards, {made:,} calls, {cost:.2f} USD")
    finally:
        for reference in running:
            ray.cancel(reference, force=True)
        if running:
            ray.wait(list(running), num_returns=len(running), timeout=60)


def result_of(ray: Any, reference: Any, number: int, label: str) -> Outcome:
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError:
        raise  # a defect: with the worker's traceback
    except ray.exceptions.RayError as error:
        raise InputError(
            f"Shard {number} of {label} was given up: its worker died {RETRIES + 1} times ({first_line(error)}). Most often the memory "
            "of a node is too small; Ray's logs (/tmp/ray/session_latest/logs) say more. What was answered is recorded: run the same "
            "command again, on larger nodes or with --engine local."
        ) from None
