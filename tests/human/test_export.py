"""The exported files: whole, loadable, with nothing in them that must not leave the machine, and read by `persona eval agreement`."""

import hashlib
import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from builder.errors import InputError
from builder.schema import features
from eval.agreement.choices import read_choices
from eval.agreement.run import run_agreement
from eval.human.export import COLUMNS, export, export_files, tables_of
from eval.human.opening import open_store
from eval.human.store import Store
from eval.results import read_result
from eval.tables import read_table
from tests.human.conftest import REASON, answer_all

HOSTILE = '<script>alert("1")</script>, =HYPERLINK("x")\n"quoted", \u202eright to left, naïve 日本語 \U0001f600 '
NOW = 1_767_600_000.0


def take_part(store: Store, count: int, choice: str = "chosen") -> list[str]:
    """So many raters who finish; their ids."""
    ids = []
    for number, token in enumerate(store.issue_tokens(count)):
        rater_id = store.rater(token).rater_id
        store.begin(rater_id, now=NOW + number)
        store.finish(rater_id, now=answer_all(store, rater_id, NOW + number, choice=choice))
        ids.append(rater_id)
    return ids


@pytest.fixture
def taken(store: Store) -> Store:
    """Two who count, one of them for the other answers; one who was far too fast, one who stopped, and one who never came."""
    take_part(store, 1)
    take_part(store, 1, choice="rejected")
    fast, stopped, _ = store.issue_tokens(3)
    rater = store.rater(fast).rater_id
    store.begin(rater, now=NOW)
    store.finish(rater, now=answer_all(store, rater, NOW, seconds=1.0))
    rater = store.begin(store.rater(stopped).rater_id, now=NOW)
    item_id, _ = store.items_of(rater)[0]
    store.save(rater.rater_id, item_id, "B", HOSTILE, pasted=400, now=NOW + 50)
    return store


def test_tables_have_every_rater_and_every_answer_and_say_who_counts(taken):
    tables = tables_of(taken)
    assert {name: sorted(rows[0]) for name, rows in tables.items() if name in COLUMNS} == {
        name: sorted(columns) for name, columns in COLUMNS.items()
    }
    raters = {rater["rater_id"]: rater for rater in tables["raters"]}
    assert Counter((r["state"], r["counted"], r["excluded"]) for r in raters.values()) == {
        ("finished", True, False): 2,
        ("finished", False, True): 1,
        ("open", False, False): 1,
        ("new", False, False): 1,
    }
    (excluded,) = (rater for rater in raters.values() if rater["excluded"])
    assert "Median time on a question 1.0 s" in excluded["reason"]
    assert (excluded["median_seconds"], excluded["answers"], excluded["checks_failed"]) == (1.0, 4, 0)
    assert len(tables["answers"]) == 3 * 4 + 1
    for answer in tables["answers"]:
        assert answer["counted"] == raters[answer["rater_id"]]["counted"]
        assert answer["persona_id"] == raters[answer["rater_id"]]["persona_id"]
    assert {row["source"] for name in COLUMNS for row in tables[name]} == {"human"}
    assert sum(item["shown"] for item in tables["items"]) == 2 * 4


def test_every_version_of_an_answer_leaves_with_the_export(store, study_file, tmp_path):
    rater_id = store.rater(store.issue_tokens(1)[0]).rater_id
    (item, _), *_ = store.items_of(store.begin(rater_id, now=NOW))
    for number, (choice, pasted) in enumerate((("A", 0), ("B", 300), ("A", 0))):
        store.save(rater_id, item, choice, f"{REASON} {number}", pasted, now=NOW + number)
    export(study_file, tmp_path / "out")
    assert [
        (row["source"], row["rater_id"], row["item_id"], row["saved"], row["choice"], row["reason"], row["pasted"])
        for row in read_table(tmp_path / "out" / "versions.parquet")
    ] == [
        ("human", rater_id, item, NOW + number, choice, f"{REASON} {number}", pasted)
        for number, (choice, pasted) in enumerate((("A", 0), ("B", 300), ("A", 0)))
    ]
    assert len(read_table(tmp_path / "out" / "answers.parquet")) == 1


def test_human_rater_1_is_the_same_person_in_the_export_and_in_agreement(store, study_file, tmp_path):
    # Those who finish first are not those with the first id: one by one, and in the reverse order of ids.
    for number, token in enumerate(sorted(store.issue_tokens(4), key=lambda t: store.rater(t).rater_id, reverse=True)):
        rater_id = store.rater(token).rater_id
        store.begin(rater_id, now=NOW + number)
        choice = ("chosen", "rejected")[number // 2]
        store.finish(rater_id, now=answer_all(store, rater_id, NOW + 1000 * number, choice=choice))
    export(study_file, tmp_path / "out")
    names = {rater["rater_id"]: rater["annotator"] for rater in tables_of(store)["raters"]}
    assert set(names.values()) == {"human rater 1", "human rater 2"}
    said = {
        (names[answer["rater_id"]], answer["pair_id"], answer["preferred"])
        for answer in tables_of(store)["answers"]
        if answer["kind"] != "check"
    }
    assert said == {(c.annotator, c.pair_id, c.choice) for c in read_choices([tmp_path / "out" / "choices.jsonl"])}


def test_a_served_study_exports_without_the_modules_of_judges():
    code = "import sys, eval.human.export; print([m for m in sys.modules if m.startswith(('builder.llm', 'builder.judge'))])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_judgements_are_those_who_count_said_of_pairs_and_no_check(taken):
    tables = tables_of(taken)
    judgements = tables["judgements"]
    answers = {(a["pair_id"], f"human:{a['rater_id']}"): a for a in tables["answers"] if a["counted"]}
    assert len(judgements) == 2 * 3
    assert {row["verdict"] for row in judgements} == {"chosen", "rejected"}
    for row in judgements:
        answer = answers[row["pair_id"], row["judge"]]
        shown_first = answer["choice"] == "A"
        assert answer["kind"] != "check"
        assert row["verdict"] == answer["preferred"]
        # As in the data's own judgements: AB where the chosen text was shown first.
        assert (row["order"] == "AB") == (shown_first == (row["verdict"] == "chosen"))
        assert (row["condition"], row["probability"], row["reason"]) == ("true", None, answer["reason"])


def test_the_files_load_as_datasets_with_the_declared_features(taken, study_file, tmp_path):
    from datasets import load_dataset

    said = export(study_file, tmp_path / "out")
    assert said.startswith("13 answers of 4 raters in ")
    assert "2 raters count, 1 are excluded" in said
    tables = tables_of(taken)
    for name, rows in tables.items():
        table = load_dataset("parquet", data_files=str(tmp_path / "out" / f"{name}.parquet"), split="train")
        assert table.to_list() == [{column: row[column] for column in table.column_names} for row in rows]
        if name == "judgements":
            assert table.features == features("judgements")


def test_text_stays_as_it_was_typed(taken, study_file, tmp_path):
    import pyarrow.parquet

    export(study_file, tmp_path / "out")
    answers = pyarrow.parquet.read_table(tmp_path / "out" / "answers.parquet").to_pylist()
    assert HOSTILE.strip() in {answer["reason"] for answer in answers}


def test_study_json_says_what_was_asked_and_the_hash_of_every_file(taken, study, study_file, tmp_path):
    out = tmp_path / "out"
    export(study_file, out)
    facts = json.loads((out / "study.json").read_text(encoding="utf-8"))
    assert facts["counts"]["counting"] == 2
    assert facts["counts"]["judgements"] == 6
    assert facts["settings"]["exclusions"]["median_seconds_below"] == study.exclusions.median_seconds_below
    assert facts["dataset"]["content_sha256"] == taken.material.dataset_hash
    assert "note" not in facts
    assert set(facts["files"]) | {"study.json"} == {path.name for path in out.iterdir()}
    for name, sha256 in facts["files"].items():
        assert hashlib.sha256((out / name).read_bytes()).hexdigest() == sha256


def test_neither_a_token_nor_the_completion_code_nor_a_place_on_the_machine_leaves(study, store, study_file, tmp_path):
    tokens = store.issue_tokens(2)
    rater_id = store.rater(tokens[0]).rater_id
    store.begin(rater_id, now=NOW)
    store.finish(rater_id, now=answer_all(store, rater_id, NOW))
    with store._database.reading() as connection:
        secret = connection.execute("SELECT value FROM facts WHERE name = 'secret'").fetchone()[0]
    for content in export_files(store).values():
        for private in (*tokens, secret, study.completion_code, str(tmp_path)):
            assert private.encode() not in content


def test_the_same_database_gives_the_same_bytes(taken):
    assert export_files(taken) == export_files(taken)
    assert list(export_files(taken))[-1] == "study.json"


def test_the_choices_are_what_agreement_reads(taken, study_file, published_data, tmp_path):
    out = tmp_path / "out"
    export(study_file, out)
    choices = read_choices([out / "choices.jsonl"])
    assert {choice.kind for choice in choices} == {"human"}
    assert Counter(choice.choice for choice in choices) == {"chosen": 3, "rejected": 3}
    run_agreement(published_data, [str(out / "choices.jsonl")], tmp_path / "results", limit=None)
    (result,) = (read_result(path) for path in (tmp_path / "results").glob("agreement-*.json"))
    assert result.settings["rated_pairs_unknown"] == 0
    (ratings,) = (tmp_path / "results" / name for name in result.files if name.endswith("ratings.parquet"))
    assert sum(row["annotator"].startswith("human rater") for row in read_table(ratings)) == 6


def test_exporting_again_replaces_what_was_there(store, study_file, tmp_path):
    out = tmp_path / "out"
    export(study_file, out)
    before = (out / "answers.parquet").read_bytes()
    take_part(store, 1)
    assert export(study_file, out).startswith("4 answers of 1 raters")
    assert (out / "answers.parquet").read_bytes() != before


def other_title(study_file: Path) -> Path:
    path = study_file.with_name("OTHER.yaml")
    path.write_text(study_file.read_text(encoding="utf-8").replace("A small study", "Another"), encoding="utf-8")
    return path


@pytest.mark.parametrize("what", ["other study", "other files", "a file", "simulated"])
def test_a_folder_that_holds_something_else_is_left_alone(what, study, store, material, study_file, tmp_path):
    out = tmp_path / "out"
    if what == "other study":
        other = other_title(study_file)
        open_store(other.with_suffix(".sqlite"), replace(study, title="Another"), lambda: material).close()
        export(other, out)
    elif what == "simulated":
        path = study_file.with_suffix(".simulated.sqlite")
        open_store(path, study, lambda: material, "simulated").close()
        export(study_file, out, simulated=True)
    elif what == "a file":
        out.write_text("mine", encoding="utf-8")
    else:
        out.mkdir()
        (out / "answers.parquet").write_text("mine", encoding="utf-8")
    kept = {path: path.read_bytes() for path in (out.iterdir() if out.is_dir() else [out])}
    with pytest.raises(InputError, match=r"new or empty|another place"):
        export(study_file, out)
    assert {path: path.read_bytes() for path in (out.iterdir() if out.is_dir() else [out])} == kept


def test_a_study_that_has_not_begun(study_file, tmp_path):
    with pytest.raises(InputError, match="There is no database"):
        export(study_file, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_tables_without_a_single_answer_are_tables(store, study_file, tmp_path):
    import pyarrow.parquet

    export(study_file, tmp_path / "out")
    for name in ("answers", "judgements"):
        table = pyarrow.parquet.read_table(tmp_path / "out" / f"{name}.parquet")
        assert table.num_rows == 0
        assert table.num_columns > 5


def test_only_the_first_raters_of_a_persona_count(store):
    ids = take_part(store, 4)
    assert {row["judge"] for row in tables_of(store)["judgements"]} == {f"human:{rater_id}" for rater_id in ids}
    assert all(row["reason"].startswith(REASON) for row in tables_of(store)["judgements"])
