import json
from pathlib import Path

import pytest

from builder.personas.profile import label
from eval.value_matching import (
    holds_value,
    in_words,
    is_said,
    matcher,
    names_value,
    said_attributes,
    states_value,
)
from training.profiles import line_of

CODEBOOK = Path(__file__).parents[2] / "builder/census/codebooks/columns.json"
COLUMNS = {
    "RAC1P": "race",
    "SCHL": "education",
    "ESR": "employment_status",
    "MAR": "marital_status",
    "CIT": "citizenship",
    "MIL": "veteran_status",
    "HICOV": "health_insurance",
    "ENG": "ability_to_speak_english",
    "HHT2": "household_type",
    "FPARC": "family_presence_and_age",
    "DREM": "cognitive_difficulty",
    "DIS": "disability",
}
# Where one value may stand in the line of another: half of its words do, or the other is a list with it, or they differ in degree.
NOT_TOLD_APART = (
    "race",
    "education",
    "employment_status",
    "household_type",
    "family_presence_and_age",
    "ability_to_speak_english",
)


@pytest.mark.parametrize(
    ("attribute", "value", "text", "held"),
    [
        ("age", "68", "A 68-year-old who reads", True),
        ("age", "68", "Someone in their sixties", True),
        ("age", "68", "Someone in their 60s", True),
        ("age", "68", "The age matters here, at 168 dollars", False),
        ("income", "$11,000 a year", "earns about 11000 dollars", True),
        ("income", "$11,000 a year", "makes 11k", True),
        ("income", "$11,000 a year", "has an income of $111,000", False),
        ("religion", "Evangelical Protestant", "an evangelical woman", True),
        ("religion", "Catholic", "their religion matters", False),
        ("race", "Black or African American", "a Black man", True),
        ("race", "Two or More Races", "of two or more races", True),
        ("ideology", "Very conservative", "leans conservative", True),
        ("marital_status", "Never married", "is married", False),
        (
            "lifestyle",
            "Half unplugged, with the phone left in a drawer",
            "keeps the phone in a drawer, unplugged",
            True,
        ),
        ("lifestyle", "Half unplugged, with the phone left in a drawer", "their lifestyle", False),
        ("occupation_category", "Financial managers", "a financial manager", True),
        ("vision_difficulty", "Yes", "has a vision difficulty", True),
        ("vision_difficulty", "Yes", "says yes", False),
        ("vision_difficulty", "Yes", "Vision difficulty: No", False),
        ("vision_difficulty", "No", "Vision difficulty: No", True),
        ("vision_difficulty", "No", "has a vision difficulty", False),
        ("race", "White", "tells a white lie now and then", False),
        ("race", "White", "lives near the White House", False),
        ("race", "White", "a White Catholic woman", True),
        ("race", "White", "White, 68, female", True),
        ("race", "Asian", "loves Asian food", False),
        ("race", "Black or African American", "drinks black coffee", False),
        ("race", "Black or African American", "an African-American nurse", True),
        ("citizenship", "Not a U.S. citizen", "is a U.S. citizen", False),
        ("citizenship", "Not a U.S. citizen", "is not a US citizen", True),
        ("citizenship", "U.S. citizen by naturalization", "is a U.S. citizen", False),
        ("citizenship", "Born in the United States", "lives in the United States", False),
        ("health_insurance", "No health insurance coverage", "has health insurance coverage", False),
        ("health_insurance", "No health insurance coverage", "has no health insurance", True),
        ("health_insurance", "With health insurance coverage", "Health insurance: No health insurance coverage", False),
        ("veteran_status", "Veteran", "is a non-veteran", False),
        ("veteran_status", "Non-Veteran", "is not a veteran", True),
        ("marital_status", "Married", "was never married", False),
        ("marital_status", "Never married", "has never been married", True),
        ("religion", "No particular religion", "a religion that they keep", False),
        ("defining_quirks", "Has not finished a book since school", "has finished a book since school", False),
        ("ability_to_speak_english", "Not well", "does well at school", False),
        ("ability_to_speak_english", "Not well", "does not speak English well", True),
        ("ability_to_speak_english", "Very well", "does not speak English well", False),
        ("big_five_scores", "Openness: Low, Extraversion: High", "rather extroverted", True),
    ],
)
def test_values_are_looked_for_and_not_keys(attribute: str, value: str, text: str, held: bool) -> None:
    assert holds_value(attribute, value, text) is held


@pytest.mark.parametrize(
    ("attribute", "stated", "text", "is_named"),
    [
        ("religion", "Catholic", "Many Catholics would say so.", True),
        ("religion", "Catholic", "A catholicity of taste.", False),
        ("political_views", "Leans Democrat", "As a Democrat, I agree.", True),
        ("age", "43", "At 43 years old you know that.", True),
        ("age", "43", "There were 43 of them, or $43.", False),
        ("income", "$54,000 a year", "With $54,000 you can.", True),
        ("income", "$54,000 a year", "In 54 cases of 1,000.", False),
        ("lifestyle", "Half unplugged, with the phone left in a drawer", "the phone was left in a box", False),
        ("lifestyle", "Half unplugged, with the phone left in a drawer", "Live unplugged, with the phone off.", True),
        ("race", "White", "That was a white lie.", False),
        ("race", "White", "For White people it is so.", True),
        ("disability", "Yes", "Yes, you may.", False),
        ("disability", "Yes", "With a disability it is harder.", True),
        ("disability", "No", "No, you may not.", False),
        ("ability_to_speak_english", "Very well", "Very well, then.", False),
        ("ability_to_speak_english", "Very well", "You speak English very well.", True),
        ("veteran_status", "Veteran", "Even a non-veteran can go.", False),
        ("veteran_status", "Veteran", "As a veteran you can go.", True),
        ("big_five_scores", "Openness: Extremely Low, Extraversion: High", "You are high in extraversion.", True),
        ("big_five_scores", "Openness: Extremely Low, Extraversion: High", "You are low in openness.", False),
    ],
)
def test_what_names_a_value(attribute: str, stated: str, text: str, is_named: bool) -> None:
    assert names_value(matcher(attribute, stated), text) is is_named


@pytest.mark.parametrize("column", COLUMNS)
def test_each_value_of_the_census_is_held_by_its_own_line_and_by_no_other(column: str) -> None:
    attribute = COLUMNS[column]
    codings = json.loads(CODEBOOK.read_text(encoding="utf-8"))[column]["codings"]
    values = sorted({value for coding in codings.values() for value in coding.values()})
    for value in values:
        held = [other for other in values if holds_value(attribute, value, line_of(attribute, other))]
        assert value in held
        assert attribute in NOT_TOLD_APART or held == [value]


def test_what_states_nothing_is_left_out() -> None:
    profile = "Age: 30\nFertility: None\nRace: Not known\nIncome: nan\nReligion: Hindu"
    assert said_attributes(profile) == {"age": "30", "religion": "Hindu"}
    assert not is_said("Not applicable")


def test_yes_is_the_key_and_nothing_else() -> None:
    assert in_words("disability", "Yes") == label("disability")
    assert states_value("I live with a disability.", in_words("disability", "Yes"))
    assert not states_value("Yes, I do.", in_words("disability", "Yes"))
