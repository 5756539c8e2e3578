"""Which answers name an attribute of the persona."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.pairs.flags import find_leak, leaks_attribute, statements_of

NAMED = [
    ("religion", "Buddhist", "As a Buddhist, I would wait."),
    ("religion", "Southern Baptist", "Many Southern Baptists would wait."),
    ("religion", "Southern Baptist Convention", "Ask at your Baptist church."),
    ("religion", "Evangelical Protestant", "Evangelicals often wait."),
    ("religion", "Latter-day Saint", "As a Latter-day Saint you know that."),
    ("religion", "Catholic", "It is a **Catholic**-run school."),
    ("political_views", "Leans Republican", "Your fellow Republicans agree."),
    ("political_views", "Democrat", "A democrat may see it otherwise."),
    ("ideology", "Very conservative", "That suits a conservative household."),
    ("ancestry", "Scotch-Irish", "Like other Scotch–Irish families, yours came late."),
    ("ancestry", "Mexican American", "In Mexican homes it is common."),
    ("race", "Black or African American", "As an African-American woman, you may"),
    ("place_of_birth", "Puerto Rico", "Back home in Puerto Rico,"),
    ("place_of_birth", "Puerto Rico (United States)", "Back home in Puerto Rico,"),
    ("household_language", "Only Brazilian Portuguese language", "You speak Brazilian Portuguese."),
    ("ancestry", "Thai", "In Thai homes it is common."),
    ("ancestry", "Welsh Patagonian", "In Welsh homes it is common."),
    ("occupation_category", "Lawyers, and judges", "A lawyer would know."),
    ("occupation_category", "Secretaries, except legal", "Every secretary knows."),
    ("household_language", "Spanish", "Say it in Spanish at home."),
    ("occupation_category", "Registered nurses", "Being a registered nurse, you have seen it."),
    ("occupation_category", "Elementary and middle school teachers", "A middle school teacher knows."),
    (
        "detailed_job_description",
        "Works as a truck driver (truck transportation) for a private company",
        "For a truck driver,",
    ),
    ("education", "Bachelor’s degree", "With a bachelor's degree you can."),
    ("marital_status", "Widowed", "Being widowed is hard."),
    ("veteran_status", "Veteran", "Ask other veterans."),
    ("defining_quirks", "Hides candy and forgets where", "You, who hides candy and forgets, will understand."),
    ("lifestyle", "Night-owl hours and late starts", "Keep your night-owl hours and rest."),
    ("big_five_scores", {"openness": "Extremely High"}, "Somebody with extremely high openness"),
    ("big_five_scores", {"openness": "Extremely High"}, "Somebody extremely high in openness"),
    ("personal_time", ["Plays the banjo", "Keeps bees"], "Whoever keeps bees has patience."),
    ("age", 62, "At 62 years of age,"),
    ("age", 62, "For a 62-year-old like you,"),
    ("age", "62", "Now that you are 62, rest."),
    ("age", 62, "I'm 62 and tired"),
    ("age", 62, 'It says "62" there.'),
    ("age", 62, "aged 62"),
    ("income", 54000, "On $54,000 a year,"),
    ("income", 54000, "With 54,000 dollars you can."),
    ("income", "54000", "You earn 54k, so save."),
    ("income", 54000, "an income of 54000"),
    ("income", 1250000, "On $1,250,000, easily."),
    ("income", 900, "You earn 900 a month."),
]
NOT_NAMED = [
    ("religion", "Buddhist", "Rebuddhistic"),
    ("religion", "Other religion", "Every other religion, and any religion at all"),
    ("religion", "No particular religion", "No particular religion has the answer."),
    ("religion", "Southern Baptist", "Southern food is rich."),
    ("religion", "Orthodox Christian", "A Christian may wait."),
    ("sex", "Male", "A male bird sings."),
    ("race", "White", "Use white rice."),
    ("race", "Two or More Races", "Two or more races are run on it."),
    ("political_views", "Independent", "Be independent."),
    ("ideology", "Moderate", "At moderate heat."),
    ("marital_status", "Married", "Married people differ."),
    ("occupation_category", "Registered nurses", "A registered nursery sells plants."),
    ("occupation_category", "Other managers", "Some managers and other workers"),
    ("occupation_category", "Cooks", "Cook it well; he cooks."),
    ("education", "Some college, 1 or more years, no degree", "For some years, no more, no less."),
    ("ability_to_speak_english", "Very well", "That is very well."),
    ("lifestyle", "Simple and minimalist", "A simple dress, and minimal."),
    ("cognitive_difficulty", "Yes", "Yes, of course."),
    ("big_five_scores", {"openness": "High"}, "High prices; be open."),
    ("defining_quirks", "Has a joke ready for every situation", "Have a plan ready for every case."),
    ("age", 62, "62 people came, and 62 % stayed; see page 62 or year 1962 years ago."),
    ("age", 62, "Within 62 years all will be gone."),
    ("age", 62, "You are 62.5 metres away"),
    ("occupation_category", "Life, physical, and social science technicians", "Life is physical."),
    ("detailed_job_description", "Works as a life, physical, or social science technician", "Life is long."),
    ("industry_category", "Construction", "Under construction."),
    ("age", 6, "66 years old"),
    ("income", 54500, "You earn 54k."),
    ("household_language", "Only Brazilian Portuguese language", "A Portuguese tart and a Brazilian song."),
    ("place_of_birth", "Wales", "The wale of the cloth is thick."),
    ("ancestry", "Swiss", "The SWIS code of the town."),
    ("lifestyle", "Enjoys quiet evenings reading novels", "Few evenings reading novels are left."),
    ("lifestyle", "Goes with them over hills", "He goes with them over."),
    ("income", 54000, "54,000 people live there; 154,000 dollars; $54,000,000; $540,000."),
    ("income", 0, "Earn $0 and 0 dollars."),
]


@pytest.mark.parametrize(("attribute", "value", "answer"), NAMED)
def test_what_names_an_attribute_is_found(attribute, value, answer):
    assert leaks_attribute({attribute: value}, answer, ["What now?", "Wait."])
    assert not leaks_attribute({attribute: value}, answer, ["What now?", answer])
    assert not leaks_attribute({}, answer, [""])


@pytest.mark.parametrize(("attribute", "value", "answer"), NOT_NAMED)
def test_what_names_nothing_is_not(attribute, value, answer):
    assert find_leak(statements_of({attribute: value}), answer, [""]) is None


def test_what_the_question_said_is_known_also_in_the_plural():
    persona = {"religion": "Buddhist"}
    assert not leaks_attribute(persona, "As a Buddhist, I would wait.", ["What do Buddhists say?", ""])
    assert leaks_attribute(persona, "As a Buddhist, I would wait.", ["What does a Catholic say?", ""])
    # The faith is not the believer.
    assert leaks_attribute(persona, "As a Buddhist, I would wait.", ["What does Buddhism say?", ""])


def test_age_and_income_that_begin_alike_are_both_found():
    persona = {"age": 54, "income": 54000}
    at_54, on_54000 = "At 54 years of age, save.", "On $54,000 a year, save."
    for answer, known in ((at_54, on_54000), (on_54000, at_54)):
        assert leaks_attribute(persona, answer, ["What now?"])
        assert leaks_attribute(persona, answer, [known])
        assert not leaks_attribute(persona, answer, [answer])


def test_half_a_character_breaks_nothing():
    """A model's reply may hold a lone surrogate, which UTF-8 cannot."""
    assert leaks_attribute({"religion": "Buddh\ud800ist"}, "\udfff As a Buddh\ud800ist, I would wait.", ["\ud83d"])
    assert not leaks_attribute({"religion": "Buddh\ud800ist"}, "Wait \ud83d.", ["As a \ud800"])


def test_the_words_that_were_found_are_told():
    statements = statements_of({"religion": "Southern Baptist", "age": 62})
    assert find_leak(statements, "Ask a Southern  Baptist.", [""]) == "baptist"
    assert find_leak(statements, "At 62 years of age", [""]) == "62 years of age"


@settings(deadline=None)
@given(
    st.dictionaries(st.sampled_from(["religion", "age", "income", "lifestyle"]), st.text(max_size=30)),
    st.text(max_size=80),
)
def test_no_text_breaks_it_and_a_value_that_was_asked_about_is_never_a_leak(persona, answer):
    statements = statements_of(persona)
    find_leak(statements, answer, [""])
    assert find_leak(statements, answer, [answer]) is None
