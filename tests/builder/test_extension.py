"""`persona build --extend`: what a published version holds stays as it is, byte for byte and id for id, and is not asked for again."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest
from datasets import load_dataset

from builder.audit.audit import audit_build, failures
from builder.errors import InputError
from builder.extension import EarlierVersion, read_earlier, with_earlier
from builder.files import read_json, write_json
from builder.llm.scripted import ScriptedClient, scripted_reply
from builder.llm.weights import EMBEDDED_MODEL_ID, embedded_model
from builder.ownership import new_build
from builder.pipeline import run_build
from builder.publishing.publish import publish
from builder.schema import persona_id
from builder.tables import table_schema
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


@pytest.fixture(scope="module")
def version_two(extended, tmp_path_factory):
    folder = tmp_path_factory.mktemp("version_two") / "published"
    publish(extended[0].folder, folder, "1.1.0")
    return folder


def published_rows(folder: Path, config: str) -> dict[str, dict]:
    key = "pair_id" if config in PAIRS else "persona_id" if config == "personas" else "prompt_id"
    return {
        row[key]: {"split": split, **row} if config in PAIRS else row
        for split, table in load_dataset(str(folder), config).items()
        for row in table
    }


@pytest.mark.parametrize("config", ["personas", "prompts", *PAIRS])
def test_every_earlier_row_is_there_unchanged_and_new_ones_beside_it(version_one, version_two, config):
    old, new = published_rows(version_one, config), published_rows(version_two, config)
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
        (("seed=7",), r"published was made otherwise: seed \(20250101 there, 7 now\)"),
        (("census.adults_only=false",), "census.adults_only"),
        (
            ("models.generator.model=other/model",),
            r"models.generator \(scripted HuggingFaceTB/SmolLM2-135M-Instruct there, scripted other/model now\)",
        ),
        (
            ("models.critic.revision=abc",),
            r"models.critic .*, scripted HuggingFaceTB/SmolLM2-135M-Instruct at revision abc now\)",
        ),
        (("models.judge.model=other/judge",), "judges"),
        (("judge=roleplay",), r"judge \(auto there, roleplay now\)"),
        (("pairs.critique_template=critique_plain",), r"pairs\.critique_template"),
        (("pairs.answer.temperature=0.1",), r"pairs\.answer\.temperature \(0\.7 there, 0\.1 now\)"),
        (
            ("pairs.candidates=3", "personas.profile_max_tokens=90"),
            r"pairs\.candidates .*; personas\.profile_max_tokens",
        ),
        (("prompts.near_duplicate_similarity=0.9",), r"prompts\.near_duplicate_similarity"),
        (("contrast.partner_distance=far",), r"contrast\.partner_distance"),
        (("personas.count=8", "personas.seen=4"), "personas.count is 8, but .*published has 12"),
        (("prompts.count=14",), "prompts.count is 14, but .*published has 16"),
        (("pairs.train=5",), r"pairs\.train is 5, but .*published has 6"),
        (("configs=[dpf]",), "has the config dpf_matched, which the recipe leaves out"),
        (("personas.count=14", "personas.seen=5"), "personas.seen is 5, but .*published has 8"),
        (("personas.count=14", "personas.seen=12"), "personas.count less personas.seen is 2, but .*published has 4"),
    ],
)
def test_what_is_no_extension_is_refused(version_one, tmp_path, settings, message):
    with pytest.raises(InputError, match=message):
        run_build(scripted_recipe(CONFIGS, *settings), tmp_path / "run", extend=str(version_one))


def with_build(version: Path, target: Path, change) -> str:
    """A copy of a published version with another build.json."""
    shutil.copytree(version, target)
    build = read_json(target / "build.json")
    change(build)
    write_json(target / "build.json", build)
    return str(target)


def edited(path: Path) -> None:
    """One answer says something else; the file is as readable as before."""
    table = parquet.read_table(path)
    texts = ["Something else.", *table["critique"].to_pylist()[1:]]
    parquet.write_table(table.set_column(table.column_names.index("critique"), "critique", [texts]), path)


def unreadable(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (edited, "is damaged: its content has the hash"),
        (unreadable, "cannot be read as Parquet"),
        (Path.unlink, "does not exist"),
    ],
)
def test_a_version_that_is_not_as_it_was_published_is_refused(version_one, tmp_path, damage, message):
    shutil.copytree(version_one, tmp_path / "copy")
    (path,) = (tmp_path / "copy" / "data" / "dpf").glob("train-*")
    damage(path)
    with pytest.raises(InputError, match=rf"data/dpf/train-.*{message}"):
        run_build(scripted_recipe(CONFIGS, *LARGER), tmp_path / "run", extend=str(tmp_path / "copy"))
    assert not (tmp_path / "run").exists()


def test_a_file_whose_name_has_no_hash_is_held_against_build_json(version_one, tmp_path):
    def rename(build):
        build["configs"]["dpf"]["train"]["file"] = "data/dpf/train.parquet"

    copy = Path(with_build(version_one, tmp_path / "copy", rename))
    (path,) = (copy / "data" / "dpf").glob("train-*")
    path.rename(copy / "data" / "dpf" / "train.parquet")
    recipe = scripted_recipe(CONFIGS, *LARGER)
    read_earlier(str(copy), recipe, new_build(recipe))
    edited(copy / "data" / "dpf" / "train.parquet")
    with pytest.raises(InputError, match=r"train\.parquet is damaged: .* and build\.json says"):
        read_earlier(str(copy), recipe, new_build(recipe))


def test_what_an_extension_is_for_may_differ(version_one):
    may_differ = (
        *("name=other", "pairs.judge_check=5", "audit.min_pairs=3", "prompts.min_words=4", "prompts.topics=9"),
        *("models.generator.batch_size=3", "configs=[contrast,judgements,dpf,dpf_matched]"),
    )
    recipe = scripted_recipe(CONFIGS, *LARGER, *may_differ)
    read_earlier(str(version_one), recipe, new_build(recipe))


def test_a_model_is_known_by_what_is_published_of_it(version_one, tmp_path):
    """Weights in this process are published by their hash, whether or not the recipe names a revision."""

    def by_hash(build):
        build["models"]["enricher"] = {"provider": "transformers", "model": EMBEDDED_MODEL_ID, "revision": weights}

    weights = embedded_model().content_hash
    recipe = scripted_recipe(CONFIGS, *LARGER, "models.enricher.provider=transformers")
    read_earlier(with_build(version_one, tmp_path / "same", by_hash), recipe, new_build(recipe))
    weights = "f00d"
    with pytest.raises(InputError, match=r"models\.enricher \(transformers .*Instruct at revision f00d there"):
        read_earlier(with_build(version_one, tmp_path / "other", by_hash), recipe, new_build(recipe))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda build: build["templates"].update(critique_paper="f00d"), r"template critique_paper \(f00d there"),
        (lambda build: build["judges"].__setitem__(0, "likelihood@f00d:m"), r"judges \(\['likelihood@f00d:m'\] there"),
        (lambda build: build["stages"]["personas"].update(sha256="f00d"), "the packaged census records"),
        (lambda build: build["inputs"].update({"census.household_source": "f00d"}), "the household file"),
        # As a version is published whose personas.source is a file.
        (lambda build: build["stages"]["personas"].pop("examined"), "come from a file .* no draw to go on with"),
    ],
)
def test_a_version_made_of_other_files_is_refused(version_one, tmp_path, change, message):
    version = with_build(version_one, tmp_path / "other", change)
    with pytest.raises(InputError, match=message):
        run_build(scripted_recipe(CONFIGS, *LARGER), tmp_path / "run", extend=version)
    assert not (tmp_path / "run").exists()


def test_a_config_that_the_earlier_version_lacks_is_refused(tmp_path):
    run_build(scripted_recipe("configs=[dpf]"), tmp_path / "run")
    publish(tmp_path / "run", tmp_path / "published", "1.0.0")
    with pytest.raises(InputError, match=r"published has no config dpf_matched, .* without --extend"):
        run_build(scripted_recipe(CONFIGS, *LARGER), tmp_path / "more", extend=str(tmp_path / "published"))


def test_a_version_whose_personas_come_from_a_file_is_refused(tmp_path):
    telling = ("race", "education", "marital_status", "citizenship")
    people = [{"age": 20 + n, **{name: f"{name} {n}" for name in telling}} for n in range(12)]
    (tmp_path / "people.jsonl").write_text("".join(json.dumps(person) + "\n" for person in people))
    run_build(scripted_recipe(f"personas.source={tmp_path / 'people.jsonl'}"), tmp_path / "run")
    publish(tmp_path / "run", tmp_path / "published", "1.0.0")
    with pytest.raises(InputError, match=r"come from a file \(people\.jsonl\)"):
        run_build(scripted_recipe("personas.count=14"), tmp_path / "more", extend=str(tmp_path / "published"))


@pytest.mark.thorough
def test_only_more_prompts(version_one, tmp_path):
    """No new persona and no new pair: every pair table is as it was."""
    recipe = scripted_recipe(CONFIGS, "prompts.count=20", "prompts.heldout=5")
    result = run_build(recipe, tmp_path / "run", extend=str(version_one))
    assert len(result.rows("prompts")) == 20
    assert [result.build["stages"][stage]["out"] for stage in ("personas", "pairs", "matched", "contrast")] == [0] * 4
    publish(result.folder, tmp_path / "published", "1.1.0")
    for config in PAIRS:
        assert published_rows(tmp_path / "published", config) == published_rows(version_one, config)


def test_rows_stay_sorted_where_ids_get_longer(version_one, tmp_path):
    """From the 100,001st persona on the order of ids as texts is not that of numbers: p100000 comes before p99999."""

    def rows(numbers):
        ids = sorted(persona_id(n) for n in numbers)
        pairs = [(i, f"dpf/{i}/q{q:05d}") for i in ids for q in range(2)]
        columns = {
            "split": ["train"] * len(pairs),
            "persona_id": [i for i, _ in pairs],
            "pair_id": [p for _, p in pairs],
        }
        schema = table_schema("dpf")
        return arrow.table(
            [arrow.array(columns.get(name, [None] * len(pairs)), schema.field(name).type) for name in schema.names],
            schema=schema,
        )

    old, new = range(99_990, 100_004), range(100_004, 100_030)
    (tmp_path / "data").mkdir()
    people = arrow.table({"persona_id": [persona_id(n) for n in old]})
    parquet.write_table(people, tmp_path / "data" / "personas.parquet")
    parquet.write_table(rows(old).drop_columns("split"), tmp_path / "data" / "dpf.parquet")
    files = {"personas": "data/personas.parquet", "dpf": "data/dpf.parquet"}
    earlier = EarlierVersion(tmp_path, {"configs": {c: {"train": {"file": file}} for c, file in files.items()}})
    tables = [rows(new[:9]), rows(new[9:])]
    both = arrow.concat_tables(with_earlier(earlier, "dpf", tables))
    assert both["pair_id"].to_pylist() == rows([*old, *new])["pair_id"].to_pylist()


def test_a_build_folder_is_no_published_version(extended, tmp_path):
    with pytest.raises(InputError, match="is no published version"):
        run_build(scripted_recipe(CONFIGS, *LARGER), tmp_path / "run", extend=str(extended[0].folder))


@pytest.mark.thorough
def test_a_version_on_the_hub_is_extended_by_its_tag(version_one, tmp_path):
    settings = [f"--set={s}" for s in (*SCRIPTED, *TEMPLATES, CONFIGS, *LARGER)]
    with hub_server() as hub:
        hub.commit("org/personas", version_one, tags=("v1.0.0",))

        def build(source, run):
            return subprocess.run(
                [
                    sys.executable,
                    str(ROOT / "persona.py"),
                    "build",
                    "demo",
                    "--out",
                    run,
                    "--extend",
                    source,
                    *settings,
                ],
                **{"cwd": ROOT, "capture_output": True, "text": True, "check": False},
                env=environment(hub, tmp_path),
            )

        done = build("hub:org/personas@v1.0.0", tmp_path / "run")
        assert done.returncode == 0, done.stderr[-2000:]
        absent = build("hub:org/personas@v2.0.0", tmp_path / "other")
        unpinned = build("hub:org/personas", tmp_path / "third")
        settings.append("--set=seed=7")
        otherwise = build("hub:org/personas@v1.0.0", tmp_path / "fourth")
    assert absent.returncode == unpinned.returncode == 2
    assert "cannot be had from the Hub" in absent.stderr
    assert "name a version" in unpinned.stderr
    assert "hub:org/personas@v1.0.0 was made otherwise: seed (20250101 there, 7 now)" in " ".join(
        otherwise.stderr.split()
    )
    local = run_build(scripted_recipe(CONFIGS, *LARGER), tmp_path / "local", extend=str(version_one))
    for table in ("personas", "dpf", "dpf_matched", "contrast"):
        assert (tmp_path / "run" / "tables" / f"{table}.parquet").read_bytes() == (
            local.folder / "tables" / f"{table}.parquet"
        ).read_bytes()
