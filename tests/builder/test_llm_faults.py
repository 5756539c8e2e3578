"""What an endpoint can do wrong, on a real server that does it: what is tried again, what is recorded, what the ledger says, and that
the next run goes on from there.

`retries=0` stands for an endpoint whose fault lasts longer than the patience of the client: the waits in between are the package's.
"""

import json
import logging
import threading
import time

import pytest

from builder.errors import BudgetStop, InputError
from builder.llm.budget import Budget
from builder.llm.calls import ModelCalls
from builder.llm.messages import Answer, ChatRequest, Sampling
from builder.llm.openai_client import OpenAIClient
from builder.llm.record import Record
from builder.llm.templates import load_template
from builder.pairs.feedback import write_texts
from builder.recipe import ModelRecipe, ModelsRecipe, load_recipe
from tests.openai_server import answer_and_close, blanks, completion, cut_off, hang, openai_server, reset

MESSAGES = ({"role": "system", "content": "s"}, {"role": "user", "content": "Say something about the weather."})
AT_ONCE = {"Retry-After-Ms": "1"}
HTML = "<html><body>502 Bad Gateway</body></html>"
LIMIT = 0.3  # seconds that a call may take where the fault is to take longer
KEY = "a-very-secret-value"

# What passes if one waits. Most of them leave the client to wait by its own rule, some 0.4 s before the second attempt.
PASSING = {
    "429": (429, {"error": {"message": "slow down"}}, AT_ONCE),
    "500": (500, {"error": {"message": "oops"}}, AT_ONCE),
    "502 with a page": (502, HTML, AT_ONCE),
    "200 with a page": (200, HTML, {}),
    "hangs": (200, hang, {}),
    "resets the connection": (200, reset, {}),
    "cuts the body off": (200, cut_off, {}),
    "blanks for ever": (200, blanks, {}),
    "half an object": (200, b'{"choices": [{"message": {"con', {}),
    "invalid UTF-8": (200, b'{"choices": [{"message": {"content": "\xff\xfe"}}]}', {}),
    "nested without end": (200, b"[" * 100_000, {}),
}


def endpoint_calls(tmp_path, endpoint, retries=0, retry_failed=False, budget=None, **settings):
    recipe = ModelRecipe(
        provider="openai",
        **{"model": "test-model", "base_url": endpoint.base_url, "timeout_seconds": 30.0, **settings},
    )
    return ModelCalls(
        ModelsRecipe(generator=recipe),
        Record(tmp_path / "r.sqlite"),
        budget,
        clients={"generator": OpenAIClient("generator", recipe, retries)},
        retry_failed=retry_failed,
    )


def limit(fault):
    return {"timeout_seconds": LIMIT} if fault in ("hangs", "blanks for ever") else {}


def ask(calls, count=1):
    requests = [ChatRequest(MESSAGES, Sampling(20, 0.7), "answer@1", 1, sample_index=i) for i in range(count)]
    return calls.generate("generator", requests, "x")


def write(calls, template="answer"):
    """As the pair stages ask: with a template that reads the reply, and up to three more attempts."""
    recipe = load_recipe("demo")
    loaded = load_template(template)
    return write_texts(recipe, calls, "generator", loaded, [MESSAGES], recipe.pairs.answer, "x")[0]


@pytest.mark.parametrize("fault", PASSING)
def test_what_can_pass_is_tried_again(tmp_path, fault):
    with openai_server(answer=lambda b, n: PASSING[fault] if n == 1 else completion("at last")) as endpoint:
        calls = endpoint_calls(tmp_path, endpoint, retries=1, **limit(fault))
        assert ask(calls)[0].text == "at last"
    assert len(endpoint.requests) == 2
    assert calls.record.count() == (1, 0)
    assert calls.spending.calls == 1


@pytest.mark.parametrize("fault", PASSING)
def test_what_does_not_pass_is_not_recorded_and_asked_again_by_the_next_run(tmp_path, fault):
    with openai_server(answer=lambda b, n: PASSING[fault]) as endpoint:
        calls = endpoint_calls(tmp_path, endpoint, **limit(fault))
        written = write(calls)
        assert (written.text, written.reason) == (None, "endpoint_error")
        assert "html" not in written.detail
        assert "choices" not in written.detail
        # A hole in the record would be filled by another attempt's answer later: the same attempt is due.
        assert len(endpoint.requests) == 1
        assert calls.record.count() == (0, 0)
        endpoint.answer = lambda b, n: completion("well again")
        assert write(endpoint_calls(tmp_path, endpoint)).text == "well again"
    assert endpoint.requests[1] == endpoint.requests[0]


def test_retry_after_is_obeyed(tmp_path, monkeypatch):
    # By its own rule the client would not wait at all.
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.0)
    busy = (429, {"error": {"message": "slow down"}}, {"Retry-After": "0.3"})
    with openai_server(answer=lambda b, n: busy if n == 1 else completion("ok")) as endpoint:
        (reply,) = ask(endpoint_calls(tmp_path, endpoint, retries=1))
    waited = endpoint.times[1] - endpoint.times[0]
    assert waited >= 0.3
    assert reply.usage.seconds >= waited  # a call took as long as its attempts


def test_a_call_may_take_as_long_as_the_recipe_says_and_no_longer(tmp_path):
    for fault in (hang, blanks):
        with openai_server(answer=lambda b, n, fault=fault: (200, fault, {})) as endpoint:
            started = time.monotonic()
            (reply,) = ask(endpoint_calls(tmp_path, endpoint, timeout_seconds=LIMIT))
            took = time.monotonic() - started
        assert "APITimeoutError" in reply.detail
        assert LIMIT <= took < LIMIT + 2


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (completion("half an ans", "length"), "truncated"),
        (completion("half an ans", "max_tokens"), "truncated"),
        (completion(""), "empty"),
        (completion(" \n\t "), "empty"),
        (completion(None), "empty"),
        (completion("I'm sorry, but I can't help with that."), "refused"),
        (completion(None, refusal="no"), "refused"),
        (completion(None, refusal={"why": "\ud83d"}), "refused"),
        (completion("x", "content_filter"), "refused"),
    ],
)
def test_what_the_model_did_is_recorded_as_a_failed_attempt(tmp_path, response, reason):
    with openai_server(answer=lambda b, n: response) as endpoint:
        calls = endpoint_calls(tmp_path, endpoint)
        written = write(calls)
        assert (written.text, written.reason) == (None, reason)
        assert len(endpoint.requests) == 4
        assert len({body["seed"] for body in endpoint.requests}) == 4  # not the same draw again
        assert calls.record.count() == (0, 4)

        # The next run knows, and pays for none of it; with --retry-failed it asks.
        again = endpoint_calls(tmp_path, endpoint)
        assert write(again) == written
        assert (again.spending.calls, again.spending.hits) == (0, 4)
        endpoint.answer = lambda b, n: completion("well again")
        assert write(endpoint_calls(tmp_path, endpoint, retry_failed=True)).text == "well again"
    assert len(endpoint.requests) == 5


def test_after_a_failed_attempt_the_next_one_counts_in_every_run(tmp_path):
    with openai_server(answer=lambda b, n: completion("cut", "length") if n == 1 else completion("whole")) as endpoint:
        first = write(endpoint_calls(tmp_path, endpoint))
        calls = endpoint_calls(tmp_path, endpoint)
        assert write(calls) == first
    assert first.text == "whole"
    assert len(endpoint.requests) == 2
    assert calls.spending.calls == 0


def test_markers_that_cannot_be_read_are_drawn_again_and_then_go_to_the_ledger(tmp_path):
    template = "revision_paper"
    marker = load_template(template).markers[-1]
    good = "\n".join(f"{m} words" for m in load_template(template).markers)
    for bad in (f"text before {marker} and after", good.replace(marker, marker.lower()), f"{marker}\n"):
        folder = tmp_path / str(hash(bad))
        with openai_server(answer=lambda b, n, bad=bad: completion(bad)) as endpoint:
            written = write(endpoint_calls(folder, endpoint), template)
            assert (written.text, written.reason) == (None, "unreadable")
            assert len(endpoint.requests) == 4
            calls = endpoint_calls(folder, endpoint)
            assert write(calls, template) == written
            assert calls.spending.calls == 0
    with openai_server(answer=lambda b, n: completion("nothing of the form" if n < 3 else good)) as endpoint:
        assert write(endpoint_calls(tmp_path / "good", endpoint), template).text == "words"
    assert len(endpoint.requests) == 3


@pytest.mark.parametrize(
    "usage",
    [
        None,
        [],
        "many",
        {"prompt_tokens": -5, "completion_tokens": -1},
        {"prompt_tokens": "11", "completion_tokens": "7"},
        {"prompt_tokens": True, "completion_tokens": 7.5},
        {"prompt_tokens": 10**18, "completion_tokens": 10**30},
        {"prompt_tokens": None},
    ],
)
def test_an_unbelievable_usage_is_estimated_so_that_a_cost_cap_still_counts(tmp_path, usage):
    status, body, headers = completion("The sun is out today.")
    with openai_server(answer=lambda b, n: (status, {**body, "usage": usage}, headers)) as endpoint:
        calls = endpoint_calls(tmp_path, endpoint)
        (reply,) = ask(calls)
    assert reply.text == "The sun is out today."
    assert 5 <= reply.usage.prompt_tokens <= 15
    assert 4 <= reply.usage.completion_tokens <= 10
    assert calls.record.count() == (1, 0)
    assert ask(endpoint_calls(tmp_path, endpoint)) == [reply]  # replayed with the same figures


@pytest.mark.parametrize("reason", ["stop", "eos_token", "end_turn", "", None, "whatever", ["stop"]])
def test_an_unknown_finish_reason_does_not_spoil_an_answer(tmp_path, reason):
    with openai_server(answer=lambda b, n: completion("ok", reason)) as endpoint:
        assert ask(endpoint_calls(tmp_path, endpoint))[0] == Answer(
            "ok", ask(endpoint_calls(tmp_path, endpoint))[0].usage
        )


def test_a_server_that_gave_up_on_its_answer_has_given_none(tmp_path):
    with openai_server(answer=lambda b, n: completion("half an ans", "abort")) as endpoint:
        calls = endpoint_calls(tmp_path, endpoint)
        assert ask(calls)[0].reason == "endpoint_error"
    assert calls.record.count() == (0, 0)


@pytest.mark.parametrize(
    "body",
    [
        b"null",
        b"3",
        b"[]",
        b"{}",
        b'{"choices": {}}',
        b'{"choices": [null]}',
        b'{"choices": [{"message": "hello"}]}',
        b'{"choices": [{"message": {"content": 5}}]}',
        b'{"choices": [{"message": {"content": [{"type": "text", "text": "hello"}]}}]}',
        b'{"error": {"message": "out of memory"}}',
        b"",
    ],
)
def test_json_of_another_shape_is_the_endpoints_fault(tmp_path, body):
    with openai_server(answer=lambda b, n: (200, body, {})) as endpoint:
        calls = endpoint_calls(tmp_path, endpoint)
        assert ask(calls)[0].reason == "endpoint_error"
        assert calls.record.count() == (0, 0)
        endpoint.answer = lambda b, n: completion("ok")
        assert ask(endpoint_calls(tmp_path, endpoint))[0].text == "ok"


def test_half_a_surrogate_pair_can_be_recorded_and_replayed(tmp_path):
    with openai_server(answer=lambda b, n: completion("sun \ud83d and \x00 rain")) as endpoint:
        first = ask(endpoint_calls(tmp_path, endpoint))
        assert ask(endpoint_calls(tmp_path, endpoint)) == first
    assert first[0].text == "sun ? and \x00 rain"
    assert len(endpoint.requests) == 1


def test_a_huge_body_is_given_up_and_not_asked_for_again(tmp_path):
    huge = b'{"choices": [{"message": {"content": "' + b"x" * (17 * 2**20) + b'"}}]}'
    with openai_server(answer=lambda b, n: (200, huge, {})) as endpoint:
        calls = endpoint_calls(tmp_path, endpoint, retries=3)
        (reply,) = ask(calls)
    assert (reply.reason, reply.detail) == ("endpoint_error", "the response is larger than 16 MiB")
    assert len(endpoint.requests) == 1


def test_an_endpoint_that_dies_stops_the_run_and_the_next_run_asks_only_for_the_rest(tmp_path):
    with openai_server(answer=lambda b, n: completion("ok") if n <= 30 else (200, reset, {})) as endpoint:
        calls = endpoint_calls(tmp_path, endpoint, max_concurrency=4)
        with pytest.raises(
            InputError, match=r"models\.generator failed 25 times in a row.*APIConnectionError.*is recorded"
        ):
            ask(calls, count=200)
        assert calls.record.count() == (30, 0)
        assert len(endpoint.requests) < 130
        endpoint.answer = lambda b, n: completion("ok")
        calls = endpoint_calls(tmp_path, endpoint, max_concurrency=4)
        assert all(isinstance(reply, Answer) for reply in ask(calls, count=200))
    assert (calls.spending.hits, calls.spending.calls) == (30, 170)


def test_failures_that_answers_come_between_do_not_stop_a_run(tmp_path):
    with openai_server(answer=lambda b, n: completion("ok") if n % 20 == 0 else (400, {"error": {}}, {})) as endpoint:
        replies = ask(endpoint_calls(tmp_path, endpoint, max_concurrency=1), count=100)
    assert [isinstance(reply, Answer) for reply in replies].count(True) == 5


def test_a_connection_that_the_server_closed_between_two_batches_costs_nothing(tmp_path):
    answered, closed = threading.Event(), threading.Event()
    with openai_server(answer=lambda b, n: (200, lambda h: answer_and_close(h, answered, closed), {})) as endpoint:
        calls = endpoint_calls(tmp_path, endpoint)  # no retries: a call on a dead connection would fail
        assert isinstance(ask(calls)[0], Answer)
        answered.set()
        assert closed.wait(20)
        assert all(isinstance(reply, Answer) for reply in ask(calls, count=2))


def test_batches_share_their_connections(tmp_path):
    with openai_server() as endpoint:
        calls = endpoint_calls(tmp_path, endpoint, max_concurrency=2)
        for count in (2, 4, 8):
            ask(calls, count)
    # One connection looked at the models; calls at once are two.
    assert endpoint.connections <= 2


@pytest.mark.parametrize(
    "response",
    [
        (200, {"choices": [{"message": {"content": f"your key is {KEY}"}, "finish_reason": "stop"}]}, {}),
        (200, {"choices": [{"message": {"content": None, "refusal": KEY}, "finish_reason": "stop"}]}, {}),
        (200, f"<html>{KEY}</html>", {"X-Key": KEY}),
        (400, {"error": {"message": KEY, "code": KEY, "param": KEY, "type": KEY}}, {"X-Request-Id": KEY}),
        (401, {"error": {"message": f"Incorrect API key provided: {KEY}", "code": KEY}}, {}),
        (403, {"error": {"message": KEY, "code": KEY}}, {}),
        (404, {"error": {"message": KEY, "code": KEY}}, {}),
        (500, f"Authorization: Bearer {KEY}", {"X-Request-Id": KEY}),
    ],
)
def test_a_server_that_repeats_the_key_does_not_get_it_anywhere(tmp_path, monkeypatch, caplog, capsys, response):
    monkeypatch.setenv("TEST_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    said = ""
    with openai_server(answer=lambda b, n: response, models=None) as endpoint:
        calls = endpoint_calls(tmp_path, endpoint, retries=0, api_key_env="TEST_KEY")
        try:
            said = repr(ask(calls))
        except InputError as error:
            said = f"{error!r} {error.__cause__!r} {error.__context__!r}"
    assert endpoint.headers["authorization"] == f"Bearer {KEY}"
    calls.record.close()
    assert said
    assert KEY not in said + caplog.text + "".join(capsys.readouterr())
    assert not [file for file in tmp_path.iterdir() if KEY.encode() in file.read_bytes()]


@pytest.mark.parametrize("key", ["two words", "line\nbreak", "schlüssel-schlüssel"])
def test_a_variable_that_holds_more_than_a_key_is_refused_without_showing_it(tmp_path, monkeypatch, key):
    monkeypatch.setenv("TEST_KEY", key)
    with openai_server() as endpoint, pytest.raises(InputError, match=r"TEST_KEY.*Export the key alone") as raised:
        ask(endpoint_calls(tmp_path, endpoint, api_key_env="TEST_KEY"))
    assert key not in str(raised.value)
    assert endpoint.requests == []


# Requests that the server may have worked on, of one that failed each time and was sent three times.
BILLED = {
    **dict.fromkeys(PASSING, 3),
    **dict.fromkeys(("429", "500", "502 with a page", "resets the connection"), 0),
}


@pytest.mark.parametrize("fault", PASSING)
def test_requests_that_a_server_may_bill_are_counted_and_charged_though_no_answer_came(tmp_path, monkeypatch, fault):
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.001)
    with openai_server(answer=lambda b, n: PASSING[fault]) as endpoint:
        prices = {"cost_per_million_prompt_tokens": 1e6, "cost_per_million_completion_tokens": 0.0}
        calls = endpoint_calls(tmp_path, endpoint, retries=2, **prices, **limit(fault))
        ask(calls)
        assert len(endpoint.requests) == 3
        spent = calls.spending
        assert (spent.calls, spent.retried_requests) == (1, BILLED[fault])
        # "s" and "Say something about the weather." are some eight tokens.
        assert 5 * BILLED[fault] <= spent.prompt_tokens <= 12 * BILLED[fault]
        assert spent.cost_usd == pytest.approx(spent.prompt_tokens)
        assert calls.part_usage() == {}


def test_an_answer_after_fruitless_requests_is_recorded_with_its_own_tokens_alone(tmp_path):
    with openai_server(answer=lambda b, n: (200, HTML, {}) if n == 1 else completion("ok")) as endpoint:
        calls = endpoint_calls(tmp_path, endpoint, retries=1)
        ask(calls)
        assert (calls.spending.calls, calls.spending.retried_requests) == (1, 1)
        assert calls.spending.prompt_tokens > 11
        assert [prompt for _, prompt, _ in calls.part_usage().values()] == [11]
        again = endpoint_calls(tmp_path, endpoint)
        assert ask(again)[0].usage.prompt_tokens == 11
        assert again.spending.retried_requests == 0


def test_nobody_at_the_address_costs_nothing(tmp_path):
    with openai_server() as endpoint:
        calls = endpoint_calls(tmp_path, endpoint)
        ask(calls)
    with pytest.raises(InputError, match="in a row"):
        ask(calls, count=60)
    assert calls.spending.calls > 20
    assert calls.spending.retried_requests == 0


def test_json_without_a_completion_is_charged_once(tmp_path):
    with openai_server(answer=lambda b, n: (200, b"{}", {})) as endpoint:
        calls = endpoint_calls(tmp_path, endpoint, retries=2)
        ask(calls)
    assert (len(endpoint.requests), calls.spending.retried_requests) == (1, 1)


def test_a_cost_cap_stops_a_server_that_bills_and_never_answers(tmp_path):
    # One answer in twenty, so that no 25 failures in a row end the run.
    reply = {True: completion("ok"), False: (200, HTML, {})}
    with openai_server(answer=lambda b, n: reply[n % 20 == 0]) as endpoint:
        budget = Budget(max_cost_usd=0.001)
        prices = {"cost_per_million_prompt_tokens": 1.0, "max_concurrency": 4}
        calls = endpoint_calls(tmp_path, endpoint, budget=budget, **prices)
        with pytest.raises(BudgetStop, match=r"^Stopped by --max-cost 0\.001: .* requests without a usable answer"):
            ask(calls, count=2000)
    assert len(endpoint.requests) < 400


@pytest.mark.parametrize(
    ("field", "other"), [("max_tokens", "max_completion_tokens"), ("max_completion_tokens", "max_tokens")]
)
def test_the_limit_of_an_answer_goes_under_the_name_that_the_endpoint_takes(tmp_path, field, other):
    def answer(body, number):
        return completion("ok") if field in body else (400, {"error": {"message": f"Use '{field}' instead."}}, {})

    with openai_server(answer=answer) as endpoint:
        calls = endpoint_calls(tmp_path, endpoint, max_tokens_field=field)
        assert ask(calls)[0].text == "ok"
        assert endpoint.requests[0][field] == 20
        assert other not in endpoint.requests[0]
        # The name is no part of what was asked.
        assert ask(endpoint_calls(tmp_path, endpoint, max_tokens_field=other))[0].text == "ok"
    assert len(endpoint.requests) == 1


def test_a_run_that_stops_shows_what_the_server_said_shortened_and_without_the_key(tmp_path, monkeypatch):
    key = "secret/with/slashes"
    monkeypatch.setenv("TEST_KEY", key)
    words = f"Unsupported parameter: 'max_tokens'.\nUse 'max_completion_tokens' instead, {key}! " + "x" * 1000
    # JSON may write a slash with a backslash before it.
    body = json.dumps({"error": {"message": words}}).replace("/", "\\/").encode()
    with openai_server(answer=lambda b, n: (400, body, {})) as endpoint:
        calls = endpoint_calls(tmp_path, endpoint, api_key_env="TEST_KEY")
        with pytest.raises(InputError, match="Use 'max_completion_tokens' instead, \\[key\\]!") as raised:
            ask(calls, count=60)
    assert key not in str(raised.value)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 800


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        ({"code": "content_filter", "message": "The prompt triggered a filter."}, "refused"),
        ({"code": "content_policy_violation", "message": "no"}, "refused"),
        ({"code": "context_length_exceeded", "message": "too many tokens"}, "too_long"),
        (
            {"code": 400, "type": "BadRequestError", "message": "This model's maximum context length is 9 tokens."},
            "too_long",
        ),
    ],
)
def test_a_400_about_the_request_itself_is_recorded_and_not_asked_again(tmp_path, error, reason):
    with openai_server(answer=lambda b, n: (400, {"error": error}, {})) as endpoint:
        calls = endpoint_calls(tmp_path, endpoint)
        # More than what in a row would mean that the endpoint is down.
        assert {reply.reason for reply in ask(calls, count=30)} == {reason}
        assert calls.record.count() == (0, 30)
        assert calls.spending.retried_requests == 0
        again = endpoint_calls(tmp_path, endpoint)
        assert {reply.reason for reply in ask(again, count=30)} == {reason}
        assert (again.spending.calls, again.spending.hits, len(endpoint.requests)) == (0, 30, 30)
