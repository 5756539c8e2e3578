"""`dpf` pairs: for each assigned (persona, prompt) the revision that was written for the persona over the base answer that was not.

Where the reviser drew several candidates, the judge keeps the one it likes best for the persona.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from builder.judge.judge import Comparison, Judge, Verdict, choose_best, compare, published_verdict
from builder.pairs.assignment import Assigned, assign_prompts, members_by_group, wrong_persona
from builder.pairs.feedback import Written, write_base_answers, write_critiques, write_revisions
from builder.pairs.flags import leaks_attribute
from builder.recipe import BuildRecipe
from builder.schema import assistant_message, dpf_pair_id, preference_messages, split_for


@dataclass(frozen=True)
class PairTable:
    """`rows`: the columns of the config plus `split`. `counts`: {in, out, dropped: {reason: n}}. `ledger`: what failed, and why."""

    rows: list[dict[str, Any]]
    counts: dict[str, Any]
    ledger: list[dict[str, Any]] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)


def build_pairs(
    recipe: BuildRecipe, calls: Any, judge: Judge, personas: list[dict[str, Any]], prompts: list[dict[str, Any]]
) -> PairTable:
    """One pair per assigned (persona, prompt); a pair whose texts cannot be had goes to the ledger with its reason."""
    persona_of = {p["persona_id"]: p for p in personas}
    question_of = {p["prompt_id"]: p["question"] for p in prompts}
    assigned = assign_prompts(recipe.seed, recipe.pairs, list(persona_of), prompts)

    base = write_base_answers(recipe, calls, {a.prompt_id: question_of[a.prompt_id] for a in assigned})
    critiques = write_critiques(recipe, calls, assigned, persona_of, question_of, base)
    candidates = write_revisions(recipe, calls, assigned, question_of, base, critiques)

    problems = {a: _problem(base[a.prompt_id], critiques[a], candidates[a]) for a in assigned}
    written = [a for a in assigned if problems[a] is None]
    texts = {a: [w.text for w in candidates[a] if w.text is not None] for a in written}
    chosen = dict(zip(written, _choose(calls, judge, written, texts, persona_of, question_of), strict=True))
    revisions = {a: texts[a][chosen[a]] for a in written}
    problems |= {a: ("identical_texts", "") for a in written if revisions[a] == base[a.prompt_id].text}

    complete = [a for a in assigned if problems[a] is None]
    comparisons = [
        Comparison(
            persona_of[a.persona_id]["profile"], question_of[a.prompt_id], (revisions[a], base[a.prompt_id].text or "")
        )
        for a in complete
    ]
    verdicts = compare(judge, calls, comparisons, "judging revisions against base answers")
    ledger = [
        {"stage": "pairs", "item": dpf_pair_id(a.persona_id, a.prompt_id), "reason": problem[0], "detail": problem[1]}
        for a, problem in problems.items()
        if problem is not None
    ]
    return PairTable(
        rows=_rows(recipe, calls, judge, complete, persona_of, prompts, base, critiques, revisions, verdicts),
        counts={
            "in": len(assigned),
            "out": len(complete),
            "dropped": dict(sorted(Counter(entry["reason"] for entry in ledger).items())),
        },
        ledger=ledger,
        details={"judge_prefers_revision": _preference(verdicts, selected=recipe.pairs.candidates > 1)},
    )


def _problem(base: Written, critique: Written, candidates: list[Written]) -> tuple[str, str] | None:
    """(reason, detail) of the first text that could not be had; None if all are there."""
    for stage, written in (("answer", base), ("critique", critique)):
        if written.text is None:
            return f"{stage}_{written.reason}", written.detail
    if all(c.text is None for c in candidates):
        return f"revision_{candidates[0].reason}", candidates[0].detail
    return None


def _preference(verdicts: Sequence[Verdict], selected: bool) -> dict[str, Any]:
    """How often the judge prefers the revision. `selected`: it also chose among candidates, so the rate says nothing about revisions
    in general."""
    scored = [v for v in verdicts if v.verdict != "unscored"]
    preferred = sum(v.verdict == "A" for v in scored)
    return {
        "n": len(scored),
        "preferred": preferred,
        "ties": sum(v.verdict == "tie" for v in scored),
        "unscored": len(verdicts) - len(scored),
        "rate": preferred / len(scored) if scored else None,
        "judge_selected_the_revision": selected,
    }


def _choose(
    calls: Any,
    judge: Judge,
    complete: Sequence[Assigned],
    texts: dict[Assigned, list[str]],
    persona_of: dict[str, dict[str, Any]],
    question_of: dict[str, str],
) -> list[int]:
    """The judge is asked only where there is a choice."""
    open_choices = [a for a in complete if len(set(texts[a])) > 1]
    items = [(persona_of[a.persona_id]["profile"], question_of[a.prompt_id], texts[a]) for a in open_choices]
    best = (
        dict(zip(open_choices, choose_best(judge, calls, items, "choosing among revisions"), strict=True))
        if items
        else {}
    )
    return [best.get(a, 0) for a in complete]


def _rows(
    recipe: BuildRecipe,
    calls: Any,
    judge: Judge,
    complete: Sequence[Assigned],
    persona_of: dict[str, dict[str, Any]],
    prompts: Sequence[dict[str, Any]],
    base: dict[str, Written],
    critiques: dict[Assigned, Written],
    revisions: dict[Assigned, str],
    verdicts: Sequence[Any],
) -> list[dict[str, Any]]:
    prompt_of = {p["prompt_id"]: p for p in prompts}
    members = members_by_group(list(persona_of.values()))
    count = _token_counter(calls, persona_of, prompt_of, base, revisions)
    rows = []
    for a, verdict in zip(complete, verdicts, strict=True):
        persona, prompt = persona_of[a.persona_id], prompt_of[a.prompt_id]
        pair_id = dpf_pair_id(a.persona_id, a.prompt_id)
        chosen, rejected = revisions[a], base[a.prompt_id].text or ""
        rows.append(
            {
                "split": split_for(a.part, persona["group"]),
                "pair_id": pair_id,
                "persona_id": a.persona_id,
                "prompt_id": a.prompt_id,
                "prompt": preference_messages(persona["profile"], prompt["question"]),
                "chosen": assistant_message(chosen),
                "rejected": assistant_message(rejected),
                "topic": prompt["topic"],
                "persona_group": persona["group"],
                "is_adult": persona["is_adult"],
                "wrong_persona_id": wrong_persona(recipe.seed, pair_id, {a.persona_id}, members[persona["group"]]),
                "judge": judge.label,
                "judge_verdict": published_verdict(verdict),
                "judge_score": verdict.score,
                "prompt_tokens": count[persona["profile"]] + count[prompt["question"]],
                "chosen_tokens": count[chosen],
                "rejected_tokens": count[rejected],
                # The paper's revision order: fewer tokens than the original.
                "length_violation": count[chosen] >= count[rejected],
                "attribute_leak": leaks_attribute(persona, chosen, [prompt["question"], rejected]),
                "base_id": f"base/{a.prompt_id}/{hashlib.sha256(rejected.encode('utf-8')).hexdigest()[:12]}",
                "critique": critiques[a].text,
            }
        )
    return sorted(rows, key=lambda row: (row["persona_id"], row["prompt_id"]))


def _token_counter(
    calls: Any,
    persona_of: dict[str, dict[str, Any]],
    prompt_of: dict[str, dict[str, Any]],
    base: dict[str, Written],
    revisions: dict[Assigned, str],
) -> dict[str, int]:
    """Tokens of every text of the table, each counted once, by the generator's tokenizer (approximately for an endpoint)."""
    texts = (
        {p["profile"] for p in persona_of.values()}
        | {p["question"] for p in prompt_of.values()}
        | set(revisions.values())
    )
    texts |= {w.text for w in base.values() if w.text is not None}
    ordered = sorted(texts)
    return dict(zip(ordered, calls.count_tokens("generator", ordered), strict=True))
