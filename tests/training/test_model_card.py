"""The card of a trained model: what it says is in training.json, and its snippets run."""

import copy
import json
import re
from pathlib import Path

import pytest
import yaml

from tests.training.conftest import TINY_ID
from training.metrics import CELLS
from training.model_card import BASE_FOLDER, FOLDER, model_card
from training.scoring import load_dpo_model, load_reward_model, score_implicit_rewards, score_rewards


def record_of(folder: Path) -> dict:
    return json.loads((folder / "training.json").read_text())


def front_matter(card: str) -> dict:
    return yaml.safe_load(card.split("---\n")[1])


def run_snippets(card: str, place, folder: Path, tmp_path: Path, monkeypatch) -> list[dict]:
    """Both Python blocks, executed where the card's example paths lead to the real folders."""
    for name, target in ((FOLDER, folder), (BASE_FOLDER, place.base)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).symlink_to(target)
    monkeypatch.chdir(tmp_path)
    results = []
    for code in re.findall(r"```python\n(.*?)```", card, re.DOTALL):
        names: dict = {}
        exec(code, names)
        results.append(names)
    assert len(results) == 2
    return results


def test_the_reward_snippets_run_and_agree(place, reward_folder, tmp_path, monkeypatch):
    card = (reward_folder / "README.md").read_text()
    ours, plain = run_snippets(card, place, reward_folder, tmp_path, monkeypatch)
    model = load_reward_model(reward_folder, base_model=str(place.base))
    assert ours["rewards"] == score_rewards(model, [(ours["messages"], answer) for answer in ours["answers"]])
    assert plain["reward"] == pytest.approx(ours["rewards"][0], abs=1e-5)


def test_the_dpo_snippets_run_and_agree(place, dpo_folder, tmp_path, monkeypatch):
    card = (dpo_folder / "README.md").read_text()
    ours, plain = run_snippets(card, place, dpo_folder, tmp_path, monkeypatch)
    model = load_dpo_model(dpo_folder, base_model=str(place.base))
    scores = score_implicit_rewards(model, [(ours["messages"], answer) for answer in ours["answers"]])
    assert ours["rewards"] == [0.1 * (policy - reference) for policy, reference in scores]
    assert plain["messages"] == ours["messages"]
    assert isinstance(plain["answer"], str)


def test_front_matter(dpo_folder, reward_folder):
    header = front_matter((dpo_folder / "README.md").read_text())
    assert header["base_model"] == TINY_ID
    assert header["base_model_relation"] == "adapter"
    assert header["library_name"] == "peft"
    assert header["license"] == "other"
    assert {"dpo", "persona", "lora"} <= set(header["tags"])
    assert "datasets" not in header  # a folder is no dataset of the Hub
    assert "model-index" not in header
    assert front_matter((reward_folder / "README.md").read_text())["pipeline_tag"] == "text-classification"
    record = record_of(reward_folder)
    record |= {"base_licence": "apache-2.0", "adapter": False, "merged": True}
    record["base_model"]["model_id"] = "tiny"
    record["data"] |= {"dataset": "org/personas", "tag": "v1.2.0", "revision": "0" * 40}
    header = front_matter(model_card(record))
    assert (header["license"], header["library_name"]) == ("apache-2.0", "transformers")
    assert header["datasets"] == ["org/personas"]
    assert "base_model" not in header  # the Hub refuses what is none of its ids


def test_no_number_without_its_controls(reward_folder):
    card = (reward_folder / "README.md").read_text()
    record = record_of(reward_folder)
    for config in ("dpf", "contrast"):
        table = card.split(f"| `{config}`: ")[1].split("\n\n")[0].splitlines()
        for row in (line for line in table[2:]):
            cells = [cell.strip() for cell in row.strip("|").split("|")]
            assert len(cells) == 9
            assert all(cells)
            entry = next(e for e in record["results"] if (e["config"], e["cell"]) == (config, cells[0]))
            for shown, condition in zip(cells[3:6], ("true", "none", "wrong"), strict=True):
                outcome = entry["conditions"][condition]
                if outcome["accuracy"] is None:
                    assert shown == f"{outcome['wins']} of {entry['rows']}"
                else:
                    assert shown.startswith(f"{outcome['accuracy'] * 100:.1f} %")
        assert [line.strip("|").split("|")[0].strip() for line in table[2:]] == list(CELLS)


def test_rows_recipe_and_versions_are_told(reward_folder):
    record = copy.deepcopy(record_of(reward_folder))
    record["data"]["splits"]["train"] |= {
        "rows": 40,
        "kept": 36,
        "dropped": {"over_max_length": 2, "mirror_dropped": 2},
    }
    record["data"] |= {"content_sha256": "c" * 64, "version": "1.2.0", "licence": "cc-by-4.0"}
    card = model_card(record)
    assert "| train | 40 | 36 | 0 | over_max_length 2, mirror_dropped 2 |" in card
    assert "| heldout_test | " in card
    assert "c" * 64 in card
    assert yaml.safe_load(card.split("```yaml\n")[1].split("```")[0]) == record["recipe"]
    assert all(f"{package} {version}" in card for package, version in record["versions"].items())
    assert "`cc-by-4.0`" in card
    assert model_card(record) == card


def test_variants_of_the_card(reward_folder, dpo_folder):
    record = record_of(dpo_folder)
    assert "No test row was scored" in model_card(record | {"results": []})
    blind = model_card(record | {"persona": "none"})
    assert "persona-blind baseline" in blind
    assert "profile = None" in blind
    merged = model_card(record | {"adapter": False, "merged": True})
    assert "merged into all weights" in merged
    assert "from peft" not in merged
    embedded = copy.deepcopy(record)
    embedded["base_model"] |= {"given": "embedded", "model_id": "HuggingFaceTB/SmolLM2-135M-Instruct"}
    assert BASE_FOLDER not in model_card(embedded)
    assert "GGUF" in model_card(embedded)
    on_hub = model_card(record_of(reward_folder), "org/name")
    assert FOLDER not in on_hub
    assert on_hub.count("org/name") == 3
