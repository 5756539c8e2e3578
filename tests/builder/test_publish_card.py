"""The card, figures and metadata of a real (scripted) build: they load, they run, they agree with the data beside them."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys

import pytest
import yaml

from builder.audit.audit import audit_build
from builder.files import read_json, sha256_file, write_json
from builder.imports.authors import import_authors
from builder.pipeline import finished_build, run_build
from builder.publishing.card import fidelity_of, longest_row, write_card
from builder.publishing.folder import write_data
from builder.tables import read_table
from tests.builder.conftest import scripted_recipe
from tests.builder.test_imports_authors import released, write


def version_in(folder, run, repository=None):
    """Data, card, figures and metadata as `publish` writes them; the published build and what the card could not say."""
    folder.mkdir(parents=True)
    checks = audit_build(run)
    published = write_data(folder, run, finished_build(run), checks, "1.2.0") | {"changelog": []}
    write_json(folder / "build.json", published)
    return published, write_card(folder, run, published, checks, repository)


@pytest.fixture(scope="module")
def run(scripted_build, tmp_path_factory):
    """A build of this module alone: publishing leaves fidelity.json in it."""
    return shutil.copytree(scripted_build.folder, tmp_path_factory.mktemp("card") / "run")


@pytest.fixture(scope="module")
def folder(run, tmp_path_factory):
    """Under the name that the card's snippets give it."""
    place = tmp_path_factory.mktemp("published") / "persona-data"
    version_in(place, run)
    return place


def card_of(folder):
    return (folder / "README.md").read_text(encoding="utf-8")


def blocks(card, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", card, flags=re.S | re.M)


# --- what the card says works


def test_every_python_snippet_runs(folder):
    """In one process of its own, where nothing but the card's own lines has been imported."""
    codes = blocks(card_of(folder), "python")
    assert len(codes) == 8
    runnable = [c for c in codes if importlib.util.find_spec(re.search(r"^(?:from|import) (\w+)", c)[1])]
    assert len(runnable) >= 6
    checks = """
assert {s: len(rows) for s, rows in found[0]["pairs"].items()} == {"train": 48, "seen_test": 36, "heldout_test": 36, "support": 24}
assert set(found[1]["contrast"].column_names) > {"mirror_pair_id", "persona_id"}
assert len(found[2]["personas"]) == 12
assert len(found[3]["everybody"]) == 72
assert set(found[4]["unseen"]["persona_group"]) == {"unseen"}
assert {row["persona_id"] for row in found[5]["pairs"]} == {persona} and len(found[5]["pairs"]) == 6
import gc
found.clear(), scope.clear(), gc.collect()  # else pyarrow's threads can abort a process that ends right after a filtered read
"""
    persona = re.search(r'"persona_id", "==", "(p\d+)"', card_of(folder))[1]
    lines = ["found = []", f"persona = {persona!r}"]
    for code in runnable:
        lines += ["scope = {}", f"exec({code!r}, scope)", "found.append(scope)"]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines) + checks],
        **{"cwd": folder.parent, "capture_output": True, "text": True, "check": False, "timeout": 120},
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, f"exit {done.returncode}: {done.stderr[-3000:]}"


def test_the_training_command_names_a_folder_whose_default_config_is_dpf(folder):
    (command,) = blocks(card_of(folder), "bash")
    assert command.startswith("trl dpo --dataset_name persona-data ")
    header = yaml.safe_load(card_of(folder).split("---\n")[1])
    assert [c["config_name"] for c in header["configs"] if c.get("default")] == ["dpf"]


def test_every_config_and_split_of_the_header_loads(folder, tmp_path):
    from datasets import get_dataset_config_names, load_dataset

    header = yaml.safe_load(card_of(folder).split("---\n")[1])
    listed = {c["config_name"]: [f["split"] for f in c["data_files"]] for c in header["configs"]}
    assert get_dataset_config_names(str(folder)) == list(listed)
    for config, splits in listed.items():
        loaded = load_dataset(str(folder), config, cache_dir=str(tmp_path / "cache"))
        assert list(loaded) == splits
        assert all(len(rows) for rows in loaded.values())


def test_every_file_that_the_card_names_is_there(folder):
    targets = set(re.findall(r"\]\(([^)#]+)\)", card_of(folder)))
    figures = {t for t in targets if not t.startswith("http")}
    assert figures == {"figures/personas.png", "figures/topics.png"}
    for name in figures:
        assert (folder / name).read_bytes().startswith(b"\x89PNG")


# --- metadata


def test_mlcroissant_reads_the_records_that_the_tables_hold(folder, run):
    import mlcroissant

    dataset = mlcroissant.Dataset(str(folder / "croissant.json"))
    rows = {row["pair_id"]: row for row in read_table(run, "dpf") if row["split"] == "support"}
    records = list(dataset.records("dpf/support"))
    assert len(records) == len(rows) == 24
    for record in records:
        row = rows[record["dpf/support/pair_id"].decode()]
        assert record["dpf/support/split"] == b"support"
        assert record["dpf/support/chosen_tokens"] == row["chosen_tokens"]
        messages = [
            {part: message[f"dpf/support/prompt/{part}"].decode() for part in ("role", "content")}
            for message in record["dpf/support/prompt"]
        ]
        assert messages == row["prompt"]
    persona = next(iter(dataset.records("personas/train")))
    known = read_table(run, "personas")[0]
    assert persona["personas/train/age"] == known["age"]
    said = persona["personas/train/provenance"]["personas/train/provenance/religion"]
    assert said.decode() == known["provenance"]["religion"]


def test_a_changed_file_is_noticed_by_its_hash(folder, tmp_path):
    import mlcroissant

    broken = shutil.copytree(folder, tmp_path / "broken")
    build = read_json(folder / "croissant.json")
    (file,) = [f["contentUrl"] for f in build["distribution"] if "/prompts/" in f["contentUrl"]]
    shutil.copyfile(next((folder / "data" / "personas").iterdir()), broken / file)
    with pytest.raises(mlcroissant.GenerationError):
        list(mlcroissant.Dataset(str(broken / "croissant.json")).records("prompts/train"))


def test_build_json_gives_size_and_hash_of_every_file(folder):
    configs = read_json(folder / "build.json")["configs"]
    entries = [entry for splits in configs.values() for entry in splits.values() if entry["file"]]
    assert len(entries) == 10
    for entry in entries:
        path = folder / entry["file"]
        assert (entry["bytes"], entry["sha256"]) == (path.stat().st_size, sha256_file(path))


def test_build_json_names_the_licence_and_the_card_has_it_from_there(folder, run, tmp_path):
    assert read_json(folder / "build.json")["licence"] == "cc-by-4.0"
    build = finished_build(run) | {"licence": "cc-by-nc-4.0"}
    own = shutil.copytree(run, tmp_path / "run")
    write_json(own / "build.json", build)
    published, _ = version_in(tmp_path / "version", own)
    assert published["licence"] == "cc-by-nc-4.0"
    assert yaml.safe_load(card_of(tmp_path / "version").split("---\n")[1])["license"] == "cc-by-nc-4.0"


def test_the_training_command_has_room_for_every_training_row(folder, run):
    rows = [row for row in read_table(run, "dpf") if row["split"] == "train"]
    longest = max(row["prompt_tokens"] + max(row["chosen_tokens"], row["rejected_tokens"]) for row in rows)
    assert longest_row(run) == longest
    (command,) = blocks(card_of(folder), "bash")
    assert longest < int(re.search(r"--max_length (\d+)", command)[1]) < longest + 128


def test_the_same_build_and_version_give_the_same_bytes(folder, run, tmp_path):
    version_in(tmp_path / "again", run)
    hashes = [
        {p.relative_to(place): sha256_file(p) for p in place.rglob("*") if p.is_file()}
        for place in (folder, tmp_path / "again")
    ]
    assert hashes[0] == hashes[1]


# --- fidelity


@pytest.fixture(scope="module")
def compared(run, tmp_path_factory):
    """As it goes to the Hub: the comparison is made by the way."""
    own = shutil.copytree(run, tmp_path_factory.mktemp("compared") / "run")
    place = tmp_path_factory.mktemp("hub") / "version"
    _, said = version_in(place, own, "org/name")
    return own, place, said


def test_for_a_repository_the_personas_are_compared_with_the_census(compared):
    run, place, said = compared
    assert said == []
    section = card_of(place).split("## Fidelity")[1].split("## Audit")[0]
    result = read_json(run / "fidelity.json")
    assert f"{result['joint']['within']} of {result['joint']['attributes']} directly sampled attributes" in section
    assert f"p = {result['joint']['p']:.3g}" in section
    assert "figures/population.png" in section
    assert (place / "figures" / "population.png").is_file()
    assert not (place / "figures" / "personas.png").exists()
    assert str(run) not in card_of(place)


def test_the_comparison_goes_with_the_card_under_the_builds_name(compared):
    run, place, _ = compared
    made, shown = read_json(run / "fidelity.json"), read_json(place / "fidelity.json")
    assert made["what"]["name"] == "run"
    assert shown == made | {"what": made["what"] | {"name": "demo"}}
    assert "`fidelity.json`" in card_of(place)


def never(*_):
    raise AssertionError("compared again")


@pytest.mark.parametrize("compute", [False, True])
def test_a_comparison_on_file_is_used_and_not_made_again(compared, monkeypatch, compute):
    monkeypatch.setattr("builder.publishing.card.compare_build", never)
    run, _, _ = compared
    result, note = fidelity_of(run, finished_build(run), compute)
    assert result == read_json(run / "fidelity.json")
    assert note is None


@pytest.mark.parametrize("key", ["fingerprint", "personas_sha256"])
def test_a_comparison_of_other_personas_is_not_shown_and_for_a_repository_made_again(
    compared, tmp_path, monkeypatch, key
):
    own, _, _ = compared
    run = shutil.copytree(own, tmp_path / "run")
    made = read_json(run / "fidelity.json")
    write_json(run / "fidelity.json", made | {"what": made["what"] | {key: "another"}})
    result, note = fidelity_of(run, finished_build(run), compute=False)
    assert result is None
    assert note == "The comparison on file is of other personas; `persona census compare` measures it anew."
    monkeypatch.setattr("builder.publishing.card.compare_build", lambda _: made)
    assert fidelity_of(run, finished_build(run), compute=True) == (made, None)
    assert read_json(run / "fidelity.json") == made


def test_without_a_comparison_a_folder_says_so(run, folder):
    assert not (run / "fidelity.json").exists()
    assert not (folder / "fidelity.json").exists()
    assert "`fidelity.json`" not in card_of(folder)
    section = card_of(folder).split("## Fidelity")[1].split("## Audit")[0]
    assert "Not measured for this version. `persona census compare` measures it" in section
    assert "figures/personas.png" in section


def test_a_comparison_of_two_census_tables_is_no_comparison_of_the_build(run, tmp_path):
    own = shutil.copytree(run, tmp_path / "run")
    write_json(own / "fidelity.json", {"kind": "records", "what": {"name": "x"}})
    result, note = fidelity_of(own, finished_build(own), compute=False)
    assert result is None
    assert "other personas" in note


def test_census_records_that_are_gone_are_said_to_be_gone_without_their_place(run, tmp_path):
    own = shutil.copytree(run, tmp_path / "run")
    build = read_json(own / "build.json")
    build["recipe"]["census"]["source"] = "/home/someone/psam_pus.csv"
    write_json(own / "build.json", build)
    result, note = fidelity_of(own, build, compute=True)
    assert result is None
    assert "gone or changed" in note
    assert "someone" not in note


def test_personas_from_a_file_have_no_census_beside_them(run, tmp_path):
    build = json.loads(json.dumps(finished_build(run)))
    build["stages"]["personas"]["survey_year"] = None
    result, note = fidelity_of(run, build, compute=True)
    assert result is None
    assert note == "The personas come from a file and were not drawn from the census."


# --- personas that were not drawn


def test_a_build_with_personas_from_a_file_says_nothing_of_a_census(tmp_path):
    trades = ("baker", "pilot", "nurse", "judge", "miner", "clerk", "actor", "tailor", "farmer", "diver", "singer")
    file = tmp_path / "mine.jsonl"
    file.write_text("".join(json.dumps({"profile": f"A {t} who loves the {t} life."}) + "\n" for t in trades))
    asked = scripted_recipe(f"personas.source={file}", "personas.count=10", "personas.seen=6")
    version_in(tmp_path / "version", run_build(asked, tmp_path / "run").folder, "org/name")
    card = card_of(tmp_path / "version")
    assert "| personas | `mine.jsonl` | as their source says" in card
    assert "| `personas` | mine.jsonl |" in card.split("Input files")[1]
    assert "Not measured for this version. The personas come from a file" in card
    for words in ("Census Bureau", "Pew Research", "drawn by their weight", "population of the United States"):
        assert words not in card
    assert "Census Bureau" not in (tmp_path / "version" / "croissant.json").read_text(encoding="utf-8")


def test_the_authors_pairs_are_not_passed_off_as_made_here(tmp_path):
    import_authors(write(tmp_path / "released.jsonl", released(8)), tmp_path / "run", seed=1)
    version_in(tmp_path / "version", tmp_path / "run")
    card = card_of(tmp_path / "version")
    assert "These are the pairs that Castricato et al. released" in card
    assert "| reviser | GPT-4, as the paper says | none | imported |" in card
    assert (
        "the release of the paper's authors (`released.jsonl`) | CC-BY-NC-SA-4.0 (as tagged by its authors) |" in card
    )
    for words in ("Census Bureau", "Pew Research", "drawn by their weight", "made from scratch"):
        assert words not in card
