import json
import shutil

import pytest
import torch

from builder.errors import InputError
from builder.schema import assistant_message, preference_messages
from tests.tiny_model import build_tiny_model
from training import scoring
from training.evaluation import pair_candidates
from training.scoring import (
    load_base_model,
    load_dpo_model,
    load_reward_model,
    score_implicit_rewards,
    score_log_probabilities,
    score_rewards,
)
from training.tokens import token_ids
from training.trained import items_of

PROFILES = ("You are a nurse.", "You are a farmer who likes very plain words and no others.", None)
TEXTS = ("I like pets.", "Rules are rules, and everyone should do what the manager says about them.", "No.")
ITEMS = [
    (preference_messages(profile, "What do you think about pets?"), text) for profile in PROFILES for text in TEXTS
]


@pytest.fixture(scope="module")
def reward_model(place, reward_folder):
    return load_reward_model(reward_folder, base_model=str(place.base), device="cpu")


@pytest.fixture(scope="module")
def dpo_model(place, dpo_folder):
    return load_dpo_model(dpo_folder, base_model=str(place.base), device="cpu")


def plain_reward(model, messages, text) -> float:
    """One text at a time, no cache, no padding."""
    ids = torch.tensor([token_ids(model.tokenizer, messages + assistant_message(text))])
    with torch.no_grad():
        return model.model(input_ids=ids).logits[0, 0].item()


def plain_log_probability(model, tokenizer, messages, text) -> float:
    ids = token_ids(tokenizer, messages + assistant_message(text))
    start = len(token_ids(tokenizer, messages, open_answer=True))
    with torch.no_grad():
        logits = torch.log_softmax(model(input_ids=torch.tensor([ids])).logits[0], dim=-1)
    return sum(logits[i - 1, ids[i]].item() for i in range(start, len(ids)))


@pytest.mark.parametrize("batch_size", [1, 2, 4, 64])
def test_rewards_do_not_depend_on_batches_padding_or_shared_beginnings(reward_model, batch_size):
    expected = [plain_reward(reward_model, *item) for item in ITEMS]
    assert score_rewards(reward_model, ITEMS, batch_size) == pytest.approx(expected, abs=1e-4)
    backwards = score_rewards(reward_model, ITEMS[::-1], batch_size)
    assert backwards[::-1] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("batch_size", [1, 2, 4, 64])
def test_log_probabilities_do_not_depend_on_batches_padding_or_shared_beginnings(dpo_model, batch_size):
    scores = score_implicit_rewards(dpo_model, ITEMS, batch_size)
    policy = [plain_log_probability(dpo_model.model, dpo_model.tokenizer, *item) for item in ITEMS]
    with dpo_model.model.disable_adapter():
        reference = [plain_log_probability(dpo_model.model, dpo_model.tokenizer, *item) for item in ITEMS]
    assert [p for p, _ in scores] == pytest.approx(policy, abs=1e-4)
    assert [r for _, r in scores] == pytest.approx(reference, abs=1e-4)
    assert policy != pytest.approx(reference, abs=1e-4)


def test_reference_is_the_untrained_model(place, dpo_model):
    base = load_base_model(str(place.base), device="cpu")
    expected = [reference for _, reference in score_implicit_rewards(dpo_model, ITEMS)]
    assert score_log_probabilities(base, ITEMS) == pytest.approx(expected, abs=1e-4)


def test_each_item_is_computed_once(reward_model, monkeypatch):
    counted = []
    original = scoring.forward_answers

    def counting(model, tokenizer, sequences, batch):
        counted.extend(scoring.members(batch))
        return original(model, tokenizer, sequences, batch)

    monkeypatch.setattr(scoring, "forward_answers", counting)
    scores = score_rewards(reward_model, ITEMS * 3)
    assert sorted(counted) == list(range(len(ITEMS)))
    assert scores[: len(ITEMS)] == scores[len(ITEMS) : 2 * len(ITEMS)]
    assert score_rewards(reward_model, []) == []


def test_implicit_rewards_are_those_of_the_trainer(place, tmp_path, monkeypatch):
    """TRL's own `rewards/margins` of a test split against ours."""
    from training import dpo

    seen = {}
    original = dpo.train

    def train_and_evaluate(trainer, prepared, *more):
        facts = original(trainer, prepared, *more)
        rows = prepared.rows["seen_test"]
        figures = trainer.evaluate()
        model = scoring.ScoringModel(trainer.model.eval(), prepared.tokenizer, "dpo", beta=0.1)
        scores = score_implicit_rewards(model, items_of(prepared.evaluation_prompts, pair_candidates(rows)))
        rewards = [0.1 * (policy - reference) for policy, reference in scores]
        seen["ours"] = sum(rewards[::2]) / len(rows) - sum(rewards[1::2]) / len(rows)
        seen["theirs"] = figures["seen_test/rewards/margins"]
        return facts

    monkeypatch.setattr(dpo, "train", train_and_evaluate)
    curve = ["--eval_strategy", "steps", "--eval_steps", "3", "--per_device_eval_batch_size", "4"]
    dpo.main(place.arguments("demo_dpo", tmp_path / "model", *curve))
    assert seen["ours"] == pytest.approx(seen["theirs"], abs=1e-4)
    assert abs(seen["ours"]) > 1e-4


def test_checkpoints_that_do_not_fit_are_refused(place, tmp_path, dpo_folder, reward_folder):
    with pytest.raises(InputError, match="is a dpo model"):
        load_reward_model(dpo_folder, base_model=str(place.base))
    with pytest.raises(InputError, match=r"training\.json"):
        load_dpo_model(place.base)
    with pytest.raises(InputError, match="base_model=PATH"):
        load_dpo_model(dpo_folder)
    other = build_tiny_model(tmp_path / "other")
    weights = (other / "model.safetensors").read_bytes()
    (other / "model.safetensors").write_bytes(weights[:-4] + b"\0\0\0\0")
    with pytest.raises(InputError, match="content hash"):
        load_dpo_model(dpo_folder, base_model=str(other))
    copy = tmp_path / "copy"
    shutil.copytree(reward_folder, copy)
    record = json.loads((copy / "training.json").read_text())
    (copy / "training.json").write_text(json.dumps(record | {"template_hash": "0" * 64}))
    with pytest.raises(InputError, match="another prompt template"):
        load_reward_model(copy, base_model=str(place.base))
    (copy / "training.json").write_text(json.dumps(record))
    (copy / "chat_template.jinja").write_text("{{ messages }}")
    with pytest.raises(InputError, match="chat template"):
        load_reward_model(copy, base_model=str(place.base))


def test_scoring_with_the_wrong_kind_of_model_or_too_long_a_text(reward_model, dpo_model):
    with pytest.raises(InputError, match="dpo model"):
        score_rewards(dpo_model, ITEMS)
    with pytest.raises(InputError, match="reward model"):
        score_implicit_rewards(reward_model, ITEMS)
    with pytest.raises(InputError, match="512"):
        score_rewards(reward_model, [(ITEMS[0][0], "word " * 600)])
