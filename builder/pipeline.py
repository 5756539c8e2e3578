"""The stages of a build, in order: personas -> prompts -> pairs -> matched -> contrast.

A stage is a function of the recipe, the tables before it and the recorded responses; it writes one Parquet table and its entry in
`build.json`. To resume is to run again: recorded responses are replayed, missing ones are asked for, and the tables come out the same.
"""

import contextlib
import dataclasses
import hashlib
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from builder.errors import InputError
from builder.extension import read_earlier
from builder.files import read_json, sha256_file, write_json
from builder.judge.judge import Judge
from builder.llm.budget import Budget, cost_usd
from builder.llm.calls import ModelCalls, make_client
from builder.llm.estimate import estimate
from builder.llm.messages import Usage
from builder.llm.record import Record
from builder.on_ray.engine import ray_engine
from builder.on_ray.records import absorb_leftovers
from builder.ownership import (
    check_templates,
    claimed,
    code_hash,
    judge_templates,
    load_judges,
    new_build,
    owner,
    refuse_other_build,
)
from builder.recipe import ROLES, BuildRecipe
from builder.stages.contrast import make_contrast
from builder.stages.judgements import write_judgements
from builder.stages.pairs import make_pairs, run_pilot
from builder.stages.personas_and_prompts import make_personas, make_prompts
from builder.stages.shards import add_usage, remove_shards
from builder.stages.site import Site, StageResult
from builder.tables import TABLE_OF_STAGE, read_table

STAGES = tuple(TABLE_OF_STAGE)
Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class BuildResult:
    """`build`: the content of build.json. The tables stand in the folder (not after a dry run)."""

    folder: Path
    build: dict[str, Any]

    def rows(self, config: str) -> list[Row]:
        return read_table(self.folder, config)


@dataclasses.dataclass(frozen=True)
class Inputs:
    """What a build reads before its first stage. `judges`: the recipe's judge, which also selects, and the second one if there is one."""

    judges: list[Judge]
    prompts: Any  # builder.prompts.prompts.UsablePrompts
    records: Any  # builder.personas.personas.KnownRecords, or what builder.imports.personas_file drew


def run_build(
    recipe: BuildRecipe,
    folder: Path,
    until: str = "contrast",
    budget: Budget | None = None,
    dry_run: bool = False,
    retry_failed: bool = False,
    clients: dict[str, Any] | None = None,
    engine: str = "local",
    pilot: int | None = None,
    extend: str | None = None,
) -> BuildResult:
    """Run the stages up to `until` into `folder`.

    A folder that holds a build of another recipe or of other input files is refused, naming what differs. `clients` replaces the
    models of roles (tests). With `dry_run` nothing is called and nothing is written into the folder. `engine` ray runs the shards of
    the pair stages on Ray. `pilot`: after personas and prompts, only ask for what so many pairs need. `extend`: a published version (a
    folder or hub:org/name@version) whose rows are taken over.

    Raises InputError, and BudgetStop when a cap of `budget` is reached.
    """
    _refuse_contradictions(dry_run, pilot, engine)
    if until not in STAGES:
        raise InputError(f"--until is {until!r}; the stages are {', '.join(STAGES)}.")
    refuse_cost_cap_without_prices(recipe, budget)
    if engine != "local" and clients:
        raise InputError(
            "Clients can be replaced with the local engine only: Ray's workers make their own from the recipe."
        )
    # Everything that can be wrong with the input is found here, before anything is written or spent.
    build = new_build(recipe)
    earlier = None
    if extend is not None:
        earlier = read_earlier(extend, recipe, build)
        build["inputs"]["extends"] = earlier.build["content_sha256"]
        build["extends"] = {"version": earlier.build["version"], "content_sha256": earlier.build["content_sha256"]}
    inputs = read_inputs(recipe)
    build["judge"] = {key: getattr(inputs.judges[0], key) for key in ("label", "kind", "temperature")}
    build["judges"] = [judge.label for judge in inputs.judges]
    build["templates"] |= judge_templates(inputs.judges)
    stages = stages_of(recipe.configs, until)
    if dry_run:
        if (folder / "build.json").is_file():
            refuse_other_build(folder, build)
        record = Record(folder / "responses.sqlite", read_only=True)
        calls = ModelCalls(recipe.models, record, budget, dry_run=True, retry_failed=retry_failed, clients=clients)
        with tempfile.TemporaryDirectory(prefix="persona-dry-run-") as elsewhere:
            run_stages(
                recipe, stages, Site(Path(elsewhere), calls, inputs.judges, key="", earlier=earlier), inputs, build
            )
        return BuildResult(folder, build | {"usage": dataclasses.asdict(calls.spending), "estimate": estimate(calls)})
    with claimed(folder, build), chosen_engine(engine, folder, recipe, budget, retry_failed) as ray:
        if not has_answers(folder / "responses.sqlite"):
            # A fresh build asks its models whether they are there; one that goes on may find all it needs in the record.
            check_models(recipe, stages, clients)
        if (folder / "build.json").is_file():
            # What stages of an earlier run say stays until they have been run again; their tables are still here.
            earlier_run = read_json(folder / "build.json")
            build["stages"] |= earlier_run["stages"]
            build |= {key: earlier_run[key] for key in ("judgements",) if key in earlier_run}
        # From here on the folder belongs to this recipe, also if nothing else gets written.
        write_json(folder / "build.json", build)
        record = Record(folder / "responses.sqlite")
        absorb_leftovers(folder, record)  # of a Ray run that was killed
        calls = ModelCalls(recipe.models, record, budget, retry_failed=retry_failed, clients=clients)
        site = Site(folder, calls, inputs.judges, build_key(build), not retry_failed, ray, earlier)
        try:
            if pilot is not None:
                run_stages(recipe, stages[:2], site, inputs, build)
                build["pilot"] = run_pilot(
                    recipe, site, read_table(folder, "personas"), read_table(folder, "prompts"), pilot
                )
            else:
                run_stages(recipe, stages, site, inputs, build)
        finally:
            # Also after a stop by budget or a lost endpoint: what was spent is on file.
            write_json(folder / "build.json", with_usage(build, calls))
            record.close()
    return BuildResult(folder, with_usage(build, calls))


def stages_of(configs: Sequence[str], until: str = "contrast") -> list[str]:
    """The stages that these configs need, up to `until`."""
    wanted = STAGES[: STAGES.index(until) + 1]
    return [s for s in wanted if s in ("personas", "prompts") or TABLE_OF_STAGE[s] in configs]


def finished_build(run: Path) -> dict[str, Any]:
    """The build.json of a build whose stages are all there. Raises InputError otherwise."""
    build = read_json(run / "build.json")
    wanted = stages_of(build["recipe"]["configs"])
    missing = [stage for stage in wanted if stage not in build["stages"]]
    if missing:
        raise InputError(
            f"The build in {run} is not finished: {', '.join(missing)} missing. Run `persona build` with the same recipe and --out; "
            "it goes on from what is recorded."
        )
    return build


def run_stages(recipe: BuildRecipe, stages: list[str], site: Site, inputs: Inputs, build: dict[str, Any]) -> None:
    """Every stage writes its table, its ledger and its entry in build.json before the next one begins."""
    work: dict[str, Callable[[], StageResult]] = {
        "personas": lambda: make_personas(recipe, site, inputs.records),
        "prompts": lambda: make_prompts(recipe, site, inputs.prompts),
        "pairs": lambda: make_pairs(recipe, site, "dpf"),
        "matched": lambda: make_pairs(recipe, site, "dpf_matched"),
        "contrast": lambda: make_contrast(recipe, site),
    }
    for stage in stages:
        started = time.monotonic()
        before = table_hash(site.folder, stage)
        result = work[stage]()
        if before not in (None, table_hash(site.folder, stage)):
            # Later stages of an earlier run were made from another table.
            build["stages"] = {s: said for s, said in build["stages"].items() if STAGES.index(s) < STAGES.index(stage)}
        build["stages"][stage] = {
            **result.counts,
            "seconds": round(time.monotonic() - started, 2),
            "usage": result.usage,
            **result.details,
        }
        write_json(site.folder / "ledger" / f"{stage}.json", result.ledger)
        write_json(site.folder / "build.json", with_usage(build, site.calls))
        if stage in ("personas", "prompts") and site.calls.left_open:
            # Everything that follows hangs on this table, and would be paid for again when the gaps are filled.
            raise InputError(
                f"The endpoint left {site.calls.left_open} questions of stage {stage} open, as {site.folder / 'ledger' / stage}.json "
                "says. Nothing further was asked. See to the endpoint and run the same command again: only those are asked."
            )
    # A run that stops earlier has not seen every judge call; the table of a run that had stays.
    if "judgements" in recipe.configs and stages == stages_of(recipe.configs):
        build["judgements"] = write_judgements(site, [s for s in stages if s not in ("personas", "prompts")])
        write_json(site.folder / "build.json", with_usage(build, site.calls))
    remove_shards(site.folder / "shards")


@contextlib.contextmanager
def chosen_engine(
    name: str, folder: Path, recipe: BuildRecipe, budget: Budget | None, retry_failed: bool
) -> Iterator[Any]:
    """None for `local`; Ray itself is imported only where it is asked for."""
    if name == "local":
        yield None
        return
    if name != "ray":
        raise InputError(f"--engine is {name!r}; it takes local or ray.")
    with ray_engine(folder, recipe, budget, retry_failed) as engine:
        yield engine


def has_answers(path: Path) -> bool:
    with contextlib.closing(Record(path, read_only=True)) as record:
        return any(record.count())


def table_hash(folder: Path, stage: str) -> str | None:
    path = folder / "tables" / f"{TABLE_OF_STAGE[stage]}.parquet"
    return sha256_file(path) if path.is_file() else None


def build_key(build: dict[str, Any]) -> str:
    """Identifies recipe, inputs, templates and code: shards that were finished under another key are worked on again."""
    text = json.dumps([owner(build), code_hash()], sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def _refuse_contradictions(dry_run: bool, pilot: int | None, engine: str) -> None:
    if pilot is not None and pilot < 1:
        raise InputError(f"--pilot is {pilot}; it takes a number of pairs, at least 1.")
    if dry_run and pilot is not None:
        raise InputError("--dry-run calls nothing and --pilot calls. Run --pilot first, then --dry-run without it.")
    if dry_run and engine != "local":
        raise InputError(f"--dry-run calls nothing, so there is nothing for --engine {engine} to do. Leave one out.")


def read_inputs(recipe: BuildRecipe) -> Inputs:
    """Raises InputError for census records, questions, judges or templates that cannot be used."""
    from builder.imports.personas_file import draw_personas
    from builder.personas.personas import read_records
    from builder.prompts.prompts import read_usable_prompts

    check_templates(recipe)
    records = read_records(recipe.census) if recipe.personas.source == "census" else draw_personas(recipe)
    return Inputs(load_judges(recipe), read_usable_prompts(recipe), records)


def check_models(recipe: BuildRecipe, stages: list[str], clients: dict[str, Any] | None = None) -> None:
    """Ask every model that the stages use whether it can do its part. Raises InputError."""
    second = ["second_judge"] if recipe.models.second_judge.provider != "none" else []
    used_by = {
        "personas": ["enricher"] * (recipe.personas.enrichment == "lm")
        + ["checker"] * (recipe.personas.consistency == "lm"),
        "prompts": ["classifier"] if recipe.prompts.controversy == "lm" else [],
        "pairs": ["generator", "critic", "reviser", "judge", *second],
        "matched": ["generator", "critic", "reviser", "judge"],
        "contrast": ["judge", *second],
    }
    roles = {role for stage in stages for role in used_by[stage]} - set(clients or {})
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


def with_usage(build: dict[str, Any], calls: ModelCalls) -> dict[str, Any]:
    """usage: this run's calls, and under `recorded` the replies that the stages consist of, whenever they were made (a reply that two
    shards use is counted by both)."""
    models = {}
    for role in ROLES:
        recipe = calls.recipe(role)
        known = calls.known_identity(role)
        models[role] = {"provider": recipe.provider, **(known or {"model": recipe.model, "revision": recipe.revision})}
    by_role = add_usage(stage.get("usage", {}) for stage in build["stages"].values())
    sums = [sum(numbers[i] for numbers in by_role.values()) for i in range(3)]
    recorded = {
        **dict(zip(("responses", "prompt_tokens", "completion_tokens"), sums, strict=True)),
        "cost_usd": sum(cost_usd(Usage(*numbers[1:]), calls.recipe(role)) for role, numbers in by_role.items()),
    }
    return {**build, "models": models, "usage": {**dataclasses.asdict(calls.spending), "recorded": recorded}}
