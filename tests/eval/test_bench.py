"""PERSONA Bench end to end, on models whose behaviour is planted behind a real local endpoint, and on the scripted one."""

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from builder.errors import InputError
from builder.llm.budget import Budget
from eval.bench.run import rescored, run_bench
from eval.bench.section import section
from eval.judging import find_judges
from eval.results import load_results, read_result
from eval.tables import read_table, write_table
from eval.transcripts import TRANSCRIPT_COLUMNS
from tests.eval.conftest import Trained
from tests.openai_server import Endpoint, completion, openai_server
from tests.planted import KINDS, write_planted_folder

SCRIPTED = "critique_choice=scripted"
Reply = Callable[[str], str]


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_planted_folder(tmp_path_factory.mktemp("planted") / "data")


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with openai_server(models=["test-model", "critic"]) as server:
        yield server


def kind_in(text: str) -> str | None:
    return next((kind for kind in KINDS if kind in text), None)


def personal(persona: str) -> str:
    """Names what the persona likes; without a persona nothing."""
    kind = kind_in(persona)
    return f"I would ask for {kind}." if kind else "Everyone should work."


def blind(persona: str) -> str:
    return f"I would ask for {KINDS[0]}."


def contrary(persona: str) -> str:
    kind = kind_in(persona)
    return f"I would ask for {next(k for k in KINDS if k != kind)}." if kind else "Everyone should work."


def model_and_critic(writes: Reply) -> Callable[[dict[str, Any], int], Any]:
    """The critic passes an answer that names what the profile likes. Reasoning names everything, so a critic that saw it would pass all."""

    def reply(body: dict[str, Any], number: int) -> Any:
        system, asked = body["messages"][0]["content"], body["messages"][-1]["content"]
        if "NEEDS REVISION:" in asked:
            profile, answer = (asked.split(f"<{tag}>")[1].split(f"</{tag}>")[0] for tag in ("profile", "answer"))
            fits = kind_in(profile) is not None and kind_in(profile) in answer and "REASONING" not in answer
            return completion(f"PERSON: x\nHELPFULNESS: y\nNEEDS REVISION: {'no' if fits else 'yes'}")
        if "<answer_a>" in asked:
            profile, first = (asked.split(f"<{tag}>")[1].split(f"</{tag}>")[0] for tag in ("profile", "answer_a"))
            kind = kind_in(personal(profile)) if writes is not blind else KINDS[0]
            return completion(f"REASON: x\nVERDICT: {'tie' if kind is None else 'A' if kind in first else 'B'}")
        if "which parts of the description" in asked:
            return completion(f"They like {kind_in(system)}.")
        if "REASONING:" in asked:
            return completion(f"REASONING: {' '.join(KINDS)}\nANSWER: {writes(system)}")
        return completion(writes(system))

    return reply


def run(folder: Path, out: Path, endpoint: Endpoint, **more: Any) -> str:
    judges = [] if more.get("evaluation") == "comparison" else [f"critique=critic@{endpoint.base_url}"]
    models = more.pop("models", [f"test-model@{endpoint.base_url}"])
    return run_bench(folder, models, judges, out, **{"limit": 30, **more})


def passes(out: Path, mode: str, evaluation: str = "main", part: str = "pass") -> dict[str, float | None]:
    (result,) = [r for r in load_results(out) if r.settings["evaluation"] == evaluation]
    (content,) = result.content["judges"].values()
    return {name: estimate["value"] for name, estimate in content["modes"][mode][part].items()}


def test_a_model_that_answers_each_persona_passes_in_every_mode_and_fails_every_control(
    planted: Path, endpoint: Endpoint, tmp_path: Path
) -> None:
    endpoint.answer = model_and_critic(personal)
    printed = run(planted, tmp_path, endpoint)
    for mode in ("output_only", "chain_of_thought", "demographic_summary"):
        assert passes(tmp_path, mode) == {"true": 1.0, "none": 0.0, "wrong": 0.0, "gap": 1.0, "gain": 1.0}
        assert mode in printed
    asked = [body["messages"] for body in endpoint.requests]
    assert len([m for m in asked if "which parts of the description" in m[-1]["content"]]) > 0
    # The critic is shown the profile of the persona that asked, in the wrong condition too, and never the reasons.
    judged = [m[-1]["content"] for m in asked if "NEEDS REVISION:" in m[-1]["content"]]
    assert all(
        "<profile>" in text and "REASONING" not in text.split("<answer>")[1].split("</answer>")[0] for text in judged
    )
    rows = read_table(tmp_path / "bench-test-model-main-answers.parquet")
    assert len(rows) == 30 * 7
    assert {row["shown_persona_id"] for row in rows if row["condition"] == "none"} == {None}
    assert all(row["shown_persona_id"] != row["persona_id"] for row in rows if row["condition"] == "wrong")


def test_a_persona_blind_model_has_no_gap_and_a_contrary_one_a_negative_gap(
    planted: Path, endpoint: Endpoint, tmp_path: Path
) -> None:
    endpoint.answer = model_and_critic(blind)
    run(planted, tmp_path / "blind", endpoint, modes=["output_only"])
    found = passes(tmp_path / "blind", "output_only")
    assert found["gap"] == 0.0
    assert 0.2 < float(found["true"] or 0) < 0.8
    endpoint.answer = model_and_critic(contrary)
    run(planted, tmp_path / "contrary", endpoint, modes=["output_only"])
    assert passes(tmp_path / "contrary", "output_only")["gap"] == -1.0


def test_a_reply_without_its_marker_is_drawn_again_and_then_unscored(
    planted: Path, endpoint: Endpoint, tmp_path: Path
) -> None:
    good = model_and_critic(personal)
    seen: dict[str, int] = {}

    def sloppy(body: dict[str, Any], number: int) -> Any:
        asked = str(body["messages"])
        if "REASONING:" in body["messages"][-1]["content"]:
            seen[asked] = seen.get(asked, 0) + 1
            if "likes rules" in body["messages"][0]["content"]:
                return completion("I just answer.")
        return good(body, number)

    endpoint.answer = sloppy
    printed = run(planted, tmp_path, endpoint, modes=["chain_of_thought"])
    (result,) = load_results(tmp_path)
    unreadable = result.rows["unscored"]["answer unreadable"]
    assert unreadable > 5
    assert set(seen.values()) == {1, 3}
    found = passes(tmp_path, "chain_of_thought")
    assert found["true"] is None and found["gap"] is None  # noqa: PT018
    assert found["none"] == 0.0
    assert f"{unreadable} answer unreadable" in printed
    kept = read_table(tmp_path / "bench-test-model-main-answers.parquet")
    assert {row["text"] for row in kept if row["failure"]} == {"I just answer."}


def test_what_an_endpoint_left_open_is_filled_by_the_next_run(
    planted: Path, endpoint: Endpoint, tmp_path: Path
) -> None:
    good = model_and_critic(personal)

    def broken(body: dict[str, Any], number: int) -> Any:
        if "likes rules" in body["messages"][0]["content"]:
            return 400, {"error": {"message": "not today"}}, {}
        return good(body, number)

    endpoint.answer = broken
    with pytest.raises(InputError, match="left open"):
        run(planted, tmp_path, endpoint, modes=["output_only"])
    assert not list(tmp_path.glob("*.json"))
    endpoint.answer = good
    run(planted, tmp_path, endpoint, modes=["output_only"])
    assert passes(tmp_path, "output_only")["gap"] == 1.0


def test_every_sample_is_judged_by_itself(planted: Path, endpoint: Endpoint, tmp_path: Path) -> None:
    """One of four samples fits, so pass@1 is 1/4 and pass@4 is 1. Judging one sample four times would give the same for every k."""
    critic = model_and_critic(personal)
    drawn: dict[str, int] = {}

    def one_of_four(body: dict[str, Any], number: int) -> Any:
        if "NEEDS REVISION:" in body["messages"][-1]["content"]:
            return critic(body, number)
        key = str(body["messages"])
        with endpoint.lock:
            drawn[key] = drawn.get(key, 0) + 1
            place = drawn[key]
        text = personal(body["messages"][0]["content"]) if place % 4 == 0 else f"Answer {place}."
        return completion(f"REASONING: x\nANSWER: {text}" if "REASONING:" in key else text)

    endpoint.answer = one_of_four
    run(planted, tmp_path, endpoint, evaluation="pass_at_k", samples=4)
    (result,) = load_results(tmp_path)
    (content,) = result.content["judges"].values()
    curve = content["modes"]["chain_of_thought"]["k"]
    assert {k: own["true"]["value"] for k, own in curve.items()} == {"1": 0.25, "2": 0.5, "4": 1.0}
    assert {k: own["wrong"]["value"] for k, own in curve.items()} == {"1": 0.0, "2": 0.0, "4": 0.0}
    assert {k: own["none"]["value"] for k, own in curve.items()} == {"1": 0.0, "2": 0.0, "4": 0.0}
    judged = [
        m["messages"][-1]["content"] for m in endpoint.requests if "NEEDS REVISION:" in m["messages"][-1]["content"]
    ]
    assert sum("Answer 1." in text for text in judged) > 0
    assert sum("Answer 3." in text for text in judged) > 0
    assert all("What do you think about" in text for text in judged)


def test_comparison_is_all_own_none_half_and_wrong_nothing(planted: Path, endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.answer = model_and_critic(personal)
    run(planted, tmp_path / "personal", endpoint, evaluation="comparison", limit=40)
    (result,) = load_results(tmp_path / "personal")
    (content,) = result.content["judges"].values()
    assert {name: content["accuracy"][name]["value"] for name in ("true", "none", "wrong", "gap")} == {
        "true": 1.0,
        "none": 0.5,
        "wrong": 0.0,
        "gap": 1.0,
    }
    assert content["flips"]["true"]["value"] == 1.0
    assert content["sets"] == 20
    endpoint.answer = model_and_critic(blind)
    run(planted, tmp_path / "blind", endpoint, evaluation="comparison", limit=40)
    (result,) = load_results(tmp_path / "blind")
    (content,) = result.content["judges"].values()
    assert content["accuracy"]["true"]["value"] == content["accuracy"]["none"]["value"] == 0.5


def test_none_is_exactly_half_for_any_chooser(published: Path, tmp_path: Path) -> None:
    run_bench(published, ["scripted"], [], tmp_path, evaluation="comparison", limit=None)
    (result,) = load_results(tmp_path)
    (content,) = result.content["judges"].values()
    assert content["accuracy"]["none"]["value"] == 0.5
    assert content["accuracy"]["true"]["value"] != 0.5


def test_an_unscored_mirror_takes_its_pair_along(planted: Path, endpoint: Endpoint, tmp_path: Path) -> None:
    good = model_and_critic(personal)

    def half(body: dict[str, Any], number: int) -> Any:
        profile = body["messages"][-1]["content"].split("</profile>")[0]
        return completion("no idea") if "likes rules" in profile else good(body, number)

    endpoint.answer = half
    run(planted, tmp_path, endpoint, evaluation="comparison", limit=40)
    (result,) = load_results(tmp_path)
    (content,) = result.content["judges"].values()
    assert content["rows"]["true"] == {"scored": 0, "unscored": {"mirror unscored": 20, "unreadable": 20}}
    assert content["accuracy"]["true"]["value"] is None
    assert content["accuracy"]["none"]["value"] == 0.5


def test_results_are_kept_and_read_again_without_a_call(published: Path, tmp_path: Path) -> None:
    for evaluation, more in (
        ("main", {}),
        ("pass_at_k", {"samples": 3}),
        ("intersectionality", {}),
        ("comparison", {}),
    ):
        judges = [] if evaluation == "comparison" else [SCRIPTED, "critique=scripted"]
        run_bench(published, ["scripted"], judges, tmp_path, evaluation=evaluation, limit=24, **more)  # type: ignore[arg-type]
    before = {path.name: path.read_bytes() for path in tmp_path.glob("bench-*")}
    budget = Budget(0)
    printed = run_bench(published, ["scripted"], [SCRIPTED, "critique=scripted"], tmp_path, limit=24, budget=budget)
    assert "*scripted*" in printed
    assert max(map(len, printed.splitlines())) <= 110
    assert before == {path.name: path.read_bytes() for path in tmp_path.glob("bench-*")}
    words = [SCRIPTED, "critique=scripted", "roleplay_choice=scripted"]
    judges_by_label = {j.judge.label: j.judge for j in find_judges(words, ("critique", "pairwise"), 0)}
    for result in load_results(tmp_path):
        assert rescored(result, tmp_path, {f["label"]: judges_by_label[f["label"]] for f in result.judges}) == result


def test_rescoring_follows_the_kept_replies(published: Path, tmp_path: Path) -> None:
    run_bench(published, ["scripted"], ["critique=scripted"], tmp_path, modes=["output_only"], limit=24)
    (result,) = load_results(tmp_path)
    name = "bench-scripted-main-verdicts.parquet"
    rows = [{**row, "raw": row["raw"].rpartition(":")[0] + ": no"} for row in read_table(tmp_path / name)]
    write_table(tmp_path, name, rows, TRANSCRIPT_COLUMNS)
    (judge,) = find_judges(["critique=scripted"], ("critique",), 0)
    again = rescored(result, tmp_path, {judge.judge.label: judge.judge})
    (content,) = again.content["judges"].values()
    assert {c: content["modes"]["output_only"]["pass"][c]["value"] for c in ("true", "none", "wrong")} == {
        "true": 1.0,
        "none": 1.0,
        "wrong": 1.0,
    }


def test_an_interrupted_run_goes_on_and_ends_the_same(published: Path, tmp_path: Path) -> None:
    from builder.errors import BudgetStop

    whole, cut = tmp_path / "whole", tmp_path / "cut"
    run_bench(published, ["scripted"], [SCRIPTED], whole, modes=["output_only"], limit=20)
    with pytest.raises(BudgetStop):
        run_bench(published, ["scripted"], [SCRIPTED], cut, modes=["output_only"], limit=20, budget=Budget(50))
    assert not list(cut.glob("*.json"))
    run_bench(published, ["scripted"], [SCRIPTED], cut, modes=["output_only"], limit=20)
    name = "bench-scripted-main.json"
    assert (whole / name).read_bytes() == (cut / name).read_bytes()


def test_a_dry_run_counts_and_writes_nothing(published: Path, tmp_path: Path) -> None:
    printed = run_bench(published, ["scripted"], [SCRIPTED], tmp_path / "out", limit=10, dry_run=True)
    assert printed.startswith("Dry run")
    assert not (tmp_path / "out").exists()


def test_the_section_shows_every_figure_with_its_controls(published: Path, tmp_path: Path) -> None:
    for evaluation in ("main", "pass_at_k", "intersectionality", "comparison"):
        judges = [] if evaluation == "comparison" else [SCRIPTED]
        samples = 3 if evaluation == "pass_at_k" else None
        run_bench(published, ["scripted"], judges, tmp_path, evaluation=evaluation, limit=24, samples=samples)
    shown = section(load_results(tmp_path), tmp_path)
    assert shown.scripted
    assert [figure.number for figure in shown.figures] == ["10", "12", None]
    assert "wrong" in shown.figures[0].words and "baseline" in shown.figures[0].words  # noqa: PT018
    assert all(len(row) == len(table.header) for table in shown.tables for row in table.rows)
    assert shown.examples
    json.dumps([dataclasses.asdict(table) for table in shown.tables])


def test_a_result_says_where_it_comes_from(published: Path, tmp_path: Path) -> None:
    run_bench(published, ["scripted"], [SCRIPTED], tmp_path, limit=20, command="persona eval bench")
    result = read_result(tmp_path / "bench-scripted-main.json")
    assert result.judges[0]["scripted"]
    assert result.judges[0]["also"] == ["wrote the answers"]
    assert {label.split("@")[0] for label in result.provenance["templates"]} == {
        "bench_answer_plain",
        "bench_reasoning_plain",
        "bench_summary",
    }
    assert sum((result.dataset or {})["rows"].values()) == 20
    with pytest.raises(InputError, match="computed from something else"):
        run_bench(published, ["scripted"], [SCRIPTED], tmp_path, limit=21)


@pytest.mark.thorough
def test_a_trained_adapter_is_evaluated(trained: Trained, published: Path, tmp_path: Path) -> None:
    run_bench(
        published,
        [str(trained.models[0])],
        [f"critique_choice={trained.base}"],
        tmp_path,
        modes=["output_only"],
        limit=2,
        base_model=str(trained.base),
    )
    (result,) = load_results(tmp_path)
    assert (result.subject or {})["kind"] == "DPO model"
    assert result.judges[0]["also"] == ["wrote the answers"]
    assert result.rows["scored"] + sum(result.rows["unscored"].values()) == 6


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"evaluation": "loo"}, "choose one of main"),
        ({"modes": ["cot"]}, "choose among baseline"),
        ({"where": ["sex=Female"]}, "intersectionality"),
        ({"samples": 4}, "pass_at_k"),
        ({"evaluation": "pass_at_k", "samples": 0}, "at least 1"),
        ({"evaluation": "pass_at_k", "temperature": 0.0}, "above 0"),
        ({"temperature": -1.0}, "from 0 on"),
        ({"temperature": float("nan")}, "from 0 on"),
        ({"limit": 0}, "at least 1"),
        ({"form": "json"}, "choose auto"),
        ({"evaluation": "intersectionality", "modes": ["baseline"]}, "Add another mode"),
        ({"evaluation": "intersectionality", "where": ["sex=Female"]}, "no profile here"),
        ({"evaluation": "comparison"}, "does not go with"),
        ({"evaluation": "comparison", "judges": [], "modes": ["baseline"]}, "does not go with"),
        ({"evaluation": "comparison", "judges": [], "limit": 1}, "need 2"),
        ({"judges": ["likelihood"]}, "critique is needed"),
        ({"models": ["scripted", "scripted"]}, "Two models"),
    ],
)
def test_options_that_cannot_be_used_are_refused_before_any_call(
    published: Path, tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    arguments = {"models": ["scripted"], "judges": [SCRIPTED], **options}
    with pytest.raises(InputError, match=said):
        run_bench(published, arguments.pop("models"), arguments.pop("judges"), tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()
