"""What a dry run says of the calls to come, against what they then take."""

import dataclasses
import random

import pytest

from builder.llm.budget import Spending
from builder.llm.calls import ModelCalls
from builder.llm.estimate import ENOUGH, estimate
from builder.llm.messages import Answer, ChatRequest, Failure, Sampling, ScoreRequest, TokenScores, Usage
from builder.llm.record import Record
from builder.llm.scripted import FILLER, ScriptedClient
from builder.llm.templates import load_template
from builder.llm.tokens import approximate_tokens
from builder.pipeline import run_build
from builder.randomness import rng_for
from builder.recipe import ModelRecipe, ModelsRecipe
from tests.builder.conftest import scripted_recipe
from tests.openai_server import completion, openai_server, reply_in_form

ROLES = ("generator", "critic", "reviser", "judge")
SAMPLING = Sampling(max_tokens=600, temperature=0.8)


def models(**settings):
    priced = ModelRecipe(
        provider="scripted",
        cost_per_million_prompt_tokens=1.0,
        cost_per_million_completion_tokens=4.0,
        max_concurrency=8,
    )
    return ModelsRecipe(**{f.name: dataclasses.replace(priced, **settings) for f in dataclasses.fields(ModelsRecipe)})


class Model(ScriptedClient):
    """Replies of varying length whose tokens are not counted as ours are; one in twelve cannot be read and one in fifteen is cut."""

    def generate(self, requests, keys, wanted, on_reply):
        for i in sorted(wanted):
            request = requests[i]
            drawn = rng_for(1, "reply", keys[i])
            template = load_template(request.template.split("@")[0])

            def words(mean, drawn=drawn):
                return " ".join(drawn.choice(FILLER, size=max(3, int(drawn.gamma(4, mean / 4)))))

            prompt = sum(approximate_tokens(m["content"]) for m in request.messages)
            if drawn.random() < 1 / 15:
                text, reply = words(150), Failure
            elif template.markers and drawn.random() < 1 / 12:
                text, reply = words(60), Answer
            else:
                means = {"EVALUATION:": 90, "SUGGESTIONS:": 40, "REVISED PREFERENCE:": 55, "REASON:": 20}
                said = [
                    f"{m} {drawn.choice(template.choices[m]) if m in template.choices else words(means[m])}"
                    for m in template.markers
                ]
                text, reply = "\n".join(said) or words(120), Answer
            usage = Usage(
                round(prompt * 0.87) + 11, round(approximate_tokens(text) * 1.31), seconds=0.5 + len(text) / 2000
            )
            on_reply([(i, Failure("truncated", "", text, usage) if reply is Failure else Answer(text, usage))])


def answered(calls, role, name, values, attempts=4):
    """The section that matters of each reply; None where the attempts run out."""
    template = load_template(name)
    texts = [None] * len(values)
    waiting = list(range(len(values)))
    for attempt in range(attempts):
        asked = [
            ChatRequest(template.render(**values[i]), SAMPLING, template.label, 1, attempt=attempt) for i in waiting
        ]
        again = []
        for i, reply in zip(waiting, calls.generate(role, asked, role), strict=True):
            sections = template.read(reply.text) if isinstance(reply, Answer) else None
            if sections is None:
                again.append(i)
            else:
                texts[i] = list(sections.values())[-1]
        waiting = again
    return texts


def work(calls, count, seed=3):
    """Answers, critiques, revisions and verdicts about `count` questions for some personas, each quoting what came before."""
    draw = random.Random(seed)
    items = [
        {
            "question": f"What about {' '.join(draw.choices(FILLER, k=draw.randint(4, 40)))}, number {n}?",
            "profile": "\n".join(f"{word}: {' '.join(draw.choices(FILLER, k=6))}" for word in draw.sample(FILLER, 25)),
        }
        for n in range(count)
    ]
    texts = answered(calls, "generator", "answer", [{"neutral_system_text": "n", **item} for item in items])
    items = [{**item, "answer": text} for item, text in zip(items, texts, strict=True) if text]
    texts = answered(calls, "critic", "critique_paper", items)
    items = [{**item, "critique": text} for item, text in zip(items, texts, strict=True) if text]
    texts = answered(calls, "reviser", "revision_paper", items)
    items = [
        {**item, "answer_a": text, "answer_b": item["answer"]} for item, text in zip(items, texts, strict=True) if text
    ]
    answered(calls, "judge", "judge_roleplay", items)


def dry(path, recipe, **clients):
    return ModelCalls(recipe, Record(path, read_only=True), dry_run=True, clients=clients)


def test_after_a_pilot_the_estimate_is_within_a_tenth_of_what_the_run_then_takes(tmp_path):
    clients = dict.fromkeys(ROLES, Model())
    pilot = ModelCalls(models(), Record(tmp_path / "r.sqlite"), clients=clients)
    work(pilot, 60)
    pilot.record.close()

    calls = dry(tmp_path / "r.sqlite", models(), **clients)
    work(calls, 560)
    told = estimate(calls)

    run = ModelCalls(models(), Record(tmp_path / "r.sqlite"), clients=clients)
    work(run, 560)
    took = run.spending
    assert took.calls > 2000
    assert told["calls"] == pytest.approx(took.calls, rel=0.1)
    assert told["prompt_tokens"] == pytest.approx(took.prompt_tokens, rel=0.1)
    assert told["completion_tokens"] == pytest.approx(took.completion_tokens, rel=0.1)
    assert told["cost_usd"] == pytest.approx(took.cost_usd, rel=0.1)
    # What the replies lasted, eight at a time, without those of the pilot.
    seconds = "SELECT SUM(seconds) FROM (SELECT seconds FROM answers UNION ALL SELECT seconds FROM failed_attempts)"
    all_seconds, pilot_replies = run.record.read(seconds).fetchone()[0], sum(pilot_usage(pilot))
    lasted = all_seconds * took.calls / (took.calls + pilot_replies) / 8
    assert told["seconds"] == pytest.approx(lasted, rel=0.1)
    assert set(told["basis"]) == {
        load_template(n).label for n in ("answer", "critique_paper", "revision_paper", "judge_roleplay")
    }
    assert all(number >= 55 for number in told["basis"].values())


def pilot_usage(calls):
    return [numbers[0] for numbers in calls.part_usage().values()]


def test_against_a_server_the_estimate_follows_its_count_of_tokens_and_its_pace(tmp_path):
    def answer(body, number):
        text = reply_in_form(body) + " and so on" * (number % 7)
        status, reply, headers = completion(text)
        prompt = sum(len(m["content"]) for m in body["messages"])
        counted = {"prompt_tokens": prompt // 5, "completion_tokens": len(text) // 4, "total_tokens": 0}
        return status, {**reply, "usage": counted}, headers

    with openai_server() as endpoint:
        endpoint.answer = answer
        recipe = models(provider="openai", model="test-model", base_url=endpoint.base_url)
        pilot = ModelCalls(recipe, Record(tmp_path / "r.sqlite"))
        work(pilot, 24)
        pilot.record.close()
        calls = dry(tmp_path / "r.sqlite", recipe)
        work(calls, 50)
        made = len(endpoint.requests)
        told = estimate(calls)
        run = ModelCalls(recipe, Record(tmp_path / "r.sqlite"))
        work(run, 50)
        assert len(endpoint.requests) - made == run.spending.calls
    assert told["seconds"] > 0
    assert told["calls"] == pytest.approx(run.spending.calls, rel=0.1)
    assert told["prompt_tokens"] == pytest.approx(run.spending.prompt_tokens, rel=0.1)
    assert told["completion_tokens"] == pytest.approx(run.spending.completion_tokens, rel=0.1)


def test_without_recorded_replies_it_is_an_upper_bound_and_says_so(tmp_path):
    clients = dict.fromkeys(ROLES, Model())
    calls = dry(tmp_path / "r.sqlite", models(), **clients)
    work(calls, 30)
    told = estimate(calls)
    assert told["calls"] == 4 * 30 == calls.spending.calls
    assert told["completion_tokens"] == 4 * 30 * SAMPLING.max_tokens
    assert told["seconds"] is None
    assert told["pilot_helps"] is True
    assert set(told["basis"].values()) == {"max_tokens"}
    run = ModelCalls(models(), Record(tmp_path / "r.sqlite"), clients=clients)
    work(run, 30)
    assert told["prompt_tokens"] > run.spending.prompt_tokens * 30 * 4 / run.spending.calls


@pytest.mark.parametrize("recorded", [ENOUGH - 1, ENOUGH])
def test_a_mean_is_taken_from_enough_replies_only(tmp_path, recorded):
    record = Record(tmp_path / "r.sqlite")
    request = ChatRequest(({"role": "user", "content": "u" * 100},), SAMPLING, "answer@1", 1)
    reply = Answer("a reply " * 10, Usage(50, 20))
    record.add((f"{n:032x}", request, reply, {"role": "generator"}) for n in range(recorded))
    record.close()
    calls = dry(tmp_path / "r.sqlite", models())
    calls.generate("generator", [dataclasses.replace(request, sample_index=n) for n in range(7)], "x")
    told = estimate(calls)
    known = recorded == ENOUGH
    assert told["pilot_helps"] is False, "what a pilot asks for was asked for"
    assert told["basis"] == {"answer@1": ENOUGH if known else "max_tokens"}
    assert told["completion_tokens"] == 7 * (20 if known else SAMPLING.max_tokens)
    assert told["seconds"] is None, "no call was timed"
    if known:
        assert told["prompt_tokens"] == 7 * 50


def test_another_template_or_role_says_nothing(tmp_path):
    record = Record(tmp_path / "r.sqlite")
    request = ChatRequest(({"role": "user", "content": "u"},), SAMPLING, "answer@1", 1)
    record.add((f"{n:032x}", request, Answer("a", Usage(1, 1, 3.0)), {"role": "critic"}) for n in range(50))
    record.close()
    calls = dry(tmp_path / "r.sqlite", models())
    calls.generate("generator", [request], "x")
    calls.generate("critic", [dataclasses.replace(request, seed=2, template="answer@2")], "x")
    assert estimate(calls)["completion_tokens"] == 2 * SAMPLING.max_tokens


def test_scores_are_estimated_by_the_characters_they_read(tmp_path):
    requests = [ScoreRequest(({"role": "user", "content": "word " * 50},), f"reply {n}", "s@1") for n in range(60)]
    client = ScriptedClient()
    client.score = lambda asked, wanted, on_reply: on_reply([(i, TokenScores((-1.0,), Usage(99))) for i in wanted])
    first = ModelCalls(models(), Record(tmp_path / "r.sqlite"), clients={"judge": client})
    first.score("judge", requests[:25], "x")
    first.record.close()
    calls = dry(tmp_path / "r.sqlite", models(), judge=client)
    calls.score("judge", requests, "x")
    told = estimate(calls)
    assert (told["calls"], told["completion_tokens"]) == (35, 0)
    assert told["prompt_tokens"] == pytest.approx(35 * 99, rel=0.01)


def test_nothing_missing_costs_nothing(tmp_path):
    clients = dict.fromkeys(ROLES, Model())
    work(ModelCalls(models(), Record(tmp_path / "r.sqlite"), clients=clients), 25)
    calls = dry(tmp_path / "r.sqlite", models(), **clients)
    work(calls, 25)
    assert estimate(calls) == {
        **dict.fromkeys(("calls", "prompt_tokens", "completion_tokens"), 0),
        **{"cost_usd": 0.0, "seconds": 0.0, "basis": {}, "pilot_helps": False},
    }
    assert calls.spending == Spending(hits=calls.spending.hits)


def test_stand_ins_depend_on_their_request_alone_and_differ(tmp_path):
    clients = dict.fromkeys(ROLES, Model())
    work(ModelCalls(models(), Record(tmp_path / "r.sqlite"), clients=clients), 40)
    template = load_template("critique_paper")
    values = {"profile": "p", "answer": "a"}
    requests = [
        ChatRequest(template.render(question=f"q{n}", **values), SAMPLING, template.label, 1) for n in range(300)
    ]
    first = dry(tmp_path / "r.sqlite", models()).generate("critic", requests, "x")
    assert dry(tmp_path / "r.sqlite", models()).generate("critic", requests[::-1], "x") == first[::-1]
    assert len({reply.text for reply in first}) == 300, "equal stand-ins would make equal requests of what quotes them"
    assert all(template.read(reply.text) for reply in first)
    assert len({len(reply.text) for reply in first}) > 20


def test_the_sections_of_stand_ins_are_as_long_as_recorded_ones(tmp_path):
    work(ModelCalls(models(), Record(tmp_path / "r.sqlite"), clients=dict.fromkeys(ROLES, Model())), 60)
    template = load_template("critique_paper")
    recorded = Record(tmp_path / "r.sqlite").read(
        "SELECT reply FROM answers JOIN origins ON origins.id = origin WHERE role = 'critic'"
    )
    asked = [ChatRequest(({"role": "user", "content": f"{n}"},), SAMPLING, template.label, 1) for n in range(600)]
    stand_ins = dry(tmp_path / "r.sqlite", models()).generate("critic", asked, "x")

    def lengths(texts):
        read = [sections for text in texts if (sections := template.read(text))]
        return [sum(len(sections[name]) for sections in read) / len(read) for name in ("evaluation", "suggestions")]

    assert lengths(reply.text for reply in stand_ins) == pytest.approx(lengths(row[0] for row in recorded), rel=0.1)


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize(
    "name", ["enrich_persona", "check_persona", "classify_controversy", "judge_roleplay", "revision_paper"]
)
def test_stand_ins_have_the_form_of_every_template(tmp_path, name, known):
    template = load_template(name)
    client = ScriptedClient()
    requests = [ChatRequest(({"role": "user", "content": f"u{n}"},), SAMPLING, template.label, 1) for n in range(60)]
    if known:
        record = ModelCalls(models(), Record(tmp_path / "r.sqlite"), clients={"judge": client})
        record.generate("judge", requests[:30], "x")
    for reply in dry(tmp_path / "r.sqlite", models()).generate("judge", requests, "x"):
        sections = template.read(reply.text)
        assert sections is not None
        if name == "enrich_persona":
            assert all(len(phrase) <= 240 and "\n" not in phrase for phrase in sections.values())
        if name == "check_persona":
            assert (sections["attributes"] == "none") == (sections["verdict"] == "consistent")


def test_a_pilot_of_the_smallest_build_makes_its_estimate_no_upper_bound(tmp_path):
    """The demo has 16 questions, so no pilot gives more base answers than that."""
    recipe = scripted_recipe()
    run_build(recipe, tmp_path / "b", pilot=50)
    told = run_build(recipe, tmp_path / "b", dry_run=True).build["estimate"]
    assert told["calls"] > 0
    assert "max_tokens" not in told["basis"].values()
    assert told["pilot_helps"] is False
