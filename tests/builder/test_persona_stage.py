"""The persona stage inside a build: a folder of census files, the table that is never published, and what checks remove."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from builder.census.pums import HOUSEHOLD_COLUMNS, read_packaged
from builder.errors import InputError
from builder.llm.messages import Answer
from builder.personas.personas import build_personas
from builder.pipeline import run_build
from builder.recipe import BuildRecipe, CensusRecipe, PersonasRecipe, load_recipe

SETTINGS = ["personas.enrichment=none", "personas.count=60"]
HOUSING = ("SERIALNO", *HOUSEHOLD_COLUMNS)


def bureau_folder(folder: Path, states: tuple[str, ...] = ("08", "56"), rows: int = 300) -> Path:
    """Person and housing CSV files by state, made of packaged records under the Bureau's names."""
    folder.mkdir(parents=True, exist_ok=True)
    records = read_packaged().table.slice(0, rows * len(states)).to_pylist()
    for number, state in enumerate(states):
        part = records[number * rows : (number + 1) * rows]
        for record in part:
            record["SERIALNO"] = f"2024HU{int(record['SERIALNO'][3:]):07d}"
            record["PUMA"] = 100 + number
        write_csv(
            folder / f"psam_p{state}.csv", [{k: v for k, v in r.items() if k not in HOUSEHOLD_COLUMNS} for r in part]
        )
        write_csv(folder / f"psam_h{state}.csv", [{k: r[k] for k in HOUSING} for r in part])
    return folder


def write_csv(path: Path, rows: list[dict]) -> None:
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def recipe_for(source: Path, *settings: str) -> BuildRecipe:
    return load_recipe("demo", [f"census.source={source}", *SETTINGS, *settings])


def test_a_folder_of_states_is_one_census_and_its_rows_stay_in_the_build(tmp_path):
    folder = bureau_folder(tmp_path / "census")
    result = run_build(recipe_for(folder), tmp_path / "run", until="personas")
    personas = result.rows("personas")
    records = pq.read_table(tmp_path / "run" / "tables" / "persona_records.parquet")
    assert records["persona_id"].to_pylist() == [row["persona_id"] for row in personas]
    assert set(records["PUMA"].to_pylist()) == {100, 101}
    assert all(text.startswith("2024HU") for text in records["SERIALNO"].to_pylist())
    assert records["AGEP"].to_pylist() == [row["age"] for row in personas]
    assert not {"SERIALNO", "PUMA"} & set(pq.read_schema(tmp_path / "run" / "tables" / "personas.parquet").names)
    details = result.build["stages"]["personas"]
    assert details["in"] == 600
    assert details["income"]["adjinc_applied"] == {"1015250": 600}


def test_another_file_in_the_folder_is_another_census(tmp_path):
    folder = bureau_folder(tmp_path / "census")
    run_build(recipe_for(folder), tmp_path / "run", until="personas")
    bureau_folder(folder, rows=299)
    with pytest.raises(InputError, match=r"content of census\.source"):
        run_build(recipe_for(folder), tmp_path / "run", until="personas")


def test_more_personas_than_there_are_people_is_refused(tmp_path):
    folder = bureau_folder(tmp_path / "census", rows=30)
    with pytest.raises(InputError, match="personas are asked for"):
        run_build(recipe_for(folder), tmp_path / "run", until="personas")
    assert not (tmp_path / "run").exists() or not (tmp_path / "run" / "tables").exists()


class Checker:
    """Answers as the checker: `judge` says of a persona's text whether it is consistent."""

    def __init__(self, judge) -> None:
        self.judge = judge

    def generate(self, role, requests, label):
        assert role == "checker"
        return [Answer(self.reply(request.messages[-1]["content"])) for request in requests]

    def reply(self, text: str) -> str:
        if self.judge(text):
            return "REASON: All fits.\nATTRIBUTES: none\nVERDICT: consistent"
        return "REASON: Not so.\nATTRIBUTES: Sex, Age\nVERDICT: inconsistent"


def checked_recipe(count: int) -> BuildRecipe:
    return load_recipe(
        "demo",
        [
            *("personas.enrichment=none", "personas.consistency=lm", "models.checker.provider=scripted"),
            *(f"personas.count={count}", f"personas.seen={count // 2}"),
        ],
    )


def count_words(texts: list[str]) -> list[int]:
    return [len(text.split()) for text in texts]


def test_who_is_turned_away_is_replaced_by_the_next_of_the_draw():
    men = Checker(lambda text: "Sex: Male" in text)
    table = build_personas(checked_recipe(40), men, count_words)
    assert [row["sex"] for row in table.rows] == ["Male"] * 40
    assert [row["persona_id"] for row in table.rows] == [f"p{n:05d}" for n in range(40)]
    log = table.details["consistency"]["after_sampling"]
    turned_away = log["resampled"]
    assert log["checked"] == 40 + turned_away
    assert turned_away == table.counts["dropped"]["inconsistent after sampling"] == len(table.ledger) > 20
    assert log["rates"]["resampled"] == pytest.approx(turned_away / log["checked"])
    assert table.counts["in"] == table.counts["out"] + sum(table.counts["dropped"].values())
    positions = table.records["position"].to_pylist()
    assert {entry["item"].split(",")[0] for entry in table.ledger} == {"turned away"}
    # The men among the first of the draw, in its order: nobody else was passed over.
    unchecked = build_personas(
        replace(checked_recipe(40), personas=PersonasRecipe(count=max(positions) + 1, enrichment="none")),
        None,
        count_words,
    )
    assert positions == [n for n, row in enumerate(unchecked.rows) if row["sex"] == "Male"]
    for row, position in zip(table.rows, positions, strict=True):
        assert row["lifestyle"] == unchecked.rows[position]["lifestyle"]


def test_a_larger_build_extends_a_smaller_one_also_where_some_are_turned_away():
    men = Checker(lambda text: "Sex: Male" in text)
    small, large = (build_personas(checked_recipe(count), men, count_words) for count in (20, 33))
    for one, other in zip(small.rows, large.rows, strict=False):
        assert {k: v for k, v in one.items() if k != "group"} == {k: v for k, v in other.items() if k != "group"}


def test_a_checker_that_turns_everybody_away_ends_with_a_reason(tmp_path):
    folder = bureau_folder(tmp_path / "census", states=("56",), rows=60)
    recipe = replace(checked_recipe(10), census=CensusRecipe(source=str(folder)))
    with pytest.raises(InputError, match=r"only 0 of 10 personas are consistent \(\d+ turned away after sampling"):
        build_personas(recipe, Checker(lambda text: False), count_words)


def test_the_ledger_names_the_published_persona(tmp_path):
    """Who is mended after others were turned away has another id than place in the draw."""
    settings = ["personas.enrichment=none", "personas.consistency=lm", "models.checker.provider=scripted"]
    recipe = load_recipe("demo", [*settings, "personas.count=150", "personas.seen=null"])
    run_build(recipe, tmp_path / "run", until="personas")
    ledger = json.loads((tmp_path / "run" / "ledger" / "personas.json").read_text())
    personas = {row["persona_id"]: row for row in pq.read_table(tmp_path / "run/tables/personas.parquet").to_pylist()}
    turned_away = [entry for entry in ledger if entry["item"].startswith("turned away, draw ")]
    mended = [entry for entry in ledger if entry["item"] in personas]
    assert len(turned_away) + len(mended) == len(ledger)
    assert turned_away
    assert mended
    for entry in mended:
        # The scripted checker finds fault with the lifestyle only.
        assert personas[entry["item"]]["provenance"]["lifestyle"] == "repaired"
        assert entry["detail"].rstrip(")").endswith(personas[entry["item"]]["lifestyle"]) or "->" in entry["detail"]


def test_an_earlier_stage_run_again_keeps_what_later_stages_said(tmp_path):
    recipe = load_recipe("demo", [*SETTINGS])
    run_build(recipe, tmp_path / "run", until="prompts")
    run_build(recipe, tmp_path / "run", until="personas")
    stages = json.loads((tmp_path / "run" / "build.json").read_text())["stages"]
    assert set(stages) == {"personas", "prompts"}
