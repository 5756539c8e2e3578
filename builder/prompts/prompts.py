"""The prompts stage: a source of questions -> the `prompts` table, whatever goes counted under its reason."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from builder.prompts import controversy, filters, sources, split, topics
from builder.recipe import BuildRecipe
from builder.schema import prompt_id


@dataclass(frozen=True)
class PromptTable:
    """`counts` adds up: in = out + sum(dropped)."""

    rows: list[dict[str, Any]]  # as schema.features("prompts"), by prompt_id
    counts: dict[str, Any]  # {"in": lines of the source, "out": rows, "dropped": {reason: number}}
    details: dict[str, Any]  # source, sizes asked and used, topics, the classifier's pass rate
    ledger: list[dict[str, str]] = field(default_factory=list)  # {"stage", "item", "reason", "detail"}


@dataclass(frozen=True)
class UsablePrompts:
    """What is left of a source after everything that needs no model; `dropped` counts the rest by reason."""

    source: sources.PromptSource
    prompts: list[sources.SourcePrompt]
    dropped: dict[str, int]


def read_usable_prompts(recipe: BuildRecipe) -> UsablePrompts:
    """Read and filter the source. Raises InputError if it cannot be read, or holds fewer prompts than a persona's pairs need."""
    source = sources.read_prompts(recipe.prompts.source)
    dropped = {"no_question": len(source.unusable)} if source.unusable else {}
    prompts, reasons = filters.text_filters(
        source.prompts, recipe.prompts.min_words, recipe.prompts.require_question_mark
    )
    dropped |= reasons
    prompts, reasons = filters.remove_duplicates(prompts, recipe.prompts.near_duplicate_similarity)
    dropped |= reasons
    split.sizes(len(prompts), recipe, _where_they_went(source, dropped))
    return UsablePrompts(source, prompts, dropped)


def build_prompts(recipe: BuildRecipe, calls: Any, usable: UsablePrompts | None = None) -> PromptTable:
    """Filter, score, sort by topic, choose and split the prompts of a build. `usable` is read here unless it was read before.

    `calls.generate("classifier", requests, label)` is used only where the recipe names a classifier; without one every
    score is null. A prompt's id is the number of its line in the source, so it does not change with the recipe, nor
    when lines are added at the end. Raises InputError for an unusable source, and where fewer prompts pass than a
    persona's pairs need.
    """
    usable = usable or read_usable_prompts(recipe)
    source, dropped = usable.source, dict(usable.dropped)
    judged = controversy.keep_controversial(usable.prompts, recipe, calls)
    prompts, votes = judged.kept, judged.votes
    dropped |= judged.dropped

    used = split.sizes(len(prompts), recipe, _where_they_went(source, dropped))
    names, topic_method = topics.assign_topics(prompts, recipe.prompts.topics, recipe.seed)
    topic_of = {prompt.question: name for prompt, name in zip(prompts, names, strict=True)}
    scores = {prompt.question: votes[prompt.line].score if votes else None for prompt in prompts}
    chosen = split.choose(scores, topic_of, used.count, recipe.seed)
    heldout = split.hold_out(sorted(chosen), topic_of, used.heldout, recipe.seed)
    dropped["not_selected"] = len(prompts) - len(chosen)

    rows = [
        {
            "prompt_id": prompt_id(prompt.line),
            "question": prompt.question,
            "topic": topic_of[prompt.question],
            "pool": "heldout" if prompt.question in heldout else "train",
            "controversy_score": scores[prompt.question],
            "controversy_votes": list(votes[prompt.line].votes) if votes else [],
            "source": prompt.source,
            "source_id": prompt.source_id,
            "licence": prompt.licence,
        }
        for prompt in prompts
        if prompt.question in chosen
    ]
    counts = {"in": len(source.prompts) + len(source.unusable), "out": len(rows), "dropped": dropped}
    details = {
        "source": source.name,
        "sha256": source.sha256,
        "asked": {"count": recipe.prompts.count, "heldout": recipe.prompts.heldout},
        "used": {"count": used.count, "heldout": used.heldout},
        "scaled_down": used.scaled_down,
        "note": _note(used, recipe),
        "topic_method": topic_method,
        "topics": _histogram(rows),
        "heldout_topics": _histogram([row for row in rows if row["pool"] == "heldout"]),
        "licences": dict(sorted(Counter(f"{row['source']}: {row['licence']}" for row in rows).items())),
        "classifier": judged.details,
    }
    return PromptTable(rows=rows, counts=counts, details=details, ledger=judged.ledger)


def _where_they_went(source: sources.PromptSource, dropped: dict[str, int]) -> str:
    went = ", ".join(f"{reason} {number}" for reason, number in dropped.items() if number) or "nothing dropped"
    return f"{source.name} has {len(source.prompts) + len(source.unusable)} lines ({went})"


def _note(used: split.Sizes, recipe: BuildRecipe) -> str:
    if not used.scaled_down:
        return ""
    return (
        f"{used.count} prompts pass the filters, fewer than prompts.count {recipe.prompts.count}: all are used, and "
        f"the held-out pool is scaled down from {recipe.prompts.heldout} to {used.heldout}."
    )


def _histogram(rows: Sequence[dict[str, Any]]) -> dict[str, int]:
    """{topic: rows}, most frequent first, equal ones by name."""
    count = Counter(row["topic"] for row in rows)
    return {topic: count[topic] for topic in sorted(count, key=lambda topic: (-count[topic], topic))}
