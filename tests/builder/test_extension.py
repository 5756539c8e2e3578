"""`persona build --extend`: what a published version holds stays as it is, byte for byte and id for id, and is not asked for again."""

import subprocess
import sys
from pathlib import Path

import pytest
from datasets import load_dataset

from builder.audit.audit import audit_build, failures
from builder.errors import InputError
from builder.llm.scripted import ScriptedClient, scripted_reply
from builder.pipeline import run_build
from builder.publish import publish
from tests.builder.conftest import SCRIPTED, TEMPLATES, scripted_recipe
from tests.hub_server import environment, hub_server

ROOT = Path(__file__).parents[2]
CONFIGS = "configs=[dpf,dpf_matched,contrast,judgements]"
LARGER = ("personas.count=17", "personas.seen=11", "prompts.count=20", "prompts.heldout=5")
PAIRS = ("dpf", "dpf_matched", "contrast")


@pytest.fixture(scope="module")
def version_one(tmp_path_factory):
    folder = tmp_path_factory.mktemp("version_one")
    run_build(scripted_recipe(CONFIGS), folder / "run")
    publish(folder / "run", folder / "published", "1.0.0")
    return folder / "published"


@pytest.fixture(scope="module")
def extended(version_one, tmp_path_factory):
    """The extended build, and every request that its models got."""
    asked = []

    def reply(request):
        asked.append(request)
        return scripted_reply(request)

    clients = {role: ScriptedClient("HuggingFaceTB/SmolLM2-135M-Instruct", reply) for role in ("generator", "critic")}
    run = tmp_path_factory.mktemp("extended") / "run"
    return run_build(scripted_recipe(CONFIGS, *LARGER), run, extend=str(version_one), clients=clients), asked


def published_rows(folder: Path, config: str) -> dict[str, dict]:
    key = "pair_id" if config in PAIRS else "persona_id" if config == "personas" else "prompt_id"
    return {
        row[key]: {"split": split, **row} if config in PAIRS else row
        for split, table in load_dataset(str(folder), config).items()
        for row in table
    }


@pytest.mark.parametrize("config", ["personas", "prompts", *PAIRS])
def test_every_earlier_row_is_there_unchanged_and_new_ones_beside_it(version_one, extended, tmp_path, config):
    result, _ = extended
    publish(result.folder, tmp_path / "published", "1.1.0")
    old, new = published_rows(version_one, config), published_rows(tmp_path / "published", config)
    assert {key: new[key] for key in old} == old
    assert len(new) > len(old)


def test_the_sizes_are_those_of_the_larger_recipe(extended):
    result, _ = extended
    personas, prompts = result.rows("personas"), result.rows("prompts")
    assert [p["persona_id"] for p in personas] == [f"p{i:05d}" for i in range(17)]
    assert sum(p["group"] == "seen" for p in personas) == 11
    assert (len(prompts), sum(p["pool"] == "heldout" for p in prompts)) == (20, 5)
    assert len({p["prompt_id"] for p in prompts}) == 20
    stage = result.build["stages"]["pairs"]
    assert stage["in"] == 5 * 12  # 12 pairs for each of five new personas, and none for the old
    assert stage["in"] == stage["out"] + sum(stage["dropped"].values())
    assert stage["earlier_rows"] + stage["out"] == len(result.rows("dpf"))


def test_nothing_old_is_asked_again(version_one, extended):
    result, asked = extended
    old_questions = {row["question"] for row in published_rows(version_one, "prompts").values()}
    old_profiles = {row["profile"] for row in published_rows(version_one, "personas").values()}
    answered = {row["prompt_id"] for row in published_rows(version_one, "dpf").values()}
    old_questions -= {p["question"] for p in result.rows("prompts") if p["prompt_id"] not in answered}
    texts = [" ".join(message["content"] for message in request.messages) for request in asked]
    base = [t for t, request in zip(texts, asked, strict=True) if request.template.startswith("answer@")]
    critiques = [t for t, request in zip(texts, asked, strict=True) if request.template.startswith("critique")]
    assert base
    assert not any(question in text for text in base for question in old_questions)
    assert critiques
    assert not any(profile in text for text in critiques for profile in old_profiles)


def test_the_extended_build_proves_its_splits(extended):
    checks = audit_build(extended[0].folder)
    assert not failures([check for check in checks if check["proof"]])


def test_a_second_extension_replays_and_a_build_without_it_is_another(version_one, extended):
    result, _ = extended
    recipe = scripted_recipe(CONFIGS, *LARGER)
    assert run_build(recipe, result.folder, extend=str(version_one)).build["usage"]["calls"] == 0
    with pytest.raises(InputError, match="content of extends"):
        run_build(recipe, result.folder)


def test_more_pairs_for_the_personas_that_are_there(version_one, tmp_path):
    recipe = scripted_recipe(CONFIGS, "pairs.train=7", "pairs.heldout_test=4")
    result = run_build(recipe, tmp_path / "run", extend=str(version_one))
    assert result.build["stages"]["pairs"]["in"] == 12 * 2
    rows = result.rows("dpf")
    assert len({(r["persona_id"], r["prompt_id"]) for r in rows}) == len(rows)
    old = published_rows(version_one, "dpf")
    assert {r["pair_id"] for r in rows} > set(old)
    assert not failures([check for check in audit_build(result.folder) if check["proof"]])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("seed=7",), r"was drawn otherwise: seed \(20250101 there, 7 now\)"),
        (("census.adults_only=false",), "census.adults_only"),
        (("personas.count=8", "personas.seen=4"), "personas.count is 8, but published has 12"),
        (("prompts.count=14",), "prompts.count is 14, but published has 16"),
        (("pairs.train=5",), r"pairs\.train is 5, but published has 6"),
        (("configs=[dpf]",), "has the config"),
    ],
)
def test_what_is_no_extension_is_refused(version_one, tmp_path, settings, message):
    with pytest.raises(InputError, match=message):
        run_build(scripted_recipe(CONFIGS, *settings), tmp_path / "run", extend=str(version_one))


def test_a_build_folder_is_no_published_version(extended, tmp_path):
    with pytest.raises(InputError, match="is no published version"):
        run_build(scripted_recipe(CONFIGS, *LARGER), tmp_path / "run", extend=str(extended[0].folder))


def test_a_version_on_the_hub_is_extended_by_its_tag(version_one, tmp_path):
    settings = [f"--set={s}" for s in (*SCRIPTED, *TEMPLATES, CONFIGS, *LARGER)]
    with hub_server() as hub:
        hub.commit("org/personas", version_one, tags=("v1.0.0",))

        def build(source, run):
            return subprocess.run(
                [sys.executable, str(ROOT / "persona.py"), "build", "demo", "--out", run, "--extend", source, *settings],
                **{"cwd": ROOT, "capture_output": True, "text": True, "check": False},
                env=environment(hub, tmp_path),
            )

        done = build("hub:org/personas@v1.0.0", tmp_path / "run")
        assert done.returncode == 0, done.stderr[-2000:]
        absent = build("hub:org/personas@v2.0.0", tmp_path / "other")
        unpinned = build("hub:org/personas", tmp_path / "third")
    assert absent.returncode == unpinned.returncode == 2
    assert "cannot be had from the Hub" in absent.stderr
    assert "name a version" in unpinned.stderr
    local = run_build(scripted_recipe(CONFIGS, *LARGER), tmp_path / "local", extend=str(version_one))
    for table in ("personas", "dpf", "dpf_matched", "contrast"):
        assert (tmp_path / "run" / "tables" / f"{table}.parquet").read_bytes() == (
            local.folder / "tables" / f"{table}.parquet"
        ).read_bytes()
