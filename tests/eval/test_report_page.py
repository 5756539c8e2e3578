"""The page as a reader gets it: every part drawn and escaped, the paper's figures listed, samples to look into; in a real browser where
there is one.
"""

import html
import re
from pathlib import Path

import pytest

from eval.drawings import (
    bar_figure,
    distribution_figure,
    heatmap_figure,
    histogram_figure,
    line_figure,
    pipeline_figure,
    points_figure,
)
from eval.page import Example, Figure, Section, Table
from eval.report.judges import judges_in_words, judges_section
from eval.report.paper_figures import PAPER_FIGURES
from eval.report.write import page_of, write_report
from eval.results import Result, write_result
from tests.browser import look, needs_browser
from tests.eval.test_eval_report import Tags
from training.estimates import Estimate

ATTACK = "</style></script><script>alert(1)</script><img src=http://x.example/a.png onerror=alert(1)>"
LABEL = "roleplay@0123456789ab:org/a-model-with-a-rather-long-name-of-its-own"
SHARE = Estimate(0.6, 0.52, 0.68, 240, 30)
GAP = Estimate(-0.05, -0.11, 0.01, 240, 8)
FEW = Estimate(None, None, None, 3, 2, "n < 20")


def sections(text: str = "", scripted: bool = False) -> list[Section]:
    results = Table(
        f"Share of answers that need no revision. {text}",
        ("model", "judge", "true persona", "no persona", "wrong persona", "true - wrong", "kappa", "n"),
        [
            (f"a model {text}", LABEL, SHARE, SHARE, SHARE, GAP, Estimate(0.41, 0.3, 0.5, 240, 30), 1240),
            ("another", LABEL, FEW, None, FEW, FEW, FEW, 3),
        ],
        signed=(5,),
        plain=(6,),
    )
    folded = Table(f"By cell. More of it. {text}", ("cell", text), [(text, 0.125)], folded=True)
    many = {f"attribute {number} {text}"[:60]: [0.1 * number, 0.3, float("nan")] for number in range(5)}
    figures = [
        Figure(
            f"Modes {text}", bar_figure({"a": (1, 2), f"b {text}": (3, 4)}, ("x", "y"), "%"), f"values {text}", "10"
        ),
        Figure("Curve", line_figure({f"m {text}": [(1, 0.2), (2, 0.3)]}, "k", "share", 0.5), "w", "12"),
        Figure("Histograms", histogram_figure({f"h {text}": [0.1, 0.9]}, [-1, 0, 1], "kappa"), "w", "7"),
        Figure("Matrix", heatmap_figure([[1.0, None], [0.2, -1]], ["a", text], ["b", "c"], "kappa"), "w", "6"),
        Figure("Influence", distribution_figure(many, "kappa", 0.2), "w", "5"),
        Figure("Estimates", points_figure({"a": SHARE, f"b {text}": FEW}, "%", 0.5), "w", caption=text),
        Figure("Way", pipeline_figure([("Census", [f"12 {text}"]), ("Personas", ["3"])]), "w", "1"),
    ]
    examples = [Example(f"question {n} {text}", [("Answer", f"word{n} {text}"), ("Judge", text)]) for n in range(4)]
    return [
        Section(
            "bench", f"PERSONA Bench {text}", [f"About it. {text}"], [results, folded], figures, examples, scripted
        ),
        Section("other", "Another part", ["Text."], examples=examples[:1]),
    ]


def visible(page: str) -> str:
    body = re.sub(r"<(style|script)>.*?</\1>", "", page, flags=re.DOTALL)
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body)))


def test_every_kind_of_cell_is_drawn() -> None:
    judges = {LABEL: {"name": "roleplay", "model": "a-model", "words": "orders agree: 83.0 % (n = 128)"}}
    page = page_of(sections(), title="demo", judges=judges)
    assert Tags(page).open == []
    text = visible(page)
    for part in (
        "60.0 52.0 to 68.0",
        "−5.0 −11.0 to +1.0 *",
        "0.41 0.30 to 0.50",
        "withheld n < 20 (n = 3)",
        "1,240",
        "roleplay a-model orders agree: 83.0 % (n = 128)",
        "By cell.",
        "0.125",
        "Figure 10 of the paper",
    ):
        assert part in text, part
    assert LABEL not in text


def test_texts_of_models_and_persons_are_text() -> None:
    judges = {LABEL: {"name": ATTACK, "model": ATTACK, "words": ATTACK}}
    page = page_of(
        sections(ATTACK), title=ATTACK, version=ATTACK, lead=[ATTACK], judges=judges, samples=sections(ATTACK)[1:]
    )
    tags = Tags(page)
    assert tags.open == []
    assert sum(tag == "script" for tag, _ in tags.found) == 1
    assert all(str(attrs["src"]).startswith("data:image/svg+xml;base64,") for tag, attrs in tags.found if tag == "img")
    assert not any("onerror" in attrs for _, attrs in tags.found)
    assert page.count("&lt;script&gt;alert(1)") >= 20


def test_the_page_lets_no_other_script_run_and_nothing_be_fetched() -> None:
    page = page_of(sections(), title="demo")
    (rule,) = (attrs["content"] for tag, attrs in Tags(page).found if tag == "meta" and "http-equiv" in attrs)
    assert rule is not None
    assert rule.startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-")
    assert "http://" not in page
    assert "https://" not in page
    assert "//" not in re.sub(r"data:image/svg\+xml;base64,[A-Za-z0-9+/=]+", "", page).replace("// Shows", "")


def test_every_figure_of_the_paper_is_linked_or_its_command_named() -> None:
    page = page_of(sections(), title="demo")
    ids = {attrs["id"] for _, attrs in Tags(page).found if "id" in attrs}
    links = {str(attrs["href"]).removeprefix("#") for tag, attrs in Tags(page).found if tag == "a"}
    assert links <= ids
    text = visible(page)
    present = {"1", "5", "6", "7", "10", "12"}
    for number, (title, command) in PAPER_FIGURES.items():
        assert (f"{title}: not here; {command} makes it" in text) == (number not in present), number
    assert list(PAPER_FIGURES) == [str(number) for number in range(1, 14)]


def test_scripted_figures_say_so_wherever_they_stand() -> None:
    plain, scripted = (visible(page_of(sections(scripted=flag), title="demo")) for flag in (False, True))
    assert "scripted" not in plain
    # Heading, warning, both tables, seven figures, six links to them, samples.
    assert scripted.count("scripted") >= 17
    assert "Figure 10 of the paper Modes scripted" in scripted


def test_sections_of_one_anchor_keep_their_own_links() -> None:
    page = page_of([*sections(), *sections()], title="demo")
    ids = [attrs["id"] for _, attrs in Tags(page).found if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert {"bench", "bench-2"} <= set(ids)


def a_result(folder: Path, evaluation: str, name: str, content: dict, **facts: object) -> Result:
    judge = {
        "label": LABEL,
        "name": "roleplay",
        "kind": "pairwise",
        "parser": "markers",
        "model": "org/m",
        "scripted": False,
    }
    result = Result(
        evaluation=evaluation,
        name=name,
        description="",
        fingerprint={},
        dataset=None,
        subject=None,
        judges=[judge | {"also": []} | facts],
        settings={"items": "packaged contrasts"},
        seed=0,
        provenance={},
        rows={"scored": 9, "unscored": {}},
        files={},
        content=content,
    )
    write_result(folder, result)
    return result


def test_what_is_known_of_a_judge_stands_beside_its_rows(tmp_path: Path) -> None:
    judged = a_result(tmp_path, "bench", "bench-x", {}, also=["wrote the revisions"])
    assert judges_in_words([judged])[LABEL]["words"] == ("judges its own work; not calibrated: persona eval calibrate")
    estimate = {"value": 0.83, "low": 0.7, "high": 0.9, "n": 128, "clusters": 64, "withheld": None}
    content = {"withheld": None, "accuracy": {"true": estimate}, "position": {"order_consistency": estimate}}
    card = a_result(tmp_path, "calibration", "calibration-x", content)
    said = judges_in_words([judged, card])[LABEL]
    assert said["words"] == "judges its own work; orders agree: 83.0 % (n = 128)"
    section = judges_section([judged, card])
    assert section is not None
    assert section.tables[0].rows[0][-2:] == [Estimate(**estimate), Estimate(**estimate)]
    withheld = a_result(tmp_path, "calibration", "calibration-x", {"withheld": "40% of rows unscored"})
    assert judges_in_words([withheld])[LABEL]["words"] == "orders agree: withheld: 40% of rows unscored"


def test_calibration_alone_makes_a_page(tmp_path: Path) -> None:
    from eval.calibration.calibrate import calibrate

    calibrate(["roleplay_choice=scripted"], None, tmp_path / "results", repeats=1, limit=24, seed=0)
    page = write_report(tmp_path / "results", tmp_path / "page.html").read_text(encoding="utf-8")
    text = visible(page)
    assert "Calibration of the judges scripted" in text
    assert "1 results of calibration" not in text
    assert "1 result of calibration." in text
    assert Tags(page).open == []


@needs_browser
@pytest.mark.parametrize("width", [375, 1280])
def test_a_browser_shows_all_of_it(tmp_path: Path, width: int) -> None:
    page = tmp_path / "page.html"
    long = "a_word_without_any_place_to_break_it_" * 4
    page.write_text(page_of(sections(long), title=long, lead=[long]), encoding="utf-8")
    seen = look(page, width, tmp_path)
    assert seen.page["width"] == width
    assert seen.page["scroll_width"] <= width, seen.page["wide"]
    assert seen.page["wide"] == []
    assert len(seen.page["images"]) == 7
    for image in seen.page["images"]:
        assert image["loaded"]
        assert image["alt"]
        assert min(image["width"], image["height"]) > 40
    assert seen.page["requests"] == []
    assert seen.page["filter_shown"]
    assert seen.page["samples"] == 5
    assert seen.console == []


@needs_browser
def test_a_browser_runs_nothing_that_a_text_brings_along(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(page_of(sections(ATTACK), title=ATTACK, lead=[ATTACK]), encoding="utf-8")
    seen = look(page, 375, tmp_path)
    assert seen.console == []
    assert seen.page["requests"] == []
    assert seen.page["scroll_width"] <= 375


@needs_browser
def test_samples_are_found_by_part_and_by_words(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(page_of(sections(), title="demo"), encoding="utf-8")

    def shown(script: str) -> int:
        found: int = look(page, 375, tmp_path, before=f"{CHOOSE} {script}").page["samples"]
        return found

    assert shown('choose("filter-section", "change", "other");') == 1
    assert shown('choose("filter-words", "input", "WORD2 answer");') == 1
    assert shown('choose("filter-words", "input", "nowhere");') == 0


CHOOSE = """function choose(id, kind, value) {
  var field = document.getElementById(id); field.value = value; field.dispatchEvent(new Event(kind));
}"""
