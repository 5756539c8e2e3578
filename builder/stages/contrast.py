"""Stage `contrast`: the revisions of `pairs` set against each other, partner by partner."""

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from builder.extension import EarlierVersion, with_earlier
from builder.judge.judge import Judge
from builder.pairs.contrast import judge_candidates, judged_table
from builder.pairs.contrast_rows import DPF_COLUMNS, contrast_tables
from builder.pairs.flips import flip_rates
from builder.pairs.partners import Candidate, choose_partners, rows_without_partner
from builder.pairs.shard_result import ShardResult
from builder.recipe import BuildRecipe
from builder.stages.shards import PAIRS_PER_SHARD, add_counts, add_usage
from builder.stages.site import Site, StageResult
from builder.tables import read_columns, read_table, write_by_persona

# A candidate makes two pairs.
CANDIDATES_PER_SHARD = PAIRS_PER_SHARD // 2


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
    """Partners for all rows of dpf, judged in shards of candidates, published as mirrored pairs by persona."""
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
        candidates[start : start + CANDIDATES_PER_SHARD] for start in range(0, len(candidates), CANDIDATES_PER_SHARD)
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


def work_on_contrast(shared: ContrastWork, shard: ContrastShard, calls: Any) -> ShardResult:
    return judge_candidates(
        shared.recipe, calls, shared.judges, shard.candidates, shard.text_of, shared.profile_of, shared.question_of
    )


def new_candidates(earlier: EarlierVersion, candidates: Sequence[Candidate]) -> list[Candidate]:
    """Those that a new row drew or is drawn in; the earlier version has its own."""
    old = set(earlier.columns("dpf", ("pair_id",))["pair_id"].to_pylist())
    return [c for c in candidates if not (c.first_pair_id in old and c.second_pair_id in old)]
