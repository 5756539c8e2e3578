"""What is recorded, under which key, and what is replayed."""

import dataclasses
import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import BudgetStop, InputError
from builder.llm.budget import Budget
from builder.llm.calls import ModelCalls
from builder.llm.messages import Answer, ChatRequest, Failure, Sampling, ScoreRequest, TokenScores, Usage
from builder.llm.record import Record, record_key
from builder.llm.scripted import ScriptedClient
from builder.recipe import ModelRecipe, ModelsRecipe

IDENTITY = {"model": "m", "revision": "r"}
REQUEST = ChatRequest(
    messages=({"role": "system", "content": "s"}, {"role": "user", "content": "u"}),
    sampling=Sampling(max_tokens=10, temperature=0.5, top_p=0.9, end_sentence_after=3),
    template="answer@1",
    seed=1,
)
SCRIPTED = ModelsRecipe(**{f.name: ModelRecipe(provider="scripted") for f in dataclasses.fields(ModelsRecipe)})


def requests(count, **changes):
    return [dataclasses.replace(REQUEST, sample_index=i, **changes) for i in range(count)]


def calls_to(tmp_path, client, **settings):
    return ModelCalls(SCRIPTED, Record(tmp_path / "r.sqlite"), clients={"generator": client}, **settings)


class CountingClient(ScriptedClient):
    def __init__(self, **settings):
        super().__init__(**settings)
        self.made = 0

    def generate(self, requests, keys, wanted, on_reply):
        self.made += len(wanted)
        super().generate(requests, keys, wanted, on_reply)


CHANGES = [
    {"messages": ({"role": "system", "content": "other"}, {"role": "user", "content": "u"})},
    {"messages": ({"role": "system", "content": "s"}, {"role": "user", "content": "other"})},
    {"messages": ({"role": "user", "content": "s"}, {"role": "user", "content": "u"})},
    {"sampling": dataclasses.replace(REQUEST.sampling, max_tokens=11)},
    {"sampling": dataclasses.replace(REQUEST.sampling, temperature=0.6)},
    {"sampling": dataclasses.replace(REQUEST.sampling, top_p=0.8)},
    {"sampling": dataclasses.replace(REQUEST.sampling, end_sentence_after=None)},
    {"template": "answer@2"},
    {"seed": 2},
    {"sample_index": 1},
    {"attempt": 1},
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda c: "-".join(c))
def test_every_field_of_a_request_changes_its_key(change):
    assert record_key(dataclasses.replace(REQUEST, **change), IDENTITY) != record_key(REQUEST, IDENTITY)


def test_the_changes_above_cover_every_field():
    assert {name for change in CHANGES for name in change} == {f.name for f in dataclasses.fields(ChatRequest)}
    sampled = {f.name for f in dataclasses.fields(Sampling)}
    changed = [c["sampling"] for c in CHANGES if "sampling" in c]
    assert {n for s in changed for n in sampled if getattr(s, n) != getattr(REQUEST.sampling, n)} == sampled


def test_model_revision_and_kind_of_request_change_the_key():
    score = ScoreRequest(REQUEST.messages, "text", REQUEST.template)
    keys = {
        record_key(r, i)
        for r in (REQUEST, score)
        for i in (IDENTITY, IDENTITY | {"revision": "q"}, IDENTITY | {"model": "n"})
    }
    assert len(keys) == 6
    assert record_key(dataclasses.replace(score, continuation="text "), IDENTITY) != record_key(score, IDENTITY)


@given(st.text(), st.text())
def test_a_key_depends_on_where_a_text_stands(a, b):
    def key(system, user):
        messages = ({"role": "system", "content": system}, {"role": "user", "content": user})
        return record_key(dataclasses.replace(REQUEST, messages=messages), IDENTITY)

    assert (key(a, b) == key(b, a)) == (a == b)


def test_recorded_replies_come_back_as_they_were(tmp_path):
    record = Record(tmp_path / "r.sqlite")
    replies = {
        "a": Answer("Grüße\n“quoted” 🙂", Usage(3, 4)),
        "b": TokenScores((-0.1, -2.5), Usage(5, 0)),
        "c": Failure("truncated", "why", "half an ans", Usage(1, 2)),
    }
    record.add((key, REQUEST, reply, {"role": "x"}) for key, reply in replies.items())
    record.close()
    assert Record(tmp_path / "r.sqlite").find(["a", "b", "c", "d"]) == replies


def test_what_may_pass_is_not_recorded_and_failures_are_no_answers(tmp_path):
    record = Record(tmp_path / "r.sqlite")
    record.add([("down", REQUEST, Failure("endpoint_error", "503"), {}), ("cut", REQUEST, Failure("truncated"), {})])
    assert "down" not in record.find(["down"])
    assert record.find(["cut"], failures=False) == {}
    assert record.count() == (0, 1)


def test_a_file_that_is_no_record_is_refused_with_what_to_do(tmp_path):
    (tmp_path / "r.sqlite").write_text("this is not a database, it is a text of some length" * 40)
    with pytest.raises(InputError, match=r"not a readable record.*Move it away"):
        Record(tmp_path / "r.sqlite")


def test_a_full_disk_leaves_what_was_recorded_readable(tmp_path):
    record = Record(tmp_path / "r.sqlite")
    record.add([("first", REQUEST, Answer("kept"), {})])
    # SQLite's own limit stands for a disk without room: the same error, at the same place.
    pages = record._connection.execute("PRAGMA page_count").fetchone()[0]
    record._connection.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(InputError, match=r"disk that holds .* is full"):
        record.add([(f"k{i}", REQUEST, Answer("x" * 5000), {}) for i in range(200)])
    record.close()
    assert Record(tmp_path / "r.sqlite").find(["first"]) == {"first": Answer("kept")}


def test_the_record_is_one_plain_sqlite_file_with_request_and_provenance(tmp_path):
    calls = calls_to(tmp_path, ScriptedClient())
    calls.generate("generator", requests(1), "x")
    calls.record.close()
    row = sqlite3.connect(tmp_path / "r.sqlite").execute("SELECT request, provenance FROM answers").fetchone()
    assert '"content":"u"' in row[0]
    assert '"role":"generator"' in row[1]


def test_a_second_run_replays_and_calls_nothing(tmp_path):
    client = CountingClient()
    first = calls_to(tmp_path, client).generate("generator", requests(30), "x")
    again = calls_to(tmp_path, client)
    assert again.generate("generator", requests(30), "x") == first
    assert (client.made, again.spending.calls, again.spending.hits) == (30, 0, 30)


def test_equal_requests_are_one_call(tmp_path):
    client = CountingClient()
    replies = calls_to(tmp_path, client).generate("generator", requests(3) * 4, "x")
    assert client.made == 3
    assert replies == replies[:3] * 4


def test_a_cap_on_calls_stops_cleanly_and_a_higher_one_goes_on(tmp_path):
    client = CountingClient()
    with pytest.raises(BudgetStop, match="max-calls 10"):
        calls_to(tmp_path, client, budget=Budget(max_calls=10)).generate("generator", requests(25), "x")
    assert client.made == 10
    calls_to(tmp_path, client).generate("generator", requests(25), "x")
    assert client.made == 25


def test_a_cap_on_cost_stops(tmp_path):
    priced = ModelRecipe(provider="scripted", cost_per_million_completion_tokens=1e6)
    models = dataclasses.replace(SCRIPTED, generator=priced)
    calls = ModelCalls(models, Record(tmp_path / "r.sqlite"), Budget(max_cost_usd=100))
    with pytest.raises(BudgetStop, match="max-cost 100"):
        calls.generate("generator", requests(2000), "x")
    assert 0 < calls.record.count()[0] < 2000


def test_a_dry_run_counts_but_calls_and_writes_nothing(tmp_path):
    client = CountingClient()
    calls_to(tmp_path, client).generate("generator", requests(4), "x")
    calls = ModelCalls(
        SCRIPTED, Record(tmp_path / "r.sqlite", read_only=True), dry_run=True, clients={"generator": client}
    )
    calls.generate("generator", requests(10), "x")
    assert (client.made, calls.spending.calls, calls.spending.hits) == (4, 6, 4)
    assert calls.spending.completion_tokens == 6 * REQUEST.sampling.max_tokens
    assert Record(tmp_path / "r.sqlite").count() == (4, 0)


def test_failed_attempts_are_replayed_unless_asked_for_again(tmp_path):
    class Cutting(CountingClient):
        def generate(self, requests, keys, wanted, on_reply):
            self.made += len(wanted)
            on_reply([(i, Failure("truncated")) for i in wanted])

    client = Cutting()
    for settings in ({}, {}, {"retry_failed": True}):
        assert calls_to(tmp_path, client, **settings).generate("generator", requests(2), "x")[0].reason == "truncated"
    assert client.made == 4
