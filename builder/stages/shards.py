"""A stage in shards: each shard's table is one file, written whole, so that a killed build goes on with the shards that are missing.

`work(shared, shard, calls)` is a plain function of plain data, so that a shard may run in this process or, on Ray, in another
(builder/on_ray/). A shard's JSON file is written last: where it stands, the shard is done.
"""

import dataclasses
import hashlib
import json
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from builder.files import read_json, write_json
from builder.llm.messages import Failure
from builder.pairs.shard_result import ShardResult
from builder.tables import arrow_table, write_parquet

Row = dict[str, Any]
PAIRS_PER_SHARD = 8_000
# Reasons in a ledger that say that the endpoint failed, by what it was asked for.
LEFT_OPEN = {f"{step}_endpoint_error" for step in ("answer", "critique", "revision", "choice")}
Usage = dict[str, list[int]]  # role -> [replies, prompt tokens, completion tokens]


@dataclass(frozen=True)
class FinishedShard:
    """A ShardResult on disk. `usage`: the replies that it is made of, whenever they were made."""

    path: Path
    counts: dict[str, Any]
    ledger: list[Row]
    details: dict[str, Any]
    check: list[Row]
    usage: Usage

    @property
    def judgements(self) -> Path:
        return self.path.with_suffix(".judgements.parquet")


Work = Callable[[Any, Any, Any], ShardResult]


def run_shards(
    folder: Path,
    work: Work,
    shared: Any,
    shards: Iterable[Any],
    sizes: Sequence[int],
    calls: Any,
    key: str,
    reuse: bool,
) -> list[FinishedShard]:
    """One shard after the other in this process. `sizes`: items per shard, for the progress line. `key` identifies recipe and inputs."""
    finished = []
    interval = 1.0 if sys.stderr.isatty() else 30.0
    with tqdm(total=sum(sizes), desc=folder.name, unit="pair", leave=False, mininterval=interval) as progress:
        for number, (shard, size) in enumerate(zip(shards, sizes, strict=True)):
            finished.append(
                run_shard(shard_path(folder, number), work, shared, shard, calls, shard_key(key, shard), reuse)
            )
            progress.update(size)
            progress.set_postfix_str(
                f"{calls.spending.calls:,} calls, {calls.spending.cost_usd:.2f} USD", refresh=False
            )
    return finished


def shard_path(folder: Path, number: int) -> Path:
    return folder / f"{number:05d}.parquet"


def run_shard(path: Path, work: Work, shared: Any, shard: Any, calls: Any, key: str, reuse: bool) -> FinishedShard:
    """The finished shard at `path`, done now unless the same shard was done before."""
    note = path.with_suffix(".json")
    if reuse and note.is_file() and read_json(note)["key"] == key:
        return read_finished(path)
    # A note of an earlier run would vouch for a table that is written anew and may have gaps.
    note.unlink(missing_ok=True)
    calls.begin_part()
    result = work(shared, shard, calls)
    write_parquet(path, result.table)
    finished = FinishedShard(path, result.counts, result.ledger, result.details, result.check, calls.part_usage())
    write_parquet(finished.judgements, arrow_table("judgements", result.judgements))
    # `left_open` sees every question of this shard, also one whose failure changed nothing that can be seen in the result.
    if not calls.dry_run and not calls.left_open and is_final(result):
        said = {f.name: getattr(finished, f.name) for f in dataclasses.fields(finished) if f.name != "path"}
        write_json(note, {"key": key, **said})
    return finished


def is_final(result: ShardResult) -> bool:
    """An endpoint's error may pass: what it left open is asked again when the build is run again, so the shard is not done.

    Only reasons of what failed are compared: of a scored judgement the reason is what the judge wrote, which may be anything.
    """
    return not (
        any(entry["reason"] in LEFT_OPEN for entry in result.ledger)
        or any(row["verdict"] == "unscored" and Failure(row["reason"] or "").may_pass for row in result.judgements)
        or any(row["may_pass"] for row in result.check)
    )


def read_finished(path: Path) -> FinishedShard:
    said = read_json(path.with_suffix(".json"))
    del said["key"]
    return FinishedShard(path, **said)


def shard_key(key: str, shard: Any) -> str:
    """`shard` has `identity`, which names its items."""
    return hashlib.sha256(json.dumps([key, shard.identity]).encode("utf-8")).hexdigest()


def remove_shards(folder: Path) -> None:
    """Once the stage's table stands, the record of responses gives the shards back at any time."""
    shutil.rmtree(folder, ignore_errors=True)


def add_counts(parts: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Sums of {in, out, dropped: {reason: n}}."""
    total: dict[str, Any] = {"in": 0, "out": 0}
    dropped: Counter[str] = Counter()
    for counts in parts:
        total["in"] += counts["in"]
        total["out"] += counts["out"]
        dropped.update(counts["dropped"])
    return {**total, "dropped": dict(sorted(dropped.items()))}


def add_usage(parts: Iterable[Usage]) -> Usage:
    total: Usage = {}
    for usage in parts:
        for role, numbers in usage.items():
            total[role] = [a + b for a, b in zip(total.get(role, [0, 0, 0]), numbers, strict=True)]
    return dict(sorted(total.items()))
