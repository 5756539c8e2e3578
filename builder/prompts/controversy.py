"""Which prompts leave room for a persona: a score between 0 and 1, by votes of a language model or by the packaged model.

The paper asks a language model once, with a prompt it does not print. Several votes give a graded score, the share of yes, so that
the highest can be chosen and a reader can move the threshold. A vote that failed or cannot be read is no vote: it is never counted
as no. The packaged model needs no language model; its score is its probability.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from builder.errors import InputError
from builder.llm.drawing import UNREADABLE
from builder.llm.messages import Answer, ChatRequest, Failure, Sampling
from builder.llm.templates import load_template
from builder.prompts import controversy_model
from builder.prompts.sources import SourcePrompt
from builder.recipe import BuildRecipe
from builder.schema import prompt_id

TEMPLATE = "classify_controversy"
# Room for the reasons that go before the verdict. Votes must be able to differ, so they are drawn; a single vote is the
# likeliest reply.
MAX_TOKENS = 300
TEMPERATURE = 0.7


@dataclass(frozen=True)
class Controversy:
    """What is known of one prompt. The packaged model gives a score and no votes."""

    score: float | None  # None without a readable vote
    votes: tuple[bool, ...] = ()  # the readable ones, in the order in which they were asked for
    failures: tuple[str, ...] = ()  # why each of the others is none


@dataclass(frozen=True)
class ControversyFilter:
    kept: list[SourcePrompt]
    found: dict[int, Controversy]  # by SourcePrompt.line; empty without a classifier
    dropped: dict[str, int]  # {"not_controversial": n, "unscored": n}; empty without a classifier
    ledger: list[dict[str, str]]  # one entry per unscored prompt
    details: dict[str, Any] | None  # which classifier, pass rate, failed votes; None without a classifier


def keep_controversial(prompts: Sequence[SourcePrompt], recipe: BuildRecipe, calls: Any) -> ControversyFilter:
    """Keep prompts with a score at or above the recipe's threshold. Without a classifier keep all and score none.

    A prompt without a readable vote is dropped as `unscored`, with an entry in the ledger.
    """
    if recipe.prompts.controversy == "none":
        return ControversyFilter(kept=list(prompts), found={}, dropped={}, ledger=[], details=None)
    if recipe.prompts.controversy == "lm":
        results = classify(prompts, recipe, calls)
        about = _about_votes(results, recipe)
    else:
        results = [Controversy(score) for score in controversy_model.scores([prompt.question for prompt in prompts])]
        about = _about_packaged()
    found = {prompt.line: result for prompt, result in zip(prompts, results, strict=True)}
    kept, ledger = [], []
    dropped = {"not_controversial": 0, "unscored": 0}
    for prompt in prompts:
        score = found[prompt.line].score
        if score is None:
            dropped["unscored"] += 1
            item, detail = prompt_id(prompt.line), _explained(found[prompt.line])
            ledger.append({"stage": "prompts", "item": item, "reason": "unscored", "detail": detail})
        elif score < recipe.prompts.controversy_threshold:
            dropped["not_controversial"] += 1
        else:
            kept.append(prompt)
    scored = len(prompts) - dropped["unscored"]
    details = {
        "threshold": recipe.prompts.controversy_threshold,
        "scored": scored,
        "passed": len(kept),
        "pass_rate": len(kept) / scored if scored else None,
        **about,
    }
    return ControversyFilter(kept=kept, found=found, dropped=dropped, ledger=ledger, details=details)


def classify(prompts: Sequence[SourcePrompt], recipe: BuildRecipe, calls: Any) -> list[Controversy]:
    """The votes on each prompt, in order: `controversy_votes` replies per prompt, all asked for in one batch."""
    template = load_template(TEMPLATE)
    number = recipe.prompts.controversy_votes
    if number < 1:
        raise InputError(
            f"prompts.controversy_votes is {number}, but prompts.controversy is lm. Ask for at least 1 vote, or set "
            "prompts.controversy=packaged (no language model) or none (keep every question)."
        )
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
    if sections is None:
        return UNREADABLE
    return sections["verdict"] == "yes"


def _counted(replies: Sequence[Answer | Failure]) -> Controversy:
    read = [read_vote(reply) for reply in replies]
    votes = tuple(vote for vote in read if isinstance(vote, bool))
    return Controversy(
        score=sum(votes) / len(votes) if votes else None,
        votes=votes,
        failures=tuple(vote for vote in read if isinstance(vote, str)),
    )


def _about_votes(results: Sequence[Controversy], recipe: BuildRecipe) -> dict[str, Any]:
    failed = Counter(reason for result in results for reason in result.failures)
    return {
        "kind": "lm",
        "template": load_template(TEMPLATE).label,
        "votes_asked": recipe.prompts.controversy_votes * len(results),
        "votes_failed": dict(sorted(failed.items())),
    }


def _about_packaged() -> dict[str, Any]:
    model = controversy_model.read_model()
    return {
        "kind": "packaged",
        "version": controversy_model.version(),
        "fitted_on": model["about"]["fitted_on"],
        "held_out": model["held_out"],
    }


def _explained(controversy: Controversy) -> str:
    """`3 of 3 votes failed: truncated 1, unreadable 2`."""
    asked = len(controversy.votes) + len(controversy.failures)
    reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(Counter(controversy.failures).items()))
    return f"{len(controversy.failures)} of {asked} votes failed: {reasons}"
