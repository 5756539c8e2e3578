"""Which prompts leave room for a persona: a language model votes on each, and the score is the share of yes.

The paper asks once, with a prompt it does not print. Several votes give a graded score, so that the highest can be chosen and a reader can
move the threshold. A vote that failed or cannot be read is no vote: it is never counted as no.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from builder.llm.messages import Answer, ChatRequest, Failure, Sampling
from builder.llm.templates import load_template
from builder.prompts.sources import SourcePrompt
from builder.recipe import BuildRecipe

TEMPLATE = "classify_controversy"
# Room for the reasons that go before the verdict. Votes must be able to differ, so they are drawn; a single vote is the likeliest reply.
MAX_TOKENS = 300
TEMPERATURE = 0.7


@dataclass(frozen=True)
class Controversy:
    """The votes on one prompt."""

    votes: tuple[bool, ...]  # the readable ones, in the order in which they were asked for
    failures: tuple[str, ...]  # why each of the others is none

    @property
    def score(self) -> float | None:
        """Share of yes among the readable votes; None without one."""
        return sum(self.votes) / len(self.votes) if self.votes else None


def classify(prompts: Sequence[SourcePrompt], recipe: BuildRecipe, calls: Any) -> list[Controversy]:
    """The votes on each prompt, in order: `controversy_votes` independent replies per prompt, all asked for in one batch."""
    template = load_template(TEMPLATE)
    number = recipe.prompts.controversy_votes
    sampling = Sampling(max_tokens=MAX_TOKENS, temperature=TEMPERATURE if number > 1 else 0.0)
    requests = [
        ChatRequest(
            messages=template.render(question=prompt.question),
            sampling=sampling,
            template=template.label,
            seed=recipe.seed,
            sample_index=vote,
        )
        for prompt in prompts
        for vote in range(number)
    ]
    replies = calls.generate("classifier", requests, "controversy votes") if requests else []
    return [_counted(replies[start : start + number]) for start in range(0, len(requests), number)]


def read_vote(reply: Answer | Failure) -> bool | str:
    """True for yes, False for no, otherwise the reason why the reply is no vote."""
    if isinstance(reply, Failure):
        return reply.reason
    sections = load_template(TEMPLATE).read(reply.text)
    first_line = sections["verdict"].splitlines()[0] if sections else ""
    # The word alone: `yes|no`, `yes and no` or `yes, unless` leave it open.
    match = re.fullmatch(r"\W*(yes|no)[\s.!*`\"']*", first_line, re.IGNORECASE)
    return match[1].lower() == "yes" if match else "unreadable"


def _counted(replies: Sequence[Answer | Failure]) -> Controversy:
    read = [read_vote(reply) for reply in replies]
    return Controversy(
        votes=tuple(vote for vote in read if isinstance(vote, bool)),
        failures=tuple(vote for vote in read if isinstance(vote, str)),
    )


def explained(controversy: Controversy) -> str:
    """`3 of 3 votes failed: unreadable 2, truncated 1`, for the ledger."""
    asked = len(controversy.votes) + len(controversy.failures)
    reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(Counter(controversy.failures).items()))
    return f"{len(controversy.failures)} of {asked} votes failed: {reasons}"
