"""Open-ended attributes: by rule and from lists, or written by the language model in the role `enricher`.

Without a model the job description follows from the census codes and the rest was drawn from the curated lists; a persona is complete so.
With a model, some of five categories are asked for, in one request a persona. What comes back is validated, repaired once, and otherwise
left out: the rule and the lists stand, and the ledger says why.
"""

from collections.abc import Sequence
from dataclasses import asdict
from itertools import combinations
from typing import Any

from builder.llm.drawing import draw_until_readable
from builder.llm.messages import Answer, ChatRequest, Failure, Message, Sampling
from builder.llm.templates import PromptTemplate, load_template
from builder.personas.candidate import Candidate
from builder.personas.profile import profile_lines
from builder.personas.psychographics import LISTS
from builder.personas.written import TOPICS, clean, find_defects, word_of
from builder.randomness import rng_for
from builder.recipe import BuildRecipe
from builder.schema import ATTRIBUTES

TEMPLATE, REPAIR_TEMPLATE = "enrich_persona", "repair_enrichment"
# Category (a section of the templates) -> the attribute that it fills.
WRITTEN = {
    "job": "detailed_job_description",
    "lifestyle": "lifestyle",
    "personal_time": "personal_time",
    "quirk": "defining_quirks",
    "mannerism": "mannerisms",
}
# Beliefs stay out of what the writer sees: a lifestyle made from a party would be a stereotype, and would leak the attribute.
HIDDEN = ("political_views", "ideology", "religion")
YOUNGEST, YOUNGEST_AT_WORK = 6, 16
MAX_RETRIES = 3


def enrich(candidates: Sequence[Candidate], recipe: BuildRecipe, calls: Any) -> list[dict[str, str]]:
    """Let the enricher write open-ended attributes in place (provenance `lm`); what stood there before goes to `unwritten`.

    calls: `generate("enricher", requests, label)`. Returns ledger entries {"stage", "item", "reason", "detail"}: one for every candidate
    without a reply, and one for every attribute whose phrase could not be used even after the repair.
    """
    count = recipe.personas.enrichment_categories
    asked = {c.key: choose_categories(c.position, c.record["AGEP"], count, recipe.seed) for c in candidates}
    waiting = [candidate for candidate in candidates if asked[candidate.key]]
    replies, ledger = ask(waiting, asked, recipe, calls)

    defects: dict[str, dict[str, dict[str, str]]] = {}
    answered = [candidate for candidate in waiting if candidate.key in replies]
    for candidate in answered:
        categories = asked[candidate.key]
        request = describe(load_template(TEMPLATE), candidate, categories)
        defects[candidate.key] = take_over(candidate, categories, replies[candidate.key], request)
    faulty = [candidate for candidate in answered if defects[candidate.key]]
    requests = [repair_messages(c, asked[c.key], replies[c.key], defects[c.key]) for c in faulty]
    for candidate, request, reply in zip(faulty, requests, ask_for_repair(requests, recipe, calls), strict=True):
        if isinstance(reply, Answer):
            open_categories = tuple(defects[candidate.key])
            defects[candidate.key] = take_over(candidate, open_categories, reply.text, request)
    for candidate in faulty:
        for category, found in defects[candidate.key].items():
            detail = f"{WRITTEN[category]} {'; '.join(found.values())}; the value that was there stands"
            ledger.append(ledger_entry(candidate, next(iter(found)), detail))
    return ledger


def choose_categories(position: int, age: int, count: int, seed: int) -> tuple[str, ...]:
    """`count` of the categories that suit the age, in the template's order; none for children under six, no job under sixteen.

    The combinations come in blocks that hold each once, in a seeded order. So over every block of draw positions each category, and each
    pair of categories, is asked for equally often, and a larger build goes on where a smaller one ended.
    """
    if age < YOUNGEST:
        return ()
    suitable = [category for category in WRITTEN if category != "job" or age >= YOUNGEST_AT_WORK]
    choices = list(combinations(suitable, min(count, len(suitable))))
    block, place = divmod(position, len(choices))
    order = rng_for(seed, "persona_enrichment", f"{len(suitable)} choose {count}, block {block}").permutation(
        len(choices)
    )
    return choices[int(order[place])]


def ask(
    waiting: Sequence[Candidate], asked: dict[str, tuple[str, ...]], recipe: BuildRecipe, calls: Any
) -> tuple[dict[str, str], list[dict[str, str]]]:
    """The replies by candidate's key, and ledger entries for candidates without one.

    A reply that was cut off or refused, or in which no part can be told from another, is asked for again up to `MAX_RETRIES` times.
    """
    template = load_template(TEMPLATE)
    requests = [make_request(template, describe(template, c, asked[c.key]), recipe) for c in waiting]

    def with_a_part(place: int, text: str) -> str | None:
        wanted = asked[waiting[place].key]
        return None if set(wanted).isdisjoint(template.read_present(text)) else text

    drawn = draw_until_readable(calls, "enricher", requests, with_a_part, MAX_RETRIES, "personas: enrichment")
    replies = {c.key: d.read for c, d in zip(waiting, drawn, strict=True) if d.read is not None}
    return replies, [
        ledger_entry(
            candidate,
            d.failure,
            f"{', '.join(asked[candidate.key])} not written, the values that were there stand; {why_useless(d.reply)}",
        )
        for candidate, d in zip(waiting, drawn, strict=True)
        if d.read is None
    ]


def why_useless(reply: Answer | Failure) -> str:
    return reply.detail if isinstance(reply, Failure) else f"not the form of the template: {reply.text[:120]!r}"


def repair_messages(
    candidate: Candidate, categories: tuple[str, ...], reply: str, defects: dict[str, dict[str, str]]
) -> tuple[Message, ...]:
    """The first request, the reply to it, and what is wrong with that."""
    complaints = {category: "; ".join(found.values()) for category, found in defects.items()}
    return (
        *describe(load_template(TEMPLATE), candidate, categories),
        {"role": "assistant", "content": reply},
        *load_template(REPAIR_TEMPLATE).render(defects=complaints),
    )


def ask_for_repair(requests: Sequence[tuple[Message, ...]], recipe: BuildRecipe, calls: Any) -> list[Any]:
    """One reply each, whatever it is: there is no second repair."""
    if not requests:
        return []
    template = load_template(REPAIR_TEMPLATE)
    return calls.generate(
        "enricher", [make_request(template, m, recipe) for m in requests], "personas: repair of the enrichment"
    )


def describe(template: PromptTemplate, candidate: Candidate, categories: tuple[str, ...]) -> tuple[Message, ...]:
    """The messages that ask for `categories`. What is to be written is not shown, nor what speaks of a belief."""
    replaced = {WRITTEN[category] for category in categories}
    values = candidate.attributes.values
    telling = [name for name in LISTS if any(word_of(topic, values[name] or "") for topic in ("politics", "religion"))]
    shown = [name for name in ATTRIBUTES if name not in (*HIDDEN, *replaced, *telling)]
    return template.render(profile="\n".join(profile_lines(values, shown)), categories=categories)


def make_request(template: PromptTemplate, messages: tuple[Message, ...], recipe: BuildRecipe) -> ChatRequest:
    return ChatRequest(messages, Sampling(**asdict(recipe.personas.enrichment_sampling)), template.label, recipe.seed)


def take_over(
    candidate: Candidate, categories: tuple[str, ...], reply: str, request: tuple[Message, ...]
) -> dict[str, dict[str, str]]:
    """Put the phrases of `categories` that can be used; returns the defects of the others by category."""
    template = load_template(TEMPLATE)
    given = "\n".join(message["content"] for message in request if message["role"] != "assistant")
    sections = template.read_present(reply)
    written = [candidate.attributes.values[name] for name in candidate.unwritten]
    defects = {}
    for category in categories:
        phrase = clean(sections.get(category, ""))
        # A phrase that repeats another one of the same persona says nothing new.
        found = find_defects(phrase, "\n".join([given, *written]), template.markers, closed_topics(candidate, category))
        if found:
            defects[category] = found
            continue
        attribute = WRITTEN[category]
        candidate.unwritten[attribute] = candidate.attributes.values[attribute]
        candidate.attributes.put(attribute, phrase, "lm")
        written.append(phrase)
    return defects


def closed_topics(candidate: Candidate, category: str) -> tuple[str, ...]:
    """What a phrase must not speak of. Work may be with patients or money, and the work of a pastor is what it is; a disability that is
    described may be spoken of."""
    values = candidate.attributes.values
    if category == "job":
        work = f"{values['occupation_category']} {values['industry_category']}"
        return tuple(topic for topic in ("politics", "religion") if not word_of(topic, work))
    return tuple(topic for topic in TOPICS if topic != "health" or values["disability"] is None)


def ledger_entry(candidate: Candidate, reason: str, detail: str) -> dict[str, str]:
    return {"stage": "personas", "item": candidate.key, "reason": reason, "detail": detail}
