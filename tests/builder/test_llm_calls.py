"""What is called, replayed, counted and capped."""

import dataclasses
import gc
import time
import tracemalloc

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builder.errors import BudgetStop
from builder.llm.budget import Budget
from builder.llm.calls import ModelCalls
from builder.llm.messages import Answer, ChatRequest, Failure, Sampling, ScoreRequest, Usage
from builder.llm.record import Record
from builder.llm.scripted import FILLER, ScriptedClient
from builder.llm.templates import load_template
from builder.llm.tokens import _WORD_OR_MARK, approximate_tokens
from builder.recipe import ModelRecipe, ModelsRecipe

REQUEST = ChatRequest(
    messages=({"role": "system", "content": "s"}, {"role": "user", "content": "u"}),
    sampling=Sampling(max_tokens=10, temperature=0.5, top_p=0.9, end_sentence_after=3),
    template="answer@1",
    seed=1,
)
SCRIPTED = ModelsRecipe(**{f.name: ModelRecipe(provider="scripted") for f in dataclasses.fields(ModelsRecipe)})


def requests(count, **changes):
    return [dataclasses.replace(REQUEST, sample_index=i, **changes) for i in range(count)]


def calls_to(tmp_path, client=None, models=SCRIPTED, **settings):
    clients = {"generator": client} if client else None
    return ModelCalls(models, Record(tmp_path / "r.sqlite"), clients=clients, **settings)


class CountingClient(ScriptedClient):
    def __init__(self, **settings):
        super().__init__(**settings)
        self.made = 0

    def generate(self, requests, keys, wanted, on_reply):
        self.made += len(wanted)
        super().generate(requests, keys, wanted, on_reply)


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


def test_replies_are_recorded_before_the_next_ones_come(tmp_path):
    calls = calls_to(tmp_path)
    seen = []

    class Watching(ScriptedClient):
        def generate(self, requests, keys, wanted, on_reply):
            for i in sorted(wanted):
                on_reply([(i, Answer(f"reply {i}"))])
                seen.append(Record(tmp_path / "r.sqlite", read_only=True).find([keys[i]]))

    calls._given_clients = {"generator": Watching()}
    calls.generate("generator", requests(4), "x")
    assert [list(found.values()) for found in seen] == [[Answer(f"reply {i}")] for i in range(4)]


def test_half_a_pair_of_surrogates_is_read_as_it_will_be_replayed(tmp_path):
    client = ScriptedClient(reply=lambda request: "half \ud83d of it")
    client.generate = lambda requests, keys, wanted, on_reply: on_reply(
        [(i, Answer("half \ud83d of it")) for i in wanted]
    )
    first = calls_to(tmp_path, client).generate("generator", requests(1), "x")
    assert first == [Answer("half ? of it")]
    assert calls_to(tmp_path, client).generate("generator", requests(1), "x") == first


def test_a_cap_on_calls_is_exact_and_a_higher_one_goes_on(tmp_path):
    client = CountingClient()
    with pytest.raises(BudgetStop, match="max-calls 10"):
        calls_to(tmp_path, client, budget=Budget(max_calls=10)).generate("generator", requests(25), "x")
    assert client.made == 10
    calls_to(tmp_path, client, budget=Budget(max_calls=15)).generate("generator", requests(25), "x")
    assert client.made == 25


def test_a_cap_on_cost_stops(tmp_path):
    priced = ModelRecipe(provider="scripted", cost_per_million_completion_tokens=1e6)
    models = dataclasses.replace(SCRIPTED, generator=priced)
    calls = calls_to(tmp_path, models=models, budget=Budget(max_cost_usd=100))
    with pytest.raises(BudgetStop, match="max-cost 100"):
        calls.generate("generator", requests(2000), "x")
    assert 0 < calls.record.count()[0] < 2000


@pytest.mark.parametrize("cap", [3.0, 29.0, 47.0])
def test_a_cap_on_cost_is_passed_by_less_than_the_calls_in_flight_and_asks_for_many_at_once(tmp_path, cap):
    """Each call costs 0.01 USD."""
    asked = []

    class Priced(ScriptedClient):
        def generate(self, requests, keys, wanted, on_reply):
            asked.append(len(wanted))
            on_reply([(i, Answer("a", Usage(0, 10_000))) for i in sorted(wanted)])

    priced = ModelRecipe(provider="scripted", cost_per_million_completion_tokens=1, max_concurrency=100)
    calls = calls_to(
        tmp_path, Priced(), dataclasses.replace(SCRIPTED, generator=priced), budget=Budget(max_cost_usd=cap)
    )
    with pytest.raises(BudgetStop, match="max-cost"):
        calls.generate("generator", requests(5000), "x")
    assert cap <= calls.spending.cost_usd + 1e-9 < cap + 100 * 0.01
    assert cap < 5 or max(asked) >= 1000


def test_failed_attempts_are_replayed_unless_asked_for_again(tmp_path):
    class Cutting(CountingClient):
        def generate(self, requests, keys, wanted, on_reply):
            self.made += len(wanted)
            on_reply([(i, Failure("truncated")) for i in wanted])

    client = Cutting()
    for asked_again in ({}, {}, {"retry_failed": True}):
        assert (
            calls_to(tmp_path, client, **asked_again).generate("generator", requests(2), "x")[0].reason == "truncated"
        )
    assert client.made == 4


# Parts: what each one used is the same however much of it was replayed.


def use_two_parts(calls):
    calls.begin_part()
    calls.generate("generator", requests(5) + requests(2), "x")
    calls.generate("generator", requests(3), "x")
    calls.score("judge", [ScoreRequest(REQUEST.messages, "a few words", "s@1")], "x")
    first = calls.part_usage()
    calls.begin_part()
    calls.generate("generator", requests(4), "x")
    return first, calls.part_usage()


@pytest.mark.parametrize("recorded", [0, 2, 5])
def test_a_part_counts_each_of_its_replies_once_replayed_or_not(tmp_path, recorded):
    calls_to(tmp_path).generate("generator", requests(recorded), "x")
    calls = calls_to(tmp_path)
    first, second = use_two_parts(calls)
    tokens = [r.usage for r in calls.generate("generator", requests(5), "x")]
    assert first["generator"] == [5, sum(u.prompt_tokens for u in tokens), sum(u.completion_tokens for u in tokens)]
    assert first["judge"][0] == 1
    assert list(second) == ["generator"]
    assert second["generator"][0] == 4
    assert calls.spending.calls == 6 - recorded


def test_hits_are_replays_each_once_per_part(tmp_path):
    use_two_parts(calls_to(tmp_path))
    again = calls_to(tmp_path)
    use_two_parts(again)
    assert (again.spending.calls, again.spending.hits) == (0, 6 + 4)


def test_without_parts_everything_is_one(tmp_path):
    calls = calls_to(tmp_path)
    calls.generate("generator", requests(5), "x")
    calls.generate("generator", requests(7), "x")
    assert calls.part_usage()["generator"][0] == 7


def test_failures_that_may_pass_are_no_replies_of_a_part(tmp_path):
    client = ScriptedClient()
    client.generate = lambda requests, keys, wanted, on_reply: on_reply(
        [(i, Failure("endpoint_error" if i else "empty")) for i in wanted]
    )
    calls = calls_to(tmp_path, client)
    calls.generate("generator", requests(3), "x")
    assert calls.part_usage() == {"generator": [1, 0, 0]}


@pytest.mark.thorough
def test_memory_does_not_grow_with_the_parts(tmp_path):
    calls = calls_to(tmp_path)
    sizes = []
    tracemalloc.start()
    try:
        for part in range(20):
            calls.begin_part()
            calls.generate("generator", requests(200, seed=part), "x")
            gc.collect()
            sizes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    # 200 keys alone are 10 kB a part.
    assert sizes[-1] - sizes[4] < 75_000


# Dry runs.


def test_a_dry_run_counts_but_calls_and_writes_nothing(tmp_path):
    client = CountingClient()
    calls_to(tmp_path, client).generate("generator", requests(4), "x")
    record = Record(tmp_path / "r.sqlite", read_only=True)
    calls = ModelCalls(SCRIPTED, record, dry_run=True, clients={"generator": client})
    calls.generate("generator", requests(10) + requests(8), "x")
    calls.begin_part()
    calls.generate("generator", requests(10), "x")
    assert (client.made, calls.spending.calls, calls.spending.hits) == (4, 6, 8)
    assert calls.spending.completion_tokens == 6 * REQUEST.sampling.max_tokens
    assert calls.part_usage()["generator"][0] == 10
    assert Record(tmp_path / "r.sqlite").count() == (4, 0)


# The scripted client and the count of tokens.


def test_scripted_replies_do_not_depend_on_what_else_is_asked(tmp_path):
    def texts(asked):
        said = {}
        ScriptedClient().generate(asked, [], set(range(len(asked))), lambda batch: said.update(batch))
        return [said[i].text for i in range(len(asked))]

    asked = requests(150)
    assert texts(asked) == texts(asked[::-1])[::-1]
    assert len(set(texts(asked))) == 150
    assert all(FILLER[0].islower() and text.startswith("I would think") for text in texts(asked))


@given(st.text() | st.text(st.characters(max_codepoint=127), max_size=200))
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_tokens_are_words_and_marks_times_1_2(text):
    assert approximate_tokens(text) == round(len(_WORD_OR_MARK.findall(text)) * 1.2)


def test_a_replayed_call_costs_little(tmp_path):
    """Far above what is measured (30 microseconds), so that a busy machine does not fail it; a template that is compiled anew for every
    call, or a request that is turned into JSON, takes more."""
    template = load_template("critique_paper")
    profile = "\n".join(f"attribute {i}: something of the person's" for i in range(80))

    def run():
        calls = calls_to(tmp_path)
        started = time.process_time()
        asked = [
            ChatRequest(
                template.render(profile=profile, question=f"What about {i}?", answer="I would think. " * 60),
                *(REQUEST.sampling, template.label, 1),
            )
            for i in range(1000)
        ]
        replies = calls.generate("generator", asked, "x")
        assert all(template.read(reply.text) for reply in replies)
        return (time.process_time() - started) / len(asked)

    run()
    assert run() < 300e-6
