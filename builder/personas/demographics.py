"""One census record -> the census attributes in words (paper, appendix A).

Blank means "not in universe": such an attribute is null with reason `not_applicable`. A question that was asked and answered with "no"
(a difficulty, a birth) is null with reason `none`. A column that the file lacks, or an answer that could not be coded, is `missing`.
"""

from typing import Any

from builder.census.codebook import Codebook
from builder.personas.attributes import Attributes

Record = dict[
    str, Any
]  # 2024 column name -> code (int), text (SERIALNO) or None; a column that the file lacks is absent

NEVER_WORKED = 9920  # INDP and OCCP: unemployed, no job in the last five years; COW has 9
COW_NEVER_WORKED = 9
NOT_HISPANIC = 1
UNSPECIFIC_ORIGINS = (12, 22, 24)  # HISP: other Central American, other South American, all other
EMPLOYED = (1, 2, 4, 5)  # ESR
ARMED_FORCES = (4, 5)
UNEMPLOYED, NOT_IN_LABOR_FORCE = 3, 6
RETIREMENT_AGE = 65
SCHOOL_AGE = 5


def describe_demographics(record: Record, labels: Codebook, imputed: tuple[str, ...], round_income: bool) -> Attributes:
    """The attributes that the record itself answers; ancestry and birthplace stay `missing` where it does not."""
    attributes = Attributes()
    age = record["AGEP"]

    def words(column: str) -> str | None:
        code = record.get(column)
        # A column of a later year (HHT2 before 2019) has no words; then an older column answers.
        return None if code is None else labels.get(column, {}).get(code)

    def answer(attribute: str, column: str, asked: bool = True) -> None:
        if not asked:
            attributes.leave_out(attribute, "not_applicable")
        else:
            attributes.put(attribute, words(column), "imputed" if column in imputed else "census")

    attributes.put("age", age, "census")
    answer("sex", "SEX")
    answer("race", "RAC1P")
    describe_ancestry(attributes, record, labels, imputed)
    answer("place_of_birth", "POBP")
    answer("education", "SCHL", age >= 3)
    answer("marital_status", "MAR")
    if record.get("MAR") == 5 and age >= 15:
        attributes.put("marital_status", "Never married", "census")
    answer("citizenship", "CIT")
    answer("veteran_status", "MIL", age >= 17)
    answer("health_insurance", "HICOV")
    describe_work(attributes, record, words)
    describe_income(attributes, record, round_income)
    describe_household(attributes, record, words)

    for attribute, column, value in (
        ("disability", "DIS", "With a disability"),
        ("cognitive_difficulty", "DREM", "Yes"),
        ("vision_difficulty", "DEYE", "Yes"),
        ("hearing_difficulty", "DEAR", "Yes"),
    ):
        describe_yes_or_no(attributes, attribute, record, column, value, asked=column != "DREM" or age >= 5)
    describe_yes_or_no(
        attributes,
        "fertility",
        record,
        "FER",
        labels["FER"][1],
        asked=record["SEX"] == 2 and 15 <= age <= 50,
    )
    # Null from five years on means "speaks only English": the question is not asked then.
    answer("ability_to_speak_english", "ENG", "ENG" not in record or record["ENG"] is not None)
    return attributes


def describe_ancestry(attributes: Attributes, record: Record, labels: Codebook, imputed: tuple[str, ...]) -> None:
    """First reported ancestry; else the Hispanic origin, which is an ancestry and was answered by everybody."""
    if record.get("ANC1P") is not None:
        provenance = "imputed" if "ANC1P" in imputed else "census"
        attributes.put("ancestry", labels["ANC1P"].get(record["ANC1P"]), provenance)
    elif record.get("HISP") not in (None, NOT_HISPANIC, *UNSPECIFIC_ORIGINS):
        attributes.put("ancestry", labels["HISP"][record["HISP"]], "census")


def describe_work(attributes: Attributes, record: Record, words: Any) -> None:
    """Class of worker, industry and occupation are those of the present job, or of the last one within five years (Census Bureau)."""
    if record["AGEP"] < 16:
        for attribute in ("employment_status", "class_of_worker", "industry_category", "occupation_category"):
            attributes.leave_out(attribute, "not_applicable")
        return
    attributes.put("employment_status", words("ESR"), "census")
    for attribute, column in (
        ("class_of_worker", "COW"),
        ("industry_category", "INDP"),
        ("occupation_category", "OCCP"),
    ):
        code = record[column]
        if code is None:
            attributes.leave_out(attribute, "not_applicable")
        elif code in (NEVER_WORKED, COW_NEVER_WORKED) and (column == "COW") == (code == COW_NEVER_WORKED):
            attributes.leave_out(attribute, "none")
        else:
            attributes.put(attribute, words(column), "census")


def describe_income(attributes: Attributes, record: Record, round_income: bool) -> None:
    """Personal income of the past 12 months in dollars of the survey year (PINCP times ADJINC, which has six implied decimals)."""
    if record["PINCP"] is None:
        attributes.leave_out("income", "not_applicable" if record["AGEP"] < 15 else "missing")
        return
    factor = record.get("ADJINC")
    income = round(record["PINCP"] * (factor / 1_000_000 if factor else 1.0))
    attributes.put("income", two_significant_digits(income) if round_income else income, "census")


def two_significant_digits(amount: int) -> int:
    """52,430 -> 52,000; -1,249 -> -1,200; below 100 unchanged."""
    step = 10 ** max(0, len(str(abs(amount))) - 2)
    return round(amount / step) * step


def describe_household(attributes: Attributes, record: Record, words: Any) -> None:
    """Household attributes do not apply in group quarters, whose kind stands for the household type where the file tells it."""
    if record["HHT"] is None and record["HHL"] is None:
        attributes.leave_out("household_language", "not_applicable")
        attributes.leave_out("family_presence_and_age", "not_applicable")
        if record.get("TYPEHUGQ") in (2, 3):
            attributes.put("household_type", words("TYPEHUGQ"), "census")
        else:
            attributes.leave_out("household_type", "not_applicable")
        return
    attributes.put("household_language", words("HHL"), "census")
    # HHT2 (2019 and later) is the finer classification, and the one whose words the paper's examples have.
    attributes.put("household_type", words("HHT2") or words("HHT"), "census")
    # FPARC counts a family's related children, HUPAC all children of the household. The paper's examples have FPARC's words.
    attributes.put("family_presence_and_age", words("FPARC") or words("HUPAC"), "census")


def describe_yes_or_no(
    attributes: Attributes, attribute: str, record: Record, column: str, value: str, asked: bool
) -> None:
    if not asked:
        attributes.leave_out(attribute, "not_applicable")
    elif record.get(column) == 1:
        attributes.put(attribute, value, "census")
    elif record.get(column) == 2:
        attributes.leave_out(attribute, "none")


# OCCP, first and last code of each group; the same in the codings of 2010 and 2018.
DRIVING_JOBS = (
    # emergency technicians, police patrol and its supervisors, couriers, mail carriers
    *((3400, 3402), (3710, 3710), (3850, 3870), (5510, 5510), (5550, 5550)),
    # ambulances, buses, trucks, taxis and other vehicles; fork lifts
    *((9110, 9150), (9600, 9600)),
)
SHIFT_JOBS = (
    # hospitals and pharmacies, nursing, emergencies and guarding
    *((3050, 3110), (3200, 3200), (3220, 3220), (3255, 3258), (3300, 3300), (3320, 3330), (3400, 3423), (3500, 3500)),
    *((3600, 3605), (3645, 3649), (3700, 3740), (3800, 3960)),
    # food, cleaning, casinos, hotels, shops, dispatch and mail
    *((4000, 4160), (4200, 4230), (4400, 4400), (4530, 4530), (4720, 4720), (4760, 4760), (5300, 5300), (5520, 5522)),
    *((5540, 5560),),
    # wells and mines, upkeep of machines, production, transportation and material moving, military
    *((6800, 6950), (7330, 7360), (7700, 8990), (9000, 9760), (9800, 9830)),
)
# HHT2: with own children of a householder who has a partner or nobody, so that somebody who never married may be the parent.
MAY_BE_UNMARRIED_PARENTS = (3, 6, 10)


def facts_about(record: Record, veteran: bool) -> set[str]:
    """What the lists of psychographic phrases need to know so as not to contradict the record. Names: see lists.py.

    The file does not say who in the household is whose. A fact about a spouse or about children is left out where the household may be
    of other people: a phrase too few does no harm, a phrase about somebody who is not there does.
    """
    age, marital, household = record["AGEP"], record.get("MAR"), record.get("HHT")
    kind, job, schooling = record.get("HHT2"), record.get("OCCP") or 0, record.get("SCHL")
    # Nobody who never married is householder or spouse of a married couple; without HHT2, HHT tells that much.
    never_married_parent = household != 1 if kind is None else kind in MAY_BE_UNMARRIED_PARENTS
    may_be_parent = age >= 25 and never_married_parent if marital == 5 else age >= 25 or marital in (1, 2, 3, 4)
    works = record.get("ESR") in EMPLOYED
    english, income = record.get("ENG"), record.get("PINCP")
    checks = {
        "worker": works,
        "unemployed": record.get("ESR") == UNEMPLOYED,
        "retired": record.get("ESR") == NOT_IN_LABOR_FORCE and age >= RETIREMENT_AGE,
        "military": record.get("ESR") in ARMED_FORCES,
        "self_employed": works and record.get("COW") in (6, 7),
        "veteran": veteran,
        "driver": any(first <= job <= last for first, last in DRIVING_JOBS),
        "shift_job": any(first <= job <= last for first, last in SHIFT_JOBS),
        "children_at_home": record.get("HUPAC") in (1, 2, 3) and household not in (4, 5, 6, 7) and may_be_parent,
        "only_small_children": record.get("HUPAC") == 1,
        # A birth within the year, and the child lives here.
        "new_baby": record.get("FER") == 1 and record.get("HUPAC") in (1, 3),
        "family_household": household in (1, 2, 3),
        "cohabiting_household": kind in (3, 4),
        # In group quarters and where HHT is missing, the marital status has to do.
        "partnered": marital == 1 and household in (1, None),
        "married": marital == 1,
        "never_married": marital == 5,
        "widowed": marital == 2,
        "lives_alone": household in (4, 6),
        "institution": record.get("TYPEHUGQ") == 2,
        "group_quarters": record.get("TYPEHUGQ") in (2, 3) or (household is None and record.get("HHL") is None),
        "disability": record.get("DIS") == 1,
        "cognitive_difficulty": record.get("DREM") == 1,
        "vision_difficulty": record.get("DEYE") == 1,
        "hearing_difficulty": record.get("DEAR") == 1,
        "deafblind": record.get("DEYE") == 1 and record.get("DEAR") == 1,
        "foreign_born": record.get("CIT") in (4, 5),
        "not_citizen": record.get("CIT") == 5,
        "other_language": english is not None,
        "good_english": english in (None, 1, 2),
        "weak_english": english in (3, 4),
        "spanish": record.get("HHL") == 2 and (english is not None or record.get("HISP") != NOT_HISPANIC),
        # No more than grade 8.
        "little_schooling": age >= 18 and schooling is not None and schooling < 12,
        "low_education": (record.get("SCHL") or 0) < 16,
        "low_income": income is not None and income < 15_000 and marital != 1,
        "high_income": income is not None and income >= 120_000,
    }
    return {name for name, holds in checks.items() if holds}
