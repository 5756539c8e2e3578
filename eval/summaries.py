"""`persona eval summaries`: what a model leaves out when it summarises a persona for a question (paper, section 5.3, Figure 11).

An attribute counts as kept where the summary holds its *value*; the name of the key alone is nothing (`lifestyle` occurs in summaries that
say nothing of it). A second way, with a model that lists the differences between profile and summary: an attribute counts as removed where
the list holds its value. Beside each rate: the same values looked for in the summary of another persona, and in the whole profile.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from builder.errors import InputError
from builder.judge.judge import Judge
from builder.lexical import words
from builder.llm.budget import Budget
from builder.llm.drawing import draw_until_readable
from builder.llm.messages import ChatRequest, Sampling
from builder.llm.templates import load_template
from builder.randomness import rng_for
from eval.bench.modes import form_for, messages_of, sampling_for
from eval.calls import MODEL_ROLE, check_all_answered, open_calls, spent
from eval.figures import bar_figure
from eval.items import Item, Persona, draw_items, load_personas
from eval.language_models import LanguageModel, find_language_model, model_recipe, recipe_facts, shown_persona_text
from eval.page import Cell, Example, Figure, Section, Table
from eval.printing import percent, percent_with_interval
from eval.provenance import dataset_identity, provenance
from eval.results import (
    SCHEMA_VERSION,
    Result,
    as_estimate,
    is_finished,
    read_result,
    result_path,
    row_counts,
    too_many_unscored,
    write_result,
)
from eval.rows import content_hash
from eval.tables import read_table, write_table
from eval.value_matching import holds_value, said_attributes
from training.estimates import estimate_columns
from training.profiles import label, stated_attributes

EVALUATION = "summaries"
TEMPLATE = "bench_summary"  # the one that demographic_summary mode of the bench uses
DIFFER_ROLE = "differ"
DIFFERENCES = {"openai": "differences_marked"}  # by provider; else differences_plain
MAX_RETRIES = 2
SUMMARIES = "summaries.parquet"
COLUMNS = {
    "item_id": "string",
    "persona_id": "string",
    "prompt_id": "string",
    "question": "string",
    "condition": "string",  # true: the persona's own summary; wrong: another persona's, for the same question
    "profile": "string",  # of persona_id, as the model was shown it under `true`
    "other_profile": "string",  # of the wrong persona
    "summary": "string",
    "failure": "string",
    "differences": "string",  # empty without --differ
    "differences_failure": "string",
}


NO_DIFFERENCE = frozenset(
    {"none", "no", "nothing", "no differences", "no difference", "there are no differences", "equivalent"}
)

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

    Raises InputError for a model that does not exist, and for profiles that are not written in lines.
    """
    models = [find_language_model(word) for word in given]
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
        if not dry_run and is_finished(out, name, fingerprint):
            said.append(summaries_table(read_result(result_path(out, name))))
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
        said.append(summaries_table(result))
    return "\n\n".join(said)


def rescored(result: Result, folder: Path, judges: Mapping[str, Judge]) -> Result:
    """The same result by today's rules of matching. There is no judge in it."""
    rows = read_table(folder / f"{result.name}-{SUMMARIES}")
    return replace(result, content=content_of(rows, result.seed, result.settings["differ"] is not None))


def content_of(rows: Sequence[Mapping[str, Any]], seed: int, with_differ: bool) -> dict[str, Any]:
    """All figures, from rows of COLUMNS. An attribute counts for the personas whose profile states it; `None`
    and `Not known` state nothing that a summary could hold.

    removed: share of own summaries without the value. removed_wrong: of another persona's summaries without it, where that persona has
    another value; difference: removed_wrong - removed. The nearer to 0, the less a summary says of its own persona.
    whole_profile: the share removed in the unabridged profile, 0 if the matching is sound. listed: share whose value the model's list
    of differences names.
    """
    own = {row["item_id"].rpartition("|")[0]: row for row in rows if row["condition"] == "true"}
    other = {row["item_id"].rpartition("|")[0]: row for row in rows if row["condition"] == "wrong"}
    keys = sorted(own)
    stated = [said_attributes(own[key]["profile"]) for key in keys]
    others = [said_attributes(own[key]["other_profile"]) for key in keys]
    names = list(dict.fromkeys(name for values in stated for name in values))
    cells = np.full((len(keys), len(names), 5), np.nan)
    for row, key in enumerate(keys):
        for place, name in enumerate(names):
            if (value := stated[row].get(name)) is not None:
                cells[row, place] = _cells(name, value, own[key], other.get(key), others[row].get(name))
    withheld = too_many_unscored(row_counts(row["failure"] or None for row in own.values()))
    kept = [own[key] for key in keys if not own[key]["failure"]]
    listed = [row for row in kept if with_differ and not row["differences_failure"]]
    content: dict[str, Any] = {
        "summaries": len(kept),
        "personas": len({row["persona_id"] for row in kept}),
        "withheld": withheld,
        "words": float(np.mean([len(words(row["summary"])) for row in kept])) if kept else None,
        "profile_words": float(np.mean([len(words(row["profile"])) for row in kept])) if kept else None,
        "nothing_removed": int(
            sum(np.nansum(cells[row, :, 0]) == 0 for row, key in enumerate(keys) if not own[key]["failure"])
        ),
        "differ": {
            "listed": len(listed),
            "unscored": row_counts(row["differences_failure"] or None for row in kept)["unscored"],
            "judged_equivalent": sum(_no_difference(row["differences"]) for row in listed),
        }
        if with_differ
        else None,
        "attributes": {},
    }
    if withheld:
        return content
    clusters = [(own[key]["persona_id"],) for key in keys]
    prompts = [own[key]["prompt_id"] for key in keys]
    for place, name in enumerate(names):
        content["attributes"][name] = _estimates(cells[:, place], clusters, prompts, seed, name)
    flat = cells.reshape(-1, cells.shape[2])
    repeated = [i for i in range(len(keys)) for _ in names]
    content["all"] = _estimates(flat, [clusters[i] for i in repeated], [prompts[i] for i in repeated], seed, "all")
    return content


MEASURES = ("removed", "removed_wrong", "whole_profile", "listed", "difference")


def _cells(
    name: str, value: str, own: Mapping[str, Any], other: Mapping[str, Any] | None, other_value: str | None
) -> list[float]:
    """In the order of MEASURES; NaN where it does not count."""
    removed = math.nan if own["failure"] else float(not holds_value(name, value, own["summary"]))
    elsewhere = math.nan
    if other is not None and not other["failure"] and other_value != value:
        elsewhere = float(not holds_value(name, value, other["summary"]))
    listed = math.nan
    if own["differences"] and not own["differences_failure"] and not own["failure"]:
        listed = float(holds_value(name, value, own["differences"]))
    return [removed, elsewhere, float(not holds_value(name, value, own["profile"])), listed, elsewhere - removed]


def _estimates(
    cells: np.ndarray, clusters: Sequence[tuple[str, ...]], prompts: Sequence[str], seed: int, name: str
) -> dict[str, Any]:
    counted = ~np.isnan(cells).all(axis=1)
    estimates = estimate_columns(
        cells[counted],
        [cluster for cluster, counts in zip(clusters, counted, strict=True) if counts],
        rng_for(seed, "summaries", name),
        differences=1,
        prompts=[prompt for prompt, counts in zip(prompts, counted, strict=True) if counts],
    )
    return {measure: dataclasses.asdict(estimate) for measure, estimate in zip(MEASURES, estimates, strict=True)}


def _no_difference(text: str) -> bool:
    return text.strip().strip(".*- \n").lower() in NO_DIFFERENCE


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


def sorted_attributes(content: Mapping[str, Any]) -> list[str]:
    """Those with a rate first, the most removed first; then the others by name."""
    rates = {name: block["removed"]["value"] for name, block in content["attributes"].items()}
    return sorted(rates, key=lambda name: (rates[name] is None, -(rates[name] or 0.0), name))


def summaries_table(result: Result) -> str:
    """For a terminal, at most 110 columns."""
    content = result.content
    lines = [
        f"{result.subject['name'] if result.subject else ''}: {content['summaries']:,} summaries of {content['personas']:,} personas"
        + (
            f", {content['words']:.0f} words each of {content['profile_words']:.0f}"
            if content["words"] is not None
            else ""
        )
        + (" (scripted)" if result.settings["scripted"] else "")
    ]
    if content["withheld"]:
        return f"{lines[0]}\nFigures withheld: {content['withheld']}"
    heading = f"{'attribute':<28}{'n':>5}  {'removed':<22}{'wrong persona':<22}{'difference':<12}{'whole':>6}"
    lines.append(heading + ("  listed" if content["differ"] else ""))
    for name in [*sorted_attributes(content), "all"]:
        block = content["all"] if name == "all" else content["attributes"][name]
        line = f"{label(name) if name != 'all' else 'All':<28}{block['removed']['n']:>5}  {percent_with_interval(block['removed']):<22}"
        line += f"{percent_with_interval(block['removed_wrong']):<22}"
        line += f"{percent(block['difference']['value'], 0):<12}{percent(block['whole_profile']['value'], 0):>6}"
        lines.append(line + (f"  {percent(block['listed']['value'], 0)}" if content["differ"] else ""))
    return "\n".join([*lines, "", *_notes(result)])


def section(results: Sequence[Result], folder: Path) -> Section | None:
    """Figure 11 of the paper, with controls. None without a result."""
    if not results:
        return None
    tables, figures, examples = [], [], []
    text = [
        "Which attributes a model leaves out when it summarises a persona for a question. Kept is an attribute whose value the summary "
        "holds, in words or numbers; a summary in other words counts as one that leaves it out. Beside it the same values in the summary "
        "of another persona for the same question: the less the two differ, the less a summary says of its own persona."
    ]
    for result in results:
        content = result.content
        text += [f"{result.description}. {' '.join(_notes(result))}"]
        if content["withheld"]:
            continue
        order = sorted_attributes(content)
        rows: list[list[Cell]] = []
        for name in [*order, "all"]:
            block = content["all"] if name == "all" else content["attributes"][name]
            shown = (
                "removed",
                "removed_wrong",
                "difference",
                "whole_profile",
                *(("listed",) if content["differ"] else ()),
            )
            rows.append([label(name) if name != "all" else "All", *(as_estimate(block[measure]) for measure in shown)])
        header = [
            "Attribute",
            "left out",
            "left out of another's summary",
            "difference",
            "left out of the profile itself",
        ]
        tables.append(
            Table(
                f"What summaries leave out ({result.name})",
                header + (["listed by a model"] if content["differ"] else []),
                rows,
                signed=(3,),
            )
        )
        drawn = [name for name in order if content["attributes"][name]["removed"]["value"] is not None]
        if drawn:
            figures.append(_figure(result, drawn))
        examples += _examples(result, folder)
    return Section(
        anchor="summaries",
        title="Summary removal",
        text=text,
        tables=tables,
        figures=figures,
        examples=examples,
        scripted=any(result.settings["scripted"] for result in results),
    )


def _figure(result: Result, names: Sequence[str]) -> Figure:
    blocks = {name: result.content["attributes"][name] for name in names}
    measures = ["removed", "removed_wrong", *(["listed"] if result.content["differ"] else [])]
    series = ["left out", "of another's summary", "listed by a model"][: len(measures)]
    bars = {
        label(name): [math.nan if block[m]["value"] is None else block[m]["value"] for m in measures]
        for name, block in blocks.items()
    }
    said = [
        f"{label(name)} {percent_with_interval(block['removed'])} (another's {percent(block['removed_wrong']['value'], 0)})"
        for name, block in blocks.items()
    ]
    return Figure(
        f"Attributes that summaries leave out: {result.subject['name'] if result.subject else result.name}",
        bar_figure(bars, series, "share of summaries without the value"),
        "; ".join(said),
        "11",
        "Of the personas whose profile states the attribute. Matched on values, not on names of keys.",
    )


def _examples(result: Result, folder: Path, count: int = 2) -> list[Example]:
    path = folder / f"{result.name}-{SUMMARIES}"
    if not path.is_file():
        return []
    rows = [row for row in read_table(path) if row["condition"] == "true" and not row["failure"]]
    return [
        Example(
            f"{result.name}: {row['persona_id']}",
            [("Question", row["question"]), ("Profile", row["profile"]), ("Summary", row["summary"])]
            + ([("Differences", row["differences"])] if row["differences"] else []),
        )
        for row in rows[:count]
    ]


def _notes(result: Result) -> list[str]:
    content, notes = result.content, []
    notes.append(f"{content['nothing_removed']:,} of {content['summaries']:,} summaries leave nothing out.")
    if differ := content["differ"]:
        notes.append(
            f"{differ['judged_equivalent']:,} of {differ['listed']:,} were listed as without any difference (the paper: none)."
        )
    if unscored := sum(result.rows["unscored"].values()):
        notes.append(f"{unscored:,} of {unscored + result.rows['scored']:,} summaries could not be used.")
    return notes
