"""Sampled beliefs and personality: a drawn population against what it is drawn from, and against what was published.

Tests of counts use exact expectations, the sum of the persons' probabilities, so only chance is left: a right implementation fails one of
them once in 10,000 seeds. Tests against published shares allow for the surveys' own error and the model's as well.
"""

import csv
import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest
from scipy.stats import chi2, norm

from builder.census.codebook import codebook_for
from builder.census.draw import draw_records
from builder.census.pums import CensusRecords, read_packaged
from builder.personas import psychographics
from builder.personas.attributes import Attributes
from builder.personas.demographics import Record, describe_demographics, facts_about
from builder.personas.lists import BELIEF_FACTS, LIST_FACTS, PERSONALITY_FACTS, load_phrases
from builder.personas.make_psychographics import make_tables, readable_json
from builder.personas.psychographics import (
    EXTRAS,
    LISTS,
    PARTY_WORDS,
    RELIGION_WORDS,
    class_probabilities,
    describe_psychographics,
    draw_beliefs,
    draw_scores,
    origin_of,
    redraw,
    survey_situation,
)
from builder.randomness import rng_for
from builder.schema import BIG_FIVE, BIG_FIVE_LEVELS

ALPHA = 1e-4
DRAWN = 6000
DATA = psychographics.FOLDER
SURVEY_RELIGION = {words: name for name, words in RELIGION_WORDS.items()}
SURVEY_PARTY = {words: name for name, words in PARTY_WORDS.items()}
UNAFFILIATED = ("Atheist", "Agnostic", "No particular religion")
CHRISTIAN = ("Catholic", "Evangelical Protestant", "Protestant", "Latter-day Saint", "Orthodox Christian")

Person = dict[str, Any]


@pytest.fixture(scope="module")
def packaged() -> CensusRecords:
    return read_packaged()


@pytest.fixture(scope="module")
def adults(packaged: CensusRecords) -> list[tuple[Record, Attributes]]:
    """A random sample of the packaged adults, described."""
    return described(draw_records(packaged, DRAWN, 11, adults_only=True)[0].to_pylist())


def described(records: list[Record]) -> list[tuple[Record, Attributes]]:
    labels = codebook_for(2024)
    return [(record, describe_demographics(record, labels, (), False)) for record in records]


@pytest.fixture(scope="module")
def people(adults: list[tuple[Record, Attributes]]) -> list[Person]:
    """What was drawn for them: in the persona's words, in the surveys' words, and the situation that the models saw."""
    drawn = []
    for number, (record, attributes) in enumerate(adults):
        describe_psychographics(attributes, record, set(), 11, f"p{number:05d}")
        values = attributes.values
        religion = SURVEY_RELIGION.get(values["religion"], values["religion"])
        party = SURVEY_PARTY.get(values["political_views"], values["political_views"])
        situation = {**survey_situation(record), "religion13": religion, "party5": party}
        origin = origin_of(record, values["ancestry"], values["place_of_birth"])
        drawn.append(
            {
                **situation,
                "ideology5": values["ideology"],
                "origin": origin,
                "situation": situation,
                **{name: values[name] for name in ("religion", "political_views", "ideology", "big_five_scores")},
            }
        )
    return drawn


def share(people: list[Person], variable: str, *values: str) -> float:
    return sum(person[variable] in values for person in people) / len(people)


def assert_counts_as_expected(
    people: Iterable[Person],
    group: Callable[[Person], Any],
    drawn: Callable[[Person], str],
    expected: Callable[[Person], dict[str, float]],
) -> None:
    """Per group, the drawn counts against the sum of the persons' probabilities: chi-square with the exact covariance of that sum."""
    observed: dict[Any, Counter[str]] = defaultdict(Counter)
    probabilities: dict[Any, list[list[float]]] = defaultdict(list)
    names: list[str] = []
    for person in people:
        p = expected(person)
        names = list(p)
        observed[group(person)][drawn(person)] += 1
        probabilities[group(person)].append(list(p.values()))
    for key, counts in observed.items():
        rows = np.array(probabilities[key])
        sums = rows.sum(axis=0)
        common = np.flatnonzero(sums >= 5)
        if len(common) < 2:
            continue
        difference = np.array([counts[name] for name in names])[common] - sums[common]
        covariance = (np.diag(sums) - rows.T @ rows)[np.ix_(common, common)]
        # Where every class is common the counts add up to a constant, and one class must go.
        free = len(common) - 1 if len(common) == len(names) else len(common)
        statistic = difference[:free] @ np.linalg.solve(covariance[:free, :free], difference[:free])
        p_value = chi2.sf(statistic, free)
        assert p_value > ALPHA / len(observed), (
            f"{key}: drawn {dict(counts)}, expected {dict(zip(names, sums, strict=True))}"
        )


def cached(model: str, variables: tuple[str, ...]) -> Callable[[Person], dict[str, float]]:
    """class_probabilities of a drawn person, computed once per situation."""
    known: dict[Any, dict[str, float]] = {}

    def probabilities(person: Person) -> dict[str, float]:
        origin = person["origin"] if model == "religion" else None
        key = (origin, *(person[name] for name in variables))
        if key not in known:
            known[key] = class_probabilities(model, {name: person[name] for name in variables}, origin)
        return known[key]

    return probabilities


DEMOGRAPHICS = ("race5", "age4", "sex", "educ3", "region4", "nativity")


@pytest.mark.parametrize("given", ["race5", "age4", "educ3", "origin"])
def test_religion_is_drawn_as_the_model_has_it(people: list[Person], given: str) -> None:
    assert_counts_as_expected(people, lambda p: p[given], lambda p: p["religion13"], cached("religion", DEMOGRAPHICS))


@pytest.mark.parametrize("given", ["religion13", "race5", "sex"])
def test_party_is_drawn_as_the_model_has_it_given_religion(people: list[Person], given: str) -> None:
    expected = cached("party", (*DEMOGRAPHICS, "religion13"))
    assert_counts_as_expected(people, lambda p: p[given], lambda p: p["party5"], expected)


@pytest.mark.parametrize("given", ["party5", "religion13", "age4"])
def test_ideology_is_drawn_as_the_model_has_it_given_party_and_religion(people: list[Person], given: str) -> None:
    expected = cached("ideology", (*DEMOGRAPHICS[:5], "religion13", "party5"))
    assert_counts_as_expected(people, lambda p: p[given], lambda p: p["ideology5"], expected)


def test_probabilities_follow_the_formula() -> None:
    """Computed a second time, feature by feature from the table as it is written."""
    table = json.loads((DATA / "religion_and_politics.json").read_text(encoding="utf-8"))
    base = {"age4": "65+", "sex": "Female", "educ3": "College grad+", "region4": "West", "nativity": "Foreign-born"}
    asian, white = {**base, "race5": "Asian NH"}, {**base, "race5": "White NH", "nativity": "Native"}
    beliefs = {"religion13": "Catholic", "party5": "Lean Republican"}
    for model, situation, origin in (
        ("religion", white, None),
        ("religion", asian, "Filipino"),
        ("party", {**white, **beliefs}, None),
        ("ideology", {**asian, **beliefs}, None),
    ):
        scores = dict(zip(table[model]["classes"], table[model]["intercept"], strict=True))
        for feature, coefficients in table[model]["coefficients"].items():
            if all(situation[part.split("=")[0]] == part.split("=")[1] for part in feature.split(" & ")):
                for name, coefficient in zip(table[model]["classes"], coefficients, strict=True):
                    scores[name] += coefficient
        if origin is not None:
            for name, log in table["religion_by_origin"]["origins"][origin]["log_factors"].items():
                scores[name] += log
        total = sum(math.exp(score) for score in scores.values())
        assert class_probabilities(model, situation, origin) == pytest.approx(
            {name: math.exp(score) / total for name, score in scores.items()}
        )


def test_a_record_falls_into_the_categories_of_the_surveys(adults: list[tuple[Record, Attributes]]) -> None:
    base = {**adults[0][0], "HISP": 1, "RAC1P": 1, "AGEP": 40, "SEX": 1, "SCHL": 21, "CIT": 1, "STATE": 36}
    for change, name, category in (
        *(
            ({"AGEP": age}, "age4", group)
            for age, group in ((18, "18-29"), (29, "18-29"), (30, "30-49"), (49, "30-49"))
        ),
        *(({"AGEP": age}, "age4", group) for age, group in ((50, "50-64"), (64, "50-64"), (65, "65+"), (94, "65+"))),
        ({"AGEP": 9, "SCHL": 6}, "age4", "30-49"),  # the parents' generation
        *(({"SEX": sex}, "sex", word) for sex, word in ((1, "Male"), (2, "Female"))),
        # 17: GED; 18 to 20: some college, associate's degree; 21: bachelor's degree
        *(({"SCHL": code}, "educ3", group) for code, group in ((1, "HS or less"), (17, "HS or less"))),
        *(({"SCHL": code}, "educ3", group) for code, group in ((18, "Some college"), (20, "Some college"))),
        *(({"SCHL": code}, "educ3", "College grad+") for code in (21, 24)),
        # 2: Puerto Rico; 3: abroad of American parents; 4: naturalized; 5: not a citizen
        *(({"CIT": code}, "nativity", "Native") for code in (1, 2, 3)),
        *(({"CIT": code}, "nativity", "Foreign-born") for code in (4, 5)),
        ({"HISP": 2, "RAC1P": 6}, "race5", "Hispanic"),
        *(({"RAC1P": code}, "race5", race) for code, race in ((1, "White NH"), (2, "Black NH"), (6, "Asian NH"))),
        *(({"RAC1P": code}, "race5", "Other/Multiracial NH") for code in (3, 7, 8, 9)),
        *(({"STATE": state}, "region4", "South") for state in (10, 11, 24, 40, 48)),
        *(({"STATE": state}, "region4", region) for state, region in ((23, "Northeast"), (29, "Midwest"), (2, "West"))),
    ):
        assert survey_situation({**base, **change})[name] == category, change
    assert "educ3" not in survey_situation({**base, "AGEP": 9, "SCHL": 6})
    assert "region4" not in survey_situation({**base, "STATE": 72})  # Puerto Rico
    assert len(psychographics.REGIONS) == 51


def test_a_region_or_schooling_that_the_record_does_not_tell_is_averaged_over(people: list[Person]) -> None:
    """Not left out of the sum: that would be off by up to 14 percentage points for a group, and by 2 over all adults."""
    for missing in ("region4", "educ3"):
        told = cached("religion", DEMOGRAPHICS)
        untold = cached("religion", tuple(name for name in DEMOGRAPHICS if name != missing))
        for religion in ("Catholic", "Protestant (born-again/evangelical)", "Nothing in particular"):
            difference = np.mean([told(person)[religion] - untold(person)[religion] for person in people])
            assert abs(difference) < 0.003


def test_a_category_that_the_surveys_do_not_have_is_an_error() -> None:
    situation = {"race5": "White NH", "age4": "65+", "sex": "Male", "nativity": "Native"}
    assert sum(class_probabilities("religion", situation).values()) == pytest.approx(1.0)
    with pytest.raises(KeyError):
        class_probabilities("religion", {**situation, "sex": "male"})
    with pytest.raises(KeyError):
        class_probabilities("party", situation)  # which hangs on religion


# Published shares.


def test_beliefs_are_near_the_published_shares(people: list[Person]) -> None:
    """Mostly of surveys that the models were not fitted on. Margins: chance, and how far the models are from that survey."""
    # Pew Religious Landscape Study 2023-24 (n = 36,908)
    assert share(people, "religion", *CHRISTIAN) == pytest.approx(0.62, abs=0.04)
    assert share(people, "religion", "Catholic") == pytest.approx(0.19, abs=0.03)
    assert share(people, "religion", *UNAFFILIATED) == pytest.approx(0.29, abs=0.03)
    # Pew NPORS 2025 (n = 5,022); Gallup 2024 (n > 14,000) finds the same
    democrats, republicans = ("Democrat", "Leans Democrat"), ("Republican", "Leans Republican")
    assert share(people, "political_views", *democrats) == pytest.approx(0.45, abs=0.045)
    assert share(people, "political_views", *republicans) == pytest.approx(0.46, abs=0.035)
    # Gallup 2024: 37 % conservative, 34 % moderate, 25 % liberal. Why more are moderate here stands in the table.
    assert share(people, "ideology", "Liberal", "Very liberal") == pytest.approx(0.25, abs=0.03)
    assert share(people, "ideology", "Conservative", "Very conservative") == pytest.approx(0.37, abs=0.06)
    # Gallup 2024, Republicans: 77 % conservative; Democrats: 55 % liberal
    of_party = {party: [p for p in people if p["political_views"] == party] for party in ("Republican", "Democrat")}
    assert share(of_party["Republican"], "ideology", "Conservative", "Very conservative") == pytest.approx(
        0.77, abs=0.06
    )
    assert share(of_party["Democrat"], "ideology", "Liberal", "Very liberal") == pytest.approx(0.55, abs=0.09)
    # Pew, registered voters only: 83 % of Black voters are Democratic (2023), 78 % of White evangelicals Republican (2018-19).
    black = [p for p in people if p["race5"] == "Black NH"]
    assert share(black, "political_views", *democrats) > 0.65
    evangelical = [p for p in people if p["race5"] == "White NH" and p["religion"] == "Evangelical Protestant"]
    assert share(evangelical, "political_views", *republicans) == pytest.approx(0.78, abs=0.1)


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("target", "source"),
    [("religion13", "PEW_POOL_2023-2025"), ("party5", "PEW_POOL_2023-2025"), ("ideology", "PEW_ATP_W129_2023")],
)
def test_beliefs_are_as_in_the_survey_tables(people: list[Person], shared_data: Path, target: str, source: str) -> None:
    """Two-way tables of the surveys, group by group: difference in standard errors of survey, draw and, half a point, model."""
    by_name: dict[str, list[float]] = defaultdict(list)
    groups = {variable: Counter(p[variable] for p in people) for variable in (*DEMOGRAPHICS, "religion13", "party5")}
    drawn = {
        variable: Counter((p[variable], p[{"ideology": "ideology5"}.get(target, target)]) for p in people)
        for variable in groups
    }
    with (shared_data / "psych" / "conditional_shares.csv").open(encoding="utf-8", newline="") as handle:
        for row in csv.DictReader(handle):
            variable = {"foreign_born": "nativity"}.get(row["given"], row["given"])
            if (row["source"], row["target"]) != (source, target) or variable not in groups:
                continue
            level = {"0.0": "Native", "1.0": "Foreign-born"}.get(row["given_level"], row["given_level"])
            n, p = groups[variable][level], float(row["share"])
            # Of Asian adults a larger survey is followed, in six languages; small religions have too few drawn.
            if level == "Asian NH" or n < 100:
                continue
            error = math.sqrt(float(row["se"]) ** 2 + max(p * (1 - p), 0.01) / n + 0.005**2)
            by_name[variable].append((drawn[variable][level, row["level"]] / n - p) / error)
    assert {"race5", "age4", "sex", "educ3"} <= set(by_name)
    for variable, differences in by_name.items():
        assert math.sqrt(np.mean(np.square(differences))) < 1.35, variable
        assert max(np.abs(differences)) < 4.5, variable


ASIAN_SHARES = [  # Pew 2023 (survey 2022-23, n = 7,006)
    ("Chinese", UNAFFILIATED, 0.56),
    ("Japanese", UNAFFILIATED, 0.47),
    ("Filipino", CHRISTIAN, 0.74),
    ("Filipino", ("Catholic",), 0.57),
    ("Korean", CHRISTIAN, 0.59),
    ("Korean", ("Evangelical Protestant",), 0.34),
    ("Indian", ("Hindu",), 0.48),
    ("Indian", CHRISTIAN, 0.15),
    ("Indian", ("Muslim",), 0.08),
    ("Vietnamese", ("Buddhist",), 0.37),
    ("Vietnamese", ("Catholic",), 0.29),
]
ALL_ASIAN = [  # the same report, shares of those who answered
    (("Catholic",), 0.17 / 0.98),
    (("Evangelical Protestant",), 0.10 / 0.98),
    (UNAFFILIATED, 0.32 / 0.98),
    (("Buddhist",), 0.11 / 0.98),
]


@pytest.fixture(scope="module")
def asian_religions(packaged: CensusRecords) -> dict[str, list[str]]:
    return religions_by_origin(packaged, (pc.field("RAC1P") == 6) & (pc.field("HISP") == 1))


def religions_by_origin(packaged: CensusRecords, whom: pc.Expression) -> dict[str, list[str]]:
    """Origin -> religions drawn for packaged adults of a race group, 8,000 draws in all."""
    table = packaged.table.filter(whom & (pc.field("AGEP") >= 18))
    rng = rng_for(0, "test", "order")
    chosen = described(table.take(rng.permutation(table.num_rows)[:4000]).to_pylist())
    drawn = defaultdict(list)
    for number in range(8000):
        record, attributes = chosen[number % len(chosen)]
        draw_beliefs(attributes, record, set(), rng_for(0, "test", str(number)))
        origin = origin_of(record, attributes.values["ancestry"], attributes.values["place_of_birth"])
        drawn[str(origin)].append(attributes.values["religion"])
    return drawn


def assert_share(drawn: list[str], religions: tuple[str, ...], expected: float, comparisons: int) -> None:
    observed = sum(religion in religions for religion in drawn) / len(drawn)
    error = math.sqrt(expected * (1 - expected) / len(drawn))
    assert abs(observed - expected) < norm.isf(ALPHA / 2 / comparisons) * error + 5e-4, (observed, expected)


@pytest.mark.parametrize(("origin", "religions", "expected"), ASIAN_SHARES)
def test_asian_origins_have_their_published_religions(
    asian_religions: dict[str, list[str]], origin: str, religions: tuple[str, ...], expected: float
) -> None:
    assert_share(asian_religions[origin], religions, expected, len(ASIAN_SHARES))


def test_all_asian_adults_together_have_the_published_religions(asian_religions: dict[str, list[str]]) -> None:
    everybody = [religion for drawn in asian_religions.values() for religion in drawn]
    for religions, expected in ALL_ASIAN:
        assert_share(everybody, religions, expected, len(ALL_ASIAN))
    # Not fitted: these follow from the origins.
    assert everybody.count("Hindu") / len(everybody) == pytest.approx(0.11, abs=0.025)
    assert everybody.count("Muslim") / len(everybody) == pytest.approx(0.06, abs=0.025)


def test_hispanic_origins_differ_as_published_and_add_up_to_all_hispanic_adults(packaged: CensusRecords) -> None:
    """Pew 2013: Catholic are 61 % of Mexicans, 45 % of Puerto Ricans, 42 % of Salvadorans. Pew 2022, all: 43 %, unaffiliated 30 %."""
    drawn = religions_by_origin(packaged, pc.field("HISP") > 1)
    everybody = [religion for religions in drawn.values() for religion in religions]
    assert everybody.count("Catholic") / len(everybody) == pytest.approx(0.43, abs=0.025)
    assert sum(religion in UNAFFILIATED for religion in everybody) / len(everybody) == pytest.approx(0.30, abs=0.05)

    def log_odds(p: float) -> float:
        return math.log(p / (1 - p))

    def catholic(origin: str) -> tuple[float, float]:
        """Log odds, and the variance of their estimate."""
        p, n = drawn[origin].count("Catholic") / len(drawn[origin]), len(drawn[origin])
        return log_odds(p), 1 / (n * p * (1 - p))

    for origin, published in (("Puerto Rican", 0.45), ("Salvadoran", 0.42)):
        (mexican, v_mexican), (other, v_other) = catholic("Mexican"), catholic(origin)
        expected = log_odds(0.61) - log_odds(published)
        assert abs(mexican - other - expected) < norm.isf(ALPHA / 4) * math.sqrt(v_mexican + v_other)


def test_every_origin_is_known_by_words_that_the_census_uses() -> None:
    labels = codebook_for(2024)
    words = {*labels["ANC1P"].values(), *labels["POBP"].values()}
    table = json.loads((DATA / "religion_and_politics.json").read_text(encoding="utf-8"))
    for origin, entry in table["religion_by_origin"]["origins"].items():
        assert set(entry["known_by"].get("words", ())) <= words, origin


def test_the_detailed_race_goes_before_ancestry_and_that_before_birthplace() -> None:
    record = {"HISP": 1, "RAC1P": 6}
    assert origin_of({**record, "RAC2P": 4003}, "Chinese", "Japan") == "Korean"
    assert origin_of(record, "Chinese", "Japan") == "Chinese"
    assert origin_of(record, None, "Japan") == "Japanese"
    assert origin_of(record, "American", "Ohio") == "Other Asian"
    assert origin_of({"HISP": 4, "RAC1P": 6}, "Chinese", "Cuba") == "Cuban"
    assert origin_of({"HISP": 1, "RAC1P": 1}, "Chinese", "China") is None


# Personality.


@pytest.fixture(scope="module")
def big_five() -> dict[str, Any]:
    return json.loads((DATA / "big_five.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def groups(people: list[Person]) -> list[tuple[str, ...]]:
    return [(p["sex"], p["age4"], p["religion"], p["political_views"], p["ideology"]) for p in people]


@pytest.fixture(scope="module")
def scores(groups: list[tuple[str, ...]]) -> np.ndarray:
    """(4 x people, 5) latent scores."""
    return np.array(
        [draw_scores(group, rng_for(5, "t", f"{n}|{t}")) for t in range(4) for n, group in enumerate(groups)]
    )


def test_levels_follow_the_means_of_sex_age_and_beliefs(people: list[Person], big_five: dict[str, Any]) -> None:
    for number, trait in enumerate(BIG_FIVE):
        sd = math.sqrt(big_five["covariance_within_groups"][number][number])
        cuts = np.array(big_five["cut_points"][number])
        known: dict[float, dict[str, float]] = {}

        def expected(
            p: Person, number: int = number, sd: float = sd, cuts: np.ndarray = cuts, known: Any = known
        ) -> dict[str, float]:
            values = {
                "sex": p["sex"],
                "age": p["age4"],
                **{name: p[name] for name in ("religion", "political_views", "ideology")},
            }
            mean = sum(big_five["shifts"][name][value][number] for name, value in values.items())
            if mean not in known:
                below = np.array([0.0, *norm.cdf((cuts - mean) / sd), 1.0])
                known[mean] = dict(zip(BIG_FIVE_LEVELS, np.diff(below).tolist(), strict=True))
            return known[mean]

        for group in (lambda p: (p["sex"], p["age4"]), lambda p: p["ideology"]):
            assert_counts_as_expected(people, group, lambda p, trait=trait: p["big_five_scores"][trait], expected)


def test_every_level_is_as_frequent_as_the_next_among_adults(people: list[Person]) -> None:
    error = math.sqrt(0.2 * 0.8 / len(people))
    for trait in BIG_FIVE:
        counts = Counter(p["big_five_scores"][trait] for p in people)
        for level in BIG_FIVE_LEVELS:
            assert abs(counts[level] / len(people) - 0.2) < norm.isf(ALPHA / 2 / 25) * error, (trait, level)


def test_scores_are_correlated_as_published(scores: np.ndarray) -> None:
    """BFI-2, US internet sample (Soto and John 2017)."""
    published = {"EA": 0.136, "EC": 0.224, "EN": -0.339, "EO": 0.213, "AC": 0.281}
    published |= {"AN": -0.319, "AO": 0.151, "CN": -0.301, "CO": -0.018, "NO": -0.061}
    observed = np.corrcoef(scores.T)
    for (first, second), r in published.items():
        drawn = observed["OCEAN".index(first), "OCEAN".index(second)]
        assert abs(np.arctanh(drawn) - np.arctanh(r)) < norm.isf(ALPHA / 2 / 10) / math.sqrt(len(scores) - 3)
    assert np.abs(scores.mean(axis=0)).max() < norm.isf(ALPHA / 2 / 5) / math.sqrt(len(scores))
    assert np.abs(scores.std(axis=0) - 1).max() < norm.isf(ALPHA / 2 / 5) / math.sqrt(2 * len(scores))


def test_women_and_men_differ_as_published(scores: np.ndarray, groups: list[tuple[str, ...]]) -> None:
    """BFI-2 (Soto and John 2017), women minus men in standard deviations: A .344, N .263, E .206, C .204, O -.026."""
    women = np.array([group[0] == "Female" for group in groups] * 4)
    pooled = np.sqrt((scores[women].var(axis=0) + scores[~women].var(axis=0)) / 2)
    d = (scores[women].mean(axis=0) - scores[~women].mean(axis=0)) / pooled
    error = math.sqrt(1 / women.sum() + 1 / (~women).sum())
    assert np.abs(d - [-0.026, 0.204, 0.206, 0.344, 0.263]).max() < norm.isf(ALPHA / 2 / 5) * error


def test_ages_believers_parties_and_wings_differ_as_published(
    scores: np.ndarray, groups: list[tuple[str, ...]], big_five: dict[str, Any]
) -> None:
    tables = big_five["published"]["group_means"]["values"]
    # ANES 2012 and 2016, as the survey has them: openness of liberals and conservatives, conscientiousness of Republicans.
    assert tables["ideology"]["Liberal"][0] - tables["ideology"]["Conservative"][0] == pytest.approx(0.395, abs=0.001)
    assert tables["political_views"]["Republican"][1] == 0.168
    comparisons = sum(len(table) for table in tables.values()) * len(BIG_FIVE)
    for position, name in ((1, "age"), (2, "religion"), (3, "political_views"), (4, "ideology")):
        held = np.array([group[position] for group in groups] * 4)
        published = np.array([tables[name][group] for group in held])
        differences = scores - published + published.mean(axis=0)
        # Groups that the source does not tell apart (say, Hindu and Muslim) have their mean together.
        for values in np.unique(published, axis=0):
            members = (published == values).all(axis=1)
            error = norm.isf(ALPHA / 2 / comparisons) / math.sqrt(members.sum())
            assert np.abs(differences[members].mean(axis=0)).max() < error, (name, values)


# Persons.


def describe(record: Record, key: str, seed: int = 0) -> tuple[Attributes, set[str], dict[str, list[str]]]:
    attributes = describe_demographics(record, codebook_for(2024), (), False)
    facts = facts_about(record, veteran=False)
    return attributes, facts, describe_psychographics(attributes, record, facts, seed, key)


@pytest.mark.parametrize("age", [0, 5, 6, 17])
def test_minors_have_a_religion_and_no_politics(adults: list[tuple[Record, Attributes]], age: int) -> None:
    record = {**adults[0][0], "AGEP": age, "SCHL": None}
    attributes, facts, _ = describe(record, "x")
    assert attributes.values["religion"] is not None
    for name in ("political_views", "ideology"):
        assert (attributes.values[name], attributes.reasons[name]) == (None, "not_applicable")
    assert not facts & {"liberal", "conservative"}
    assert (attributes.values["big_five_scores"] is not None) == (age >= 6)
    assert attributes.reasons["big_five_scores"] == (None if age >= 6 else "not_applicable")


def test_a_small_child_is_no_atheist_but_of_a_household_without_religion(
    adults: list[tuple[Record, Attributes]],
) -> None:
    """Atheist and agnostic are what somebody thinks; the share of the unaffiliated stays as it was."""
    religions = {
        age: [
            describe({**record, "AGEP": age, "SCHL": None}, str(n))[0].values["religion"]
            for n, (record, _) in enumerate(adults[:300])
        ]
        for age in (12, 13)
    }
    thinking = {"Atheist", "Agnostic"}
    assert thinking <= set(religions[13])
    assert religions[12] == ["No particular religion" if name in thinking else name for name in religions[13]]


@pytest.mark.parametrize(
    ("columns", "held", "missing"),
    [
        ({"OCCP": 9122}, {"driver", "shift_job"}, set()),
        ({"OCCP": 9120}, {"driver", "shift_job"}, set()),  # bus drivers in the coding of 2010
        ({"OCCP": 3870}, {"driver", "shift_job"}, set()),
        ({"OCCP": 3255}, {"shift_job"}, {"driver"}),
        ({"OCCP": 2310}, set(), {"driver", "shift_job"}),
        ({"OCCP": 5740}, set(), {"driver", "shift_job"}),
        (
            {"MAR": 1, "HHT": 1, "HHT2": 1, "HUPAC": 2},
            {"married", "partnered", "children_at_home", "family_household"},
            set(),
        ),
        ({"MAR": 1, "HHT": 3, "HHT2": 7}, {"married", "family_household"}, {"partnered"}),
        ({"MAR": 1, "HHT": 6, "HHT2": 5}, {"married", "lives_alone"}, {"partnered", "family_household"}),
        ({"MAR": 1, "HHT": None, "HHT2": None}, {"married", "partnered"}, {"family_household"}),
        ({"MAR": 5, "HHT": 1, "HHT2": 1, "HUPAC": 2}, set(), {"children_at_home"}),
        ({"MAR": 5, "HHT": 3, "HHT2": 7, "HUPAC": 2}, set(), {"children_at_home"}),
        ({"MAR": 5, "HHT": 3, "HHT2": 6, "HUPAC": 2}, {"children_at_home"}, {"cohabiting_household"}),
        ({"MAR": 5, "HHT": 3, "HHT2": None, "HUPAC": 2}, {"children_at_home"}, set()),
        ({"MAR": 5, "HHT": 2, "HHT2": 3, "HUPAC": 1}, {"children_at_home", "cohabiting_household"}, set()),
        ({"MAR": 3, "HHT": 7, "HHT2": 8, "HUPAC": 2}, set(), {"children_at_home", "family_household"}),
        ({"DEYE": 1, "DEAR": 1}, {"deafblind"}, set()),
        ({"DEYE": 1, "DEAR": 2}, {"vision_difficulty"}, {"deafblind"}),
        ({"SCHL": 11}, {"little_schooling", "low_education"}, set()),
        ({"SCHL": 12}, {"low_education"}, {"little_schooling"}),
    ],
)
def test_what_a_record_tells_of_job_household_and_schooling(
    adults: list[tuple[Record, Attributes]], columns: Record, held: set[str], missing: set[str]
) -> None:
    facts = facts_about({**adults[0][0], "AGEP": 40, **columns}, veteran=False)
    assert held <= facts
    assert not missing & facts


def test_a_person_depends_on_seed_and_key_alone(adults: list[tuple[Record, Attributes]]) -> None:
    records = [record for record, _ in adults[:40]]
    forwards = [describe(record, str(n))[0].values for n, record in enumerate(records)]
    psychographics.cumulative_probabilities.cache_clear()
    backwards = [describe(record, str(n))[0].values for n, record in reversed(list(enumerate(records)))]
    assert forwards == backwards[::-1]
    assert len({json.dumps(values, sort_keys=True) for values in forwards}) == len(records)
    assert forwards != [describe(record, str(n), seed=1)[0].values for n, record in enumerate(records)]


def test_drawing_again_takes_back_what_the_old_values_said(adults: list[tuple[Record, Attributes]]) -> None:
    names = ("religion", "big_five_scores", *LISTS, *EXTRAS)
    changed: Counter[str] = Counter()
    for number, (record, _) in enumerate(adults[:150]):
        attributes, facts, extras = describe(record, str(number))
        assert sampled_facts(attributes, extras) == facts & (BELIEF_FACTS | PERSONALITY_FACTS | LIST_FACTS)
        before, from_record = {**attributes.values, **extras}, facts_about(record, veteran=False)
        # One name at a time, so that what the others gave must stay.
        for name in names:
            redrawn = redraw([name], attributes, extras, record, facts, 0, f"{number}|{name}")
            assert name in redrawn
            expected = sampled_facts(attributes, extras)
            assert facts & (BELIEF_FACTS | PERSONALITY_FACTS | LIST_FACTS) == expected, name
            assert facts - expected == from_record
            assert name in EXTRAS or attributes.values[name] is None or attributes.provenance[name] == "repaired"
        changed.update(name for name in names if {**attributes.values, **extras}[name] != before[name])
    assert min(changed[name] for name in names) > 75


def test_drawing_again_depends_on_the_key(adults: list[tuple[Record, Attributes]]) -> None:
    drawn = set()
    for key in ("first", "second", "third", "fourth"):
        attributes, facts, extras = describe(adults[0][0], "x")
        redraw(("religion", "big_five_scores", *LISTS, *EXTRAS), attributes, extras, adults[0][0], facts, 0, key)
        drawn |= {(name, str(value)) for name, value in {**attributes.values, **extras}.items()}
    for name in ("big_five_scores", *LISTS, *EXTRAS):
        assert sum(drawn_name == name for drawn_name, _ in drawn) > 1, name


def sampled_facts(attributes: Attributes, extras: dict[str, list[str]]) -> set[str]:
    """What the values that the persona has now say, read off the values."""
    values, facts = attributes.values, set()
    if values["religion"] not in (*UNAFFILIATED, "Other religion"):
        facts.add("religious")
    for fact, religions in (
        ("christian", CHRISTIAN),
        ("evangelical", ("Evangelical Protestant",)),
        ("atheist", ("Atheist",)),
        ("unaffiliated", UNAFFILIATED),
        ("latter_day_saint", ("Latter-day Saint",)),
        ("muslim", ("Muslim",)),
        ("buddhist", ("Buddhist",)),
        ("hindu", ("Hindu",)),
        ("abrahamic", (*CHRISTIAN, "Jewish", "Muslim")),
        ("feast_and_fast_faith", ("Catholic", "Orthodox Christian", "Jewish", "Muslim", "Hindu")),
    ):
        if values["religion"] in religions:
            facts.add(fact)
    for party in ("Democrat", "Republican"):
        if values["political_views"] in (party, f"Leans {party}"):
            facts.add(party.lower())
    for side in ("liberal", "conservative"):
        if values["ideology"] in (side.capitalize(), f"Very {side}"):
            facts.add(side)
        if values["ideology"] == f"Very {side}":
            facts.add(f"very_{side}")
    for trait, level in values["big_five_scores"].items():
        if level != "Average":
            facts.add(f"{'low' if 'Low' in level else 'high'}_{trait}")
    texts = {name: [values[name]] for name in LISTS} | extras
    for name, chosen in texts.items():
        for phrase in load_phrases(name):
            if phrase.text in chosen:
                facts |= phrase.gives
    return facts


def test_beliefs_are_drawn_again_together_and_phrases_after_them(adults: list[tuple[Record, Attributes]]) -> None:
    for number, (record, _) in enumerate(adults[:100]):
        attributes, facts, extras = describe(record, str(number))
        redrawn = redraw(["lifestyle", "ideology"], attributes, extras, record, facts, 0, f"{number}|again")
        assert set(redrawn) == {"lifestyle", "religion", "political_views", "ideology"}
        phrase = next(p for p in load_phrases("lifestyle") if p.text == attributes.values["lifestyle"])
        assert phrase.fits(record["AGEP"], facts - phrase.gives | sampled_facts(attributes, extras) - LIST_FACTS)


def test_a_minor_gets_no_politics_by_drawing_again(adults: list[tuple[Record, Attributes]]) -> None:
    record = {**adults[0][0], "AGEP": 3, "SCHL": None}
    attributes, facts, extras = describe(record, "x")
    assert redraw(["ideology", "big_five_scores"], attributes, extras, record, facts, 0, "y") == []
    assert redraw(["religion"], attributes, extras, record, facts, 0, "z") == ["religion"]
    assert attributes.values["political_views"] is None
    assert attributes.reasons["political_views"] == "not_applicable"


# The tables.


def test_every_table_says_where_it_is_from() -> None:
    beliefs = json.loads((DATA / "religion_and_politics.json").read_text(encoding="utf-8"))
    personality = json.loads((DATA / "big_five.json").read_text(encoding="utf-8"))
    origins = beliefs.pop("religion_by_origin")
    for table in (*beliefs.values(), *origins["sources"].values(), *personality["published"].values()):
        assert {"source", "year", "n", "terms", "status"} <= set(table)
        assert table["status"].startswith(("VERIFIED", "COMPUTED", "DERIVED"))
    assert (
        max(len(line) for line in (DATA / "religion_and_politics.json").read_text(encoding="utf-8").splitlines()) < 700
    )


@pytest.mark.shared_data
def test_the_packaged_tables_are_what_the_generator_makes(shared_data: Path) -> None:
    for name, table in make_tables(shared_data / "psych").items():
        assert (DATA / f"{name}.json").read_text(encoding="utf-8") == readable_json(table)


@pytest.mark.shared_data
def test_the_generator_refuses_figures_that_nobody_has_verified(shared_data: Path, tmp_path: Path) -> None:
    for file in (shared_data / "psych").glob("*.json"):
        text = file.read_text(encoding="utf-8")
        if file.name == "facts.json":
            facts = json.loads(text)
            next(fact for fact in facts if fact["id"] == "pew_asian_religion")["status"] = "UNVERIFIED (recalled)"
            text = json.dumps(facts)
        (tmp_path / file.name).write_text(text, encoding="utf-8")
    with pytest.raises(SystemExit, match="pew_asian_religion"):
        make_tables(tmp_path)
