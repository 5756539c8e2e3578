"""The card of a trained model: what it says is in training.json, and its snippets run."""

import copy
import json
import re
import shutil
from pathlib import Path

import pytest
import yaml

from builder.pipeline import run_build
from builder.publishing.publish import publish
from builder.schema import NEUTRAL_SYSTEM_TEXT
from tests.builder.conftest import scripted_recipe
from tests.training.conftest import TINY_ID
from training import trained
from training.conditioning import FEW_SHOT_HEADER, FEW_SHOT_MODES, MODES, Conditioning, template_hash
from training.data import load_preference_data
from training.evaluation import Candidate, Scorer
from training.metrics import CELLS, CONTROLS
from training.model_card import model_card
from training.model_card_use import BASE_FOLDER, DATASET_FOLDER, FOLDER
from training.prompts import PersonaPrompts
from training.scoring import load_dpo_model, load_reward_model, score_implicit_rewards, score_rewards
from training.trained import dpo_scores


def record_of(folder: Path) -> dict:
    return json.loads((folder / "training.json").read_text())


def front_matter(card: str) -> dict:
    return yaml.safe_load(card.split("---\n")[1])


def run_snippets(card: str, place, folder: Path, tmp_path: Path, monkeypatch) -> list[dict]:
    """The Python blocks, executed where the card's example paths lead to the real folders."""
    for name, target in ((FOLDER, folder), (BASE_FOLDER, place.base), (DATASET_FOLDER, place.data)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).symlink_to(target)
    monkeypatch.chdir(tmp_path)
    results = []
    for code in re.findall(r"```python\n(.*?)```", card, re.DOTALL):
        names: dict = {}
        exec(code, names)
        results.append(names)
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


def with_conditioning(folder: Path, target: Path, change: dict, more: dict | None = None) -> Path:
    """A copy of the model that says that it was trained with other prompts; its card is written anew."""
    shutil.copytree(folder, target)
    record = record_of(folder)
    record["conditioning"] |= change
    record |= {"persona": record["conditioning"]["mode"], **(more or {})}
    record["template_hash"] = template_hash(Conditioning(**record["conditioning"]))
    (target / "training.json").write_text(json.dumps(record))
    (target / "README.md").write_text(model_card(record))
    return target


@pytest.mark.parametrize("role", ["system", "user"])
@pytest.mark.parametrize("mode", MODES)
def test_the_snippets_of_every_mode_build_the_prompts_that_it_was_trained_with(
    place, reward_folder, tmp_path, monkeypatch, mode, role
):
    folder = with_conditioning(reward_folder, tmp_path / "model", {"mode": mode, "persona_role": role})
    ours, plain = run_snippets((folder / "README.md").read_text(), place, folder, tmp_path, monkeypatch)
    assert plain["messages"][:-1] == ours["messages"]
    assert [message["role"] for message in ours["messages"]] == (["system", "user"] if role == "system" else ["user"])
    text = ours["messages"][0]["content"]
    assert (NEUTRAL_SYSTEM_TEXT in text) == (mode == "none")
    assert (FEW_SHOT_HEADER in text) == (mode in FEW_SHOT_MODES)
    assert ("nurse" in text.lower()) == (mode not in ("none", "few_shot", "psychographics"))
    assert plain["reward"] == pytest.approx(ours["rewards"][0], abs=1e-5)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"mode": "relevant", "relevant_attributes": 3}, "the 3 attributes of a persona's profile that bear most"),
        ({"mode": "few_shot", "few_shot_pairs": 7}, "7 labelled pairs of a persona"),
        ({"persona_role": "user"}, "in the user's message, before the question"),
        ({"persona_corruption": 0.25}, "25 %, drawn by seed, are left out"),
        ({"mode": "shuffled"}, "another persona's profile than the row's own"),
        ({"mode": "demographics"}, "the demographic part"),
    ],
)
def test_the_card_says_what_the_model_reads(dpo_folder, change, said):
    record = record_of(dpo_folder)
    record["conditioning"] |= change
    first = model_card(record).split("## Results")[0]
    assert said in first
    assert "persona-blind baseline" not in first


def test_a_reference_without_the_persona_is_said_and_used(place, dpo_folder, tmp_path, monkeypatch):
    folder = with_conditioning(dpo_folder, tmp_path / "model", {}, {"reference_persona": False})
    card = (folder / "README.md").read_text()
    assert "The reference model never sees the persona" in card
    assert "The reference model never sees the persona" not in (dpo_folder / "README.md").read_text()
    ours, _ = run_snippets(card, place, folder, tmp_path, monkeypatch)
    model = load_dpo_model(folder, base_model=str(place.base))
    profiles = {"p": ours["profile"]}
    prompts = PersonaPrompts(Conditioning(), profiles, {})
    candidates = [Candidate("p", "q", ours["question"], answer) for answer in ours["answers"]]
    assert ours["rewards"] == pytest.approx(dpo_scores(model, prompts, candidates, 16), abs=1e-6)


def own_kind(folder: Path, kind: str, mode: str = "none", run: dict | None = None, **more) -> dict:
    """The record of a model trained with a loop of its own."""
    record = record_of(folder)
    facts = {"steps": 5, "seconds": 1.0, "trainable_parameters": 40, "parameters": 1000, "train_loss": 0.5}
    record["conditioning"] |= {"mode": mode, "few_shot_pairs": 3}
    return record | {"kind": kind, "persona": mode, "adapter": False, "run": facts | (run or {})} | more


def section(card: str, title: str) -> str:
    return card.split(f"## {title}\n")[1].split("\n## ")[0]


OWN_MODES = {"low_rank": "full", "vpl": "full", "p_dpo": "none", "per_persona": "none"}


@pytest.mark.parametrize("kind", OWN_MODES)
def test_the_card_of_a_method_with_a_loop_of_its_own(place, reward_folder, tmp_path, monkeypatch, kind):
    """A scorer by length stands in for the method, so that the snippet runs."""
    record = own_kind(reward_folder, kind, OWN_MODES[kind])
    folder = with_conditioning(reward_folder, tmp_path / "model", record["conditioning"], record)
    card = (folder / "README.md").read_text()
    header = front_matter(card)
    assert header["base_model"] == TINY_ID
    assert not {"library_name", "pipeline_tag", "base_model_relation"} & header.keys()
    assert "trl" not in header["tags"]
    assert "5 steps, 40 of 1,000 parameters trained" in card
    assert "With the libraries alone" not in card
    assert "persona-blind baseline" not in card

    def load(folder, record, prompts, base_model, *rest):
        assert (record["kind"], Path(base_model).resolve()) == (kind, place.base)
        return Scorer(lambda candidates: [float(len(c.answer)) for c in candidates], lambda c: True, record)

    monkeypatch.setattr(trained, "_load_own", lambda name: load)
    (ours,) = run_snippets(card, place, folder, tmp_path, monkeypatch)
    assert len(ours["rewards"]) == len(ours["data"].splits["seen_test"]) > 0


@pytest.mark.parametrize(
    ("kind", "true", "none"),
    [
        ("low_rank", "with the weights w_u of the row's own persona (true)", "with the generic weights"),
        ("vpl", "from labelled pairs of the row's own persona (true)", "without a labelled pair (none)"),
        ("p_dpo", "with the soft tokens of the row's own persona (true)", "with the generic soft tokens (none)"),
        ("per_persona", "by the adapter of the row's own persona (true)", "by the pooled adapter (none)"),
    ],
)
def test_true_none_and_wrong_are_told_in_the_terms_of_a_method_that_shows_no_profile(reward_folder, kind, true, none):
    card = model_card(own_kind(reward_folder, kind, OWN_MODES[kind]))
    results = section(card, "Results")
    assert true in results
    assert none in results
    assert "profile of" not in results
    assert "in the prompt" not in results
    assert "No profile is ever in its prompts" in card
    assert "conditioned on personas" not in card


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("full", "with the profile of the row's own persona in the prompt (true), with the neutral text (none)"),
        ("prose", "the row's own persona in the prompt, in the form described above, (true)"),
        ("few_shot", "with the labelled pairs of the row's own persona in the prompt (true)"),
        ("full+few_shot", "with the profile and labelled pairs of the row's own persona in the prompt (true)"),
        ("none", "Its own condition is `none`"),
        ("shuffled", "In training the profile was never the row's own"),
    ],
)
def test_true_none_and_wrong_are_told_for_each_mode(reward_folder, mode, said):
    record = record_of(reward_folder)
    record["conditioning"] |= {"mode": mode}
    results = section(model_card(record), "Results")
    assert said in results
    assert ("whole profile" in results) == (mode in ("none", "shuffled"))
    assert ("the profile of" in results) == (mode in ("full", "prose"))


@pytest.mark.parametrize(
    ("kind", "mode", "run", "recipe"),
    [
        ("low_rank", "none", {}, {}),
        ("low_rank", "full", {"rank": 0}, {}),
        ("vpl", "full", {"looks_at_pairs": False}, {}),
        ("p_dpo", "none", {}, {"alpha": 0.0}),
    ],
)
def test_the_blind_control_of_a_method_with_a_loop_of_its_own_is_told_as_one(reward_folder, kind, mode, run, recipe):
    card = model_card(own_kind(reward_folder, kind, mode, run, recipe=recipe))
    assert "persona-blind baseline" in card
    assert re.search("^# .*, persona-blind$", card, re.MULTILINE)
    assert "To this model they are the same" in card


def test_rows_that_are_left_out_are_told_with_the_reason_of_the_kind(reward_folder):
    def said(record: dict) -> str:
        record["evaluation"] |= {"left_out": 7}
        return section(model_card(record), "Results")

    plain = said(record_of(reward_folder))
    assert "7 of the drawn rows were left out, because under one of the conditions a text is longer" in plain
    assert "labelled pairs than" not in plain
    few = "or a persona has fewer labelled pairs than the 3"
    assert few in said(own_kind(reward_folder, "vpl", "full"))
    assert few in said(own_kind(reward_folder, "reward", "few_shot"))
    assert few not in said(own_kind(reward_folder, "low_rank", "full", {"rank": 0}))
    assert few not in said(own_kind(reward_folder, "p_dpo"))


def test_personas_that_a_method_does_not_know_are_counted(reward_folder):
    served = {"rows": 48, "rows_generic": 12, "personas": 6, "personas_generic": 2}
    record = own_kind(reward_folder, "p_dpo", run={"coverage": {"true": served, "wrong": served | {"rows_generic": 9}}})
    results = section(model_card(record), "Results")
    assert "exactly as under `none`: under `true` 2 of 6 personas (12 of 48 rows), under `wrong` 2 of 6" in results
    outside = {"train": 9, "seen_test": 11, "heldout_test": 0}
    record = own_kind(reward_folder, "per_persona", run={"rows_outside": outside, "personas": ["p00000", "p00001"]})
    results = section(model_card(record), "Results")
    assert "2 personas have an adapter" in results
    assert "neither trained on nor scored: 9 of train, 11 of seen_test. So" in results


@pytest.mark.parametrize("reference_persona", [True, False])
def test_a_loss_per_token_is_told_and_the_snippet_scores_as_the_results_were(
    place, dpo_folder, tmp_path, monkeypatch, reference_persona
):
    more = {"loss_type": ["ipo"], "reference_persona": reference_persona}
    folder = with_conditioning(dpo_folder, tmp_path / "model", {}, more)
    card = (folder / "README.md").read_text()
    assert "divided by the answer's number of tokens" in card
    assert "divided by" not in (dpo_folder / "README.md").read_text()
    ours, _ = run_snippets(card, place, folder, tmp_path, monkeypatch)
    prompts = PersonaPrompts(Conditioning(), {"p": ours["profile"]}, {})
    candidates = [Candidate("p", "q", ours["question"], answer) for answer in ours["answers"]]
    model = load_dpo_model(folder, base_model=str(place.base))
    assert ours["rewards"] == pytest.approx(dpo_scores(model, prompts, candidates, 16), abs=1e-7)
    assert max(map(abs, ours["rewards"])) > 1e-5


def test_whom_the_model_serves_worst_is_told_for_every_condition(reward_folder):
    record = copy.deepcopy(record_of(reward_folder))
    entry = next(e for e in record["results"] if (e["config"], e["cell"]) == ("contrast", "all"))
    for place, condition in enumerate(("true", "none", "wrong")):
        group = {"attribute": "religion", "value": "A|B", "rows": 24, "accuracy": 0.125 + place / 4}
        entry["conditions"][condition]["spread"] = {
            "personas": 9,
            "minimum_rows": 5,
            "worst_persona": 0.25,
            "tenth_percentile": 0.375,
            "worst_group": group if condition != "wrong" else None,
        }
    card = model_card(record)
    assert "| `contrast`, true | 9 | 25.0 % | 37.5 % | religion A\\|B: 12.5 % of 24 |" in card
    assert "| `contrast`, none | 9 | 25.0 % | 37.5 % | religion A\\|B: 37.5 % of 24 |" in card
    assert "| `contrast`, wrong | 9 | 25.0 % | 37.5 % | none large enough |" in card
    for entry in record["results"]:
        for outcome in entry["conditions"].values():
            outcome.pop("spread", None)
    assert "serves worst" not in model_card(record)


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
    record["run"] |= {"trained_rows": 36, "truncated_rows": 3}
    card = model_card(record)
    assert "| train | 40 | 36 | over_max_length 2, mirror_dropped 2 |" in card
    assert "36 train rows, 3 of them cut" in card
    assert "truncated" not in card.split("## Training data")[1].split("## Recipe")[0]
    assert "| heldout_test | " in card
    assert "c" * 64 in card
    assert yaml.safe_load(card.split("```yaml\n")[1].split("```")[0]) == record["recipe"]
    assert all(f"{package} {version}" in card for package, version in record["versions"].items())
    assert "`cc-by-4.0`" in card
    assert model_card(record) == card


def test_a_figure_without_an_interval_says_why(reward_folder):
    record = copy.deepcopy(record_of(reward_folder))
    entry = record["results"][0]
    why = "no interval: alike for all personas"
    entry["conditions"]["none"] |= {"accuracy": 0.5, "low": None, "high": None, "withheld": why}
    entry["conditions"]["true"] |= {"accuracy": 0.75, "low": 0.5, "high": 0.875, "withheld": None}
    entry["gaps"][CONTROLS[0]] |= {"difference": 0.0, "low": None, "high": None, "withheld": why}
    entry["gaps"][CONTROLS[1]] |= {"difference": -0.5, "low": None, "high": None, "withheld": "n < 20"}
    card = model_card(record)
    assert f"| 75.0 % [50, 88] | 50.0 % ({why}) |" in card
    assert f"| +0.0 ({why}) | -50.0 (n < 20) |" in card


def test_the_card_of_a_model_of_a_published_version_says_where_its_data_come_from(reward_folder, tmp_path):
    folder = tmp_path / "published"
    publish(run_build(scripted_recipe(), tmp_path / "build").folder, folder)
    build = json.loads((folder / "build.json").read_text())

    def card_of(change: dict) -> str:
        (folder / "build.json").write_text(json.dumps(build | change))
        record = record_of(reward_folder)
        record["data"] |= load_preference_data(str(folder), ["dpf"]).identity
        return model_card(record)

    def personas(source: str, year: int | None, enrichment: str, census: str = "packaged") -> dict:
        recipe = build["recipe"] | {"census": {"source": census}, "personas": {"enrichment": enrichment}}
        return {"recipe": recipe, "stages": {"personas": {"source": source, "survey_year": year}}}

    card = card_of({})
    assert "The dataset stands under `cc-by-4.0`." in card
    assert "drawn from synthetic census records (survey year 2024)" in card
    assert build["models"]["reviser"]["model"] in card.split("## Limits")[1]
    assert "stereotypes" in card
    assert "census microdata" not in card
    assert "No language model wrote any" in card_of(personas("x.parquet", 2024, "none"))
    real = card_of(personas("persons.parquet", 2023, "lm", "persons.parquet"))
    assert "the census records of `persons.parquet` (survey year 2023)" in real
    assert "A language model wrote some" in real
    imported = card_of(personas("people.jsonl", None, "none", "none"))
    assert "taken as they are from `people.jsonl`" in imported
    assert "census records" not in imported
    assert "United States" not in imported

    # An older version says its licence in its card only.
    del build["licence"]
    assert "The dataset stands under `cc-by-4.0`." in card_of({})
    assert "under `cc0-1.0`" in card_of({"licence": "cc0-1.0"})
    (folder / "README.md").write_text((folder / "README.md").read_text().replace("license: cc-by-4.0\n", ""))
    assert "names no licence" in card_of({})


def test_a_dataset_that_says_nothing_of_itself_is_told_as_that(reward_folder):
    limits = (reward_folder / "README.md").read_text().split("## Limits")[1]
    assert "does not say where its personas come from" in limits
    assert "census" not in limits


def test_variants_of_the_card(reward_folder, dpo_folder):
    record = record_of(dpo_folder)
    assert "No test row was scored" in model_card(record | {"results": []})
    blind = model_card(record | {"persona": "none", "conditioning": record["conditioning"] | {"mode": "none"}})
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
