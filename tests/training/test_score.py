"""Scores of finished models and of baselines that are never trained, from their public entry point."""

import json

import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from builder.errors import InputError
from tests.published_folder import write_published_folder
from training import public_reward, score
from training.conditioning import Conditioning, persona_messages
from training.evaluation import Candidate
from training.profiles import as_lines
from training.results import margins_file, result_of_training
from training.rules import length_rule

CONDITIONS = ("true", "none", "wrong")


@pytest.fixture(scope="module")
def classifier(place, tmp_path_factory):
    """A public reward model: a classifier with one label, saved by transformers."""
    folder = tmp_path_factory.mktemp("public") / "classifier"
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = AutoModelForSequenceClassification.from_pretrained(place.base, num_labels=1)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(place.base).save_pretrained(folder)
    return folder


def run(place, out, *arguments):
    """(the result, its margins)."""
    data = ["--dataset", str(place.data), "--dataset_configs", "dpf", "contrast", "--use_cpu", "true"]
    path = score.main([*data, "--out", str(out / "r.json"), *map(str, arguments)])
    return json.loads(path.read_text()), pq.read_table(margins_file(path)).to_pylist()


def margins(rows):
    return {row["pair_id"]: [row[f"margin_{name}"] for name in CONDITIONS] for row in rows}


@pytest.mark.parametrize("kind", ["dpo", "reward"])
def test_a_finished_model_scores_as_it_did_at_the_end_of_its_training(place, dpo_folder, reward_folder, tmp_path, kind):
    folder = dpo_folder if kind == "dpo" else reward_folder
    base = ["--model_name_or_path", str(place.base), "--use_cpu", "true"]
    out = str(tmp_path / "r.json")
    path = score.main(["--model", str(folder), "--dataset", str(place.data), "--out", out, *base])
    result, own = json.loads(path.read_text()), result_of_training(folder)
    assert {key for key in own if result[key] != own[key]} <= {"results"}
    won = [[(e["cell"], e["conditions"]["true"]["wins"]) for e in figures["results"]] for figures in (result, own)]
    assert won[0] == won[1]
    then = pq.read_table(folder / "scores.parquet").to_pylist()
    now = pq.read_table(margins_file(path)).to_pylist()
    assert list(margins(now)) == list(margins(then))
    for pair, values in margins(now).items():
        assert values == pytest.approx(margins(then)[pair], abs=1e-4)


def test_rules_are_fitted_on_the_training_rows_and_blind(place, tmp_path):
    result, rows = run(place, tmp_path, "--rule", "length", "--model_name_or_path", place.base, "--max_train_rows", "8")
    assert result["own_condition"] == "none"
    assert result["train_rows"] <= 8
    assert all(row["margin_true"] == row["margin_none"] == row["margin_wrong"] for row in rows)
    train = [{"chosen": [{"content": "a b c"}], "rejected": [{"content": "a"}]}]
    assert length_rule(train)([Candidate(None, "q", "?", "one two")]) == [2.0]


def test_a_prompted_model_is_blind_without_a_persona_and_not_with_one(place, tmp_path):
    base = ["--model_name_or_path", place.base]
    blind, blind_rows = run(place, tmp_path, "--prompted", "sum", "--persona", "none", *base)
    full, full_rows = run(place, tmp_path, "--prompted", "sum", *base, "--score_cache", tmp_path / "cache")
    assert (blind["own_condition"], full["own_condition"]) == ("none", "true")
    assert all(values[0] == values[1] == values[2] for values in margins(blind_rows).values())
    for pair, values in margins(full_rows).items():
        assert values[1] == pytest.approx(margins(blind_rows)[pair][1], abs=1e-4)
    assert any(abs(values[0] - values[2]) > 1e-6 for values in margins(full_rows).values())
    # Again, from the cache: the same, and nothing is added.
    before = sorted((tmp_path / "cache").iterdir())
    again, again_rows = run(place, tmp_path, "--prompted", "sum", *base, "--score_cache", tmp_path / "cache")
    assert (again, again_rows) == (full, full_rows)
    assert sorted((tmp_path / "cache").iterdir()) == before
    _, by_token = run(place, tmp_path, "--prompted", "per_token", *base)
    ratios = {
        round(row["margin_none"] / values[1], 6)
        for row, values in zip(by_token, margins(full_rows).values(), strict=True)
    }
    assert len(ratios) > 1, "a share of the length, not a constant"


def test_a_public_reward_model_is_scored_as_it_stands(place, classifier, tmp_path):
    result, _ = run(place, tmp_path, "--public_reward", classifier, "--persona", "full")
    assert result["method"] == "public reward model"
    assert result["base_model"]["model_id"] == "classifier"
    blind, blind_rows = run(place, tmp_path, "--public_reward", classifier, "--persona", "none")
    assert blind["own_condition"] == "none"
    assert all(values[0] == values[1] for values in margins(blind_rows).values())
    # Text by text, unpadded, by transformers alone.
    model = AutoModelForSequenceClassification.from_pretrained(classifier)
    tokenizer = AutoTokenizer.from_pretrained(classifier)
    items = [
        (persona_messages(Conditioning("none"), None, "What about pets?"), text) for text in ("Yes.", "No, not at all.")
    ]
    loaded = public_reward.load(str(classifier), None, "cpu", "float32")
    expected = []
    for messages, answer in items:
        ids = tokenizer.apply_chat_template([*messages, {"role": "assistant", "content": answer}], return_tensors="pt")
        expected.append(model(**ids).logits[0, 0].item())
    assert public_reward.rewards(loaded, items, 2) == pytest.approx(expected, abs=1e-5)


def test_the_same_rows_whatever_scores_them(place, reward_folder, classifier, tmp_path):
    few = ["--eval_max_rows", "2", "--rows_seed", "3"]
    base = ["--model_name_or_path", place.base]
    asked = {
        tuple(margins(run(place, tmp_path, *scorer, *few)[1]))
        for scorer in (
            ("--rule", "majority", *base),
            ("--prompted", "sum", *base),
            ("--public_reward", classifier),
            ("--model", reward_folder, *base),
        )
    }
    assert len(asked) == 1
    assert 0 < len(asked.pop()) <= 16  # two of each config in each of four cells


def test_settings_of_testing_do_not_touch_the_model(place, reward_folder, tmp_path):
    base = ["--model_name_or_path", place.base]
    result, _ = run(place, tmp_path, "--model", reward_folder, *base, "--few_shot_pairs", "2")
    assert result["axis"] == {"few_shot_pairs": 2}
    assert result["conditioning"]["few_shot_pairs"] == 2
    assert json.loads((reward_folder / "training.json").read_text())["conditioning"]["few_shot_pairs"] == 4


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "Nothing is given to score with"),
        (["--rule", "length", "--prompted", "sum"], "--rule and --prompted"),
        (["--rule", "shortest"], "choose one of length, majority"),
        (["--prompted", "mean"], "choose one of sum, per_token"),
        (["--model", "nowhere"], "no finished model"),
        (["--prompted", "sum"], "model_name_or_path is missing"),
        (["--prompted", "sum", "--model_name_or_path", "{base}", "--persona", "shuffled"], "a way of training"),
        (["--public_reward", "{base}"], "a sequence classifier with one"),
        (["--rule", "length", "--pomt", "x"], "closest valid key"),
    ],
)
def test_what_cannot_be_scored_leaves_nothing(place, tmp_path, arguments, named):
    arguments = [str(place.base) if a == "{base}" else a for a in arguments]
    with pytest.raises(InputError, match=named):
        run(place, tmp_path, *arguments)
    assert not list(tmp_path.iterdir())


def test_a_classifier_without_its_head_is_refused(place, classifier, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "headless"
    folder.mkdir()
    for path in classifier.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    weights = {
        name: tensor for name, tensor in load_file(classifier / "model.safetensors").items() if "score" not in name
    }
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match="drawn at random"):
        public_reward.load(str(folder), None, "cpu", "float32")


def test_the_worst_group_is_found_in_the_profiles(place, tmp_path):
    def stated(tables):
        for person in tables["personas"]["train"]:
            religion = "Catholic" if int(person["persona_id"][1:]) % 2 else "None"
            person["profile"] = as_lines({"religion": religion})
        profiles = {person["persona_id"]: person["profile"] for person in tables["personas"]["train"]}
        for config in ("dpf", "contrast"):
            for row in (row for rows in tables[config].values() for row in rows):
                row["prompt"][0]["content"] = profiles[row["persona_id"]]

    data = write_published_folder(tmp_path / "data", seen=8, unseen=8, change=stated)
    base = ["--model_name_or_path", str(place.base), "--use_cpu", "true", "--out", str(tmp_path / "r.json")]
    path = score.main(["--rule", "length", "--dataset", str(data), *base])
    entry = json.loads(path.read_text())["results"][0]
    assert entry["conditions"]["true"]["spread"]["worst_group"]["attribute"] == "religion"
    assert entry["conditions"]["true"]["spread"]["worst_group"]["rows"] == 24
