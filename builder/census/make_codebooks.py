"""Makes `codebooks/*.json` from the Census Bureau's PUMS data dictionaries, in words that a persona reads naturally.

    python -m builder.census.make_codebooks --dictionary FILE --other-years FILE

The two files hold the Bureau's own code -> label tables as JSON (2024; 2018, 2016 and 2011). The Bureau's wording is kept except
where it is written for a table and not for a reader: occupation prefixes ("MGR-"), capitals, "alone", "n.e.c.", footnote stars.
"""

import argparse
import json
import re
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "codebooks"

# From which survey year on the coding of a dictionary holds. Occupation and industry codes changed in 2012, 2018 and (industry) 2023;
# MIL lost its fifth code in 2013.
FIRST_YEARS = {
    2011: {"default": 2010},
    2016: {"default": 2012, "MIL": 2013},
    2018: {"default": 2018},
    2024: {"default": 2023},
}

SHORT_LABELS: dict[str, dict[int, str]] = {
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
    "HISP": {24: "Hispanic or Latino"},
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
    "HHT": {
        1: "Married couple household",
        2: "Family household, male householder, no spouse present",
        3: "Family household, female householder, no spouse present",
        4: "Male householder living alone",
        5: "Nonfamily household, male householder, not living alone",
        6: "Female householder living alone",
        7: "Nonfamily household, female householder, not living alone",
    },
    "FPARC": {
        1: "With related children under 5 years only",
        2: "With related children 5 to 17 years only",
        3: "With related children under 5 years and 5 to 17 years",
        4: "No related children",
    },
    "TYPEHUGQ": {
        1: "Housing unit",
        2: "Institutional group quarters",
        3: "Noninstitutional group quarters (such as a dormitory, barracks or shelter)",
    },
}
MILITARY_2011 = {
    1: "On active duty",
    2: "Veteran",
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

# Ancestry labels that are spellings of an answer, not adjectives, or words that nobody would use of themselves today.
ANCESTRY_WORDS = {
    "Antigua and Barbuda": "Antiguan and Barbudan",
    "Georgia CIS": "Georgian",
    "Hong Kong": "Hong Kong Chinese",
    "Icelander": "Icelandic",
    "Indian": "American Indian",
    "Mexicano": "Mexican",
    "Mexican State": "Mexican",
    "Mideast": "Middle Eastern",
    "Mixture": "Mixed",
    "Negro": "African American",
    "Afro": "African American",
    "Afro American": "African American",
    "Eskimo": "Alaska Native",
    "Other Arab": "Arab",
    "Arabic": "Arab",
    "Other Asian": "Asian",
    "Other Pacific": "Pacific Islander",
    "Other Subsaharan African": "African",
    "Other West Indian": "West Indian",
    "Rom": "Romani",
    "St Lucia Islander": "St. Lucian",
    "Texas": "Texan",
    "Togo": "Togolese",
    "Trinidadian Tobagonian": "Trinidadian",
    "United States": "American",
    "Uzbeg": "Uzbek",
    "Vincent-Grenadine Islander": "Vincentian",
    "Chamorro Islander": "Chamorro",
}
# No ancestry at all, or an answer that could not be coded; 0 is "suppressed" (2018).
ANCESTRY_MISSING = (0, 996, 997, 998, 999)

PROPER_NOUNS = {
    "u.s.": "U.S.",
    "army": "Army",
    "navy": "Navy",
    "marines": "Marines",
    "marine corps": "Marine Corps",
    "air force": "Air Force",
    "coast guard": "Coast Guard",
    "national guard": "National Guard",
}
MISPRINTS = {"survice": "service", "medial ": "medical ", "activates": "activities"}
NOT_A_MANUFACTURE = re.compile(
    r"manufactur|mills|milling|foundries|refineries|bakeries|building|shops|industries|processing|production|stamping|activities"
    r"|sawmills|preservation|finishing"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dictionary", type=Path, required=True, help="JSON code tables of 2024")
    parser.add_argument(
        "--other-years", type=Path, required=True, help="JSON code tables of 2018, 2016 and 2011, keyed by year"
    )
    arguments = parser.parse_args()
    newest = json.loads(arguments.dictionary.read_text(encoding="utf-8"))
    dictionaries = {2024: newest}
    for year, dictionary in json.loads(arguments.other_years.read_text(encoding="utf-8")).items():
        dictionaries[int(year)] = dictionary
    for year, dictionary in sorted(dictionaries.items()):
        book = make_codebook(year, dictionary)
        path = FOLDER / f"{year}.json"
        path.write_text(json.dumps(book, indent=0, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")
        print(f"{path.name}: {sum(len(labels) for labels in book['columns'].values())} labels")


def make_codebook(year: int, dictionary: dict[str, Any]) -> dict[str, Any]:
    columns: dict[str, dict[int, str]] = {
        column: plain_labels(dictionary[column]["values"])
        for column in ("SEX", "SCHL", "ESR", "COW", "MAR", "HICOV", "HHL", "HUPAC", "ENG", "HHT2", "HISP", "DIS")
        if column in dictionary
    }
    for column in ("RAC1P", "CIT", "HHT", "FPARC", "TYPEHUGQ"):
        columns[column] = {}
    for column, labels in SHORT_LABELS.items():
        columns[column] |= labels
    columns["MIL"] = MILITARY_2011 if year == 2011 else MILITARY
    for column in ("DREM", "DEYE", "DEAR"):
        columns[column] = {1: "Yes", 2: "No"}
    columns["FER"] = {1: "Gave birth to a child within the past 12 months", 2: "No"}
    columns["NATIVITY"] = {1: "Native", 2: "Foreign born"}
    for column in ("OCCP", "INDP"):
        columns[column] = {
            code: work_label(label, column) for code, label in plain_labels(dictionary[column]["values"]).items()
        }
        columns[column][9920] = "Unemployed, last worked 5 years ago or earlier or never worked"
    columns["ANC1P"] = {
        code: ANCESTRY_WORDS.get(label, label)
        for code, label in plain_labels(dictionary["ANC1P"]["values"]).items()
        if code not in ANCESTRY_MISSING
    }
    columns["POBP"] = {code: place_label(label) for code, label in plain_labels(dictionary["POBP"]["values"]).items()}
    for code, label in columns["POBP"].items():
        if label == "Georgia" and code >= 100:  # below 100 are the states
            columns["POBP"][code] = "Georgia (country)"
    state_column = "STATE" if "STATE" in dictionary else "ST"
    columns["STATE"] = {
        code: place_label(label) for code, label in plain_labels(dictionary[state_column]["values"]).items()
    }
    return {
        "survey_year": year,
        "source": f"U.S. Census Bureau, ACS PUMS data dictionary {year} (public domain), labels shortened",
        "first_years": FIRST_YEARS[year],
        "adjinc": [int(factor) for factor in dictionary["ADJINC"]["values"]],
        "missing_codes": {"ANC1P": list(ANCESTRY_MISSING)},
        "columns": {
            column: {str(code): label for code, label in sorted(labels.items())} for column, labels in columns.items()
        },
    }


def plain_labels(values: dict[str, str]) -> dict[int, str]:
    """Code -> label for the codes that are single numbers: blanks ("bb") and ranges ("1..99") have no label of their own."""
    return {int(code): " ".join(label.split()) for code, label in values.items() if code.lstrip("-").isdigit()}


def work_label(label: str, column: str) -> str:
    """`MGR-Chief Executives And Legislators` -> `Chief executives and legislators`."""
    match = re.match(r"([A-Z]{3})-(.*)", label)
    group, text = match.groups() if match else ("", label)
    text = text.replace("*", "").lower().strip().rstrip(".")
    text = re.sub(r" ?\(the cleaning of.*|, incl cleaning.*|, ex constr cln|, including .*", "", text)
    text = re.sub(r",? n\.e\.c\.?", "", text)
    text = re.sub(r"- ", "-", text)
    text = re.sub(r"(?<!u)\.(?=[a-z])", ", ", text)
    text = text.replace("--", ", ").replace("u.s", "u.s.").replace("u.s..", "u.s.")
    for misprint, word in MISPRINTS.items():
        text = text.replace(misprint, word)
    text = re.sub(r"\s+", " ", text).strip()
    if column == "INDP" and group == "MFG" and not NOT_A_MANUFACTURE.search(text):
        text += " (manufacturing)" if re.search("[,;]", text) else " manufacturing"
    for plain, proper in PROPER_NOUNS.items():
        text = re.sub(rf"(?<![a-z]){re.escape(plain)}(?![a-z])", proper, text)
    return text[0].upper() + text[1:]


def place_label(label: str) -> str:
    """`California/CA` -> `California`; `Other Africa, Not Specified` -> `Africa`."""
    text = re.sub(r"/[A-Z]{2}$", "", label)
    if text.startswith("Other US Island"):
        return "A Pacific island or US island area"
    text = re.sub(r",? [Nn]ot [Ss]pecified", "", text)
    return re.sub(r"^Other ", "", text).strip()


if __name__ == "__main__":
    main()
