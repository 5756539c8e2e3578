"""Makes `synthetic_records.parquet`: PUMS-coded persons drawn from models, for machines without a PUMS file.

    python -m builder.census.make_synthetic --persons persons_2024.parquet --more persons_CA_TX.parquet \
        --households national_2011.parquet --donors donors_anc1p_pobp.parquet --marginals marginals_2024.json

Sequential tree synthesis (Reiter 2005): every column is drawn in turn from a decision tree fitted to real ACS PUMS persons on the columns
drawn before it, weighted by PWGTP raked to the national marginals. Rules of the questionnaire (who is asked what) are kept by drawing a
column only for those it is asked of; rules of life (no child of four where all children are over five) by never mixing strata in a leaf.
Ancestry and birthplace come together from one donor of the same race, origin, citizenship, language and age. HHT2 and FPARC, which the
2024 persons lack, come from trees fitted to the whole households of 2011.
No respondent's row is copied: every synthetic row mixes values from some thirty leaves of at least 150 respondents each (fewer only where
a stratum has no more), incomes are perturbed, SERIALNO is made up.
Every row is a household of its own: what a person says about the household is modelled, who lives with whom is not.

At the end it prints how far the records are from the real ones, and whether they come nearer to respondents than other respondents do.
The same inputs, seed and library versions give the same file. Less than a minute on one core, 1 GB of memory.
"""

import argparse
import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from builder.census.codebook import codebook_for
from builder.census.pums import PACKAGED_RECORDS
from builder.files import write_atomically
from builder.randomness import rng_for

SURVEY_YEAR = 2024
POPULATION = 340_110_990  # PWGTP total of the 2024 1-year file
# Real persons in a leaf. With 40, children, of whom little is asked, equal respondents more often than other respondents do.
LEAF = 150
LEAF_OF_STATES = 1500  # fifty classes: 150 persons do not tell where people live
LEAF_OF_2011 = 40  # of 6,279 persons
NONE = -1  # "blank" while synthesising: blank is an outcome like any other
# Cohabiting couples among all households: opposite-sex 6.5 % and same-sex 0.4 %. US Census Bureau, 2020 Census, in Kreider, Anderson, Gryn
# and Washington (2023), "Share of U.S. Coupled Households Declined in 2020". In the households of 2011 they are 6.0 %.
COHABITING_HOUSEHOLDS = 0.069
# Texas is far above every other state, and its persons lack the column. US Census Bureau, ACSBR-024 (2025), appendix table 1.
UNINSURED_IN_TEXAS = 0.167
AGE_BANDS = ((0, 4), (5, 17), (18, 24), (25, 34), (35, 44), (45, 54), (55, 64), (65, 74), (75, 120))
RAKED = (
    *("STATE__all", "RACETH__all", "AGE_BAND__all", "SEX__all", "CIT__all", "DIS__all", "TYPEHUGQ__all"),
    *("HHT__persons_all", "HUPAC_DERIVED__persons_all", "HHL__persons_all"),
    *("RACETH__18plus", "CIT__18plus", "HHT__persons_18plus", "HUPAC_DERIVED__persons_18plus", "SCHL_BAND__18plus"),
)
DIVISIONS = (  # Census divisions by state FIPS code
    (9, 23, 25, 33, 44, 50),
    (34, 36, 42),
    (17, 18, 26, 39, 55),
    (19, 20, 27, 29, 31, 38, 46),
    (10, 11, 12, 13, 24, 37, 45, 51, 54),
    (1, 21, 28, 47),
    (5, 22, 40, 48),
    (4, 8, 16, 30, 32, 35, 49, 56),
    (2, 6, 15, 41, 53),
)
MARRIED, COHABITING, OTHER_WOMAN, OTHER_MAN = 1, 3, 5, 9  # HHT2: the first code of each kind of household
OWN_CHILDREN_RELP = (2, 3, 4)  # RELP of 2011: biological, adopted, step
RELATED_CHILDREN_RELP = (2, 3, 4, 5, 7, 8, 9, 10)


@dataclass(frozen=True)
class Step:
    """How one column is drawn.

    strata: columns whose values are never mixed in a leaf, the most important first (derived ones begin with a lower-case letter). Where
    no real person shares all of them, the last is given up, then the one before it. leaf: real persons in a leaf at least, where the
    stratum has as many.
    """

    column: str
    features: tuple[str, ...]
    strata: tuple[str, ...] = ()
    leaf: int = LEAF


BASE = ("AGEP", "SEX", "RAC1P", "HISP", "division")
STEPS = (
    Step("SEX", ("AGEP",)),
    Step("HISP", ("AGEP", "SEX")),
    Step("RAC1P", ("AGEP", "SEX", "HISP")),
    Step("STATE", ("AGEP", "RAC1P", "HISP"), ("raceth",), leaf=LEAF_OF_STATES),
    Step("CIT", (*BASE, "STATE"), ("hispanic",)),
    Step("TYPEHUGQ", (*BASE, "CIT"), ("hispanic",)),
    Step("HHT", (*BASE, "CIT", "STATE"), ("SEX", "minor")),
    Step("HUPAC", (*BASE, "HHT", "CIT"), ("child_age", "HHT")),
    Step("HHL", (*BASE, "CIT", "HHT", "STATE"), ("raceth",)),
    Step("SCHL", (*BASE, "CIT", "HHL", "HHT", "state_graduates"), ("school_age",)),
    # Down to here, California and Texas have the columns too.
    Step("DIS", (*BASE, "CIT", "HHT", "HHL", "SCHL", "TYPEHUGQ", "STATE")),
    Step("MAR", (*BASE, "CIT", "SCHL", "HHT", "HUPAC", "DIS"), ("HHT", "adolescent")),
    Step("ENG", (*BASE, "CIT", "HHL", "SCHL"), ("HHL", "alone", "foreign")),
    Step("MIL", (*BASE, "CIT", "SCHL", "DIS"), ("life_stage", "SEX", "institution")),
    Step("DREM", (*BASE, "SCHL"), ("DIS",)),
    Step("DEAR", (*BASE, "MIL", "DREM"), ("DIS",)),
    Step("DEYE", (*BASE, "DREM", "DEAR"), ("DIS",)),
    Step(
        "ESR",
        (*BASE, "SCHL", "MAR", "DIS", "CIT", "HUPAC", "MIL", "TYPEHUGQ"),
        ("MIL", "institution", "life_stage"),
    ),
    Step("COW", (*BASE, "SCHL", "ESR", "CIT", "DIS", "MIL"), ("ESR",)),
    Step(
        "OCCP",
        (*BASE, "SCHL", "COW", "CIT", "ENG", "MIL", "HHT", "state_graduates"),
        ("employment", "COW", "served", "degree"),
    ),
    Step(
        "INDP",
        ("OCCP", "COW", "SEX", "SCHL", "division", "HHT", "state_graduates"),
        ("OCCP", "employment", "served", "COW"),
    ),
    Step(
        "PINCP",
        (
            *(*BASE, "SCHL", "ESR", "COW", "MAR", "DIS", "CIT", "HHT", "HUPAC"),
            *("occupation_income", "industry_income", "state_graduates"),
        ),
        ("works", "minor", "self_employed"),
    ),
    Step("HICOV", (*BASE, "CIT", "SCHL", "ESR", "COW", "PINCP", "MAR", "HHT", "state_uninsured"), ("elderly",)),
    Step("FER", (*BASE, "MAR", "HUPAC", "SCHL"), ("small_children",)),
)
# From the whole households of 2011, whose columns these are.
STEPS_2011 = (
    Step("HHT2", ("AGEP", "SEX", "MAR", "HUPAC", "hispanic"), ("HHT", "children"), leaf=LEAF_OF_2011),
    Step("FPARC", ("AGEP", "SEX", "own_children"), ("HUPAC", "child_age"), leaf=LEAF_OF_2011),
)
# Too many classes for a tree: it splits on a coarser grouping, and the leaf holds the codes.
UNORDERED = {"OCCP", "INDP", "STATE"}
ROUND_SUMS = (10_000, 5_000, 1_000, 500, 100, 10)
ORIGIN_COLUMNS = ("ANC1P", "POBP")
SHARED_COLUMNS = ("AGEP", *(step.column for step in STEPS))  # with the real persons of 2024; NATIVITY follows from CIT
# For the distances at the end: the lower ends of the bins of columns with many values (sections of the Bureau's code lists).
BIN_STARTS = {
    "AGEP": tuple(range(0, 90, 5)),
    "PINCP": (
        *(-999_999, 0, 1, 5_000, 10_000, 15_000, 20_000, 30_000, 40_000, 50_000, 60_000, 80_000, 100_000, 150_000),
        200_000,
    ),
    "OCCP": (
        *(10, 500, 1005, 1305, 1600, 2001, 2100, 2205, 2600, 3000, 3601, 3700, 4000, 4200, 4330, 4700, 5000, 6005),
        *(6200, 6800, 7000, 7700, 9005, 9800, 9920),
    ),
    "INDP": (
        *(170, 370, 570, 770, 1070, 4070, 4670, 6070, 6470, 6870, 7070, 7270, 7860, 7970, 8560, 8660, 8770, 9370),
        *(9670, 9920),
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--persons", type=Path, required=True, help="real persons of 2024 with all columns (Parquet)")
    parser.add_argument(
        "--more",
        type=Path,
        required=True,
        help="real persons of the states that --persons lacks; columns may be missing",
    )
    parser.add_argument("--households", type=Path, required=True, help="whole households of 2011 (Parquet)")
    parser.add_argument("--donors", type=Path, required=True, help="persons with ANC1P and POBP (Parquet)")
    parser.add_argument("--marginals", type=Path, required=True, help="national weighted shares (JSON)")
    parser.add_argument("--rows", type=int, default=133_000, help="of which 78.6 %% are adults")
    parser.add_argument("--seed", type=int, default=2024)
    parser.add_argument("--out", type=Path, default=PACKAGED_RECORDS)
    arguments = parser.parse_args()
    real = read_real(arguments.persons, arguments.more)
    marginals = json.loads(arguments.marginals.read_text(encoding="utf-8"))["us_all51"]
    real["weight"] = rake(real, marginals)
    synthetic = synthesise(real, arguments.rows, arguments.seed)
    add_household_type(synthetic, real, pd.read_parquet(arguments.households), arguments.seed)
    add_ancestry_and_birthplace(synthetic, pd.read_parquet(arguments.donors), arguments.seed)
    write_records(synthetic, arguments.out)
    adults = int((synthetic["AGEP"] >= 18).sum())
    print(f"{arguments.out.name}: {len(synthetic)} rows, {adults} adults, {arguments.out.stat().st_size} bytes")
    print_fidelity(synthetic, real, marginals, arguments.seed)
    print_nearness(synthetic, real, arguments.seed)


def read_real(persons: Path, more: Path) -> pd.DataFrame:
    """Real persons, blank as -1, a column that a source lacks as NaN. Household ids, PUMA and SERIALNO are not even read.

    `complete`: the person comes from --persons, which has all columns.
    """
    columns = ["PWGTP", "WGTP", "NP", "AGEP", *(step.column for step in STEPS)]
    frames = []
    for path in (persons, more):
        frame = pd.read_parquet(path).rename(columns={"HUPAC_DERIVED": "HUPAC"})
        frame = frame[[column for column in columns if column in frame.columns]]
        frames.append(frame.astype("float64").fillna(NONE).assign(complete=path == persons))
    return with_derived(pd.concat(frames, ignore_index=True))


def with_derived(frame: pd.DataFrame) -> pd.DataFrame:
    """Adds the groupings that the steps use, as far as their columns exist already."""
    age = frame["AGEP"]
    frame["minor"] = (age < 18).astype(int)
    frame["adolescent"] = np.select([age < 15, age < 18], [0, 1], 2)
    # The children's ages that divide FPARC (five) and HUPAC (six), and that from which somebody may be a householder.
    frame["child_age"] = np.digitize(age, [5, 6, 15, 18])
    frame["school_age"] = np.select([age < 3, age < 25], [0, age], 25)  # grades and degrees go by single years of age
    frame["life_stage"] = np.digitize(age, [18, 20, 25, 40, 60, 65, 75, 85])
    frame["elderly"] = (age >= 65).astype(int)
    if "HISP" in frame and "RAC1P" in frame:
        race = frame["RAC1P"].map({1: 1, 2: 2, 3: 3, 4: 3, 5: 3, 6: 4, 7: 5, 8: 6, 9: 7})
        frame["hispanic"] = (frame["HISP"] > 1).astype(int)
        frame["raceth"] = np.where(frame["HISP"] > 1, 0, race)
    if "STATE" in frame:
        frame["division"] = frame["STATE"].map(division_of_state())
    if "CIT" in frame:
        frame["foreign"] = (frame["CIT"] >= 4).astype(int)
    if "TYPEHUGQ" in frame:
        frame["institution"] = (frame["TYPEHUGQ"] == 2).astype(int)
    if "HHT" in frame:
        frame["alone"] = frame["HHT"].isin([4, 6]).astype(int)
    if "HUPAC" in frame:
        frame["children"] = frame["HUPAC"].isin([1, 2, 3]).astype(int)
        frame["small_children"] = frame["HUPAC"].isin([1, 3]).astype(int)
    if "HHT2" in frame:
        frame["own_children"] = frame["HHT2"].isin([1, 3, 6, 10]).astype(int)
    if "MIL" in frame:
        frame["served"] = frame["MIL"].isin([1, 2, 3]).astype(int)
    if "SCHL" in frame:
        frame["degree"] = np.digitize(frame["SCHL"], [16, 18, 20, 21, 22, 23])
    if "ESR" in frame:
        frame["works"] = frame["ESR"].isin([1, 2, 4, 5]).astype(int)
        frame["employment"] = frame["ESR"].map({1: 1, 2: 1, 4: 2, 5: 2}).fillna(0)
    if "COW" in frame:
        frame["self_employed"] = frame["COW"].isin([6, 7]).astype(int)
    return frame


def division_of_state() -> dict[int, int]:
    return {state: number for number, states in enumerate(DIVISIONS) for state in states}


def rake(real: pd.DataFrame, marginals: dict[str, Any], names: tuple[str, ...] = RAKED, rounds: int = 30) -> np.ndarray:
    """PWGTP scaled until the shares of the named distributions equal the national ones (iterative proportional fitting)."""
    weight = real["PWGTP"].to_numpy(dtype="float64").copy()
    groups, targets = [], []
    for name in names:
        keys, shares = published(real, marginals, name)
        codes = keys.map({key: index for index, key in enumerate(shares)}).reindex(real.index)
        groups.append(codes.fillna(NONE).to_numpy(dtype=int))
        targets.append(np.array(list(shares.values())) / sum(shares.values()))
    for _ in range(rounds):
        for codes, target in zip(groups, targets, strict=True):
            inside = codes >= 0
            totals = np.bincount(codes[inside], weights=weight[inside], minlength=len(target))
            factor = np.divide(target * totals.sum(), totals, out=np.ones_like(target), where=totals > 0)
            weight[inside] *= factor[codes[inside]]
    if not np.isfinite(weight).all():
        raise SystemExit("Raking failed: a weight is not finite. Are the marginals those of the persons' year?")
    return weight


def published(frame: pd.DataFrame, marginals: dict[str, Any], name: str) -> tuple[pd.Series, dict[str, float]]:
    """The persons of a published distribution's universe with their category, and its shares. `name`: variable, `__`, universe."""
    variable, universe = name.split("__")
    entries = marginals[name]["values"]
    shares = {str(int(key)) if key.isdigit() else key: entry["share"] for key, entry in entries.items()}
    youngest = {"18plus": 18, "25plus": 25}.get(universe.removeprefix("persons_"), 0)
    keys = category(frame[frame["AGEP"] >= youngest], variable.removesuffix("_DERIVED"))
    return keys[keys.isin(list(shares))], shares


def category(frame: pd.DataFrame, variable: str) -> pd.Series:
    if variable == "AGE_BAND":
        labels = [f"{low}-{high}" if high < 120 else f"{low}+" for low, high in AGE_BANDS]
        return pd.cut(frame["AGEP"], [-1, *(high for _, high in AGE_BANDS)], labels=labels).astype(str)
    if variable == "SCHL_BAND":
        names = [
            "less_than_HS",
            "HS_or_GED",
            "some_college_no_degree",
            "associate",
            "bachelor",
            "graduate_or_professional",
        ]
        return pd.cut(frame["SCHL"], [NONE - 1, 15, 17, 19, 20, 21, 24], labels=names).astype(str)
    if variable == "RACETH":
        names = ["Hispanic", "NH White", "NH Black", "NH AIAN", "NH Asian", "NH NHPI", "NH Other", "NH Two+"]
        return frame["raceth"].map(dict(enumerate(names)))
    if variable == "HISPANIC":
        return frame["hispanic"].astype(str)
    return frame[variable].astype(int).astype(str)


def synthesise(real: pd.DataFrame, rows: int, seed: int) -> pd.DataFrame:
    rng = rng_for(seed, "make_synthetic", "AGEP")
    age, weight = (real.sort_values("AGEP", kind="stable")[column].to_numpy() for column in ("AGEP", "weight"))
    synthetic = with_derived(pd.DataFrame({"AGEP": draw_by_weight(age, weight, rows, rng)}))
    # Numbers that order the codes of a column in a way a tree can split on.
    graduates = real[real["AGEP"] >= 25].assign(graduate=lambda adults: adults["SCHL"] >= 21)
    earners = real[real["PINCP"] > NONE]
    numbers = {
        "state_graduates": ("STATE", graduates.groupby("STATE")["graduate"].mean()),
        "state_uninsured": ("STATE", uninsured_by_state(real)),
        "occupation_income": ("OCCP", earners.groupby("OCCP")["PINCP"].median()),
        "industry_income": ("INDP", earners.groupby("INDP")["PINCP"].median()),
    }
    for name, (column, by_code) in numbers.items():
        real[name] = real[column].map(by_code).fillna(by_code.median())
    for step in STEPS:
        known = real[real[step.column].notna()]
        synthetic[step.column] = draw_column(step, known, synthetic, rng_for(seed, "make_synthetic", step.column))
        synthetic = with_derived(synthetic)
        for name, (column, by_code) in numbers.items():
            if column == step.column:
                synthetic[name] = synthetic[column].map(by_code).fillna(by_code.median())
        print(f"  {step.column}: {synthetic[step.column].nunique()} values", flush=True)
    synthetic["NATIVITY"] = np.where(synthetic["CIT"] >= 4, 2, 1)
    return synthetic


def uninsured_by_state(real: pd.DataFrame) -> pd.Series:
    """State -> share without health insurance. California's, not known here, is taken to be that of its division."""
    known = real[real["HICOV"].notna()].assign(uninsured=lambda persons: (persons["HICOV"] == 2) * persons["PWGTP"])
    by_division, by_state = (
        known.groupby(place)["uninsured"].sum() / known.groupby(place)["PWGTP"].sum() for place in ("division", "STATE")
    )
    every_state = pd.Series(division_of_state()).map(by_division)
    every_state.update(by_state)
    every_state[48] = UNINSURED_IN_TEXAS
    return every_state


def asked(column: str, frame: pd.DataFrame) -> np.ndarray:
    """Who is asked: the universes of the ACS questionnaire. A NONE inside a universe is an answer of its own (speaks only English)."""
    age = frame["AGEP"]
    if column in ("HHT", "HUPAC", "HHL", "HHT2"):
        universe = frame["TYPEHUGQ"] == 1
    elif column == "FPARC":
        universe = frame["HHT"].isin([1, 2, 3])
    elif column == "FER":
        universe = (frame["SEX"] == 2) & age.between(15, 50)
    else:
        of_workers = dict.fromkeys(("ESR", "COW", "OCCP", "INDP"), 16)
        youngest = {"DREM": 5, "ENG": 5, "SCHL": 3, "PINCP": 15, "MIL": 17, **of_workers}
        universe = age >= youngest.get(column, 0)
    return universe.to_numpy()


def draw_column(step: Step, real: pd.DataFrame, synthetic: pd.DataFrame, rng: np.random.Generator) -> np.ndarray:
    values = np.full(len(synthetic), float(NONE))
    real = real[asked(step.column, real)]
    waiting = np.flatnonzero(asked(step.column, synthetic))
    for kept in range(len(step.strata), -1, -1):
        if len(waiting) == 0:
            break
        strata = ["_all", *step.strata[:kept]]
        both = pd.concat([real.assign(_all=0)[strata], synthetic.iloc[waiting].assign(_all=0)[strata]])
        label = both.groupby(strata).ngroup().to_numpy()
        sources, targets = (positions_of(part) for part in (label[: len(real)], label[len(real) :]))
        for key in sorted(targets.keys() & sources.keys()):
            rows = waiting[targets[key]]
            values[rows] = draw_from_tree(step, real.iloc[sources[key]], synthetic.iloc[rows], rng)
        waiting = waiting[~np.isin(label[len(real) :], list(sources))]
    return perturb_income(values, rng) if step.column == "PINCP" else values


def positions_of(labels: np.ndarray) -> dict[int, np.ndarray]:
    order = np.argsort(labels, kind="stable")
    names, starts = np.unique(labels[order], return_index=True)
    return dict(zip(names.tolist(), np.split(order, starts[1:]), strict=True))


def draw_from_tree(step: Step, source: pd.DataFrame, target: pd.DataFrame, rng: np.random.Generator) -> np.ndarray:
    """One value for every target row: a weighted draw from the real values in the leaf into which it falls."""
    observed = source[step.column].to_numpy()
    weight = source["weight"].to_numpy()
    features = list(step.features)
    if len(source) < 2 * step.leaf or len(np.unique(observed)) == 1:
        leaf_of_source, leaf_of_target = np.zeros(len(source), dtype=int), np.zeros(len(target), dtype=int)
    else:
        if step.column == "PINCP":
            tree: Any = DecisionTreeRegressor(min_samples_leaf=step.leaf, random_state=0)
            tree.fit(source[features], pd.Series(observed).rank(pct=True), sample_weight=weight)
        else:
            tree = DecisionTreeClassifier(min_samples_leaf=step.leaf, random_state=0, max_leaf_nodes=2000)
            tree.fit(source[features], splitting_classes(step.column, observed), sample_weight=weight)
        leaf_of_source, leaf_of_target = tree.apply(source[features]), tree.apply(target[features])
    drawn = np.empty(len(target))
    members_of = positions_of(leaf_of_source)
    for leaf, rows in positions_of(leaf_of_target).items():
        members = members_of[leaf]
        drawn[rows] = draw_by_weight(observed[members], weight[members], len(rows), rng)
    return drawn


def draw_by_weight(values: np.ndarray, weight: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` values at equal steps through their weighted distribution, in random order: their shares follow the weights closely."""
    points = (np.arange(count) + rng.random()) / count * weight.sum()
    drawn = np.searchsorted(np.cumsum(weight), points).clip(max=len(values) - 1)
    return values[rng.permutation(drawn)]


def splitting_classes(column: str, values: np.ndarray) -> np.ndarray:
    if column == "STATE":
        return pd.Series(values).map(division_of_state()).to_numpy()
    return (values // 200).astype(int) if column in UNORDERED else values.astype(int)


def perturb_income(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Noise of about 8 %, rounded as the amount was: people report round sums, so a multiple of 5,000 stays one."""
    noisy = values * np.exp(rng.normal(0.0, 0.08, len(values)))
    step = np.select([values % size == 0 for size in ROUND_SUMS], ROUND_SUMS, 1)
    rounded = np.round(noisy / step) * step
    # 0 is an answer ("none") and NONE is a blank: neither is an amount.
    return np.where((values == 0) | (values == NONE), values, np.where(rounded == 0, step, rounded))


def add_household_type(synthetic: pd.DataFrame, real: pd.DataFrame, households: pd.DataFrame, seed: int) -> None:
    """HHT2 (with cohabiting couples and the householder's own children) and FPARC (related children), which the 2024 persons lack.

    Both are read off the whole households of 2011 and drawn given HHT, HUPAC, age, sex and marital status. More couples cohabit now than
    in 2011: cohabiting households count so much more that they make up their published share of the households of 2024.
    """
    persons = households_with_types(households)
    factor = cohabiting_factor(persons, real)
    persons["weight"] = persons["PWGTP"] * np.where(persons["HHT2"].isin([3, 4]), factor, 1.0)
    for step in STEPS_2011:
        rng = rng_for(seed, "make_synthetic", step.column)
        synthetic[step.column] = draw_column(step, persons[persons[step.column].notna()], synthetic, rng)
        with_derived(synthetic)
    cohabiting = synthetic["HHT2"].isin([3, 4]).sum() / (synthetic["TYPEHUGQ"] == 1).sum()
    print(
        f"  HHT2, FPARC: cohabiting households of 2011 count {factor:.2f} times, {cohabiting:.1%} of persons live in one"
    )


def households_with_types(households: pd.DataFrame) -> pd.DataFrame:
    """The persons of 2011 with HHT2 and FPARC, by the definitions of the 2024 dictionary.

    FPARC is NaN, and so left out, in the few families with a child that is unrelated to the householder (6 of 713): without them FPARC,
    which counts related children, agrees with HUPAC, which counts all.
    """
    wanted = [
        *("SERIALNO", "SPORDER", "RELP", "PARTNER", "PWGTP", "WGTP", "AGEP", "SEX", "MAR", "HISP", "RAC1P"),
        *("HHT", "HUPAC", "HUPARC", "TYPE"),
    ]
    persons = households[wanted].rename(columns={"TYPE": "TYPEHUGQ"})
    persons = persons.astype({c: "float64" for c in persons.columns if c != "SERIALNO"}).fillna(NONE)
    child = persons["AGEP"] < 18

    def somebody(condition: pd.Series) -> pd.Series:
        return condition.groupby(persons["SERIALNO"]).transform("any")

    own = somebody(child & persons["RELP"].isin(OWN_CHILDREN_RELP))
    relatives = somebody(persons["RELP"].between(1, 10))
    related = child & persons["RELP"].isin(RELATED_CHILDREN_RELP)
    small, school_age = somebody(related & (persons["AGEP"] < 5)), somebody(related & (persons["AGEP"] >= 5))
    unrelated = persons["HUPAC"] != persons["HUPARC"]

    couple = np.where(own, 0, 1)
    single = np.select([persons["HHT"].isin([4, 6]), own, relatives], [0, 1, 2], 3)
    man = persons["HHT"].isin([2, 4, 5])
    persons["HHT2"] = np.select(
        [persons["HHT"] == NONE, persons["HHT"] == 1, persons["PARTNER"] > 0],
        [NONE, MARRIED + couple, COHABITING + couple],
        np.where(man, OTHER_MAN, OTHER_WOMAN) + single,
    ).astype(float)
    family = np.select([small & school_age, small, school_age], [3.0, 1.0, 2.0], 4.0)
    persons["FPARC"] = np.where(~persons["HHT"].isin([1, 2, 3]), NONE, np.where(unrelated, np.nan, family))
    return with_derived(persons)


def cohabiting_factor(persons: pd.DataFrame, real: pd.DataFrame) -> float:
    """By how much the odds of cohabiting within a kind of household (HHT) must rise for the published share of 2024's households."""
    householders = persons[(persons["SPORDER"] == 1) & (persons["HHT"] > NONE)]
    rate = (householders["WGTP"] * (householders["PARTNER"] > 0)).groupby(householders["HHT"]).sum()
    rate = (rate / householders.groupby("HHT")["WGTP"].sum()).to_numpy()
    housed = real[real["HHT"] > NONE]
    # The persons are a sample of persons: each stands for one NP-th of a household.
    kinds = (housed["WGTP"] / housed["NP"]).groupby(housed["HHT"]).sum()
    kinds = (kinds / kinds.sum()).to_numpy()
    low, high = 0.1, 10.0
    for _ in range(60):
        factor = (low * high) ** 0.5
        share = float((kinds * rate * factor / (1 - rate + rate * factor)).sum())
        low, high = (factor, high) if share < COHABITING_HOUSEHOLDS else (low, factor)
    return factor


def add_ancestry_and_birthplace(synthetic: pd.DataFrame, donors: pd.DataFrame, seed: int) -> None:
    """ANC1P and POBP from one donor each (ACS 2011-2018), matched as closely as the donors allow.

    Donors whose ancestry is unreported, suppressed (2018) or unknown to the 2024 codes are left out, and the few who were born where
    somebody of their citizenship is not. A native donor who was born in the state of residence hands over "born in the state of
    residence", not the state's name: the donors cover some states only.
    """
    labels = codebook_for(SURVEY_YEAR)
    donors = donors.astype({c: "float64" for c in donors.columns if c != "SOURCE"}).fillna(NONE)
    known = donors["ANC1P"].isin(list(labels["ANC1P"])) & donors["POBP"].isin(list(labels["POBP"]))
    # POBP: states up to 56, island areas from 60 to 99, countries above.
    belongs = np.select([donors["CIT"] == 1, donors["CIT"] == 2], [1, 2], 3) == np.digitize(
        donors["POBP"], [0, 60, 100]
    )
    donors = donors[known & belongs].reset_index(drop=True)
    donors["STATE"] = donors["ST"]
    donors["born_here"] = donors["POBP"] == donors["ST"]
    # Like donors lie together, so that draws at equal steps keep the shares of birthplaces.
    donors = donors.sort_values(["born_here", "POBP", "ANC1P"], kind="stable", ignore_index=True)
    # Weights of different files have different totals; each file counts by its number of donors.
    donors["weight"] = donors["WEIGHT"] / donors.groupby("SOURCE")["WEIGHT"].transform("mean")
    donors["language"] = language_group(donors)
    # The language of the household is that of the person, where the person speaks another than English.
    synthetic["language"] = np.where(synthetic["ENG"] == NONE, 1, synthetic["HHL"])
    for frame in (donors, synthetic):
        with_derived(frame)
        frame["band"] = pd.cut(frame["AGEP"], [-1, 17, 29, 44, 64, 120], labels=False)
        frame["speaks_other"] = (frame["ENG"] != NONE).astype(int)
        frame["citizenship"] = frame["CIT"].clip(upper=4)  # islander, born abroad of Americans, and foreign never mix
    everyone = np.ones(len(donors), dtype=bool)
    national = donors["SOURCE"].str.contains("national").to_numpy()
    native_levels = (
        (["RAC1P", "HISP", "band", "language", "STATE"], everyone),
        (["raceth", "HISP", "language", "STATE"], everyone),
        (["raceth", "HISP", "language", "division"], everyone),
        (["raceth", "HISP", "band", "division"], everyone),
        (["raceth", "HISP"], everyone),
        (["raceth", "hispanic"], everyone),
        (["hispanic"], everyone),
    )
    foreign_levels = (
        (["CIT", "RAC1P", "HISP", "language", "band"], national),
        (["CIT", "raceth", "HISP", "language"], national),
        (["citizenship", "raceth", "HISP", "language"], everyone),
        (["citizenship", "raceth", "HISP", "speaks_other"], everyone),
        (["citizenship", "raceth", "hispanic"], everyone),
        (["citizenship", "hispanic"], everyone),
        (["citizenship"], everyone),
    )
    rng = rng_for(seed, "make_synthetic", "ancestry")
    ancestry, birthplace = np.full(len(synthetic), float(NONE)), np.full(len(synthetic), float(NONE))
    open_rows = np.ones(len(synthetic), dtype=bool)
    for native, levels in ((True, native_levels), (False, foreign_levels)):
        group = (synthetic["CIT"] == 1).to_numpy() == native
        for level, (keys, allowed) in enumerate(levels):
            pool = donors[allowed & ((donors["CIT"] == 1).to_numpy() == native)]
            indices = pool.groupby(keys).indices
            enough = 1 if level == len(levels) - 1 else 10
            waiting = synthetic[open_rows & group]
            for key, rows in waiting.groupby(keys).indices.items():
                members = indices.get(key)
                if members is None or len(members) < enough:
                    continue
                weight = pool["weight"].to_numpy()[members]
                picked = pool.iloc[draw_by_weight(members, weight, len(rows), rng)]
                places = waiting.index.to_numpy()[rows]
                ancestry[places] = picked["ANC1P"].to_numpy()
                here = picked["born_here"].to_numpy() & native
                birthplace[places] = np.where(here, synthetic["STATE"].to_numpy()[places], picked["POBP"].to_numpy())
                open_rows[places] = False
    if open_rows.any():
        raise SystemExit(f"{open_rows.sum()} rows have no donor. Do the donors have persons of every citizenship?")
    synthetic["ANC1P"], synthetic["POBP"] = ancestry, birthplace


def language_group(donors: pd.DataFrame) -> np.ndarray:
    """HHL's five groups from LANP (ranges of its codes: until 2015 below 1000, from 2016 on above) and English for those without."""
    code = donors["LANP"]
    edges_and_groups = (
        # From this code on -> group; the lists of the 2011 and 2016 dictionaries.
        *((601, 3), (625, 2), (626, 3), (679, 5), (691, 4), (777, 5), (985, 3), (986, 4), (989, 5)),
        *((1000, 3), (1200, 2), (1201, 3), (1565, 5), (1675, 4), (4500, 5)),
    )
    edges = [edge for edge, _ in edges_and_groups]
    groups = np.array([5, *(group for _, group in edges_and_groups)])
    return np.where(donors["ENG"] == NONE, 1, groups[np.digitize(code, edges)])


def write_records(synthetic: pd.DataFrame, out: Path) -> None:
    """Rows in random order, so that the first thousand are a sample too; sorted, they would take two thirds of the bytes."""
    columns = ["AGEP", *(step.column for step in (*STEPS, *STEPS_2011)), "NATIVITY", *ORIGIN_COLUMNS]
    arrays: dict[str, pa.Array] = {
        "SERIALNO": pa.array([f"SYN{number:07d}" for number in range(1, len(synthetic) + 1)]),
        "PWGTP": pa.array(np.full(len(synthetic), round(POPULATION / len(synthetic))), pa.int16()),
        # States the survey year, as in the Bureau's files: the 2024 factor.
        "ADJINC": pa.array(np.full(len(synthetic), 1_015_250), pa.int32()),
    }
    for column in columns:
        values = synthetic[column].to_numpy().astype("int32")
        kind = next(t for t in (pa.int8(), pa.int16(), pa.int32()) if values.max() < 2 ** (t.bit_width - 1))
        arrays[column] = pa.array(values, kind, mask=values == NONE)
    metadata = {
        "imputed_columns": ",".join(ORIGIN_COLUMNS),
        "modelled_on_2011": ",".join(step.column for step in STEPS_2011),
        "description": "Synthetic persons coded as ACS PUMS 2024, drawn from models fitted to ACS PUMS. No respondent's record.",
    }
    table = pa.table(arrays).replace_schema_metadata(metadata)
    write_atomically(
        out,
        lambda path: pq.write_table(
            table,
            path,
            compression="zstd",
            compression_level=22,
            use_dictionary=[column for column in table.column_names if column != "SERIALNO"],
            column_encoding={"SERIALNO": "DELTA_BYTE_ARRAY"},
            write_statistics=False,
            data_page_size=1 << 24,
        ),
    )


def print_fidelity(synthetic: pd.DataFrame, real: pd.DataFrame, marginals: dict[str, Any], seed: int) -> None:
    """Total variation distance to the published marginals of all states, and to the persons of the states that are complete.

    Beside each distance stands the mean distance of random draws of as many rows from the real distribution (noise); `excess` is what is
    left. The real persons are a sample themselves, whose noise counts as excess here.
    """
    rng = rng_for(seed, "make_synthetic", "fidelity")
    noted = {}
    for name in marginals:
        keys, shares = published(synthetic, marginals, name)
        counts = keys.value_counts().reindex(list(shares)).fillna(0)
        noted[name] = distance(np.array(list(shares.values())), counts, rng)
    print_distances("published marginals, all states", noted)
    there = real[real["complete"]]
    here = synthetic[synthetic["STATE"].isin(there["STATE"].unique())]
    for who, youngest in (("all persons", 0), ("adults", 18)):
        wanted, sample = there[there["AGEP"] >= youngest], here[here["AGEP"] >= youngest]
        weight = wanted["PWGTP"].to_numpy()
        bins = {column: binned(column, wanted, sample) for column in SHARED_COLUMNS}
        singles = {
            column: distance(np.bincount(a, weight, size), np.bincount(b, minlength=size), rng)
            for column, (a, b, size) in bins.items()
        }
        pairs = {}
        for (one, (a, b, size)), (other, (c, d, width)) in itertools.combinations(bins.items(), 2):
            cells = size * width
            pairs[f"{one} {other}"] = distance(
                np.bincount(a * width + c, weight, cells), np.bincount(b * width + d, minlength=cells), rng
            )
        print_distances(f"{who}, marginals", singles)
        print_distances(f"{who}, pairs", pairs)


def binned(column: str, wanted: pd.DataFrame, sample: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, int]:
    values = np.concatenate([wanted[column].to_numpy(), sample[column].to_numpy()])
    if column in BIN_STARTS:
        # Blank is a bin of its own, also where it stands for less than an amount of money.
        values = np.where(values == NONE, NONE, np.digitize(values, BIN_STARTS[column]))
    distinct, codes = np.unique(values, return_inverse=True)
    return codes[: len(wanted)], codes[len(wanted) :], len(distinct)


def distance(real: np.ndarray, synthetic: np.ndarray, rng: np.random.Generator, draws: int = 5) -> tuple[float, float]:
    """Total variation distance, and its mean in random draws of as many rows. real: weights or shares by bin; synthetic: counts by bin."""
    truth, count = np.asarray(real) / np.sum(real), int(np.sum(synthetic))
    noise = np.abs(rng.multinomial(count, truth, size=draws) / count - truth).sum(axis=1).mean() / 2
    return float(np.abs(np.asarray(synthetic) / count - truth).sum() / 2), float(noise)


def print_distances(title: str, distances: dict[str, tuple[float, float]]) -> None:
    found, noise = np.array(list(distances.values())).T
    worst = int(np.argmax(found - noise))
    print(
        f"{title}: {len(found)} distances, mean {found.mean():.4f}, noise {noise.mean():.4f}, mean excess {(found - noise).mean():.4f}, "
        f"largest {(found - noise)[worst]:.4f} ({list(distances)[worst]})"
    )


def print_nearness(synthetic: pd.DataFrame, real: pd.DataFrame, seed: int) -> None:
    """Do synthetic rows come nearer to respondents than other respondents do?

    The complete respondents are divided at random; shares are those of synthetic rows, and of the weight of the other half, that equal
    somebody of the first half in all columns that both have, or in all but two.
    """
    there = real[real["complete"]]
    here = synthetic[synthetic["STATE"].isin(there["STATE"].unique())]
    ours, theirs = row_hashes([here, there])
    copies = int(np.isin(ours.sum(axis=1), theirs.sum(axis=1)).sum())
    print(f"{copies} of {len(here)} rows equal one of {len(there)} respondents in all {len(SHARED_COLUMNS)} columns")
    half = rng_for(seed, "make_synthetic", "halves").random(len(there)) < 0.5
    groups = {
        "all": lambda f: f["AGEP"] >= 0,
        "adults": lambda f: f["AGEP"] >= 18,
        "adults at work": lambda f: f["works"] == 1,
    }
    for who, chosen in groups.items():
        known, others, ours = (part[chosen(part)] for part in (there[half], there[~half], here))
        first, *parts = row_hashes([known, others, ours])
        weights = (others["PWGTP"], None)
        for what, left_out in (("all columns", 0), ("all but at most two columns", 2)):
            chance, share = (
                np.average(hit, weights=weight)
                for hit, weight in zip(equal_rows(first, parts, left_out), weights, strict=True)
            )
            print(
                f"{who}: {share:.4%} equal one of {len(known)} respondents in {what}; of other respondents {chance:.4%}"
            )


def row_hashes(frames: list[pd.DataFrame]) -> list[np.ndarray]:
    """Random 64-bit numbers for the values, shape (rows, columns): rows are equal where their sums are (modulo 2^64)."""
    rng = rng_for(0, "make_synthetic", "hashes")
    together = pd.concat([frame[list(SHARED_COLUMNS)] for frame in frames])
    numbers = np.empty(together.shape, dtype=np.uint64)
    for place, column in enumerate(SHARED_COLUMNS):
        codes, distinct = pd.factorize(together[column])
        numbers[:, place] = rng.integers(0, 2**64, len(distinct), dtype=np.uint64)[codes]
    return np.split(numbers, np.cumsum([len(frame) for frame in frames])[:-1])


def equal_rows(known: np.ndarray, parts: list[np.ndarray], left_out: int) -> list[np.ndarray]:
    """Which rows of each part equal a known row in all columns but `left_out`, whichever these are and whether they are equal or not."""
    found = [np.zeros(len(part), dtype=bool) for part in parts]
    for columns in itertools.combinations(range(known.shape[1]), left_out):
        known_rest, *rests = (part.sum(axis=1) - part[:, columns].sum(axis=1) for part in (known, *parts))
        for hit, rest in zip(found, rests, strict=True):
            hit |= np.isin(rest, known_rest)
    return found


if __name__ == "__main__":
    main()
