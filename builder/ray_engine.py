"""Shards on Ray: the work of builder/shards.py done by several processes, on this machine or on a cluster.

SQLite takes one writer, and its log is not shared between hosts. So while shards run nobody writes into the build's record: every shard
has a record of its own beside its output, which its worker alone writes; from the build's record it reads what was there before.
Afterwards, also after an error or a stop, the driver takes over the replies. The successor of a worker that was killed finds them on file.
"""

import contextlib
import dataclasses
import hashlib
import math
import os
import socket
import sqlite3
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from builder.errors import BudgetStop, InputError
from builder.llm.budget import Budget, Spending, cost_usd
from builder.llm.calls import ModelCalls
from builder.llm.messages import Usage
from builder.llm.record import TABLES, Record
from builder.recipe import BuildRecipe, ModelsRecipe
from builder.shards import FinishedShard, Work, run_shard, shard_key

# Of a cluster that is started here. It holds what all shards share and the shards that are worked on; more than fits goes to disk.
OBJECT_STORE_BYTES = 512 * 2**20
# The roles that shards ask.
SHARD_ROLES = ("generator", "critic", "reviser", "judge", "second_judge")
# How often a shard is begun again whose worker died: one that kills its worker every time must come to an end.
RETRIES = 3


@contextlib.contextmanager
def ray_engine(
    folder: Path, recipe: BuildRecipe, budget: Budget | None = None, retry_failed: bool = False
) -> Iterator["RayEngine"]:
    """Shards go to the cluster that this process is connected to, else to that of RAY_ADDRESS, else to one of this machine, which ends
    with the block.

    Raises InputError where Ray is missing, the cluster cannot be reached, or one of its nodes cannot work on this build.
    """
    ray = import_ray()
    connected = ray.is_initialized()
    if not connected:
        connect(ray)
    try:
        refuse_unfit_nodes(ray, folder, recipe.models)
        yield RayEngine(recipe.models, budget or Budget(), retry_failed)
    finally:
        if not connected:
            ray.shutdown()


def import_ray() -> Any:
    # Ray reports every cluster to its makers unless it is told not to.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise InputError(
            "--engine ray needs Ray, which is not installed. Run pip install 'persona-testbed[ray]', or leave --engine out."
        ) from None
    return ray


def connect(ray: Any) -> None:
    address = os.environ.get("RAY_ADDRESS") or "local"
    own = {"include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES} if address == "local" else {}
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        if port.isdigit():
            # Where nobody listens, Ray itself goes on trying for minutes.
            socket.create_connection((host, int(port)), timeout=10).close()
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", **own)
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(
            f"The Ray cluster of RAY_ADDRESS={address} cannot be used ({first_line(error)}). See with `ray status` that it runs, with "
            "the Python and the Ray of this machine, or unset RAY_ADDRESS to stay on this machine."
        ) from None


@dataclass(frozen=True)
class Place:
    """What a worker knows of the build. `models`: of the recipe, each endpoint with the part of its concurrency that one shard has."""

    folder: Path
    record: Path
    started_in: Path
    models: ModelsRecipe
    max_calls: int | None
    max_cost_usd: float | None
    retry_failed: bool
    reuse: bool


@dataclass(frozen=True)
class Outcome:
    """What became of a shard: finished, or not for an error, or (neither) for a cap."""

    spending: Spending
    finished: FinishedShard | None = None
    error: InputError | None = None


class RayEngine:
    """Runs the shards of a stage on the connected cluster."""

    def __init__(self, models: ModelsRecipe, budget: Budget, retry_failed: bool):
        self.models = models
        self.budget = budget
        self.retry_failed = retry_failed

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
        """As builder.shards.run_shards, several shards at once; what the workers spent is added to `calls.spending`.

        Raises what a worker raised, InputError for a shard whose workers die, and BudgetStop.
        """
        ray = import_ray()
        folder = folder.resolve()
        folder.mkdir(parents=True, exist_ok=True)
        absorb_shards(folder, calls.record)
        together, resources = room_for_shards(ray, self.models, len(shards))
        caps = (self.budget.max_calls, self.budget.max_cost_usd)
        models = share_endpoints(self.models, together)
        place = Place(folder, calls.record.path.resolve(), Path.cwd(), models, *caps, self.retry_failed, reuse)
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
        finished = [ended[number].finished for number in sorted(ended)]
        if len(finished) < len(shards) or None in finished:
            raise calls.budget.stop()
        hits = calls.spending.hits
        for number in stale:
            path = shard_path(folder, number)
            finished[number] = run_shard(path, work, shared, shards[number], calls, keys[number], reuse=False)
        # The shards that were done again have counted theirs.
        calls.spending.hits = hits
        for role in {role for shard in finished if shard for role in shard.usage}:
            # What build.json says of a model, it asks of the driver's client.
            calls.client(role)
        return [shard for shard in finished if shard]


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
    waiting = list(range(len(sizes)))[::-1]
    running: dict[Any, int] = {}
    stopping = False
    interval = 1.0 if sys.stderr.isatty() else 30.0
    try:
        with tqdm(total=sum(sizes), desc=label, unit="pair", leave=False, mininterval=interval) as progress:
            while running or (waiting and not stopping):
                while waiting and len(running) < together and not stopping:
                    number = waiting.pop()
                    running[begin(number)] = number
                done, _ = ray.wait(list(running), timeout=interval)
                for reference in done:
                    number = running.pop(reference)
                    outcome = result_of(ray, reference, number, label)
                    ended[number] = outcome
                    if outcome.error is not None:
                        raise outcome.error
                    stopping = stopping or outcome.finished is None
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


def work_on_shard(place: Place, number: int, work: Work, shared: Any, shard: Any, key: str, purse: Any) -> Outcome:
    """In a worker. Errors that the user is to read come back as values, so that Ray does not wrap them into a traceback."""
    # Files of a recipe are named from where the build was started.
    os.chdir(place.started_in)
    record = Record(record_path(place.folder, number), fallback=place.record)
    # Not empty where another worker died on this shard.
    before = spent_in(record, place.models)
    budget = SharedBudget(place.max_calls, place.max_cost_usd, purse=purse, shard=number, before=before)
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
    budget.report()
    return Outcome(spending, finished, error)


@dataclass
class SharedBudget(Budget):
    """A worker's budget: one purse decides for all. `before`: what a worker that died had spent on the shard."""

    purse: Any = None
    shard: int = 0
    before: Spending = dataclasses.field(default_factory=Spending)

    def affordable(self, wanted: int) -> int:
        import ray

        granted, allowance = ray.get(self.purse.grant.remote(self.shard, *self._spent(), wanted))
        if self.max_cost_usd is not None:
            # ModelCalls measures its portions by what is left up to the cap.
            self.max_cost_usd = self.spending.cost_usd + allowance
        return granted

    def report(self) -> None:
        import ray

        ray.get(self.purse.grant.remote(self.shard, *self._spent(), 0))

    def _spent(self) -> tuple[int, float]:
        return self.before.calls + self.spending.calls, self.before.cost_usd + self.spending.cost_usd


class Purse:
    """What all shards of a stage may spend together; an actor on Ray. `calls`, `cost_usd`: spent before the stage."""

    def __init__(self, max_calls: int | None, max_cost_usd: float | None, calls: int, cost_usd: float, together: int):
        self.max_calls = math.inf if max_calls is None else max_calls
        self.max_cost_usd = math.inf if max_cost_usd is None else max_cost_usd
        self.begun = (calls, cost_usd)
        self.together = together
        self.made: dict[int, int] = {}
        self.granted: dict[int, int] = {}
        self.cost: dict[int, float] = {}

    def grant(self, shard: int, calls: int, cost_usd: float, wanted: int) -> tuple[int, float]:
        """How many of `wanted` calls the shard may make, and the USD up to which it need not ask again. `calls`, `cost_usd`: what it has
        spent, so that calls granted to a worker that died are free again."""
        self.made[shard] = self.granted[shard] = calls
        self.cost[shard] = cost_usd
        money = self.max_cost_usd - self.spent()[1]
        free = self.max_calls - self.begun[0] - sum(self.granted.values())
        granted = int(max(0, min(wanted, free))) if money > 0 else 0
        self.granted[shard] += granted
        return granted, max(0.0, money) / self.together

    def spent(self) -> tuple[int, float]:
        return self.begun[0] + sum(self.made.values()), self.begun[1] + sum(self.cost.values())


def room_for_shards(ray: Any, models: ModelsRecipe, shards: int) -> tuple[int, dict[str, float]]:
    """How many shards run at once, and what each takes: a processor, and a GPU where models run in the workers and there are any."""
    there = ray.cluster_resources()
    together, resources = int(there.get("CPU", 0)), {"num_cpus": 1.0}
    in_process = any(getattr(models, role).provider == "transformers" for role in SHARD_ROLES)
    if in_process and there.get("GPU", 0) >= 1:
        together, resources = min(together, int(there["GPU"])), {"num_cpus": 1.0, "num_gpus": 1.0}
    # Every shard asks at least one question at a time.
    concurrency = [
        getattr(models, role).max_concurrency for role in SHARD_ROLES if getattr(models, role).provider == "openai"
    ]
    return max(1, min([together, shards, *concurrency])), resources


def share_endpoints(models: ModelsRecipe, together: int) -> ModelsRecipe:
    """Each shard with its part of `max_concurrency`, so that an endpoint sees as many calls at once as the recipe says."""
    shares = {}
    for role in SHARD_ROLES:
        model = getattr(models, role)
        share = max(1, model.max_concurrency // together) if model.provider == "openai" else model.max_concurrency
        shares[role] = dataclasses.replace(model, max_concurrency=share)
    return dataclasses.replace(models, **shares)


@contextlib.contextmanager
def left_to_readers(record: Record) -> Iterator[None]:
    """The record as one plain file without a log beside it, which processes on any host can read; nobody may write meanwhile."""
    set_journal(record, "DELETE")
    try:
        yield
    finally:
        set_journal(record, "WAL")


def set_journal(record: Record, mode: str) -> None:
    try:
        record.read(f"PRAGMA journal_mode={mode}").fetchall()
    except sqlite3.OperationalError as error:
        raise InputError(
            f"{record.path} is in use by another program ({error}). End that, and run the same command again."
        ) from None


def absorb_leftovers(folder: Path, record: Record) -> None:
    """Take over the replies of shards whose driver was killed. Before a build goes on, whichever its engine."""
    for stage in sorted((folder / "shards").glob("*/")):
        absorb_shards(stage, record)


def absorb_shards(folder: Path, record: Record) -> list[int]:
    """Take over the replies of a stage's shards; their records are removed. Gives the shards to be worked on again.

    Two shards that run at once may ask the same question (two personas with one profile, or a likelihood judge about one base answer)
    and get two answers, of which the record keeps that of the first shard, as if they had run one after the other. A shard made of
    another is not what a replay gives, so it counts as not done.
    """
    numbers = sorted(int(path.stem) for path in folder.glob("*.sqlite"))
    twice = False
    for number in numbers:
        with contextlib.closing(Record(record_path(folder, number), read_only=True)) as own:
            there = sum(own.count())
        # A worker that was killed at once leaves an empty file.
        twice |= there > 0 and record.absorb(record_path(folder, number)) < there
    twice |= bool(record.read("SELECT EXISTS (SELECT 1 FROM failed_attempts JOIN answers USING (key))").fetchone()[0])
    stale = [number for number in numbers if not agrees(record, record_path(folder, number))] if twice else []
    for number in stale:
        shard_path(folder, number).with_suffix(".json").unlink(missing_ok=True)
    for number in numbers:
        for suffix in ("", "-wal", "-shm"):
            Path(f"{record_path(folder, number)}{suffix}").unlink(missing_ok=True)
    return stale


def agrees(record: Record, path: Path) -> bool:
    """Whether the record gives the shard the answers that it was made of."""
    with contextlib.closing(Record(path, read_only=True)) as own:
        keys = [key.hex() for table in TABLES for (key,) in own.read(f"SELECT key FROM {table}")]
        return own.find(keys, failures=False) == record.find(keys, failures=False)


def spent_in(record: Record | Path, models: ModelsRecipe) -> Spending:
    """What the calls took whose replies stand in a shard's record."""
    if isinstance(record, Path):
        with contextlib.closing(Record(record, read_only=True)) as opened:
            return spent_in(opened, models)
    spending = Spending()
    for table in TABLES:
        for role, number, prompt, completion in record.read(
            f"SELECT role, COUNT(*), SUM(prompt_tokens), SUM(completion_tokens) FROM {table} JOIN origins ON origins.id = origin "
            "GROUP BY role"
        ):
            cost = cost_usd(Usage(prompt, completion), getattr(models, role))
            add_spending(spending, Spending(number, 0, prompt, completion, cost))
    return spending


def add_spending(total: Spending, more: Spending) -> None:
    for field in dataclasses.fields(Spending):
        setattr(total, field.name, getattr(total, field.name) + getattr(more, field.name))


def shard_path(folder: Path, number: int) -> Path:
    return folder / f"{number:05d}.parquet"


def record_path(folder: Path, number: int) -> Path:
    return folder / f"{number:05d}.sqlite"


def refuse_unfit_nodes(ray: Any, folder: Path, models: ModelsRecipe) -> None:
    """Raises InputError for a node that does not see the build's folder, misses a key, or would work with other code."""
    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]
    if not nodes:
        raise InputError("The Ray cluster has no node with a processor. Add nodes to it, or unset RAY_ADDRESS.")
    keys = sorted({getattr(models, role).api_key_env for role in SHARD_ROLES} - {None})
    # Names that begin as the lock's do are no sign of another's folder, should this process be killed here.
    probe, answers = folder.resolve() / f".lock-{uuid.uuid4().hex}", []
    try:
        probe.write_text(probe.name)
        for number, node in enumerate(nodes):
            where = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            answers.append(Path(f"{probe}-{number}"))
            task = ray.remote(num_cpus=0, scheduling_strategy=where)(look_around)
            refuse_unfit_node(
                ray, node["NodeManagerAddress"], folder, task.remote(probe, answers[-1], Path.cwd(), keys), answers[-1]
            )
    finally:
        for path in (probe, *answers):
            path.unlink(missing_ok=True)


def refuse_unfit_node(ray: Any, node: str, folder: Path, reference: Any, answer: Path) -> None:
    try:
        seen = ray.get(reference)
    except ray.exceptions.RayError as error:
        raise InputError(
            f"The Ray node {node} cannot work on this build ({first_line(getattr(error, 'cause', None) or error)}). Install the same "
            "version of this project there, in the same Python as here."
        ) from None
    if not (seen["folder"] and answer.is_file()):
        raise InputError(
            f"The Ray node {node} does not see {folder} as this machine does. Give an --out folder on a file system that all nodes "
            "share, under the same path."
        )
    if not seen["started_in"]:
        raise InputError(
            f"The Ray node {node} has no folder {Path.cwd()}, from which files of the recipe are named. Start the build in a folder that "
            "all nodes share."
        )
    if seen["code"] != code_hash():
        raise InputError(
            f"The Ray node {node} has other code of this project than this machine. Install the same version."
        )
    if seen["unset"]:
        raise InputError(
            f"The environment variable {seen['unset'][0]}, which the recipe names as a key, is not set on the Ray node {node}. Export it "
            "there before `ray start`: a node's workers see the environment that Ray was started in."
        )


def look_around(probe: Path, answer: Path, started_in: Path, keys: Sequence[str]) -> dict[str, Any]:
    """On a node: does it read and write where the driver does?"""
    sees = False
    with contextlib.suppress(OSError):
        sees = probe.read_text() == probe.name
        answer.write_text(socket.gethostname())
    return {
        "folder": sees,
        "started_in": started_in.is_dir(),
        "code": code_hash(),
        "unset": [key for key in keys if not os.environ.get(key)],
    }


def code_hash() -> str:
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def first_line(error: BaseException) -> str:
    """Short enough for a message: Ray's own go on for pages."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
