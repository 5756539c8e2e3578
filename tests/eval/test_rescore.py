"""Kept replies read again with today's judges: the same figures without a change, other ones with it, and never a call."""

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from builder.errors import InputError
from builder.llm.calls import ModelCalls
from eval.agreement.run import run_agreement
from eval.bench.run import run_bench
from eval.bench.text_table import printed
from eval.calibration.calibrate import calibrate
from eval.elicitation.run import run_elicitation
from eval.report.sections import section_writers
from eval.rescore import EVALUATIONS_READ_ANEW, rescore_results
from eval.results import load_results
from eval.side_effects.run import run_side_effects
from eval.subtlety.run import run_subtlety
from eval.summaries.run import run_summaries
from tests.eval.test_elicitation import planted
from tests.eval.test_summaries import with_lines
from tests.published_folder import write_published_folder

ROOT = Path(__file__).parent.parent.parent
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
    assert said == "1 of 1 results have kept replies to read again; nothing changed."
    assert contents(folder) == before


def test_another_temperature_changes_probabilities_and_no_verdict(judged: tuple[Path, Path], no_calls: None) -> None:
    folder, judge = judged
    (before,) = load_results(folder)
    first = contents(folder)
    judge.write_text(LIKELIHOOD.format(5.0), encoding="utf-8")
    said = rescore_results(folder, [str(judge)])
    (after,) = load_results(folder)
    assert "reliability" in said
    assert said.endswith("1 of 1 results have kept replies to read again; 1 changed.")
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
    assert "rows scored, unscored: " in said
    assert result.rows["unscored"].keys() == {"unreadable"}
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


def test_a_result_without_kept_replies_is_left_alone(judged: tuple[Path, Path], no_calls: None) -> None:
    folder, judge = judged
    (path,) = folder.glob("*.json")
    raw = json.loads(path.read_text(encoding="utf-8"))
    plain = raw | {"name": "models-x", "evaluation": "models", "judges": [], "files": {}, "content": {}}
    (folder / "models-x.json").write_text(json.dumps(plain), encoding="utf-8")
    assert rescore_results(folder, [str(judge)]).startswith("1 of 2 results")


def test_whoever_keeps_replies_is_read_anew() -> None:
    """Every module that writes a transcript, or has a `rescored`, stands in the table under a name that results have."""
    keepers = set()
    for file in sorted((ROOT / "eval").rglob("*.py")):
        text = file.read_text(encoding="utf-8")
        if "\ndef rescored(" in text or ("write_table(" in text and "TRANSCRIPT_COLUMNS" in text):
            keepers.add(".".join(file.relative_to(ROOT).with_suffix("").parts))
    assert keepers == set(EVALUATIONS_READ_ANEW.values())
    # All but `models`, of which scores are kept and no replies.
    assert EVALUATIONS_READ_ANEW.keys() == section_writers().keys() - {"models"}
    assert all(callable(importlib.import_module(module).rescored) for module in EVALUATIONS_READ_ANEW.values())


Evaluate = Callable[[Path, str, Path], str]


def by_agreement(dataset: Path, judge: str, out: Path) -> str:
    return run_agreement(dataset, [f"{judge}=scripted", "profile-overlap"], out, limit=40)


def by_subtlety(dataset: Path, judge: str, out: Path) -> str:
    return run_subtlety(dataset, ["scripted"], [f"{judge}=scripted"], out, limit=24)


def by_bench(dataset: Path, judge: str, out: Path) -> str:
    return run_bench(dataset, ["scripted"], [f"{judge}=scripted"], out, modes=["output_only"], limit=24)


def by_elicitation(dataset: Path, judge: str, out: Path) -> str:
    options = {"learners": ["profile"], "orders": ["fixed"], "scorer": f"{judge}=scripted", "limit": 6}
    return run_elicitation(dataset, "scripted", out, **options)


@pytest.fixture(scope="module")
def stated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_published_folder(tmp_path_factory.mktemp("lines") / "data", seen=12, unseen=4, change=with_lines)


@pytest.mark.parametrize(
    ("evaluate", "text"),
    [
        (by_agreement, ROLEPLAY.format("markers")),
        (by_subtlety, "kind: critique\ntemplate: subtlety_recital\nparser: markers\n"),
        (by_bench, "kind: critique\ntemplate: judge_critique\nparser: markers\n"),
        (by_elicitation, ROLEPLAY.format("markers")),
    ],
)
def test_todays_version_stands_in_every_result_and_the_replies_are_found_again(
    evaluate: Evaluate, text: str, stated: Path, tmp_path: Path
) -> None:
    dataset = planted(tmp_path / "data") if evaluate is by_elicitation else stated
    judge, out = tmp_path / "mine.yaml", tmp_path / "results"
    judge.write_text(text, encoding="utf-8")
    evaluate(dataset, str(judge), out)
    (before,) = load_results(out)
    kept = contents(out)
    judge.write_text(f"{text}max_retries: 1\n", encoding="utf-8")
    assert rescore_results(out, [str(judge)]).endswith("1 of 1 results have kept replies to read again; 1 changed.")
    (after,) = load_results(out)
    assert after.judges[0]["version"] != before.judges[0]["version"]
    assert after.judges[0]["kept_as"] == before.judges[0]["label"]
    assert after.judges[0]["label"].startswith(f"mine@{after.judges[0]['version']}")
    assert before.judges[0]["label"] not in json.dumps(after.content)
    assert after.rows == before.rows
    if evaluate is by_bench:
        assert after.judges[0]["label"] in printed(after)
    assert rescore_results(out, [str(judge)]).endswith("nothing changed.")
    judge.write_text(text, encoding="utf-8")
    rescore_results(out, [str(judge)])
    assert contents(out) == kept


def test_what_models_replied_is_read_again_by_todays_rules(
    stated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_summaries(stated, ["scripted"], tmp_path, limit=24)
    run_side_effects(stated, ["scripted"], tmp_path, limit=24)
    assert rescore_results(tmp_path, []) == "2 of 2 results have kept replies to read again; nothing changed."
    monkeypatch.setattr("eval.summaries.content.holds_value", lambda *_: False)
    said = rescore_results(tmp_path, [])
    assert said.endswith("2 of 2 results have kept replies to read again; 1 changed.")
    assert "summaries-scripted: " in said
