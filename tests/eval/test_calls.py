"""What every evaluation does with the calls of its models: open ones are no result, replies of no use are drawn again, each result pays its
own, and a result falls with its judge's template.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from builder.errors import InputError
from builder.judge.judge_file import load_judge
from builder.llm.calls import ModelCalls
from builder.llm.drawing import draw_until_readable
from builder.llm.messages import ChatRequest, Failure, Sampling
from builder.llm.record import Record
from builder.llm.scripted import ScriptedClient
from builder.llm.transformers_client import TransformersClient
from eval import judging
from eval.attributes.run import run_attributes
from eval.bench.run import run_bench
from eval.calibration.calibrate import calibrate
from eval.calls import part_usage
from eval.elicitation.run import run_elicitation
from eval.generations import evaluate_generations
from eval.judging import EvaluationJudge, judge_identity
from eval.language_models import model_recipe
from eval.results import load_results
from eval.side_effects.run import run_side_effects
from tests.eval.conftest import Trained
from tests.eval.test_elicitation import DECIDING
from tests.eval.test_elicitation import planted as planted_world
from tests.eval.test_side_effects import with_lines
from tests.openai_server import Response, completion, openai_server
from tests.published_folder import write_published_folder


def answer(body: dict[str, Any], number: int = 0) -> Response:
    """In the form of whatever template asks."""
    asked = body["messages"][-1]["content"]
    forms = {"NEEDS REVISION:": "PERSON: x\nHELPFULNESS: y\nNEEDS REVISION: no", "AGREE:": "AGREE: yes"}
    forms |= {"<answer_a>": "REASON: x\nVERDICT: A", "ANSWER:": f"ANSWER: {asked.rpartition('- ')[2].splitlines()[0]}"}
    return completion(next((text for mark, text in forms.items() if mark in asked), "It depends on the day."))


def broken(body: dict[str, Any], number: int) -> Response:
    return (400, {"error": {"message": "not today"}}, {}) if number % 3 == 0 else answer(body)


def calibrated(address: str, published: Path, trained: Trained, folder: Path) -> str:
    return calibrate([f"roleplay=test-model@{address}"], None, folder / "out", repeats=1, limit=21)


def generated(address: str, published: Path, trained: Trained, folder: Path) -> str:
    judges = [f"roleplay=test-model@{address}"]
    return evaluate_generations(
        published, trained.models[1:], judges, folder / "out", limit=6, best_of=2, base_model=str(trained.base)
    )


def with_side_effects(address: str, published: Path, trained: Trained, folder: Path) -> str:
    dataset = folder / "data"
    if not dataset.exists():
        write_published_folder(dataset, seen=6, unseen=2, change=with_lines)
    return run_side_effects(dataset, [f"test-model@{address}"], folder / "out", limit=4)


def elicited(address: str, published: Path, trained: Trained, folder: Path) -> str:
    dataset = folder / "data"
    if not dataset.exists():
        planted_world(dataset)
    options = {"learners": ["profile"], "orders": ["fixed"], "scorer": f"roleplay=test-model@{address}", "limit": 2}
    return run_elicitation(dataset, "scripted", folder / "out", **options)


def benched(address: str, published: Path, trained: Trained, folder: Path) -> str:
    judges = [f"critique=test-model@{address}"]
    return run_bench(published, ["scripted"], judges, folder / "out", modes=["output_only"], limit=6)


@pytest.mark.parametrize("evaluate", [calibrated, generated, with_side_effects, elicited, benched])
def test_what_an_endpoint_left_open_is_no_result_and_the_same_command_fills_it(
    evaluate: Callable[..., str], published: Path, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(client: TransformersClient, *given: Any) -> None:
        ScriptedClient(client.identity["model"]).generate(*given)

    monkeypatch.setattr(TransformersClient, "generate", write)
    with openai_server(answer=broken) as endpoint:
        with pytest.raises(InputError, match=r"\d+ calls were left open .* Run the same command again to fill them"):
            evaluate(endpoint.base_url, published, trained, tmp_path)
        assert all(path.name.startswith("responses.sqlite") for path in (tmp_path / "out").iterdir())
        answered = len(endpoint.requests) - len(endpoint.requests) // 3
        endpoint.requests.clear()
        endpoint.answer = answer
        evaluate(endpoint.base_url, published, trained, tmp_path)
    (result,) = load_results(tmp_path / "out")
    assert not any("endpoint_error" in reason for reason in result.rows["unscored"])
    assert len(endpoint.requests) < answered  # what was answered is replayed


def test_the_next_model_is_asked_after_one_that_was_left_open(published: Path, tmp_path: Path) -> None:
    """A finished result stays, whatever happens to the next one."""
    with openai_server(models=["good", "bad"]) as endpoint:
        endpoint.answer = lambda body, number: broken(body, number) if body["model"] == "bad" else answer(body)
        judges = [f"roleplay={name}@{endpoint.base_url}" for name in ("good", "bad")]
        with pytest.raises(InputError, match="left open"):
            calibrate(judges, None, tmp_path, repeats=1, limit=21)
    assert [result.name for result in load_results(tmp_path)] == ["calibration-roleplay-good"]


def test_each_result_says_what_its_own_replies_took(tmp_path: Path) -> None:
    judges = ["roleplay=scripted", "likelihood=scripted"]
    calibrate(judges, None, tmp_path / "both", repeats=1, limit=21)
    both = load_results(tmp_path / "both")
    for judge, name in zip(judges, ("roleplay", "likelihood"), strict=True):
        calibrate([judge], None, tmp_path / name, repeats=1, limit=21)
        (alone,) = load_results(tmp_path / name)
        (same,) = [result for result in both if result.name == alone.name]
        assert same.provenance["usage"] == alone.provenance["usage"]
        assert same.provenance["usage"]["responses"] > 0


def another_template(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after an edit of a template file: every label that a judge's template has is another one."""
    load = judging.load_template
    monkeypatch.setattr(judging, "load_template", lambda name: replace(load(name), version="edited"))


def attributed(dataset: Path, out: Path) -> str:
    return run_attributes(
        dataset,
        ["roleplay=scripted"],
        "scripted",
        out,
        designs=["swap"],
        personas=4,
        questions=2,
        attributes=[DECIDING],
    )


def elicited_by_script(dataset: Path, out: Path) -> str:
    options = {"learners": ["profile"], "orders": ["fixed"], "scorer": "roleplay=scripted", "limit": 2}
    return run_elicitation(dataset, "scripted", out, **options)


@pytest.mark.parametrize("evaluate", [attributed, elicited_by_script])
def test_an_edited_template_of_a_judge_makes_another_result(
    evaluate: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = planted_world(tmp_path / "data")
    evaluate(dataset, tmp_path / "out")
    evaluate(dataset, tmp_path / "out")  # finished, and nothing is asked
    another_template(monkeypatch)
    with pytest.raises(InputError, match=r"computed from something else \(differing: judge\)"):
        evaluate(dataset, tmp_path / "out")


def test_generations_fall_with_their_judges_template_too(
    published: Path, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(client: TransformersClient, *given: Any) -> None:
        ScriptedClient(client.identity["model"]).generate(*given)

    def evaluate() -> str:
        options = {"limit": 6, "best_of": 2, "base_model": str(trained.base)}
        return evaluate_generations(published, trained.models[1:], ["roleplay=scripted"], tmp_path / "out", **options)

    monkeypatch.setattr(TransformersClient, "generate", write)
    evaluate()
    another_template(monkeypatch)
    with pytest.raises(InputError, match=r"differing: judges\)"):
        evaluate()


def test_the_identity_of_a_judge_is_its_file_its_template_and_its_model(tmp_path: Path) -> None:
    recipe = model_recipe("scripted")
    judge = EvaluationJudge(load_judge("roleplay", recipe, 0, role="judge1"), recipe)
    calls = ModelCalls({"judge1": recipe}, Record(tmp_path / "responses.sqlite"))
    label, template, model = judge_identity(judge, calls)
    assert label == judge.judge.label
    assert template.startswith("judge_roleplay@")
    assert model == calls.client("judge1").identity


REQUESTS = [ChatRequest(({"role": "user", "content": text},), Sampling(10), "answer", 0) for text in "abcd"]


def drawn_from(folder: Path, reply: Callable[[ChatRequest], str], retries: int, final: tuple[str, ...] = ()) -> Any:
    """(what was drawn, the attempts of each text)"""
    attempts: dict[str, list[int]] = {}

    def say(request: ChatRequest) -> str:
        attempts.setdefault(request.messages[0]["content"], []).append(request.attempt)
        return reply(request)

    recipe = model_recipe("scripted")
    calls = ModelCalls({"role": recipe}, Record(folder / "r.sqlite"), clients={"role": ScriptedClient(reply=say)})
    read = lambda place, text: text.upper() if text == "good" else None  # noqa: E731
    return draw_until_readable(calls, "role", REQUESTS, read, retries, "drawing", final), attempts


def test_what_cannot_be_read_is_drawn_again_and_nothing_else_is(tmp_path: Path) -> None:
    """a: at once; b: at the second attempt; c, d: never."""
    drawn, attempts = drawn_from(
        tmp_path,
        lambda request: "good" if request.attempt >= "abcd".index(request.messages[0]["content"]) ** 2 else "bad",
        retries=2,
    )
    assert [one.read for one in drawn] == ["GOOD", "GOOD", None, None]
    assert [one.failure for one in drawn] == ["", "", "unreadable", "unreadable"]
    assert [one.reply.text for one in drawn] == ["good", "good", "bad", "bad"]
    assert attempts == {"a": [0], "b": [0, 1], "c": [0, 1, 2], "d": [0, 1, 2]}


@pytest.mark.parametrize(
    ("reason", "final", "times"),
    [("refused", (), 3), ("refused", ("refused",), 1), ("too_long", (), 1), ("endpoint_error", (), 1)],
)
def test_a_failure_is_drawn_again_where_that_may_help(
    reason: str, final: tuple[str, ...], times: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def fail(self: ScriptedClient, requests: Any, keys: Any, wanted: Any, on_reply: Any) -> None:
        asked.extend(requests[place].attempt for place in sorted(wanted))
        on_reply([(place, Failure(reason)) for place in sorted(wanted)])

    monkeypatch.setattr(ScriptedClient, "generate", fail)
    drawn, _ = drawn_from(tmp_path, lambda request: "", retries=2, final=final)
    assert {one.failure for one in drawn} == {reason}
    assert asked == [attempt for attempt in range(times) for _ in REQUESTS]


def test_the_usage_of_a_part_is_that_of_its_replies_alone(tmp_path: Path) -> None:
    calls = ModelCalls({"role": model_recipe("scripted")}, Record(tmp_path / "r.sqlite"))
    calls.generate("role", REQUESTS[:3], "first")
    calls.begin_part()
    calls.generate("role", REQUESTS[2:], "second")
    assert part_usage(calls)["responses"] == 2
