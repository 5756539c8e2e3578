"""The authors' columns in, a build's folder out: every row is a pair or in the ledger, and the splits are ours."""

import csv
import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from builder.errors import InputError
from builder.imports.authors import import_authors
from builder.imports.persona_text import parse_persona
from builder.tables import read_table

SUBJECTS = (
    *(
        "taxes",
        "zoos",
        "trains",
        "exams",
        "opera",
        "fishing",
        "bread",
        "robots",
        "chess",
        "tattoos",
        "museums",
        "gardens",
    ),
    *(
        "football",
        "poetry",
        "debt",
        "milk",
        "bicycles",
        "hotels",
        "summer",
        "islands",
        "shoes",
        "maps",
        "bees",
        "glass",
    ),
)
JOBS = ("Nurse", "Baker", "Pilot", "Farmer", "Lawyer", "Painter", "Driver", "Teacher")
Rows = list[dict[str, Any]]


def persona_text(number: int) -> str:
    """Lines as the release has them; no two of these are near-clones."""
    return "\n".join(
        [
            f"age: {20 + number * 7}",
            f"sex: {'Female' if number % 2 else 'Male'}",
            f"race: {('White', 'Asian', 'Black')[number % 3]}",
            f"education: Grade {number}",
            f"employment status: {JOBS[(number * 3) % 8]} status",
            f"class of worker: class {number}",
            f"occupation category: {JOBS[number % 8]}",
            f"income: {10_000 * (number + 1)}",
            f"marital status: status {number}",
            f"household type: type {number}",
            f"citizenship: citizen {number}",
            "veteran status: Not applicable",
            "disability: nan",
            "big five scores: Openness: High, Conscientiousness: Low, Extraversion: Average, Agreeableness: Extremely High, "
            "Neuroticism: Extremely Low",
            "favourite colour: green",
        ]
    )


def question(number: int) -> str:
    return f"What should a country do about {SUBJECTS[number]} and {SUBJECTS[-1 - number]}?"


def row(persona: int, prompt: int, kind: str, **changes: Any) -> dict[str, Any]:
    return {
        "persona": persona_text(persona),
        "instruction": question(prompt),
        "original": f"There are many views on {SUBJECTS[prompt]}, and each of them has something to be said for it.",
        "data": f"Leave {SUBJECTS[prompt]} alone, as person {persona} would.",
        "critique": f"EVALUATION: too long for {persona}.",
        "question type": kind,
    } | changes


def released(personas: int = 6) -> Rows:
    """Six train and two test questions a persona; of the 12 questions the last three are always test."""
    return [
        row(p, q, "test" if q >= 9 else "train")
        for p in range(personas)
        for q in [*((p + n) % 9 for n in range(6)), 9 + p % 3, 9 + (p + 1) % 3]
    ]


def write(path: Path, rows: Rows) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def ledger(folder: Path) -> dict[str, str]:
    """Row -> reason."""
    return {e["item"]: e["reason"] for e in json.loads((folder / "ledger" / "pairs.json").read_text(encoding="utf-8"))}


def test_every_column_goes_where_it_belongs(tmp_path: Path) -> None:
    rows = released()
    build = import_authors(write(tmp_path / "released.jsonl", rows), tmp_path / "run", seed=1)
    assert {name: (stage["in"], stage["out"]) for name, stage in build["stages"].items()} == {
        "personas": (6, 6), "prompts": (12, 12), "pairs": (48, 48),
    }  # fmt: skip
    personas = read_table(tmp_path / "run", "personas")
    assert [p["persona_id"] for p in personas] == [f"p0000{n}" for n in range(6)]
    assert [p["profile"] for p in personas] == [persona_text(n) for n in range(6)]
    first = personas[0]
    assert (first["age"], first["income"], first["sex"], first["is_adult"]) == (20, 10_000, "Male", True)
    assert first["big_five_scores"]["agreeableness"] == "Extremely High"
    reasons = {name: first["null_reasons"][name] for name in ("age", "disability", "veteran_status", "religion")}
    assert reasons == {"age": None, "disability": "missing", "veteran_status": "not_applicable", "religion": "missing"}
    assert (first["provenance"]["age"], first["provenance"]["religion"]) == ("imported", None)
    assert build["stages"]["personas"]["unknown_keys"] == {"favourite colour": 6}

    prompts = {p["question"]: p for p in read_table(tmp_path / "run", "prompts")}
    assert [p["prompt_id"] for p in prompts.values()] == [f"q000{n:02d}" for n in range(12)]
    assert {prompts[question(q)]["pool"] for q in range(9)} == {"train"}
    assert {prompts[question(q)]["pool"] for q in range(9, 12)} == {"heldout"}

    pairs = {(r["prompt"][0]["content"], r["prompt"][1]["content"]): r for r in read_table(tmp_path / "run", "dpf")}
    group = {p["persona_id"]: p["group"] for p in personas}
    for given in rows:
        pair = pairs[given["persona"], given["instruction"]]
        assert pair["chosen"] == [{"role": "assistant", "content": given["data"]}]
        assert pair["rejected"] == [{"role": "assistant", "content": given["original"]}]
        assert pair["critique"] == given["critique"]
        assert not pair["length_violation"]
        assert pair["judge_verdict"] == "unscored"
        assert pair["wrong_persona_id"] != pair["persona_id"]
        assert group[pair["wrong_persona_id"]] == pair["persona_group"]
    assert pairs[rows[0]["persona"], rows[0]["instruction"]]["pair_id"] == "dpf/p00000/q00000"


def test_two_thirds_of_the_train_questions_are_trained_on_and_unseen_personas_never(tmp_path: Path) -> None:
    build = import_authors(write(tmp_path / "released.jsonl", released()), tmp_path / "run", seed=1, seen=4)
    group = {p["persona_id"]: p["group"] for p in read_table(tmp_path / "run", "personas")}
    assert Counter(group.values()) == {"seen": 4, "unseen": 2}
    splits: dict[str, Counter[str]] = defaultdict(Counter)
    for pair in read_table(tmp_path / "run", "dpf"):
        splits[pair["persona_id"]][pair["split"]] += 1
    for persona, counts in splits.items():
        trained = "train" if group[persona] == "seen" else "support"
        assert counts == {trained: 4, "seen_test": 2, "heldout_test": 2}
    pairs = build["recipe"]["pairs"]
    assert (pairs["train"], pairs["seen_test"], pairs["heldout_test"]) == (4, 2, 2)


def test_the_seed_decides_the_splits_and_other_personas_do_not(tmp_path: Path) -> None:
    def parts(rows: Rows, seed: int, name: str) -> dict[str, str]:
        import_authors(write(tmp_path / "released.jsonl", rows), tmp_path / name, seed=seed, seen=6)
        return {r["pair_id"]: r["split"] for r in read_table(tmp_path / name, "dpf") if r["persona_id"] < "p00006"}

    expected = parts(released(), 1, "a")
    assert parts(released(8), 1, "b").keys() == expected.keys()
    # Groups are drawn anew with more personas; what is held back of a persona's questions is not.
    tested = [{i for i, split in s.items() if split == "seen_test"} for s in (expected, parts(released(8), 1, "c"))]
    assert tested[0] == tested[1]
    assert parts(released(), 2, "d") != expected


def test_every_bad_row_is_in_the_ledger_with_its_reason(tmp_path: Path) -> None:
    good = released()
    bad: Rows = [
        {key: value for key, value in row(0, 6, "train").items() if key != "data"},
        row(0, 6, "train", original="  "),
        row(0, 6, "train", **{"question type": "maybe"}),
        row(0, 6, "train", data="Same.", original="Same."),
        row(0, 0, "train"),  # stands there already
        row(0, 1, "train", data="Another answer."),
        row(7, 0, "train"),  # persona 7: one question of both types, and nothing else
        row(7, 0, "test"),
        row(1, 0, "test"),  # for everybody else question 0 is train
    ]
    path = write(tmp_path / "released.jsonl", [*good, *bad])
    path.write_text(path.read_text(encoding="utf-8") + "no json\n", encoding="utf-8")
    build = import_authors(path, tmp_path / "run", seed=1)
    n = len(good)
    assert ledger(tmp_path / "run") == {
        f"row {n + 1}": "missing_columns",
        f"row {n + 2}": "empty_text",
        f"row {n + 3}": "unknown_question_type",
        f"row {n + 4}": "identical_texts",
        f"row {n + 5}": "duplicate",
        f"row {n + 6}": "second_pair",
        f"row {n + 7}": "two_question_types",
        f"row {n + 8}": "two_question_types",
        f"row {n + 9}": "question_in_both_pools",
        f"row {n + 10}": "unreadable",
    }
    stage = build["stages"]["pairs"]
    assert (stage["in"], stage["out"]) == (n + 10, n)
    assert stage["in"] == stage["out"] + sum(stage["dropped"].values())
    assert build["stages"]["personas"]["dropped"] == {"no_usable_row": 1}
    assert len(read_table(tmp_path / "run", "personas")) == 6


def test_a_held_out_question_that_resembles_a_train_question_is_not_held_out(tmp_path: Path) -> None:
    twin = question(0).replace("What should", "So what should")
    rows = [*released(), *(row(p, 0, "test", instruction=twin) for p in range(6))]
    build = import_authors(write(tmp_path / "released.jsonl", rows), tmp_path / "run", seed=1, seen=6)
    prompts = {p["question"]: p for p in read_table(tmp_path / "run", "prompts")}
    assert prompts[twin]["pool"] == "train"
    assert build["stages"]["prompts"]["moved_to_train_pool"] == [prompts[twin]["prompt_id"]]
    for seed in range(1, 5):
        folder = tmp_path / f"seed {seed}"
        import_authors(tmp_path / "released.jsonl", folder, seed=seed, seen=6)
        split = {(r["persona_id"], r["prompt_id"]): r["split"] for r in read_table(folder, "dpf")}
        first, second = prompts[twin]["prompt_id"], prompts[question(0)]["prompt_id"]
        asked_both = [persona for persona, prompt in split if prompt == first and (persona, second) in split]
        assert asked_both
        # Else one of two questions that are nearly the same would be trained on and the other tested.
        assert all(split[persona, first] == split[persona, second] for persona in asked_both)


def test_near_clones_stay_in_one_group(tmp_path: Path) -> None:
    def cloned(number: int) -> str:
        return persona_text(number).replace(f"citizen {number}", f"citizen {number} too")

    rows = released(8)
    rows += [r | {"persona": cloned(p)} for p in range(8) for r in released(8) if r["persona"] == persona_text(p)]
    import_authors(write(tmp_path / "released.jsonl", rows), tmp_path / "run", seed=3, seen=8)
    group = {p["profile"]: p["group"] for p in read_table(tmp_path / "run", "personas")}
    assert Counter(group.values()) == {"seen": 8, "unseen": 8}
    assert all(group[persona_text(p)] == group[cloned(p)] for p in range(8))


def test_parquet_csv_and_other_column_names_give_the_same_tables(tmp_path: Path) -> None:
    rows = released()
    import_authors(write(tmp_path / "released.jsonl", rows), tmp_path / "jsonl", seed=1)
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "released.parquet")
    renamed = [{key.replace(" ", "_"): value for key, value in row.items()} | {"extra": 1} for row in rows]
    with (tmp_path / "released.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(renamed[0]))
        writer.writeheader()
        writer.writerows(renamed)
    for form in ("parquet", "csv"):
        import_authors(tmp_path / f"released.{form}", tmp_path / form, seed=1)
        for table in ("personas", "dpf"):
            assert read_table(tmp_path / form, table) == read_table(tmp_path / "jsonl", table), form


def test_buckets_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "released.jsonl", released(8)[::-1])
    import_authors(path, tmp_path / "whole", seed=1)
    monkeypatch.setattr("builder.imports.authors.PERSONAS_PER_BUCKET", 2)
    monkeypatch.setattr("builder.imports.authors.ROWS_PER_FLUSH", 3)
    import_authors(path, tmp_path / "parts", seed=1)
    pairs = read_table(tmp_path / "parts", "dpf")
    assert pairs == read_table(tmp_path / "whole", "dpf")
    assert [r["pair_id"] for r in pairs] == sorted(r["pair_id"] for r in pairs)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["parts", "released.jsonl", "whole"]


def test_the_build_says_whose_it_is_and_that_it_is_not_for_publishing(tmp_path: Path) -> None:
    path = write(tmp_path / "released.jsonl", released())
    build = import_authors(path, tmp_path / "run", seed=1)
    assert json.loads((tmp_path / "run" / "build.json").read_text(encoding="utf-8")) == build
    assert build["licence"] == "CC-BY-NC-SA-4.0 (as tagged by its authors)"
    assert "for your own use" in build["not_for_publishing"]
    assert {p["licence"] for p in read_table(tmp_path / "run", "prompts")} == {build["licence"]}
    assert str(tmp_path) not in json.dumps(build)
    again = import_authors(path, tmp_path / "run", seed=1)
    assert again["fingerprint"] == build["fingerprint"]
    with pytest.raises(InputError, match="belongs to another build"):
        import_authors(path, tmp_path / "run", seed=2)


def test_what_cannot_be_imported_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with pytest.raises(InputError, match="has no column data, question type; it has persona"):
        import_authors(
            write(tmp_path / "a.jsonl", [dict.fromkeys(("persona", "instruction", "original", "critique"), "x")]),
            folder,
        )
    with pytest.raises(InputError, match="has no usable row \\(empty_text 1\\)"):
        import_authors(write(tmp_path / "b.jsonl", [row(0, 0, "train", data="")]), folder)
    with pytest.raises(InputError, match="seen is 9, of 6 imported personas"):
        import_authors(write(tmp_path / "c.jsonl", released()), folder, seen=9)
    with pytest.raises(InputError, match=r"ends in \.json"):
        import_authors(write(tmp_path / "d.json", released()), folder)
    assert not folder.exists()


def test_a_hub_dataset_is_read_at_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = tmp_path / "snapshots" / "0123abc"
    (snapshot / "data").mkdir(parents=True)
    rows = released()
    for part in range(2):
        parquet.write_table(
            pa.Table.from_pylist(rows[part * 24 : part * 24 + 24]), snapshot / "data" / f"train-{part}.parquet"
        )
    asked = {}

    def download(name: str, **options: Any) -> str:
        asked.update(options, name=name)
        return str(snapshot)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    build = import_authors("hub:org/pairs@v1", tmp_path / "run", seed=1)
    assert (asked["name"], asked["revision"], asked["repo_type"]) == ("org/pairs", "v1", "dataset")
    assert build["imported"]["source"] == "hub:org/pairs@0123abc"
    assert build["stages"]["pairs"]["out"] == 48

    with pytest.raises(InputError, match="names no revision"):
        import_authors("hub:org/pairs", tmp_path / "other")

    from huggingface_hub.errors import LocalEntryNotFoundError

    def fail(name: str, **options: Any) -> str:
        raise LocalEntryNotFoundError("no connection\nmore")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    with pytest.raises(InputError, match="cannot be had from the Hub \\(no connection\\)"):
        import_authors("hub:org/pairs@v1", tmp_path / "other")


def test_values_are_read_as_the_paper_and_our_profiles_print_them() -> None:
    parsed = parse_persona(
        "About the person asking:\nAge: 45 years\nIncome: -$5,000 a year (a loss)\nAbility to speak English: Very well\n"
        "religion: None\nMarital Status: N/A\ndetailed job description: Teaches children\nin a village school\nAge: 50\n"
        "big five scores: Openness: Enormous\nvision difficulty: nan"
    )
    values, reasons = parsed.attributes.values, parsed.attributes.reasons
    assert (values["age"], values["income"], values["ability_to_speak_english"]) == (45, -5000, "Very well")
    assert values["detailed_job_description"] == "Teaches children in a village school"
    assert (reasons["religion"], reasons["marital_status"], reasons["vision_difficulty"]) == (
        "none",
        "not_applicable",
        "missing",
    )
    assert values["big_five_scores"] is None
    assert parsed.unreadable == ["big five scores"]
    for text, income in (
        ("178900", 178_900),
        ("$42,000 a year", 42_000),
        ("No personal income", 0),
        ("12.6", 13),
        ("a lot", None),
    ):
        assert parse_persona(f"income: {text}").attributes.values["income"] == income


def test_audit_and_publish_take_an_import_as_any_other_build(tmp_path: Path) -> None:
    from datasets import load_dataset

    from builder.audit.audit import audit_build
    from builder.publishing.publish import publish

    import_authors(write(tmp_path / "released.jsonl", released(8)), tmp_path / "run", seed=1)
    assert not [check["name"] for check in audit_build(tmp_path / "run") if check["verdict"] == "fail"]
    build = json.loads((tmp_path / "run" / "build.json").read_text(encoding="utf-8"))
    del build["not_for_publishing"]
    (tmp_path / "run" / "build.json").write_text(json.dumps(build), encoding="utf-8")
    publish(tmp_path / "run", tmp_path / "published")
    assert load_dataset(str(tmp_path / "published"), "dpf", split="heldout_test").num_rows == 16
