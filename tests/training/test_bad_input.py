"""What a run cannot use stops it before the first step, with what was got, why it is wrong and what to do."""

import json
import shutil
from pathlib import Path

import pytest

from builder.errors import InputError
from builder.llm.weights import EMBEDDED_MODEL_ID
from tests.published_folder import Tables, write_published_folder
from training import dpo, low_rank, p_dpo, per_persona, reward, vpl
from training.base_model import resolve_base_model
from training.data import load_preference_data
from training.record import finished_record
from training.scoring import load_reward_model
from training.trained import load_scorer
from training.trainers import NamedSplitsDPOTrainer, NamedSplitsRewardTrainer

METHODS = {
    "dpo": dpo,
    "reward": reward,
    "low_rank": low_rank,
    "vpl": vpl,
    "p_dpo": p_dpo,
    "per_persona": per_persona,
}


@pytest.fixture(autouse=True)
def no_step(monkeypatch):
    """Whatever gets as far as training fails otherwise than with an InputError."""
    for trainer in (NamedSplitsDPOTrainer, NamedSplitsRewardTrainer):
        monkeypatch.setattr(trainer, "training_step", None)
    monkeypatch.setattr(low_rank, "embed", None)
    monkeypatch.setattr(vpl, "embed", None)
    monkeypatch.setattr(p_dpo, "backward", None)


def refused(place, output: Path, method: str, *more: str, match: str) -> None:
    common = ["--config", f"demo_{method}", "--dataset", str(place.data), "--model_name_or_path", str(place.base)]
    with pytest.raises(InputError, match=match):
        METHODS[method].main([*common, "--base_model_id", "a/tiny", "--output_dir", str(output), *more])
    assert not output.exists()


@pytest.mark.parametrize(
    ("method", "arguments", "named"),
    [
        ("dpo", ["--model_revision", "nope"], r"model_revision is 'nope', but .*tiny is a folder, which has none"),
        ("dpo", ["--model_name_or_path", "embedded", "--model_revision", "nope"], "no other revision"),
        ("dpo", ["--model_name_or_path", EMBEDDED_MODEL_ID, "--model_revision", "nope"], "Write `embedded`"),
        ("dpo", ["--model_name_or_path", EMBEDDED_MODEL_ID], "Write `embedded`"),
        ("dpo", ["--model_name_or_path", "org/none"], r"org/none \(revision main\).*model_name_or_path in training"),
        ("dpo", ["--beta", "-1"], "beta is -1"),
        ("dpo", ["--beta", "0"], "beta is 0"),
        ("dpo", ["--beta", "nan"], "beta is nan"),
        ("dpo", ["--label_smoothing", "-0.1"], "label_smoothing is -0.1"),
        ("dpo", ["--loss_type", "robust", "--label_smoothing", "0.5"], "label_smoothing is 0.5.*below 0.5"),
        ("dpo", ["--loss_type", "robust", "--label_smoothing", "0.7"], "label_smoothing is 0.7"),
        ("dpo", ["--loss_type", "exo_pair", "--label_smoothing", "nan"], "label_smoothing is nan"),
        ("dpo", ["--lora_dropout", "0.3"], "lora_dropout is 0.3, but disable_dropout is true"),
        ("reward", ["--lora_dropout", "0.3"], "lora_dropout is 0.3, but disable_dropout is true"),
        ("per_persona", ["--lora_dropout", "0.3"], "lora_dropout is 0.3, but disable_dropout is true"),
        ("dpo", ["--loss_type", "hingee"], "loss_type is hingee; choose from sigmoid, hinge, ipo"),
        ("dpo", ["--loss_type", "exo_pair"], "Label smoothing must be greater.*packaged recipe"),
        ("dpo", ["--lora_target_modules", "nonsense"], "Target modules nonsense not found"),
        ("reward", ["--lora_target_modules", "nonsense"], r"(?i)target"),
        ("per_persona", ["--lora_target_modules", "nonsense"], r"(?i)target"),
        ("dpo", ["--lora_r", "0"], "positive integer"),
        ("per_persona", ["--lora_r", "0"], "positive integer"),
        ("dpo", ["--per_device_train_batch_size", "0"], "per_device_train_batch_size is 0"),
        ("reward", ["--gradient_accumulation_steps", "0"], "gradient_accumulation_steps is 0"),
        ("dpo", ["--learning_rate", "nan"], "learning_rate is nan"),
        ("reward", ["--learning_rate", "-1"], "learning_rate is -1"),
        ("per_persona", ["--learning_rate", "inf"], "learning_rate is inf"),
        ("dpo", ["--max_steps", "-1", "--num_train_epochs", "0"], "nothing would be trained"),
        ("dpo", ["--eval_batch_texts", "0"], "eval_batch_texts is 0; give at least 1"),
        ("low_rank", ["--eval_batch_texts", "-1"], "eval_batch_texts is -1"),
        ("vpl", ["--eval_batch_texts", "0"], "eval_batch_texts is 0"),
        ("dpo", ["--dataset_shares", "nan", "nan"], r"dataset_shares is \[nan, nan\]"),
        ("dpo", ["--robust_step", "0.1"], "no robust_groups"),
        ("reward", ["--early_stopping_patience", "2"], "no early_stopping_metric"),
    ],
)
def test_values_that_cannot_be_used(tmp_path, place, method, arguments, named):
    refused(place, tmp_path / "model", method, *arguments, match=named)


@pytest.mark.parametrize(
    ("methods", "arguments"),
    [
        (["reward", "low_rank", "vpl", "p_dpo", "per_persona"], ["--reference_persona", "false"]),
        (["reward", "p_dpo"], ["--reference_persona", "true"]),
        (["low_rank", "vpl", "p_dpo", "per_persona"], ["--robust_step", "0.3"]),
        (["low_rank", "vpl", "p_dpo", "per_persona"], ["--robust_groups", "religion"]),
        (["low_rank", "vpl", "p_dpo", "per_persona"], ["--early_stopping_patience", "7"]),
        (["low_rank", "vpl", "p_dpo", "per_persona"], ["--persona_corruption", "0.5"]),
        (["low_rank", "vpl", "p_dpo", "per_persona"], ["--relevant_attributes", "2"]),
        (["low_rank", "vpl", "p_dpo", "per_persona"], ["--bnb_4bit_quant_type", "nf4"]),
        (["p_dpo", "per_persona"], ["--persona_dropout", "0.5"]),
        (["p_dpo", "per_persona"], ["--few_shot_pairs", "2"]),
        (["p_dpo", "per_persona"], ["--persona_budget", "20"]),
        (["low_rank", "vpl", "p_dpo"], ["--share_prompt", "false"]),
        (["low_rank", "vpl", "p_dpo"], ["--attn_implementation", "eager"]),
        (["low_rank", "vpl"], ["--lora_r", "99"]),
        (["low_rank", "vpl"], ["--use_dora", "true"]),
    ],
)
def test_keys_that_a_method_does_not_read(tmp_path, place, methods, arguments):
    for method in methods:
        match = f"{method} does not read {arguments[0].removeprefix('--')}. Remove it"
        refused(place, tmp_path / method, method, *arguments, match=match)


@pytest.mark.parametrize("method", ["dpo", "low_rank", "p_dpo"])
def test_a_score_cache_that_cannot_be_written(tmp_path, place, method):
    (tmp_path / "file").write_text("")
    for cache in (tmp_path / "file", tmp_path / "file" / "cache"):
        refused(place, tmp_path / "model", method, "--score_cache", str(cache), match="score_cache is .*nothing can be")


def no_profile(tables: Tables) -> None:
    for row in tables["personas"]["train"]:
        del row["profile"]


def no_prompt(tables: Tables) -> None:
    tables["dpf"]["train"][0]["prompt"] = []


def no_question(tables: Tables) -> None:
    tables["dpf"]["train"][0]["prompt"][1]["content"] = None


def no_answer(tables: Tables) -> None:
    tables["dpf"]["seen_test"][0]["chosen"] = []


def no_text(tables: Tables) -> None:
    tables["contrast"]["train"][0]["rejected"] = [{"role": "assistant", "content": None}]


def two_answers(tables: Tables) -> None:
    tables["dpf"]["train"][0]["chosen"] *= 2


def a_row_twice(tables: Tables) -> None:
    tables["dpf"]["train"].append(dict(tables["dpf"]["train"][0]))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (no_profile, r"Config personas lacks the column\(s\) profile; it has "),
        (no_prompt, r"roles are \[\], not \[system, user\]"),
        (no_question, "with a text each"),
        (no_answer, r"seen_test, row .*: chosen is \[\], not one message"),
        (no_text, "rejected is .*None.*, not one message of the assistant with a text"),
        (two_answers, "not one message"),
        (a_row_twice, "dpf, split train: 1 pair ids are given to several rows"),
    ],
)
def test_datasets_that_cannot_be_used(tmp_path, change, named):
    folder = write_published_folder(tmp_path / "data", change=change)
    with pytest.raises(InputError, match=named):
        load_preference_data(str(folder), ["dpf", "contrast"])


def same_answers(tables: Tables) -> None:
    for config in ("dpf", "contrast"):
        for rows in tables[config].values():
            for row in rows:
                row["rejected"] = row["chosen"]


@pytest.mark.parametrize(
    ("arguments", "change", "advised", "not_advised"),
    [
        (["--max_length", "70"], None, "Raise max_length", "few_shot_pairs"),
        (["--persona", "none", "--max_length", "70"], None, "measured with the profile too", "few_shot_pairs"),
        (["--persona", "few_shot", "--few_shot_pairs", "30"], None, r"Lower few_shot_pairs \(30\)", "max_length"),
        ([], same_answers, "empty or alike come from the build", "max_length"),
    ],
)
def test_the_advice_is_about_the_reason(tmp_path, place, capsys, arguments, change, advised, not_advised):
    data = place.data if change is None else write_published_folder(tmp_path / "data", change=change)
    output = tmp_path / "model"
    common = ["--config", "demo_dpo", "--dataset", str(data), "--model_name_or_path", str(place.base)]
    with pytest.raises(InputError, match=advised) as raised:
        dpo.main([*common, "--output_dir", str(output), *arguments])
    assert not_advised not in str(raised.value)
    assert "{}" not in str(raised.value)


def test_a_revision_is_one_of_the_hub(hub, place):
    files = {path.name: path.read_bytes() for path in place.base.iterdir()}
    hub.commit("org/tiny", files, kind="model")
    first = hub.head("org/tiny", "model")
    hub.commit("org/tiny", files | {"notes.txt": b"later"}, kind="model")
    head = hub.head("org/tiny", "model")
    for revision, commit in ((None, head), ("main", head), (first, first)):
        base = resolve_base_model("org/tiny", revision)
        assert (base.given, base.revision, base.content_hash) == ("hub", commit, commit)
    with pytest.raises(InputError, match=r"org/tiny \(revision nope\).*RevisionNotFoundError.*Check id, revision"):
        resolve_base_model("org/tiny", "nope")


@pytest.mark.parametrize(
    ("text", "named"),
    [("{}", "lacks kind, persona"), ("[]", "holds list"), ("{", "not readable JSON"), (None, "no finished model")],
)
def test_records_that_cannot_be_used(tmp_path, text, named):
    if text is not None:
        (tmp_path / "training.json").write_text(text)
    for read in (finished_record, load_reward_model, lambda folder: load_scorer(folder, {}, {})):
        with pytest.raises(InputError, match=named):
            read(tmp_path)


def test_a_model_of_a_folder_is_scored_from_another(tmp_path, place, reward_folder):
    """The declared revision is of the declared base alone."""
    copied = tmp_path / "model"
    shutil.copytree(reward_folder, copied)
    record = json.loads((copied / "training.json").read_text())
    record["base_model"] |= {"given": "hub", "model_id": "org/tiny", "revision": "a" * 40, "content_hash": "a" * 40}
    (copied / "training.json").write_text(json.dumps(record))
    assert load_reward_model(copied, str(place.base), "cpu").kind == "reward"
