import pytest
from transformers import AutoTokenizer

from builder.errors import InputError
from builder.schema import assistant_message
from tests.published_folder import write_published_folder
from tests.tiny_model import TEMPLATE_DROPPING_SYSTEM, TEMPLATE_REFUSING_SYSTEM, build_tiny_model
from training.base_model import load_tokenizer, resolve_base_model
from training.data import load_preference_data
from training.preflight import check_chat_template, check_profile_lengths, keep_rows, print_sample
from training.tokens import token_ids


def train_rows(folder, change=None):
    return load_preference_data(str(write_published_folder(folder, change=change)), ["dpf", "contrast"]).splits["train"]


@pytest.fixture(scope="module")
def tokenizer(place):
    return load_tokenizer(place.base, for_reward=True)


def test_lengths_are_those_of_whole_rows(place, tokenizer):
    rows = load_preference_data(str(place.data), ["dpf"]).splits["train"]
    kept, report = keep_rows(rows, "train", tokenizer, 320, 0.05)
    longest = max(len(token_ids(tokenizer, r["prompt"] + r[side])) for r in rows for side in ("chosen", "rejected"))
    assert report.token_percentiles["p100"] == longest
    assert (report.rows, report.kept, len(kept), report.dropped) == (12, 12, 12, {})


def test_long_and_empty_rows_are_counted_and_take_their_mirror_along(tmp_path, tokenizer):
    def spoil(tables):
        tables["dpf"]["train"][0]["chosen"] = assistant_message(" ")
        tables["dpf"]["train"][1]["rejected"] = tables["dpf"]["train"][1]["chosen"]
        tables["contrast"]["train"][0]["prompt"][1]["content"] += " Why so?" * 60

    kept, report = keep_rows(train_rows(tmp_path / "data", spoil), "train", tokenizer, 320, 0.5)
    assert report.dropped == {
        "empty_completion": 1,
        "identical_completions": 1,
        "mirror_dropped": 1,
        "over_max_length": 1,
    }
    left = set(kept["pair_id"])
    assert all(mirror in left for mirror in kept["mirror_pair_id"] if mirror is not None)


def test_too_many_dropped_rows_stop_the_run(tmp_path, tokenizer):
    with pytest.raises(InputError, match=r"36 of 36 rows.*p50.*max_length: 40"):
        keep_rows(train_rows(tmp_path / "data"), "train", tokenizer, 40, 0.05)


def test_a_profile_is_never_cut(tmp_path, tokenizer):
    folder = write_published_folder(tmp_path / "data", profile_words=60)
    rows = load_preference_data(str(folder), ["dpf"]).splits["train"]
    with pytest.raises(InputError, match=r"4 of 4 profiles.*p00000: \d+.*max_length is 60"):
        check_profile_lengths(rows, tokenizer, 60)
    check_profile_lengths(rows, tokenizer, 512)


@pytest.mark.parametrize(
    ("template", "named"), [(TEMPLATE_REFUSING_SYSTEM, "refuses"), (TEMPLATE_DROPPING_SYSTEM, "drops")]
)
def test_templates_without_a_system_role(tmp_path, template, named):
    folder = build_tiny_model(tmp_path / "tiny", chat_template=template)
    with pytest.raises(InputError, match=named):
        check_chat_template(AutoTokenizer.from_pretrained(folder))


def test_padding_that_is_the_end_token_is_mended_or_refused(tmp_path, monkeypatch):
    folder = build_tiny_model(tmp_path / "tiny", pad_token="<|im_end|>")
    assert load_tokenizer(folder, for_reward=True).pad_token == "<|endoftext|>"
    monkeypatch.setattr("training.base_model.SAFE_PAD_TOKEN", "<|in no vocabulary|>")
    with pytest.raises(InputError, match="padding token"):
        load_tokenizer(folder, for_reward=True)
    assert load_tokenizer(folder, for_reward=False).pad_token == "<|im_end|>"


def test_sample_shows_where_the_answer_begins(place, tokenizer, capsys):
    print_sample(load_preference_data(str(place.data), ["dpf"]).splits["train"], tokenizer)
    shown = capsys.readouterr().out
    assert "<|im_start|>assistant\n|||As a nurse" in shown
    assert "You are a nurse, person 0." in shown


def test_base_models_that_cannot_be_used(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        resolve_base_model(str(tmp_path / "nowhere"))
    (tmp_path / "pickled").mkdir()
    (tmp_path / "pickled" / "config.json").write_text("{}")
    (tmp_path / "pickled" / "pytorch_model.bin").write_text("")
    with pytest.raises(InputError, match="safetensors"):
        resolve_base_model(str(tmp_path / "pickled"))
    with pytest.raises(InputError, match="model_name_or_path is missing"):
        resolve_base_model(None)
