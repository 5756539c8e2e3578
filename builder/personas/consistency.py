"""Consistency of personas: by rules, and by the language model in the role `checker`; after sampling and after enrichment.

A contradiction is mended where something in it was sampled or written: what was written is taken back, what was sampled is drawn again.
Who cannot be mended is turned away. The shares are reported and never aimed at.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from builder.llm.drawing import UNREADABLE
from builder.llm.messages import Answer, ChatRequest, Failure, Sampling
from builder.llm.templates import PromptTemplate, load_template
from builder.personas.candidate import Candidate
from builder.personas.profile import label, profile_lines
from builder.personas.psychographics import EXTRAS, redraw
from builder.personas.rules import REPAIRABLE, broken_rules
from builder.recipe import BuildRecipe

TEMPLATE = "check_persona"
MAX_REPAIRS = 3  # by the rules, of one candidate in one check
MAX_RETRIES = 3  # of a verdict that cannot be used
MAX_TOKENS = 300
ACTIONS = ("passed", "repaired", "unanswered")  # and how the check calls those whom it turns away


@dataclass
class Checked:
    """kept: in order of position.

    log: {"checked", "passed", "repaired", "resampled" or "dropped", "unanswered": candidates, "rates": {action: share of those checked},
        "reasons": {action: {reason: candidates}}}. Each candidate counts once: checked = passed + repaired + turned away + unanswered.
        `unanswered` are kept: the checker gave no verdict that could be used, also where something was mended before.
    ledger: {"stage", "item", "reason", "detail"}, one entry for every candidate that did not simply pass.
    """

    kept: list[Candidate]
    log: dict[str, Any]
    ledger: list[dict[str, str]]


@dataclass
class Outcome:
    """What became of one candidate, the reason of the last thing that happened to it, and all that happened in words."""

    action: str = "passed"
    reason: str = ""
    history: list[str] = field(default_factory=list)
    repairs: int = 0

    def set(self, action: str, reason: str, detail: str) -> None:
        self.action, self.reason = action, reason
        self.history.append(f"{action}: {detail}")


@dataclass(frozen=True)
class Verdict:
    """consistent: None where no verdict could be had; then `failure` names why. attributes: those that contradict each other."""

    consistent: bool | None
    attributes: tuple[str, ...] = ()
    reason: str = ""
    failure: str = ""


def check_after_sampling(candidates: Sequence[Candidate], recipe: BuildRecipe, calls: Any) -> Checked:
    """Those who are turned away are `resampled`: the caller takes the next record of the draw."""
    return check(candidates, recipe, calls, "after sampling", "resampled")


def check_after_enrichment(candidates: Sequence[Candidate], recipe: BuildRecipe, calls: Any) -> Checked:
    """Those who are turned away are `dropped`."""
    return check(candidates, recipe, calls, "after enrichment", "dropped")


def check(candidates: Sequence[Candidate], recipe: BuildRecipe, calls: Any, stage: str, turned_away: str) -> Checked:
    """Check and mend the candidates in place: by the rules, then, with consistency `lm`, by the checker.

    calls: `generate("checker", requests, label)`.
    """
    people = sorted(candidates, key=lambda candidate: candidate.position)
    outcomes = {candidate.key: Outcome() for candidate in people}
    for candidate in people:
        mend_by_rules(candidate, outcomes[candidate.key], recipe.seed, stage, turned_away)
    if recipe.personas.consistency == "lm":
        mend_by_checker(people, outcomes, recipe, calls, stage, turned_away)
    return Checked(
        kept=[candidate for candidate in people if outcomes[candidate.key].action != turned_away],
        log=count_outcomes(outcomes.values(), turned_away),
        ledger=[
            {
                "stage": "personas",
                "item": key,
                "reason": outcome.reason,
                "detail": f"{stage}, {'; '.join(outcome.history)}",
            }
            for key, outcome in outcomes.items()
            if outcome.action != "passed"
        ],
    )


def mend_by_rules(candidate: Candidate, outcome: Outcome, seed: int, stage: str, turned_away: str) -> None:
    for number in range(MAX_REPAIRS + 1):
        broken = broken_rules(candidate)
        if not broken:
            return
        before = [shown_values(candidate, b.between) for b in broken]
        hopeless = next((n for n, b in enumerate(broken) if not b.repair), None)
        names = dict.fromkeys(name for b in broken for name in b.repair)
        if hopeless is not None or number == MAX_REPAIRS or not repair(candidate, names, outcome, seed, stage):
            rule = broken[hopeless or 0].rule
            outcome.set(turned_away, rule.name, f"{rule.reason} ({before[hopeless or 0]})")
            return
        for b, values in zip(broken, before, strict=True):
            outcome.set("repaired", b.rule.name, f"{b.rule.reason} ({values} -> {shown_values(candidate, b.repair)})")


def mend_by_checker(
    people: Sequence[Candidate],
    outcomes: dict[str, Outcome],
    recipe: BuildRecipe,
    calls: Any,
    stage: str,
    turned_away: str,
) -> None:
    """What the checker finds inconsistent is mended where it can be, and read by it once more."""
    standing = [candidate for candidate in people if outcomes[candidate.key].action != turned_away]
    mended = []
    for candidate, verdict in zip(standing, ask_checker(standing, recipe, calls, stage), strict=True):
        outcome = outcomes[candidate.key]
        if verdict.consistent is None:
            outcome.set("unanswered", verdict.failure, verdict.reason)
        elif not verdict.consistent:
            values = shown_values(candidate, verdict.attributes)
            names = [name for name in verdict.attributes if can_be_repaired(candidate, name)]
            if not repair(candidate, names, outcome, recipe.seed, stage):
                outcome.set(turned_away, "checker", f"{verdict.reason} ({values})")
                continue
            outcome.set("repaired", "checker", f"{verdict.reason} ({values} -> {shown_values(candidate, names)})")
            mend_by_rules(candidate, outcome, recipe.seed, stage, turned_away)
            mended += [candidate] if outcome.action != turned_away else []
    for candidate, verdict in zip(mended, ask_checker(mended, recipe, calls, f"{stage}, mended"), strict=True):
        outcome = outcomes[candidate.key]
        if verdict.consistent is None:
            outcome.set("unanswered", verdict.failure, verdict.reason)
        elif not verdict.consistent:
            values = shown_values(candidate, verdict.attributes)
            outcome.set(turned_away, "checker_after_repair", f"{verdict.reason} ({values})")


def can_be_repaired(candidate: Candidate, name: str) -> bool:
    if name in candidate.unwritten or name in EXTRAS:
        return True
    return name in REPAIRABLE and candidate.attributes.provenance[name] in ("sampled", "repaired")


def repair(candidate: Candidate, names: Iterable[str], outcome: Outcome, seed: int, stage: str) -> list[str]:
    """Take back what was written and draw again what was sampled, with provenance `repaired`; returns what was changed."""
    names = list(names)
    taken_back = [name for name in names if name in candidate.unwritten]
    for name in taken_back:
        candidate.attributes.put(name, candidate.unwritten.pop(name), "repaired")
    outcome.repairs += 1
    drawn = redraw(
        [name for name in names if name not in taken_back],
        candidate.attributes,
        candidate.extras,
        candidate.record,
        candidate.facts,
        seed,
        f"{candidate.key}|{stage}, repair {outcome.repairs}",
    )
    return taken_back + drawn


def ask_checker(candidates: Sequence[Candidate], recipe: BuildRecipe, calls: Any, stage: str) -> list[Verdict]:
    """A verdict on each. One that cannot be read, was cut off or refused, or names no attribute, is asked for again."""
    template = load_template(TEMPLATE)
    verdicts = [Verdict(None)] * len(candidates)
    waiting = list(range(len(candidates)))
    for attempt in range(MAX_RETRIES + 1):
        if not waiting:
            break
        requests = [make_request(template, candidates[i], recipe.seed, attempt) for i in waiting]
        again = []
        for i, reply in zip(waiting, calls.generate("checker", requests, f"personas: check {stage}"), strict=True):
            verdicts[i] = read_verdict(template, reply, candidates[i])
            if verdicts[i].consistent is None and (not isinstance(reply, Failure) or reply.worth_another_attempt):
                again.append(i)
        waiting = again
    return verdicts


def make_request(template: PromptTemplate, candidate: Candidate, seed: int, attempt: int) -> ChatRequest:
    return ChatRequest(
        messages=template.render(persona="\n".join(describe(candidate))),
        # The likeliest verdict; what cannot be used is drawn anew, as the likeliest would come out the same.
        sampling=Sampling(MAX_TOKENS, temperature=0.7 if attempt else 0.0),
        template=template.label,
        seed=seed,
        attempt=attempt,
    )


def describe(candidate: Candidate) -> list[str]:
    """All that has a value, one line each, so that no text can pass for another attribute or for the end of the description."""
    extras = {name: ", ".join(phrases) for name, phrases in candidate.extras.items() if phrases}
    return [*profile_lines(candidate.attributes.values), *profile_lines(extras, list(extras))]


def read_verdict(template: PromptTemplate, reply: Answer | Failure, candidate: Candidate) -> Verdict:
    if isinstance(reply, Failure):
        return Verdict(None, reason=reply.detail, failure=reply.reason)
    sections = template.read(reply.text)
    if sections is None:
        return Verdict(None, reason=f"not the form of the template: {reply.text[:120]!r}", failure=UNREADABLE)
    reason = " ".join(sections["reason"].split())[:300]
    if sections["verdict"] == "consistent":
        return Verdict(True, reason=reason)
    attributes = read_names(sections["attributes"], candidate)
    if not attributes:
        return Verdict(None, reason=reason, failure="names_no_attribute")
    return Verdict(False, attributes, reason)


def read_names(section: str, candidate: Candidate) -> tuple[str, ...]:
    """The attributes that a list names as they were shown; anything else in it is ignored."""
    values = candidate.attributes.values | candidate.extras
    by_label = {label(name).lower(): name for name, value in values.items() if value is not None}
    found = []
    for part in re.split(r"[,;\n]", section):
        # "Age and income" are two, "Family presence and age" is one.
        for named in (part, *part.split(" and ")):
            name = re.split(r"[:(]", named)[0].replace("_", " ").strip(" \t*-.\"'`").lower()
            if name in by_label:
                found.append(by_label[name])
                if named is part:
                    break
    return tuple(dict.fromkeys(found))


def shown_values(candidate: Candidate, names: Iterable[str]) -> str:
    values = candidate.attributes.values | candidate.extras
    return ", ".join(f"{name}: {values[name]}" for name in names)


def count_outcomes(outcomes: Iterable[Outcome], turned_away: str) -> dict[str, Any]:
    everyone = list(outcomes)
    counts = Counter(outcome.action for outcome in everyone)
    reasons: dict[str, Counter[str]] = {}
    for outcome in everyone:
        if outcome.action != "passed":
            reasons.setdefault(outcome.action, Counter())[outcome.reason] += 1
    return make_log({"checked": len(everyone), **{a: counts[a] for a in (*ACTIONS, turned_away)}}, reasons)


def add_logs(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """The log of two rounds of the same check."""
    counts = {name: first[name] + second[name] for name in first if name not in ("rates", "reasons")}
    reasons = {
        action: Counter(first["reasons"].get(action, {})) + Counter(second["reasons"].get(action, {}))
        for action in {*first["reasons"], *second["reasons"]}
    }
    return make_log(counts, reasons)


def make_log(counts: dict[str, int], reasons: dict[str, Counter[str]]) -> dict[str, Any]:
    return {
        **counts,
        "rates": {
            name: n / counts["checked"] if counts["checked"] else 0.0 for name, n in counts.items() if name != "checked"
        },
        "reasons": {action: dict(sorted(reasons[action].items())) for action in sorted(reasons)},
    }
