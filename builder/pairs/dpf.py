"""`dpf` and `dpf_matched` pairs: for each assigned (persona, prompt) the revision that was written for the persona over the base answer
that was not.

Where the reviser drew several candidates, the first judge keeps the one it likes best for the persona. The functions here work on the
personas of one shard, from plain data to plain data, so that shards can run anywhere and in any order.
"""

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from builder.judge.judge import Comparison, Judge, Verdict, choose_best, compare, published_verdict
from builder.llm.messages import Failure
from builder.pairs.assignment import Assigned, wrong_persona
from builder.pairs.feedback import Written, answer_questions, write_critiques, write_revisions
from builder.pairs.flags import Statements, find_leak, statements_of
from builder.pairs.judge_check import check_row
from builder.pairs.judgements import judgement_rows
from builder.pairs.shard_result import ShardResult
from builder.recipe import BuildRecipe
from builder.schema import assistant_message, dpf_pair_id, preference_messages, split_for
from builder.tables import STAGE_OF_TABLE, arrow_table

Row = dict[str, Any]


@dataclass(slots=True)
class Draft:
    """One pair in the making. `candidates`: the usable revisions; `revision`: the one that was kept.

    `chosen_without_judge`: there was a choice, and the judge scored none of it.
    """

    pair_id: str
    persona: Row
    prompt: Row
    part: str
    base: Written
    critique: Written
    first: str | None = None  # the first revision drawn, if it can be used
    candidates: list[str] = field(default_factory=list)
    revision: str = ""
    chosen_without_judge: bool = False
    problem: tuple[str, str] | None = None  # (reason, detail) why there is no pair
    verdict: Verdict | None = None  # None: not judged


def build_pairs(
    recipe: BuildRecipe,
    calls: Any,
    judges: Sequence[Judge],
    personas: Sequence[Row],
    prompts: Sequence[Row],
    assigned: Sequence[Assigned],
    base: Mapping[str, Written],
    members: Mapping[str, Sequence[str]],
    checked: Collection[str] = frozenset(),
    config: str = "dpf",
) -> ShardResult:
    """One pair per assigned (persona, prompt) of a shard; a pair whose texts cannot be had goes to the ledger with its reason.

    Args:
        judges: the first chooses among candidates and judges the pairs; a second one answers in the judge check only.
        personas: rows of the shard's personas. prompts: rows of all prompts.
        base: the shared base answer of every prompt; not read with `pairs.base_answer: fresh`, which writes one for every pair.
        members: `members_by_group` of all personas of the build.
        checked: pair ids of the judge check (choose_check).
        config: `dpf`, or `dpf_matched` with the templates of `recipe.matched`.

    Returns: the columns of the config and `split`, in the order of persona and prompt ids. `inferable_attributes` is empty: it takes all
    pairs of the build to tell. details: {chosen_without_judge: ids of the pairs whose first candidate was taken because the judge said
    nothing that can be read}.
    """
    drafts = _write(recipe, calls, personas, prompts, assigned, base, config)
    _keep_best(calls, judges[0], drafts)
    complete = [d for d in drafts if d.problem is None]
    asked = complete if recipe.pairs.judged == "all" else [d for d in complete if d.pair_id in checked]
    comparisons = [_comparison(d, d.revision) for d in asked]
    verdicts = compare(judges[0], calls, comparisons, "judging revisions against base answers") if asked else []
    for draft, verdict in zip(asked, verdicts, strict=True):
        draft.verdict = verdict
    check, judgements = _check(recipe, calls, judges, [d for d in drafts if d.pair_id in checked])
    for draft, verdict in zip(asked, verdicts, strict=True):
        judgements += judgement_rows(judges[0], draft.pair_id, verdict)
    ledger = [
        {
            "stage": STAGE_OF_TABLE[config],
            "item": d.pair_id,
            "reason": d.problem[0],
            "detail": d.problem[1],
        }
        for d in drafts
        if d.problem is not None
    ]
    return ShardResult(
        table=arrow_table(config, _rows(recipe, calls, judges[0], complete, members, config)),
        counts={
            "in": len(drafts),
            "out": len(complete),
            "dropped": dict(sorted(Counter(entry["reason"] for entry in ledger).items())),
        },
        ledger=ledger,
        details={"chosen_without_judge": [d.pair_id for d in complete if d.chosen_without_judge]},
        judgements=judgements,
        check=check,
    )


def _write(
    recipe: BuildRecipe,
    calls: Any,
    personas: Sequence[Row],
    prompts: Sequence[Row],
    assigned: Sequence[Assigned],
    base: Mapping[str, Written],
    config: str,
) -> list[Draft]:
    """All texts of the pairs, in the order of persona and prompt ids."""
    persona_of = {p["persona_id"]: p for p in personas}
    prompt_of = {p["prompt_id"]: p for p in prompts}
    ordered = sorted(assigned, key=lambda a: (a.persona_id, a.prompt_id))
    profiles = [persona_of[a.persona_id]["profile"] for a in ordered]
    questions = [prompt_of[a.prompt_id]["question"] for a in ordered]
    if recipe.pairs.base_answer == "fresh":
        answers = answer_questions(recipe, calls, questions, [fresh_sample(a.persona_id) for a in ordered])
    else:
        answers = [base[a.prompt_id] for a in ordered]
    templates = recipe.matched if config == "dpf_matched" else recipe.pairs
    critiques = write_critiques(recipe, calls, templates.critique_template, profiles, questions, answers)
    revisions = write_revisions(recipe, calls, templates.revision_template, questions, answers, critiques)
    return [
        Draft(
            pair_id=dpf_pair_id(a.persona_id, a.prompt_id, config),
            persona=persona_of[a.persona_id],
            prompt=prompt_of[a.prompt_id],
            part=a.part,
            base=answer,
            critique=critique,
            first=candidates[0].text if candidates else None,
            candidates=[w.text for w in candidates if w.text is not None],
            problem=_problem(answer, critique, candidates),
        )
        for a, answer, critique, candidates in zip(ordered, answers, critiques, revisions, strict=True)
    ]


def fresh_sample(persona: str) -> int:
    """Which draw of the base answer is this persona's own: 1 + its number, so that it stays when personas come and go."""
    return 1 + int(persona.lstrip("p"))


def _problem(base: Written, critique: Written, candidates: list[Written]) -> tuple[str, str] | None:
    """(reason, detail) of the first text that could not be had; None if all are there.

    Of several candidates one is enough, unless the endpoint failed on another: that one would be there in the next run, and might be the
    best.
    """
    for stage, written in (("answer", base), ("critique", critique)):
        if written.text is None:
            return f"{stage}_{written.reason}", written.detail
    for candidate in candidates:
        if candidate.text is None and Failure(candidate.reason).may_pass:
            return f"revision_{candidate.reason}", candidate.detail
    if all(c.text is None for c in candidates):
        return f"revision_{candidates[0].reason}", candidates[0].detail
    return None


def _keep_best(calls: Any, judge: Judge, drafts: Sequence[Draft]) -> None:
    """Settle each draft's revision. The judge is asked only where there is a choice."""
    written = [d for d in drafts if d.problem is None]
    for draft in written:
        # A revision that changes nothing makes no pair, however much the judge may like it.
        draft.candidates = [text for text in draft.candidates if text != draft.base.text]
        if draft.candidates:
            draft.revision = draft.candidates[0]
        else:
            draft.problem = ("identical_texts", "")
    open_choices = [d for d in written if len(set(d.candidates)) > 1]
    items = [(d.persona["profile"], d.prompt["question"], d.candidates) for d in open_choices]
    best = choose_best(judge, calls, items, "choosing among revisions") if items else []
    for draft, choice in zip(open_choices, best, strict=True):
        draft.revision = draft.candidates[choice.index]
        draft.chosen_without_judge = not choice.judged
        if choice.may_pass:
            # Another candidate might win once the call succeeds.
            draft.problem = ("choice_endpoint_error", "")


def _comparison(draft: Draft, revision: str) -> Comparison:
    return Comparison(draft.persona["profile"], draft.prompt["question"], (revision, draft.base.text or ""))


def _check(
    recipe: BuildRecipe, calls: Any, judges: Sequence[Judge], drafts: Sequence[Draft]
) -> tuple[list[Row], list[Row]]:
    """(outcomes, judgements): every judge on the first revision drawn, before any choice, against the base answer.

    A pair is left out whose first revision could not be had or equals the base answer: a build with one candidate would not have it
    either. A judgement counts for the pair only if the pair's own revision was judged.
    """
    outcomes: list[Row] = []
    judgements: list[Row] = []
    usable = [d for d in drafts if d.first is not None and d.first != d.base.text]
    for judge in judges:
        # The pair's own verdict is not asked for twice.
        known = [judge is judges[0] and d.verdict is not None and d.first == d.revision for d in usable]
        open_drafts = [d for d, k in zip(usable, known, strict=True) if not k]
        comparisons = [_comparison(d, d.first or "") for d in open_drafts]
        new = iter(compare(judge, calls, comparisons, "judge check") if comparisons else [])
        for draft, is_known in zip(usable, known, strict=True):
            verdict = draft.verdict if is_known and draft.verdict is not None else next(new)
            split = split_for(draft.part, draft.persona["group"])
            outcomes.append(check_row(draft.pair_id, split, draft.persona, draft.prompt, judge, verdict, recipe))
            if not is_known and draft.first == draft.revision and draft.problem is None:
                judgements += judgement_rows(judge, draft.pair_id, verdict)
    return outcomes, judgements


def judge_preference(verdicts: Iterable[str | None], selected: bool) -> dict[str, Any]:
    """How often the judge prefers the revision, by the column `judge_verdict` (None: not judged). `selected`: it also chose among
    candidates, so the rate says nothing about revisions in general."""
    counts = Counter(verdicts)
    scored = counts["chosen"] + counts["rejected"] + counts["tie"]
    return {
        "n": scored,
        "preferred": counts["chosen"],
        "ties": counts["tie"],
        "unscored": counts["unscored"],
        "rate": counts["chosen"] / scored if scored else None,
        "judge_selected_the_revision": selected,
    }


def _rows(
    recipe: BuildRecipe,
    calls: Any,
    judge: Judge,
    complete: Sequence[Draft],
    members: Mapping[str, Sequence[str]],
    config: str,
) -> list[Row]:
    count = _token_counter(calls, complete)
    personas = {d.persona["persona_id"]: d.persona for d in complete}
    statements = {persona_id: statements_of(persona) for persona_id, persona in personas.items()}
    rows = []
    for d in complete:
        rejected = d.base.text or ""
        tokens = (
            count[d.persona["profile"]] + count[d.prompt["question"]],
            count[d.revision],
            count[rejected] if d.base.tokens is None else d.base.tokens,
        )
        judged = (None, None) if d.verdict is None else (published_verdict(d.verdict), d.verdict.score)
        texts = (d.revision, rejected, d.critique.text)
        known = statements[d.persona["persona_id"]]
        row = pair_row(recipe.seed, config, d.part, d.persona, d.prompt, texts, tokens, members, known)
        rows.append(row | {"judge": judge.label, "judge_verdict": judged[0], "judge_score": judged[1]})
    return rows


def pair_row(
    seed: int,
    config: str,
    part: str,
    persona: Row,
    prompt: Row,
    texts: tuple[str, str, str | None],
    tokens: tuple[int, int, int],
    members: Mapping[str, Sequence[str]],
    statements: Statements,
) -> Row:
    """A row without the judge's three columns. texts: chosen, rejected, critique. tokens: of prompt, chosen, rejected. statements:
    `statements_of(persona)`."""
    persona_id, prompt_id, group, question = (
        persona["persona_id"],
        prompt["prompt_id"],
        persona["group"],
        prompt["question"],
    )
    chosen, rejected, critique = texts
    prompt_tokens, chosen_tokens, rejected_tokens = tokens
    pair_id = dpf_pair_id(persona_id, prompt_id, config)
    return {
        "split": split_for(part, group),
        "pair_id": pair_id,
        "persona_id": persona_id,
        "prompt_id": prompt_id,
        "prompt": preference_messages(persona["profile"], question),
        "chosen": assistant_message(chosen),
        "rejected": assistant_message(rejected),
        "topic": prompt["topic"],
        "persona_group": group,
        "is_adult": persona["is_adult"],
        "wrong_persona_id": wrong_persona(seed, pair_id, (persona_id,), members[group]),
        "prompt_tokens": prompt_tokens,
        "chosen_tokens": chosen_tokens,
        "rejected_tokens": rejected_tokens,
        "length_violation": violates_length(config, chosen_tokens, rejected_tokens),
        "attribute_leak": find_leak(statements, chosen, (question, rejected)) is not None,
        "inferable_attributes": [],
        "base_id": f"base/{prompt_id}/{hashlib.sha256(rejected.encode('utf-8')).hexdigest()[:12]}",
        "critique": critique,
    }


def violates_length(config: str, chosen_tokens: int, rejected_tokens: int) -> bool:
    """Whether the revision disobeys its order about length. The paper's: fewer tokens than the base answer. In `dpf_matched`: about as
    many, which is read as within 20 % of the base answer's."""
    if config == "dpf_matched":
        return 5 * abs(chosen_tokens - rejected_tokens) > rejected_tokens
    return chosen_tokens >= rejected_tokens


def _token_counter(calls: Any, complete: Sequence[Draft]) -> dict[str, int]:
    """Tokens of every text whose tokens are not known yet, each counted once, by the generator's tokenizer (approximately for an
    endpoint)."""
    texts: dict[str, None] = {}
    for d in complete:
        texts[d.persona["profile"]] = texts[d.prompt["question"]] = texts[d.revision] = None
        if d.base.tokens is None:
            texts[d.base.text or ""] = None
    return dict(zip(texts, calls.count_tokens("generator", list(texts)), strict=True))
