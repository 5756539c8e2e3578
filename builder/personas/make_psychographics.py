"""Makes `data/religion_and_politics.json` and `data/big_five.json` from published statistics.

    python -m builder.personas.make_psychographics --psych FOLDER

FOLDER holds `models_religion_party_ideology.json`, `facts.json` and `bigfive_computed.json`: figures computed from or published by the
surveys named in the output, no respondent's row. Three things are computed here, over the adults of the packaged census records, so that
drawn adults have the published figures: the factors by which religion differs between Asian and Hispanic origins, what to assume where a
record lacks region or schooling, and the mean personality of every group with the noise and cut points that go with it.
"""

import argparse
import json
import math
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from builder.census.codebook import codebook_for
from builder.census.draw import ADULT_AGE
from builder.census.pums import read_packaged
from builder.files import write_text
from builder.personas.psychographics import (
    FOLDER,
    OTHER_ASIAN,
    OTHER_HISPANIC,
    PARTY_WORDS,
    RELIGION_WORDS,
    UNAFFILIATED,
    Logit,
    Situation,
    factor_array,
    logit_from,
    race_group,
    softmax,
    survey_situation,
)
from builder.schema import BIG_FIVE, BIG_FIVE_LEVELS

MODELS = {
    "religion": "religion",
    "party": "party_given_religion",
    "ideology": "ideology_given_party_religion",
}
PEW_TERMS = "figures citable with attribution to Pew Research Center, which bears no responsibility for their use here"
IDEOLOGY_NOTE = (
    "Surveys differ on how many are moderate: 41 % here (web panel), 37 % GSS 2024, 39 % ANES 2020 with those who have not thought about "
    "it, 34 % Gallup 2024 (by telephone; also 37 % conservative and 25 % liberal, here 33 and 25). The panel is kept as it is: of the "
    "four it is the one that asked the same questions on party and religion, and partly the same people, as the other two tables."
)
# What facts.json may be used for; UNVERIFIED, SECONDARY (one transcription) and CHOICE may not.
USABLE = ("VERIFIED", "COMPUTED", "DERIVED")

CHRISTIANS = (
    *("Catholic", "Protestant (born-again/evangelical)", "Protestant (not born-again)", "Orthodox"),
    "Latter-day Saint",
)
EVANGELICAL = ("Protestant (born-again/evangelical)",)
# A religion that the list of a country does not name; zero would have no logarithm.
NOT_LISTED = 0.001
# Shares of those who answered: what Pew published adds up to 98 %. Hindu and Muslim follow from the origins and are left as a check.
ALL_ASIAN = {
    names: share / 0.98
    for names, share in {
        ("Catholic",): 0.17,
        ("Protestant (born-again/evangelical)",): 0.10,
        ("Protestant (not born-again)",): 0.06,
        UNAFFILIATED: 0.32,
        ("Buddhist",): 0.11,
    }.items()
}
SOUTH_ASIANS = ("Pakistani", "Bangladeshi", "Nepali", "Sri Lankan or Bhutanese")  # other than Indian
FEWEST_OWN_ADULTS = 50
REFERENCE_COLUMNS = ["AGEP", "SEX", "RAC1P", "HISP", "CIT", "SCHL", "STATE", "ANC1P", "POBP"]

# The Big Five in the order of BIG_FIVE, by their letters in the sources.
LETTERS = "OCEAN"
LINE_LENGTH = 120  # of a short object in the JSON
# ANES groups (left: as the persona has it). Orthodox and Latter-day Saint, Buddhist, Hindu and Muslim are ANES's "Other religion";
# its "Undifferentiated Christian" has no counterpart in the Pew surveys and is left out.
ANES_RELIGION = {
    **dict.fromkeys(("Agnostic", "Atheist", "No particular religion"), "Not religious"),
    **dict.fromkeys(("Buddhist", "Hindu", "Muslim", "Latter-day Saint", "Orthodox Christian"), "Other religion"),
    "Other religion": "Other religion",
    "Catholic": "Catholic",
    "Jewish": "Jewish",
    "Evangelical Protestant": "Evangelical Protestant",
    "Protestant": "Mainline Protestant",
}
# ANES asks seven points and lets people say that they have not thought about it. Its three wings so joined are 28, 39 and 33 % (2020),
# those of the Pew panel 26, 41 and 33 %; inside a wing the two scales cannot be matched.
ANES_WINGS = {
    "Liberal": ("Extremely liberal", "Liberal", "Slightly liberal"),
    "Moderate": ("Moderate", "Haven't thought about it"),
    "Conservative": ("Extremely conservative", "Conservative", "Slightly conservative"),
}
WING_OF = {
    **dict.fromkeys(("Very liberal", "Liberal"), "Liberal"),
    "Moderate": "Moderate",
    **dict.fromkeys(("Very conservative", "Conservative"), "Conservative"),
}


@dataclass(frozen=True)
class Reference:
    """Adults of the packaged census records who share situation and origin, and how many they are."""

    situation: Situation
    origin: str | None
    count: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--psych", type=Path, required=True, help="folder with the three JSON files")
    psych = parser.parse_args().psych
    for name, table in make_tables(psych).items():
        path = FOLDER / f"{name}.json"
        write_text(path, readable_json(table))
        print(f"{path.name}: {path.stat().st_size} bytes")


def make_tables(psych: Path) -> dict[str, dict[str, Any]]:
    """File name without ending -> content."""
    models = json.loads((psych / "models_religion_party_ideology.json").read_text(encoding="utf-8"))
    facts = {fact["id"]: fact for fact in json.loads((psych / "facts.json").read_text(encoding="utf-8"))}
    computed = json.loads((psych / "bigfive_computed.json").read_text(encoding="utf-8"))

    beliefs: dict[str, Any] = {name: belief_table(models[source], facts) for name, source in MODELS.items()}
    beliefs["ideology"]["note"] = IDEOLOGY_NOTE
    logits = {name: logit_from(table) for name, table in beliefs.items()}
    origins = origin_entries(facts)
    people = reference_adults(origins)
    beliefs["religion_by_origin"] = religion_by_origin(origins, logits["religion"], people, facts)
    beliefs["population"] = population_numbers(people)

    factors = {
        origin: factor_array(entry["log_factors"], logits["religion"].classes)
        for origin, entry in beliefs["religion_by_origin"]["origins"].items()
    }
    return {"religion_and_politics": beliefs, "big_five": big_five_table(facts, computed, logits, factors, people)}


def belief_table(model: dict[str, Any], facts: dict[str, Any]) -> dict[str, Any]:
    """One fitted logit, a line of class coefficients for every feature."""
    coefficients = np.array(model["coef"]).T.tolist()
    return {
        "source": f"Pew Research Center: {model['data'].split(',')[0].removeprefix('Pew ')}",
        "year": "2023-2025" if "NPORS" in model["data"] else "2023",
        "n": model["n"],
        "terms": PEW_TERMS,
        "status": facts["joint_microdata"]["status"],
        "method": (
            f"multinomial logit fitted with the surveys' final weights, L2 penalty {1 / model['C']:.3g}, no category left out; "
            "P = softmax(intercept + sum of the coefficients of the features that hold); cross-validated log loss "
            f"{model['cv5_logloss']} nats, {model['marginal_logloss']} for the shares alone"
        ),
        "variables": model["levels"],
        "classes": model["classes"],
        "intercept": model["intercept"],
        "coefficients": dict(zip(model["features"], coefficients, strict=True)),
    }


def figures(facts: dict[str, Any], name: str) -> dict[str, Any]:
    """The values of one entry of facts.json, refused unless somebody has read them at or through the publisher."""
    if not facts[name]["status"].startswith(USABLE):
        raise SystemExit(f"{name} has the status {facts[name]['status']!r} and may not be used.")
    return facts[name]["values"]


def source_of(facts: dict[str, Any], name: str) -> dict[str, Any]:
    fact = facts[name]
    return {"source": fact["source"], "year": fact["year"], "status": fact["status"], "terms": PEW_TERMS}


# Religion by origin.


def origin_entries(facts: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Origin -> race group, marks in the census record, and published shares: tuple of classes -> share of the origin's adults."""
    asian = {
        origin: {k: v / 100 for k, v in shares.items() if isinstance(v, (int, float))}
        for origin, shares in figures(facts, "pew_asian_religion").items()
    }
    # Read in Catholic World News (2023-10-13), which quotes the same Pew report; not in facts.json.
    filipino_catholic, vietnamese_catholic = 0.57, 0.29
    # The first list: codes of RAC2P since 2020, whose older codes mean other origins in other years.
    listed: dict[str, tuple[list[int], list[str], dict[tuple[str, ...], float]]] = {
        "Chinese": (
            [4000, 4005],
            ["Chinese", "Cantonese", "Taiwanese", "Hong Kong Chinese", "China", "Taiwan", "Hong Kong"],
            {UNAFFILIATED: asian["Chinese"]["Unaffiliated"], ("Muslim",): 0.018, ("Hindu",): NOT_LISTED},
        ),
        "Filipino": (
            [4008],
            ["Filipino", "Philippines"],
            {
                ("Catholic",): filipino_catholic,
                CHRISTIANS[1:]: asian["Filipino"]["Christian"] - filipino_catholic,
                ("Muslim",): 0.056,
                ("Hindu",): NOT_LISTED,
            },
        ),
        "Indian": (
            [4015],
            ["Asian Indian", "East Indian", "Punjabi", "India"],
            {
                ("Hindu",): asian["Indian"]["Hindu"],
                CHRISTIANS: asian["Indian"]["Christian"],
                ("Muslim",): asian["Indian"]["Muslim"],
                ("Something else",): asian["Indian"]["Sikh"],
            },
        ),
        "Vietnamese": (
            [4014],
            ["Vietnamese", "Vietnam"],
            {
                ("Buddhist",): asian["Vietnamese"]["Buddhist"],
                ("Catholic",): vietnamese_catholic,
                ("Muslim",): 0.001,
                ("Hindu",): NOT_LISTED,
            },
        ),
        "Korean": (
            [4003],
            ["Korean", "Korea"],
            {
                EVANGELICAL: asian["Korean"]["born-again/evangelical Protestant"],
                tuple(c for c in CHRISTIANS if c not in EVANGELICAL): asian["Korean"]["Christian"]
                - asian["Korean"]["born-again/evangelical Protestant"],
                ("Muslim",): NOT_LISTED,
                ("Hindu",): NOT_LISTED,
            },
        ),
        "Japanese": (
            [4002],
            ["Japanese", "Okinawan", "Japan"],
            {UNAFFILIATED: asian["Japanese"]["Unaffiliated"], ("Muslim",): NOT_LISTED, ("Hindu",): NOT_LISTED},
        ),
        "Pakistani": ([4019], ["Pakistani", "Pakistan"], {("Muslim",): 0.964}),
        "Bangladeshi": ([4016], ["Bangladeshi", "Bangladesh"], {("Muslim",): 0.891, ("Hindu",): 0.10}),
        "Nepali": (
            [4018],
            ["Nepali", "Nepal"],
            {("Hindu",): 0.813, ("Buddhist",): 0.09, ("Muslim",): 0.044},
        ),
        # No share of their own was found. Listed because Pew counts them among the other South Asians, see the check.
        "Sri Lankan or Bhutanese": ([4021, 4017], ["Sri Lankan", "Sri Lanka", "Bhutanese", "Bhutan"], {}),
        OTHER_ASIAN: ([], [], {}),
    }
    entries = {
        origin: {"race5": "Asian NH", "known_by": {"RAC2P": codes, "words": words}, "shares": shares}
        for origin, (codes, words, shares) in listed.items()
    }
    hispanic = {"Mexican": 2, "Puerto Rican": 3, "Cuban": 4, "Dominican": 5, "Salvadoran": 11}
    entries |= {
        origin: {"race5": "Hispanic", "known_by": {"HISP": [code]}, "shares": {}} for origin, code in hispanic.items()
    }
    return entries | {OTHER_HISPANIC: {"race5": "Hispanic", "known_by": {"HISP": []}, "shares": {}}}


def reference_adults(origins: dict[str, dict[str, Any]]) -> list[Reference]:
    """The adults of the packaged records, counted. They stand for the adult population: each has the same weight."""
    records = read_packaged()
    labels = codebook_for(records.survey_year)
    by_word = {word: name for name, entry in origins.items() for word in entry["known_by"].get("words", ())}
    by_code = {code: name for name, entry in origins.items() for code in entry["known_by"].get("HISP", ())}
    counts: Counter[tuple[tuple[tuple[str, str], ...], str | None]] = Counter()
    for record in records.table.select(REFERENCE_COLUMNS).to_pylist():
        if record["AGEP"] < ADULT_AGE:
            continue
        origin = None
        if race_group(record) == "Hispanic":
            origin = by_code.get(record["HISP"], OTHER_HISPANIC)
        elif race_group(record) == "Asian NH":
            words = (labels["ANC1P"].get(record["ANC1P"]), labels["POBP"].get(record["POBP"]))
            origin = by_word.get(words[0]) or by_word.get(words[1]) or OTHER_ASIAN
        counts[tuple(survey_situation(record).items()), origin] += 1
    return [Reference(dict(situation), origin, n) for (situation, origin), n in sorted(counts.items(), key=str)]


def religion_by_origin(
    origins: dict[str, dict[str, Any]], logit: Logit, people: list[Reference], facts: dict[str, Any]
) -> dict[str, Any]:
    asian, hispanic = ([p for p in people if p.situation["race5"] == race] for race in ("Asian NH", "Hispanic"))
    set_hispanic_shares(origins, logit, hispanic, figures(facts, "pew_latino_religion"))
    factors = calibrate_asian(logit, asian, {o: e["shares"] for o, e in origins.items() if e["race5"] == "Asian NH"})
    for origin, entry in origins.items():
        if entry["race5"] == "Hispanic":
            rows, weights = probability_rows(logit, adults_of(origin, hispanic))
            factors[origin] = calibrate(rows, weights, columns_of(logit, entry["shares"]), np.ones(len(logit.classes)))
    written = {}
    for origin, entry in origins.items():
        # Only ratios matter. Jewish has no published share in any origin, so its score stays as it is.
        logs = np.log(factors[origin] / factors[origin][logit.classes.index("Jewish")]).round(4).tolist()
        written[origin] = {
            "known_by": entry["known_by"],
            "shares": {" + ".join(classes): round(share, 4) for classes, share in entry["shares"].items()},
            "log_factors": {name: log for name, log in zip(logit.classes, logs, strict=True) if log},
        }
    check = asian_check(logit, asian, written)
    return {
        "method": (
            "The surveys hold too few Asian and Hispanic adults to tell origins apart. A log factor is added to a religion's score, "
            "the same for everybody of the origin, so that the origin's adults in the packaged census records (all adults of the race "
            f"group, where the origin has fewer than {FEWEST_OWN_ADULTS}) have `shares`. Differences by age, sex, schooling, region and "
            "nativity stay. Religions without a share keep the model's proportions to one another, except that among Asians they are "
            "scaled, alike for all origins, so that all Asian adults together have `shares_of_all_asian_adults`."
        ),
        "shares_of_all_asian_adults": {" + ".join(names): round(s, 4) for names, s in ALL_ASIAN.items()},
        "sources": {
            "Asian origins, and all Asian adults": {
                **source_of(facts, "pew_asian_religion"),
                "n": 7006,
                "also": (
                    "the same report as quoted by Catholic World News, 2023-10-13 (Catholic: 57 % of Filipino, 29 % of Vietnamese "
                    "adults) and by the Rafu Shimpo, 2024-02 (all Asian adults; what is published adds up to 98 % and is divided by that)"
                ),
                "choice": "Sikhs are counted as Other religion. Taiwanese and people from Hong Kong count as Chinese.",
            },
            "Hindu and Muslim where Pew gives no share; Pakistani, Bangladeshi, Nepali": {
                "source": "Central Intelligence Agency, The World Factbook, religions of the country of origin",
                "year": "editions 2014-2020, estimates of 1999-2015",
                "n": None,
                "status": (
                    "DERIVED: emigrants are taken to be as their country is; a religion that a country's entry does not name counts 0.1 %"
                ),
                "terms": "public domain",
                "check": (
                    "Not used above: Pew's 60 % Muslim among South Asians of other than Indian origin (American Bazaar, 2023-10, quoting "
                    "the same report) and 6 % Muslim, 11 % Hindu among all Asian adults. "
                    f"Here: {check['Muslim, other South Asian']} %, {check['Muslim, all']} %, {check['Hindu, all']} %."
                ),
            },
            "Hispanic origins": {
                **source_of(facts, "pew_latino_religion"),
                "n": 5103,
                "also": (
                    "Pew (2014-05-07) as quoted by El Diario NY and others: of all Hispanic adults 55 % Catholic, 16 % evangelical in 2013"
                ),
                "status": (
                    "DERIVED: an origin's odds of being Catholic (Salvadorans' of being evangelical) against all Hispanic adults' as in "
                    "2013, on the level of the model (43 %, as in Pew's survey of 2022); Other Hispanic takes what is left of that level"
                ),
            },
        },
        "origins": written,
    }


def adults_of(origin: str, people: list[Reference]) -> list[Reference]:
    own = [p for p in people if p.origin == origin]
    return own if sum(p.count for p in own) >= FEWEST_OWN_ADULTS else people


def set_hispanic_shares(
    origins: dict[str, dict[str, Any]], logit: Logit, people: list[Reference], latino: dict[str, Any]
) -> None:
    """Writes `shares` of the Hispanic origins: 2013's odds against all Hispanic adults on today's level."""
    rows, weights = probability_rows(logit, people)
    level = dict(zip(logit.classes, weights @ rows, strict=True))
    # Of all Hispanic adults in 2013; facts.json has the origins only.
    all_catholic, all_evangelical = 0.55, 0.16
    total = sum(p.count for p in people)
    left = level["Catholic"]
    for origin, percent in latino["2013 Catholic by origin"].items():
        share = expit(log_odds(level["Catholic"]) + log_odds(percent / 100) - log_odds(all_catholic))
        origins[origin]["shares"] = {("Catholic",): share}
        left -= share * sum(p.count for p in people if p.origin == origin) / total
    others = sum(p.count for p in people if p.origin == OTHER_HISPANIC) / total
    origins[OTHER_HISPANIC]["shares"] = {("Catholic",): left / others}
    evangelical = log_odds(level[EVANGELICAL[0]]) + log_odds(0.33) - log_odds(all_evangelical)  # "about 33"
    origins["Salvadoran"]["shares"][EVANGELICAL] = expit(evangelical)


def log_odds(share: float) -> float:
    return math.log(share / (1 - share))


def expit(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def calibrate_asian(
    logit: Logit, people: list[Reference], shares: dict[str, dict[tuple[str, ...], float]]
) -> dict[str, np.ndarray]:
    """Origin -> (classes,) factors that meet the origin's shares and, all origins together, ALL_ASIAN."""
    rows, weights = probability_rows(logit, people)
    own = {origin: probability_rows(logit, adults_of(origin, people)) for origin in shares}
    columns = columns_of(logit, ALL_ASIAN)[:-1]  # what is left over is free
    common = np.ones(len(logit.classes))
    for _ in range(1000):
        factors = {o: calibrate(*own[o], columns_of(logit, shares[o]), common) for o in shares}
        means = mean_shares(rows * np.array([factors[str(p.origin)] for p in people]), weights)
        if all(abs(means[indices].sum() - share) < 1e-6 for indices, share in columns):
            return factors
        for indices, share in columns:
            common[indices] *= share / means[indices].sum()
    raise SystemExit("No factors give the shares of all Asian adults.")


def calibrate(
    rows: np.ndarray, weights: np.ndarray, columns: list[tuple[list[int], float]], start: np.ndarray
) -> np.ndarray:
    """(classes,): factors of the columns of `rows`, (people, classes), with which the people's mean shares are as `columns` says.

    Iterative proportional fitting from `start`: each set of columns is scaled to its share in turn, every person's probabilities
    adding up to one in between. Of all factors that meet the shares these change the probabilities least.
    """
    factors = start.copy()
    for _ in range(1000):
        means = mean_shares(rows * factors, weights)
        if all(abs(means[indices].sum() - share) < 1e-8 for indices, share in columns):
            return factors
        for indices, share in columns:
            factors[indices] *= share / means[indices].sum()
    raise SystemExit(f"No factors give these shares: {columns}")


def columns_of(logit: Logit, shares: dict[tuple[str, ...], float]) -> list[tuple[list[int], float]]:
    """Column numbers and share of every set of classes, and at the end those of the classes without a share."""
    named = [name for classes in shares for name in classes]
    sets = {**shares, tuple(c for c in logit.classes if c not in named): 1 - sum(shares.values())}
    return [([logit.classes.index(name) for name in classes], share) for classes, share in sets.items()]


def probability_rows(logit: Logit, people: list[Reference]) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities, (people, classes), and the people's shares, (people,)."""
    counts = np.array([p.count for p in people], dtype=float)
    return np.array([softmax(logit, p.situation) for p in people]), counts / counts.sum()


def mean_shares(rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return weights @ (rows / rows.sum(axis=1, keepdims=True))


def asian_check(logit: Logit, people: list[Reference], written: dict[str, Any]) -> dict[str, int]:
    """Percentages that follow for groups of which Pew published figures that were not used."""
    rows, weights = probability_rows(logit, people)
    rows *= np.exp([factor_array(written[str(p.origin)]["log_factors"], logit.classes) for p in people])
    south = np.array([p.origin in SOUTH_ASIANS for p in people])
    muslim, hindu = logit.classes.index("Muslim"), logit.classes.index("Hindu")
    shares = {
        "Muslim, other South Asian": mean_shares(rows[south], weights[south] / weights[south].sum())[muslim],
        "Muslim, all": mean_shares(rows, weights)[muslim],
        "Hindu, all": mean_shares(rows, weights)[hindu],
    }
    return {name: round(100 * share) for name, share in shares.items()}


def population_numbers(people: list[Reference]) -> dict[str, Any]:
    """How many live in each region and have which schooling, by race and age: for records that do not tell, and for minors' parents."""
    numbers: dict[str, Any] = {}
    for variable in ("region4", "educ3"):
        counts: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        for person in people:
            s = person.situation
            counts[s["race5"], s["age4"]][s[variable]] += person.count
        numbers[variable] = defaultdict(dict)
        for (race, age), counter in sorted(counts.items()):
            numbers[variable][race][age] = dict(sorted(counter.items()))
    return {
        "source": "the packaged synthetic census records, modelled on the ACS PUMS",
        "year": 2024,
        "n": sum(p.count for p in people),
        "terms": "public domain",
        "status": "COMPUTED",
        "adults": numbers,
    }


# Big Five.


def big_five_table(
    facts: dict[str, Any],
    computed: dict[str, Any],
    logits: dict[str, Logit],
    factors: dict[str, np.ndarray],
    people: list[Reference],
) -> dict[str, Any]:
    anes = computed["ANES_TIPI_2012_2016"]
    cells = belief_cells(logits, factors, people)
    weights = np.array(list(cells.values()))
    correlations, differences = bfi_correlations(facts), bfi_sex_differences(facts)
    targets = published_means(anes, differences, cells)
    shifts = group_shifts(targets, cells)

    means = np.array([sum(np.array(shifts[v][g]) for v, g in zip(shifts, cell, strict=True)) for cell in cells])
    # What the groups' means contribute to variances and correlations is taken from the noise, so that both add up to the table.
    between = (means * weights[:, None]).T @ means
    within = np.round(correlations - between, 5)
    fifths = [number / len(BIG_FIVE_LEVELS) for number in range(1, len(BIG_FIVE_LEVELS))]
    cuts = [
        [round(mixture_quantile(share, means[:, t], weights, math.sqrt(within[t, t])), 4) for share in fifths]
        for t in range(len(BIG_FIVE))
    ]
    return {
        "method": (
            "Latent scores = sum of the shifts of a person's groups + normal noise with `covariance_within_groups`; levels by "
            "`cut_points`. Over the adult population (packaged census records with the beliefs of religion_and_politics.json) every score "
            "has mean 0 and standard deviation 1, the scores have `correlations`, men and women differ by `women_minus_men`, the other "
            "groups' means are those of `group_means` up to a constant per table, and every fifth of the population has one level: the "
            "paper names five levels and no norms. Below 18 only the shift of the sex applies, since nothing is published for minors."
        ),
        "traits": list(BIG_FIVE),
        "published": {
            "correlations": {
                "source": "BFI-2 domains, Soto and John (2017), doi:10.1037/pspp0000096, US internet sample",
                "year": 2017,
                "n": 1000,
                "status": facts["bfi2_domain_r_derived"]["status"],
                "terms": "journal copyright, figures citable; the BFI-2's items are not used",
                "values": correlations.tolist(),
            },
            "women_minus_men": {
                "source": "BFI-2 domains, Soto and John (2017), doi:10.1037/pspp0000096, US internet sample, 500 women, 500 men",
                "year": 2017,
                "n": 1000,
                "status": facts["bfi2_domain_by_gender_derived"]["status"],
                "terms": "journal copyright, figures citable",
                "unit": "standard deviations within sex",
                "values": differences,
            },
            "group_means": {
                "source": (
                    "American National Election Studies, Time Series 2012 and 2016, Ten-Item Personality Inventory (two items a trait, so "
                    "that differences are attenuated; they are not corrected)"
                ),
                "year": "2012, 2016",
                "n": anes["pooled_z_r"]["n"],
                "status": facts["bigfive_microdata"]["status"],
                "terms": "public data; cite ANES (electionstudies.org)",
                "unit": "standard deviations of all respondents",
                "groups": (
                    "ideology: three wings, in each of which the seven points are averaged by n; religion: ANES's groups, see "
                    "make_psychographics.py"
                ),
                "values": {name: target for name, target in targets.items() if name != "sex"},
            },
        },
        "shifts": shifts,
        "covariance_within_groups": within.tolist(),
        "cut_points": cuts,
    }


def bfi_correlations(facts: dict[str, Any]) -> np.ndarray:
    table = figures(facts, "bfi2_domain_r_derived")
    order = [table["order"].index(letter) for letter in LETTERS]
    return np.array(table["matrix"])[np.ix_(order, order)]


def bfi_sex_differences(facts: dict[str, Any]) -> list[float]:
    table = figures(facts, "bfi2_domain_by_gender_derived")
    return [table[letter]["d"] for letter in LETTERS]


def belief_cells(
    logits: dict[str, Logit], factors: dict[str, np.ndarray], people: list[Reference]
) -> dict[tuple[str, ...], float]:
    """(sex, age, religion, party, ideology as the persona has them) -> share of the adults, from the models' probabilities."""
    total = sum(person.count for person in people)
    religion, party, ideology = logits["religion"], logits["party"], logits["ideology"]
    religions: dict[
        tuple[tuple[str, str], ...], np.ndarray
    ] = {}  # situation -> share of the adults with it and each religion
    for person in people:
        situation = tuple(person.situation.items())
        p_religion = softmax(religion, person.situation, factors.get(str(person.origin), 0.0))
        religions[situation] = religions.get(situation, 0.0) + p_religion * person.count / total
    cells: dict[tuple[str, ...], float] = defaultdict(float)
    for situation, p_religion in religions.items():
        known = dict(situation)
        for r, p_r in zip(religion.classes, p_religion, strict=True):
            with_religion = {**known, "religion13": r}
            for p, p_p in zip(party.classes, softmax(party, with_religion), strict=True):
                p_ideology = softmax(ideology, {**with_religion, "party5": p})
                for i, p_i in zip(ideology.classes, p_ideology, strict=True):
                    words = (RELIGION_WORDS.get(r, r), PARTY_WORDS.get(p, p), i)
                    cells[known["sex"], known["age4"], *words] += float(p_r * p_p * p_i)
    return dict(sorted(cells.items()))


def published_means(
    anes: dict[str, Any], differences: list[float], cells: dict[tuple[str, ...], float]
) -> dict[str, dict[str, list[float]]]:
    """Variable -> group -> mean of the five scores, in standard deviations of the adult population."""

    def row(means: dict[str, float]) -> list[float]:
        return [means[letter] for letter in LETTERS]

    def wing(points: tuple[str, ...]) -> list[float]:
        rows = np.array([row(anes["z_by_ideology"][point]) for point in points])
        n = np.array([anes["z_by_ideology"][point]["n"] for point in points])
        return np.round(n @ rows / n.sum(), 4).tolist()

    women = sum(weight for cell, weight in cells.items() if cell[0] == "Female")
    half = np.array(differences) / np.sqrt(1 + women * (1 - women) * np.array(differences) ** 2) / 2
    parties = {PARTY_WORDS.get(name, name): row(means) for name, means in anes["z_by_party5"].items()}
    return {
        "sex": {"Female": half.tolist(), "Male": (-half).tolist()},
        "age": {age: row(means) for age, means in anes["z_by_age4"].items()},
        "religion": {name: row(anes["z_by_relig_anes8"][group]) for name, group in sorted(ANES_RELIGION.items())},
        "political_views": dict(sorted(parties.items())),
        "ideology": {name: wing(ANES_WINGS[side]) for name, side in sorted(WING_OF.items())},
    }


def group_shifts(
    targets: dict[str, dict[str, list[float]]], cells: dict[tuple[str, ...], float]
) -> dict[str, dict[str, list[float]]]:
    """The shifts that give every group its mean when each person has the sum over the groups to which they belong.

    Groups overlap (Evangelicals are older and more conservative), so a group's shift is not its mean. One linear equation for each group.
    Religions and ideologies with the same published means share one shift: only their joint mean is known.
    """
    keys = [(variable, tuple(values)) for variable, groups in targets.items() for values in groups.values()]
    keys = list(dict.fromkeys(keys))
    weights = np.array(list(cells.values()))
    held = [{(v, tuple(targets[v][group])) for v, group in zip(targets, cell, strict=True)} for cell in cells]
    belongs = np.array([[float(key in groups) for key in keys] for groups in held])
    shares = weights @ belongs
    overlap = (belongs * weights[:, None]).T @ belongs / shares[:, None]
    means = np.array([values for _, values in keys])
    for variable in targets:
        # Published means are centred on the survey's population, which is not quite this one.
        rows = [number for number, (name, _) in enumerate(keys) if name == variable]
        means[rows] -= shares[rows] @ means[rows]
    solution = np.linalg.lstsq(overlap, means, rcond=None)[0]
    assert np.abs(overlap @ solution - means).max() < 1e-9
    shift_of = {key: np.round(values, 4).tolist() for key, values in zip(keys, solution, strict=True)}
    return {v: {group: shift_of[v, tuple(values)] for group, values in groups.items()} for v, groups in targets.items()}


def mixture_quantile(share: float, means: np.ndarray, weights: np.ndarray, sd: float) -> float:
    """The point below which `share` of a mixture of normals with these means and one standard deviation lies."""
    distinct, position = np.unique(means, return_inverse=True)
    parts = list(zip(distinct.tolist(), np.bincount(position, weights).tolist(), strict=True))
    low, high = -5.0, 5.0
    for _ in range(30):
        middle = (low + high) / 2
        below = sum(weight * math.erfc((mean - middle) / (sd * math.sqrt(2))) / 2 for mean, weight in parts)
        low, high = (middle, high) if below < share else (low, middle)
    return middle


def readable_json(value: Any) -> str:
    return json_lines(value, "") + "\n"


def json_lines(value: Any, indent: str) -> str:
    """Indented JSON in which a list of numbers or words, and a short object of them, takes one line, so that tables read as tables."""
    flat = json.dumps(value, ensure_ascii=False)
    entries = list(value.values() if isinstance(value, dict) else value) if isinstance(value, (dict, list)) else []
    nested = any(isinstance(entry, (dict, list)) for entry in entries)
    if not nested and (len(flat) <= LINE_LENGTH or not isinstance(value, dict)):
        return flat
    inner = indent + " "
    if isinstance(value, dict):
        lines = [
            f"{inner}{json.dumps(key, ensure_ascii=False)}: {json_lines(entry, inner)}" for key, entry in value.items()
        ]
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
    return "[\n" + ",\n".join(inner + json_lines(entry, inner) for entry in value) + f"\n{indent}]"


if __name__ == "__main__":
    main()
