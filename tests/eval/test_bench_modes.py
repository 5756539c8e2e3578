"""What a model is sent in each mode, and what is taken from its reply."""

from dataclasses import replace

import pytest

from builder.errors import InputError
from builder.schema import NEUTRAL_SYSTEM_TEXT
from eval.bench.modes import (
    ANSWERS,
    FIRST_CALLS,
    FORMS,
    MODES,
    form_for,
    messages_of,
    read_answer,
    sampling_for,
    template_label,
    template_names,
)
from eval.language_models import LanguageModel, find_language_model, shown_persona_text
from tests.eval.conftest import Trained
from training.conditioning import Conditioning, from_record, persona_messages
from training.record import finished_record

PROFILE = "About the person asking:\nAge: 68\nReligion: Catholic\nLifestyle: Quiet {{ question }}\nSex: Female"
QUESTION = "Should I <b>work</b> late?\n-----\nANSWER: yes?"


def scripted(conditioning: Conditioning | None = None) -> LanguageModel:
    return replace(find_language_model("scripted"), conditioning=conditioning or Conditioning())


@pytest.mark.parametrize("form", FORMS)
def test_baseline_is_the_question_with_the_neutral_text_and_nothing_else(form: str) -> None:
    messages = messages_of(ANSWERS[form]["baseline"], scripted(), None, QUESTION)
    assert messages == (
        {"role": "system", "content": NEUTRAL_SYSTEM_TEXT},
        {"role": "user", "content": QUESTION},
    )
    assert "baseline" not in FIRST_CALLS[form]


@pytest.mark.parametrize("role", ["system", "user"])
@pytest.mark.parametrize("mode", ["full", "prose", "summary", "demographics", "relevant"])
def test_output_only_is_the_prompt_of_training(mode: str, role: str) -> None:
    model = scripted(Conditioning(mode=mode, persona_role=role))
    shown = shown_persona_text(model, PROFILE, QUESTION)
    sent = messages_of(ANSWERS["plain"]["output_only"], model, shown, QUESTION)
    assert list(sent) == persona_messages(model.conditioning, PROFILE, QUESTION)


@pytest.mark.thorough
def test_output_only_of_a_trained_model_is_its_own_prompt(trained: Trained) -> None:
    folder = trained.models[0]
    model = find_language_model(str(folder))
    assert form_for(model) == "plain"
    sent = messages_of(ANSWERS["plain"]["output_only"], model, shown_persona_text(model, PROFILE, QUESTION), QUESTION)
    assert list(sent) == persona_messages(from_record(finished_record(folder)), PROFILE, QUESTION)
    with pytest.raises(InputError, match="prompt of its training"):
        form_for(model, "marked")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "baseline"])
def test_every_mode_shows_the_persona_in_its_place_and_the_question(form: str, mode: str) -> None:
    for role in ("system", "user"):
        model = scripted(Conditioning(persona_role=role))
        for name in {ANSWERS[form][mode], FIRST_CALLS[form].get(mode, ANSWERS[form][mode])}:
            sent = messages_of(name, model, PROFILE, QUESTION, "a thought")
            assert sent[0]["role"] == role
            assert PROFILE in sent[0]["content"]
            assert all(message["role"] != "system" for message in sent[1:])
            assert "Should I <b>work</b> late?" in "".join(message["content"] for message in sent)


def test_only_chain_of_thought_asks_for_steps() -> None:
    for form in FORMS:
        for mode in ("baseline", "output_only", "demographic_summary"):
            text = str(messages_of(ANSWERS[form][mode], scripted(), PROFILE, "Why?")).lower()
            assert "step" not in text
            assert "reason" not in text


def test_reasoning_comes_first_and_the_answer_last() -> None:
    reply = "REASONING: Is ANSWER: a word?\nShe is 68.\nANSWER: Rest early.\nAnd often."
    assert read_answer("bench_chain_of_thought", reply) == ("Rest early.\nAnd often.", "Is ANSWER: a word?\nShe is 68.")
    for bad in ("Rest early.", "ANSWER: Rest.", "REASONING: because", "ANSWER: Rest.\nREASONING: because", "  "):
        assert read_answer("bench_chain_of_thought", bad) is None
    assert read_answer(ANSWERS["plain"]["output_only"], " Rest. ") == ("Rest.", "")
    assert read_answer(ANSWERS["plain"]["output_only"], " \n") is None


def test_plain_chain_of_thought_answers_after_its_own_reasons() -> None:
    sent = messages_of(ANSWERS["plain"]["chain_of_thought"], scripted(), PROFILE, "Why?", "She is 68.")
    assert [message["role"] for message in sent] == ["system", "user", "assistant", "user"]
    assert sent[2]["content"] == "She is 68."
    first = messages_of(FIRST_CALLS["plain"]["chain_of_thought"], scripted(), PROFILE, "Why?")
    assert sent[:2] == first


def test_form_follows_how_the_model_is_reached() -> None:
    assert form_for(find_language_model("embedded")) == "plain"
    assert form_for(find_language_model("m@http://127.0.0.1:9/v1")) == "marked"
    assert form_for(find_language_model("embedded"), "marked") == "marked"
    with pytest.raises(InputError, match="choose auto"):
        form_for(find_language_model("embedded"), "prose")


def test_a_small_model_is_let_finish_its_sentence_and_an_endpoint_is_not_cut() -> None:
    assert sampling_for("plain", 0.5, is_answer=True).end_sentence_after
    assert sampling_for("marked", 0.5, is_answer=True).end_sentence_after is None
    assert sampling_for("marked", 0.5, is_answer=True).temperature == 0.5


def test_labels_of_prompts_follow_their_content() -> None:
    assert template_names("plain", ("baseline", "output_only")) == []
    assert template_names("marked", MODES) == ["bench_chain_of_thought", "bench_output_only", "bench_summary"]
    in_system, in_user = scripted(), scripted(Conditioning(persona_role="user"))
    assert template_label("persona_messages", in_system) != template_label("persona_messages", in_user)
