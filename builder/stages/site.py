"""What every stage of a build is given, and what it gives back."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.extension import EarlierVersion
from builder.judge.judge import Judge
from builder.stages.shards import FinishedShard, Usage, run_shards

Row = dict[str, Any]


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
