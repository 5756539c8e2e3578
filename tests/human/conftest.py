"""A study of 2 personas, 2 raters each, 4 questions a persona, 3 a rater and 1 attention check, on a small published folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.personas.profile import label, profile_text
from builder.schema import preference_messages
from eval.human.material import Material, draw_material
from eval.human.opening import open_store
from eval.human.store import Store
from eval.human.study import Study, load_study
from tests.published_folder import TRADES, Tables, write_published_folder

STUDY = """\
title: A small study
dataset: data
completion_code: DONE-1234
personas: 2
raters_per_persona: 2
questions_per_persona: 4
questions_per_rater: 3
attributes: 5
attention_checks: 1
minimum_characters: 20
pairs: {contrast: 2, dpf: 2}
exclusions: {same_place_share_above: null}
consent:
  who: The authors of the tests.
  purpose: To see whether an answer is kept.
  payment: None.
  data: Your answers, under a number.
  contact: tests@example.org
"""
REASON = "Because this person would say so, I think."  # long enough for the study above


def with_profiles_of_lines(tables: Tables) -> None:
    """The profiles of the published folder are one sentence; a card takes lines `Label: value`."""
    profiles = {}
    for number, persona in enumerate(tables["personas"]["train"]):
        values = {
            "age": str(30 + number),
            "detailed_job_description": TRADES[number % len(TRADES)],
            "marital_status": "Married",
        }
        profiles[persona["persona_id"]] = profile_text([f"{label(name)}: {value}" for name, value in values.items()])
        persona["profile"] = profiles[persona["persona_id"]]
    for config in ("dpf", "contrast"):
        for row in (row for rows in tables[config].values() for row in rows):
            row["prompt"] = preference_messages(profiles[row["persona_id"]], row["prompt"][-1]["content"])


@pytest.fixture(scope="session")
def published_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study") / "data"
    return write_published_folder(folder, seen=4, unseen=2, change=with_profiles_of_lines)


@pytest.fixture(scope="session")
def material(published_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Material:
    """What STUDY draws from the published folder: nothing of it depends on where either lies, and nothing changes it."""
    path = tmp_path_factory.mktemp("material") / "STUDY.yaml"
    path.write_text(STUDY, encoding="utf-8")
    return draw_material(load_study(path), published_data)


@pytest.fixture
def study_file(published_data: Path, tmp_path: Path) -> Path:
    """STUDY.yaml in a folder of its own, with the dataset beside it; no database yet."""
    (tmp_path / "data").symlink_to(published_data)
    path = tmp_path / "STUDY.yaml"
    path.write_text(STUDY, encoding="utf-8")
    return path


@pytest.fixture
def study(study_file: Path) -> Study:
    return load_study(study_file)


@pytest.fixture
def store(study: Study, study_file: Path, material: Material) -> Iterator[Store]:
    opened = open_store(study_file.with_suffix(".sqlite"), study, lambda: material)
    yield opened
    opened.close()


def answer_all(store: Store, rater_id: str, start: float, seconds: float = 30.0, choice: str = "chosen") -> float:
    """The rater answers every question in `seconds` each, for what `choice` says; returns the time. Checks are answered as they ask."""
    rater = next(rater for rater in store.raters() if rater.rater_id == rater_id)
    now = start
    for number, (item_id, first) in enumerate(store.items_of(rater), start=1):
        store.show(rater_id, item_id, now=now)
        now += seconds
        wanted = "chosen" if item_id in store.checks else choice
        store.save(rater_id, item_id, "A" if first == wanted else "B", f"{REASON} Number {number}.", now=now)
    return now
