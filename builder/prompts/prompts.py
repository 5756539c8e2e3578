"""The prompts stage: a source of questions -> the `prompts` table, every question that goes counted under its reason."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from builder.errors import InputError
from builder.prompts import controversy, filters, sources, split, topics
from builder.prompts.sources import SourcePrompt
from builder.recipe import BuildRecipe
from builder.schema import prompt_id

STAGE = "prompts"
POOLS = ("train", "heldout")


@dataclass(frozen=True)
class PromptTable:
    """`counts` adds up: in = out + sum(dropped)."""

    rows: list[dict[str, Any]]  # as schema.features("prompts"), by prompt_id
    counts: dict[str, Any]  # {"in": lines of the source, "out": rows, "dropped": {reason: number}}
    details: dict[str, Any]  # source, sizes asked and used, topics per pool, the classifier's pass rate
    ledger: list[dict[str, str]] = field(default_factory=list)  # {"stage", "item", "reason", "detail"}


def build_prompts(recipe: BuildRecipe, calls: Any) -> PromptTable:
    """Read, filter, score, sort by topic, choose and split the prompts of a build.

    `calls.generate("classifier", requests, label)` is used only where the recipe names a classifier; without one every score is null.
    A prompt's id is the number of its line in the source, so it does not change with the recipe, nor when lines are added at the end.
    Raises InputError for an unusable source, and where fewer prompts pass than a persona's pairs need.
    """
    source = sources.read_prompts(recipe.prompts.source)
    dropped = {"no_question": len(source.unusable)} if source.unusable else {}
    prompts, reasons = filters.text_filters(
        source.prompts, recipe.prompts.min_words, recipe.prompts.require_question_mark
    )
    dropped |= reasons
    prompts, reasons = filters.remove_duplicates(prompts, recipe.prompts.near_duplicate_similarity)
    dropped |= reasons
    prompts, votes, reasons, ledger, classifier = _controversial(prompts, recipe, calls)
    dropped |= reasons
    _refuse_too_few(prompts, source, dropped, recipe)

    used = split.sizes(len(prompts), recipe)
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
        "topics": _histograms(rows),
        "licences": dict(sorted(Counter(f"{row['source']}: {row['licence']}" for row in rows).items())),
        "classifier": classifier,
    }
    return PromptTable(rows=rows, counts=counts, details=details, ledger=ledger)


def _controversial(
    prompts: Sequence[SourcePrompt], recipe: BuildRecipe, calls: Any
) -> tuple[list[SourcePrompt], dict[int, controversy.Controversy], dict[str, int], list[dict[str, str]], dict[str, Any] | None]:
    """The prompts at or above the threshold, the votes by line, the drops, the ledger, and what the classifier did (None: no filter)."""
    if recipe.models.classifier.provider == "none":
        return list(prompts), {}, {}, [], None
    if recipe.prompts.controversy_votes < 1:
        raise InputError(
            f"prompts.controversy_votes is {recipe.prompts.controversy_votes}, but models.classifier.provider is "
            f"{recipe.models.classifier.provider}. Ask for at least 1 vote, or set models.classifier.provider=none to switch the "
            "filter off."
        )
    judged = controversy.classify(prompts, recipe, calls)
    votes = {prompt.line: result for prompt, result in zip(prompts, judged, strict=True)}
    kept, ledger = [], []
    dropped = {"not_controversial": 0, "unscored": 0}
    for prompt in prompts:
        score = votes[prompt.line].score
        if score is None:
            dropped["unscored"] += 1
            detail = controversy.explained(votes[prompt.line])
            ledger.append({"stage": STAGE, "item": prompt_id(prompt.line), "reason": "unscored", "detail": detail})
        elif score < recipe.prompts.controversy_threshold:
            dropped["not_controversial"] += 1
        else:
            kept.append(prompt)
    scored = len(prompts) - dropped["unscored"]
    classifier = {
        "scored": scored,
        "passed": len(kept),
        "pass_rate": len(kept) / scored if scored else None,
        "threshold": recipe.prompts.controversy_threshold,
        "votes_asked": recipe.prompts.controversy_votes * len(prompts),
        "votes_failed": dict(sorted(Counter(reason for result in judged for reason in result.failures).items())),
        "template": controversy.load_template(controversy.TEMPLATE).label,
    }
    return kept, votes, dropped, ledger, classifier


def _refuse_too_few(
    prompts: Sequence[SourcePrompt], source: sources.PromptSource, dropped: dict[str, int], recipe: BuildRecipe
) -> None:
    """Say where the prompts went before saying that too few are left."""
    needed = max(1, recipe.pairs.train + recipe.pairs.seen_test + recipe.pairs.heldout_test)
    if len(prompts) < min(needed, recipe.prompts.count):
        went = ", ".join(f"{reason} {number}" for reason, number in dropped.items() if number) or "none dropped"
        raise InputError(
            f"{source.name}: of {len(source.prompts) + len(source.unusable)} prompts {len(prompts)} pass the filters ({went}), but a "
            f"persona's pairs need {needed}: pairs.train {recipe.pairs.train} + pairs.seen_test {recipe.pairs.seen_test} in the train "
            f"pool and pairs.heldout_test {recipe.pairs.heldout_test} held out. Give a larger prompts.source, loosen the filters "
            "under prompts, or lower the numbers under pairs."
        )


def _note(used: split.Sizes, recipe: BuildRecipe) -> str:
    if not used.scaled_down:
        return ""
    return (
        f"{used.count} prompts pass the filters, fewer than prompts.count {recipe.prompts.count}: all are used, and the held-out "
        f"pool is scaled down from {recipe.prompts.heldout} to {used.heldout}."
    )


def _histograms(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, int]]:
    """{topic: {"train": n, "heldout": n}}, most frequent topic first."""
    count = Counter((row["topic"], row["pool"]) for row in rows)
    sums = Counter(row["topic"] for row in rows)
    ordered = sorted(sums, key=lambda topic: (-sums[topic], topic))
    return {topic: {pool: count[topic, pool] for pool in POOLS} for topic in ordered}
