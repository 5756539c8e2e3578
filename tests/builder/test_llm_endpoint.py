"""The OpenAI-compatible client against a real HTTP server that answers, refuses and misbehaves."""

import dataclasses
import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from builder.errors import InputError
from builder.llm.calls import ModelCalls
from builder.llm.messages import Answer, ChatRequest, Failure, Sampling, ScoreRequest, Usage
from builder.llm.openai_client import is_refusal
from builder.llm.record import Record
from builder.recipe import ModelRecipe, ModelsRecipe
from tests.openai_server import completion, openai_server

ROOT = Path(__file__).parent.parent.parent
MESSAGES = ({"role": "system", "content": "s"}, {"role": "user", "content": "u"})


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    # How long a retry waits is the package's business; that it retries is what is tested here.
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.001)
    monkeypatch.setattr("openai._base_client.MAX_RETRY_DELAY", 0.002)


def ask(tmp_path, endpoint, count=1, **settings):
    settings = {"model": "test-model", "base_url": endpoint.base_url, **settings}
    models = dataclasses.replace(ModelsRecipe(), generator=ModelRecipe(provider="openai", **settings))
    calls = ModelCalls(models, Record(tmp_path / "r.sqlite"))
    requests = [ChatRequest(MESSAGES, Sampling(20, 0.7), "answer@1", 1, sample_index=i) for i in range(count)]
    return calls.generate("generator", requests, "x"), calls


def test_answers_carry_text_and_usage_and_the_request_carries_the_settings(tmp_path):
    with openai_server(answer=lambda body, n: completion(" hello ")) as endpoint:
        replies, calls = ask(tmp_path, endpoint)
    assert replies == [Answer("hello", Usage(11, 7))]
    assert calls.spending.prompt_tokens == 11
    sent = endpoint.requests[0]
    assert (sent["model"], sent["max_tokens"], sent["temperature"]) == ("test-model", 20, 0.7)
    assert sent["messages"] == list(MESSAGES)


def test_as_many_calls_at_once_as_allowed_and_no_more(tmp_path):
    seven = threading.Barrier(7, timeout=20)

    def together(body, number):
        seven.wait()
        return completion("ok")

    with openai_server(answer=together) as endpoint:
        ask(tmp_path, endpoint, count=63, max_concurrency=7)
    assert endpoint.most_at_once == 7
    assert len(endpoint.requests) == 63


@pytest.mark.parametrize("status", [429, 500, 503])
def test_what_can_pass_is_tried_again(tmp_path, status):
    def moody(body, number):
        return completion("at last") if number > 2 else (status, {"error": {"message": "busy"}}, {"Retry-After": "0"})

    with openai_server(answer=moody) as endpoint:
        replies, _ = ask(tmp_path, endpoint)
    assert replies[0].text == "at last"
    assert len(endpoint.requests) == 3


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (completion("half an ans", "length"), "truncated"),
        (completion(""), "empty"),
        (completion(None), "empty"),
        (completion("x", "content_filter"), "refused"),
        (completion(None, refusal="no"), "refused"),
        (completion("I'm sorry, but I can't help with that."), "refused"),
        (completion("I’m sorry, but I can’t assist with that."), "refused"),
        (completion("Sorry, I'm unable to provide that."), "refused"),
        ((200, "<html>gateway</html>", {}), "endpoint_error"),
        ((200, {"choices": []}, {}), "endpoint_error"),
        ((400, {"error": {"message": "too long"}}, {}), "endpoint_error"),
    ],
)
def test_what_is_no_answer_says_why_and_is_not_recorded_as_one(tmp_path, response, reason):
    with openai_server(answer=lambda body, n: response) as endpoint:
        replies, calls = ask(tmp_path, endpoint)
    assert isinstance(replies[0], Failure)
    assert replies[0].reason == reason
    assert calls.record.count()[0] == 0


@pytest.mark.parametrize(
    "opinion", ["I'm sorry, I can't agree: this ignores my faith.", "I cannot see why not.", "Sorry, no."]
)
def test_an_opinion_is_no_refusal(opinion):
    assert not is_refusal(opinion)


def test_one_bad_item_does_not_lose_the_others(tmp_path):
    with openai_server(answer=lambda b, n: (400, {"error": {}}, {}) if n == 3 else completion("ok")) as endpoint:
        replies, calls = ask(tmp_path, endpoint, count=10, max_concurrency=1)
        assert [isinstance(r, Failure) for r in replies].count(True) == 1
        replies, calls = ask(tmp_path, endpoint, count=10)
    assert calls.spending.calls == 1
    assert all(isinstance(r, Answer) for r in replies)


def test_an_endpoint_that_goes_down_stops_the_run_with_everything_recorded(tmp_path):
    def dying(body, number):
        return completion("ok") if number <= 20 else (400, {"error": {}}, {})

    with openai_server(answer=dying) as endpoint, pytest.raises(InputError, match="times in a row"):
        ask(tmp_path, endpoint, count=200, max_concurrency=4)
    assert Record(tmp_path / "r.sqlite").count()[0] == 20
    assert len(endpoint.requests) < 60


def test_nobody_at_the_address(tmp_path):
    with openai_server() as endpoint:
        pass
    with pytest.raises(InputError, match=r"models\.generator.*cannot be reached"):
        ask(tmp_path, endpoint)


def test_wrong_key_is_named_but_never_shown(tmp_path, monkeypatch):
    monkeypatch.setenv("TEST_KEY", "a-very-secret-value")
    with openai_server(key="right") as endpoint, pytest.raises(InputError, match=r"401.*TEST_KEY") as raised:
        ask(tmp_path, endpoint, api_key_env="TEST_KEY")
    assert "a-very-secret-value" not in str(raised.value)
    for file in tmp_path.iterdir():
        assert b"a-very-secret-value" not in file.read_bytes()


def test_right_key_is_sent_and_never_recorded(tmp_path, monkeypatch):
    monkeypatch.setenv("TEST_KEY", "a-very-secret-value")
    with openai_server(key="a-very-secret-value") as endpoint:
        replies, calls = ask(tmp_path, endpoint, api_key_env="TEST_KEY")
    assert isinstance(replies[0], Answer)
    calls.record.close()
    assert all(b"a-very-secret-value" not in file.read_bytes() for file in tmp_path.iterdir())


def test_unset_key_variable(tmp_path, monkeypatch):
    monkeypatch.delenv("TEST_KEY", raising=False)
    with openai_server() as endpoint, pytest.raises(InputError, match="TEST_KEY, which is not set"):
        ask(tmp_path, endpoint, api_key_env="TEST_KEY")


def test_unknown_model_names_the_closest(tmp_path):
    with openai_server(models=["llama-3-70b", "qwen"]) as endpoint, pytest.raises(InputError, match="llama-3-70b"):
        ask(tmp_path, endpoint, model="llama-3-7b")
    assert endpoint.requests == []


def test_server_without_a_list_of_models_is_fine_and_404_on_the_call_is_final(tmp_path):
    server = openai_server(models=[], answer=lambda b, n: (404, {"error": {}}, {}))
    with server as endpoint, pytest.raises(InputError, match="unknown model or a wrong address"):
        ask(tmp_path, endpoint, count=50)
    assert len(endpoint.requests) < 50


def test_a_server_that_cannot_list_its_models_still_answers(tmp_path):
    with openai_server(models=None) as endpoint:
        replies, _ = ask(tmp_path, endpoint)
    assert isinstance(replies[0], Answer)


def test_no_endpoint_is_needed_to_replay(tmp_path):
    with openai_server() as endpoint:
        first, _ = ask(tmp_path, endpoint, count=5)
    again, calls = ask(tmp_path, endpoint, count=5)
    assert again == first
    assert calls.spending.hits == 5


def test_token_scores_are_refused_with_the_way_out(tmp_path):
    models = ModelsRecipe(judge=ModelRecipe(provider="openai", model="test-model", base_url="http://127.0.0.1:9/v1"))
    calls = ModelCalls(models, Record(tmp_path / "r.sqlite"))
    client = calls.client("judge")
    with pytest.raises(InputError, match="roleplay"):
        client.score([ScoreRequest(MESSAGES, "x", "t")], {0}, print)


def test_the_benchmark_counts_what_a_server_answered_and_what_was_recorded(tmp_path):
    figures = tmp_path / "figures.json"
    sizes = ["--calls", "300", "--concurrency", "20", "--seconds", "0.01", "--json", str(figures)]
    subprocess.run([sys.executable, "-m", "benchmarks.endpoint", *sizes], cwd=ROOT, check=True, capture_output=True)
    ours = json.loads(figures.read_text())["results"]["ours"]
    assert (ours["answers"], ours["served"]) == (300, 300)
    assert 2 <= ours["most_at_once"] <= 20
    assert 0 < ours["calls_per_s"] <= 2000  # 20 at once of 10 ms
