"""The stages of a build that make pairs: planned for all personas, worked on in shards, put together into one table by persona.

`pairs` and `matched` make one pair per assigned (persona, prompt); `contrast` sets the revisions of `pairs` against each other.
"""

import dataclasses
import hashlib
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from pathlib import Path
from typing import Any

from builder.audit.recovery import inferable_attributes
from builder.extension import EarlierVersion, with_earlier
from builder.extension_rules import more_pairs
from builder.files import write_atomically
from builder.judge.judge import Judge
from builder.pairs.assignment import Assigned, assign_more, assign_prompts, members_by_group
from builder.pairs.contrast import DPF_COLUMNS, contrast_tables, judge_candidates, judged_table
from builder.pairs.dpf import build_pairs, judge_preference
from builder.pairs.feedback import Written, write_base_answers
from builder.pairs.flips import flip_rates
from builder.pairs.judge_check import choose_check, summarise_check
from builder.pairs.matched import MATCHED_COLUMNS, length_rows, select_symmetric
from builder.pairs.partners import Candidate, choose_partners, rows_without_partner
from builder.recipe import BuildRecipe
from builder.schema import dpf_pair_id
from builder.shards import FinishedShard, Part, Usage, add_counts, add_usage, run_shards
from builder.tables import arrow_table, read_columns, read_table, table_schema, with_column, write_by_persona

Row = dict[str, Any]
PAIRS_PER_SHARD = 8_000


@dataclass(frozen=True)
class StageResult:
    """What a stage says of itself in build.json, and its ledger; the table is on disk."""

    counts: dict[str, Any]
    details: dict[str, Any]
    ledger: list[Row]
    usage: Usage


@dataclass(frozen=True)
class Site:
    """Where a build is worked on: its folder, its models, how shards are run. `key` identifies recipe and inputs."""

    folder: Path
    calls: Any
    judges: Sequence[Judge]
    key: str
    reuse: bool = True  # finished shards of an earlier run
    engine: Any = None  # None: one shard after the other in this process
    earlier: EarlierVersion | None = None  # the version that this build extends

    def run(self, stage: str, work: Any, shared: Any, shards: Any, sizes: Sequence[int]) -> list[FinishedShard]:
        folder = self.folder / "shards" / stage
        if self.engine is not None:
            return self.engine.run_shards(folder, work, shared, list(shards), sizes, self.calls, self.key, self.reuse)
        return run_shards(folder, work, shared, shards, sizes, self.calls, self.key, self.reuse)


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
    stage = "pairs" if config == "dpf" else "matched"
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


def work_on_pairs(shared: PairWork, shard: PairShard, calls: Any) -> Part:
    made = build_pairs(
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
    return Part(
        arrow_table(shared.config, made.rows), made.counts, made.ledger, made.details, made.judgements, made.check
    )


def completed(shard: FinishedShard, inferable: dict[str, list[str]], kept: set[str] | None) -> Any:
    """The shard's table with what could only be known when all shards were there."""
    import pyarrow.parquet as parquet

    table = parquet.read_table(shard.path)
    found = [inferable.get(pair_id, []) for pair_id in table["pair_id"].to_pylist()]
    return only(with_column(table, "inferable_attributes", found), kept)


def only(table: Any, kept: Collection[str] | None) -> Any:
    """The rows of these pairs; all with None."""
    import pyarrow as arrow

    if kept is None:
        return table
    # The type is given, because a list without an element has none.
    return table.filter(arrow.array([pair_id in kept for pair_id in table["pair_id"].to_pylist()], arrow.bool_()))


def small_columns(
    config: str, finished: Sequence[FinishedShard], columns: Sequence[str], kept: Collection[str] | None = None
) -> Any:
    """These columns, `pair_id` among them, of all shards' rows, or of those that were kept."""
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    names = list(columns)
    tables = [only(parquet.read_table(shard.path, columns=names).select(names), kept) for shard in finished]
    # Tables without a row would leave chunks without a row, which not everybody who reads in batches expects.
    filled = [table for table in tables if table.num_rows]
    return arrow.concat_tables(filled) if filled else table_schema(config).empty_table().select(names)


@dataclass(frozen=True)
class ContrastWork:
    """What all shards of `contrast` need."""

    recipe: BuildRecipe
    judges: Sequence[Judge]
    profile_of: dict[str, str]
    question_of: dict[str, str]


@dataclass(frozen=True)
class ContrastShard:
    candidates: list[Candidate]
    text_of: dict[str, str]  # by dpf pair id

    @property
    def identity(self) -> list[Any]:
        texts = hashlib.sha256("\n".join(self.text_of.values()).encode("utf-8")).hexdigest()
        return [[tuple(candidate) for candidate in self.candidates], texts]


def make_contrast(recipe: BuildRecipe, site: Site) -> StageResult:
    """Stage `contrast`: partners for all rows of dpf, judged in shards of candidates, published as mirrored pairs by persona."""
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    personas, prompts = read_table(site.folder, "personas"), read_table(site.folder, "prompts")
    dpf = read_columns(site.folder, "dpf", DPF_COLUMNS)
    candidates = choose_partners(recipe.seed, recipe.contrast, dpf, personas)
    without_partner = rows_without_partner(dpf, candidates)
    if site.earlier is not None:
        candidates = new_candidates(site.earlier, candidates)
    shared = ContrastWork(
        recipe,
        site.judges,
        {p["persona_id"]: p["profile"] for p in personas},
        {p["prompt_id"]: p["question"] for p in prompts},
    )
    parts = [
        candidates[start : start + PAIRS_PER_SHARD // 2] for start in range(0, len(candidates), PAIRS_PER_SHARD // 2)
    ]
    finished = site.run("contrast", work_on_contrast, shared, contrast_shards(parts, dpf), [2 * len(p) for p in parts])

    started = time.monotonic()
    judged = arrow.concat_tables([judged_table([]), *(parquet.read_table(shard.path) for shard in finished)])
    tables = contrast_tables(recipe.seed, judged, dpf, personas, prompts)
    rows = write_by_persona(site.folder, "contrast", with_earlier(site.earlier, "contrast", tables))
    counts = add_counts(shard.counts for shard in finished)
    details = {
        "rows_without_partner": without_partner,
        **flip_rates(recipe.seed, judged, personas, prompts),
        "assembly_seconds": round(time.monotonic() - started, 2),
    }
    if site.earlier is not None:
        details["earlier_rows"] = rows - counts["out"]
    ledger = [entry for shard in finished for entry in shard.ledger]
    return StageResult(counts, details, ledger, add_usage(shard.usage for shard in finished))


def contrast_shards(parts: Sequence[list[Candidate]], dpf: Any) -> Iterator[ContrastShard]:
    """Each part with the texts that it is about, taken from the table when its turn comes."""
    import pyarrow as arrow

    place_of = {pair_id: place for place, pair_id in enumerate(dpf["pair_id"].to_pylist())}
    for part in parts:
        ids = sorted({pair_id for candidate in part for pair_id in candidate[:2]})
        chosen = dpf["chosen"].take(arrow.array([place_of[pair_id] for pair_id in ids], arrow.int64())).to_pylist()
        yield ContrastShard(part, {i: messages[0]["content"] for i, messages in zip(ids, chosen, strict=True)})


def work_on_contrast(shared: ContrastWork, shard: ContrastShard, calls: Any) -> Part:
    made = judge_candidates(
        shared.recipe, calls, shared.judges, shard.candidates, shard.text_of, shared.profile_of, shared.question_of
    )
    return Part(made.table, made.counts, made.ledger, judgements=made.judgements)


def new_candidates(earlier: EarlierVersion, candidates: Sequence[Candidate]) -> list[Candidate]:
    """Those that a new row drew or is drawn in; the earlier version has its own."""
    old = set(earlier.columns("dpf", ("pair_id",))["pair_id"].to_pylist())
    return [c for c in candidates if not (c.first_pair_id in old and c.second_pair_id in old)]


def write_judgements(site: Site, stages: Sequence[str]) -> int:
    """RUN/tables/judgements.parquet: the calls of judges on published pairs, stage by stage; gives the number of rows."""
    import pyarrow.parquet as parquet

    written = 0

    def write(temporary: Path) -> None:
        nonlocal written
        with parquet.ParquetWriter(temporary, table_schema("judgements"), compression="zstd") as file:
            tables: Any = chain.from_iterable(judgements_of(site.folder, stage) for stage in stages)
            if site.earlier is not None and site.earlier.judgements() is not None:
                tables = chain([site.earlier.judgements().cast(table_schema("judgements"))], tables)
            for table in tables:
                file.write_table(table)
                written += table.num_rows

    write_atomically(site.folder / "tables" / "judgements.parquet", write)
    return written


def judgements_of(folder: Path, stage: str) -> Iterator[Any]:
    """What the stage's shards wrote of judges' calls. Shards of `matched` are judged before the pairs are selected."""
    import pyarrow.parquet as parquet

    kept = set(read_columns(folder, "dpf_matched", ("pair_id",))["pair_id"].to_pylist()) if stage == "matched" else None
    for path in sorted((folder / "shards" / stage).glob("*.judgements.parquet")):
        yield only(parquet.read_table(path), kept)


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
