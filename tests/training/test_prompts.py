"""Prompts of a dataset's personas: whose text stands where, and which labelled pairs are shown."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.errors import InputError
from training.conditioning import MODES, Conditioning, LabelledPair
from training.prompts import PersonaPrompts, draw_examples

PROFILES = {
    "p0": "About the person asking:\nAge: 41\nReligion: Catholic",
    "p1": "About the person asking:\nAge: 19\nReligion: Atheist",
}


def pair(question: int, other: str = "other", persona: str = "p0") -> LabelledPair:
    return LabelledPair(f"q{question}", f"Question {question}?", f"{persona} likes {question}.", other)


LABELLED = {persona: [pair(n, persona=persona) for n in range(4)] for persona in PROFILES}


def prompts(mode: str = "full", **more) -> PersonaPrompts:
    return PersonaPrompts(Conditioning(mode, few_shot_pairs=2, **more), PROFILES, LABELLED)


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "none"])
@pytest.mark.parametrize("role", ["system", "user"])
def test_another_persona_is_shown_with_all_that_is_its_own(mode, role):
    """The wrong persona of an evaluation: its profile and its labelled pairs, and nothing of the row's own."""
    shown = {persona: prompts(mode, persona_role=role).messages(persona, "q9", "Why?") for persona in PROFILES}
    assert shown["p0"] != shown["p1"]
    own = {"p0": ("41", "Catholic", "p0 likes"), "p1": ("19", "Atheist", "p1 likes")}
    for persona, other in (("p0", "p1"), ("p1", "p0")):
        text = shown[persona][0]["content"]
        assert any(word in text for word in own[persona])
        assert not any(word in text for word in own[other])
        # With the roles of the two exchanged, so are their texts.
        exchanged = PersonaPrompts(
            prompts(mode, persona_role=role).conditioning,
            {persona: PROFILES[other], other: PROFILES[persona]},
            {persona: LABELLED[other], other: LABELLED[persona]},
        )
        if "few_shot" not in mode:
            assert exchanged.messages(other, "q9", "Why?") == shown[persona]


def test_no_persona_is_the_neutral_text_and_needs_no_pairs():
    for mode in MODES:
        unknown = PersonaPrompts(Conditioning(mode), {}, {})
        assert unknown.has_examples(None, "q1")
        assert unknown.messages(None, "q1", "Why?")[0]["content"] == "You are a helpful assistant."


def test_a_persona_without_a_profile_is_named():
    with pytest.raises(InputError, match="p7"):
        prompts().messages("p7", "q1", "Why?")


def test_a_question_is_never_among_its_own_examples():
    few_shot = prompts("few_shot")
    for n in range(4):
        assert f"q{n}" not in {example.prompt_id for example in few_shot.examples("p0", f"q{n}")}
    assert prompts("full").examples("p0", "q1") == []


def test_too_few_labelled_pairs_are_said_beforehand():
    conditioning = replace(prompts("few_shot").conditioning, few_shot_pairs=4)
    four = PersonaPrompts(conditioning, PROFILES, LABELLED)
    assert four.has_examples("p0", "q9")
    assert not four.has_examples("p0", "q1")  # one of the four is on this question
    assert not four.has_examples("p7", "q9")
    with pytest.raises(InputError, match=r"p0.*3 questions other than q1.*few_shot_pairs is 4"):
        four.messages("p0", "q1", "Why?")
    assert PersonaPrompts(replace(conditioning, mode="full"), PROFILES, {}).has_examples("p0", "q1")


PAIRS = st.lists(
    st.builds(pair, st.integers(0, 9), st.sampled_from(["a", "b"]), st.sampled_from(["p0", "p1"])), max_size=20
)


@settings(max_examples=100, deadline=None)
@given(pairs=PAIRS, seed=st.integers(0, 5), data=st.data())
def test_drawn_examples(pairs, seed, data):
    """One a question, none on the question asked; a smaller number is the beginning of a larger; the order of the pairs is no matter."""
    questions = {example.prompt_id for example in pairs} - {"q0"}
    count = data.draw(st.integers(0, len(questions)))
    drawn = draw_examples(pairs, "p0", "q0", count, seed)
    assert len(drawn) == count
    assert set(drawn) <= set(pairs)
    assert len({example.prompt_id for example in drawn}) == count
    assert "q0" not in {example.prompt_id for example in drawn}
    assert draw_examples(pairs, "p0", "q0", len(questions), seed)[:count] == drawn
    assert draw_examples(data.draw(st.permutations(pairs)), "p0", "q0", count, seed) == drawn
    with pytest.raises(InputError, match="Lower few_shot_pairs"):
        draw_examples(pairs, "p0", "q0", len(questions) + 1, seed)


def test_examples_differ_between_personas_questions_and_seeds():
    pairs = [pair(n) for n in range(20)]
    drawn = {
        tuple(draw_examples(pairs, persona, question, 3, seed))
        for persona in ("p0", "p1")
        for question in ("q30", "q31")
        for seed in (0, 1)
    }
    assert len(drawn) == 8
