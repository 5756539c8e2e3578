"""Makes the word files of `codebooks/` from the Census Bureau's PUMS data dictionaries, in words that a persona reads naturally.

    python -m builder.census.make_codebooks --dictionary FILE --other-years FILE

The two files hold the Bureau's own code -> label tables as JSON (2024; 2018, 2016 and 2011). The Bureau's wording is kept except where it
is written for a table and not for a reader: occupation prefixes ("MGR-"), capitals, "alone", "n.e.c.", "all other", footnote stars and
inversions ("Bus drivers, school"). A code that means the same in several codings has the same words in all of them, those of the newest
dictionary, so that personas of different vintages compare. Which coding holds in which survey year is said in `codebooks/years.json`,
which is kept by hand.
"""

import argparse
import json
import re
from pathlib import Path
from typing import Any

from builder.files import write_json

PlainWords = dict[str, dict[str, str]]  # kind ("work", "ancestry", "places") -> the Bureau's words -> ours

FOLDER = Path(__file__).parent / "codebooks"
SOURCE = "U.S. Census Bureau, ACS PUMS data dictionaries of 2011, 2016, 2018 and 2024 (public domain), labels shortened"
SOURCES = {
    "HHT2": "U.S. Census Bureau, ACS PUMS data dictionary of 2024 (public domain); the same codes since 2019",
    "FPARC": "U.S. Census Bureau, ACS PUMS data dictionaries of 2019 and of 2019-2023 (public domain)",
}
YEARS = (2011, 2016, 2018, 2024)
EVERY_YEAR = "every year"

# Column -> name of a coding (the survey year in which it began) -> the dictionaries that have it. Columns not named here have one coding.
# OCCP follows the Census occupation codes of 2010 (some joined from 2012 on) and 2018; INDP those made from NAICS 2007, 2012, 2017 and
# 2022. ANC1P and POBP are only shown or hidden when they are rare, so that each coding has the codes of all its dictionaries.
CODINGS: dict[str, dict[str, tuple[int, ...]]] = {
    "MIL": {"2010": (2011,), "2013": (2016, 2018, 2024)},
    "OCCP": {"2010": (2011,), "2012": (2016,), "2018": (2018, 2024)},
    "INDP": {"2010": (2011,), "2013": (2016,), "2018": (2018,), "2023": (2024,)},
    "POBP": {"2010": (2011, 2016), "2017": (2018, 2024)},
    "RELSHIPP": {"2010": (2011, 2016, 2018), "2019": (2024,)},
    "HHT2": {"2019": (2024,)},
}
OLDER_NAMES = {"STATE": "ST", "RELSHIPP": "RELP", "TYPEHUGQ": "TYPE"}
FILES = {
    "columns.json": (
        *("SEX", "RAC1P", "HISP", "SCHL", "ESR", "COW", "MAR", "CIT", "NATIVITY", "MIL", "DIS", "DREM", "DEYE", "DEAR"),
        *("HICOV", "FER", "ENG", "RELSHIPP", "HHL", "HHT", "HHT2", "HUPAC", "FPARC", "TYPEHUGQ", "STATE"),
    ),
    "OCCP.json": ("OCCP",),
    "INDP.json": ("INDP",),
    "ANC1P.json": ("ANC1P",),
    "POBP.json": ("POBP",),
}

EVERYBODY = "all persons"
HOUSEHOLDS = "persons in households; blank in group quarters"
RECENT_WORKERS = "persons 16 years and over, except those not in the labor force who last worked more than 5 years ago or never worked"
# Who is asked, from the dictionaries' "N/A" entries, which are the same in all four.
UNIVERSES = {
    "SCHL": "persons 3 years and over",
    "ESR": "persons 16 years and over",
    "COW": RECENT_WORKERS,
    "INDP": RECENT_WORKERS,
    "OCCP": RECENT_WORKERS,
    "MIL": "persons 17 years and over",
    "DREM": "persons 5 years and over",
    "FER": "women 15 to 50 years old",
    "ENG": "persons 5 years and over who speak a language other than English at home",
    "HHL": HOUSEHOLDS,
    "HHT": HOUSEHOLDS,
    "HHT2": HOUSEHOLDS,
    "HUPAC": HOUSEHOLDS,
    "FPARC": "persons in family households; blank in other households and in group quarters",
}
# Codes that are known and mean that there is no answer to describe.
MISSING = {
    "ANC1P": {
        0: "suppressed in some areas (2018)",
        996: "uncodable",
        997: "other groups",
        998: "other responses",
        999: "not reported",
    }
}

# Words of the short columns, where the dictionaries' own would read like a table.
WORDS: dict[str, dict[int, str]] = {
    "RAC1P": {
        1: "White",
        2: "Black or African American",
        3: "American Indian",
        4: "Alaska Native",
        5: "American Indian or Alaska Native",
        6: "Asian",
        7: "Native Hawaiian or Other Pacific Islander",
        8: "Some Other Race",
        9: "Two or More Races",
    },
    "HISP": {1: "Not Hispanic or Latino", 24: "Hispanic or Latino"},
    "SCHL": {
        2: "Preschool",
        15: "12th grade, no diploma",
        16: "High school diploma",
        17: "GED or alternative credential",
        18: "Some college, less than 1 year",
        19: "Some college, 1 or more years, no degree",
    },
    "COW": {
        1: "Employee of a private for-profit company or business",
        2: "Employee of a private not-for-profit or charitable organization",
        3: "Local government employee",
        6: "Self-employed in own unincorporated business, professional practice or farm",
        7: "Self-employed in own incorporated business, professional practice or farm",
        9: "Unemployed, last worked 5 years ago or earlier or never worked",
    },
    "CIT": {
        1: "Born in the United States",
        2: "Born in Puerto Rico, Guam, the U.S. Virgin Islands or the Northern Marianas",
        3: "Born abroad of U.S. citizen parent or parents",
        4: "U.S. citizen by naturalization",
        5: "Not a U.S. citizen",
    },
    "FER": {1: "Gave birth to a child within the past 12 months", 2: "No"},
    "HHT": {
        1: "Married couple household",
        2: "Family household, male householder, no spouse present",
        3: "Family household, female householder, no spouse present",
        4: "Male householder living alone",
        5: "Nonfamily household, male householder, not living alone",
        6: "Female householder living alone",
        7: "Nonfamily household, female householder, not living alone",
    },
    # The column is in the Bureau's files of all these years, but not in the extracts of the dictionaries that this program reads.
    "FPARC": {
        1: "With related children under 5 years only",
        2: "With related children 5 to 17 years only",
        3: "With related children under 5 years and 5 to 17 years",
        4: "No related children",
    },
    "TYPEHUGQ": {3: "Noninstitutional group quarters (such as a dormitory, barracks or shelter)"},
}
MILITARY_BEFORE_2013 = {
    1: "On active duty",
    2: "Veteran",  # active duty within the past year
    3: "Veteran",
    4: "Trained in the Reserves or National Guard only",
    5: "Non-Veteran",
}
MILITARY = {
    1: "On active duty",
    2: "Veteran",
    3: "Trained in the Reserves or National Guard only",
    4: "Non-Veteran",
}

FIRST_COUNTRY = 100  # POBP: below are the states and island areas

# Codes whose content changed with the coding, so that each coding keeps its own words.
CHANGED = {
    "OCCP": {810, 3940, 4130, 6220, 6420, 6765, 7100, 7950, 8100, 8330},
    "POBP": {463},  # Eastern Africa until 2016, South Sudan from 2017 on
    "MIL": {3, 4},
}
NEVER_WORKED = {9920: "Unemployed, last worked 5 years ago or earlier or never worked"}

PROPER_NOUNS = {
    "u.s.": "U.S.",
    "tv": "TV",
    "army": "Army",
    "navy": "Navy",
    "marines": "Marines",
    "air force": "Air Force",
    "coast guard": "Coast Guard",
    "national guard": "National Guard",
}
# As the dictionaries have them, in lower case.
MISPRINTS = {
    "\\": "",
    ",.": ",",
    "similar .institutions": "similar institutions",
    "machine. setters": "machine setters",
    "air- conditioning": "air-conditioning",
    "survice": "service",
    "office of chiropractors": "offices of chiropractors",
}
# Manufacturing industries whose name says by itself that something is made.
SAYS_THAT_IT_MAKES = re.compile(
    r"manufactur|mills|milling|foundries|refineries|bakeries|industries|production|activities|processing|stamping|building$|preservation"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dictionary", type=Path, required=True, help="JSON code tables of 2024")
    parser.add_argument(
        "--other-years", type=Path, required=True, help="JSON code tables of 2018, 2016 and 2011, keyed by year"
    )
    arguments = parser.parse_args()
    for name, content in make_codebooks(arguments.dictionary, arguments.other_years).items():
        write_json(FOLDER / name, content)
        codings = [labels for column in content.values() for labels in column["codings"].values()]
        print(f"{name}: {len(codings)} codings, {sum(len(labels) for labels in codings)} labels")


def make_codebooks(newest: Path, other_years: Path) -> dict[str, dict[str, Any]]:
    """File name -> column -> {"universe", "source", "codings": {coding: {code: words}}, and "missing" where codes mean "no answer"}."""
    dictionaries = {int(year): tables for year, tables in json.loads(other_years.read_text(encoding="utf-8")).items()}
    dictionaries[2024] = json.loads(newest.read_text(encoding="utf-8"))
    plain_words = json.loads((FOLDER / "plain_words.json").read_text(encoding="utf-8"))
    return {
        name: {column: describe_column(column, dictionaries, plain_words) for column in columns}
        for name, columns in FILES.items()
    }


def describe_column(column: str, dictionaries: dict[int, dict[str, Any]], plain_words: PlainWords) -> dict[str, Any]:
    codings: dict[str, dict[int, str]] = {}
    for coding, years in CODINGS.get(column, {EVERY_YEAR: YEARS}).items():
        codings[coding] = {}
        for year in years:  # the newest last, whose words win
            codings[coding] |= labels_of(column, year, dictionaries[year], plain_words)
    use_newest_words(codings, CHANGED.get(column, set()))
    described: dict[str, Any] = {
        "universe": UNIVERSES.get(column, EVERYBODY),
        "source": SOURCES.get(column, SOURCE),
        "codings": {coding: {str(code): labels[code] for code in sorted(labels)} for coding, labels in codings.items()},
    }
    if column in MISSING:
        described["missing"] = {str(code): meaning for code, meaning in MISSING[column].items()}
    return described


def use_newest_words(codings: dict[str, dict[int, str]], changed: set[int]) -> None:
    newest: dict[int, str] = {}
    for labels in reversed(codings.values()):
        for code in labels:
            if code not in changed:
                labels[code] = newest.setdefault(code, labels[code])


def labels_of(column: str, year: int, dictionary: dict[str, Any], plain_words: PlainWords) -> dict[int, str]:
    if column == "MIL":
        return dict(MILITARY_BEFORE_2013 if year < 2013 else MILITARY)
    name = column if column in dictionary else OLDER_NAMES.get(column, column)
    labels = plain_labels(dictionary[name]["values"]) if name in dictionary else {}
    if column in ("OCCP", "INDP"):
        return {code: work_words(label, plain_words["work"]) for code, label in labels.items()} | NEVER_WORKED
    if column in ("POBP", "STATE"):
        places = {code: place_words(label, plain_words["places"]) for code, label in labels.items()}
        return places | {
            code: "Georgia (country)" for code in places if code >= FIRST_COUNTRY and places[code] == "Georgia"
        }
    if column == "ANC1P":
        known = {code: label for code, label in labels.items() if code not in MISSING[column]}
        return {code: plain_words["ancestry"].get(label, label) for code, label in known.items()}
    return {code: short_words(label) for code, label in labels.items()} | WORDS.get(column, {})


def plain_labels(values: dict[str, str]) -> dict[int, str]:
    """Code -> label for the codes that are single numbers: blanks ("bb") and ranges ("1..99") have no label of their own."""
    return {int(code): " ".join(label.split()) for code, label in values.items() if code.lstrip("-").isdigit()}


def short_words(label: str) -> str:
    """`Opposite-sex husband/wife/spouse` -> `Opposite-sex spouse`."""
    text = label.replace("husband/wife/spouse", "spouse").replace("Husband/wife", "Husband or wife")
    return text.replace("spouse/partner", "spouse or partner")


def place_words(label: str, plain_words: dict[str, str]) -> str:
    """`California/CA` -> `California`; `Other Africa, Not Specified` -> `Africa`."""
    if label in plain_words:
        return plain_words[label]
    text = re.sub(r"/[A-Z]{2}$", "", label).replace("&", "and")
    text = re.sub(r",? [Nn]ot [Ss]pecified", "", text)
    return re.sub(r"^Other ", "", text)


def work_words(label: str, plain_words: dict[str, str]) -> str:
    """`MGR-Computer Occupations, All Other` -> `Other computer occupations`; `MFG-Footwear` -> `Footwear manufacturing`."""
    match = re.match(r"([A-Z]{3})- ?(.*)", label)
    group, text = match.groups() if match else ("", label)
    text = without_notes(text)
    if text in plain_words:
        text = plain_words[text]
    else:
        text = in_plain_order(text)
        if group == "MFG" and not SAYS_THAT_IT_MAKES.search(text):
            text += " manufacturing"
    for plain, proper in PROPER_NOUNS.items():
        text = re.sub(rf"(?<![a-z]){re.escape(plain)}(?![a-z])", proper, text)
    return text[0].upper() + text[1:]


def without_notes(label: str) -> str:
    """Lower case, repaired, and without what is said to coders: stars, `, n.e.c.`, `, including ...`, the cleaning of new buildings."""
    text = re.sub(r"^helpers--?", "helpers, ", label.lower().replace("*", ""))
    for misprint, repaired in MISPRINTS.items():
        text = text.replace(misprint, repaired)
    text = re.sub(r",(?=[a-z])", ", ", text)
    text = re.sub(r",? n\.e\.c\.?", "", text)
    text = re.sub(r" ?\(the cleaning of.*|, incl cleaning.*|, including .*", "", text)
    return re.sub(r"\s+", " ", text).strip(" .")


def in_plain_order(text: str) -> str:
    """`counselors, all other` -> `other counselors`; `sawing machine setters, wood` -> `wood sawing machine setters`."""
    text = re.sub(r"^not specified ", "", text)
    text = re.sub(
        r"^(.*), all other$|^miscellaneous (.*)$", lambda found: f"other {found.group(1) or found.group(2)}", text
    )
    text = text.replace("gaming", "gambling")
    return re.sub(r"^(.*), (metal and plastic|wood)$", r"\2 \1", text)


if __name__ == "__main__":
    main()
