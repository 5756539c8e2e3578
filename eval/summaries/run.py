"""`persona eval summaries`: what a model leaves out when it summarises a persona for a question (paper, section 5.3, Figure 11).

An attribute counts as kept where the summary holds its *value*; the name of the key alone is nothing (`lifestyle` occurs in summaries that
say nothing of it). A second way, with a model that lists the differences between profile and summary: an attribute counts as removed where
the list holds its value. Beside each rate: the same values looked for in the summary of another persona, and in the whole profile.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from builder.errors import InputError
from builder.judge.judge import Judge
from builder.llm.budget import Budget
from builder.llm.drawing import draw_until_readable
from builder.llm.messages import ChatRequest, Sampling
from builder.llm.templates import load_template
from eval.bench.modes import form_for, messages_of, sampling_for
from eval.calls import MODEL_ROLE, check_all_answered, open_calls, spent
from eval.items import Item, Persona, draw_items, load_personas
from eval.language_models import LanguageModel, find_language_models, model_recipe, recipe_facts, shown_persona_text
from eval.provenance import dataset_identity, provenance
from eval.results import SCHEMA_VERSION, Result, finished_result, row_counts, write_result
from eval.rows import content_hash
from eval.summaries.content import COLUMNS, SUMMARIES, content_of
from eval.summaries.section import printed
from eval.tables import read_table, write_table
from training.profiles import stated_attributes

EVALUATION = "summaries"
TEMPLATE = "bench_summary"  # the one that demographic_summary mode of the bench uses
DIFFER_ROLE = "differ"
DIFFERENCES = {"openai": "differences_marked"}  # by provider; else differences_plain
MAX_RETRIES = 2

Row = dict[str, Any]


def run_summaries(
    dataset: Path,
    given: Sequence[str],
    out: Path,
    *,
    differ: str | None = None,
    limit: int | None = 200,
    base_model: str | None = None,
    seed: int = 0,
    budget: Budget | None = None,
    dry_run: bool = False,
    command: str | None = None,
) -> str:
    """One result for each model of `given`. Returns the tables to print, of a dry run what it would cost.

    Raises InputError for a model that does not exist, two of one name, and for profiles that are not written in lines.
    """
    models = find_language_models(given)
    items, personas = draw_items(dataset, limit, seed), load_personas(dataset)
    said = []
    for model in models:
        differ_recipe = None if differ is None else model_recipe(differ)
        name = f"{EVALUATION}-{model.name}"
        more = {} if differ_recipe is None else {DIFFER_ROLE: differ_recipe}
        calls = open_calls(out, model=model, more=more, base_model=base_model, budget=budget, dry_run=dry_run)
        templates = [TEMPLATE]
        if differ_recipe is not None:
            templates.append(DIFFERENCES.get(differ_recipe.provider, "differences_plain"))
        fingerprint = {
            "schema": SCHEMA_VERSION,
            "dataset": content_hash(dataset),
            "model": [model.facts, calls.client(MODEL_ROLE).identity],
            "templates": [load_template(template).label for template in templates],
            "differ": None if differ_recipe is None else recipe_facts(differ_recipe),
            "limit": limit,
            "seed": seed,
        }
        if not dry_run and (kept := finished_result(out, name, fingerprint)):
            said.append(printed(kept))
            continue
        rows = _summarise(calls, model, items, personas, seed)
        if differ_recipe is not None:
            _list_differences(calls, rows, templates[-1], seed)
        if dry_run:
            said.append(spent(calls))
            continue
        check_all_answered(calls)
        result = Result(
            evaluation=EVALUATION,
            name=name,
            description=f"What {model.name} leaves out when it summarises a persona",
            fingerprint=fingerprint,
            dataset=dataset_identity(dataset, {"items": len(items)}),
            subject={"name": model.name, **model.facts},
            judges=[],
            settings={"limit": limit, "differ": fingerprint["differ"], "scripted": _scripted(model, differ_recipe)},
            seed=seed,
            provenance=provenance(command, templates, calls),
            rows=row_counts(row["failure"] or None for row in rows),
            files=write_table(out, f"{name}-{SUMMARIES}", rows, COLUMNS),
            content=content_of(rows, seed, differ is not None),
        )
        write_result(out, result)
        said.append(printed(result))
    return "\n\n".join(said)


def rescored(result: Result, folder: Path, judges: Mapping[str, Judge]) -> Result:
    """The same result by today's rules of matching. There is no judge in it."""
    rows = read_table(folder / f"{result.name}-{SUMMARIES}")
    return replace(result, content=content_of(rows, result.seed, result.settings["differ"] is not None))


def _summarise(
    calls: Any, model: LanguageModel, items: Sequence[Item], personas: Mapping[str, Persona], seed: int
) -> list[Row]:
    """A row for each item's own summary, and one for the summary of its wrong persona."""
    rows, requests = [], []
    sampling = sampling_for(form_for(model), 0.0, is_answer=False)
    for item in items:
        shown = {}
        for condition, persona in (("true", item.persona_id), ("wrong", item.wrong_persona_id)):
            if persona not in personas:
                raise InputError(
                    f"The personas config has no profile for {persona}, which {item.key} names. Publish again."
                )
            shown[condition] = shown_persona_text(model, personas[persona].profile, item.question)
        for condition, text in shown.items():
            messages = messages_of(TEMPLATE, model, text, item.question)
            requests.append(ChatRequest(messages, sampling, load_template(TEMPLATE).label, seed))
            rows.append(
                {
                    "item_id": f"{item.key}|{condition}",
                    "persona_id": item.persona_id,
                    "prompt_id": item.prompt_id,
                    "question": item.question,
                    "condition": condition,
                    "profile": _in_lines(shown["true"], personas[item.persona_id].profile),
                    "other_profile": _in_lines(shown["wrong"], personas[item.wrong_persona_id].profile),
                    "differences": "",
                    "differences_failure": "",
                }
            )
    for row, (text, failure) in zip(rows, _write(calls, MODEL_ROLE, requests, TEMPLATE, "summarising"), strict=True):
        row |= {"summary": text, "failure": failure}
    return rows


def _in_lines(shown: str | None, profile: str) -> str:
    """What of the profile the model was shown, in lines; the whole profile where it was shown as prose."""
    try:
        stated_attributes(shown or "")
    except InputError:
        stated_attributes(profile)
        return profile
    return shown or profile


def _list_differences(calls: Any, rows: Sequence[Row], template: str, seed: int) -> None:
    """Of own summaries: fills `differences` in."""
    asked = [row for row in rows if row["condition"] == "true" and not row["failure"]]
    requests = [
        ChatRequest(
            load_template(template).render(profile=row["profile"], summary=row["summary"]),
            Sampling(400, end_sentence_after=None if template == "differences_marked" else 160),
            load_template(template).label,
            seed,
        )
        for row in asked
    ]
    for row, (text, failure) in zip(asked, _write(calls, DIFFER_ROLE, requests, template, "comparing"), strict=True):
        row |= {"differences": text, "differences_failure": failure}


def _write(
    calls: Any, role: str, requests: Sequence[ChatRequest], template: str, progress: str
) -> list[tuple[str, str]]:
    """(text, why there is none) of each request. A reply that is of no use is drawn again, MAX_RETRIES times."""

    def read(_: int, text: str) -> str | None:
        return next(iter((load_template(template).read(text) or {}).values()), None)

    drawn = draw_until_readable(calls, role, requests, read, MAX_RETRIES, progress)
    return [(one.reply.text if one.read is None else one.read, one.failure) for one in drawn]


def _scripted(model: LanguageModel, differ: Any) -> bool:
    return model.scripted or (differ is not None and differ.provider == "scripted")
