"""Shards on Ray: a local cluster of two processors, workers that are killed, endpoints that count."""

import contextlib
import dataclasses
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow
import pytest

from builder.errors import BudgetStop, InputError
from builder.llm.budget import Budget, Spending
from builder.llm.calls import ModelCalls
from builder.llm.messages import Answer, ChatRequest, Sampling
from builder.llm.record import Record
from builder.on_ray.budget import Purse, SharedBudget
from builder.on_ray.engine import ray_engine
from builder.on_ray.nodes import look_around, refuse_unfit_node
from builder.on_ray.records import absorb_leftovers, record_path, spent_in
from builder.on_ray.resources import share_endpoints
from builder.ownership import code_hash
from builder.pairs.shard_result import ShardResult
from builder.pipeline import run_build
from builder.recipe import BuildRecipe, ModelRecipe, ModelsRecipe
from builder.stages.shards import run_shards
from tests.builder.conftest import scripted_recipe
from tests.openai_server import Endpoint, completion, openai_server, reply_in_form

ray = pytest.importorskip("ray")
psutil = pytest.importorskip("psutil")


@pytest.fixture(scope="module")
def cluster():
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        object_store_memory=200 * 2**20,
    )
    yield
    ray.shutdown()


@dataclass(frozen=True)
class Questions:
    names: list[str]

    @property
    def identity(self) -> list[str]:
        return self.names


def ask(shared: Any, shard: Questions, calls: Any) -> ShardResult:
    """Two rounds, the second about the first's answers, as critique and revision are."""
    rows = [{"name": name, "first": "", "second": ""} for name in shard.names]
    for part, role, before in (("first", "generator", "name"), ("second", "reviser", "first")):
        requests = [
            ChatRequest(({"role": "user", "content": f"{shared}: {row[before]}"},), Sampling(20), "answer@1", 1)
            for row in rows
        ]
        for row, reply in zip(rows, calls.generate(role, requests, part), strict=True):
            row[part] = reply.text if isinstance(reply, Answer) else reply.reason
    counts = {"in": len(rows), "out": len(rows), "dropped": {}}
    return ShardResult(pyarrow.Table.from_pylist(rows), counts, details={"names": len(rows)})


def divide(shared: Any, shard: Questions, calls: Any) -> ShardResult:
    return ShardResult(None, {"in": 1 // 0})


SHARDS = [Questions([f"question {n} of {shard}" for n in range(12)]) for shard in range(4)]
SIZES = [len(shard.names) for shard in SHARDS]
CALLS = 2 * sum(SIZES)


def endpoint_recipe(endpoint: Endpoint, **settings: Any) -> BuildRecipe:
    model = ModelRecipe(
        provider="openai", model="test-model", base_url=endpoint.base_url, **{"max_concurrency": 4} | settings
    )
    nothing = ModelRecipe(provider="scripted")
    return BuildRecipe("test", 1, models=ModelsRecipe(nothing, nothing, nothing, model, nothing, model, nothing))


def own_reply(body: dict[str, Any]) -> Any:
    """A reply of its own to every question."""
    return completion(f"On {hashlib.sha256(json.dumps(body['messages']).encode()).hexdigest()[:8]}")


@dataclass
class Run:
    folder: Path
    calls: ModelCalls
    finished: list[Any] = dataclasses.field(default_factory=list)
    tables: list[str] = dataclasses.field(default_factory=list)  # hashes of the shards' files when the run ended

    def replies(self) -> dict[str, str]:
        with contextlib.closing(Record(self.folder / "responses.sqlite", read_only=True)) as record:
            return {key.hex(): reply for key, reply in record.read("SELECT key, reply FROM answers")}


def run(
    folder: Path,
    recipe: BuildRecipe,
    engine: str = "ray",
    shards: list[Questions] = SHARDS,
    shared: str = "About",
    budget: Budget | None = None,
    work: Any = ask,
) -> Run:
    """The shards on an engine, as builder.pipeline runs those of a stage."""
    folder.mkdir(parents=True, exist_ok=True)
    record = Record(folder / "responses.sqlite")
    calls = ModelCalls(recipe.models, record, budget)
    result = Run(folder, calls)
    arguments = (folder / "shards" / "test", work, shared, shards, [len(s.names) for s in shards], calls, "key", True)
    try:
        absorb_leftovers(folder, record)
        if engine == "local":
            result.finished = run_shards(*arguments)
        else:
            with ray_engine(folder, recipe, budget) as on_ray:
                result.finished = on_ray.run_shards(*arguments)
    finally:
        record.close()
    result.tables = [hashlib.sha256(shard.path.read_bytes()).hexdigest() for shard in result.finished]
    return result


def described(run: Run) -> list[Any]:
    return [[s.path.name, s.counts, s.ledger, s.details, s.check, s.usage] for s in run.finished]


@pytest.mark.parametrize(
    "at_once", [pytest.param(1, id="one worker", marks=pytest.mark.thorough), pytest.param(5, id="two workers")]
)
def test_ray_gives_what_the_local_engine_gives(cluster, tmp_path, at_once):
    begun, changed = set(), threading.Condition()

    def when_two_shards_ask(body: dict[str, Any], number: int) -> Any:
        """The first shard's calls are held until another asks: all that both may ask at once is then there at once."""
        asked = body["messages"][0]["content"].rpartition(" of ")
        with changed:
            if asked[1]:
                begun.add(asked[2])
                changed.notify_all()
            changed.wait_for(lambda: len(begun) >= min(2, at_once), 20)
        return own_reply(body)

    with openai_server(answer=lambda body, number: own_reply(body)) as endpoint:
        recipe = endpoint_recipe(endpoint, max_concurrency=at_once)
        local = run(tmp_path / "local", recipe, "local")
        endpoint.most_at_once, endpoint.answer = 0, when_two_shards_ask
        on_ray = run(tmp_path / "ray", recipe)
        # Shards share the concurrency of the recipe.
        assert endpoint.most_at_once <= at_once
        again = run(tmp_path / "ray", recipe)
    assert on_ray.tables == local.tables == again.tables
    assert described(on_ray) == described(local)
    assert on_ray.calls.spending == local.calls.spending
    assert on_ray.calls.spending.calls == CALLS
    assert on_ray.replies() == local.replies()
    assert again.calls.spending.calls == 0
    assert not list((tmp_path / "ray" / "shards").rglob("*.sqlite*"))
    assert not list((tmp_path / "ray").glob(".lock-*"))


def workers() -> list[Any]:
    """The processes that work on a shard."""
    return [p for p in psutil.Process().children(recursive=True) if "work_on_shard" in " ".join(p.cmdline()[:1])]


@pytest.mark.thorough
def test_a_killed_worker_loses_nothing(cluster, tmp_path):
    killed = []

    def answer(body: dict[str, Any], number: int) -> Any:
        if number in (17, 60):
            victim = workers()[0]
            victim.send_signal(signal.SIGKILL)
            killed.append(victim.pid)
        return own_reply(body)

    with openai_server(answer=answer) as endpoint:
        recipe = endpoint_recipe(endpoint)
        on_ray = run(tmp_path / "ray", recipe)
        asked = Counter(json.dumps(body["messages"]) for body in endpoint.requests)
    assert len(set(killed)) == 2
    # A worker has two calls in flight here.
    assert len(asked) == CALLS
    assert sum(asked.values()) <= CALLS + 2 * 2
    assert on_ray.calls.spending.calls == CALLS
    assert on_ray.calls.spending.hits == 0
    with openai_server(answer=answer) as endpoint:
        recipe = endpoint_recipe(endpoint)
        endpoint.requests += [{}] * 100  # nothing is killed here
        local = run(tmp_path / "local", recipe, "local")
    assert on_ray.tables == local.tables
    assert described(on_ray) == described(local)
    assert on_ray.replies() == local.replies()
    assert on_ray.calls.spending == local.calls.spending


@pytest.mark.thorough
def test_a_build_whose_worker_is_killed_has_the_tables_of_the_local_engine(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr("builder.stages.pairs.PAIRS_PER_SHARD", 20)
    monkeypatch.setattr("builder.stages.contrast.CANDIDATES_PER_SHARD", 10)
    killed = []

    def answer(body: dict[str, Any], number: int) -> Any:
        with endpoint.lock:
            if not killed and "REVISED PREFERENCE:" in body["messages"][-1]["content"]:
                killed.append(workers()[0])
                killed[0].kill()
        return completion(reply_in_form(body))

    with openai_server(answer=answer) as endpoint:
        model = (
            f'{{"provider": "openai", "model": "test-model", "base_url": "{endpoint.base_url}", "max_concurrency": 8}}'
        )
        roles = [f"models.{role}={model}" for role in ("generator", "critic", "reviser", "judge")]
        recipe = scripted_recipe("personas.count=6", "judge=roleplay", *roles)
        on_ray = run_build(recipe, tmp_path / "ray", engine="ray")
        asked = Counter(json.dumps(body, sort_keys=True) for body in endpoint.requests)
        local = run_build(recipe, tmp_path / "local")
    assert len(killed) == 1
    assert sum(asked.values()) - len(asked) <= 8
    for kind in ("tables", "ledger"):
        for file in sorted((tmp_path / "local" / kind).iterdir()):
            assert file.read_bytes() == (tmp_path / "ray" / kind / file.name).read_bytes(), file.name
    assert on_ray.build["models"] == local.build["models"]
    assert on_ray.build["usage"] == local.build["usage"]
    assert Run(tmp_path / "ray", None).replies() == Run(tmp_path / "local", None).replies()


@pytest.mark.thorough
def test_a_shard_that_kills_every_worker_is_given_up_and_keeps_its_replies(cluster, tmp_path):
    def answer(body: dict[str, Any], number: int) -> Any:
        if "7 of 2" in body["messages"][0]["content"]:
            for worker in workers():
                with contextlib.suppress(psutil.NoSuchProcess):
                    worker.kill()
        return own_reply(body)

    with openai_server(answer=answer) as endpoint:
        recipe = endpoint_recipe(endpoint, max_concurrency=1)
        with pytest.raises(InputError, match=r"Shard 2 of test was given up: its worker died 4 times"):
            run(tmp_path / "b", recipe)
        endpoint.answer = lambda body, number: own_reply(body)
        asked = len(endpoint.requests)
        finished = run(tmp_path / "b", recipe)
    # The last two before 7 of 2 answered are 5 and 6 of the third shard: 24 + 24 + 7 replies were on file.
    assert finished.calls.spending.calls == CALLS - 55 == len(endpoint.requests) - asked


def test_the_cap_on_calls_is_kept_over_all_shards(cluster, tmp_path):
    with openai_server() as endpoint:
        recipe = endpoint_recipe(endpoint)
        budget = Budget(max_calls=31)
        with pytest.raises(BudgetStop, match="--max-calls 31: 31 calls made"):
            run(tmp_path / "b", recipe, budget=budget)
        assert len(endpoint.requests) == budget.spending.calls == 31
        rest = run(tmp_path / "b", recipe)
        assert rest.calls.spending.calls == CALLS - 31
        assert len(endpoint.requests) == CALLS
        local = run(tmp_path / "local", recipe, "local")
    assert rest.tables == local.tables


def test_the_cap_on_cost_is_passed_only_by_calls_in_flight(cluster, tmp_path):
    shards = [Questions([f"question {n} of {shard}" for n in range(400)]) for shard in range(2)]
    with openai_server() as endpoint:
        # Each of 1,600 calls takes 7 tokens: 0.007 USD.
        recipe = endpoint_recipe(endpoint, cost_per_million_completion_tokens=1000.0)
        budget = Budget(max_cost_usd=3.5)
        with pytest.raises(BudgetStop, match=r"--max-cost 3\.5"):
            run(tmp_path / "b", recipe, shards=shards, budget=budget)
    # The cap is 500 calls; portions end at 64 a shard.
    assert 3.5 <= budget.spending.cost_usd <= 3.5 + 2 * 64 * 0.007
    assert len(endpoint.requests) == budget.spending.calls


def test_the_next_shard_knows_what_the_one_before_spent_to_its_last_call(cluster, tmp_path):
    with openai_server() as endpoint:
        recipe = endpoint_recipe(endpoint, max_concurrency=1, cost_per_million_completion_tokens=1000.0)
        # The first shard's 24 calls take 0.168 USD, of which it has asked for the last 12 in one portion.
        with pytest.raises(BudgetStop, match=r"--max-cost 0\.16: 24 calls"):
            run(tmp_path / "b", recipe, budget=Budget(max_cost_usd=0.16))


def test_a_workers_error_comes_out_as_it_is(cluster, tmp_path):
    with openai_server(key="right") as endpoint:
        recipe = endpoint_recipe(endpoint)
        with pytest.raises(InputError) as local:
            run(tmp_path / "local", recipe, "local")
        with pytest.raises(InputError) as on_ray:
            run(tmp_path / "ray", recipe)
        assert str(on_ray.value) == str(local.value)
        assert "401" in str(on_ray.value)
        recipe = endpoint_recipe(endpoint, api_key_env="PERSONA_TEST_UNSET_KEY")
        with pytest.raises(InputError, match=r"PERSONA_TEST_UNSET_KEY, which .* is not set on the Ray node"):
            run(tmp_path / "ray", recipe)


def test_a_defect_comes_out_with_the_workers_traceback(cluster, tmp_path):
    with openai_server() as endpoint, pytest.raises(ZeroDivisionError, match="in divide"):
        run(tmp_path / "b", endpoint_recipe(endpoint), work=divide)


def test_two_shards_with_one_question_agree_with_the_replay(cluster, tmp_path):
    """Both ask at once and get different answers; the record keeps one, and the tables hold that one."""
    met = threading.Barrier(2, timeout=20)

    def answer(body: dict[str, Any], number: int) -> Any:
        if "shared" in body["messages"][0]["content"]:
            with contextlib.suppress(threading.BrokenBarrierError):
                met.wait()
        return completion(f"answer number {number}")

    shards = [Questions(["shared", "own a"]), Questions(["shared", "own b"])]
    with openai_server(answer=answer) as endpoint:
        recipe = endpoint_recipe(endpoint)
        first = run(tmp_path / "b", recipe, shards=shards)
        asked = Counter(json.dumps(body["messages"]) for body in endpoint.requests)
        assert max(asked.values()) == 2
        before = len(endpoint.requests)
        replay = run(
            tmp_path / "b", recipe, "local", shards=[Questions(shard.names) for shard in shards], shared="About"
        )
        for path in (tmp_path / "b" / "shards" / "test").glob("*.json"):
            path.unlink()
        replay = run(tmp_path / "b", recipe, "local", shards=shards)
        assert len(endpoint.requests) == before
    assert first.tables == replay.tables
    assert (first.calls.spending.calls, first.calls.spending.hits) == (before, 0)


KILLED = """
import sys
from pathlib import Path
from tests.builder.test_ray_engine import endpoint_recipe, run
from types import SimpleNamespace
run(Path(sys.argv[1]), endpoint_recipe(SimpleNamespace(base_url=sys.argv[2])))
"""


def is_agent(process: psutil.Process) -> bool:
    """False also for one that has ended."""
    try:
        return process.name().endswith("Agent")
    except psutil.NoSuchProcess:
        return False


@pytest.mark.thorough
def test_a_killed_build_leaves_no_reply_behind(tmp_path):
    """SIGKILL to the driver: whichever engine goes on takes over what the shards had on file."""

    cluster = []

    def answer(body: dict[str, Any], number: int) -> Any:
        if number == 40:
            cluster.extend(psutil.Process(driver.pid).children(recursive=True))
            driver.kill()
        return own_reply(body)

    with openai_server(answer=answer) as endpoint:
        environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
        driver = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(tmp_path / "b"), endpoint.base_url], env=environment
        )
        assert driver.wait(60) == -signal.SIGKILL
        # Ray's own agents look only now and then whether their node is there, and write nothing of ours.
        left = psutil.wait_procs([p for p in cluster if not is_agent(p)], timeout=60)[1]
        assert not left, "the cluster ends with its driver"
        for process in filter(is_agent, cluster):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        before = len(endpoint.requests)
        rest = run(tmp_path / "b", endpoint_recipe(endpoint), "local")
    assert before >= 40
    assert rest.calls.spending.calls <= CALLS - before + 4
    assert len(rest.replies()) == CALLS
    assert not list((tmp_path / "b" / "shards").rglob("*.sqlite*"))


@pytest.mark.thorough
def test_the_empty_record_of_a_worker_killed_at_birth_breaks_nothing(tmp_path):
    """Killed before the file has tables, or before they have a row; the third shard has an answer."""
    stage = tmp_path / "shards" / "test"
    stage.mkdir(parents=True)
    empty, laid_out, used = (record_path(stage, number) for number in range(3))
    empty.touch()
    Record(laid_out).close()
    request = ChatRequest(({"role": "user", "content": "question"},), Sampling(20), "answer@1", 1)
    with contextlib.closing(Record(used)) as own:
        own.add([("ab" * 16, request, Answer("kept"), {"role": "generator"})])
    assert [spent_in(path, ModelsRecipe()).calls for path in (empty, laid_out, used)] == [0, 0, 1]
    with contextlib.closing(Record(tmp_path / "responses.sqlite")) as record:
        absorb_leftovers(tmp_path, record)
        assert record.count() == (1, 0)
    assert not list(stage.iterdir())


def test_without_ray_the_error_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        pytest.raises(InputError, match=r"pip install 'persona-testbed\[ray\]'"),
        ray_engine(tmp_path, BuildRecipe("t", 1)),
    ):
        pass


def test_a_cluster_that_is_not_there_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setenv("RAY_ADDRESS", address)
    with (
        pytest.raises(InputError, match=f"RAY_ADDRESS={address} cannot be used"),
        ray_engine(tmp_path, BuildRecipe("t", 1)),
    ):
        pass


def test_a_node_that_cannot_work_on_the_build_is_named(tmp_path):
    good = look_around(tmp_path / "probe", tmp_path / "answer", tmp_path, [])
    assert not good["folder"]  # no probe there
    (tmp_path / "probe").write_text("probe")
    good = look_around(tmp_path / "probe", tmp_path / "answer", tmp_path, ["PERSONA_TEST_UNSET_KEY"])
    assert good["folder"]
    assert good["started_in"]
    assert good["unset"] == ["PERSONA_TEST_UNSET_KEY"]
    assert good["code"] == code_hash()

    def refused(**seen: Any) -> str:
        stub = SimpleNamespace(get=lambda said: said)
        with pytest.raises(InputError) as error:
            refuse_unfit_node(stub, "10.0.0.7", Path("runs/b"), good | {"unset": []} | seen, tmp_path / "answer")
        return str(error.value)

    assert "node 10.0.0.7 does not see runs/b" in refused(folder=False)
    assert "has other code" in refused(code="other")
    assert "has no folder" in refused(started_in=False)
    (tmp_path / "answer").unlink()
    assert "does not see runs/b" in refused()


def test_an_endpoint_sees_as_many_calls_at_once_as_the_recipe_says():
    model = ModelRecipe(provider="openai", base_url="http://127.0.0.1:1/v1", max_concurrency=64)
    models = ModelsRecipe(generator=model, judge=dataclasses.replace(model, max_concurrency=3))
    shared = share_endpoints(models, 5)
    assert shared.generator.max_concurrency == 12
    assert shared.judge.max_concurrency == 1
    assert shared.critic == models.critic


def test_calls_granted_to_a_dead_worker_are_free_again():
    purse = Purse(100, None, 10, 0.0, 2)
    assert purse.grant(0, 0, 0.0, 80)[0] == 80
    assert purse.grant(1, 0, 0.0, 80)[0] == 10
    # Its successor begins with the 30 that are on file.
    assert purse.grant(0, 30, 0.0, 70)[0] == 50
    assert purse.grant(1, 10, 0.0, 1)[0] == 0
    assert purse.spent()[0] == 50


@pytest.mark.thorough
def test_a_successor_begins_with_what_the_dead_worker_spent(cluster):
    purse = ray.remote(num_cpus=0)(Purse).remote(100, None, 10, 0.0, 2)
    assert SharedBudget(purse=purse).affordable(80) == 80
    assert SharedBudget(purse=purse, before=Spending(calls=30)).affordable(70) == 60
