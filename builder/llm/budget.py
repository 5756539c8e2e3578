"""What a run may spend, and what it has spent."""

import math
from dataclasses import dataclass, field

from builder.errors import BudgetStop, InputError
from builder.llm.messages import Usage
from builder.llm.model_recipe import ModelRecipe


@dataclass(frozen=True)
class RetriedUsage(Usage):
    """What a call took, and what was sent for it in vain: requests that reached the server and brought no usable answer, and the tokens of
    their prompts (an estimate). A server may bill them; they are no part of the recorded reply."""

    retried_requests: int = field(default=0, compare=False)
    retried_prompt_tokens: int = field(default=0, compare=False)


@dataclass
class Spending:
    """Calls made in this run with their tokens and cost; `hits` were replayed from the record and cost nothing.

    retried_requests: see RetriedUsage. Their prompts count among `prompt_tokens`, and so in the cost.
    """

    calls: int = 0
    hits: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0
    retried_requests: int = 0

    def add_call(self, usage: Usage, model: ModelRecipe) -> None:
        self.calls += 1
        if isinstance(usage, RetriedUsage):
            self.retried_requests += usage.retried_requests
            usage = Usage(usage.prompt_tokens + usage.retried_prompt_tokens, usage.completion_tokens)
        self.prompt_tokens += usage.prompt_tokens
        self.completion_tokens += usage.completion_tokens
        self.cost_usd += cost_usd(usage, model)


@dataclass
class Budget:
    """Raises InputError for a cap that is no number or below 0: it would stop nothing, or everything."""

    max_calls: int | None = None
    max_cost_usd: float | None = None
    spending: Spending = field(default_factory=Spending)

    def __post_init__(self) -> None:
        for option, cap, unit in (
            ("--max-calls", self.max_calls, "a number of calls"),
            ("--max-cost", self.max_cost_usd, "an amount in USD"),
        ):
            if cap is not None and not (math.isfinite(cap) and cap >= 0):
                raise InputError(f"{option} is {cap}; it takes {unit}, 0 or more (0: only what is recorded).")

    def affordable(self, wanted: int) -> int:
        """How many of `wanted` calls may still be made. The cost cap lets calls in flight end, so it can be passed by those."""
        if self.max_cost_usd is not None and self.spending.cost_usd >= self.max_cost_usd:
            return 0
        return wanted if self.max_calls is None else max(0, min(wanted, self.max_calls - self.spending.calls))

    def stop(self) -> BudgetStop:
        cap = (
            f"--max-calls {self.max_calls}"
            if self.max_calls is not None and self.spending.calls >= self.max_calls
            else f"--max-cost {self.max_cost_usd}"
        )
        retried = self.spending.retried_requests
        more = f" and {retried} requests without a usable answer" if retried else ""
        return BudgetStop(
            f"Stopped by {cap}: {self.spending.calls} calls made{more}, {self.spending.cost_usd:.2f} USD. Every answer is recorded; "
            "run the same command with a higher cap to go on from here."
        )


def cost_usd(usage: Usage, model: ModelRecipe) -> float:
    return (
        usage.prompt_tokens * model.cost_per_million_prompt_tokens
        + usage.completion_tokens * model.cost_per_million_completion_tokens
    ) / 1e6
