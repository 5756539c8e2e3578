"""PERSONA Bench: does what a model writes for a persona need revision? (paper, section 5)

One result for each (evaluation, model). The judge always sees the profile of the true persona, the question and one answer, whoever the
answer was written for, so that the pass rate stands beside that of answers for nobody and for another persona.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from builder.errors import InputError
from builder.judge.critique import Critique, criticise
from builder.judge.judge import Judge
from builder.llm.budget import Budget
from eval.bench import comparison, intersections
from eval.bench.answers import ANSWER_COLUMNS, write_answers
from eval.bench.content import main_content, pass_at_k_content
from eval.bench.modes import BASELINE, MAIN_MODE, MODES, form_for, template_names
from eval.bench.outcomes import outcomes_of
from eval.bench.pass_at_k import LARGEST_K, check_samples
from eval.bench.text_table import printed
from eval.calls import MODEL_ROLE, check_all_answered, open_calls, spent
from eval.items import Item, Persona, draw_items, load_personas
from eval.judging import EvaluationJudge, find_judges, judge_facts, judge_identity, todays_facts
from eval.language_models import LanguageModel, find_language_models
from eval.provenance import dataset_identity, provenance, rows_by_split
from eval.results import SCHEMA_VERSION, Result, finished_result, row_counts, write_result
from eval.rows import read_build
from eval.tables import read_table, write_table
from eval.transcripts import TRANSCRIPT_COLUMNS, transcript_rows

PARTS = ("main", "pass_at_k", "intersectionality", "comparison")
DEFAULT_JUDGE = "critique_choice"
DEFAULT_TEMPERATURE = 0.7
DESCRIPTIONS = {
    "main": "PERSONA Bench: pass rate of answers by mode, beside no and a wrong persona",
    "pass_at_k": "PERSONA Bench: pass@k of answers that are judged one by one, beside no and a wrong persona",
    "intersectionality": "PERSONA Bench: pass rate by group of personas, against all others",
    "comparison": "PERSONA Bench: which of two revisions was written for this persona, beside no and a wrong persona",
}


def run_bench(
    dataset: Path,
    models: Sequence[str],
    judges: Sequence[str],
    out: Path,
    *,
    evaluation: str = "main",
    modes: Sequence[str] | None = None,
    where: Sequence[str] = (),
    samples: int | None = None,
    temperature: float | None = None,
    form: str = "auto",
    limit: int | None = 700,
    base_model: str | None = None,
    seed: int = 0,
    budget: Budget | None = None,
    dry_run: bool = False,
    command: str | None = None,
) -> str:
    """Evaluate every model, write what is missing into `out`, and return the table to print (of a dry run, what it would take).

    models, judges: as eval.language_models and eval.judging take them; judges of kind critique. modes: of MODES; without them all, for
    pass@k and groups the main one. samples: answers a question, for pass@k (16). where: filters of the group, for intersectionality.
    limit: items (persona, question), for comparison rows.

    Raises InputError before any call for options that do not go together or cannot be used, and where `out` holds another result of the
    same name.
    """
    settings = _settings(evaluation, modes, judges, where, samples, temperature, form, limit)
    subjects = find_language_models(models)
    forms = [form_for(subject, form) for subject in subjects]
    budget = budget or Budget()
    said: list[str] = []
    if evaluation == "comparison":
        found_judges: list[EvaluationJudge] = []
        items: list[Any] = list(comparison.draw_sets(dataset, limit, seed))
        personas = load_personas(dataset)
    else:
        found_judges = find_judges(judges or [DEFAULT_JUDGE], ("critique",), seed)
        items, personas, settings = _draw(dataset, settings, seed)
    # An Item is of dpf, a row of contrast says so itself.
    identity = dataset_identity(dataset, rows_by_split((getattr(item, "config", "dpf"), item.split) for item in items))
    build = read_build(dataset)
    for subject, own_form in zip(subjects, forms, strict=True):
        own_settings = {**settings, "form": own_form}
        name = f"bench-{subject.name}-{evaluation}"
        calls = open_calls(out, found_judges, subject, base_model=base_model, budget=budget, dry_run=dry_run)
        asked = found_judges or [EvaluationJudge(comparison.chooser(subject, own_form, seed), subject.recipe)]
        fingerprint = {
            "schema": SCHEMA_VERSION,
            "dataset": identity["content_sha256"],
            **own_settings,
            "seed": seed,
            "model": calls.client(MODEL_ROLE).identity,
            "conditioning": dataclasses.asdict(subject.conditioning),
            "judges": [judge_identity(judge, calls) for judge in asked],
            "templates": _labels(own_form, own_settings),
        }
        if not dry_run and (kept := finished_result(out, name, fingerprint)):
            said.append(printed(kept))
            continue
        tables = _ask(calls, subject, asked, items, personas, own_settings, seed)
        if dry_run:
            continue
        check_all_answered(calls)
        content, rows = _content(evaluation, tables, {one.judge.label: one.judge for one in asked}, own_settings, seed)
        # In a comparison the model chooses itself: no answer of its own is judged.
        judged = None if evaluation == "comparison" else subject.facts
        files: dict[str, str] = {}
        for part, (table, columns) in tables.items():
            files |= write_table(out, f"{name}-{part}.parquet", table, columns)
        result = Result(
            evaluation="bench",
            name=name,
            description=DESCRIPTIONS[evaluation],
            fingerprint=fingerprint,
            dataset=identity,
            subject={"name": subject.name, **subject.facts},
            judges=[judge_facts(one, build, judged) for one in asked],
            settings=own_settings,
            seed=seed,
            provenance=provenance(command, _template_files(own_form, own_settings), calls),
            rows=rows,
            files=files,
            content=content,
        )
        write_result(out, result)
        said += [printed(result), spent(calls)]
    return spent(calls) if dry_run else "\n".join(said)


def rescored(result: Result, folder: Path, judges: Mapping[str, Judge]) -> Result:
    """The result with its kept replies read again. judges: label in the result -> the judge whose parser reads them."""
    tables: Tables = {
        name.removeprefix(f"{result.name}-").removesuffix(".parquet"): (read_table(folder / name), {})
        for name in result.files
    }
    content, rows = _content(result.settings["evaluation"], tables, judges, result.settings, result.seed)
    # The replies lie under the labels of then; the figures stand under those of today.
    content = content | {"judges": {judges[label].label: own for label, own in content["judges"].items()}}
    return dataclasses.replace(result, judges=todays_facts(result.judges, judges), content=content, rows=rows)


# Part of the file's name -> (rows, columns).
Tables = Mapping[str, tuple[Sequence[Mapping[str, Any]], Mapping[str, str]]]


def _ask(
    calls: Any,
    model: LanguageModel,
    judges: Sequence[EvaluationJudge],
    items: Sequence[Any],
    personas: Mapping[str, Persona],
    settings: Mapping[str, Any],
    seed: int,
) -> Tables:
    """Every model call of one result, and the tables that are kept of them."""
    if settings["evaluation"] == "comparison":
        pairs, transcript = comparison.choose(calls, model, judges[0].judge, items, personas)
        return {"pairs": (pairs, comparison.PAIR_COLUMNS), "verdicts": (transcript, TRANSCRIPT_COLUMNS)}
    answers = write_answers(
        calls,
        model,
        items,
        personas,
        settings["modes"],
        settings["form"],
        settings["samples"],
        settings["temperature"],
        seed,
    )
    written = [row for row in answers if not row["failure"]]
    critiques = [Critique(personas[row["persona_id"]].profile, row["question"], row["text"]) for row in written]
    transcript = []
    for judge in judges:
        verdicts = criticise(judge.judge, calls, critiques)
        transcript += transcript_rows(judge.judge, [row["item_id"] for row in written], verdicts)
    tables: dict[str, tuple[Sequence[Mapping[str, Any]], Mapping[str, str]]] = {
        "answers": (answers, ANSWER_COLUMNS),
        "verdicts": (transcript, TRANSCRIPT_COLUMNS),
    }
    if settings["evaluation"] == "intersectionality":
        tables["groups"] = (intersections.group_rows(personas, items), intersections.GROUP_COLUMNS)
    return tables


def _content(
    evaluation: str, tables: Tables, judges: Mapping[str, Judge], settings: Mapping[str, Any], seed: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """(`Result.content`, `Result.rows`) from the kept tables alone. A row that two judges read counts twice."""
    rows = {part: table for part, (table, _) in tables.items()}
    transcript = rows["verdicts"]
    if evaluation == "comparison":
        content = comparison.comparison_content(rows["pairs"], transcript, judges, seed)
        return content, row_counts(comparison.reasons_of(rows["pairs"], transcript, judges))
    if evaluation == "intersectionality":
        content = intersections.intersections_content(
            rows["answers"], transcript, rows["groups"], judges, settings, seed
        )
    else:
        figures = main_content if evaluation == "main" else pass_at_k_content
        content = figures(rows["answers"], transcript, judges, settings, seed)
    reasons = [
        outcome.reason
        for label, judge in judges.items()
        for outcome in outcomes_of(rows["answers"], transcript, judge, label)
    ]
    return content, row_counts(reasons)


def _settings(
    evaluation: str,
    modes: Sequence[str] | None,
    judges: Sequence[str],
    where: Sequence[str],
    samples: int | None,
    temperature: float | None,
    form: str,
    limit: int | None,
) -> dict[str, Any]:
    """`Result.settings`; raises InputError for options that do not exist or do not go together."""
    if evaluation not in PARTS:
        raise InputError(f"--evaluation is {evaluation!r}; choose one of {', '.join(PARTS)}.")
    if unknown := [mode for mode in modes or () if mode not in MODES]:
        raise InputError(f"--mode is {unknown[0]!r}; choose among {', '.join(MODES)}.")
    if where and evaluation != "intersectionality":
        raise InputError(
            f"--where chooses a group of personas, which --evaluation {evaluation} does not compare. Add --evaluation intersectionality."
        )
    if samples is not None and evaluation != "pass_at_k":
        raise InputError(
            f"--samples is how many answers pass@k draws, and --evaluation {evaluation} judges one. Leave it out, or choose pass_at_k."
        )
    if temperature is not None and not 0 <= temperature < float("inf"):
        raise InputError(f"--temperature is {temperature}; give a number from 0 on.")
    if evaluation == "comparison":
        for option, given in (("--judge", judges), ("--mode", modes), ("--temperature", temperature is not None)):
            if given:
                raise InputError(
                    f"{option} does not go with --evaluation comparison: the evaluated model itself chooses between two given texts, and "
                    "writes nothing that could be judged. Leave it out."
                )
        return {"evaluation": evaluation, "limit": limit, "form": form}
    heat = DEFAULT_TEMPERATURE if temperature is None else float(temperature)
    number = (LARGEST_K if samples is None else samples) if evaluation == "pass_at_k" else 1
    check_samples(number, heat)
    chosen = list(modes or (MODES if evaluation == "main" else (MAIN_MODE,)))
    # The baseline is the control of every other mode, so it is always asked.
    chosen = [mode for mode in MODES if mode in chosen or mode == BASELINE]
    if evaluation == "intersectionality" and chosen == [BASELINE]:
        raise InputError(
            "--mode baseline alone has no persona whose group could matter, and no wrong persona beside it. Add another mode."
        )
    return {
        "evaluation": evaluation,
        "modes": chosen,
        "where": list(where),
        "samples": number,
        "temperature": heat,
        "limit": limit,
        "form": form,
    }


def _draw(dataset: Path, settings: dict[str, Any], seed: int) -> tuple[list[Item], dict[str, Persona], dict[str, Any]]:
    personas = load_personas(dataset)
    if settings["evaluation"] != "intersectionality":
        return draw_items(dataset, settings["limit"], seed), personas, settings
    # With filters the two sides are drawn apart, so the limit is kept there.
    limit = settings["limit"]
    items = draw_items(dataset, None if settings["where"] and (limit is None or limit >= 1) else limit, seed)
    group = intersections.parse_filters(
        settings["where"], [personas[persona] for persona in sorted({item.persona_id for item in items})]
    )
    if group:
        items = intersections.draw_for_group(items, personas, group, limit, seed)
    return items, personas, {**settings, "where": [list(pair) for pair in group]}


def _template_files(form: str, settings: Mapping[str, Any]) -> list[str]:
    return [] if settings["evaluation"] == "comparison" else template_names(form, settings["modes"])


def _labels(form: str, settings: Mapping[str, Any]) -> list[str]:
    return list(provenance(None, _template_files(form, settings))["templates"])
