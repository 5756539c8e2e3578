"""Whole builds: resume, kill, ownership of folders, publishing, loading back."""

import hashlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from datasets import load_dataset

from builder.audit.audit import audit_build
from builder.errors import BudgetStop, InputError
from builder.judge.judge_file import load_judge
from builder.llm.budget import Budget
from builder.llm.messages import Answer, Failure
from builder.llm.model_recipe import ModelRecipe
from builder.llm.scripted import ScriptedClient
from builder.pipeline import run_build
from builder.publishing.publish import publish
from builder.randomness import rng_for
from builder.recipe import ROLES, load_recipe
from builder.schema import ATTRIBUTES, features, mirror_defects
from tests.builder.conftest import SCRIPTED, TEMPLATES, scripted_recipe
from tests.openai_server import openai_server
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]


def file_hashes(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def published(scripted_build, tmp_path_factory):
    folder = tmp_path_factory.mktemp("published") / "data"
    publish(scripted_build.folder, folder)
    return folder


def test_counts_add_up_at_every_stage(scripted_build):
    for name, stage in scripted_build.build["stages"].items():
        assert stage["in"] == stage["out"] + sum(stage["dropped"].values()), name
        assert stage["seconds"] >= 0
    usage = scripted_build.build["usage"]
    # The likelihood judge's scores of a text serve both pair stages, and each counts what it consists of.
    assert 0 < usage["calls"] <= usage["recorded"]["responses"]
    assert json.loads((scripted_build.folder / "build.json").read_text()) == scripted_build.build


def test_a_second_run_makes_no_call_and_the_same_bytes(scripted_build, tmp_path):
    recipe = scripted_recipe()
    first = run_build(recipe, tmp_path / "b")
    before = file_hashes(tmp_path / "b" / "tables")
    again = run_build(recipe, tmp_path / "b")
    assert again.build["usage"]["calls"] == 0
    assert again.build["usage"]["hits"] == first.build["usage"]["calls"] + first.build["usage"]["hits"]
    assert file_hashes(tmp_path / "b" / "tables") == before == file_hashes(scripted_build.folder / "tables")


def test_a_stop_by_budget_goes_on_where_it_stopped(scripted_build, tmp_path):
    total = scripted_build.build["usage"]["calls"]
    with pytest.raises(BudgetStop):
        run_build(scripted_recipe(), tmp_path / "b", budget=Budget(max_calls=100))
    assert json.loads((tmp_path / "b" / "build.json").read_text())["usage"]["calls"] == 100
    again = run_build(scripted_recipe(), tmp_path / "b")
    assert again.build["usage"]["calls"] == total - 100
    assert file_hashes(tmp_path / "b" / "tables") == file_hashes(scripted_build.folder / "tables")


def test_a_dry_run_counts_what_the_run_then_makes_and_writes_nothing(scripted_build, tmp_path):
    dry = run_build(scripted_recipe(), tmp_path / "b", dry_run=True)
    assert not (tmp_path / "b").exists()
    # The stand-in is the scripted client itself, so here the count is exact.
    assert dry.build["usage"]["calls"] == scripted_build.build["usage"]["calls"]


def test_stages_can_be_built_one_after_the_other(scripted_build, tmp_path):
    for until in ("personas", "prompts", "pairs", "contrast"):
        result = run_build(scripted_recipe(), tmp_path / "b", until=until)
    assert result.build["usage"]["calls"] < scripted_build.build["usage"]["calls"]
    assert file_hashes(tmp_path / "b" / "tables") == file_hashes(scripted_build.folder / "tables")
    with pytest.raises(InputError, match="the stages are"):
        run_build(scripted_recipe(), tmp_path / "b", until="publish")


def test_a_folder_of_another_recipe_is_refused_naming_the_keys(tmp_path):
    run_build(scripted_recipe(), tmp_path / "b", until="personas")
    before = file_hashes(tmp_path / "b")
    with pytest.raises(InputError, match=r"personas\.count: 12 there, 13 now; seed: 20250101 there, 3 now"):
        run_build(scripted_recipe("seed=3", "personas.count=13"), tmp_path / "b")
    assert file_hashes(tmp_path / "b") == before


def test_a_folder_built_from_other_files_is_refused(tmp_path):
    questions = tmp_path / "q.jsonl"
    lines = [{"question": f"Is it right to do thing number {i} on a holiday?"} for i in "abcdefghijklmnopqrstuvwx"]
    questions.write_text("\n".join(map(json.dumps, lines)))
    recipe = scripted_recipe(f"prompts.source={questions}")
    run_build(recipe, tmp_path / "b", until="personas")
    questions.write_text("\n".join(map(json.dumps, lines[1:])))
    with pytest.raises(InputError, match=r"content of prompts\.source"):
        run_build(recipe, tmp_path / "b")


def test_a_folder_that_is_no_build_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(InputError, match=r"thesis\.tex but no build\.json"):
        run_build(scripted_recipe(), tmp_path)
    with pytest.raises(InputError, match="is a file"):
        run_build(scripted_recipe(), tmp_path / "thesis.tex")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["thesis.tex"]


def test_two_builds_in_one_folder_do_not_meet(tmp_path):
    import fcntl

    (tmp_path / "b").mkdir()
    with (tmp_path / "b" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="Another build is running"):
            run_build(scripted_recipe(), tmp_path / "b")


BUILD = [sys.executable, str(ROOT / "persona.py"), "build", "demo", "--out"]
SETTINGS = [f"--set={s}" for s in (*SCRIPTED, *TEMPLATES)]


def kill_after(folder: Path, endpoint, answers: int, arguments: list[str]) -> None:
    """Start a build and SIGKILL it once the endpoint has seen so many requests."""
    seen = len(endpoint.requests)
    process = subprocess.Popen(
        [*BUILD, str(folder), *arguments], stderr=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    )
    try:
        wait_until(
            lambda: len(endpoint.requests) >= seen + answers or process.poll() is not None,
            600,
            "the moment of the kill",
        )
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()


def recorded_answers(folder: Path) -> int:
    with sqlite3.connect(folder / "responses.sqlite") as connection:
        return connection.execute("SELECT COUNT(*) FROM answers").fetchone()[0]


@pytest.mark.parametrize(
    "kills", [2, pytest.param(5, marks=pytest.mark.thorough), pytest.param(50, marks=pytest.mark.slow)]
)
def test_killed_builds_lose_nothing_pay_nothing_twice_and_end_the_same(tmp_path, kills):
    """An endpoint counts the calls; SIGKILL at random moments of one build, then a run to the end."""
    at_once = 4
    with openai_server() as endpoint:
        roles = ("generator", "critic", "reviser", "judge")
        remote = [
            f"--set=models.{r}.{k}={v}"
            for r in roles
            for k, v in {
                "provider": "openai",
                "model": "test-model",
                "base_url": endpoint.base_url,
                "max_concurrency": at_once,
            }.items()
        ]
        arguments = [*(f"--set={s}" for s in (*TEMPLATES, "judge=roleplay", "personas.count=6")), *remote]
        whole = subprocess.run(
            [*BUILD, str(tmp_path / "whole"), *arguments], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert whole.returncode == 0, whole.stderr
        needed = len(endpoint.requests)
        endpoint.requests.clear()
        # So many more answers from each kill to the next; the last comes before the end.
        moments = np.sort(rng_for(1, "kills", str(kills)).integers(1, needed - 2 * at_once, kills))
        for answers in np.diff(moments, prepend=0).tolist():
            kill_after(tmp_path / "killed", endpoint, max(1, answers), arguments)
        recorded = recorded_answers(tmp_path / "killed")
        assert recorded >= len(endpoint.requests) - kills * at_once
        last = subprocess.run(
            [*BUILD, str(tmp_path / "killed"), *arguments], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert last.returncode == 0, last.stderr
    build = json.loads((tmp_path / "killed" / "build.json").read_text())
    assert build["usage"]["calls"] == needed - recorded
    # Only calls in flight at a kill were made twice.
    assert needed <= len(endpoint.requests) <= needed + kills * at_once
    assert file_hashes(tmp_path / "killed" / "tables") == file_hashes(tmp_path / "whole" / "tables")


def test_a_passing_fault_leaves_a_gap_that_the_next_run_fills(tmp_path):
    """Three 400s in the middle: the items are missing, nothing is answered in their place, and a second run has the whole build."""
    with openai_server() as endpoint:
        served = {"provider": "openai", "model": "test-model", "base_url": endpoint.base_url, "max_concurrency": 1}
        settings = [f"models.critic.{key}={value}" for key, value in served.items()]
        recipe = scripted_recipe(*settings)
        whole = run_build(recipe, tmp_path / "whole")
        well = endpoint.answer
        endpoint.requests.clear()
        endpoint.answer = lambda body, number: (400, {"error": {}}, {}) if number in (5, 50, 51) else well(body, number)
        gaps = run_build(recipe, tmp_path / "gaps")
        assert gaps.build["stages"]["pairs"]["dropped"] == {"critique_endpoint_error": 3}
        endpoint.answer = well
        filled = run_build(recipe, tmp_path / "gaps")
    untimed = {"seconds": 0, "assembly_seconds": 0}
    assert filled.build["stages"]["pairs"] | untimed == whole.build["stages"]["pairs"] | untimed
    assert file_hashes(tmp_path / "gaps" / "tables") == file_hashes(tmp_path / "whole" / "tables")
    assert filled.build["usage"]["recorded"] == whole.build["usage"]["recorded"]


def test_a_cost_cap_without_prices_is_refused(tmp_path):
    settings = ["models.critic.provider=openai", "models.critic.base_url=http://127.0.0.1:9/v1"]
    with pytest.raises(InputError, match=r"--max-cost needs prices, and models\.critic has none"):
        run_build(scripted_recipe(*settings), tmp_path / "b", budget=Budget(max_cost_usd=5))


def test_the_hash_seed_and_the_order_of_work_change_nothing(scripted_build, tmp_path):
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    done = subprocess.run(
        [*BUILD, str(tmp_path / "b"), *SETTINGS], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert file_hashes(tmp_path / "b" / "tables") == file_hashes(scripted_build.folder / "tables")


def test_the_published_folder_loads_with_its_splits(published, scripted_build):
    dpf = load_dataset(str(published), "dpf")
    assert set(dpf) == {"train", "seen_test", "heldout_test", "support"}
    assert sum(map(len, dpf.values())) == len(scripted_build.rows("dpf"))
    assert load_dataset(str(published)).keys() == dpf.keys()
    for config in ("dpf", "contrast", "personas", "prompts"):
        for split in load_dataset(str(published), config).values():
            assert split.features == features(config)
    assert len(load_dataset(str(published), "dpf", split="train+support")) == len(dpf["train"]) + len(dpf["support"])


@pytest.mark.thorough
def test_a_folder_of_the_same_name_with_other_content_is_read_as_what_it_is(tmp_path):
    for number, personas in enumerate((12, 14)):
        run_build(scripted_recipe(f"personas.count={personas}"), tmp_path / f"b{number}")
        publish(tmp_path / f"b{number}", tmp_path / str(number) / "published")
        assert len(load_dataset(str(tmp_path / str(number) / "published"), "personas", split="train")) == personas


def test_no_unseen_persona_in_train_and_mirrors_never_part(published):
    personas = load_dataset(str(published), "personas", split="train")
    unseen = {p["persona_id"] for p in personas if p["group"] == "unseen"}
    assert unseen
    for config in ("dpf", "contrast"):
        table = load_dataset(str(published), config)
        assert unseen.isdisjoint(table["train"]["persona_id"])
        assert unseen.issuperset(table["support"]["persona_id"])
    for split in load_dataset(str(published), "contrast").values():
        assert mirror_defects(split) == []


def test_a_published_profile_is_the_system_message_of_its_rows(published):
    profiles = {p["persona_id"]: p["profile"] for p in load_dataset(str(published), "personas", split="train")}
    for row in load_dataset(str(published), "dpf", split="seen_test"):
        assert [m["role"] for m in row["prompt"]] == ["system", "user"]
        assert row["prompt"][0]["content"] == profiles[row["persona_id"]]


def test_published_tables_name_no_household_and_no_area(published):
    columns = set(load_dataset(str(published), "personas", split="train").column_names)
    assert set(ATTRIBUTES) <= columns
    assert columns.isdisjoint({"SERIALNO", "PUMA", "serialno", "puma"})
    assert not any(b"SYN0" in f.read_bytes() for f in published.rglob("*") if f.is_file())


def test_publishing_again_gives_the_same_bytes_and_never_overwrites(published, scripted_build, tmp_path):
    before = file_hashes(published)
    publish(scripted_build.folder, published)
    assert file_hashes(published) == before
    publish(scripted_build.folder, tmp_path / "elsewhere")
    assert file_hashes(tmp_path / "elsewhere") == before
    (tmp_path / "elsewhere" / "README.md").write_text("mine")
    with pytest.raises(InputError, match=r"already holds something else \(differing: README\.md\)"):
        publish(scripted_build.folder, tmp_path / "elsewhere")
    assert (tmp_path / "elsewhere" / "README.md").read_text() == "mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["elsewhere"]


def test_published_files_hold_no_machine_path_and_no_time(published, tmp_path):
    for file in published.rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            assert str(tmp_path.parent).encode() not in content
            assert str(Path.home()).encode() + b"/" not in content
            assert b'"seconds"' not in content


def test_an_unfinished_build_is_not_published(tmp_path):
    run_build(scripted_recipe(), tmp_path / "b", until="pairs")
    with pytest.raises(InputError, match="not finished: contrast missing"):
        publish(tmp_path / "b", tmp_path / "p")
    with pytest.raises(InputError, match=r"build\.json does not exist"):
        publish(tmp_path / "nowhere", tmp_path / "p")
    assert not (tmp_path / "p").exists()


def test_a_build_that_fails_its_audit_is_not_published(tmp_path, scripted_build):
    import shutil

    import pyarrow.parquet as parquet

    shutil.copytree(scripted_build.folder, tmp_path / "b")
    path = tmp_path / "b" / "tables" / "contrast.parquet"
    table = parquet.read_table(path)
    parquet.write_table(table.slice(1), path)
    with pytest.raises(InputError, match="fails its audit and is not published: contrast: mirrors"):
        publish(tmp_path / "b", tmp_path / "p")
    assert not (tmp_path / "p").exists()


def test_a_build_in_which_every_pair_failed_says_so_and_is_not_published(tmp_path):
    silent = ScriptedClient(reply=lambda request: "Nothing in any form.")
    result = run_build(scripted_recipe(), tmp_path / "b", clients={"critic": silent})
    assert result.build["stages"]["pairs"]["dropped"] == {"critique_unreadable": 144}
    with pytest.raises(InputError, match=r"no pair in train.*ledger"):
        publish(tmp_path / "b", tmp_path / "p")


def test_all_roles_can_stand_behind_an_endpoint(tmp_path):
    with openai_server() as endpoint:
        served = {"provider": "openai", "model": "test-model", "base_url": endpoint.base_url}
        roles = [role for role in ROLES if role != "second_judge"]
        settings = [f"models.{role}.{key}={value}" for role in roles for key, value in served.items()]
        settings += ["personas.enrichment=lm", "prompts.controversy=lm", "prompts.controversy_threshold=0.1"]
        recipe = load_recipe("small", [*TEMPLATES, *settings])
        result = run_build(recipe, tmp_path / "b")
    assert result.build["judge"]["kind"] == "pairwise"
    assert result.build["stages"]["contrast"]["out"] > 0
    assert {r["judge_verdict"] for r in result.rows("dpf")} <= {"chosen", "rejected", "tie"}


def test_a_build_without_contrast_and_without_unseen_personas(tmp_path):
    result = run_build(scripted_recipe("configs=[dpf]", "personas.seen=12"), tmp_path / "b")
    tables = {path.stem for path in (result.folder / "tables").iterdir()}
    assert tables == {"personas", "persona_records", "prompts", "dpf"}
    publish(tmp_path / "b", tmp_path / "p")
    # A split without rows cannot be loaded by `datasets`, so it is left out.
    assert set(load_dataset(str(tmp_path / "p"), "dpf")) == {"train", "seen_test", "heldout_test"}


def test_the_audit_is_written_with_its_numbers(scripted_build):
    checks = {c["name"]: c for c in audit_build(scripted_build.folder)}
    assert checks["contrast: shorter wins"]["value"] == 0.5
    low, high = checks["dpf: shorter wins"]["low"], checks["dpf: shorter wins"]["high"]
    assert 0 <= low <= checks["dpf: shorter wins"]["value"] <= high <= 1
    assert json.loads((scripted_build.folder / "audit.json").read_text())["checks"] == list(checks.values())


def test_the_judge_of_a_build_is_named_in_every_row(scripted_build):
    label = load_judge(
        "likelihood", ModelRecipe(provider="scripted", model="HuggingFaceTB/SmolLM2-135M-Instruct"), 1
    ).label
    assert {r["judge"] for r in scripted_build.rows("dpf")} == {label}


def test_a_shorter_run_leaves_the_judgements_of_a_whole_one(tmp_path):
    recipe = scripted_recipe("configs=[dpf, contrast, judgements]")
    whole = run_build(recipe, tmp_path / "b")
    before = file_hashes(tmp_path / "b" / "tables")
    assert whole.build["judgements"] == len(whole.rows("judgements")) > 0
    shorter = run_build(recipe, tmp_path / "b", until="prompts")
    assert shorter.build["judgements"] == whole.build["judgements"]
    assert file_hashes(tmp_path / "b" / "tables") == before


def test_a_fault_before_the_pairs_stops_the_build_so_that_no_pair_is_paid_for_twice(tmp_path):
    """A prompt or persona that is still open may change the table, and with it every call that follows."""
    with openai_server() as endpoint:
        served = {"provider": "openai", "model": "test-model", "base_url": endpoint.base_url, "max_concurrency": 1}
        settings = [f"models.classifier.{key}={value}" for key, value in served.items()]
        recipe = scripted_recipe(*settings, "prompts.controversy=lm", "prompts.controversy_threshold=0")
        whole = run_build(recipe, tmp_path / "whole")
        well = endpoint.answer
        endpoint.requests.clear()
        endpoint.answer = lambda body, number: (400, {"error": {}}, {}) if number == 7 else well(body, number)
        with pytest.raises(InputError, match="left 1 questions of stage prompts open"):
            run_build(recipe, tmp_path / "gaps")
        assert not (tmp_path / "gaps" / "tables" / "dpf.parquet").exists()
        endpoint.answer = well
        filled = run_build(recipe, tmp_path / "gaps")
    assert file_hashes(tmp_path / "gaps" / "tables") == file_hashes(tmp_path / "whole" / "tables")
    assert filled.build["usage"]["recorded"] == whole.build["usage"]["recorded"]


def test_stages_made_from_another_table_count_as_not_made(tmp_path):
    """What `--retry-failed` mends in the pairs changes the contrast pairs: until they are made again nothing is published."""
    silent = {"n": 0}

    def sometimes(request):
        silent["n"] += 1
        return "" if silent["n"] % 5 == 0 and not silent.get("well") else "EVALUATION: fine\nSUGGESTIONS: shorter\nDONE"

    class Empty(ScriptedClient):
        def generate(self, requests, keys, wanted, on_reply):
            for index in sorted(wanted):
                text = self._reply(requests[index])
                on_reply([(index, Answer(text) if text else Failure("empty", "no text"))])

    clients = {"critic": Empty(reply=sometimes)}
    recipe = scripted_recipe("pairs.max_retries=0")
    first = run_build(recipe, tmp_path / "b", clients=clients)
    assert first.build["stages"]["pairs"]["dropped"]["critique_empty"] > 0
    silent["well"] = True
    run_build(recipe, tmp_path / "b", until="pairs", retry_failed=True, clients=clients)
    with pytest.raises(InputError, match="not finished: contrast missing"):
        publish(tmp_path / "b", tmp_path / "p")
    run_build(recipe, tmp_path / "b", clients=clients)
    publish(tmp_path / "b", tmp_path / "p")


def test_an_edited_judge_file_is_another_build(tmp_path):
    judge = tmp_path / "mine.yaml"
    judge.write_text("kind: likelihood\ntemperature: 0.1\n")
    recipe = scripted_recipe(f"judge={judge}")
    run_build(recipe, tmp_path / "b", until="pairs")
    judge.write_text("kind: likelihood\ntemperature: 0.2\n")
    with pytest.raises(InputError, match="Differing: judge 0"):
        run_build(recipe, tmp_path / "b")


def test_a_dry_run_in_the_folder_of_another_build_is_refused(scripted_build):
    with pytest.raises(InputError, match=r"belongs to another build\. Differing: seed"):
        run_build(scripted_recipe("seed=7"), scripted_build.folder, dry_run=True)
