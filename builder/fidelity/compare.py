"""Personas beside the census from which they were drawn, or one census table beside another: attribute by attribute and pair by pair."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from builder.census.codebook import codebook_for
from builder.census.pums import CensusRecords
from builder.errors import InputError
from builder.fidelity.drift import measure_drift
from builder.fidelity.noise import noise_of_draws, noise_of_samples
from builder.fidelity.people import People, people_of_personas, people_of_records
from builder.fidelity.result import report_distances
from builder.fidelity.side_by_side import Distances, side_by_side
from builder.files import read_json, sha256_file
from builder.personas.personas import read_records
from builder.recipe import CensusRecipe

PEOPLE_SIMULATED = 10_000_000  # in all draws together; a large build gets fewer draws, never fewer than FEWEST_DRAWS
FEWEST_DRAWS = 200
PACKAGED = "packaged"
# Columns that tell more than another one (HHT, HUPAC) or than nothing, so that a table is complete without them.
FINER_COLUMNS = ("HHT2", "FPARC", "TYPEHUGQ")


def compare(
    what: str, census: str | None = None, household: str | None = None, draws: int = 1000, adults_only: bool = False
) -> dict[str, Any]:
    """A build's folder beside its census, or a census table (`packaged` or a PUMS file or folder) beside `census`.

    household: the housing file that belongs to `census`. adults_only: of two tables; for a build the recipe says it. Raises
    InputError where `what` is neither.
    """
    if household is not None and census is None:
        raise InputError(
            "--household belongs to --census, which is not given. Give both, or a folder with both kinds of file."
        )
    folder = Path(what)
    if (folder / "build.json").is_file():
        if adults_only:
            raise InputError(
                f"--adults is for two census tables; the recipe of {what} says whom the build draws. Leave it out."
            )
        return compare_build(folder, census, household, draws)
    if census is None:
        raise InputError(
            f"{what} is no build's folder (it has no build.json). Give one, or compare a census table with another: --census FILE."
        )
    return compare_records(what, census, household=household, adults_only=adults_only, draws=draws)


def compare_build(
    folder: Path, census: str | None = None, household: str | None = None, draws: int = 1000
) -> dict[str, Any]:
    """The personas of a build beside its own census records, or beside another table (`census`: `packaged` or a PUMS file or folder).

    Adults beside adults where the recipe draws adults. Returns plain JSON values: `attributes`, `pairs`, `without_bins`, `joint`,
    `not_compared`, `drift` and what was compared with what. Raises InputError where the build's own records are gone or changed.
    """
    refuse_few_draws(draws)
    build = read_json(folder / "build.json")
    if not {"recipe", "stages"} <= build.keys():
        raise InputError(f"{folder}/build.json is no build's: it has no recipe. Give the folder of a build.")
    recipe = build["recipe"]
    if build["stages"].get("personas", {}).get("survey_year", 0) is None:
        raise InputError(
            f"The personas of {folder} come from a file and were not drawn from the census: there is no draw to compare with. Give a build "
            "whose personas.source is census."
        )
    rows, drawn = read_personas(folder, build)
    details = build["stages"]["personas"]
    own = census is None
    records = own_records(folder, recipe, details) if own else other_records(census, household)
    columns = None if drawn is None else frozenset(drawn.column_names)
    if own:
        columns = frozenset(records.table.column_names)
    adults_only = recipe["census"]["adults_only"]
    personas = people_of_personas(rows, details["survey_year"], columns)
    people = people_of_records(records, adults_only, recipe["personas"]["round_income"])
    # A draw from these very records is without replacement; from another table nobody was drawn, and it stands for its population.
    asked, draws = draws, min(draws, max(FEWEST_DRAWS, PEOPLE_SIMULATED // len(rows)))
    tables = side_by_side(personas, people)
    distances = Distances.between(tables, personas, people)
    noise = noise_of_draws(tables, people, distances, len(rows), draws, recipe["seed"], replacement=not own)
    return {
        "kind": "build",
        "what": {
            "name": folder.resolve().name,
            "people": len(rows),
            "survey_year": details["survey_year"],
            "source": details["source"],
            "enrichment": recipe["personas"]["enrichment"],
            **identity_of(folder, build),
        },
        "census": describe_table(records, people) | {"drawn_from": own},
        "adults_only": adults_only,
        "income_rounded": recipe["personas"]["round_income"],
        "seed": recipe["seed"],
        "draws": draws,
        "notes": [
            *notes_on_years(details["survey_year"], records.survey_year),
            *(
                [f"{draws:,} of the {asked:,} draws asked for: more take too long with so many personas."]
                * (draws < asked)
            ),
        ],
        **report_distances(tables, distances, noise, personas, people),
        "drift": measure_drift(rows, drawn, recipe),
    }


def compare_records(
    what: str,
    census: str,
    household: str | None = None,
    adults_only: bool = False,
    draws: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """One census table as a whole beside another, both weighted by PWGTP: `packaged` or a PUMS file or folder each.

    Where both tell the state, only the states that both have are compared: a file without California lacks its people, and no table of the
    whole country would look like it. `states_left_out` in the result names the others. Where only one table has the finer HHT2 or FPARC,
    both are described by HHT and HUPAC.
    """
    refuse_few_draws(draws)
    first, second, left_out = in_common_states(other_records(what, None), other_records(census, household))
    first, second = without_columns_of_one(first, second), without_columns_of_one(second, first)
    table, people = (people_of_records(records, adults_only, round_income=True) for records in (first, second))
    tables = side_by_side(table, people)
    distances = Distances.between(tables, table, people)
    noise = noise_of_samples(tables, distances, table.effective_size, people.effective_size, draws, seed)
    return {
        "kind": "records",
        "what": {"name": first.source, **describe_table(first, table)},
        "census": describe_table(second, people),
        "states_left_out": left_out,
        "adults_only": adults_only,
        "income_rounded": True,
        "seed": seed,
        "draws": draws,
        "notes": notes_on_years(first.survey_year, second.survey_year),
        **report_distances(tables, distances, noise, table, people),
        "drift": None,
    }


# --- what is read


def identity_of(folder: Path, build: dict[str, Any]) -> dict[str, Any]:
    """Which personas were compared: a result beside a build may be of one that was in the folder before."""
    personas = folder / "tables" / "personas.parquet"
    return {"fingerprint": build.get("fingerprint"), "personas_sha256": sha256_file(personas)}


def read_personas(folder: Path, build: dict[str, Any]) -> tuple[list[dict[str, Any]], Any]:
    """The personas, and the records that they were drawn from (None where an older version did not keep them)."""
    path = folder / "tables" / "personas.parquet"
    if "personas" not in build["stages"] or not path.is_file():
        raise InputError(f"{folder} has no personas yet. Build them first: persona build RECIPE --out {folder}.")
    rows = read_parquet(path).to_pylist()
    if not rows:
        raise InputError(f"{folder} has a table of personas without a row. Build it again.")
    drawn = path.with_name("persona_records.parquet")
    return rows, read_parquet(drawn) if drawn.is_file() else None


def read_parquet(path: Path) -> pa.Table:
    try:
        return pq.read_table(path)
    except (pa.ArrowInvalid, OSError):
        raise InputError(f"{path} cannot be read as Parquet; it is damaged. Remove it and build again.") from None


def own_records(folder: Path, recipe: dict[str, Any], details: dict[str, Any]) -> CensusRecords:
    """The records that the build was drawn from. Raises InputError where they are gone or changed."""
    settings = CensusRecipe(**recipe["census"])
    other = "or compare with another table: --census FILE"
    if settings.source != PACKAGED and not Path(settings.source).exists():
        raise InputError(
            f"The personas of {folder} were drawn from {settings.source}, which is not there. Put it back, {other}."
        )
    records = read_records(settings).records
    if records.sha256 != details["sha256"]:
        where = (
            "this version packages other records" if settings.source == PACKAGED else f"{settings.source} has changed"
        )
        raise InputError(
            f"The personas of {folder} were drawn from {details['source']} with SHA-256 {details['sha256'][:12]}..., but {where} "
            f"({records.sha256[:12]}...). Build again, {other}."
        )
    return records


def other_records(source: str | None, household: str | None) -> CensusRecords:
    return read_records(CensusRecipe(source=source or PACKAGED, household_source=household)).records


def in_common_states(first: CensusRecords, second: CensusRecords) -> tuple[CensusRecords, CensusRecords, list[str]]:
    """Both tables without the states that only one of them has, and the names of these states."""
    if not all("STATE" in records.table.column_names for records in (first, second)):
        return first, second, []
    states = [set(records.table["STATE"].unique().to_pylist()) - {None} for records in (first, second)]
    common = states[0] & states[1]
    if not common:
        raise InputError(f"{first.source} and {second.source} have no state in common. Give files of the same area.")
    if states[0] == states[1]:
        return first, second, []
    names = codebook_for(second.survey_year)["STATE"]
    left_out = sorted(names.get(state, str(state)) for state in states[0] ^ states[1])
    chosen = pa.array(sorted(common), pa.int32())
    kept = [replace(r, table=r.table.filter(pc.is_in(r.table["STATE"], value_set=chosen))) for r in (first, second)]
    return kept[0], kept[1], left_out


def without_columns_of_one(records: CensusRecords, others: CensusRecords) -> CensusRecords:
    """The records without the finer columns that the others lack."""
    alone = set(FINER_COLUMNS) & set(records.table.column_names) - set(others.table.column_names)
    return replace(records, table=records.table.drop_columns(sorted(alone))) if alone else records


def refuse_few_draws(draws: int) -> None:
    if draws < FEWEST_DRAWS:
        raise InputError(
            f"--draws is {draws}; the 99th percentile of so few draws says nothing. Give at least {FEWEST_DRAWS}, better 1000."
        )


def notes_on_years(first: int, second: int) -> list[str]:
    if first == second:
        return []
    return [
        f"Survey years differ ({first} and {second}): incomes are in dollars of different years, and detailed codes have changed, which "
        "the bins of industry and occupation bridge but occupation codes without bins do not."
    ]


def describe_table(records: CensusRecords, people: People) -> dict[str, Any]:
    return {
        "source": records.source,
        "sha256": records.sha256,
        "survey_year": records.survey_year,
        "people": len(people),
        "effective_size": round(people.effective_size),
    }
