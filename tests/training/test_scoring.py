import copy
import dataclasses
import json
import shutil

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification
from transformers.utils import logging as transformers_logging

from builder.errors import InputError
from builder.schema import assistant_message, preference_messages
from tests.tiny_model import build_tiny_model
from training import scoring
from training.base_model import BaseModel
from training.evaluation import pair_candidates
from training.scoring import (
    answer_tokens,
    base_of,
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
    policy, reference = zip(*score_implicit_rewards(dpo_model, ITEMS), strict=True)
    assert score_log_probabilities(base, ITEMS) == pytest.approx(reference, abs=1e-4)
    assert score_log_probabilities(dpo_model, ITEMS, reference=True) == pytest.approx(reference, abs=1e-4)
    assert score_log_probabilities(dpo_model, ITEMS) == pytest.approx(policy, abs=1e-4)
    assert base.kind == "base"
    assert base.record["base_model"]["model_id"] == place.base.name


@pytest.fixture(scope="module")
def moved(place, tmp_path_factory):
    """The base model with all its weights moved a little, and a reward model on it with a head of its own, each in a folder."""
    folders = {}
    for name, kind in (("dpo", AutoModelForCausalLM), ("reward", AutoModelForSequenceClassification)):
        folders[name] = tmp_path_factory.mktemp("moved") / name
        shutil.copytree(place.base, folders[name])
        more = {"num_labels": 1} if name == "reward" else {}
        with torch.random.fork_rng():
            torch.manual_seed(1)
            model = kind.from_pretrained(place.base, **more)
            for weight in model.parameters():
                weight.data += 0.05 * torch.randn_like(weight)
        model.config.pad_token_id = model.config.pad_token_id or 0
        model.save_pretrained(folders[name])
    return folders


def test_a_model_with_all_its_weights_is_scored_against_its_base(place, moved, dpo_folder):
    shutil.copy(dpo_folder / "training.json", moved["dpo"])
    model = load_dpo_model(moved["dpo"], base_model=str(place.base), device="cpu")
    policy, reference = (AutoModelForCausalLM.from_pretrained(folder) for folder in (moved["dpo"], place.base))
    expected = [tuple(plain_log_probability(m, model.tokenizer, *item) for m in (policy, reference)) for item in ITEMS]
    assert score_implicit_rewards(model, ITEMS) == [pytest.approx(pair, abs=1e-4) for pair in expected]
    assert (model.kind, model.beta) == ("dpo", model.record["beta"])


def test_a_reward_model_with_all_its_weights_needs_no_base(moved, reward_folder):
    shutil.copy(reward_folder / "training.json", moved["reward"])
    model = load_reward_model(moved["reward"], device="cpu")
    expected = [plain_reward(model, *item) for item in ITEMS]
    assert score_rewards(model, ITEMS) == pytest.approx(expected, abs=1e-4)
    saved = AutoModelForSequenceClassification.from_pretrained(moved["reward"], num_labels=1)
    assert torch.equal(model.model.score.weight, saved.score.weight)


def test_a_tokenizer_without_padding_changes_no_score(dpo_model):
    expected = score_implicit_rewards(dpo_model, ITEMS)
    tokenizer = copy.deepcopy(dpo_model.tokenizer)
    tokenizer.pad_token = None
    assert tokenizer.pad_token_id is None
    model = dataclasses.replace(dpo_model, tokenizer=tokenizer)
    assert score_implicit_rewards(model, ITEMS) == [pytest.approx(pair, abs=1e-5) for pair in expected]


def test_answer_tokens_are_those_behind_the_open_prompt(reward_model):
    def plain(messages, text):
        tokenizer = reward_model.tokenizer
        whole = token_ids(tokenizer, messages + assistant_message(text))
        return len(whole) - len(token_ids(tokenizer, messages, open_answer=True))

    items = [*ITEMS, *ITEMS[::-1]]
    assert answer_tokens(reward_model, items) == [plain(*item) for item in items]


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


def test_no_batch_is_larger_than_asked_and_a_prompts_texts_share_one(reward_model, monkeypatch):
    groups = []
    original = scoring.forward_answers

    def watching(model, tokenizer, sequences, batch):
        groups.append([len(group.members) for group in batch])
        return original(model, tokenizer, sequences, batch)

    monkeypatch.setattr(scoring, "forward_answers", watching)
    for batch_size, expected in ((1, [[1]] * 9), (3, [[3]] * 3), (6, [[3, 3], [3]]), (9, [[3, 3, 3]])):
        groups.clear()
        score_rewards(reward_model, ITEMS, batch_size)
        assert groups == expected
    # Texts of one prompt that do not fit into a batch are divided.
    groups.clear()
    score_rewards(reward_model, ITEMS, 2)
    assert (sum(map(sum, groups)), max(map(sum, groups))) == (9, 2)


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
    changed = tmp_path / "changed"
    shutil.copytree(reward_folder, changed)
    record = json.loads((changed / "training.json").read_text())
    (changed / "training.json").write_text(json.dumps(record | {"template_hash": "0" * 64}))
    with pytest.raises(InputError, match="another prompt template"):
        load_reward_model(changed, base_model=str(place.base))
    (changed / "training.json").write_text(json.dumps(record))
    (changed / "chat_template.jinja").write_text("{{ messages }}")
    with pytest.raises(InputError, match="chat template"):
        load_reward_model(changed, base_model=str(place.base))


def test_scoring_with_the_wrong_kind_of_model_or_too_long_a_text(reward_model, dpo_model):
    with pytest.raises(InputError, match="dpo model"):
        score_rewards(dpo_model, ITEMS)
    with pytest.raises(InputError, match="reward model"):
        score_implicit_rewards(reward_model, ITEMS)
    with pytest.raises(InputError, match="A reward model gives no log-probabilities"):
        score_log_probabilities(reward_model, ITEMS)
    messages = ITEMS[0][0]
    # Each x is a token; the model reads 512.
    room = 512 - len(token_ids(reward_model.tokenizer, messages + assistant_message("x"))) + 1
    assert len(score_rewards(reward_model, [(messages, "x" * room)])) == 1
    with pytest.raises(InputError, match=r"A text of 513 tokens was given, but the model reads 512\."):
        score_rewards(reward_model, [(messages, "x" * (room + 1))])


def test_weights_are_loaded_in_the_type_asked_for(place, moved, dpo_folder, reward_folder):
    # What an adapter brings of its own may stay in float32.
    for load, folder in ((load_dpo_model, dpo_folder), (load_reward_model, reward_folder)):
        model = load(folder, base_model=str(place.base), device="cpu", dtype="bfloat16")
        assert model.model.get_input_embeddings().weight.dtype == torch.bfloat16
    for load, kind, folder in ((load_dpo_model, "dpo", dpo_folder), (load_reward_model, "reward", reward_folder)):
        shutil.copy(folder / "training.json", moved[kind])
        model = load(moved[kind], base_model=str(place.base), device="cpu", dtype="bfloat16")
        for part in filter(None, (model.model, model.reference)):
            assert part.get_input_embeddings().weight.dtype == torch.bfloat16
            assert not part.training
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16), ("float16", torch.float16)):
        model = load_base_model(str(place.base), device="cpu", dtype=name)
        assert next(model.model.parameters()).dtype == dtype
        assert not model.model.training
    with pytest.raises(InputError, match="dtype is 'int8'; choose one of float32, bfloat16, float16"):
        load_base_model(str(place.base), dtype="int8")


def test_loading_leaves_the_librarys_reports_as_loud_as_they_were(place, reward_folder):
    level = transformers_logging.get_verbosity()
    try:
        transformers_logging.set_verbosity_info()
        load_reward_model(reward_folder, base_model=str(place.base), device="cpu")
        assert transformers_logging.get_verbosity() == transformers_logging.INFO
    finally:
        transformers_logging.set_verbosity(level)


HUB = {"given": "hub", "model_id": "owner/name", "revision": "c0ffee", "content_hash": "c0ffee"}
EMBEDDED = {"given": "embedded", "model_id": "package's id", "revision": None, "content_hash": "1" * 64}


@pytest.mark.parametrize(
    ("declared", "asked", "looked_for"),
    [
        (HUB, None, ("owner/name", "c0ffee")),
        (HUB, "owner/name", ("owner/name", "c0ffee")),
        (HUB, "other/name", ("other/name", None)),
        (EMBEDDED, None, ("embedded", None)),
        (EMBEDDED, "a/folder", ("a/folder", None)),
    ],
)
def test_the_declared_base_is_looked_for_where_it_was_or_where_one_says(
    tmp_path, monkeypatch, declared, asked, looked_for
):
    seen = []

    def resolve(name, revision):
        seen.append((name, revision))
        # Of another origin, so that the hashes cannot be compared.
        return BaseModel(tmp_path, "folder", name, None, "2" * 64)

    monkeypatch.setattr(scoring, "resolve_base_model", resolve)
    assert base_of(tmp_path, {"base_model": declared}, asked).folder == tmp_path
    assert seen == [looked_for]


class Quantised:
    """Stands for a model whose 8-bit weights cannot be moved."""

    is_quantized = True

    def eval(self):
        return self


def test_a_quantised_model_stays_where_it_was_loaded():
    inner = Quantised()
    assert scoring.ready(inner, "cpu") is inner

    class Adapter:
        base_model = inner

        def eval(self):
            return self

    adapter = Adapter()
    assert scoring.ready(adapter, "cpu") is adapter
