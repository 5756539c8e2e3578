"""Personas from a file: plain ones and Nemotron's columns give the same kind of table as the census does."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from builder.errors import InputError
from builder.imports.clusters import cluster_imported
from builder.imports.nemotron import opening
from builder.imports.persona_text import imported_row, parse_persona
from builder.imports.personas_file import read_persona_file
from builder.personas.groups import COMPARED
from builder.recipe import BuildRecipe, CensusRecipe, PersonasRecipe
from builder.schema import ATTRIBUTES
from builder.tables import arrow_table

STORIES = (
    *(
        "She keeps bees behind a mill and sells honey on Fridays.",
        "He repairs clocks and sings bass in a village choir.",
    ),
    *(
        "They drive a night bus and read detective stories at every stop.",
        "Twice a year she sails alone to an island without a name.",
    ),
    *(
        "He coaches a chess club for children and never plays himself.",
        "A retired judge who bakes bread for three neighbours.",
    ),
)


def recipe(path: Path, count: int = 4, seed: int = 1, adults_only: bool = True, **personas: Any) -> BuildRecipe:
    settings = PersonasRecipe(source=str(path), count=count, enrichment="none", **personas)
    return BuildRecipe(name="test", seed=seed, census=CensusRecipe(adults_only=adults_only), personas=settings)


def count_words(texts: list[str]) -> list[int]:
    return [len(text.split()) for text in texts]


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def stories(path: Path, **columns: Any) -> Path:
    return write(path, [{"profile": story, "id": f"s{n}", **columns} for n, story in enumerate(STORIES)])


def nemotron_row(number: int, **changes: Any) -> dict[str, Any]:
    name = ("Ada Quill", "Bo Reed", "Cy Marsh")[number % 3]
    return {
        "uuid": f"u{number}",
        "professional_persona": f"{name} runs a small print shop number {number}. The shop is the oldest in Oak Ferry.",
        "sports_persona": f"{name} swims {number + 2} miles a week.",
        "arts_persona": f"{name} paints.",
        "travel_persona": f"{name} takes trains.",
        "culinary_persona": f"{name} cooks.",
        "persona": f"{name} of Oak Ferry plans everything twice. Lists cover every wall of {name}'s room number {number}.",
        "cultural_background": "Plain.",
        "skills_and_expertise": "Printing.",
        "hobbies_and_interests": f"{name} collects stamps from 1{number}0 countries. Walks follow, often past the post office of 04321.",
        "career_goals_and_ambitions": "A second shop.",
        "sex": ("Female", "Male")[number % 2],
        "age": 30 + number,
        "marital_status": ("married_present", "never_married", "widowed")[number % 3],
        "education_level": ("bachelors", "9th_12th_no_diploma", "trade_certificate")[number % 3],
        "bachelors_field": "arts",
        "occupation": ("print_shop_worker", "not_in_workforce", "farmer")[number % 3],
        "city": "Oak Ferry",
        "state": "ME",
        "zipcode": "04321",
        "country": "USA",
    } | changes


def test_a_given_profile_is_used_as_it_is(tmp_path: Path) -> None:
    table = read_persona_file(recipe(stories(tmp_path / "p.jsonl"), count=6, seen=4), count_words)
    assert {row["profile"] for row in table.rows} == set(STORIES)
    assert [row["persona_id"] for row in table.rows] == [f"p0000{n}" for n in range(6)]
    assert Counter(row["group"] for row in table.rows) == {"seen": 4, "unseen": 2}
    for row in table.rows:
        assert row["weight"] == 1
        assert row["is_adult"] is None
        assert {row[name] for name in ATTRIBUTES} == {None}
        assert set(row["null_reasons"].values()) == {"missing"}
    assert arrow_table("personas", table.rows).num_rows == 6
    sources = {row["persona_id"]: row["source_row"] for row in table.records.to_pylist()}
    assert all(STORIES[sources[row["persona_id"]] - 1] == row["profile"] for row in table.rows)


def test_a_larger_draw_extends_a_smaller_one_and_the_seed_decides(tmp_path: Path) -> None:
    path = stories(tmp_path / "p.jsonl")

    def profiles(count: int, seed: int) -> list[str]:
        return [row["profile"] for row in read_persona_file(recipe(path, count, seed), count_words).rows]

    assert profiles(6, 1)[:3] == profiles(3, 1)
    assert len({tuple(profiles(6, seed)) for seed in range(5)}) > 1
    assert read_persona_file(recipe(path, 3), count_words).counts == {"in": 6, "out": 3, "dropped": {"not drawn": 3}}


def test_heavier_rows_are_drawn_more_often(tmp_path: Path) -> None:
    rows = [{"profile": f"Person {n} of the list.", "weight": 50 if n == 7 else 1} for n in range(20)]
    path = write(tmp_path / "p.jsonl", rows)
    drawn = [read_persona_file(recipe(path, 1, seed), count_words).rows[0] for seed in range(60)]
    heavy = sum(row["weight"] == 50 for row in drawn)
    # 50 of 69 by weight is 43 of 60; one in twenty without weights would be 3.
    assert 33 <= heavy <= 54


def test_attributes_come_by_our_names_or_the_papers(tmp_path: Path) -> None:
    rows = [
        {"age": 44, "marital status": "Divorced", "household_language": "nan", "income": "12,000", "shoe size": 9},
        {
            "attributes": {"age": "71", "political views": "Green"},
            "null_reasons": {"religion": "none"},
            "extras": {"core_values": ["peace"]},
        },
        {"profile": "age: 33\nsex: Female\nreligion: Quaker\nmotto: slow down"},
        {"profile": "She says: never mind. He says: why not?", "age": 50},
    ]
    table = read_persona_file(recipe(write(tmp_path / "p.jsonl", rows), seen=2), count_words)
    by_age = {row["age"]: row for row in table.rows}
    first = by_age[44]
    assert first["profile"] == "About the person asking:\nAge: 44\nIncome: $12,000 a year\nMarital status: Divorced"
    assert (first["provenance"]["age"], first["null_reasons"]["household_language"], first["is_adult"]) == (
        "imported",
        "missing",
        True,
    )
    assert by_age[71]["political_views"] == "Green"
    assert by_age[71]["null_reasons"]["religion"] == "none"
    assert by_age[71]["extras"] == {"core_values": ["peace"], "entertainment_preferences": []}
    assert (by_age[33]["religion"], by_age[33]["profile"]) == ("Quaker", rows[2]["profile"])
    assert by_age[50]["profile"] == rows[3]["profile"]
    assert table.details["unknown_keys"] == {"motto": 1, "shoe size": 1}


def test_a_published_persona_table_can_be_read_again(tmp_path: Path) -> None:
    rows = [{"age": 40 + n, "religion": "None" if n else "Quaker", "sex": "Male", "weight": n + 1} for n in range(4)]
    table = read_persona_file(recipe(write(tmp_path / "p.jsonl", rows), seen=3), count_words)
    parquet.write_table(arrow_table("personas", table.rows), tmp_path / "personas.parquet")
    again = read_persona_file(recipe(tmp_path / "personas.parquet"), count_words)
    kept = ("profile", "group", "weight", *ATTRIBUTES)
    assert {row["age"]: {k: row[k] for k in kept} for row in again.rows} == {
        row["age"]: {k: row[k] for k in kept} for row in table.rows
    }
    assert {r["age"]: r["null_reasons"] for r in again.rows} == {r["age"]: r["null_reasons"] for r in table.rows}
    assert again.details["groups"] == "as the file gives them"
    assert again.details["unknown_keys"] == {}


def test_a_profile_that_is_too_long_is_refused_with_its_length(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", [{"profile": "word " * n} for n in (5, 30, 12, 50)])
    with pytest.raises(InputError, match=r"2 of 4 profiles .* is 12 \(row 4: 50, row 2: 30\)\..*at least 50"):
        read_persona_file(recipe(path, profile_max_tokens=12), count_words)
    # One that we write ourselves leaves out what has no room.
    short = write(tmp_path / "q.jsonl", [{"age": 40, "sex": "Male", "lifestyle": "quiet " * 20}] * 1)
    table = read_persona_file(recipe(short, count=1, profile_max_tokens=12), count_words)
    assert table.rows[0]["profile"] == "About the person asking:\nAge: 40\nSex: Male"
    assert table.details["profile_attributes_left_out"] == {"personas": 1, "attributes": 1, "most": 1}


def test_rows_that_cannot_be_used_are_in_the_ledger(tmp_path: Path) -> None:
    rows: list[Any] = [
        {"profile": STORIES[0], "id": 1},
        {"profile": STORIES[1], "id": 1},
        {"profile": " ", "age": "nan"},
        {"profile": STORIES[2], "weight": 0},
        {"profile": STORIES[2], "group": "dev"},
        [STORIES[2]],
        {"profile": STORIES[3], "age": 12},
        {"profile": STORIES[4], "age": 44},
    ]
    path = write(tmp_path / "p.jsonl", rows)
    table = read_persona_file(recipe(path, count=2), count_words)
    assert {e["item"]: e["reason"] for e in table.ledger} == {
        "row 2": "duplicate_id",
        "row 3": "empty_persona",
        "row 4": "unusable_weight",
        "row 5": "unknown_group",
        "row 6": "unreadable",
    }
    assert table.counts["in"] == table.counts["out"] + sum(table.counts["dropped"].values()) == 8
    assert table.counts["dropped"]["under 18"] == 1
    with pytest.raises(InputError, match=r"has 2 usable personas of 8 rows \(.*under 18 1.*personas.count is 3"):
        read_persona_file(recipe(path, count=3), count_words)
    assert len(read_persona_file(recipe(path, count=3, adults_only=False), count_words).rows) == 3


def test_groups_of_the_file_are_kept(tmp_path: Path) -> None:
    rows = [{"profile": story, "group": "seen" if n % 3 else "unseen"} for n, story in enumerate(STORIES)]
    path = write(tmp_path / "p.jsonl", rows)
    table = read_persona_file(recipe(path, count=6), count_words)
    assert {row["profile"]: row["group"] for row in table.rows} == {row["profile"]: row["group"] for row in rows}
    with pytest.raises(InputError, match=r"personas\.seen is 3, but p\.jsonl says `seen` of 4"):
        read_persona_file(recipe(path, count=6, seen=3), count_words)
    del rows[2]["group"]
    with pytest.raises(InputError, match="gives a group to 5 of the 6"):
        read_persona_file(recipe(write(tmp_path / "p.jsonl", rows), count=6), count_words)


def test_profiles_that_resemble_each_other_stay_in_one_group(tmp_path: Path) -> None:
    rows = [{"profile": text} for story in STORIES for text in (story, story.replace(".", ", as ever."))]
    path = write(tmp_path / "p.jsonl", rows)
    for seed in range(5):
        table = read_persona_file(recipe(path, count=12, seed=seed, seen=6), count_words)
        group = {row["profile"]: row["group"] for row in table.rows}
        assert all(group[story] == group[story.replace(".", ", as ever.")] for story in STORIES)


def test_little_known_personas_are_not_clones_of_each_other() -> None:
    """Two people of whom only age and sex are known differ in fewer than three census attributes, which says nothing."""
    few = [imported_row(f"p{n}", STORIES[n], parse_persona(f"age: {30 + n}\nsex: Male\n").attributes) for n in range(3)]
    assert len(set(cluster_imported(few))) == 3
    # Equal profiles are one person, however much else is known of either.
    few[2] |= {"profile": few[0]["profile"], **dict.fromkeys(COMPARED, "known"), "income": 1}
    clusters = cluster_imported(few)
    assert clusters[0] == clusters[2] != clusters[1]


def test_nemotron_columns_become_attributes(tmp_path: Path) -> None:
    rows = [nemotron_row(n) for n in range(3)]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "n.parquet")
    table = read_persona_file(recipe(tmp_path / "n.parquet", count=3), count_words)
    assert table.details["licence"] == "CC-BY-4.0 (Nemotron-Personas, NVIDIA)"
    by_age = {row["age"]: row for row in table.rows}
    first, second, third = by_age[30], by_age[31], by_age[32]
    assert (first["sex"], first["marital_status"], first["education"]) == ("Female", "Married", "Bachelor's degree")
    assert first["occupation_category"] == "Print shop worker"
    assert first["detailed_job_description"] == "Ada Quill runs a small print shop number 0."
    assert first["lifestyle"] == "Ada Quill swims 2 miles a week."
    assert (second["occupation_category"], second["null_reasons"]["occupation_category"]) == (None, "not_applicable")
    assert second["education"] == "9th to 12th grade, no diploma"
    assert (third["marital_status"], third["education"]) == ("Widowed", "Trade certificate")
    assert first["null_reasons"]["religion"] == "missing"
    assert first["provenance"]["defining_quirks"] == "imported"
    assert "Occupation category: Print shop worker" in first["profile"]
    assert {row["source_id"] for row in table.records.to_pylist()} == {"u0", "u1", "u2"}


def test_city_and_zip_code_are_never_published(tmp_path: Path) -> None:
    rows = [nemotron_row(n) for n in range(3)]
    table = read_persona_file(recipe(write(tmp_path / "n.jsonl", rows), count=3), count_words)
    published = json.dumps(table.rows)
    assert "Oak Ferry" not in published
    assert "04321" not in published
    assert "Lists cover every wall" in published
    assert opening("In OAK FERRY it rains. It snows. Then it is dry.", ["Oak Ferry"]) == "It snows. Then it is dry."
    assert opening("Only Oak Ferry.", ["Oak Ferry"]) is None
    assert opening(f"{'long ' * 45}start. A second sentence.", []) == f"{'long ' * 45}start."


def test_personas_known_by_their_profile_alone_pass_the_audit(tmp_path):
    """Nothing is known of their attributes, which does not make them all alike."""
    from builder.audit.audit import audit_build, failures
    from builder.pipeline import run_build
    from tests.builder.conftest import scripted_recipe

    trades = ("baker", "pilot", "nurse", "judge", "miner", "clerk", "actor", "tailor", "farmer", "diver", "singer")
    file = tmp_path / "personas.jsonl"
    file.write_text("".join(json.dumps({"profile": f"A {t} who loves the {t} life."}) + "\n" for t in trades))
    asked = scripted_recipe(f"personas.source={file}", "personas.count=10", "personas.seen=6")
    run = run_build(asked, tmp_path / "run").folder
    assert not failures([check for check in audit_build(run) if check["proof"]])
