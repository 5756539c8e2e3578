"""The persona stage through its public face: rows, counts, profiles, the paper's examples."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.census.codebook import codebook_for
from builder.errors import InputError
from builder.llm.messages import Failure
from builder.personas.demographics import describe_demographics, two_significant_digits
from builder.personas.groups import COMPARED, compared_value
from builder.personas.imputation import impute_origin
from builder.personas.personas import EarlierPersonas, KnownRecords, PersonaTable, build_personas, read_records
from builder.personas.profile import fit_profiles, profile_lines, profile_text
from builder.personas.work import describe_work_in_words, singular
from builder.randomness import rng_for
from builder.recipe import BuildRecipe, CensusRecipe, PersonasRecipe
from builder.schema import ATTRIBUTES, NULL_REASONS, PROVENANCE, features

# The paper's two complete personas (arXiv 2407.17387, appendix C); attributes that it prints as nan are absent here.
PAPER_EXAMPLES: list[dict[str, Any]] = [
    {
        "age": 73,
        "sex": "Female",
        "race": "Asian",
        "ancestry": "Filipino",
        "household_language": "Asian and Pacific Island languages",
        "education": "Bachelor's Degree",
        "employment_status": "Not in labor force",
        "class_of_worker": "Retired",
        "detailed_job_description": "Retired, previously worked in a managerial position",
        "income": 178900,
        "marital_status": "Married",
        "household_type": "Married couple household, no children of the householder less than 18",
        "family_presence_and_age": "With related children 5 to 17 years only",
        "place_of_birth": "Philippines",
        "citizenship": "U.S. citizen by naturalization",
        "veteran_status": "Non-Veteran",
        "health_insurance": "With health insurance coverage",
        "big_five_scores": {
            "openness": "Extremely High",
            "conscientiousness": "Low",
            "extraversion": "Extremely High",
            "agreeableness": "Low",
            "neuroticism": "Extremely Low",
        },
        "defining_quirks": "Enjoys gardening and has a green thumb",
        "mannerisms": "Often uses hand gestures while speaking",
        "personal_time": "Spends free time gardening or reading",
        "lifestyle": "Active and outdoorsy",
        "ideology": "Liberal",
        "political_views": "Democrat",
        "religion": "Other Christian",
    },
    {
        "age": 10,
        "sex": "Female",
        "race": "Two or More Races",
        "ancestry": "Mixed",
        "household_language": "Spanish",
        "education": "Grade 3",
        "employment_status": "Unemployed",
        "class_of_worker": "Not applicable",
        "industry_category": "Not applicable",
        "occupation_category": "Student",
        "detailed_job_description": "Student",
        "income": 0,
        "marital_status": "Never married or under 15 years old",
        "household_type": "Married couple household with children of the householder less than 18",
        "family_presence_and_age": "With related children under 5 years and 5 to 17 years",
        "place_of_birth": "California/CA",
        "citizenship": "Born in the United States",
        "veteran_status": "Not applicable",
        "health_insurance": "With health insurance coverage",
        "big_five_scores": {
            "openness": "Extremely High",
            "conscientiousness": "Average",
            "extraversion": "Extremely Low",
            "agreeableness": "Extremely High",
            "neuroticism": "Average",
        },
        "defining_quirks": "Prefers to express herself through drawing",
        "mannerisms": "Often hums while concentrating",
        "personal_time": "Spends free time drawing or reading",
        "lifestyle": "Active and curious",
        "ideology": "Believes in fairness and kindness",
        "political_views": "Too young to have political views",
        "religion": "Protestant",
    },
]

ADULT_RECORD: dict[str, Any] = {
    **{"SERIALNO": "SYN1", "PWGTP": 90, "AGEP": 44, "SEX": 2, "RAC1P": 1, "HISP": 1, "SCHL": 21, "ESR": 1, "COW": 2},
    **{"INDP": 8191, "OCCP": 3255, "PINCP": 61234, "MAR": 1, "CIT": 1, "MIL": 4, "DIS": 1, "HICOV": 1, "STATE": 39},
    **{"ENG": None, "DREM": 2, "DEYE": 2, "DEAR": 1, "FER": 2, "HHL": 1, "HHT": 1, "HUPAC": 4, "TYPEHUGQ": 1},
}


def count_words(texts: list[str]) -> list[int]:
    return [len(text.split()) for text in texts]


def recipe(count: int = 40, adults_only: bool = True, seed: int = 5, **personas: Any) -> BuildRecipe:
    settings = {"seen": count // 2, "enrichment": "none", **personas}
    return BuildRecipe("test", seed, CensusRecipe(adults_only=adults_only), PersonasRecipe(count=count, **settings))


def persona_columns(example: dict[str, Any]) -> dict[str, Any]:
    values = dict.fromkeys(ATTRIBUTES) | example
    reasons = {name: "missing" if values[name] is None else None for name in ATTRIBUTES}
    provenance = {name: None if values[name] is None else "census" for name in ATTRIBUTES}
    fixed = {"persona_id": "p00000", "group": "seen", "is_adult": values["age"] >= 18, "weight": 1, "profile": ""}
    extras = {"core_values": [], "entertainment_preferences": []}
    return {**fixed, **values, "extras": extras, "null_reasons": reasons, "provenance": provenance}


def test_rows_have_exactly_the_published_columns_and_types() -> None:
    from datasets import Dataset

    table = build_personas(recipe(adults_only=False), None, count_words)
    assert set(table.rows[0]) == set(features("personas"))
    loaded = Dataset.from_list(table.rows, features=features("personas"))
    assert loaded[0] == table.rows[0]
    assert [row["persona_id"] for row in table.rows] == [f"p{number:05d}" for number in range(40)]
    assert table.counts["in"] == table.counts["out"] + sum(table.counts["dropped"].values())
    assert table.details["survey_year"] == 2024
    assert table.ledger == []


def test_paper_examples_fit_the_schema_and_the_profile() -> None:
    from datasets import Dataset

    rows = [persona_columns(example) for example in PAPER_EXAMPLES]
    loaded = Dataset.from_list(rows, features=features("personas"))
    for row, example in zip(loaded, PAPER_EXAMPLES, strict=True):
        assert {name: row[name] for name in ATTRIBUTES if row[name] is not None} == example
    first = profile_text(profile_lines(rows[0]))
    assert first.startswith("About the person asking:\nAge: 73\nSex: Female\n")
    assert (
        "Big five scores: Openness: Extremely High, Conscientiousness: Low, Extraversion: Extremely High, Agreeableness: Low, "
        "Neuroticism: Extremely Low\n"
    ) in first
    assert "Income: $178,900 a year" in first
    assert "Hearing difficulty" not in first


def test_every_null_has_a_reason_and_every_value_a_provenance() -> None:
    for row in build_personas(recipe(120, adults_only=False), None, count_words).rows:
        for name in ATTRIBUTES:
            if row[name] is None:
                assert row["null_reasons"][name] in NULL_REASONS
                assert row["provenance"][name] is None
            else:
                assert row["null_reasons"][name] is None
                assert row["provenance"][name] in PROVENANCE


def test_minors_have_no_politics_and_nobody_young_has_a_job() -> None:
    rows = build_personas(recipe(400, adults_only=False), None, count_words).rows
    minors = [row for row in rows if not row["is_adult"]]
    assert len(minors) > 40
    for row in minors:
        assert row["political_views"] is None
        assert row["null_reasons"]["ideology"] == "not_applicable"
        if row["age"] < 16:
            assert row["occupation_category"] is None
            assert row["detailed_job_description"] in (None, "Student")
    assert all(row["is_adult"] for row in build_personas(recipe(100), None, count_words).rows)


# Words of phrases, and what the rest of the persona must not say beside them. Written without a look at the tags of the lists.
ABOUT_A_SPOUSE = (
    "with a spouse",
    "after a spouse",
    "a spouse in",
    "two-person team",
    "marriage of many",
    "Growing old together",
)
ABOUT_ONES_CHILDREN = (
    "a good parent",
    "Time with the children",
    "the children",
    "Raising a grandchild",
    "caring for children",
)
ABOUT_BEING_SINGLE = ("dating", "Goes on dates", "Single and", "Solitary by choice")
ABOUT_SHIFTS = ("shift work", "night shifts", "early shift")
ABOUT_NO_CAR = ("Never learned to drive", "little driving")
ON_SCREEN = (
    *(
        "films",
        "Films",
        "movies",
        "Movies",
        "dramas",
        "sitcoms",
        "documentaries",
        "shows",
        "television",
        "game is on",
        "basketball",
    ),
    *("Baseball", "football", "hockey", "Boxing", "Olympics", "racing", "races", "season closely"),
)
ALCOHOL_COFFEE_TEA = ("beer", "Brews", "coffee", "tea and", "in a bar", "bottle for guests")
OFFICES = (
    "teachers",
    "Accountants",
    "Lawyers",
    "Software",
    "Secretaries",
    "analysts",
    "Financial managers",
    "Human resources",
)
WHEELS = (
    "Truck drivers",
    "Bus drivers",
    "bus drivers",
    "Taxi drivers",
    "Shuttle drivers",
    "Police officers",
    "Couriers",
)
NO_SPOUSE_HERE = ("no spouse or partner present", "Cohabiting couple")
ONLY_NONRELATIVES = ("only nonrelatives present", "living alone")


def test_phrases_do_not_contradict_the_record() -> None:
    rows = build_personas(recipe(3000, adults_only=False), None, count_words).rows
    for row in rows:
        written = " ".join(str(row[name]) for name in ("lifestyle", "personal_time", "defining_quirks", "mannerisms"))
        extras = " ".join(row["extras"]["core_values"] + row["extras"]["entertainment_preferences"])
        if row["hearing_difficulty"]:
            assert not any(word in written + extras for word in ("podcast", "Podcast", "guitar", "choir", "Musicals"))
        if row["vision_difficulty"]:
            assert not any(word in written + extras for word in ("Reads", "Knits", "Watches", "films", "novels"))
        if row["religion"] in ("Atheist", "Agnostic", "No particular religion"):
            assert not any(word in written + extras for word in ("scripture", "worship", "Faith", "God"))
        if row["employment_status"] == "Not in labor force":
            assert "work hours" not in written
            assert not row["detailed_job_description"].startswith("Works as")
        if row["age"] < 55:
            assert "grandchildren" not in written

        def says(*words: str, said: str = f"{written} {extras}") -> list[str]:
            return [word for word in words if word in said]

        household, job, religion = (str(row[name]) for name in ("household_type", "occupation_category", "religion"))
        if any(word in household for word in NO_SPOUSE_HERE):
            assert not says(*ABOUT_A_SPOUSE), row
        if any(word in household for word in ONLY_NONRELATIVES):
            assert not says(
                *ABOUT_ONES_CHILDREN[:2], *ABOUT_ONES_CHILDREN[3:], "household of relatives", "with the family"
            ), row
        if row["marital_status"] == "Never married" and "no children of the householder" in household:
            assert not says("a good parent", "Time with the children", "children with homework", "the children to"), row
        if "Cohabiting" in household or row["marital_status"] == "Married":
            assert not says(*ABOUT_BEING_SINGLE, said=written), row
        if any(word in job for word in OFFICES):
            assert not says(*ABOUT_SHIFTS), row
        if any(word in job for word in WHEELS):
            assert not says(*ABOUT_NO_CAR), row
        if row["vision_difficulty"] and row["hearing_difficulty"]:
            assert not says(*ON_SCREEN), row
        if religion == "Latter-day Saint":
            assert not says(*ALCOHOL_COFFEE_TEA), row
        if religion in ("Protestant", "Evangelical Protestant", "Latter-day Saint", "Buddhist"):
            assert not says("fasts and feasts"), row
        if religion == "Hindu":
            assert not says(
                "Goes hunting", "and hunting", "rifle", "fishing", "meat", "Grills", "sermons", "weekly day of rest"
            ), row
        if religion in ("Buddhist", "Hindu"):
            assert not says("list of people by name", "Obedience to God", "Says grace"), row
        if row["age"] < 13:
            assert religion not in ("Atheist", "Agnostic"), row
        if row["ability_to_speak_english"] in ("Not well", "Not at all"):
            assert not says("Workplace comedies", "at the counter", "role-playing"), row
        if "Democrat" in str(row["political_views"]):
            assert not says("asking for handouts", "Limited government"), row
        if row["employment_status"] and "Armed forces" in row["employment_status"]:
            assert not says("signs in the yard", "doors for candidates"), row
        if row["fertility"]:
            assert not says("Skateboards"), row
        if row["age"] >= 18 and row["education"] in (
            "No schooling completed",
            "Grade 3",
            "Grade 5",
            "Grade 6",
            "Grade 8",
        ):
            assert not says("novels", "Popular science", "Reads history", "Bookish"), row


def test_rebuilding_repeats_and_a_larger_build_extends() -> None:
    first, again = (build_personas(recipe(30), None, count_words).rows for _ in range(2))
    assert first == again
    larger = build_personas(recipe(45), None, count_words).rows
    for small, large in zip(first, larger, strict=False):
        assert {k: v for k, v in small.items() if k != "group"} == {k: v for k, v in large.items() if k != "group"}


def extended(first: PersonaTable, recipe_: BuildRecipe, known: KnownRecords | None = None, calls: Any = None) -> Any:
    earlier = EarlierPersonas(first.rows, first.details["examined"])
    return build_personas(recipe_, calls, count_words, known, earlier)


def test_no_record_is_drawn_twice_by_a_chain_of_extensions() -> None:
    """Households of 30, so that most places after the first version's are skipped."""
    packaged = read_records(CensusRecipe())
    table = packaged.records.table.slice(0, 6_000)
    homes = pa.array([f"SYN{row // 30:07d}" for row in range(table.num_rows)])
    table = table.set_column(table.column_names.index("SERIALNO"), "SERIALNO", homes)
    table = table.append_column("row", pa.array(range(table.num_rows)))
    known = dataclasses.replace(packaged, records=dataclasses.replace(packaged.records, table=table))

    versions: list[PersonaTable] = []
    rows: list[dict[str, Any]] = []
    examined = 0
    for count in (40, 80, 120):
        settings_ = recipe(count, adults_only=False, seen=count // 2)
        made = build_personas(settings_, None, count_words, known, EarlierPersonas(rows, examined) if rows else None)
        assert made.counts["in"] == known.records.table.num_rows + sum(known.records.dropped.values())
        versions.append(made)
        rows, examined = rows + made.rows, made.details["examined"]
    drawn = [set(made.records["row"].to_pylist()) for made in versions]
    assert sum(map(len, drawn)) == len(set().union(*drawn)) == 120
    at_home = [set(made.records["SERIALNO"].to_pylist()) for made in versions]
    assert not at_home[0] & at_home[1]
    assert not (at_home[0] | at_home[1]) & at_home[2]


def test_an_extension_has_all_its_personas_and_no_near_clones_across() -> None:
    first = build_personas(recipe(300, adults_only=False, seen=190), None, count_words)
    second = extended(first, recipe(900, adults_only=False, seen=570))
    rows = first.rows + second.rows
    assert len(rows) == 900
    groups = np.array([row["group"] for row in rows])
    assert (groups == "seen").sum() == 570
    assert second.details["seen"] == {"asked": 570, "out": 570}
    turned_away = second.counts["dropped"]["near-clone between the earlier version's groups"]
    assert 0 < turned_away < 30  # of 600: who is linked to one group goes there
    assert sum(entry["reason"] == "near_clone_of_both_groups" for entry in second.ledger) == turned_away
    assert all(e["item"].startswith("turned away") for e in second.ledger if e["reason"] == "near_clone_of_both_groups")
    values = np.array([[str(compared_value(name, row[name])) for name in COMPARED] for row in rows])
    for index in np.flatnonzero(groups == "unseen"):
        assert (values[groups == "seen"] != values[index]).sum(axis=1).min() >= 3


def test_a_cluster_that_the_earlier_version_divided_divides_no_new_one() -> None:
    first = build_personas(recipe(300, adults_only=False, seen=190), None, count_words)
    babies = [
        row for row in first.rows if row["age"] <= 1
    ]  # near-clones of each other, in a cluster with other children
    for number, row in enumerate(sorted(babies, key=lambda row: row["age"])):
        row["group"] = "seen" if number % 2 else "unseen"
    second = extended(first, recipe(900, adults_only=False, seen=570))
    rows = first.rows + second.rows
    groups = np.array([row["group"] for row in rows])
    values = np.array([[str(compared_value(name, row[name])) for name in COMPARED] for row in rows])
    for index in range(300, 900):
        assert (values[groups != groups[index]] != values[index]).sum(axis=1).min() >= 3


def test_nobody_is_written_about_who_is_then_turned_away() -> None:
    class Counting:
        asked = 0

        def generate(self, role: str, requests: list[Any], label: str) -> list[Any]:
            self.asked += len(requests)
            return [Failure("endpoint_error")] * len(requests)

    first = build_personas(recipe(600), None, count_words)
    calls = Counting()
    second = extended(first, recipe(1200, enrichment="lm"), calls=calls)
    assert second.counts["dropped"]["near-clone between the earlier version's groups"] > 0
    assert calls.asked == second.details["consistency"]["after_enrichment"]["checked"]
    assert len(second.rows) == 600


def test_an_extension_that_exhausts_the_records_says_so() -> None:
    packaged = read_records(CensusRecipe())
    table = packaged.records.table.slice(0, 200)
    homes = pa.array([f"SYN{row // 20:07d}" for row in range(table.num_rows)])
    table = table.set_column(table.column_names.index("SERIALNO"), "SERIALNO", homes)
    known = dataclasses.replace(packaged, records=dataclasses.replace(packaged.records, table=table))
    first = build_personas(recipe(60, adults_only=False), None, count_words, known)
    with pytest.raises(InputError, match=r"All records of .* have been drawn and only 0 of 60"):
        extended(first, recipe(120, adults_only=False), known)


@settings(max_examples=60, deadline=None)
@given(lengths=st.lists(st.integers(0, 12), max_size=8), budget=st.integers(5, 40))
def test_profiles_keep_the_longest_beginning_that_fits(lengths: list[int], budget: int) -> None:
    personas = [[f"Key: value {'x ' * (n % 3)}" for n in range(length)] for length in lengths]
    texts, omitted = fit_profiles(personas, budget, count_words) if budget >= 7 else ([], [])
    for lines, text, left_out in zip(personas, texts, omitted, strict=False):
        kept = len(lines) - left_out
        assert text == profile_text(lines[:kept])
        assert count_words([text])[0] <= budget
        assert left_out == 0 or count_words([profile_text(lines[: kept + 1])])[0] > budget


def test_a_budget_for_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="profile_max_tokens"):
        build_personas(recipe(3, profile_max_tokens=4), None, count_words)


def test_profile_follows_the_recipe_and_counts_what_it_left_out() -> None:
    chosen = ("religion", "age", "lifestyle", "occupation_category")
    table = build_personas(recipe(20, profile_attributes=chosen, profile_max_tokens=14), None, count_words)
    for row in table.rows:
        assert row["profile"].splitlines()[1].startswith("Religion: ")
        assert len(row["profile"].split()) <= 14
    assert table.details["profile_attributes_left_out"]["attributes"] > 0


def test_one_record_in_words() -> None:
    attributes = describe_demographics(ADULT_RECORD, codebook_for(2024), (), round_income=True)
    describe_work_in_words(attributes, ADULT_RECORD)
    values, reasons = attributes.values, attributes.reasons
    assert values["occupation_category"] == "Registered nurses"
    assert values["detailed_job_description"].startswith("Works as a registered nurse (general medical")
    assert values["detailed_job_description"].endswith("for a private not-for-profit organization")
    assert values["income"] == 61_000
    assert values["disability"] == "With a disability"
    assert values["hearing_difficulty"] == "Yes"
    assert (values["vision_difficulty"], reasons["vision_difficulty"]) == (None, "none")
    assert (values["ability_to_speak_english"], reasons["ability_to_speak_english"]) == (None, "not_applicable")
    assert (values["fertility"], reasons["fertility"]) == (None, "none")
    assert reasons["place_of_birth"] == "missing"
    without = {key: value for key, value in ADULT_RECORD.items() if key != "DEYE"}
    assert describe_demographics(without, codebook_for(2024), (), True).reasons["vision_difficulty"] == "missing"


def test_adjinc_and_rounding() -> None:
    labels = codebook_for(2024)
    exact = describe_demographics(ADULT_RECORD | {"ADJINC": 1_015_250}, labels, (), round_income=False)
    assert exact.values["income"] == 62_168
    assert [two_significant_digits(n) for n in (0, 7, 99, 52_430, -1_249, 995_000)] == [
        0,
        7,
        99,
        52_000,
        -1_200,
        1_000_000,
    ]


def test_imputed_birthplace_agrees_with_citizenship() -> None:
    states = set(codebook_for(2024)["STATE"].values()) - {"Puerto Rico"}
    for number in range(60):
        native = impute_origin(ADULT_RECORD, rng_for(1, "test", str(number)))
        assert native.place_of_birth in states
        foreign = impute_origin(ADULT_RECORD | {"CIT": 4, "RAC1P": 6, "HHL": 4}, rng_for(1, "test", str(number)))
        assert foreign.place_of_birth not in states
        assert foreign.ancestry is not None


@pytest.mark.parametrize(
    ("label", "one"),
    [
        ("Maids and housekeeping cleaners", "maid or housekeeping cleaner"),
        ("First-line supervisors of retail sales workers", "first-line supervisor of retail sales workers"),
        ("Sales and related workers, all other", "sales or related worker"),
        ("Waiters and waitresses", "waiter or waitress"),
        ("Computer systems analysts", "computer systems analyst"),
        ("Secretaries and administrative assistants", "secretary or administrative assistant"),
    ],
)
def test_occupations_in_the_singular(label: str, one: str) -> None:
    assert singular(label) == one


def test_the_stage_does_not_load_a_model_library() -> None:
    code = (
        "import sys, builder.personas.personas\n"
        "print([m for m in ('torch', 'transformers', 'sklearn', 'pandas') if m in sys.modules])"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "torch" not in printed
    assert "transformers" not in printed


@pytest.mark.shared_data
@pytest.mark.parametrize("name", ["persons_2024.parquet", "national_2011_joined.parquet"])
def test_real_records(name: str) -> None:
    folder = os.environ.get("PERSONA_SHARED_DATA")
    if not folder:
        pytest.skip("PERSONA_SHARED_DATA does not name the folder with real PUMS files")
    source = str(Path(folder) / "pums" / name)
    real = dataclasses.replace(recipe(200), census=CensusRecipe(source=source))
    table = build_personas(real, None, count_words)
    assert len(table.rows) == 200
    assert table.details["source"] == name
    assert table.details["unknown_codes"] == {}
    provenances = {row["provenance"]["place_of_birth"] for row in table.rows}
    assert provenances == ({"imputed"} if "2024" in name else {"census"})
