"""`persona eval side-effects`: what showing a persona does to a model beside what it is shown for. One result a model.

Every item is put to the model three times, under the persona's own profile, without one, and under the wrong persona's. Answers are drawn
for each item anew, without a persona too, so that two answers to one question differ by chance under every condition alike.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from builder.errors import InputError
from builder.llm.budget import Budget
from builder.llm.calls import ModelCalls
from builder.llm.drawing import draw_until_readable
from builder.llm.messages import ChatRequest
from builder.randomness import rng_for, seed_for
from eval.calls import MODEL_ROLE, check_all_answered, open_calls, spent
from eval.items import Item, Persona, draw_items, load_personas
from eval.language_models import LanguageModel, find_language_models
from eval.provenance import dataset_identity, provenance
from eval.results import Result, digest, finished_result, write_result
from eval.rows import content_hash
from eval.side_effects.agreement_seeking import ARMS
from eval.side_effects.asking import (
    ANSWER_RETRIES,
    CHOICE_SAMPLING,
    SAMPLING_IN_PROCESS,
    SAMPLING_OF_ENDPOINTS,
    Asked,
    ask_choices,
    text_of,
)
from eval.side_effects.content import (
    ANSWER_COLUMNS,
    CHOICE_COLUMNS,
    PERSONA_COLUMNS,
    Tables,
    content_of,
    scored_rows,
)
from eval.side_effects.groups import SIDE, groups_of
from eval.side_effects.probes import SIDES, load_facts, load_opinions, load_requests
from eval.side_effects.refusals import REFUSED
from eval.side_effects.section import printed
from eval.tables import write_table
from training.conditioning import CONDITIONS, persona_messages, template_hash
from training.profiles import stated_attributes

PERSONAS_A_QUESTION = 10  # answers to one question are compared between personas, so several must get it
TEMPLATES = ("side_opinion", "side_opinion_reported", "side_fact")
AGREEMENT = ("yes", "no")

Row = dict[str, Any]


def run_side_effects(
    dataset: Path,
    models: Sequence[str],
    out: Path,
    *,
    limit: int | None = 200,
    base_model: str | None = None,
    seed: int = 0,
    budget: Budget | None = None,
    dry_run: bool = False,
    command: str | None = None,
) -> str:
    """The table to print. limit: at most so many items of each kind: questions, requests, opinions and facts, each with its persona.

    Raises InputError for a model that does not exist, two of one name, or a dataset without test rows.
    """
    found = find_language_models(models)
    items = draw_by_question(draw_items(dataset, None, seed), limit, seed)
    personas = load_personas(dataset)
    budget = budget or Budget()
    said = [
        _evaluate(dataset, model, items, personas, out, limit, base_model, seed, budget, dry_run, command)
        for model in found
    ]
    return "\n\n".join(said)


def draw_by_question(items: Sequence[Item], limit: int | None, seed: int) -> list[Item]:
    """At most `limit` items, question by question, each first with PERSONAS_A_QUESTION personas; sorted by key.

    Without a limit no question has more, because the answers to a question are compared pair by pair.
    """
    if limit is not None and limit < 1:
        raise InputError(f"The number of items is {limit}; give at least 1, or leave it out for all.")
    by_question: dict[str, list[Item]] = {}
    for item in sorted(items, key=lambda item: (seed_for(seed, "eval/side_effects/items", item.key), item.key)):
        by_question.setdefault(item.prompt_id, []).append(item)
    questions = sorted(by_question, key=lambda name: (seed_for(seed, "eval/side_effects/questions", name), name))
    drawn = [item for name in questions for item in by_question[name][:PERSONAS_A_QUESTION]]
    if limit is not None and limit > len(drawn):
        drawn += [item for name in questions for item in by_question[name][PERSONAS_A_QUESTION:]]
    return sorted(drawn[:limit], key=lambda item: item.key)


def stated_by(persona: Persona) -> dict[str, str]:
    """Attribute -> value as the profile shows it; of a profile that is not written in lines, the published values."""
    try:
        return stated_attributes(persona.profile)
    except InputError:
        return {name: str(value) for name, value in persona.values.items() if isinstance(value, str | int)}


def rescored(result: Result, folder: Path, judges: Mapping[str, Any]) -> Result:
    """The same result with its figures computed anew from the kept tables. No judge has a part in it."""
    import dataclasses

    from eval.tables import read_table

    tables = Tables(*(read_table(folder / name) for name in _file_names(result.name)))
    return dataclasses.replace(result, content=content_of(tables, result.seed), rows=scored_rows(tables))


def _evaluate(
    dataset: Path,
    model: LanguageModel,
    items: Sequence[Item],
    personas: Mapping[str, Persona],
    out: Path,
    limit: int | None,
    base_model: str | None,
    seed: int,
    budget: Budget,
    dry_run: bool,
    command: str | None,
) -> str:
    name = f"side_effects-{model.name}"
    calls = open_calls(out, model=model, base_model=base_model, budget=budget, dry_run=dry_run)
    endpoint = model.recipe.provider == "openai"
    sampling = SAMPLING_OF_ENDPOINTS if endpoint else SAMPLING_IN_PROCESS
    parser = "markers" if endpoint else "verdict_tokens"
    templates = provenance(None, TEMPLATES)["templates"]
    settings = {
        "limit": limit,
        "sampling": asdict(sampling),
        "choice_sampling": asdict(CHOICE_SAMPLING) if endpoint else None,
        "parser": parser,
        "conditioning": asdict(model.conditioning),
        "personas_a_question": PERSONAS_A_QUESTION,
    }
    probes = [[asdict(item) for item in load()] for load in (load_opinions, load_facts, load_requests)]
    fingerprint = {
        "dataset": content_hash(dataset),
        "model": calls.client(MODEL_ROLE).identity,
        "settings": settings,
        "seed": seed,
        "templates": [*templates, template_hash(model.conditioning)],
        "probes": digest(probes),
    }
    if not dry_run and (kept := finished_result(out, name, fingerprint)):
        return printed(kept)
    tables = _ask_all(calls, model, items, personas, limit, seed, sampling, parser)
    if dry_run:
        return spent(calls)
    check_all_answered(calls)
    files: dict[str, str] = {}
    for file, rows, types in zip(
        _file_names(name),
        (tables.answers, tables.choices, tables.personas),
        (ANSWER_COLUMNS, CHOICE_COLUMNS, PERSONA_COLUMNS),
        strict=True,
    ):
        files |= write_table(out, file, rows, types)
    result = Result(
        evaluation="side_effects",
        name=name,
        description=f"Side effects of personas shown to {model.name}",
        fingerprint=fingerprint,
        dataset=dataset_identity(dataset, {"items": len(items), "personas": len(tables.personas)}),
        subject={"name": model.name, **model.facts},
        judges=[],
        settings=settings,
        seed=seed,
        provenance=provenance(command, TEMPLATES, calls),
        rows=scored_rows(tables),
        files=files,
        content=content_of(tables, seed),
    )
    write_result(out, result)
    return f"{printed(result)}\n{spent(calls)}"


def _file_names(name: str) -> tuple[str, str, str]:
    return f"{name}.answers.parquet", f"{name}.choices.parquet", f"{name}.personas.parquet"


def _ask_all(
    calls: ModelCalls,
    model: LanguageModel,
    items: Sequence[Item],
    personas: Mapping[str, Persona],
    limit: int | None,
    seed: int,
    sampling: Any,
    parser: str,
) -> Tables:
    wrong = {item.persona_id: item.wrong_persona_id for item in reversed(items)}
    shown = sorted({*wrong, *(item.wrong_persona_id for item in items)})
    if missing := [persona for persona in shown if persona not in personas]:
        raise InputError(
            f"The personas config lacks {missing[0]}, which a test row names ({len(missing)} in all). Publish the dataset again."
        )
    stated = {persona: stated_by(personas[persona]) for persona in shown}
    profiles = {persona: personas[persona].profile for persona in shown}
    questions = [
        {
            "probe": "question",
            "item_id": item.key,
            "persona_id": item.persona_id,
            "wrong_persona_id": item.wrong_persona_id,
            "question": item.question,
        }
        for item in items
    ]
    requests = [
        {
            "probe": "request",
            "item_id": f"{persona}/{request.id}",
            "persona_id": persona,
            "wrong_persona_id": wrong[persona],
            "question": request.request,
        }
        for persona, request in _draw([(p, r) for p in sorted(wrong) for r in load_requests()], limit, seed)
    ]
    answers = _answers(calls, model, [*questions, *requests], profiles, seed, sampling)
    choices = _choices(
        calls, model, [*_opinions(wrong, stated, limit, seed), *_facts(wrong, limit, seed)], profiles, seed, parser
    )
    return Tables(
        answers,
        choices,
        [{"persona_id": persona, "stated": json.dumps(stated[persona], ensure_ascii=False)} for persona in shown],
    )


def _draw(pairs: Sequence[tuple[str, Any]], limit: int | None, seed: int) -> list[tuple[str, Any]]:
    """At most `limit` of the pairs of persona and probe item, sorted."""
    drawn = sorted(pairs, key=lambda pair: seed_for(seed, "eval/side_effects/probes", f"{pair[0]}/{pair[1].id}"))
    return sorted(drawn[:limit], key=lambda pair: (pair[0], pair[1].id))


def _answers(
    calls: ModelCalls,
    model: LanguageModel,
    rows: Sequence[Row],
    profiles: Mapping[str, str],
    seed: int,
    sampling: Any,
) -> list[Row]:
    asked = [row | {"condition": condition} for row in rows for condition in CONDITIONS]
    label = f"persona_messages@{template_hash(model.conditioning)[:12]}"
    requests = [
        ChatRequest(
            messages=_messages(model, row, profiles, row["question"]),
            sampling=sampling,
            template=label,
            seed=seed,
            # Each item's own draw: without a persona the messages of two items on one question are the same.
            sample_index=seed_for(0, "eval/side_effects/draw", row["item_id"]) % 2**31,
        )
        for row in asked
    ]
    # A refusal is a finding here, not a reply of no use.
    replies = draw_until_readable(
        calls, MODEL_ROLE, requests, lambda _, text: text, ANSWER_RETRIES, "answering", final=(REFUSED,)
    )
    return [
        row
        | {
            "answer": one.reply.text,
            "tokens": one.reply.usage.completion_tokens,
            "failure": one.failure,
        }
        for row, one in zip(asked, replies, strict=True)
    ]


def _opinions(
    wrong: Mapping[str, str], stated: Mapping[str, Mapping[str, str]], limit: int | None, seed: int
) -> list[Row]:
    """Opinions on which the persona's group is known to have a side."""
    groups = {persona: groups_of(stated[persona]) for persona in wrong}
    opinions = load_opinions()
    pairs = [(persona, o) for persona in sorted(wrong) for o in opinions if groups[persona].get(o.about) in SIDE]
    rows = []
    for persona, opinion in _draw(pairs, limit, seed):
        side = SIDE[groups[persona][opinion.about]]
        other = next(name for name in SIDES if name != side)
        for arm in ARMS:
            statement = getattr(opinion, side if arm.startswith("own") else other)
            template = "side_opinion_reported" if arm.endswith("reported") else "side_opinion"
            rows.append(
                {
                    "probe": "opinion",
                    "item_id": f"{persona}/{opinion.id}",
                    "persona_id": persona,
                    "wrong_persona_id": wrong[persona],
                    "arm": arm,
                    "template": template,
                    "text": text_of(template, statement=statement),
                    "words": AGREEMENT,
                    "right": "yes",
                }
            )
    return rows


def _facts(wrong: Mapping[str, str], limit: int | None, seed: int) -> list[Row]:
    rows = []
    for persona, fact in _draw([(p, f) for p in sorted(wrong) for f in load_facts()], limit, seed):
        item = f"{persona}/{fact.id}"
        menu = (fact.answer, *fact.others)
        order = rng_for(seed, "eval/side_effects/menu", item).permutation(len(menu))
        words = tuple(menu[place] for place in order)
        options = "\n".join(f"- {word}" for word in words)
        rows.append(
            {
                "probe": "fact",
                "item_id": item,
                "persona_id": persona,
                "wrong_persona_id": wrong[persona],
                "arm": "fact",
                "template": "side_fact",
                "text": text_of("side_fact", question=fact.question, options=options),
                "words": words,
                "right": fact.answer,
            }
        )
    return rows


def _choices(
    calls: ModelCalls,
    model: LanguageModel,
    rows: Sequence[Row],
    profiles: Mapping[str, str],
    seed: int,
    parser: str,
) -> list[Row]:
    put = [row | {"condition": condition} for row in rows for condition in CONDITIONS]
    asked = [Asked(_messages(model, row, profiles, row["text"]), row["template"], row["words"]) for row in put]
    said = ask_choices(calls, asked, parser, seed, "choosing")
    return [
        row | {"parser": parser, "menu": json.dumps(list(row["words"])), "raw": reply.raw, "failure": reply.failure}
        for row, reply in zip(put, said, strict=True)
    ]


def _messages(model: LanguageModel, row: Row, profiles: Mapping[str, str], text: str) -> tuple[dict[str, str], ...]:
    persona = {"true": row["persona_id"], "none": None, "wrong": row["wrong_persona_id"]}[row["condition"]]
    return tuple(persona_messages(model.conditioning, None if persona is None else profiles[persona], text))
