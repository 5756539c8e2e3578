"""One budget over all workers."""

import math
from dataclasses import dataclass, field
from typing import Any

from builder.llm.budget import Budget, Spending


class Purse:
    """What all shards of a stage may spend together; an actor on Ray. `calls`, `cost_usd`: spent before the stage."""

    def __init__(self, max_calls: int | None, max_cost_usd: float | None, calls: int, cost_usd: float, together: int):
        self.max_calls = math.inf if max_calls is None else max_calls
        self.max_cost_usd = math.inf if max_cost_usd is None else max_cost_usd
        self.begun = (calls, cost_usd)
        self.together = together
        self.made: dict[int, int] = {}
        self.granted: dict[int, int] = {}
        self.cost: dict[int, float] = {}

    def grant(self, shard: int, calls: int, cost_usd: float, wanted: int) -> tuple[int, float]:
        """How many of `wanted` calls the shard may make, and the USD up to which it need not ask again. `calls`, `cost_usd`: what it has
        spent, so that calls granted to a worker that died are free again."""
        self.made[shard] = self.granted[shard] = calls
        self.cost[shard] = cost_usd
        money = self.max_cost_usd - self.spent()[1]
        free = self.max_calls - self.begun[0] - sum(self.granted.values())
        granted = int(max(0, min(wanted, free))) if money > 0 else 0
        self.granted[shard] += granted
        return granted, max(0.0, money) / self.together

    def spent(self) -> tuple[int, float]:
        return self.begun[0] + sum(self.made.values()), self.begun[1] + sum(self.cost.values())


@dataclass
class SharedBudget(Budget):
    """A worker's budget: the purse decides. `before`: what a worker that died had spent on the shard."""

    purse: Any = None
    shard: int = 0
    before: Spending = field(default_factory=Spending)

    def affordable(self, wanted: int) -> int:
        import ray

        spent = (self.before.calls + self.spending.calls, self.before.cost_usd + self.spending.cost_usd)
        granted, allowance = ray.get(self.purse.grant.remote(self.shard, *spent, wanted))
        if self.max_cost_usd is not None:
            # ModelCalls measures its portions by what is left up to the cap.
            self.max_cost_usd = self.spending.cost_usd + allowance
        return granted
