"""What a finished run promises: its scores can be had again from disk, in any batch, after any interruption, from its seed."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import trl
from datasets import Dataset
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer, Trainer

from builder.schema import assistant_message, preference_messages
from tests.published_folder import build_tables
from training import dpo, reward
from training.scoring import (
    load_dpo_model,
    load_reward_model,
    score_implicit_rewards,
    score_log_probabilities,
    score_rewards,
)
from training.tokens import token_ids

pytestmark = pytest.mark.thorough

REPOSITORY = Path(__file__).parents[2]
MAIN = {"dpo": dpo.main, "reward": reward.main}
TEST_SPLITS = ("seen_test", "heldout_test")
FULL = ("--use_peft", "false", "--learning_rate", "3e-3")
VARIANTS = {
    "dpo, adapter": ("dpo", ()),
    "dpo, all weights": ("dpo", FULL),
    "reward, adapter": ("reward", ()),
    "reward, all weights": ("reward", FULL),
}
# All weights are trained in as many ways; these tests do so under the marker.
ADAPTERS_FIRST = [
    pytest.param(*variant, id=name, marks=[] if "adapter" in name else pytest.mark.slow)
    for name, variant in VARIANTS.items()
]
LENGTHS = (1, 2, 12, 3, 25, 1, 8, 18, 5)
UNEVEN_ITEMS = [
    (preference_messages("You are a nurse. " * profile, "What do you think about pets?"), "I like pets. " * answer)
    for profile, answer in zip(LENGTHS, reversed(LENGTHS), strict=True)
]


def record_of(folder: Path) -> dict:
    return json.loads((folder / "training.json").read_text())


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    (path,) = folder.glob("*model.safetensors")
    return load_file(path)


def rows_of(split: str) -> list[dict]:
    """A test split as it was written, both configs: the prompt is the persona's profile and the question."""
    tables = build_tables()
    return [row for config in ("dpf", "contrast") for row in tables[config][split]]


def items_of(rows: list[dict]) -> list[tuple[list[dict], str]]:
    return [(row["prompt"], row[side][0]["content"]) for row in rows for side in ("chosen", "rejected")]


def margins_of(scores: list[float]) -> list[float]:
    """Chosen minus rejected, of scores in the order of `items_of`."""
    return [chosen - rejected for chosen, rejected in zip(scores[::2], scores[1::2], strict=True)]


# ---- Saved and read back


def plain_scores(kind: str, trainer, items) -> list[float]:
    """One text at a time from the model in memory, with nothing of training.scoring."""

    def log_probability(model, ids: list[int], start: int) -> float:
        logits = torch.log_softmax(model(input_ids=torch.tensor([ids])).logits[0].double(), dim=-1)
        return sum(logits[place - 1, ids[place]].item() for place in range(start, len(ids)))

    model = trainer.accelerator.unwrap_model(trainer.model)
    was_training = model.training
    model.eval()
    scores = []
    with torch.no_grad():
        for messages, text in items:
            ids = token_ids(trainer.processing_class, messages + assistant_message(text))
            if kind == "reward":
                scores.append(model(input_ids=torch.tensor([ids])).logits[0, 0].item())
                continue
            start = len(token_ids(trainer.processing_class, messages, open_answer=True))
            policy = log_probability(model, ids, start)
            if hasattr(model, "disable_adapter"):
                with model.disable_adapter():
                    reference = log_probability(model, ids, start)
            else:
                reference = log_probability(trainer.ref_model, ids, start)
            scores.append(trainer.beta * (policy - reference))
    model.train(was_training)
    return scores


def score_at_the_end(patched: pytest.MonkeyPatch, kind: str, items) -> list[float]:
    """The list that `plain_scores` of the next model trained will stand in."""
    live: list[float] = []
    original = Trainer.train

    def train_and_score(self, *args, **kwargs):
        result = original(self, *args, **kwargs)
        live.extend(plain_scores(kind, self, items))
        return result

    patched.setattr(Trainer, "train", train_and_score)
    return live


@pytest.fixture(scope="module")
def finished(place, tmp_path_factory) -> dict[str, tuple[Path, list[float]]]:
    """The four kinds of model, each with the scores that it gave in memory when its training ended."""
    root = tmp_path_factory.mktemp("finished")
    items = items_of([row for split in TEST_SPLITS for row in rows_of(split)])
    models = {}
    for name, (kind, more) in VARIANTS.items():
        with pytest.MonkeyPatch.context() as patched:
            live = score_at_the_end(patched, kind, items)
            arguments = ["--eval_max_rows", "1000", *more]
            folder = MAIN[kind](place.arguments(f"demo_{kind}", root / name.replace(", ", "-"), *arguments))
        models[name] = (folder, live)
    return models


@pytest.fixture(scope="module")
def rescored(place, finished) -> dict[str, list[float]]:
    """The same scores from the folders, in a process that has seen nothing else."""
    items = items_of([row for split in TEST_SPLITS for row in rows_of(split)])
    jobs = [
        {"kind": VARIANTS[name][0], "folder": str(folder), "base": str(place.base), "items": items}
        for name, (folder, _) in finished.items()
    ]
    done = subprocess.run(
        [sys.executable, "-m", "tests.training.rescore"],
        input=json.dumps(jobs),
        cwd=REPOSITORY,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(zip(finished, json.loads(done.stdout.splitlines()[-1]), strict=True))


@pytest.mark.parametrize("name", VARIANTS)
def test_a_fresh_process_scores_as_the_trained_model_did(finished, rescored, name):
    live = finished[name][1]
    assert rescored[name] == pytest.approx(live, abs=1e-5)
    assert len(live) == 2 * sum(len(rows_of(split)) for split in TEST_SPLITS)
    assert max(map(abs, live)) > 1e-2


@pytest.mark.parametrize("name", VARIANTS)
def test_a_fresh_process_gives_the_reported_margins(finished, rescored, name):
    record = record_of(finished[name][0])
    rows = [{**row, "split": split} for split in TEST_SPLITS for row in rows_of(split)]
    margins = margins_of(rescored[name])
    seen = set()
    for entry in record["results"]:
        own = [
            margin
            for row, margin in zip(rows, margins, strict=True)
            if ("contrast" if "mirror_pair_id" in row else "dpf") == entry["config"]
            and entry["cell"] in ("all", f"{row['persona_group']}/{row['split']}")
        ]
        assert len(own) == entry["rows"]
        reported = entry["conditions"]["true"]
        assert reported["mean_margin"] == pytest.approx(sum(own) / len(own), abs=1e-5)
        assert reported["wins"] == sum(margin > 0 for margin in own)
        seen.add((entry["config"], entry["cell"]))
    assert {("dpf", "all"), ("contrast", "unseen/heldout_test")} <= seen


# ---- Padding and batches


def same(scores, expected):
    """To 1e-5, or to float32's precision, for log-probabilities of long texts are in the thousands."""
    return scores == pytest.approx(expected, rel=2e-7, abs=1e-5)


@pytest.mark.parametrize("name", ["reward, adapter", "reward, all weights"])
def test_no_reward_is_moved_by_batch_order_or_padding(place, finished, name):
    model = load_reward_model(finished[name][0], str(place.base), device="cpu")
    alone = [score_rewards(model, [item])[0] for item in UNEVEN_ITEMS]
    for batch_size in (1, 3, 16):
        assert same(score_rewards(model, UNEVEN_ITEMS, batch_size), alone)
        assert same(score_rewards(model, UNEVEN_ITEMS[::-1], batch_size)[::-1], alone)
    assert len({round(score, 4) for score in alone}) == len(alone)


@pytest.mark.parametrize("name", ["dpo, adapter", "dpo, all weights"])
def test_no_implicit_reward_is_moved_by_batch_order_or_padding(place, finished, name):
    model = load_dpo_model(finished[name][0], str(place.base), device="cpu")

    def scores_of(items, batch_size=16):
        return [score for pair in score_implicit_rewards(model, items, batch_size) for score in pair]

    alone = [score for item in UNEVEN_ITEMS for score in scores_of([item])]
    for batch_size in (1, 3, 16):
        assert same(scores_of(UNEVEN_ITEMS, batch_size), alone)
        backwards = score_implicit_rewards(model, UNEVEN_ITEMS[::-1], batch_size)[::-1]
        assert same([score for pair in backwards for score in pair], alone)
        assert same(score_log_probabilities(model, UNEVEN_ITEMS, batch_size), alone[::2])
    assert len({round(score, 3) for score in alone}) == len(alone)


# ---- Interrupted and resumed

CURVE = ("--max_steps", "6", "--save_strategy", "steps", "--save_steps", "2", "--save_total_limit", "1")
# TRL switches every dropout off unless told not to.
DROPOUT = ("--lora_dropout", "0.3", "--disable_dropout", "false")


def losses(folder: Path) -> list[tuple[int, float, float]]:
    """(step, loss, learning rate) of every step."""
    history = record_of(folder)["run"]["history"]
    return [(entry["step"], entry["loss"], entry["learning_rate"]) for entry in history if "loss" in entry]


def check_same_run(resumed: Path, undisturbed: Path) -> None:
    expected = losses(undisturbed)
    assert [step for step, _, _ in expected] == [1, 2, 3, 4, 5, 6]
    assert len({loss for _, loss, _ in expected}) > 1
    assert [step for step, _, _ in losses(resumed)] == [1, 2, 3, 4, 5, 6]
    for curve in zip(losses(resumed), expected, strict=True):
        assert curve[0] == pytest.approx(curve[1], abs=1e-6)
    first, second = weights_of(resumed), weights_of(undisturbed)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    ("kind", "more"),
    [("dpo", ()), ("reward", ()), ("dpo", DROPOUT), ("reward", DROPOUT), ("dpo", FULL), ("reward", FULL)],
    ids=["dpo", "reward", "dpo, dropout", "reward, dropout", "dpo, all weights", "reward, all weights"],
)
def test_a_resumed_run_is_the_run_that_was_never_interrupted(place, tmp_path, monkeypatch, kind, more):
    undisturbed = MAIN[kind](place.arguments(f"demo_{kind}", tmp_path / "undisturbed", *CURVE, *more))
    original = Trainer.training_step

    def interrupted(self, *args, **kwargs):
        if self.state.global_step == 5:
            raise KeyboardInterrupt
        return original(self, *args, **kwargs)

    arguments = place.arguments(f"demo_{kind}", tmp_path / "resumed", *CURVE, *more)
    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "training_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            MAIN[kind](arguments)
    # Whatever was drawn in between must not matter.
    torch.rand(7)
    check_same_run(MAIN[kind]([*arguments, "--resume_from_checkpoint", "true"]), undisturbed)


def test_dropout_is_drawn_on_resuming_as_it_would_have_been(place, tmp_path):
    """Without this the test above could pass because dropout does nothing."""
    plain = reward.main(place.arguments("demo_reward", tmp_path / "plain", *CURVE))
    dropped = reward.main(place.arguments("demo_reward", tmp_path / "dropped", *CURVE, *DROPOUT))
    assert [loss for _, loss, _ in losses(plain)] != [loss for _, loss, _ in losses(dropped)]


KILLED_AT_STEP_5 = """
import os, signal, sys
from transformers import Trainer
from training import dpo
original = Trainer.training_step
def killed(self, *args, **kwargs):
    if self.state.global_step == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(self, *args, **kwargs)
Trainer.training_step = killed
dpo.main(sys.argv[1:])
"""


@pytest.mark.slow
def test_a_killed_process_is_resumed_by_another(place, tmp_path):
    arguments = place.arguments("demo_dpo", tmp_path / "resumed", *CURVE, *DROPOUT)
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_AT_STEP_5, *arguments],
        cwd=REPOSITORY,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        timeout=900,
    )
    assert killed.returncode == -signal.SIGKILL
    resumed = dpo.main([*arguments, "--resume_from_checkpoint", "true"])
    check_same_run(resumed, dpo.main(place.arguments("demo_dpo", tmp_path / "undisturbed", *CURVE, *DROPOUT)))


# ---- Seeds


@pytest.mark.parametrize(("kind", "more"), ADAPTERS_FIRST)
def test_a_seed_gives_the_same_weights_bit_for_bit_and_another_seed_others(place, tmp_path, kind, more):
    def trained(name: str, seed: int) -> dict[str, torch.Tensor]:
        arguments = ["--seed", str(seed), "--eval_max_rows", "0", *DROPOUT, *more]
        return weights_of(MAIN[kind](place.arguments(f"demo_{kind}", tmp_path / name, *arguments)))

    first = trained("first", 0)
    torch.rand(7)
    again, other = trained("again", 0), trained("other", 1)
    assert first.keys() == again.keys() == other.keys()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


# ---- Blind models


@pytest.mark.parametrize(("kind", "more"), ADAPTERS_FIRST)
def test_a_blind_model_scores_one_half_on_complete_mirrored_sets(place, tmp_path, kind, more):
    """Exactly, not about: mirrors have one prompt and one pair of texts, and each text has one score."""
    arguments = ["--persona", "none", "--dataset_configs", "contrast", "--eval_max_rows", "1000", *more]
    folder = MAIN[kind](place.arguments(f"demo_{kind}", tmp_path / "blind", *arguments))
    cells = {entry["cell"]: entry for entry in record_of(folder)["results"]}
    assert len(cells) == 5
    for cell, entry in cells.items():
        outcome = entry["conditions"]["none"]
        assert outcome["wins"] + outcome["ties"] / 2 == entry["rows"] / 2, cell
        assert outcome["mean_margin"] == pytest.approx(0, abs=1e-7)
        assert outcome["wins"] > 0, "one half by ties alone would say nothing"
    # Scored again and in batches of another size: each mirror's margin is its twin's with the other sign, to the last bit.
    rows = [row for split in TEST_SPLITS for row in build_tables()["contrast"][split]]
    blind = [{**row, "prompt": preference_messages(None, row["prompt"][-1]["content"])} for row in rows]
    if kind == "reward":
        scores = score_rewards(load_reward_model(folder, str(place.base), device="cpu"), items_of(blind), 3)
    else:
        pairs = score_implicit_rewards(load_dpo_model(folder, str(place.base), device="cpu"), items_of(blind), 3)
        scores = [policy - reference for policy, reference in pairs]
    margins = dict(zip((row["pair_id"] for row in rows), margins_of(scores), strict=True))
    assert all(margins[row["pair_id"]] == -margins[row["mirror_pair_id"]] for row in rows)
    assert any(margins.values())


# ---- Stock trainers


def one_batch() -> tuple[list[dict], Dataset]:
    rows = [*build_tables()["dpf"]["seen_test"], *build_tables()["contrast"]["seen_test"]][:12]
    return rows, Dataset.from_list([{name: row[name] for name in ("prompt", "chosen", "rejected")} for row in rows])


def stock_settings(output: Path, size: int) -> dict:
    return {
        "output_dir": str(output),
        "use_cpu": True,
        "bf16": False,
        "report_to": "none",
        "max_length": 320,
        "per_device_eval_batch_size": size,
        "dataloader_pin_memory": False,
    }


@pytest.mark.parametrize("name", ["dpo, adapter", "dpo, all weights"])
def test_implicit_rewards_are_those_of_the_stock_trainer(place, finished, tmp_path, name):
    """TRL's own DPOTrainer, given the finished folder by hand, logs our figures for one batch of rows of many lengths."""
    folder = finished[name][0]
    rows, batch = one_batch()
    source = place.base if name == "dpo, adapter" else folder
    model = AutoModelForCausalLM.from_pretrained(source)
    if name == "dpo, adapter":
        model = PeftModel.from_pretrained(model, str(folder), is_trainable=True)
    trainer = trl.DPOTrainer(
        model=model,
        # Left out with an adapter, TRL's reference would be the adapter as it is given: all rewards would be zero.
        ref_model=AutoModelForCausalLM.from_pretrained(place.base),
        args=trl.DPOConfig(**stock_settings(tmp_path, len(rows)), beta=record_of(folder)["beta"]),
        train_dataset=batch,
        eval_dataset=batch,
        processing_class=AutoTokenizer.from_pretrained(folder),
    )
    logged = trainer.evaluate()
    ours = load_dpo_model(folder, str(place.base), device="cpu")
    scores = score_implicit_rewards(ours, items_of(rows))
    rewards = [ours.beta * (policy - reference) for policy, reference in scores]
    chosen, rejected = torch.tensor(rewards[::2]).double(), torch.tensor(rewards[1::2]).double()
    assert logged["eval_rewards/chosen"] == pytest.approx(chosen.mean().item(), abs=1e-5)
    assert logged["eval_rewards/rejected"] == pytest.approx(rejected.mean().item(), abs=1e-5)
    assert logged["eval_rewards/margins"] == pytest.approx((chosen - rejected).mean().item(), abs=1e-5)
    assert logged["eval_rewards/accuracies"] == pytest.approx((chosen > rejected).double().mean().item())
    assert logged["eval_loss"] == pytest.approx(torch.log1p((rejected - chosen).exp()).mean().item(), abs=1e-5)
    assert logged["eval_logps/chosen"] == pytest.approx(sum(p for p, _ in scores[::2]) / len(rows), rel=1e-5)
    assert abs(logged["eval_rewards/margins"]) > 1e-3


@pytest.mark.parametrize("name", ["reward, adapter", "reward, all weights"])
def test_rewards_are_those_of_the_stock_trainer(place, finished, tmp_path, name):
    folder = finished[name][0]
    rows, batch = one_batch()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    source = place.base if name == "reward, adapter" else folder
    model = AutoModelForSequenceClassification.from_pretrained(
        source, num_labels=1, pad_token_id=tokenizer.pad_token_id
    )
    if name == "reward, adapter":
        model = PeftModel.from_pretrained(model, str(folder), is_trainable=True)
    trainer = trl.RewardTrainer(
        model=model,
        args=trl.RewardConfig(**stock_settings(tmp_path, len(rows))),
        train_dataset=batch,
        eval_dataset=batch,
        processing_class=tokenizer,
    )
    logged = trainer.evaluate()
    rewards = score_rewards(load_reward_model(folder, str(place.base), device="cpu"), items_of(rows))
    assert logged["eval_margin"] == pytest.approx((sum(rewards[::2]) - sum(rewards[1::2])) / len(rows), abs=1e-5)
    assert logged["eval_mean_reward"] == pytest.approx(sum(rewards) / len(rewards), abs=1e-5)
    assert logged["eval_max_reward"] == pytest.approx(max(rewards), abs=1e-5)
    assert logged["eval_min_reward"] == pytest.approx(min(rewards), abs=1e-5)
    assert max(rewards) - min(rewards) > 1e-2
