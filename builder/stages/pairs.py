"""Stages `pairs` and `matched`: one pair per assigned (persona, prompt).

Planned for all personas, worked on in shards, put together into one table by persona.
"""

import dataclasses
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from typing import Any

from builder.extension import with_earlier
from builder.extension_rules import more_pairs
from builder.judge.judge import Judge
from builder.pairs.assignment import Assigned, assign_more, assign_prompts, members_by_group
from builder.pairs.dpf import build_pairs, judge_preference
from builder.pairs.feedback import Written, write_base_answers
from builder.pairs.inferable import inferable_attributes, with_inferable
from builder.pairs.judge_check import choose_check, summarise_check
from builder.pairs.matched import MATCHED_COLUMNS, length_rows, select_symmetric
from builder.pairs.shard_result import ShardResult
from builder.recipe import BuildRecipe
from builder.schema import dpf_pair_id
from builder.stages.shards import PAIRS_PER_SHARD, FinishedShard, add_counts, add_usage
from builder.stages.site import Site, StageResult
from builder.tables import STAGE_OF_TABLE, keep_pairs, read_table, table_schema, write_by_persona

Row = dict[str, Any]


@dataclass(frozen=True)
class PairWork:
    """What all shards of `pairs` (or `matched`) need."""

    recipe: BuildRecipe
    judges: Sequence[Judge]
    prompts: list[Row]
    base: dict[str, Written]
    members: dict[str, list[str]]
    checked: frozenset[str]
    config: str


@dataclass(frozen=True)
class PairShard:
    personas: list[Row]
    assigned: list[Assigned]

    @property
    def identity(self) -> list[Any]:
        return [[p["persona_id"] for p in self.personas], [dataclasses.astuple(a) for a in self.assigned]]


def make_pairs(recipe: BuildRecipe, site: Site, config: str) -> StageResult:
    """Stage `pairs` (config dpf) or `matched` (config dpf_matched)."""
    stage = STAGE_OF_TABLE[config]
    personas, prompts = read_table(site.folder, "personas"), read_table(site.folder, "prompts")
    assigned = pairs_to_make(recipe, site, personas, prompts)
    site.calls.begin_part()
    shared = plan_pairs(recipe, site, config, personas, prompts, assigned)
    usage = site.calls.part_usage()
    shards = cut_by_persona(personas, assigned)
    finished = site.run(stage, work_on_pairs, shared, shards, [len(s.assigned) for s in shards])

    started = time.monotonic()
    kept: set[str] | None = None
    symmetry: dict[str, Any] = {}
    if config == "dpf_matched":
        shortened = (small_columns(config, [shard], MATCHED_COLUMNS) for shard in finished)
        kept, symmetry = select_symmetric(recipe.seed, chain.from_iterable(map(length_rows, shortened)))
    texts = small_columns(config, finished, ("pair_id", "persona_id", "prompt_id", "chosen"), kept)
    inferable, recovery = inferable_attributes(texts, personas, recipe.seed)
    new = (completed(shard, inferable, kept) for shard in finished)
    rows = write_by_persona(site.folder, config, with_earlier(site.earlier, config, new))
    counts = add_counts(shard.counts for shard in finished)
    ledger = [entry for shard in finished for entry in shard.ledger]
    if kept is not None:
        unmatched = counts["out"] - len(kept)
        dropped = counts["dropped"] | ({"unmatched_length": unmatched} if unmatched else {})
        counts = {**counts, "out": len(kept), "dropped": dropped}
    verdicts = small_columns(config, finished, ("pair_id", "judge_verdict"), kept)["judge_verdict"].to_pylist()
    unjudged = [pair_id for shard in finished for pair_id in shard.details["chosen_without_judge"]]
    details: dict[str, Any] = {
        "judge_prefers_revision": judge_preference(verdicts, selected=recipe.pairs.candidates > 1),
        "chosen_without_judge": sum(kept is None or pair_id in kept for pair_id in unjudged),
        "judge_check": summarise_check([row for shard in finished for row in shard.check], recipe.seed),
        "inferable_attributes": recovery,
        "assembly_seconds": round(time.monotonic() - started, 2),
    }
    if symmetry:
        details["length_matching"] = symmetry
    if site.earlier is not None:
        details["earlier_rows"] = rows - counts["out"]
    return StageResult(counts, details, ledger, add_usage([usage, *(shard.usage for shard in finished)]))


def pairs_to_make(recipe: BuildRecipe, site: Site, personas: list[Row], prompts: list[Row]) -> list[Assigned]:
    """Who is asked what, without what the version that this build extends has asked."""
    everybody = [p["persona_id"] for p in personas]
    if site.earlier is None:
        return assign_prompts(recipe.seed, recipe.pairs, everybody, prompts)
    old = {p["persona_id"] for p in site.earlier.personas}
    wanted = more_pairs(site.earlier.build, recipe)
    more = assign_more(recipe.seed, wanted, old, site.earlier.assigned, prompts)
    fresh = assign_prompts(recipe.seed, recipe.pairs, [p for p in everybody if p not in old], prompts)
    return sorted([*fresh, *more], key=lambda a: (a.persona_id, a.part, a.prompt_id))


def plan_pairs(
    recipe: BuildRecipe, site: Site, config: str, personas: list[Row], prompts: list[Row], assigned: Sequence[Assigned]
) -> PairWork:
    """Everything that is decided for all personas at once, the shared base answers among it."""
    question_of = {p["prompt_id"]: p["question"] for p in prompts}
    topic_of = {p["prompt_id"]: p["topic"] for p in prompts}
    group_of = {p["persona_id"]: p["group"] for p in personas}
    asked = {a.prompt_id: question_of[a.prompt_id] for a in assigned}
    base = base_answers(recipe, site, asked) if recipe.pairs.base_answer == "shared" else {}
    # The claim that is checked is about the paper's revisions.
    size = recipe.pairs.judge_check if config == "dpf" else 0
    checked = choose_check(recipe.seed, size, assigned, topic_of, group_of)
    return PairWork(recipe, site.judges, prompts, base, members_by_group(personas), checked, config)


def base_answers(recipe: BuildRecipe, site: Site, asked: dict[str, str]) -> dict[str, Written]:
    known = site.earlier.base_answers() if site.earlier is not None else {}
    missing = {prompt: question for prompt, question in asked.items() if prompt not in known}
    return known | write_base_answers(recipe, site.calls, missing)


def cut_by_persona(personas: Sequence[Row], assigned: Sequence[Assigned]) -> list[PairShard]:
    """Shards of whole personas, in the order of their ids, of about PAIRS_PER_SHARD pairs."""
    persona_of = {p["persona_id"]: p for p in personas}
    shards: list[PairShard] = []
    for persona, own in groupby(sorted(assigned, key=lambda a: a.persona_id), key=lambda a: a.persona_id):
        if not shards or len(shards[-1].assigned) >= PAIRS_PER_SHARD:
            shards.append(PairShard([], []))
        shards[-1].personas.append(persona_of[persona])
        shards[-1].assigned.extend(own)
    return shards


def work_on_pairs(shared: PairWork, shard: PairShard, calls: Any) -> ShardResult:
    return build_pairs(
        shared.recipe,
        calls,
        shared.judges,
        shard.personas,
        shared.prompts,
        shard.assigned,
        shared.base,
        shared.members,
        shared.checked,
        shared.config,
    )


def completed(shard: FinishedShard, inferable: dict[str, list[str]], kept: set[str] | None) -> Any:
    """The shard's table with what could only be known when all shards were there."""
    import pyarrow.parquet as parquet

    return keep_pairs(with_inferable(parquet.read_table(shard.path), inferable), kept)


def small_columns(
    config: str, finished: Sequence[FinishedShard], columns: Sequence[str], kept: Collection[str] | None = None
) -> Any:
    """These columns, `pair_id` among them, of all shards' rows, or of those that were kept."""
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    names = list(columns)
    tables = [keep_pairs(parquet.read_table(shard.path, columns=names).select(names), kept) for shard in finished]
    # Tables without a row would leave chunks without a row, which not everybody who reads in batches expects.
    filled = [table for table in tables if table.num_rows]
    return arrow.concat_tables(filled) if filled else table_schema(config).empty_table().select(names)


def pilot_items(assigned: Sequence[Assigned], wanted: int) -> list[Assigned]:
    """`wanted` of the assigned pairs, evenly over all personas."""
    return [assigned[i * len(assigned) // wanted] for i in range(min(wanted, len(assigned)))]


def run_pilot(recipe: BuildRecipe, site: Site, personas: list[Row], prompts: list[Row], wanted: int) -> dict[str, Any]:
    """Ask for everything that `wanted` pairs need, and put nothing but the replies on file: they tell how long answers are and how long
    they take, and the build that follows uses them."""
    few = pilot_items(pairs_to_make(recipe, site, personas, prompts), wanted)
    configs = [config for config in ("dpf", "dpf_matched") if config in recipe.configs]
    for config in configs:
        shared = plan_pairs(recipe, site, config, personas, prompts, few)
        # Every judge is asked about each of these pairs; on matched ones the second has nothing to say.
        checked = frozenset(dpf_pair_id(a.persona_id, a.prompt_id) for a in few if config == "dpf")
        asked = dataclasses.replace(shared, checked=checked)
        for shard in cut_by_persona(personas, few):
            work_on_pairs(asked, shard, site.calls)
    return {"pairs": len(few), "configs": configs}
