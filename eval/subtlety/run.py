"""`persona eval subtlety`: do answers recite the persona, and do they more after reasoning? (paper, section 5.2)

The same questions for the same personas in both arms, the persona alone (output_only) and with reasoning (chain_of_thought), so that each
item is its own control and McNemar's exact test applies. Two measures: a judge who is asked for recitation alone, and the values of the
profile that stand literally in the answer. Beside both: answers written without a persona, and answers written for another one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from builder.errors import InputError
from builder.judge.critique import Critique, CritiqueVerdict, criticise
from builder.judge.judge import Judge
from builder.llm.budget import Budget
from builder.llm.templates import load_template
from eval.bench.answers import write_answers
from eval.bench.modes import form_for, template_names
from eval.calls import MODEL_ROLE, check_all_answered, open_calls, spent
from eval.items import Item, Persona, draw_items, load_personas
from eval.judging import EvaluationJudge, find_judges, judge_facts, judge_identity, todays_facts
from eval.language_models import LanguageModel, file_name, find_language_models
from eval.provenance import dataset_identity, provenance
from eval.results import SCHEMA_VERSION, Result, digest, finished_result, write_result
from eval.rows import content_hash, read_build
from eval.subtlety.content import ANSWERS, COLUMNS, MODES, content_of, scored_rows
from eval.subtlety.section import printed
from eval.tables import read_table, write_table
from eval.transcripts import TRANSCRIPT_COLUMNS, reread, transcript_rows
from training.profiles import stated_attributes

EVALUATION = "subtlety"
TRANSCRIPTS = "transcripts.parquet"

Row = dict[str, Any]


def run_subtlety(
    dataset: Path,
    given: Sequence[str],
    judges: Sequence[str],
    out: Path,
    *,
    limit: int | None = 200,
    base_model: str | None = None,
    seed: int = 0,
    budget: Budget | None = None,
    dry_run: bool = False,
    command: str | None = None,
) -> str:
    """One result for each model of `given`. Returns the tables to print, of a dry run what it would cost.

    Raises InputError for a model or judge that does not exist, two models of one name, and for profiles that are not written in lines.
    """
    models = find_language_models(given)
    asked = find_judges(judges, ("critique",), seed)
    items, personas = draw_items(dataset, limit, seed), load_personas(dataset)
    said = []
    for model in models:
        name = _result_name(model, asked)
        form = form_for(model)
        templates = [*template_names(form, MODES), *sorted({judge.judge.template for judge in asked})]
        calls = open_calls(out, asked, model, base_model=base_model, budget=budget, dry_run=dry_run)
        fingerprint = {
            "schema": SCHEMA_VERSION,
            "dataset": content_hash(dataset),
            "model": [model.facts, calls.client(MODEL_ROLE).identity],
            "judges": [judge_identity(judge, calls) for judge in asked],
            "templates": [load_template(template).label for template in templates],
            "limit": limit,
            "seed": seed,
        }
        if not dry_run and (kept := finished_result(out, name, fingerprint)):
            said.append(printed(kept))
            continue
        answers = _with_profiles(
            write_answers(calls, model, items, personas, MODES, form, 1, 0.0, seed), items, personas
        )
        transcripts, verdicts = _judge(asked, calls, answers)
        if dry_run:
            said.append(spent(calls))
            continue
        check_all_answered(calls)
        files = write_table(out, f"{name}-{ANSWERS}", answers, COLUMNS)
        files |= write_table(out, f"{name}-{TRANSCRIPTS}", transcripts, TRANSCRIPT_COLUMNS)
        subject = {"name": model.name, **model.facts}
        result = Result(
            evaluation=EVALUATION,
            name=name,
            description=f"Whether answers of {model.name} recite the persona",
            fingerprint=fingerprint,
            dataset=dataset_identity(dataset, {"items": len(items)}),
            subject=subject,
            judges=[judge_facts(judge, read_build(dataset), subject) for judge in asked],
            settings={"limit": limit, "form": form, "scripted": model.scripted},
            seed=seed,
            provenance=provenance(command, templates, calls),
            rows=scored_rows(answers, verdicts),
            files=files,
            content=content_of(answers, verdicts, seed),
        )
        write_result(out, result)
        said.append(printed(result))
    return "\n\n".join(said)


def rescored(result: Result, folder: Path, judges: Mapping[str, Judge]) -> Result:
    """The same result with the judges' kept replies read anew. judges: label in the result -> today's judge."""
    answers, transcripts = (read_table(folder / f"{result.name}-{name}") for name in (ANSWERS, TRANSCRIPTS))
    verdicts = {
        facts["name"]: _critiques(
            reread(judges[facts["label"]], [row for row in transcripts if row["judge"] == facts["label"]])
        )
        for facts in result.judges
    }
    return replace(
        result,
        judges=todays_facts(result.judges, judges),
        rows=scored_rows(answers, verdicts),
        content=content_of(answers, verdicts, result.seed),
    )


def _with_profiles(answers: Sequence[Row], items: Sequence[Item], personas: Mapping[str, Persona]) -> list[Row]:
    """Raises InputError where a profile is no profile of lines."""
    other = {(item.persona_id, item.prompt_id): item.wrong_persona_id for item in items}
    for persona in sorted({item.persona_id for item in items} | set(other.values())):
        stated_attributes(personas[persona].profile)
    return [
        {
            **row,
            "profile": personas[row["persona_id"]].profile,
            "other_profile": personas[other[row["persona_id"], row["prompt_id"]]].profile,
        }
        for row in answers
    ]


def _judge(
    judges: Sequence[EvaluationJudge], calls: Any, answers: Sequence[Row]
) -> tuple[list[Row], dict[str, dict[str, CritiqueVerdict]]]:
    """(rows of the transcripts, judge -> item_id -> verdict). Each answer is judged against the profile of the item's own persona."""
    whole = [row for row in answers if not row["failure"]]
    ids = [row["item_id"] for row in whole]
    transcripts: list[Row] = []
    found = {}
    for judge in judges:
        critiques = [Critique(row["profile"], row["question"], row["text"]) for row in whole]
        verdicts = criticise(judge.judge, calls, critiques, judge.judge.name)
        transcripts += transcript_rows(judge.judge, ids, verdicts)
        found[judge.judge.name] = dict(zip(ids, verdicts, strict=True))
    return transcripts, found


def _critiques(verdicts: Mapping[str, Any]) -> dict[str, CritiqueVerdict]:
    return {item: verdict for item, verdict in verdicts.items() if isinstance(verdict, CritiqueVerdict)}


def _result_name(model: LanguageModel, judges: Sequence[EvaluationJudge]) -> str:
    names = [judge.judge.name for judge in judges]
    if len(set(names)) < len(names):
        raise InputError("Two judges have one name. Give each judge file a name of its own.")
    marks = "-".join(f"{judge.judge.name}-{digest(judge.judge.model)[:4]}" for judge in judges)
    return file_name(f"{EVALUATION}-{model.name}-{marks}")
