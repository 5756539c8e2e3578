"""What a run may spend, and what it has spent."""

from dataclasses import dataclass, field

from builder.errors import BudgetStop
from builder.llm.messages import Usage
from builder.recipe import ModelRecipe


@dataclass
class Spending:
    """Calls made in this run with their tokens and cost; `hits` were replayed from the record and cost nothing."""

    calls: int = 0
    hits: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0

    def add_call(self, usage: Usage, model: ModelRecipe) -> None:
        self.calls += 1
        self.prompt_tokens += usage.prompt_tokens
        self.completion_tokens += usage.completion_tokens
        self.cost_usd += cost_usd(usage, model)


@dataclass
class Budget:
    max_calls: int | None = None
    max_cost_usd: float | None = None
    spending: Spending = field(default_factory=Spending)

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
        return BudgetStop(
            f"Stopped by {cap}: {self.spending.calls} calls made, {self.spending.cost_usd:.2f} USD. Every answer is recorded; "
            "run the same command with a higher cap to go on from here."
        )


def cost_usd(usage: Usage, model: ModelRecipe) -> float:
    return (
        usage.prompt_tokens * model.cost_per_million_prompt_tokens
        + usage.completion_tokens * model.cost_per_million_completion_tokens
    ) / 1e6
