"""The prompts stage: a source of questions -> the `prompts` table, whatever goes counted under its reason."""

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from builder.prompts import controversy, filters, sources, split, topics
from builder.recipe import BuildRecipe
from builder.schema import CANARY, prompt_id


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
    source = sources.read_prompts(recipe.prompts.source, recipe.prompts.text_column)
    dropped = {"no_question": len(source.unusable)} if source.unusable else {}
    prompts, reasons = filters.text_filters(
        source.prompts, recipe.prompts.min_words, recipe.prompts.require_question_mark
    )
    dropped |= reasons
    prompts, reasons = filters.remove_duplicates(prompts, recipe.prompts.near_duplicate_similarity)
    dropped |= reasons
    split.sizes(len(prompts), recipe, _where_they_went(source, dropped))
    return UsablePrompts(source, prompts, dropped)


def build_prompts(
    recipe: BuildRecipe, calls: Any, usable: UsablePrompts | None = None, earlier: Sequence[dict[str, Any]] = ()
) -> PromptTable:
    """Filter, score, sort by topic, choose and split the prompts of a build. `usable` is read here unless it was read before.

    `calls.generate("classifier", requests, label)` is used only with prompts.controversy lm; with none every score is null.
    A prompt's id is the number of its line (row of a table) in the source, so it does not change with the recipe, nor when
    lines are added at the end.

    `earlier`: rows of a version that this build extends. They come out as they are, and prompts that are neither equal nor similar to
    one of them are added until there are prompts.count, with prompts.heldout held out. An added prompt whose number is taken gets the next
    free one.

    Raises InputError for an unusable source, and where fewer prompts pass than a persona's pairs need.
    """
    usable = usable or read_usable_prompts(recipe)
    source, dropped = usable.source, dict(usable.dropped)
    candidates = usable.prompts
    if earlier:
        questions = [row["question"] for row in earlier]
        candidates = filters.unlike_earlier(candidates, questions, recipe.prompts.near_duplicate_similarity)
        dropped["like_an_earlier_prompt"] = len(usable.prompts) - len(candidates)
    judged = controversy.keep_controversial(candidates, recipe, calls)
    prompts, found = judged.kept, judged.found
    dropped |= judged.dropped

    if earlier:
        used = split.sizes_of_more(len(prompts), recipe, [row["pool"] for row in earlier])
        names, topic_method = _topics_beside(prompts, earlier)
    else:
        used = split.sizes(len(prompts), recipe, _where_they_went(source, dropped))
        names, topic_method = topics.assign_topics(prompts, recipe.prompts.topics, recipe.seed)
    topic_of = {prompt.question: name for prompt, name in zip(prompts, names, strict=True)}
    scores = {prompt.question: found[prompt.line].score if found else None for prompt in prompts}
    chosen = split.choose(scores, topic_of, used.count, recipe.seed)
    heldout = split.hold_out(sorted(chosen), topic_of, used.heldout, recipe.seed)
    dropped["not_selected"] = len(prompts) - len(chosen)

    id_of = _ids([prompt.line for prompt in prompts if prompt.question in chosen], earlier)
    rows: list[dict[str, Any]] = [
        {
            "prompt_id": id_of[prompt.line],
            "question": prompt.question,
            "topic": topic_of[prompt.question],
            "pool": "heldout" if prompt.question in heldout else "train",
            "controversy_score": scores[prompt.question],
            "controversy_votes": list(found[prompt.line].votes) if found else [],
            "source": prompt.source,
            "source_id": prompt.source_id,
            "licence": prompt.licence,
            "canary": CANARY,
        }
        for prompt in prompts
        if prompt.question in chosen
    ]
    rows = sorted([*earlier, *rows], key=lambda row: (len(row["prompt_id"]), row["prompt_id"]))
    held = sum(row["pool"] == "heldout" for row in rows)
    lines = len(source.prompts) + len(source.unusable)
    counts = {"in": lines + len(earlier), "out": len(rows), "dropped": dropped}
    details = {
        "source": source.name,
        **source.identity,
        "asked": {"count": recipe.prompts.count, "heldout": recipe.prompts.heldout},
        "used": {"count": len(rows), "heldout": held},
        "earlier": len(earlier),
        "scaled_down": used.scaled_down,
        "note": _note(recipe, len(rows), held) if used.scaled_down else "",
        "topic_method": topic_method,
        "topics": _histogram(rows),
        "heldout_topics": _histogram([row for row in rows if row["pool"] == "heldout"]),
        "licences": dict(sorted(Counter(f"{row['source']}: {row['licence']}" for row in rows).items())),
        "classifier": judged.details,
    }
    return PromptTable(rows=rows, counts=counts, details=details, ledger=judged.ledger)


def _topics_beside(prompts: Sequence[sources.SourcePrompt], earlier: Sequence[dict[str, Any]]) -> tuple[list[str], str]:
    """The source's own topics, else those of the earlier prompts: clusters made anew would give the old prompts other topics."""
    own = [prompt.topic for prompt in prompts if prompt.topic is not None]
    if len(own) == len(prompts):
        return own, "source"
    return topics.nearest_topics(prompts, {row["question"]: row["topic"] for row in earlier}), "nearest earlier topic"


def _ids(lines: Sequence[int], earlier: Sequence[dict[str, Any]]) -> dict[int, str]:
    taken = {row["prompt_id"] for row in earlier}
    free = itertools.count(1 + max([*lines, *(int(identity[1:]) for identity in taken)], default=0))
    return {line: prompt_id(next(free)) if prompt_id(line) in taken else prompt_id(line) for line in sorted(lines)}


def _where_they_went(source: sources.PromptSource, dropped: dict[str, int]) -> str:
    went = ", ".join(f"{reason} {number}" for reason, number in dropped.items() if number) or "nothing dropped"
    return f"{source.name} has {len(source.prompts) + len(source.unusable)} lines ({went})"


def _note(recipe: BuildRecipe, number: int, held: int) -> str:
    return (
        f"{number} prompts pass the filters, fewer than prompts.count {recipe.prompts.count}: all are used, and "
        f"the held-out pool is scaled down from {recipe.prompts.heldout} to {held}."
    )


def _histogram(rows: Sequence[dict[str, Any]]) -> dict[str, int]:
    """{topic: rows}, most frequent first, equal ones by name."""
    count = Counter(row["topic"] for row in rows)
    return {topic: count[topic] for topic in sorted(count, key=lambda topic: (-count[topic], topic))}
