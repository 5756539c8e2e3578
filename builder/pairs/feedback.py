"""Direct principle feedback: base answer -> critique by the persona -> revision (paper, section 3.2).

The base answer is written once per prompt, without a persona, and becomes `rejected`. The critic reads persona and base answer; the
reviser reads the critique but not the persona. The reviser may draw several candidates, of which the judge keeps the one it likes
best for the persona: a strong model needs one, a small one rarely obeys.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from builder.judge.judge import Comparison, Judge, choose_best, compare, published_verdict
from builder.llm.messages import ChatRequest, Failure, Message, Sampling
from builder.llm.templates import PromptTemplate, load_template
from builder.pairs.assignment import Assigned, assign_prompts, members_by_group, wrong_persona
from builder.pairs.flags import leaks_attribute
from builder.recipe import BuildRecipe, SamplingRecipe
from builder.schema import assistant_message, dpf_pair_id, preference_messages, split_for


@dataclass(frozen=True)
class PairTable:
    """`rows`: the columns of the config plus `split`. `counts`: {in, out, dropped: {reason: n}}. `ledger`: what failed, and why."""

    rows: list[dict[str, Any]]
    counts: dict[str, Any]
    ledger: list[dict[str, Any]] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Written:
    """A usable reply, or the reason why there is none after all retries."""

    text: str | None
    reason: str = ""
    detail: str = ""


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

    complete: list[Assigned] = []
    ledger: list[dict[str, Any]] = []
    dropped: dict[str, int] = {}
    for a in assigned:
        problem = _problem(base[a.prompt_id], critiques[a], candidates[a])
        if problem is None:
            complete.append(a)
            continue
        stage, written = problem
        reason = f"{stage}_{written.reason}"
        dropped[reason] = dropped.get(reason, 0) + 1
        item = dpf_pair_id(a.persona_id, a.prompt_id)
        ledger.append({"stage": "pairs", "item": item, "reason": reason, "detail": written.detail})

    texts = {a: [w.text for w in candidates[a] if w.text is not None] for a in complete}
    chosen_index = dict(zip(complete, _choose(calls, judge, complete, texts, persona_of, question_of), strict=True))
    revisions = {a: texts[a][chosen_index[a]] for a in complete}
    unchanged = {a for a in complete if revisions[a] == base[a.prompt_id].text}
    if unchanged:
        dropped["identical_texts"] = len(unchanged)
        for a in complete:
            if a in unchanged:
                item = dpf_pair_id(a.persona_id, a.prompt_id)
                ledger.append({"stage": "pairs", "item": item, "reason": "identical_texts", "detail": ""})
        complete = [a for a in complete if a not in unchanged]
    comparisons = [
        Comparison(
            persona_of[a.persona_id]["profile"], question_of[a.prompt_id], (revisions[a], base[a.prompt_id].text or "")
        )
        for a in complete
    ]
    verdicts = compare(judge, calls, comparisons, "judging revisions against base answers")

    rows = _rows(recipe, calls, judge, complete, persona_of, prompts, base, critiques, revisions, verdicts)
    scored = [v for v in verdicts if v.verdict != "unscored"]
    preferred = sum(v.verdict == "A" for v in scored)
    return PairTable(
        rows=rows,
        counts={"in": len(assigned), "out": len(rows), "dropped": dropped},
        ledger=ledger,
        details={
            "judge_prefers_revision": {
                "n": len(scored),
                "preferred": preferred,
                "ties": sum(v.verdict == "tie" for v in scored),
                "unscored": len(verdicts) - len(scored),
                "rate": preferred / len(scored) if scored else None,
                # The same judge chose the candidate, so this rate says nothing about the revisions in general.
                "judge_selected_the_revision": recipe.pairs.candidates > 1,
            }
        },
    )


def write_base_answers(recipe: BuildRecipe, calls: Any, questions: dict[str, str]) -> dict[str, Written]:
    """By prompt id: the answer to the question alone, by a model that knows no persona."""
    template = load_template(recipe.pairs.answer_template)
    neutral = preference_messages(None, "")[0]["content"]
    ids = sorted(questions)
    messages = [template.render(question=questions[q], neutral_system_text=neutral) for q in ids]
    return dict(
        zip(
            ids,
            write_texts(recipe, calls, "generator", template, messages, recipe.pairs.answer, "base answers"),
            strict=True,
        )
    )


def write_critiques(
    recipe: BuildRecipe,
    calls: Any,
    assigned: Sequence[Assigned],
    persona_of: dict[str, dict[str, Any]],
    question_of: dict[str, str],
    base: dict[str, Written],
) -> dict[Assigned, Written]:
    template = load_template(recipe.pairs.critique_template)
    answered = [a for a in assigned if base[a.prompt_id].text is not None]
    messages = [
        template.render(
            profile=persona_of[a.persona_id]["profile"],
            question=question_of[a.prompt_id],
            answer=base[a.prompt_id].text,
        )
        for a in answered
    ]
    written = write_texts(recipe, calls, "critic", template, messages, recipe.pairs.critique, "critiques")
    result = dict.fromkeys(assigned, Written(None, "no_base_answer"))
    return result | dict(zip(answered, written, strict=True))


def write_revisions(
    recipe: BuildRecipe,
    calls: Any,
    assigned: Sequence[Assigned],
    question_of: dict[str, str],
    base: dict[str, Written],
    critiques: dict[Assigned, Written],
) -> dict[Assigned, list[Written]]:
    """Per pair `candidates` revisions."""
    template = load_template(recipe.pairs.revision_template)
    criticised = [a for a in assigned if critiques[a].text is not None]
    count = recipe.pairs.candidates
    messages = [
        template.render(question=question_of[a.prompt_id], answer=base[a.prompt_id].text, critique=critiques[a].text)
        for a in criticised
        for _ in range(count)
    ]
    samples = [i for _ in criticised for i in range(count)]
    written = write_texts(recipe, calls, "reviser", template, messages, recipe.pairs.revision, "revisions", samples)
    result: dict[Assigned, list[Written]] = {a: [] for a in assigned}
    for position, a in enumerate(criticised):
        result[a] = written[position * count : (position + 1) * count]
    return result


def write_texts(
    recipe: BuildRecipe,
    calls: Any,
    role: str,
    template: PromptTemplate,
    messages: Sequence[tuple[Message, ...]],
    sampling: SamplingRecipe,
    label: str,
    sample_indices: Sequence[int] | None = None,
) -> list[Written]:
    """One text per messages: the template's last section. What cannot be read, was cut or refused is drawn again, `max_retries` times."""
    samples = sample_indices or [0] * len(messages)
    read_last: Callable[[dict[str, str]], str] = lambda sections: list(sections.values())[-1]  # noqa: E731
    results = [Written(None, "not_asked")] * len(messages)
    waiting = list(range(len(messages)))
    for attempt in range(recipe.pairs.max_retries + 1):
        requests = [
            ChatRequest(
                messages=messages[i],
                sampling=Sampling(**asdict(sampling)),
                template=template.label,
                seed=recipe.seed,
                sample_index=samples[i],
                attempt=attempt,
            )
            for i in waiting
        ]
        again = []
        for i, reply in zip(
            waiting, calls.generate(role, requests, label if attempt == 0 else f"{label}, retry {attempt}"), strict=True
        ):
            if isinstance(reply, Failure):
                results[i] = Written(None, reply.reason, reply.detail)
            else:
                sections = template.read(reply.text)
                results[i] = Written(read_last(sections)) if sections else Written(None, "unreadable", reply.text[:200])
            if results[i].text is None and not (isinstance(reply, Failure) and reply.may_pass):
                again.append(i)
        waiting = again
        if not waiting:
            break
    return results


def _problem(base: Written, critique: Written, candidates: list[Written]) -> tuple[str, Written] | None:
    if base.text is None:
        return "answer", base
    if critique.text is None:
        return "critique", critique
    if all(c.text is None for c in candidates):
        return "revision", candidates[0]
    return None


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
