"""Makes `synthetic_records.parquet`: PUMS-coded persons drawn from models, for machines without a PUMS file.

    python -m builder.census.make_synthetic --persons persons_2024.parquet --more persons_CA_TX.parquet \
        --donors donors_anc1p_pobp.parquet --marginals marginals_2024.json

Sequential tree synthesis (Reiter 2005): every column is drawn in turn from a decision tree fitted to real ACS PUMS persons on the columns
drawn before it, weighted by PWGTP raked to the national marginals. Rules of the questionnaire (who is asked what) are kept by drawing a
column only for those it is asked of. Ancestry and birthplace come together from one donor of the same race, origin, citizenship and age.
No respondent's row is copied: every synthetic row mixes values from thirty and more leaves, incomes are perturbed, SERIALNO is made up.
"""

import argparse
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
from builder.randomness import rng_for

SURVEY_YEAR = 2024
POPULATION = 340_110_990  # PWGTP total of the 2024 1-year file
LEAF = 40  # real persons in a leaf at least
NONE = -1  # "blank" while synthesising: blank is an outcome like any other
AGE_BANDS = ((0, 4), (5, 17), (18, 24), (25, 34), (35, 44), (45, 54), (55, 64), (65, 74), (75, 120))
RAKED = ("STATE", "RACETH", "AGE_BAND", "SEX", "CIT", "HHT", "TYPEHUGQ", "HUPAC")
MARGINAL_NAMES = {"HHT": "HHT__persons_all", "HUPAC": "HUPAC_DERIVED__persons_all"}
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


@dataclass(frozen=True)
class Step:
    """How one column is drawn. `strata`: columns whose values are never mixed in a leaf (derived ones begin with a lower-case letter)."""

    column: str
    features: tuple[str, ...]
    strata: tuple[str, ...] = ()


BASE = ("AGEP", "SEX", "RAC1P", "HISP", "division")
STEPS = (
    Step("SEX", ("AGEP",)),
    Step("HISP", ("AGEP", "SEX")),
    Step("RAC1P", ("AGEP", "SEX", "HISP")),
    Step("STATE", ("AGEP", "RAC1P", "HISP"), ("raceth",)),
    Step("CIT", ("AGEP", "SEX", "RAC1P", "HISP", "division", "STATE"), ("hispanic",)),
    Step("TYPEHUGQ", (*BASE, "CIT"), ("hispanic",)),
    Step("HHT", (*BASE, "CIT", "STATE"), ("group_quarters", "SEX", "minor")),
    Step("HUPAC", (*BASE, "HHT", "CIT"), ("group_quarters", "minor", "HHT")),
    Step("HHL", (*BASE, "CIT", "HHT", "STATE"), ("group_quarters", "raceth")),
    Step("SCHL", (*BASE, "CIT", "HHL", "HHT"), ("school_age",)),
    Step("MAR", (*BASE, "CIT", "SCHL", "HHT", "HUPAC"), ("HHT", "adolescent")),
    Step("ENG", (*BASE, "CIT", "HHL", "SCHL"), ("HHL", "foreign")),
    Step("MIL", (*BASE, "CIT", "SCHL"), ("SEX", "institution")),
    Step("DIS", (*BASE, "SCHL", "MAR", "MIL", "TYPEHUGQ")),
    Step("DREM", (*BASE, "SCHL"), ("DIS",)),
    Step("DEAR", (*BASE, "MIL", "DREM"), ("DIS",)),
    Step("DEYE", (*BASE, "DREM", "DEAR"), ("DIS",)),
    Step("ESR", (*BASE, "SCHL", "MAR", "DIS", "CIT", "HUPAC", "MIL", "TYPEHUGQ"), ("active_duty", "institution")),
    Step("COW", (*BASE, "SCHL", "ESR", "CIT", "DIS", "MIL"), ("ESR",)),
    Step("OCCP", (*BASE, "SCHL", "COW", "CIT", "ENG", "MIL"), ("employment", "never_worked", "degree")),
    Step("INDP", ("OCCP", "COW", "SEX", "SCHL", "division"), ("OCCP", "employment")),
    Step("PINCP", (*BASE, "SCHL", "ESR", "COW", "MAR", "DIS", "occupation_income", "CIT"), ("works",)),
    Step("HICOV", (*BASE, "CIT", "SCHL", "ESR", "COW", "PINCP", "MAR", "HHT"), ("elderly",)),
    Step("FER", (*BASE, "MAR", "HUPAC", "SCHL"), ("small_children",)),
)
UNORDERED = {
    "OCCP",
    "INDP",
    "STATE",
}  # too many classes for a tree: it splits on a coarser grouping, the leaf holds the codes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--persons", type=Path, required=True, help="real persons with all columns (Parquet)")
    parser.add_argument("--more", type=Path, help="real persons of states that --persons lacks; columns may be missing")
    parser.add_argument("--donors", type=Path, required=True, help="persons with ANC1P and POBP (Parquet)")
    parser.add_argument("--marginals", type=Path, required=True, help="national weighted shares (JSON)")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=2024)
    parser.add_argument("--out", type=Path, default=PACKAGED_RECORDS)
    arguments = parser.parse_args()
    real = read_real(arguments.persons, arguments.more)
    marginals = json.loads(arguments.marginals.read_text(encoding="utf-8"))["us_all51"]
    real["weight"] = rake(real, marginals)
    synthetic = synthesise(real, arguments.rows, arguments.seed)
    add_ancestry_and_birthplace(synthetic, pd.read_parquet(arguments.donors), arguments.seed)
    write_records(synthetic, arguments.out)
    print(f"{arguments.out.name}: {len(synthetic)} rows, {arguments.out.stat().st_size / 1e6:.2f} MB")


def read_real(persons: Path, more: Path | None) -> pd.DataFrame:
    """Real persons, blank as -1, a column that a source lacks as NaN. Household ids, PUMA and SERIALNO are not even read."""
    columns = ["PWGTP", "AGEP", *(step.column for step in STEPS)]
    frames = []
    for path in (persons, more):
        if path is None:
            continue
        frame = pd.read_parquet(path).rename(columns={"HUPAC_DERIVED": "HUPAC"})
        frame = frame[[column for column in columns if column in frame.columns]]
        frames.append(frame.astype("float64").fillna(NONE))
    return with_derived(pd.concat(frames, ignore_index=True))


def with_derived(frame: pd.DataFrame) -> pd.DataFrame:
    """Adds the groupings that the steps use, as far as their columns exist already."""
    age = frame["AGEP"]
    frame["minor"] = (age < 18).astype(int)
    frame["adolescent"] = np.select([age < 15, age < 18], [0, 1], 2)
    frame["school_age"] = np.select([age < 3, age < 25], [0, age], 25)  # grades and degrees go by single years of age
    frame["elderly"] = (age >= 65).astype(int)
    if "HISP" in frame and "RAC1P" in frame:
        race = frame["RAC1P"].map({1: 1, 2: 2, 3: 3, 4: 3, 5: 3, 6: 4, 7: 5, 8: 6, 9: 7})
        frame["hispanic"] = (frame["HISP"] > 1).astype(int)
        frame["raceth"] = np.where(frame["HISP"] > 1, 0, race)
    if "STATE" in frame:
        division = {state: number for number, states in enumerate(DIVISIONS) for state in states}
        frame["division"] = frame["STATE"].map(division)
    if "CIT" in frame:
        frame["foreign"] = (frame["CIT"] >= 4).astype(int)
    if "TYPEHUGQ" in frame:
        frame["group_quarters"] = (frame["TYPEHUGQ"] > 1).astype(int)
        frame["institution"] = (frame["TYPEHUGQ"] == 2).astype(int)
    if "HUPAC" in frame:
        frame["small_children"] = frame["HUPAC"].isin([1, 3]).astype(int)
    if "MIL" in frame:
        frame["active_duty"] = (frame["MIL"] == 1).astype(int)
    if "SCHL" in frame:
        frame["degree"] = np.select([frame["SCHL"] < 16, frame["SCHL"] < 21, frame["SCHL"] < 22], [0, 1, 2], 3)
    if "ESR" in frame:
        frame["works"] = frame["ESR"].isin([1, 2, 4, 5]).astype(int)
        frame["employment"] = frame["ESR"].map({1: 1, 2: 1, 3: 1, 4: 2, 5: 2, 6: 1}).fillna(0)
    if "COW" in frame:
        frame["never_worked"] = np.select([frame["COW"] == NONE, frame["COW"] == 9], [1, 2], 0)
    return frame


def rake(real: pd.DataFrame, marginals: dict[str, Any], rounds: int = 30) -> np.ndarray:
    """PWGTP scaled until the shares of every raked variable equal the national ones (iterative proportional fitting)."""
    weight = real["PWGTP"].to_numpy(dtype="float64").copy()
    groups, targets = [], []
    for name in RAKED:
        entries = marginals[MARGINAL_NAMES.get(name, f"{name}__all")]["values"]
        shares = {key.lstrip("0") if key.isdigit() else key: entry["share"] for key, entry in entries.items()}
        values = raking_key(real, name)
        universe = values.isin(list(shares))
        codes = values.where(universe).map({key: index for index, key in enumerate(shares)})
        groups.append(codes.fillna(NONE).to_numpy(dtype=int))
        targets.append(np.array(list(shares.values())) / sum(shares.values()))
    for _ in range(rounds):
        for codes, target in zip(groups, targets, strict=True):
            inside = codes >= 0
            totals = np.bincount(codes[inside], weights=weight[inside], minlength=len(target))
            factor = np.divide(target * totals.sum(), totals, out=np.ones_like(target), where=totals > 0)
            weight[inside] *= factor[codes[inside]]
    return weight


def raking_key(real: pd.DataFrame, name: str) -> pd.Series:
    if name == "AGE_BAND":
        labels = [f"{low}-{high}" if high < 120 else f"{low}+" for low, high in AGE_BANDS]
        return pd.cut(real["AGEP"], [-1, *(high for _, high in AGE_BANDS)], labels=labels).astype(str)
    if name == "RACETH":
        names = {
            1: "NH White",
            2: "NH Black",
            3: "NH AIAN",
            4: "NH Asian",
            5: "NH NHPI",
            6: "NH Other",
            7: "NH Two+",
            0: "Hispanic",
        }
        return real["raceth"].map(names)
    return real[name].astype(int).astype(str)


def synthesise(real: pd.DataFrame, rows: int, seed: int) -> pd.DataFrame:
    rng = rng_for(seed, "make_synthetic", "AGEP")
    share = real["weight"] / real["weight"].sum()
    if not np.isfinite(share).all():
        raise SystemExit("Raking failed: a weight is not finite. Are the marginals those of the persons' year?")
    # Ages at equal steps through the weighted distribution: no sampling noise in the column that everything else hangs on.
    points = (np.arange(rows) + rng.random()) / rows
    order = np.argsort(real["AGEP"].to_numpy(), kind="stable")
    position = np.searchsorted(np.cumsum(share.to_numpy()[order]), points).clip(max=len(order) - 1)
    synthetic = pd.DataFrame({"AGEP": real["AGEP"].to_numpy()[order][position]})
    synthetic = with_derived(synthetic.iloc[rng.permutation(rows)].reset_index(drop=True))
    incomes = real[real["PINCP"] > NONE].groupby("OCCP")["PINCP"].median()
    real["occupation_income"] = real["OCCP"].map(incomes).fillna(incomes.median())
    for step in STEPS:
        rng = rng_for(seed, "make_synthetic", step.column)
        known = real[real[step.column].notna()]
        if step.column == "PINCP":
            synthetic["occupation_income"] = synthetic["OCCP"].map(incomes).fillna(incomes.median())
        synthetic[step.column] = draw_column(step, known, synthetic, rng)
        synthetic = with_derived(synthetic)
        print(f"  {step.column}: {synthetic[step.column].nunique()} values", flush=True)
    synthetic["NATIVITY"] = np.where(synthetic["CIT"] >= 4, 2, 1)
    return synthetic


def asked(column: str, frame: pd.DataFrame) -> pd.Series:
    """Who is asked: the universes of the ACS questionnaire. A NONE inside a universe is an answer of its own (speaks only English)."""
    age = frame["AGEP"]
    if column in ("HHT", "HUPAC", "HHL"):
        return frame["TYPEHUGQ"] == 1
    if column == "FER":
        return (frame["SEX"] == 2) & age.between(15, 50)
    if column in ("DREM", "ENG"):
        return age >= 5
    youngest = {"SCHL": 3, "PINCP": 15, "ESR": 16, "COW": 16, "OCCP": 16, "INDP": 16, "MIL": 17}.get(column, 0)
    return age >= youngest


def draw_column(step: Step, real: pd.DataFrame, synthetic: pd.DataFrame, rng: np.random.Generator) -> np.ndarray:
    values = np.full(len(synthetic), float(NONE))
    in_real, in_synthetic = asked(step.column, real), asked(step.column, synthetic)
    real = real[in_real]
    strata = list(step.strata) or ["_all"]
    real_keys = real.assign(_all=0)[strata].apply(tuple, axis=1)
    keys = synthetic.assign(_all=0)[strata].apply(tuple, axis=1)
    for key in sorted(keys[in_synthetic].unique()):
        target_rows = np.flatnonzero(((keys == key) & in_synthetic).to_numpy())
        source = real[(real_keys == key).to_numpy()]
        if source.empty:
            raise SystemExit(
                f"{step.column}: no real person in stratum {dict(zip(strata, key, strict=True))}. Widen the strata."
            )
        values[target_rows] = draw_from_tree(step, source, synthetic.iloc[target_rows], rng)
    if step.column == "PINCP":
        values = perturb_income(values, rng)
    return values


def draw_from_tree(step: Step, source: pd.DataFrame, target: pd.DataFrame, rng: np.random.Generator) -> np.ndarray:
    """One value for every target row: a weighted draw from the real values in the leaf into which it falls."""
    observed = source[step.column].to_numpy()
    weight = source["weight"].to_numpy()
    features = list(step.features)
    if len(source) < 2 * LEAF or len(np.unique(observed)) == 1:
        leaf_of_source, leaf_of_target = np.zeros(len(source), dtype=int), np.zeros(len(target), dtype=int)
    else:
        if step.column == "PINCP":
            tree: Any = DecisionTreeRegressor(min_samples_leaf=LEAF, random_state=0)
            tree.fit(source[features], pd.Series(observed).rank(pct=True), sample_weight=weight)
        else:
            tree = DecisionTreeClassifier(min_samples_leaf=LEAF, random_state=0, max_leaf_nodes=2000)
            tree.fit(source[features], splitting_classes(step.column, observed), sample_weight=weight)
        leaf_of_source, leaf_of_target = tree.apply(source[features]), tree.apply(target[features])
    drawn = np.empty(len(target))
    by_leaf = pd.Series(np.arange(len(source))).groupby(leaf_of_source).indices
    for leaf in np.unique(leaf_of_target):
        members = by_leaf[leaf]
        rows = np.flatnonzero(leaf_of_target == leaf)
        drawn[rows] = rng.choice(observed[members], size=len(rows), p=weight[members] / weight[members].sum())
    return drawn


def splitting_classes(column: str, values: np.ndarray) -> np.ndarray:
    if column == "STATE":
        return pd.Series(values).map({s: n for n, states in enumerate(DIVISIONS) for s in states}).to_numpy()
    return (values // 200).astype(int) if column in UNORDERED else values.astype(int)


def perturb_income(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Noise of about 8 %, then the Bureau's own rounding (tens below 1,000, hundreds below 50,000, else thousands)."""
    noisy = values * np.exp(rng.normal(0.0, 0.08, len(values)))
    size = np.abs(noisy)
    step = np.select([size < 1_000, size < 50_000], [10, 100], 1_000)
    rounded = np.round(noisy / step) * step
    # 0 is an answer ("none") and NONE is a blank: neither is an amount.
    return np.where((values == 0) | (values == NONE), values, np.where(rounded == 0, step, rounded))


def add_ancestry_and_birthplace(synthetic: pd.DataFrame, donors: pd.DataFrame, seed: int) -> None:
    """ANC1P and POBP from one donor each (ACS 2011-2018), matched as closely as the donors allow.

    Donors whose ancestry is unreported, suppressed (2018) or unknown to the 2024 codes are left out. A native donor who was born in the
    state of residence hands over "born in the state of residence", not the state's name: the donors cover some states only.
    """
    labels = codebook_for(SURVEY_YEAR)
    donors = donors.astype({c: "float64" for c in donors.columns if c != "SOURCE"}).fillna(NONE)
    donors = donors[
        donors["ANC1P"].isin(list(labels["ANC1P"])) & donors["POBP"].isin(list(labels["POBP"]))
    ].reset_index(drop=True)
    states = set(labels["STATE"])
    donors["STATE"] = donors["ST"]
    donors["born_here"] = donors["POBP"] == donors["ST"]
    # Weights of different files have different totals; each file counts by its number of donors.
    donors["weight"] = donors["WEIGHT"] / donors.groupby("SOURCE")["WEIGHT"].transform("mean")
    for frame in (donors, synthetic):
        with_derived(frame)
        frame["band"] = pd.cut(frame["AGEP"], [-1, 17, 29, 44, 64, 120], labels=False)
        frame["speaks_other"] = (frame["ENG"] != NONE).astype(int)
    everyone = np.ones(len(donors), dtype=bool)
    national = donors["SOURCE"].str.contains("national").to_numpy()
    native_levels = (
        (["CIT", "RAC1P", "HISP", "band", "STATE"], everyone),
        (["CIT", "raceth", "HISP", "STATE"], everyone),
        (["CIT", "raceth", "HISP", "band", "division"], everyone),
        (["CIT", "raceth", "HISP"], everyone),
        (["foreign", "raceth", "hispanic"], everyone),
        (["foreign", "hispanic"], everyone),
    )
    foreign_levels = (
        (["CIT", "RAC1P", "HISP", "speaks_other", "band"], national),
        (["CIT", "raceth", "HISP", "speaks_other"], national),
        (["CIT", "raceth", "HISP"], everyone),
        (["foreign", "raceth", "HISP"], everyone),
        (["foreign", "raceth", "hispanic"], everyone),
        (["foreign", "hispanic"], everyone),
    )
    rng = rng_for(seed, "make_synthetic", "ancestry")
    ancestry, birthplace = np.full(len(synthetic), float(NONE)), np.full(len(synthetic), float(NONE))
    open_rows = np.ones(len(synthetic), dtype=bool)
    for native, levels in ((1, native_levels), (0, foreign_levels)):
        group = (synthetic["CIT"] == 1).to_numpy() if native else (synthetic["CIT"] != 1).to_numpy()
        for level, (keys, allowed) in enumerate(levels):
            pool = donors[allowed & ((donors["CIT"] == 1).to_numpy() == bool(native))]
            indices = pool.groupby(keys).indices
            enough = 1 if level == len(levels) - 1 else 10
            waiting = synthetic[open_rows & group]
            for key, rows in waiting.groupby(keys).indices.items():
                members = indices.get(key)
                if members is None or len(members) < enough:
                    continue
                chosen = pool.iloc[members]
                probability = chosen["weight"].to_numpy() / chosen["weight"].sum()
                picked = chosen.iloc[rng.choice(len(chosen), size=len(rows), p=probability)]
                places = waiting.index.to_numpy()[rows]
                ancestry[places] = picked["ANC1P"].to_numpy()
                here = picked["born_here"].to_numpy() & bool(native)
                birthplace[places] = np.where(here, synthetic["STATE"].to_numpy()[places], picked["POBP"].to_numpy())
                open_rows[places] = False
    # Someone born in the United States was born in a state, and nobody else was.
    in_state = np.isin(birthplace, list(states - {72}))
    wrong = in_state != (synthetic["CIT"] == 1).to_numpy()
    birthplace[wrong] = np.where(
        (synthetic["CIT"] == 1).to_numpy()[wrong], synthetic["STATE"].to_numpy()[wrong], float(NONE)
    )
    synthetic["ANC1P"], synthetic["POBP"] = ancestry, birthplace
    print(
        f"  ancestry: {(ancestry == NONE).sum()} without; birthplace: {(birthplace == NONE).sum()} without, {wrong.sum()} mended"
    )


def write_records(synthetic: pd.DataFrame, out: Path) -> None:
    columns = ["AGEP", *(step.column for step in STEPS), "NATIVITY", "ANC1P", "POBP"]
    arrays: dict[str, pa.Array] = {
        "SERIALNO": pa.array([f"SYN{number:07d}" for number in range(1, len(synthetic) + 1)]),
        "PWGTP": pa.array(np.full(len(synthetic), round(POPULATION / len(synthetic))), pa.int32()),
        # States the survey year, as in the Bureau's files: the 2024 factor.
        "ADJINC": pa.array(np.full(len(synthetic), 1_015_250), pa.int32()),
    }
    for column in columns:
        values = synthetic[column].to_numpy()
        arrays[column] = pa.array(values.astype("int32"), pa.int32(), mask=values == NONE)
    metadata = {
        "imputed_columns": "ANC1P,POBP",
        "description": "Synthetic persons coded as ACS PUMS 2024, drawn from models fitted to ACS PUMS. No respondent's record.",
    }
    table = pa.table(arrays).replace_schema_metadata(metadata)
    pq.write_table(table, out, compression="zstd", compression_level=19)


if __name__ == "__main__":
    main()
