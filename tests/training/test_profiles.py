"""Parts of a profile, and the same in prose: nothing lost, nothing added."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.errors import InputError
from builder.personas.personas import build_personas
from builder.personas.profile import HEADER, profile_lines, profile_text
from builder.recipe import BuildRecipe, CensusRecipe, PersonasRecipe
from builder.schema import ATTRIBUTES
from training.profiles import (
    DEMOGRAPHICS,
    PSYCHOGRAPHICS,
    as_lines,
    as_prose,
    corrupted,
    only,
    relevant,
    sentence,
    stated_attributes,
)

PROFILE = """About the person asking:
Age: 73
Sex: Female
Ancestry: Filipino
Employment status: Not in labor force
Detailed job description: Retired, last worked as a teacher
Income: No personal income
Veteran status: Non-Veteran
Disability: None
Big five scores: Openness: Extremely High, Conscientiousness: Low, Extraversion: Average, Agreeableness: High, Neuroticism: Low
Defining quirks: Enjoys gardening and has a green thumb
Political views: Leans Democrat
Religion: Not known
Ability to speak English: Not applicable"""


def built_profiles(shows_nulls: bool) -> list[str]:
    personas = PersonasRecipe(count=60, seen=30, enrichment="none")
    recipe = BuildRecipe("test", 5, CensusRecipe(adults_only=False), personas)
    rows = build_personas(recipe, None, lambda texts: [len(text.split()) for text in texts]).rows
    return [profile_text(profile_lines(row, ATTRIBUTES, row["null_reasons"] if shows_nulls else None)) for row in rows]


@pytest.fixture(scope="module")
def built() -> list[str]:
    return built_profiles(shows_nulls=False) + built_profiles(shows_nulls=True)


def test_the_profiles_of_a_build_are_read_and_written_back_as_they_are(built):
    for profile in built:
        assert as_lines(stated_attributes(profile)) == profile
    assert {name for profile in built for name in stated_attributes(profile)} == set(ATTRIBUTES)


def test_every_attribute_is_either_demographic_or_psychographic():
    assert sorted(DEMOGRAPHICS + PSYCHOGRAPHICS) == sorted(ATTRIBUTES)
    stated = stated_attributes(PROFILE)
    assert list(only(stated, PSYCHOGRAPHICS)) == ["big_five_scores", "defining_quirks", "political_views", "religion"]
    assert set(only(stated, DEMOGRAPHICS)) | set(only(stated, PSYCHOGRAPHICS)) == set(stated)


def test_prose_of_one_profile():
    assert as_prose(stated_attributes(PROFILE)) == (
        "About the person asking:\n"
        "They are 73 years old. They are female. Their ancestry is given as Filipino. They are not in the labor force. "
        "Their work is described so: Retired, last worked as a teacher. They have no personal income. They are not a veteran. "
        "On disability the answer is none. They are extremely high in openness, low in conscientiousness, average in extraversion, "
        "high in agreeableness and low in neuroticism. This is a defining quirk of theirs: Enjoys gardening and has a green thumb. "
        "In politics they lean Democrat. On religion nothing is known. "
        "The question of ability to speak English does not apply to them."
    )


def test_prose_of_built_personas_has_a_sentence_for_every_line(built):
    for profile in built:
        stated = stated_attributes(profile)
        said = [sentence(name, value) for name, value in stated.items()]
        assert as_prose(stated) == "\n".join([HEADER, " ".join(said)])
        for text in said:
            assert text[0].isupper()
            assert text.endswith((".", "!", "?"))
            assert not text.endswith(("..", " ."))
            assert "{" not in text


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("age", "1", "They are 1 year old."),
        ("age", "about 40", "Their age is given as about 40."),
        ("income", "-$1,200 a year (a loss)", "Their income is given as -$1,200 a year (a loss)."),
        ("place_of_birth", "The U.S.", "Their place of birth is given as The U.S."),
        (
            "mannerisms",
            'Calls out "{here}!" Why not?',
            'Their mannerisms are described so: Calls out "{here}!" Why not?',
        ),
        ("household_language", "Spanish", "Their household language is given as Spanish."),
        ("citizenship", "Born in the United States", "They were born in the United States."),
        ("citizenship", "Canadian", "Their citizenship is given as Canadian."),
        (
            "family_presence_and_age",
            "With related children under 5 years only",
            "In their family there are related children under 5 years only.",
        ),
        ("big_five_scores", "Openness: Low", "Their Big Five scores are given as Openness: Low."),
        # Of a job that may be no more, nothing may be said in the present.
        (
            "class_of_worker",
            "Local government employee",
            "Their class of worker is given as Local government employee.",
        ),
        ("fertility", "None", "On fertility the answer is none."),
        ("disability", "nan", "On disability nothing is stated."),
        ("favourite colour", "Blue", "Their favourite colour is given as Blue."),
    ],
)
def test_single_sentences(name, value, said):
    assert sentence(name, value) == said


def test_profiles_written_by_others():
    paper = "You are this person.\nage: 34\nability to speak english: Well\ncore values: honesty\nReligion: none that\nhas a name"
    assert stated_attributes(paper) == {
        "age": "34",
        "ability_to_speak_english": "Well",
        "core values": "honesty",
        "religion": "none that has a name",
    }
    with pytest.raises(InputError, match=r"You are a nurse.*full, none or few_shot"):
        stated_attributes("You are a nurse, person 0: plain words.")


def test_relevant_lines_are_those_near_the_question_in_the_order_of_the_profile():
    stated = {
        "age": "41",
        "occupation_category": "Registered nurses",
        "personal_time": "Goes fishing in the river",
        "religion": "Catholic",
    }
    assert list(relevant(stated, "Should the church and the pope change their mind?", 1)) == ["religion"]
    assert list(relevant(stated, "How much fish is left in our rivers?", 1)) == ["personal_time"]
    both = relevant(stated, "Do hospitals and nurses earn enough? And the church?", 2)
    assert list(both) == ["occupation_category", "religion"]
    assert relevant(stated, "Anything?", 9) == stated


def test_relevant_lines_of_equal_nearness_are_the_first_ones():
    stated = stated_attributes(PROFILE)
    assert list(relevant(stated, "1 2 3 ?", 2)) == ["age", "sex"]


VALUES = st.dictionaries(st.sampled_from(ATTRIBUTES), st.sampled_from(["White", "Yes", "Often late"]), min_size=1)


@settings(max_examples=60, deadline=None)
@given(
    stated=VALUES,
    shares=st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.75]), min_size=2, max_size=2),
    seed=st.integers(0, 9),
)
def test_gaps_are_of_the_right_size_and_nested(stated, shares, seed):
    smaller, larger = sorted(shares)
    kept = {share: corrupted(stated, share, seed) for share in (smaller, larger)}
    for share in (smaller, larger):
        assert len(kept[share]) == len(stated) - round(share * len(stated))
        assert [item for item in stated.items() if item in kept[share].items()] == list(kept[share].items())
    assert set(kept[larger]) <= set(kept[smaller])


def test_gaps_differ_between_seeds_and_personas():
    stated = stated_attributes(PROFILE)
    assert len({tuple(corrupted(stated, 0.5, seed)) for seed in range(8)}) > 4
    assert len({tuple(corrupted({**stated, "age": str(age)}, 0.5, 0)) for age in range(8)}) > 4
