"""`persona eval attributes`: how much one attribute of a persona changes what a judge prefers (paper, section 4.1, Figure 5).

Per design and judge one result. Kept beside it: every profile that was shown, every critique and refinement, which annotator was asked
what, and every reply.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from builder.errors import InputError
from builder.judge.critique import CritiqueVerdict
from builder.judge.judge import Comparison, Judge, Verdict, compare
from builder.llm.budget import Budget
from eval.attributes.content import content_of
from eval.attributes.designs import (
    Question,
    Unit,
    attribute_names,
    design_names,
    draw_questions,
    plan_units,
)
from eval.attributes.refine import Refinement, refine, templates_for
from eval.attributes.section import printed
from eval.calls import check_all_answered, open_calls, part_usage, spent
from eval.items import load_personas
from eval.judging import EvaluationJudge, find_judges, judge_facts, judge_identity, todays_facts
from eval.language_models import LanguageModel, file_name, find_language_model
from eval.provenance import dataset_identity, provenance
from eval.results import Result, digest, is_finished, read_result, result_path, row_counts, write_result
from eval.rows import read_build
from eval.tables import read_table, write_table
from eval.transcripts import TRANSCRIPT_COLUMNS, reread, transcript_rows

# What is judged: the refinements for `base` and for `changed` against each other, the same for all annotators; the base answer against the
# refinement for `base`; or for each annotator the base answer against the refinement for its own profile.
PAIRS = ("twins", "baseline", "own")
ARMS = ("base", "changed", "null", "blind", "wrong")
ASKED_COLUMNS = {
    "attribute": "string",
    "persona_id": "string",
    "prompt_id": "string",
    "arm": "string",
    "profile_id": "string",
    "item_id": "string",
    "problem": "string",
}
PROFILE_COLUMNS = {"profile_id": "string", "profile": "string"}
ANSWER_COLUMNS = {
    "profile_id": "string",
    "prompt_id": "string",
    "question": "string",
    "base_answer": "string",
    "critique": "string",
    "refinement": "string",
    "problem": "string",
}
Refined = Mapping[tuple[str, str], Refinement]  # by profile and prompt id


@dataclass(frozen=True)
class Plan:
    """One design on this dataset: what is asked of every judge alike."""

    design: str
    units: list[Unit]
    not_tried: dict[str, str]
    questions: list[Question]
    pairs: str


def run_attributes(
    dataset: Path,
    judges: Sequence[str],
    model: str,
    out: Path,
    *,
    designs: Sequence[str] | None = None,
    attributes: Sequence[str] | None = None,
    personas: int = 40,
    questions: int = 20,
    pairs: str = "twins",
    seed: int = 0,
    budget: Budget | None = None,
    dry_run: bool = False,
    command: str | None = None,
) -> str:
    """Evaluate and write what is not finished in `out`; the table of all, or with `dry_run` what it would take.

    Raises InputError for names that do not exist, numbers too small, and a dataset on which no design can be tried.
    """
    if personas < 1:
        raise InputError(f"--personas is {personas}; give at least 1 (the paper has 40).")
    if questions < 2:
        raise InputError(f"--questions is {questions}; a kappa needs at least 2 (the paper has 20).")
    if pairs not in PAIRS:
        raise InputError(f"--pairs is {pairs!r}; it takes {', '.join(PAIRS)}.")
    names = attribute_names(attributes)
    writer = find_language_model(model)
    found = find_judges(judges, ("pairwise", "likelihood"), seed)
    people, asked_questions = load_personas(dataset), draw_questions(dataset, questions, seed)
    plans = [
        Plan(design, *plan_units(design, people, names, personas, seed), asked_questions, pairs)
        for design in design_names(designs)
    ]
    if not any(plan.units for plan in plans):
        name, reason = next((n, r) for plan in plans for n, r in plan.not_tried.items())
        raise InputError(
            f"{dataset} gives no attribute to try (as {name}: {reason}). Give other attributes or a larger dataset."
        )
    settings = {"attributes": names, "personas": personas, "questions": questions, "pairs": pairs}
    calls = open_calls(out, found, writer, budget=budget, dry_run=dry_run)
    wanted = [
        (plan, judge, _fingerprint(dataset, plan, judge_identity(judge, calls), writer, settings, seed))
        for plan in plans
        if plan.units
        for judge in found
    ]
    open_ones = [w for w in wanted if dry_run or not is_finished(out, _name(*w[:2]), w[2])]
    said = ["Nothing left to ask."]
    if open_ones:
        said = []
        for plan, judge, fingerprint in open_ones:
            calls.begin_part()
            refined = _refine(calls, writer, plan, seed)
            asked, comparisons = questions_to_judges(plan, refined)
            if dry_run and judge is found[0]:
                said.append(_counts(plan, refined, asked, comparisons))
            verdicts = compare(judge.judge, calls, list(comparisons.values()), f"{plan.design}, {judge.judge.name}")
            check_all_answered(calls)
            if not dry_run:
                kept = dict(zip(comparisons, verdicts, strict=True))
                usage = part_usage(calls)
                _write(
                    dataset, out, plan, judge, writer, settings, seed, fingerprint, refined, asked, kept, command, usage
                )
        said.append(spent(calls))
    calls.record.close()
    if dry_run:
        return "\n".join(said)
    results = [read_result(result_path(out, _name(plan, judge))) for plan, judge, _ in wanted]
    return "\n\n".join([*(printed(result) for result in results), *said])


def questions_to_judges(plan: Plan, refined: Refined) -> tuple[list[dict[str, str]], dict[str, Comparison]]:
    """(rows of ASKED_COLUMNS, item id -> comparison). Equal comparisons are one item, whoever asks."""
    asked: list[dict[str, str]] = []
    comparisons: dict[str, Comparison] = {}
    for unit in plan.units:
        arms: dict[str, str | None] = {"base": unit.base, "changed": unit.changed, "null": unit.null}
        if unit.wrong:
            arms |= {"blind": None, "wrong": unit.wrong}
        for question in plan.questions:
            for arm, profile in arms.items():
                row = {
                    "attribute": unit.attribute,
                    "persona_id": unit.persona_id,
                    "prompt_id": question.prompt_id,
                    "arm": arm,
                    "profile_id": "" if profile is None else profile_id(profile),
                    "item_id": "",
                    "problem": "",
                }
                answers = _answers(plan.pairs, unit, arm, question, refined)
                if isinstance(answers, str):
                    asked.append(row | {"problem": answers})
                    continue
                item = digest([profile, question.prompt_id, question.question, answers])[:24]
                comparisons[item] = Comparison(profile, question.question, answers)
                asked.append(row | {"item_id": item})
    return asked, comparisons


def profile_id(profile: str) -> str:
    return digest(profile)[:16]


def rescored(result: Result, folder: Path, judges: Mapping[str, Judge]) -> Result:
    """The same result from the kept replies, read by today's judges. judges: by the label in the result.

    Raises InputError for a label that has no judge.
    """
    facts = todays_facts(result.judges, judges)
    judge = judges[result.judges[0]["label"]]
    verdicts = reread(judge, read_table(folder / f"{result.name}.transcripts.parquet"))
    asked = read_table(folder / f"{result.name}.asked.parquet")
    content, rows = _figures(asked, verdicts, result.settings["design"], result.settings["not_tried"], result.seed)
    return replace(result, content=content, rows=rows, judges=facts)


def _figures(
    asked: Sequence[Mapping[str, str]],
    verdicts: Mapping[str, Verdict | CritiqueVerdict],
    design: str,
    not_tried: Mapping[str, str],
    seed: int,
) -> tuple[dict[str, Any], dict[str, Any]]:
    rows = row_counts(row["problem"] or _why_unscored(verdicts[row["item_id"]]) for row in asked)
    marks = {item: None if verdict.verdict == "unscored" else verdict.verdict for item, verdict in verdicts.items()}
    return content_of(asked, marks, design, not_tried, rows, seed), rows


def _why_unscored(verdict: Verdict | CritiqueVerdict) -> str | None:
    return (verdict.reason or "unscored") if verdict.verdict == "unscored" else None


def _answers(pairs: str, unit: Unit, arm: str, question: Question, refined: Refined) -> tuple[str, str] | str:
    """The two answers that this annotator compares, or why there are none."""
    own = {"base": unit.base, "changed": unit.changed, "null": unit.null}
    if pairs == "twins":
        profiles = [unit.base, unit.changed]
    else:
        profiles = [own.get(arm, unit.base) if pairs == "own" else unit.base]
    texts = [question.answer] if pairs != "twins" else []
    for profile in profiles:
        refinement = refined[profile, question.prompt_id]
        if refinement.text is None:
            return refinement.problem
        texts.append(refinement.text)
    return "identical_texts" if texts[0] == texts[1] else (texts[0], texts[1])


def _profiles_to_refine(plan: Plan) -> list[str]:
    profiles: dict[str, None] = {}
    for unit in plan.units:
        profiles |= dict.fromkeys(
            {
                "baseline": [unit.base],
                "twins": [unit.base, unit.changed],
                "own": [unit.base, unit.changed, unit.null],
            }[plan.pairs]
        )
    return list(profiles)


def _refine(calls: Any, writer: LanguageModel, plan: Plan, seed: int) -> dict[tuple[str, str], Refinement]:
    wanted = [(profile, question) for profile in _profiles_to_refine(plan) for question in plan.questions]
    refined = refine(calls, writer, wanted, seed)
    return {(profile, q.prompt_id): text for (profile, q), text in zip(wanted, refined, strict=True)}


def _counts(plan: Plan, refined: Refined, asked: Sequence[Any], comparisons: Mapping[str, Any]) -> str:
    tried = len({unit.attribute for unit in plan.units})
    main = sum(row["arm"] in ("base", "changed") for row in asked)
    return (
        f"{plan.design}: {tried} attributes or shares, {len(plan.units):,} personas in all, {len(plan.questions)} questions: "
        f"{main:,} judgements of the design, {len(asked):,} with null arm and controls, of which {len(comparisons):,} differ and are asked "
        f"of each judge; {len(refined):,} critiques and as many revisions"
        + (f"; not tried: {', '.join(plan.not_tried)}" if plan.not_tried else "")
        + "."
    )


def _name(plan: Plan, judge: EvaluationJudge) -> str:
    words = ["attributes", plan.design, judge.judge.name, judge.recipe.model.rsplit("/", 1)[-1]]
    return file_name("-".join([*words, *([plan.pairs] if plan.pairs != PAIRS[0] else [])]))


def _fingerprint(
    dataset: Path,
    plan: Plan,
    judge: list[Any],
    writer: LanguageModel,
    settings: Mapping[str, Any],
    seed: int,
) -> dict[str, Any]:
    return {
        "dataset": dataset_identity(dataset, {})["content_sha256"],
        "design": plan.design,
        "judge": judge,
        "writer": writer.facts,
        "templates": provenance(None, templates_for(writer))["templates"],
        "seed": seed,
        **settings,
    }


def _write(
    dataset: Path,
    out: Path,
    plan: Plan,
    judge: EvaluationJudge,
    writer: LanguageModel,
    settings: Mapping[str, Any],
    seed: int,
    fingerprint: dict[str, Any],
    refined: Refined,
    asked: Sequence[dict[str, str]],
    verdicts: Mapping[str, Verdict],
    command: str | None,
    usage: dict[str, Any],
) -> None:
    name = _name(plan, judge)
    question_of = {question.prompt_id: question for question in plan.questions}
    shown = {profile for u in plan.units for profile in (u.base, u.changed, u.null, u.wrong) if profile}
    profiles = [{"profile_id": profile_id(text), "profile": text} for text in sorted(shown)]
    answers = [
        {
            "profile_id": profile_id(profile),
            "prompt_id": prompt,
            "question": question_of[prompt].question,
            "base_answer": question_of[prompt].answer,
            "critique": refinement.critique,
            "refinement": refinement.text,
            "problem": refinement.problem,
        }
        for (profile, prompt), refinement in sorted(refined.items())
    ]
    transcript = transcript_rows(judge.judge, list(verdicts), list(verdicts.values()))
    files = write_table(out, f"{name}.profiles.parquet", profiles, PROFILE_COLUMNS)
    files |= write_table(out, f"{name}.answers.parquet", answers, ANSWER_COLUMNS)
    files |= write_table(out, f"{name}.asked.parquet", asked, ASKED_COLUMNS)
    files |= write_table(out, f"{name}.transcripts.parquet", transcript, TRANSCRIPT_COLUMNS)
    content, rows = _figures(asked, verdicts, plan.design, plan.not_tried, seed)
    templates = [*templates_for(writer), *([judge.judge.template] if judge.judge.template else [])]
    write_result(
        out,
        Result(
            evaluation="attributes",
            name=name,
            description=f"Influence of attributes ({plan.design}) on the verdicts of {judge.judge.label}",
            fingerprint=fingerprint,
            dataset=dataset_identity(dataset, {"personas": len({u.persona_id for u in plan.units})}),
            subject={"name": writer.name, **writer.facts},
            judges=[judge_facts(judge, read_build(dataset), writer.facts)],
            settings={
                **settings,
                "design": plan.design,
                "questions_used": len(plan.questions),
                "prompt_ids": [question.prompt_id for question in plan.questions],
                "not_tried": plan.not_tried,
            },
            seed=seed,
            provenance=provenance(command, templates, None) | {"usage": usage},
            rows=rows,
            files=files,
            content=content,
        ),
    )
