"""What a person does, in one sentence made of the census codes by rule (no language model)."""

import re

from builder.personas.attributes import Attributes
from builder.personas.demographics import (
    ARMED_FORCES,
    EMPLOYED,
    NOT_IN_LABOR_FORCE,
    RETIREMENT_AGE,
    SCHOOL_AGE,
    UNEMPLOYED,
    Record,
)

EMPLOYERS = {  # COW
    1: "for a private company",
    2: "for a private not-for-profit organization",
    3: "for local government",
    4: "for state government",
    5: "for the federal government",
    6: "in a business of their own",
    7: "in an incorporated business of their own",
    8: "without pay in a family business or farm",
}
# Plurals that name people at work, by their ending; the exceptions are things.
WORKER_ENDINGS = (
    *(
        "ers",
        "ors",
        "ists",
        "ians",
        "ants",
        "ents",
        "ees",
        "tects",
        "clerks",
        "ards",
        "chefs",
        "cooks",
        "aides",
        "pilots",
    ),
    *("nurses", "analysts", "smiths", "wrights", "mechanics", "masons", "wardens", "women", "men", "monitors", "hosts"),
)
NOT_WORKERS = {
    *("computers", "instruments", "papers", "numbers", "letters", "borders", "orders", "events", "vehicles"),
    *("garments", "investments", "documents", "settlements", "accidents", "patients", "elevators", "motors"),
    *("powers", "towers", "containers", "plants", "yards", "cards", "standards", "women's", "men's"),
}
OTHER_WORKERS = {
    *("actuaries", "paralegals", "guides", "paramedics", "bailiffs", "bellhops", "concierges", "salespersons"),
    *("roustabouts", "experts", "chauffeurs", "captains", "officials", "jockeys", "orderlies", "secretaries"),
    *("representatives", "executives", "detectives", "coaches", "scouts", "athletes", "umpires", "hostesses"),
    *("waitresses", "midwives", "maids", "judges", "models", "attorneys", "tutors", "magistrates", "surgeons"),
    *("machinists", "millwrights"),
}
# Census categories that join two kinds of work of which nearly everybody in them does the first.
SPOKEN = {
    "chief executives and legislators": "chief executives",
    "security guards and gambling surveillance officers": "security guards",
    "security guards and gaming surveillance officers": "security guards",
}
LONGEST_SETTING = 60
IRREGULAR = {"midwives": "midwife", "actuaries": "actuary", "secretaries": "secretary", "orderlies": "orderly"}


def describe_work_in_words(attributes: Attributes, record: Record) -> None:
    """Set `detailed_job_description` from occupation, industry, class of worker, employment and age."""
    age, employment = record["AGEP"], record["ESR"]
    if age < SCHOOL_AGE:
        attributes.leave_out("detailed_job_description", "not_applicable")
        return
    if age < 16:
        attributes.put("detailed_job_description", "Student", "census")
        return
    job = job_phrase(attributes, record)
    if employment in ARMED_FORCES:
        text = service_phrase(attributes)
    elif employment in EMPLOYED:
        text = f"Works as {job}" if job else "Employed, occupation not known"
    elif employment == UNEMPLOYED:
        text = (
            f"Looking for work, last worked as {job}"
            if job
            else "Looking for work, without a job in the last five years"
        )
    elif employment == NOT_IN_LABOR_FORCE and age >= RETIREMENT_AGE:
        text = f"Retired, last worked as {job}" if job else "Retired"
    elif employment == NOT_IN_LABOR_FORCE and age < 18:
        text = "Student"
    else:
        text = f"Not working at present, last worked as {job}" if job else "Not working and not looking for work"
    attributes.put("detailed_job_description", text, "census")


def service_phrase(attributes: Attributes) -> str:
    """`Serves in the U.S. Navy as a surgical technologist`; the military's own occupations say rank and not work, so they stay out."""
    branch, occupation = attributes.values["industry_category"] or "", attributes.values["occupation_category"]
    text = f"Serves in the {branch}" if branch.startswith("U.S.") else "Serves in the armed forces"
    if occupation is None or occupation.lower().startswith(("military", "first-line enlisted")):
        return text
    return f"{text} as {with_article(singular(occupation))}"


def job_phrase(attributes: Attributes, record: Record) -> str | None:
    """`a registered nurse (general medical and surgical hospitals) for a private not-for-profit organization`."""
    occupation = attributes.values["occupation_category"]
    if occupation is None:
        return None
    industry = attributes.values["industry_category"]
    setting = "" if industry is None else f" ({short_industry(industry)})"
    employer = EMPLOYERS.get(record["COW"] or 0, "")
    return f"{with_article(singular(occupation))}{setting} {employer}".strip()


def with_article(name: str) -> str:
    return f"{'an' if name[0].lower() in 'aeiou' and not name.startswith(('U.S.', 'uni', 'use')) else 'a'} {name}"


def short_industry(industry: str) -> str:
    """`Private hospitals (except ...)` -> `private hospitals`: exceptions and explanations are for coders."""
    text = re.sub(r",? *\([^)]*\)|, except .*|;.*", "", industry)
    if len(text) > LONGEST_SETTING:
        # A list of kinds: its first says enough.
        text = text.split(", and ")[0]
    return lower_first(re.sub(r"\s+", " ", text).strip())


def singular(occupation: str) -> str:
    """`Maids and housekeeping cleaners` -> `maid or housekeeping cleaner`; of supervisors only the supervisor is put into the singular."""
    text = re.sub(r", all other.*|, except .*", "", lower_first(occupation))
    text = SPOKEN.get(text, text)
    if text.startswith("other "):
        text = text[len("other ") :]
    if text.startswith("miscellaneous "):
        text = text[len("miscellaneous ") :]
    text = re.sub(r" occupations$", " worker", text)
    head, of, tail = text.partition(" of ")
    head = re.sub(r"[a-z'/-]+", lambda match: to_singular(match.group()), head)
    return head.replace(", and ", ", or ").replace(" and ", " or ") + of + tail


def to_singular(word: str) -> str:
    """The singular of a plural that names people at work; any other word unchanged."""
    if word in NOT_WORKERS or not (word.endswith(WORKER_ENDINGS) or word in OTHER_WORKERS):
        return word
    if word in IRREGULAR:
        return IRREGULAR[word]
    if word.endswith("men"):
        return word[:-3] + "man"
    if word.endswith(("coaches", "sses")):
        return word[:-2]
    return word[:-1] if word.endswith("s") else word


def lower_first(text: str) -> str:
    return text if text[:4] == "U.S." or text[1:2].isupper() else text[:1].lower() + text[1:]
