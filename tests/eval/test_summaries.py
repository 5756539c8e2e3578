import json
from pathlib import Path
from typing import Any

import pytest

from builder.errors import InputError
from builder.llm.messages import ChatRequest
from builder.llm.scripted import ScriptedClient
from eval.results import load_results
from eval.summaries.run import rescored, run_summaries
from eval.summaries.section import section
from tests.published_folder import Tables, write_published_folder

HOMES = ("Ohio", "Texas", "Maine", "Utah", "Iowa", "Guam")
FAITHS = ("Catholic", "Buddhist", "Jewish", "Hindu")
QUIRKS = ("Whistles while walking home", "Collects odd spoons", "Naps after every lunch")


def profile_of(number: int) -> str:
    lines = [
        "About the person asking:",
        f"Age: {30 + number}",
        f"Religion: {FAITHS[number % 4]}",
        f"Place of birth: {HOMES[number % 6]}",
        f"Defining quirks: {QUIRKS[number % 3]}",
    ]
    return "\n".join([*lines, *(["Veteran status: Veteran"] if number % 2 else [])])


def with_lines(tables: Tables) -> None:
    """Profiles of lines, as real ones are."""
    for number, row in enumerate(tables["personas"]["train"]):
        row["profile"] = profile_of(number)


@pytest.fixture(scope="module")
def stated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_published_folder(tmp_path_factory.mktemp("lines") / "data", seen=12, unseen=4, change=with_lines)


def answer_with(monkeypatch: pytest.MonkeyPatch, reply: Any) -> list[ChatRequest]:
    """Every scripted model replies so; the requests that it got."""
    seen: list[ChatRequest] = []

    def say(request: ChatRequest) -> str:
        seen.append(request)
        text: str = reply(request)
        return text

    plain = ScriptedClient.__init__
    monkeypatch.setattr(ScriptedClient, "__init__", lambda self, model="scripted", _=None: plain(self, model, say))
    return seen


def test_a_model_that_drops_one_attribute_is_found_out(
    stated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_home(request: ChatRequest) -> str:
        lines = request.messages[0]["content"].splitlines()[1:]
        return ", ".join(line.partition(": ")[2] for line in lines if not line.startswith("Place of birth"))

    answer_with(monkeypatch, without_home)
    said = run_summaries(stated, ["scripted"], tmp_path, limit=None, command="test")
    (result,) = load_results(tmp_path, "summaries")
    removed = {name: block["removed"]["value"] for name, block in result.content["attributes"].items()}
    assert removed == {
        "age": 0.0,
        "religion": 0.0,
        "place_of_birth": 1.0,
        "defining_quirks": 0.0,
        "veteran_status": 0.0,
    }
    for block in result.content["attributes"].values():
        assert block["whole_profile"]["value"] == 0.0  # the null: nothing is left out of the profile itself
    # Another persona's summary does not hold what is this one's own.
    assert result.content["attributes"]["age"]["removed_wrong"]["value"] > 0.6
    assert result.content["attributes"]["age"]["difference"]["value"] > 0.6
    # Only personas that have the attribute count.
    assert result.content["attributes"]["veteran_status"]["removed"]["n"] < result.content["summaries"]
    assert result.content["nothing_removed"] == 0
    assert max(map(len, said.splitlines())) <= 110
    assert rescored(result, tmp_path, {}).content == result.content
    made = section([result], tmp_path)
    assert [figure.number for figure in made.figures] == ["11"]
    assert made.scripted
    assert made.tables[0].rows[0][0] == "Place of birth"  # the most removed first


def test_differences_that_a_model_lists_are_matched_on_values(
    stated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reply(request: ChatRequest) -> str:
        if request.template.startswith("bench_summary"):
            return "Someone."
        faith = next(line for line in request.messages[1]["content"].splitlines() if line.startswith("Religion"))
        return "none" if "Jewish" in faith else f"The age and the home are left out. {faith}"

    answer_with(monkeypatch, reply)
    run_summaries(stated, ["scripted"], tmp_path, differ="scripted", limit=None)
    (result,) = load_results(tmp_path)
    attributes = result.content["attributes"]
    assert attributes["religion"]["listed"]["value"] == pytest.approx(0.75, abs=0.01)
    # The key `age` stands in every list, its value in none.
    assert attributes["age"]["listed"]["value"] == 0.0
    assert result.content["differ"]["judged_equivalent"] == result.content["summaries"] // 4
    assert "listed as without any difference" in run_summaries(
        stated, ["scripted"], tmp_path, differ="scripted", limit=None
    )


def test_an_attribute_of_which_nothing_is_stated_is_not_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def with_nulls(tables: Tables) -> None:
        with_lines(tables)
        for number, row in enumerate(tables["personas"]["train"]):
            row["profile"] += f"\nFertility: None\nRace: {'Not known' if number % 2 else 'White'}"

    data = write_published_folder(tmp_path / "data", seen=12, unseen=4, change=with_nulls)
    answer_with(monkeypatch, lambda request: "Someone who tells a white lie.")
    run_summaries(data, ["scripted"], tmp_path / "out", limit=None)
    (result,) = load_results(tmp_path / "out")
    assert "fertility" not in result.content["attributes"]
    race = result.content["attributes"]["race"]["removed"]
    assert race["n"] < result.content["summaries"]
    assert race["value"] in (None, 1.0)


def test_empty_summaries_are_unscored_and_too_many_withhold_the_figures(
    stated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer_with(monkeypatch, lambda request: " ")
    said = run_summaries(stated, ["scripted"], tmp_path, limit=20)
    (result,) = load_results(tmp_path)
    assert result.rows["scored"] == 0
    assert sum(result.rows["unscored"].values()) == 40
    assert "withheld" in said
    assert result.content["attributes"] == {}
    assert section([result], tmp_path).tables == []


def test_bad_input_and_dry_runs(stated: Path, published: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="names no model"):
        run_summaries(stated, ["nothing"], tmp_path)
    with pytest.raises(InputError, match="Two models have the same name"):
        run_summaries(stated, ["scripted", "scripted"], tmp_path / "twice")
    assert not (tmp_path / "twice").exists()  # before the first is paid for
    with pytest.raises(InputError, match="Label: value"):
        run_summaries(published, ["scripted"], tmp_path)
    assert run_summaries(stated, ["scripted"], tmp_path / "dry", dry_run=True).startswith("Dry run")
    assert not (tmp_path / "dry").exists()


def test_a_finished_result_is_kept_and_is_the_same_again(stated: Path, tmp_path: Path) -> None:
    said = [run_summaries(stated, ["scripted"], tmp_path / name, limit=30) for name in ("a", "b", "a")]
    assert said[0] == said[1] == said[2]
    results = [json.loads((tmp_path / name / "summaries-scripted.json").read_text()) for name in ("a", "b")]
    assert results[0]["content"] == results[1]["content"]
