from pathlib import Path

import pytest
from markupsafe import escape

from eval.drawings import heatmap_figure
from eval.human.analysis import analyse
from eval.human.opening import database_path, open_study
from eval.human.plan import minutes_of, mirror_counts, plan_text, rules_in_words, shown_items
from eval.human.section import section
from eval.human.simulated import simulate
from eval.human.study import Exclusions, fingerprint_of, load_study
from eval.page import Section
from eval.report.write import write_report
from eval.results import load_results
from tests.human.conftest import STUDY, with_profiles_of_lines
from tests.published_folder import write_published_folder

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def analysed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A study that simulated raters took, with what the analysis said."""
    folder = tmp_path_factory.mktemp("simulated")
    write_published_folder(folder / "data", seen=8, unseen=2, change=with_profiles_of_lines)
    text = STUDY.replace("A small study", HOSTILE).replace("personas: 2\n", "personas: 6\n")
    text = text.replace("raters_per_persona: 2", "raters_per_persona: 3").replace(
        "questions_per_persona: 4", "questions_per_persona: 8"
    )
    text = text.replace("questions_per_rater: 3", "questions_per_rater: 8").replace(
        "{contrast: 2, dpf: 2}", "{contrast: 5, dpf: 3}"
    )
    (folder / "STUDY.yaml").write_text(text.replace(f"title: {HOSTILE}", f'title: "{HOSTILE}"'), encoding="utf-8")
    simulate(folder / "STUDY.yaml", careless=0.2, dropouts=0.2)
    said = analyse(folder / "STUDY.yaml", ["roleplay=scripted"], folder / "out", simulated=True)
    return folder / "out", said


@pytest.fixture(scope="module")
def made(analysed: tuple[Path, str]) -> Section:
    return section(load_results(analysed[0]), analysed[0])


def test_everything_that_simulated_raters_made_says_so(analysed: tuple[Path, str], made: Section) -> None:
    out, said = analysed
    (result,) = load_results(out)
    assert result.name.endswith("-simulated")
    assert "simulated" in said.splitlines()[0]
    assert "simulated" in result.description
    assert "simulated" in made.title
    assert all("simulated" in table.caption for table in made.tables)
    assert all("simulated" in figure.title for figure in made.figures)
    assert all("simulated" in example.title for example in made.examples)
    assert all("simulated" in name for name in result.files)
    assert any("say nothing of people" in text for text in made.text)
    assert made.mark == "simulated and scripted"
    assert made.text[0].startswith("Simulated raters chose")
    assert max(map(len, said.splitlines())) <= 110


def test_the_section_has_figures_6_and_7_with_controls_beside(analysed: tuple[Path, str], made: Section) -> None:
    assert {figure.number for figure in made.figures} == {"6", "7"}
    matrix = next(f for f in made.figures if f.number == "6" and f.title.endswith("on contrast"))
    for words in (
        "simulated raters with simulated raters",
        "simulated raters with roleplay (wrong persona)",
        "simulated raters with roleplay (no persona)",
        "simulated raters with the data's label",
        "simulated raters with shorter-answer",
        "simulated raters with raters of other personas",
    ):
        assert words in matrix.words
    (kappas,) = [t for t in made.tables if t.caption.startswith("contrast: kappa with simulated raters")]
    assert "above wrong persona" in kappas.header
    named = {str(row[0]) for row in kappas.rows}
    assert {"roleplay", "roleplay (wrong persona)", "shorter-answer", "most raters of other personas"} <= named
    assert all(len(row) == len(table.header) for table in made.tables for row in table.rows)
    (dpf,) = [t for t in made.tables if t.caption.startswith("dpf: kappa with simulated raters")]
    assert "the label (take the refined)" in {str(row[0]) for row in dpf.rows}


def test_raters_who_do_not_count_stand_in_the_report_with_their_reasons(
    analysed: tuple[Path, str], made: Section
) -> None:
    (result,) = load_results(analysed[0])
    (table,) = [t for t in made.tables if t.caption.startswith("Raters who do not count")]
    assert len(table.rows) == len(result.content["raters"]["not_counted"]) > 0
    assert any("Excluded" in str(row[2]) for row in table.rows)
    assert any("Did not finish" in str(row[2]) for row in table.rows)
    counted = next(t for t in made.tables if t.caption.startswith("Who took part"))
    assert ["counted", 18] in [list(row) for row in counted.rows]


def test_reasonings_are_shown_as_they_were_written_and_the_page_escapes_them(
    analysed: tuple[Path, str], made: Section, tmp_path: Path
) -> None:
    assert 0 < len(made.examples) <= 6
    assert len({example.title.split("persona ")[1].split(":")[0] for example in made.examples}) == len(made.examples)
    assert HOSTILE in " ".join(made.text)
    page = write_report(analysed[0], tmp_path / "report.html").read_text(encoding="utf-8")
    assert 'id="human-study"' in page
    assert "Simulated: no person answered." in page
    assert page.count(">simulated and scripted</span>") > len(made.tables)
    assert HOSTILE not in page
    assert str(escape(HOSTILE)) in page
    reason = dict(made.examples[0].parts)["Reasoning (simulated)"]
    assert str(escape(reason)) in page


def test_the_diagonal_of_a_matrix_is_drawn_only_where_it_says_something() -> None:
    with_diagonal, without = (
        heatmap_figure([[value, 0.5], [None, None]], ["a", "b"], ["a", "b"], "kappa") for value in (0.7, None)
    )
    assert with_diagonal != without


def test_a_plan_says_what_is_asked_and_writes_nothing(study_file: Path) -> None:
    before = sorted(study_file.parent.iterdir())
    said = plan_text(study_file)
    study = load_study(study_file)
    assert sorted(study_file.parent.iterdir()) == before
    assert not database_path(study_file).exists()
    assert fingerprint_of(study) in said
    assert max(map(len, said.splitlines())) <= 110
    assert "2 personas" in said
    assert "4 raters" in said
    assert "no majority" in said
    assert "Too few for figures of their own, which take 20" in said
    for rule in rules_in_words(study.exclusions):
        assert rule in said
    assert "persona annotate tokens STUDY.yaml" in said
    assert plan_text(study_file) == said


def test_a_plan_of_a_file_that_changed_before_the_first_answer_is_drawn_anew(study_file: Path) -> None:
    open_study(study_file)[1].close()
    assert "what it shows stays as it is" in " ".join(plan_text(study_file).split())
    study_file.write_text(study_file.read_text().replace("attention_checks: 1", "attention_checks: 0"))
    before = database_path(study_file).read_bytes()
    said = " ".join(plan_text(study_file).split())
    assert "drawn anew from the changed file" in said
    assert "with 0 attention checks" in said
    assert fingerprint_of(load_study(study_file)) in said
    assert database_path(study_file).read_bytes() == before


def test_a_plan_counts_the_mirrors_and_the_minutes(study_file: Path, material: object) -> None:
    from eval.human.material import Item, Material

    assert isinstance(material, Material)
    items = shown_items(material)
    assert all(item.kind != "check" for item in items)
    one = Item("i1", "contrast", "p1", "contrast/p1-p2/q1", "Why?", ("left", "right"))
    two = Item("i2", "contrast", "p2", "contrast/p2-p1/q1", "Why?", ("right", "left"))
    other = Item("i3", "contrast", "p3", "contrast/p3-p4/q1", "Why?", ("left", "up"))
    assert mirror_counts([one, other]) == (2, 0)
    assert mirror_counts([one, two, other]) == (3, 2)
    # Two minutes before, and at least one for each of three questions and a check.
    assert 6 < minutes_of(material) < 12


def test_rules_that_are_off_are_not_named() -> None:
    assert len(rules_in_words(Exclusions())) == 5
    off = Exclusions(None, None, None, None, None)
    assert rules_in_words(off) == ["Nobody: every rule of exclusion is off."]
    assert rules_in_words(Exclusions(2, None, None, None, None)) == ["Failed 2 attention checks or more."]
