"""Kept replies read again with today's judges: the same figures without a change, other ones with it, and never a call."""

import json
from pathlib import Path
from typing import Any

import pytest

from builder.errors import InputError
from builder.llm.calls import ModelCalls
from eval.calibration.calibrate import calibrate
from eval.rescore import rescore_results
from eval.results import load_results

LIKELIHOOD = "kind: likelihood\ntemperature: {}\n"
ROLEPLAY = "kind: pairwise\ntemplate: judge_roleplay\nparser: {}\n"


@pytest.fixture
def no_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a model was about to be called")

    monkeypatch.setattr(ModelCalls, "__init__", refuse)


@pytest.fixture
def judged(tmp_path: Path) -> tuple[Path, Path]:
    """A folder with one calibration by a judge file of one's own, and that file."""
    judge = tmp_path / "mine.yaml"
    judge.write_text(LIKELIHOOD.format(0.1), encoding="utf-8")
    calibrate([f"{judge}=scripted"], None, tmp_path / "results", repeats=1, limit=30, seed=0)
    return tmp_path / "results", judge


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith("responses")}


def test_the_same_judge_changes_nothing(judged: tuple[Path, Path], no_calls: None) -> None:
    folder, judge = judged
    before = contents(folder)
    said = rescore_results(folder, [str(judge)])
    assert said == "1 of 1 results have judges' replies to read again; nothing changed."
    assert contents(folder) == before


def test_another_temperature_changes_probabilities_and_no_verdict(judged: tuple[Path, Path], no_calls: None) -> None:
    folder, judge = judged
    (before,) = load_results(folder)
    first = contents(folder)
    judge.write_text(LIKELIHOOD.format(5.0), encoding="utf-8")
    said = rescore_results(folder, [str(judge)])
    (after,) = load_results(folder)
    assert "reliability" in said
    assert said.endswith("1 of 1 results have judges' replies to read again; 1 changed.")
    assert after.content["reliability"] != before.content["reliability"]
    assert after.content["accuracy"] == before.content["accuracy"]
    assert after.rows == before.rows
    assert after.judges[0]["version"] != before.judges[0]["version"]
    assert after.judges[0]["kept_as"] == before.judges[0]["label"]
    # Once more: the replies lie under the first label and are found; back again: the first result to the letter.
    assert rescore_results(folder, [str(judge)]).endswith("nothing changed.")
    judge.write_text(LIKELIHOOD.format(0.1), encoding="utf-8")
    rescore_results(folder, [str(judge)])
    assert contents(folder) == first


def test_a_parser_that_reads_nothing_leaves_everything_unscored(tmp_path: Path) -> None:
    judge = tmp_path / "mine.yaml"
    judge.write_text(ROLEPLAY.format("markers"), encoding="utf-8")
    calibrate([f"{judge}=scripted"], None, tmp_path / "results", repeats=1, limit=30, seed=0)
    judge.write_text(ROLEPLAY.format("verdict_tokens"), encoding="utf-8")
    said = rescore_results(tmp_path / "results", [str(judge)])
    (result,) = load_results(tmp_path / "results")
    assert "rows scored -> 0 rows scored, unscored: " in said
    assert result.rows["scored"] == 0
    assert result.content["withheld"]


def test_contradictions_are_named_and_nothing_is_written(
    judged: tuple[Path, Path], tmp_path: Path, no_calls: None
) -> None:
    folder, judge = judged
    before = contents(folder)
    with pytest.raises(InputError, match="holds no evaluation result"):
        rescore_results(tmp_path / "nowhere", [])
    with pytest.raises(InputError, match="judged by mine, which is not packaged"):
        rescore_results(folder, [])
    with pytest.raises(InputError, match=r"absent\.yaml is no judge file"):
        rescore_results(folder, ["absent.yaml"])
    other = tmp_path / "other.yaml"
    other.write_text(LIKELIHOOD.format(1.0), encoding="utf-8")
    with pytest.raises(InputError, match="was judged by other; judges of these results: mine"):
        rescore_results(folder, [str(judge), str(other)])
    judge.write_text(ROLEPLAY.format("markers"), encoding="utf-8")
    with pytest.raises(InputError, match="now describes a pairwise judge"):
        rescore_results(folder, [str(judge)])
    judge.write_text(LIKELIHOOD.format(0.1), encoding="utf-8")
    assert contents(folder) == before
    (result,) = load_results(folder)
    (folder / next(iter(result.files))).write_bytes(b"something else")
    with pytest.raises(InputError, match="not the file that"):
        rescore_results(folder, [str(judge)])


def test_a_result_without_judges_is_left_alone(judged: tuple[Path, Path], no_calls: None) -> None:
    folder, judge = judged
    (path,) = folder.glob("*.json")
    raw = json.loads(path.read_text(encoding="utf-8"))
    plain = raw | {"name": "elicitation-x", "evaluation": "elicitation", "judges": [], "files": {}, "content": {}}
    (folder / "elicitation-x.json").write_text(json.dumps(plain), encoding="utf-8")
    assert rescore_results(folder, [str(judge)]).startswith("1 of 2 results")
