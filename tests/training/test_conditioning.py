import pytest

from builder.errors import InputError
from builder.schema import NEUTRAL_SYSTEM_TEXT, preference_messages
from training.conditioning import prompt_messages, template_hash

ROW = {"pair_id": "dpf/p00000/q00000", "prompt": preference_messages("Profile A", "Why?"), "wrong_persona_id": "p00007"}


def test_conditions_differ_in_the_system_text_only():
    profiles = {"p00007": "Profile B"}
    shown = {condition: prompt_messages(condition, ROW, profiles) for condition in ("true", "none", "wrong")}
    assert [shown[c][0]["content"] for c in shown] == ["Profile A", NEUTRAL_SYSTEM_TEXT, "Profile B"]
    assert all(messages[1] == {"role": "user", "content": "Why?"} for messages in shown.values())
    assert shown["true"] == ROW["prompt"]


def test_unknown_condition_and_missing_profile_are_named():
    with pytest.raises(InputError, match="shuffled"):
        prompt_messages("shuffled", ROW, {})
    with pytest.raises(InputError, match="p00007"):
        prompt_messages("wrong", ROW, {})


def test_template_hash_changes_with_the_template(monkeypatch):
    before = template_hash()
    monkeypatch.setattr("builder.schema.NEUTRAL_SYSTEM_TEXT", "Be helpful.")
    assert template_hash() != before
