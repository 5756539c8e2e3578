"""What is found before the first step: lengths, losses by reason, templates that would swallow the persona."""

import pytest
from transformers import AutoTokenizer

from builder.errors import InputError
from builder.schema import assistant_message
from tests.published_folder import write_published_folder
from tests.tiny_model import TEMPLATE_DROPPING_SYSTEM, TEMPLATE_REFUSING_SYSTEM, build_tiny_model
from training.arguments import PersonaDataArguments, conditioning_of
from training.base_model import load_tokenizer, resolve_base_model
from training.conditioning import MODES, Conditioning, persona_messages
from training.data import labelled_pairs, load_preference_data
from training.preflight import check_chat_template, keep_rows, print_sample
from training.prompts import PersonaPrompts
from training.selection import condition_rows
from training.tokens import token_ids


def profiles_of_lines(tables):
    """Profiles of which every mode can show its part, long enough to be over a small budget."""
    for persona in tables["personas"]["train"]:
        number = int(persona["persona_id"][1:])
        persona["profile"] = (
            f"About the person asking:\nAge: {30 + number}\nReligion: Catholic\nLifestyle: Out and about"
        )
    profiles = {persona["persona_id"]: persona["profile"] for persona in tables["personas"]["train"]}
    for config in ("dpf", "contrast"):
        for rows in tables[config].values():
            for row in rows:
                row["prompt"][0]["content"] = profiles[row["persona_id"]]


def kept(data, tokenizer, max_length=320, split="train", **more):
    """keep_rows as a run with these recipe keys would call it."""
    arguments = PersonaDataArguments(**more)
    prompts = PersonaPrompts(conditioning_of(arguments), data.profiles, labelled_pairs(data))
    return keep_rows(data.splits[split], split, prompts, tokenizer, max_length, arguments)


def load(folder, change=None, configs=("dpf", "contrast"), **more):
    return load_preference_data(str(write_published_folder(folder, change=change, **more)), list(configs))


@pytest.fixture(scope="module")
def tokenizer(place):
    return load_tokenizer(place.base, for_reward=True)


@pytest.fixture(scope="module")
def lined(tmp_path_factory):
    return load(tmp_path_factory.mktemp("lined") / "data", profiles_of_lines)


def test_lengths_are_those_of_whole_rows(place, tokenizer):
    data = load_preference_data(str(place.data), ["dpf"])
    rows, report = kept(data, tokenizer)
    sides = [r["prompt"] + r[side] for r in data.splits["train"] for side in ("chosen", "rejected")]
    assert report.token_percentiles["p100"] == max(len(token_ids(tokenizer, messages)) for messages in sides)
    assert (report.rows, report.kept, len(rows), report.dropped) == (12, 12, 12, {})
    assert report.without_persona == 0


def test_long_and_empty_rows_are_counted_and_take_their_mirror_along(tmp_path, tokenizer):
    def spoil(tables):
        tables["dpf"]["train"][0]["chosen"] = assistant_message(" ")
        tables["dpf"]["train"][1]["rejected"] = tables["dpf"]["train"][1]["chosen"]
        tables["contrast"]["train"][0]["prompt"][1]["content"] += " Why so?" * 60

    rows, report = kept(load(tmp_path / "data", spoil), tokenizer, max_dropped_share=0.5)
    assert report.dropped == {
        "empty_completion": 1,
        "identical_completions": 1,
        "mirror_dropped": 1,
        "over_max_length": 1,
    }
    left = set(rows["pair_id"])
    assert all(mirror in left for mirror in rows["mirror_pair_id"] if mirror is not None)


@pytest.mark.parametrize(("mode", "room"), [("full", 5), ("relevant", 5), ("none", -60)])
def test_rows_that_are_all_too_long_stop_the_run(lined, tokenizer, mode, room):
    """Room for the persona, but not for question and answer beside it."""
    limit = len(tokenizer(lined.profiles["p00000"], add_special_tokens=False)["input_ids"]) + room
    with pytest.raises(InputError, match=rf"36 of 36 rows.*over_max_length.*p50.*max_length: {limit}"):
        kept(lined, tokenizer, max_length=limit, persona=mode, max_dropped_share=0.99)


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "none"])
def test_a_persona_is_never_cut_in_any_mode(lined, tokenizer, mode):
    """Over its budget it is an error that gives lengths; with the length that the error asks for it stands in the prompt whole."""
    choice = {"persona": mode, "few_shot_pairs": 2, "max_dropped_share": 0.9}
    with pytest.raises(InputError, match=r"4 of 4 personas.*p0000\d: \d+.*persona_budget is 9.*never cut") as raised:
        kept(lined, tokenizer, 512, persona_budget=9, **choice)
    needed = int(str(raised.value).split("persona_budget above ")[1].split()[0])
    with pytest.raises(InputError, match=r"of 4 personas"):
        kept(lined, tokenizer, 512, persona_budget=needed - 1, **choice)
    rows, report = kept(lined, tokenizer, 512, persona_budget=needed, **choice)
    assert report.dropped == {}
    prompts = PersonaPrompts(
        conditioning_of(PersonaDataArguments(persona=mode, few_shot_pairs=2)), lined.profiles, labelled_pairs(lined)
    )
    for row in rows:
        text = prompts.text(row["shown_persona_id"], row["prompt_id"], row["question"])
        assert row["prompt"][0]["content"] == text
        assert len(tokenizer(text, add_special_tokens=False)["input_ids"]) <= needed
    assert {row["shown_persona_id"] == row["wrong_persona_id"] for row in rows} >= {mode == "shuffled"}


def test_without_a_budget_max_length_is_the_persona_s(tmp_path, tokenizer):
    data = load(tmp_path / "data", configs=["dpf"], profile_words=60)
    with pytest.raises(InputError, match=r"4 of 4 personas.*p00000: \d+.*max_length is 60.*max_length: plus"):
        kept(data, tokenizer, 60)
    assert len(kept(data, tokenizer, 512)[0]) == 12


def test_personas_with_too_few_labelled_pairs_are_counted(lined, tokenizer):
    """Three train questions each: two others than the row's own."""
    _, report = kept(lined, tokenizer, 512, persona="few_shot", few_shot_pairs=2)
    assert report.dropped == {}
    _, report = kept(lined, tokenizer, 512, split="seen_test", persona="few_shot", few_shot_pairs=3)
    assert report.dropped == {}
    for mode in ("few_shot", "full+few_shot"):
        with pytest.raises(InputError, match="'too_few_labelled_pairs': 36"):
            kept(lined, tokenizer, 512, persona=mode, few_shot_pairs=3)
    _, report = kept(lined, tokenizer, 512, persona="full", few_shot_pairs=3)
    assert report.dropped == {}


def test_persona_dropout_is_of_the_training_rows_and_is_counted(lined, tokenizer):
    rows, report = kept(lined, tokenizer, persona_dropout=0.5)
    assert 0 < report.without_persona < report.kept
    assert report.without_persona == rows["shown_persona_id"][:].count("")
    assert kept(lined, tokenizer, split="seen_test", persona_dropout=0.5)[1].without_persona == 0
    _, blind = kept(lined, tokenizer, persona="none")
    assert blind.without_persona == blind.kept


@pytest.mark.parametrize(
    ("template", "named"), [(TEMPLATE_REFUSING_SYSTEM, "refuses"), (TEMPLATE_DROPPING_SYSTEM, "drops")]
)
def test_templates_without_a_system_role_need_the_user_role(tmp_path, lined, template, named):
    tokenizer = AutoTokenizer.from_pretrained(build_tiny_model(tmp_path / "tiny", chat_template=template))
    with pytest.raises(InputError, match=rf"{named}.*persona_role: user"):
        check_chat_template(tokenizer, Conditioning())
    in_question = Conditioning(persona_role="user")
    check_chat_template(tokenizer, in_question)
    messages = persona_messages(in_question, lined.profiles["p00001"], "Why?")
    assert "Age: 31\nReligion: Catholic" in tokenizer.decode(token_ids(tokenizer, messages))
    assert len(kept(lined, tokenizer, persona_role="user")[0]) == 36


def test_sample_shows_where_the_answer_begins(place, tokenizer, capsys):
    data = load_preference_data(str(place.data), ["dpf"])
    rows = condition_rows(data.splits["train"], PersonaPrompts(Conditioning(), data.profiles, {}))
    print_sample(rows, tokenizer)
    shown = capsys.readouterr().out
    assert "<|im_start|>assistant\n|||As a nurse" in shown
    assert "You are a nurse, person 0." in shown


def test_padding_that_is_the_end_token_is_mended_or_refused(tmp_path, monkeypatch):
    folder = build_tiny_model(tmp_path / "tiny", pad_token="<|im_end|>")
    assert load_tokenizer(folder, for_reward=True).pad_token == "<|endoftext|>"
    monkeypatch.setattr("training.base_model.SAFE_PAD_TOKEN", "<|in no vocabulary|>")
    with pytest.raises(InputError, match="padding token"):
        load_tokenizer(folder, for_reward=True)
    assert load_tokenizer(folder, for_reward=False).pad_token == "<|im_end|>"


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
