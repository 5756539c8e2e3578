"""The page about models and their data, from real (tiny) models: complete, self-contained, escaped, silent about shares of too few."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from builder.errors import InputError
from builder.schema import assistant_message, preference_messages
from eval.models import evaluate_models
from eval.models_table import result_table
from eval.report.write import write_report
from tests.eval.conftest import Trained
from tests.published_folder import Tables, write_published_folder

ATTACK = '<script>alert("x")</script><img src=x onerror=alert(1)>'
BUILD: dict[str, Any] = {
    "recipe": {"name": "test build", "seed": 7},
    "fingerprint": "ab" * 32,
    "code_version": "0.1.0",
    "stages": {
        "prompts": {"in": 50, "out": 6, "dropped": {"near_duplicate": 44}, "seconds": 2.0},
        "pairs": {
            "in": 30,
            "out": 29,
            "dropped": {"truncated": 1, "refused": 0},
            "seconds": 3.5,
            "retries": 2,
            "judge_prefers_revision": {"n": 30, "preferred": 18, "ties": 0, "judge_selected_the_revision": True},
        },
    },
    "usage": {"calls": 1210, "hits": 3, "prompt_tokens": 5, "completion_tokens": 4, "cost_usd": 0.0},
    "models": {role: {"provider": "transformers", "model": "m/x", "revision": None} for role in ("reviser", "judge")},
    "templates": {"answer": "answer@1"},
}
AUDIT = {"checks": [{"name": "length_only_auc", "value": 0.53, "low": 0.47, "high": 0.6, "n": 90, "verdict": "pass"}]}


class Tags(HTMLParser):
    """Collects start tags with their attributes, and checks that they are closed in order."""

    VOID = ("meta", "img", "br", "input")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def run(published: Path, trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    (folder / "build.json").write_text(json.dumps(BUILD), encoding="utf-8")
    (folder / "audit.json").write_text(json.dumps(AUDIT), encoding="utf-8")
    evaluate_models(published, trained.models, folder / "results", base_model=str(trained.base))
    return folder


@pytest.fixture(scope="module")
def page(run: Path, published: Path) -> str:
    return text_in(run / "results", run / "report.html", published, run)


def text_in(results: Path, output: Path, dataset: Path | None, run: Path | None) -> str:
    return write_report(results, output, dataset, run).read_text(encoding="utf-8")


def text_of(page: str) -> str:
    body = re.sub(r"<(style|script)>.*?</\1>", "", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body))


def test_the_page_is_whole_and_needs_nothing_else(page: str) -> None:
    tags = Tags(page)
    assert tags.open == []
    sources = [attrs["src"] for tag, attrs in tags.found if tag == "img"]
    assert len(sources) >= 9
    assert all(source is not None and source.startswith("data:image/svg+xml;base64,") for source in sources)
    assert all(attrs.get("alt") for tag, attrs in tags.found if tag == "img")
    assert not any(tag in ("link", "iframe") for tag, _ in tags.found)
    assert [attrs for tag, attrs in tags.found if tag == "script"] == [{}]
    assert "http://" not in page
    assert "https://" not in page
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in tags.found


def test_the_page_shows_counts_results_and_controls(page: str) -> None:
    text = text_of(page)
    for part in (
        "30 personas, 6 questions",
        "44 near duplicate",
        "1 truncated",
        "true - wrong",
        "untrained-tiny",
        "shorter-answer",
        "profile-overlap",
        "withheld n &lt; 20 (n = 6)",
        "length only auc",
        "On 100.0 % of 180 contrast pairs each persona&#39;s own revision wins",
        "The difference is +100.0 points [95 % interval over personas +100.0 to +100.0]",
        "On 18 of 30 pairs the judge prefers the revision to the base answer. Counts only",
        "The same model wrote the revisions and judges them",
        "Loss of dpo",
        "prompt template hash",
        "Figure 3 of the paper",
        "persona eval bench PUBLISHED --evaluation pass_at_k makes it",
        "No comparison with the census lies beside this dataset",
    ):
        assert part in text, part
    assert "0 refused" not in text
    assert "60.0 % of 30 pairs" not in text


def test_the_same_run_gives_the_same_bytes(run: Path, published: Path, page: str, tmp_path: Path) -> None:
    assert text_in(run / "results", tmp_path / "again.html", published, run) == page


def test_without_the_dataset_the_page_says_what_was_measured(run: Path, tmp_path: Path) -> None:
    text = text_of(text_in(run / "results", tmp_path / "bare.html", None, None))
    assert "untrained-tiny" in text
    assert "Loss of dpo" in text
    assert "persona report RESULTS --dataset PUBLISHED makes it" in text
    assert "What was built" not in text


def test_the_census_stands_beside_the_personas(run: Path, published: Path, tmp_path: Path) -> None:
    (tmp_path / "build.json").write_text(json.dumps(BUILD), encoding="utf-8")
    bins = [{"label": "$1 to $2", "share": 0.25, "census": 0.5, "low": 0.0, "high": 1.0}]
    entry = {"attribute": "income", "label": "Income", "sampled": "directly", "bins": bins, "tv": 0.25, "noise": 0.1}
    fidelity = {"kind": "build", "census": {"people": 104506}, "what": {"people": 30}, "attributes": [entry]}
    (tmp_path / "fidelity.json").write_text(json.dumps(fidelity), encoding="utf-8")
    page = text_in(run / "results", tmp_path / "page.html", published, tmp_path)
    assert "Figure 2, 13 of the paper" in page
    assert "personas 25, census 50" in page
    assert "total variation 0.250, noise 0.100" in page
    assert "persona census compare RUN" not in page


def test_texts_are_data_and_cannot_become_markup(tmp_path: Path) -> None:
    def poison(tables: Tables) -> None:
        for row in tables["personas"]["train"]:
            row["profile"] += ATTACK
            row["sex"] = ATTACK
        for config in ("dpf", "contrast"):
            for rows in tables[config].values():
                for row in rows:
                    system, question = (message["content"] for message in row["prompt"])
                    row["prompt"] = preference_messages(system + ATTACK, question + ATTACK)
                    row["topic"] = "costs $x^2 and $y " + ATTACK
                    for side in ("chosen", "rejected"):
                        row[side] = assistant_message(row[side][0]["content"] + ATTACK)
        for row in tables["prompts"]["train"]:
            row["topic"] = "costs $x^2 and $y " + ATTACK

    folder = write_published_folder(tmp_path / "data", seen=12, change=poison)
    audit = {"checks": [{"name": ATTACK, "note": ATTACK, "verdict": ATTACK}]}
    (folder / "audit.json").write_text(json.dumps(audit), encoding="utf-8")
    results = evaluate_models(folder, [], tmp_path / "results", command=ATTACK)
    page = text_in(results, tmp_path / "report.html", folder, tmp_path)
    assert "&lt;script&gt;alert" in page
    tags = Tags(page)
    assert sum(tag == "script" for tag, _ in tags.found) == 1
    assert not any("onerror" in attrs for _, attrs in tags.found)


def test_a_build_record_with_next_to_nothing_is_enough(tmp_path: Path) -> None:
    """write_published_folder's own build.json holds a fingerprint and a name; no audit, no models, few rows."""
    folder = write_published_folder(tmp_path / "data")
    results = evaluate_models(folder, [], tmp_path / "results")
    text = text_of(text_in(results, tmp_path / "report.html", folder, None))
    assert "No audit was found" in text
    assert "Training" not in text
    assert "withheld" in text


def test_shares_of_a_judge_are_shown_unless_it_chose_among_the_revisions(
    run: Path, published: Path, tmp_path: Path
) -> None:
    def text_with(selected: bool) -> str:
        preferred = {"n": 30, "preferred": 18, "ties": 0, "rate": None, "judge_selected_the_revision": selected}
        flip = {"judge_selected_the_revisions": selected}
        stages = {"pairs": {"judge_prefers_revision": preferred}, "contrast": {"flip": flip}}
        (tmp_path / "build.json").write_text(json.dumps(BUILD | {"stages": stages}), encoding="utf-8")
        return text_of(text_in(run / "results", tmp_path / "p.html", published, tmp_path))

    judged, selected = text_with(False), text_with(True)
    assert "On 60.0 % of 30 pairs the judge prefers the revision to the base answer; a coin would on 50 %" in judged
    assert "On 100.0 % of 180 contrast pairs each persona&#39;s own revision wins" in judged
    assert "On 18 of 30 pairs the judge prefers the revision to the base answer. Counts only" in selected
    assert (
        "On 180 of 180 contrast pairs each persona&#39;s own revision wins under that persona; the reverse happens on 0"
        in selected
    )
    assert "60.0 %" not in selected.split("Does the judge change sides")[1].split("No audit was found")[0]


def test_missing_inputs_are_named(published: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    output = tmp_path / "report.html"
    with pytest.raises(InputError, match="holds no evaluation result"):
        write_report(tmp_path / "results", output, published)
    with pytest.raises(InputError, match="holds no result of `persona eval models`"):
        result_table(tmp_path / "results")
    other = write_published_folder(tmp_path / "other", seen=5)
    results = evaluate_models(other, [], tmp_path / "results")
    with pytest.raises(InputError, match=r"holds build\.json"):
        write_report(results, output, run=bare)
    with pytest.raises(InputError, match="computed on another dataset"):
        write_report(results, output, published)
    assert not (tmp_path / "report.html").exists()


def test_the_plain_table_fits_and_has_every_condition(run: Path) -> None:
    table = result_table(run / "results")
    assert max(map(len, table.splitlines())) <= 110
    assert "true persona" in table
    assert "no persona" in table
    assert "wrong persona" in table
    assert "true - wrong" in table
    for line in table.splitlines():
        if line.startswith("shorter-answer"):
            assert "0.0" in line.split() or "n < 20" in line
    assert table.count("profile-overlap") >= 3


def test_the_plain_table_withholds_small_shares(tmp_path: Path) -> None:
    folder = write_published_folder(tmp_path / "data", seen=3)
    table = result_table(evaluate_models(folder, [], tmp_path / "results"))
    assert "n < 20" in table
    assert max(map(len, table.splitlines())) <= 110
