"""What a persona looks like in every mode, spelled out on one profile."""

from dataclasses import replace

import pytest

from builder.errors import InputError
from builder.schema import NEUTRAL_SYSTEM_TEXT
from training.conditioning import (
    FEW_SHOT_MODES,
    MODES,
    Conditioning,
    LabelledPair,
    as_record,
    from_record,
    persona_messages,
    template_hash,
)
from training.profiles import as_lines, corrupted, stated_attributes

PROFILE = (
    "About the person asking:\nAge: 41\nOccupation category: Registered nurses\nReligion: Catholic\nIdeology: Moderate"
)
QUESTION = "Should the church change its mind?"
EXAMPLES = [
    LabelledPair("q1", "Tea or coffee?", "Tea.", "Coffee."),
    LabelledPair("q2", "Sea or hills?", "The sea.", "The hills."),
]
FEW_SHOT = (
    "Answers between which this person has chosen before:\n\n"
    "Question: Tea or coffee?\nPreferred: Tea.\nNot preferred: Coffee.\n\n"
    "Question: Sea or hills?\nPreferred: The sea.\nNot preferred: The hills."
)
PROSE = (
    "About the person asking:\nThey are 41 years old. Their occupation category is given as Registered nurses. "
    "Their religion is given as Catholic. Their ideology is moderate."
)
TEXTS = {
    "full": PROFILE,
    "shuffled": PROFILE,  # of another persona: training.selection
    "prose": PROSE,
    "summary": f"About the person asking:\nTheir religion is given as Catholic.\n\n{PROFILE}",
    "demographics": "About the person asking:\nAge: 41\nOccupation category: Registered nurses",
    "psychographics": "About the person asking:\nReligion: Catholic\nIdeology: Moderate",
    "relevant": "About the person asking:\nReligion: Catholic",
    "few_shot": FEW_SHOT,
    "full+few_shot": f"{PROFILE}\n\n{FEW_SHOT}",
    "none": NEUTRAL_SYSTEM_TEXT,
}


def conditioning(mode: str, **more) -> Conditioning:
    return Conditioning(mode, relevant_attributes=1, **more)


def test_every_mode_is_spelled_out_here():
    assert set(TEXTS) == set(MODES)


@pytest.mark.parametrize("mode", MODES)
def test_the_text_of_every_mode_in_both_roles(mode):
    shown = persona_messages(conditioning(mode), PROFILE, QUESTION, EXAMPLES)
    assert shown == [{"role": "system", "content": TEXTS[mode]}, {"role": "user", "content": QUESTION}]
    shown = persona_messages(conditioning(mode, persona_role="user"), PROFILE, QUESTION, EXAMPLES)
    assert shown == [{"role": "user", "content": f"{TEXTS[mode]}\n\n{QUESTION}"}]


@pytest.mark.parametrize("mode", MODES)
def test_without_a_persona_the_neutral_text_stands_in_its_place(mode):
    system, user = persona_messages(conditioning(mode), None, QUESTION)
    assert system == {"role": "system", "content": NEUTRAL_SYSTEM_TEXT}
    assert user == {"role": "user", "content": QUESTION}
    (user,) = persona_messages(conditioning(mode, persona_role="user"), None, QUESTION)
    assert user == {"role": "user", "content": f"{NEUTRAL_SYSTEM_TEXT}\n\n{QUESTION}"}


def test_without_labelled_pairs_nothing_is_known_from_them():
    assert persona_messages(conditioning("few_shot"), PROFILE, QUESTION)[0]["content"] == NEUTRAL_SYSTEM_TEXT
    assert persona_messages(conditioning("full+few_shot"), PROFILE, QUESTION)[0]["content"] == PROFILE


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode not in ("none", "few_shot")])
def test_gaps_are_in_every_mode_that_shows_the_profile(mode):
    gapped = as_lines(corrupted(stated_attributes(PROFILE), 0.5, 1))
    assert len(gapped.splitlines()) == len(PROFILE.splitlines()) - 2
    with_gaps = conditioning(mode, persona_corruption=0.5, seed=1)
    assert persona_messages(with_gaps, PROFILE, QUESTION, EXAMPLES) == persona_messages(
        conditioning(mode), gapped, QUESTION, EXAMPLES
    )


def test_a_profile_that_states_nothing_of_a_mode_is_none():
    text = persona_messages(conditioning("psychographics"), "About the person asking:\nAge: 41", QUESTION)[0]["content"]
    assert text == NEUTRAL_SYSTEM_TEXT
    for mode in ("full", "prose", "summary", "relevant"):
        emptied = conditioning(mode, persona_corruption=0.75)
        text = persona_messages(emptied, "About the person asking:\nAge: 41", QUESTION)[0]["content"]
        assert text == NEUTRAL_SYSTEM_TEXT


def test_what_does_not_exist_is_named():
    with pytest.raises(InputError, match=r"'half'.*full, prose"):
        persona_messages(Conditioning("half"), PROFILE, QUESTION)
    with pytest.raises(InputError, match=r"'assistant'.*system, user"):
        persona_messages(Conditioning(persona_role="assistant"), PROFILE, QUESTION)


@pytest.mark.parametrize("mode", ["prose", "summary", "demographics", "psychographics", "relevant"])
def test_running_text_has_no_parts(mode):
    with pytest.raises(InputError, match="no line `Label: value`"):
        persona_messages(conditioning(mode), "You are a nurse.", QUESTION)


def test_running_text_can_be_shown_whole():
    assert persona_messages(conditioning("full"), "You are a nurse.", QUESTION)[0]["content"] == "You are a nurse."


def test_template_hash_is_of_mode_and_role_and_of_nothing_that_is_drawn():
    # `shuffled` shows what `full` shows.
    assert len({template_hash(conditioning(mode)) for mode in MODES}) == len(MODES) - 1
    for mode in MODES:
        plain = conditioning(mode)
        assert template_hash(plain) != template_hash(replace(plain, persona_role="user"))
        same = replace(plain, few_shot_pairs=9, persona_corruption=0.5, seed=3)
        assert template_hash(plain) == template_hash(same)


@pytest.mark.parametrize(
    ("target", "value", "modes"),
    [
        ("training.conditioning.NEUTRAL_SYSTEM_TEXT", "Be helpful.", MODES),
        ("training.conditioning.FEW_SHOT_HEADER", "Earlier:", FEW_SHOT_MODES),
        ("training.profiles.HEADER", "A person:", ["prose", "summary", "demographics", "psychographics", "relevant"]),
        ("training.profiles.GIVEN_AS", "{label}: {value}.", ["prose", "summary"]),
        ("training.profiles.SENTENCES", {}, ["prose", "summary"]),
        ("training.profiles.NULLS", {}, ["prose", "summary"]),
    ],
)
def test_template_hash_changes_with_the_wording(monkeypatch, target, value, modes):
    before = {mode: template_hash(conditioning(mode)) for mode in modes}
    monkeypatch.setattr(target, value)
    for mode in modes:
        assert template_hash(conditioning(mode)) != before[mode]


def test_a_checkpoint_of_another_template_is_refused(monkeypatch):
    trained = Conditioning("relevant", "user", 3, 2, 0.25, 7)
    record = {"conditioning": as_record(trained), "template_hash": template_hash(trained)}
    assert from_record(record) == trained
    monkeypatch.setattr("training.conditioning.NEUTRAL_SYSTEM_TEXT", "Be helpful.")
    with pytest.raises(InputError, match="another prompt template"):
        from_record(record)
