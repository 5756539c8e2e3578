"""What work on one shard gives, whichever stage it belongs to."""

from dataclasses import dataclass, field
from typing import Any

Row = dict[str, Any]


@dataclass(frozen=True)
class ShardResult:
    """`table`: an Arrow table. `counts`: {in, out, dropped: {reason: n}} of published rows. `ledger`: what failed, and why.

    `details`: what the stage must know of the shard beside its rows. `judgements`: one row a call of a judge on the shard's pairs. `check`:
    outcomes of the judge check (judge_check.py).
    """

    table: Any
    counts: dict[str, Any]
    ledger: list[Row] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)
    judgements: list[Row] = field(default_factory=list)
    check: list[Row] = field(default_factory=list)
