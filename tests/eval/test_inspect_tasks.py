"""PERSONA Bench by Inspect AI: the same questions, answers, verdicts and pass rates as by our own runner, over real HTTP."""

import hashlib
import math
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from eval.results import read_result, result_path
from eval.tables import read_table
from tests.openai_server import Endpoint, Response, completion, openai_server

ROOT = Path(__file__).parent.parent.parent
LIMIT = 24


@pytest.fixture
def inspect_ai(monkeypatch, tmp_path):
    module = pytest.importorskip(
        "inspect_ai", reason="inspect-ai is not installed (pip install 'persona-testbed[inspect]')"
    )
    # Its traces and buffers go to the user's data folder.
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "user_data"))
    for name in ("INSPECT_LOG_DIR", "INSPECT_EVAL_MODEL", "INSPECT_EVAL_MODEL_BASE_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    working = tmp_path / "working"
    working.mkdir()
    monkeypatch.chdir(working)
    return module


@pytest.fixture
def addresses(monkeypatch) -> list[Any]:
    """Every address that a socket of this process connects to, and every name that is looked up."""
    seen: list[Any] = []
    connect, lookup = socket.socket.connect, socket.getaddrinfo

    def watched_connect(self: socket.socket, address: Any) -> Any:
        if self.family != socket.AF_UNIX:
            seen.append(address[0])
        return connect(self, address)

    def watched_lookup(host: Any, *rest: Any, **more: Any) -> Any:
        seen.append(host)
        return lookup(host, *rest, **more)

    monkeypatch.setattr(socket.socket, "connect", watched_connect)
    monkeypatch.setattr(socket, "getaddrinfo", watched_lookup)
    return seen


def number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def replies(body: dict[str, Any], count: int) -> Response:
    """Answers that depend on persona, question and seed; verdicts that depend on what is judged, a few of them unreadable."""
    asked = body["messages"][-1]["content"]
    if "NEEDS REVISION:" in asked:
        word = "yes or no" if number(asked) % 37 == 0 else ("no", "yes")[number(asked) % 2]
        return completion(f"PERSON: It fits.\nHELPFULNESS: It helps.\nNEEDS REVISION: {word}")
    if "VERDICT:" in asked:
        return completion(f"REASON: It fits.\nVERDICT: {('A', 'B', 'tie')[number(asked) % 3]}")
    return completion(f"Answer {number(str(body['messages']) + str(body['seed']) + str(body['temperature']))}.")


def model_at(inspect_ai: Any, endpoint: Endpoint) -> Any:
    from inspect_ai.model import get_model

    return get_model("openai-api/local/test-model", base_url=endpoint.base_url, api_key="no-key", memoize=False)


def run_task(inspect_ai: Any, task: Any, endpoint: Endpoint, logs: Path) -> Any:
    model = model_at(inspect_ai, endpoint)
    log = inspect_ai.eval(task, model=model, model_roles={"grader": model}, log_dir=str(logs), display="none")[0]
    assert log.status == "success", log.error
    return log


def metrics_of(log: Any, reducer: str | None = None) -> dict[str, Any]:
    return {score.name: score for score in log.results.scores if reducer in (None, score.reducer)}


def test_inspect_and_our_own_runner_agree_to_the_last_digit(published, tmp_path, inspect_ai, addresses):
    from eval.bench.run import run_bench
    from eval.inspect_tasks import persona_bench

    with openai_server(answer=replies) as endpoint:
        name = f"test-model@{endpoint.base_url}"
        run_bench(
            published,
            [name],
            [f"critique={name}"],
            tmp_path / "ours",
            modes=["output_only"],
            limit=LIMIT,
            temperature=0.7,
        )
        ours = read_result(result_path(tmp_path / "ours", "bench-test-model-main"))
        requested = sorted(map(hash_of, endpoint.requests))
        endpoint.requests.clear()
        log = run_task(
            inspect_ai, persona_bench(str(published), mode="output_only", limit=LIMIT), endpoint, tmp_path / "logs"
        )
        # Inspect asks a persona-blind question once an item; our record asks equal questions once.
        assert sorted(set(map(hash_of, endpoint.requests))) == requested

    kept = {(row["persona_id"] + "/" + row["prompt_id"], row["condition"]): row["text"] for row in answers(tmp_path)}
    shown = {
        (sample.id, condition): text
        for sample in log.samples
        for condition, text in sample.scores["judged_for_personas"].metadata["answers"].items()
    }
    assert len(kept) == 3 * LIMIT
    assert shown == kept
    (judged,) = ours.content["judges"].values()
    figures, measured = judged["modes"]["output_only"], metrics_of(log)
    for condition in ("true", "none", "wrong"):
        assert measured[condition].metrics["mean"].value == figures["pass"][condition]["value"]
        assert measured[condition].scored_samples == figures["rows"][condition]["scored"]
        assert measured[condition].unscored_samples == sum(figures["rows"][condition]["unscored"].values())
    assert measured["gap"].metrics["mean"].value == pytest.approx(figures["pass"]["gap"]["value"], abs=1e-12)
    assert sum(measured[condition].unscored_samples for condition in ("true", "none", "wrong")) > 0
    assert 0 < figures["pass"]["true"]["value"] < 1
    # Nothing but the server was spoken to, and nothing written but the log and Inspect's own folder.
    assert set(addresses) <= {"127.0.0.1"}
    assert list((tmp_path / "working").iterdir()) == []
    assert {path.name for path in tmp_path.iterdir()} == {"working", "user_data", "ours", "logs"}
    assert [path.suffix for path in (tmp_path / "logs").iterdir()] == [".eval"]
    assert {path.name for path in (tmp_path / "user_data").iterdir()} == {"inspect_ai"}


def answers(tmp_path: Path) -> list[dict[str, Any]]:
    return read_table(tmp_path / "ours" / "bench-test-model-main-answers.parquet")


def hash_of(body: dict[str, Any]) -> str:
    """What decides a reply: model, messages, sampling, seed."""
    fields = ("model", "messages", "temperature", "top_p", "seed", "max_tokens")
    return hashlib.sha256(repr([body.get(field) for field in fields]).encode()).hexdigest()


def test_an_unreadable_verdict_is_unscored_with_its_reason_and_no_failure_of_the_answer(
    published, tmp_path, inspect_ai
):
    from eval.inspect_tasks import persona_bench

    def mute(body: dict[str, Any], count: int) -> Response:
        asked = body["messages"][-1]["content"]
        return completion("I would rather not say." if "NEEDS REVISION:" in asked else "An answer.")

    with openai_server(answer=mute) as endpoint:
        log = run_task(inspect_ai, persona_bench(str(published), limit=2), endpoint, tmp_path / "logs")
    for sample in log.samples:
        score = sample.scores["judged_for_personas"]
        assert all(math.isnan(score.value[condition]) for condition in ("true", "none", "wrong", "gap"))
        assert score.metadata["unscored"]["true"] == "judge unreadable"
        assert "judge unreadable" in score.reason
    assert metrics_of(log)["true"].unscored_samples == 2


def test_pass_at_k_is_our_estimator_over_the_epochs(published, tmp_path, inspect_ai):
    from eval.bench.pass_at_k import pass_at_k
    from eval.inspect_tasks import persona_pass_at_k

    with openai_server(answer=replies) as endpoint:
        task = persona_pass_at_k(str(published), mode="output_only", samples=4, limit=3)
        log = run_task(inspect_ai, task, endpoint, tmp_path / "logs")
    drawn: dict[str, list[float]] = {}
    for sample in log.samples:
        drawn.setdefault(sample.id, []).append(sample.scores["judged_for_personas"].value["true"])
    assert {len(own) for own in drawn.values()} == {4}
    texts = {sample.scores["judged_for_personas"].answer for sample in log.samples}
    assert len(texts) == 12  # every epoch is a draw of its own
    for k in (1, 2, 4):
        expected = [
            pass_at_k(sum(not math.isnan(x) for x in own), int(sum(x for x in own if x == 1)), k)
            for own in drawn.values()
        ]
        known = [value for value in expected if not math.isnan(value)]
        measured = metrics_of(log, f"pass_at_{k}")["true"]
        assert measured.metrics["mean"].value == pytest.approx(sum(known) / len(known))


def test_the_open_comparison_is_our_runners_too(published, tmp_path, inspect_ai):
    from eval.bench.run import run_bench
    from eval.inspect_tasks import persona_comparison

    with openai_server(answer=replies) as endpoint:
        run_bench(
            published, [f"test-model@{endpoint.base_url}"], [], tmp_path / "ours", evaluation="comparison", limit=LIMIT
        )
        log = run_task(inspect_ai, persona_comparison(str(published), limit=LIMIT), endpoint, tmp_path / "logs")
    ours = read_result(result_path(tmp_path / "ours", "bench-test-model-comparison"))
    (chosen,) = ours.content["judges"].values()
    for condition in ("true", "none", "wrong"):
        assert metrics_of(log)[condition].metrics["mean"].value == pytest.approx(
            chosen["accuracy"][condition]["value"], abs=1e-12
        )
    assert metrics_of(log)["none"].metrics["mean"].value == 0.5


def test_bad_arguments_say_what_to_do(published, inspect_ai):
    from builder.errors import InputError
    from eval.inspect_tasks import persona_bench, persona_pass_at_k

    with pytest.raises(InputError, match="mode is 'telepathy'; choose baseline"):
        persona_bench(str(published), mode="telepathy")
    with pytest.raises(InputError, match="cannot be read"):
        persona_bench(str(published / "nowhere"))
    with pytest.raises(InputError, match="temperature"):
        persona_pass_at_k(str(published), samples=4, temperature=0.0)


def test_without_inspect_the_message_says_what_to_install():
    program = (
        "import sys; sys.modules['inspect_ai'] = None\n"
        "from builder.errors import InputError\n"
        "try:\n    import eval.inspect_tasks\n"
        "except InputError as error:\n    print(error)\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "pip install 'persona-testbed[inspect]'" in ran.stdout
