"""The stages of a build, in order: personas -> prompts -> pairs -> contrast.

A stage is a function of the recipe, the tables before it and the recorded responses; it writes one Parquet table and its entry in
`build.json`. To resume is to run again: recorded responses are replayed, missing ones are asked for, and the tables come out the same.
"""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from builder.census.pums import PACKAGED_RECORDS
from builder.census.pums_files import content_hash, input_files
from builder.errors import InputError
from builder.files import locked, read_json, write_atomically, write_json
from builder.judge.judge import load_judge
from builder.llm.budget import Budget
from builder.llm.calls import ModelCalls, make_client
from builder.llm.record import Record
from builder.llm.templates import load_template
from builder.personas.consistency import TEMPLATE as CHECK_TEMPLATE
from builder.personas.enrichment import REPAIR_TEMPLATE
from builder.personas.enrichment import TEMPLATE as ENRICHMENT_TEMPLATE
from builder.personas.lists import FOLDER as PERSONA_DATA
from builder.recipe import ROLES, BuildRecipe, as_dict, deciding_keys, fingerprint
from builder.schema import features

STAGES = ("personas", "prompts", "pairs", "contrast")
# The table that a stage writes.
TABLES = {"personas": "personas", "prompts": "prompts", "pairs": "dpf", "contrast": "contrast"}
Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class BuildResult:
    """`build`: the content of build.json. `tables`: rows by config."""

    folder: Path
    build: dict[str, Any]
    tables: dict[str, list[Row]]


@dataclasses.dataclass(frozen=True)
class Inputs:
    """What a build reads before its first stage."""

    judge: Any
    prompts: Any  # builder.prompts.prompts.UsablePrompts
    records: Any  # builder.personas.personas.KnownRecords


def run_build(
    recipe: BuildRecipe,
    folder: Path,
    until: str = "contrast",
    budget: Budget | None = None,
    dry_run: bool = False,
    retry_failed: bool = False,
    clients: dict[str, Any] | None = None,
) -> BuildResult:
    """Run the stages up to `until` into `folder`.

    A folder that holds a build of another recipe or of other input files is refused, naming what differs. `clients` replaces the
    models of roles (tests). With `dry_run` nothing is called and nothing is written.

    Raises InputError, and BudgetStop when a cap of `budget` is reached.
    """
    if until not in STAGES:
        raise InputError(f"--until is {until!r}; the stages are {', '.join(STAGES)}.")
    refuse_cost_cap_without_prices(recipe, budget)
    # Everything that can be wrong with the input is found here, before anything is written or spent.
    build = _new_build(recipe, hash_inputs(recipe))
    inputs = read_inputs(recipe)
    build["judge"] = {key: getattr(inputs.judge, key) for key in ("label", "kind", "temperature")}
    if dry_run:
        record = Record(folder / "responses.sqlite", read_only=True)
        calls = ModelCalls(recipe.models, record, budget, dry_run=True, retry_failed=retry_failed, clients=clients)
        tables = _run_stages(recipe, calls, inputs, build, until, lambda stage, table: None)
        return BuildResult(folder, build | {"usage": dataclasses.asdict(calls.spending)}, tables)
    with _claimed(folder, build):
        if not _has_answers(folder / "responses.sqlite"):
            # A fresh build asks its models whether they are there; one that goes on may find all it needs in the record.
            check_models(recipe, until, clients)
        if (folder / "build.json").is_file():
            # What stages of an earlier run say stays until they have been run again; their tables are still here.
            build["stages"] |= read_json(folder / "build.json")["stages"]
        # From here on the folder belongs to this recipe, also if nothing else gets written.
        write_json(folder / "build.json", build)
        record = Record(folder / "responses.sqlite")
        calls = ModelCalls(recipe.models, record, budget, retry_failed=retry_failed, clients=clients)

        def finish_stage(stage: str, table: Any) -> None:
            write_table(folder / "tables" / f"{TABLES[stage]}.parquet", TABLES[stage], table.rows)
            if stage == "personas":
                write_parquet(folder / "tables" / "persona_records.parquet", table.records)
            write_json(folder / "ledger" / f"{stage}.json", table.ledger)
            write_json(folder / "build.json", _with_usage(build, calls))

        try:
            tables = _run_stages(recipe, calls, inputs, build, until, finish_stage)
        finally:
            # Also after a stop by budget or a lost endpoint: what was spent is on file.
            write_json(folder / "build.json", _with_usage(build, calls))
            record.close()
        build = _with_usage(build, calls)
    return BuildResult(folder, build, tables)


def _has_answers(path: Path) -> bool:
    with contextlib.closing(Record(path, read_only=True)) as record:
        return any(record.count())


def _run_stages(
    recipe: BuildRecipe, calls: ModelCalls, inputs: Inputs, build: dict[str, Any], until: str, finish: Any
) -> dict[str, list[Row]]:
    from builder.pairs.contrast import build_contrast
    from builder.pairs.dpf import build_pairs
    from builder.personas.personas import build_personas
    from builder.prompts.prompts import build_prompts

    def count_tokens(texts: list[str]) -> list[int]:
        return calls.count_tokens("generator", texts)

    work: dict[str, Callable[[], Any]] = {
        "personas": lambda: build_personas(recipe, calls, count_tokens, inputs.records),
        "prompts": lambda: build_prompts(recipe, calls, inputs.prompts),
        "pairs": lambda: build_pairs(recipe, calls, inputs.judge, tables["personas"], tables["prompts"]),
        "contrast": lambda: build_contrast(recipe, calls, inputs.judge, tables["personas"], tables["dpf"]),
    }
    tables: dict[str, list[Row]] = {}
    wanted = STAGES[: STAGES.index(until) + 1]
    for stage in wanted:
        if stage == "contrast" and "contrast" not in recipe.configs:
            continue
        started = time.monotonic()
        table = work[stage]()
        tables[TABLES[stage]] = table.rows
        build["stages"][stage] = {**table.counts, "seconds": round(time.monotonic() - started, 2), **table.details}
        finish(stage, table)
    return tables


def read_inputs(recipe: BuildRecipe) -> Inputs:
    """Raises InputError for census records, questions, judge or templates that cannot be used."""
    from builder.personas.personas import read_records
    from builder.prompts.prompts import read_usable_prompts

    judge = load_judge(recipe.judge, recipe.models.judge.provider, recipe.models.judge.model, recipe.seed)
    return Inputs(judge, read_usable_prompts(recipe), read_records(recipe.census))


def check_models(recipe: BuildRecipe, until: str, clients: dict[str, Any] | None = None) -> None:
    """Ask every model that the stages up to `until` use whether it can do its part. Raises InputError."""
    used_by = {
        "personas": ["enricher"] * (recipe.personas.enrichment == "lm")
        + ["checker"] * (recipe.personas.consistency == "lm"),
        "prompts": ["classifier"] if recipe.models.classifier.provider != "none" else [],
        "pairs": ["generator", "critic", "reviser", "judge"],
        "contrast": ["judge"],
    }
    roles = {role for stage in STAGES[: STAGES.index(until) + 1] for role in used_by[stage]} - set(clients or {})
    checked = set()
    for role in sorted(roles):
        model = getattr(recipe.models, role)
        if model not in checked:
            checked.add(model)
            make_client(role, model).check()


def refuse_cost_cap_without_prices(recipe: BuildRecipe, budget: Budget | None) -> None:
    if budget is None or budget.max_cost_usd is None:
        return
    for role in ROLES:
        model = getattr(recipe.models, role)
        if model.provider == "openai" and not (
            model.cost_per_million_prompt_tokens or model.cost_per_million_completion_tokens
        ):
            raise InputError(
                f"--max-cost needs prices, and models.{role} has none, so its calls would count as free. Set models.{role}."
                "cost_per_million_prompt_tokens and cost_per_million_completion_tokens, or use --max-calls."
            )


def hash_inputs(recipe: BuildRecipe) -> dict[str, str | None]:
    """SHA-256 of every input that the recipe names; None for packaged inputs. Raises InputError for what is not there.

    A census source may be a folder of PUMS files, as `persona census fetch` fills it; its hash is that of the files' contents.
    """
    census = {
        "census.source": recipe.census.source,
        "census.household_source": recipe.census.household_source,
    }
    hashes: dict[str, str | None] = {
        key: None if source in (None, "packaged") else hash_source(key, input_files, source)
        for key, source in census.items()
    }
    questions = recipe.prompts.source
    hashes["prompts.source"] = None if questions == "packaged" else hash_source("prompts.source", one_file, questions)
    return hashes


def hash_source(key: str, list_files: Callable[[Path], list[Path]], source: str) -> str:
    path = Path(source)
    if not path.exists():
        raise InputError(f"{key} is {source}, which does not exist. Give the path of a file, or `packaged`.")
    try:
        return content_hash(list_files(path))
    except OSError as error:
        raise InputError(
            f"{key} is {source}, which cannot be read ({error.strerror}). Check its permissions."
        ) from None


def one_file(path: Path) -> list[Path]:
    if path.is_dir():
        raise InputError(f"prompts.source is {path}, which is a folder. Give the path of a file, or `packaged`.")
    return [path]


def write_table(path: Path, config: str, rows: list[Row]) -> None:
    """One Parquet file with the config's columns; pair tables carry `split` in front."""
    table = arrow_table(config, rows)
    if "split" in (rows[0] if rows else {}):
        import pyarrow as arrow

        table = table.add_column(0, "split", arrow.array([row["split"] for row in rows], arrow.string()))
    write_parquet(path, table)


def write_parquet(path: Path, table: Any) -> None:
    import pyarrow.parquet as parquet

    write_atomically(path, lambda temporary: parquet.write_table(table, temporary, compression="zstd"))


def arrow_table(config: str, rows: list[Row]) -> Any:
    """The rows as an Arrow table with exactly the columns and types of the config."""
    import pyarrow as arrow

    schema = features(config).arrow_schema
    return arrow.Table.from_pylist([{name: row[name] for name in schema.names} for row in rows], schema=schema)


def read_table(folder: Path, config: str) -> list[Row]:
    import pyarrow.parquet as parquet

    path = folder / "tables" / f"{config}.parquet"
    if not path.is_file():
        raise InputError(f"{folder} has no table {config}. Build it first: persona build RECIPE --out {folder}.")
    return parquet.read_table(path).to_pylist()


def _new_build(recipe: BuildRecipe, inputs: dict[str, str | None]) -> dict[str, Any]:
    return {
        "recipe": as_dict(recipe),
        "fingerprint": fingerprint(recipe),
        "inputs": inputs,
        "code_version": code_version(),
        "templates": {template.name: template.version for template in map(load_template, template_names(recipe))},
        "packaged": hash_packaged(recipe),
        "stages": {},
        "usage": {},
    }


def template_names(recipe: BuildRecipe) -> list[str]:
    """The prompt templates that decide what a build contains."""
    personas, pairs = recipe.personas, recipe.pairs
    names = [pairs.answer_template, pairs.critique_template, pairs.revision_template]
    if personas.enrichment == "lm":
        names += [ENRICHMENT_TEMPLATE, REPAIR_TEMPLATE]
    if personas.consistency == "lm":
        names.append(CHECK_TEMPLATE)
    return names


def hash_packaged(recipe: BuildRecipe) -> dict[str, str]:
    """SHA-256 of the data files of this version that decide what a build contains: another version's personas would be others."""
    hashes = {"persona data": content_hash(sorted(file for file in PERSONA_DATA.iterdir() if file.is_file()))}
    if recipe.census.source == "packaged":
        hashes["census records"] = content_hash([PACKAGED_RECORDS])
    return hashes


def _with_usage(build: dict[str, Any], calls: ModelCalls) -> dict[str, Any]:
    """usage: this run's calls, and under `recorded` the replies that the build consists of, whenever they were made."""
    models = {}
    for role in ROLES:
        recipe = calls.recipe(role)
        known = calls.known_identity(role)
        models[role] = {"provider": recipe.provider, **(known or {"model": recipe.model, "revision": recipe.revision})}
    return {
        **build,
        "models": models,
        "usage": {**dataclasses.asdict(calls.spending), "recorded": calls.used()},
    }


def code_version() -> str:
    try:
        return version("persona-testbed")
    except PackageNotFoundError:
        return "not installed"


@contextlib.contextmanager
def _claimed(folder: Path, build: dict[str, Any]) -> Iterator[None]:
    """Hold the folder for this process, after checking that it is new or belongs to the same recipe and inputs."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file. Give another --out folder.")
    if folder.is_dir():
        _refuse_other_build(folder, build)
    with locked(folder, "build"):
        yield


def _refuse_other_build(folder: Path, build: dict[str, Any]) -> None:
    existing = folder / "build.json"
    if not existing.is_file():
        others = sorted(p.name for p in folder.iterdir() if p.name != ".lock" and not p.name.startswith(".build.json."))
        if others:
            raise InputError(
                f"{folder} holds {others[0]} but no build.json, so it is not a build's folder. Nothing was changed; give an empty or "
                "new --out folder."
            )
        return
    old = read_json(existing)
    old_keys, new_keys = _owner(old), _owner(build)
    differing = sorted(k for k in old_keys.keys() | new_keys.keys() if old_keys.get(k) != new_keys.get(k))
    if differing:
        shown = "; ".join(f"{k}: {old_keys.get(k)!r} there, {new_keys.get(k)!r} now" for k in differing[:8])
        raise InputError(
            f"{folder} belongs to another build. Differing: {shown}{' ...' if len(differing) > 8 else ''}. Nothing was changed; give "
            "another --out folder, or use the recipe that made this one."
        )


def _owner(build: dict[str, Any]) -> dict[str, Any]:
    """What decides a build's content: recipe keys, and the content of input files and templates."""
    return {
        **deciding_keys(build.get("recipe", {})),
        **{f"content of {key}": value for key, value in build.get("inputs", {}).items()},
        **{f"template {name}": value for name, value in build.get("templates", {}).items()},
        **{f"packaged {name}": value for name, value in build.get("packaged", {}).items()},
    }
