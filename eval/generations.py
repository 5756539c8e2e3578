"""What trained models are worth when something is written: answers of DPO models beside those of their base model, and the best of several
candidates by a reward.

Everything is judged under the true persona, whatever the writer or the scorer was shown: what the answer for a wrong persona wins just as
often has nothing to do with the person. One result a model.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from builder.errors import InputError
from builder.judge.judge import Comparison, Judge, Verdict, compare
from builder.llm.budget import Budget
from builder.llm.calls import ModelCalls
from builder.llm.messages import ChatRequest, Failure, Sampling
from builder.llm.model_recipe import ModelRecipe
from builder.llm.weights import EMBEDDED_MODEL_ID
from eval.calls import MODEL_ROLE, check_all_answered, open_calls, spent
from eval.generation_figures import (
    AGAINST_BASE,
    ANSWER_COLUMNS,
    BEST_OF,
    SCORE_COLUMNS,
    against_base_id,
    best_of_id,
    content_of,
)
from eval.generations_section import printed
from eval.items import Item, draw_items
from eval.judging import EvaluationJudge, find_judges, judge_facts, judge_identity, todays_facts
from eval.language_models import LanguageModel, find_language_model
from eval.models import Scorer, describe, labelled_of, list_scorers, prompts_of, score_folder, subject_of
from eval.pair_results import MODEL_KINDS
from eval.provenance import dataset_identity, provenance
from eval.results import SCHEMA_VERSION, Result, digest, finished_result, write_result
from eval.rows import load_profiles, read_build
from eval.tables import read_table, write_table
from eval.transcripts import TRANSCRIPT_COLUMNS, reread, transcript_rows
from training.base_model import EMBEDDED
from training.conditioning import CONDITIONS, Conditioning, persona_messages
from training.evaluation import Candidate, shown_persona
from training.kinds import DESCRIPTIONS
from training.scoring import base_of

EVALUATION = "generations"
BASE_ROLE = "base"
ANSWER_TEMPLATE = "persona_messages@1"  # training.conditioning; raise when its layout changes
# As long as the answers of a small build. Candidates are drawn, so that there is something to choose from.
ANSWER = Sampling(max_tokens=160, end_sentence_after=48)
CANDIDATE = replace(ANSWER, temperature=0.8)

Row = dict[str, Any]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Subject:
    """A trained model, the base model that it came from, and the model as a writer (None with the reason: it writes nothing here)."""

    scorer: Scorer
    base: ModelRecipe
    writer: LanguageModel | None
    conditioning: Conditioning
    writes_nothing: str | None

    @property
    def result_name(self) -> str:
        return f"{EVALUATION}-{self.scorer.name}"


def evaluate_generations(
    dataset: Path,
    folders: Sequence[Path],
    judges: Sequence[str],
    out: Path,
    *,
    limit: int | None = 100,
    best_of: int = 4,
    base_model: str | None = None,
    seed: int = 0,
    budget: Budget | None = None,
    dry_run: bool = False,
    command: str | None = None,
) -> str:
    """Judge what each trained model of `folders` writes and chooses; returns a table, of a dry run what it would take.

    judges: pairwise or likelihood, as in eval.judging. limit: items, drawn by seed. best_of: candidates of the base model, written without
    a persona, of which the scorer chooses for the true, no and a wrong one. base_model: where the models' base is.

    Raises InputError before any call for what cannot be used, and where `out` holds another result of the same name.
    """
    found = check_request(judges, best_of, seed)
    subjects = find_subjects(folders, base_model)
    if not subjects:
        return "No trained model was given, so there is nothing to judge. Give --model FOLDER."
    items = draw_items(dataset, limit, seed)
    profiles = load_profiles(dataset)
    identity = dataset_identity(dataset, {"items": len(items)})
    shared = {
        "schema": SCHEMA_VERSION,
        "dataset": identity["content_sha256"],
        **{"limit": limit, "best_of": best_of, "seed": seed},
    }
    build = read_build(dataset) or {}
    results, said = [], []
    for subject in subjects:
        calls = open_calls(
            out,
            found,
            subject.writer,
            more={BASE_ROLE: subject.base},
            base_model=base_model,
            budget=budget,
            dry_run=dry_run,
        )
        fingerprint = shared | {
            "training": digest(subject.scorer.training),
            "judges": [judge_identity(judge, calls) for judge in found],
        }
        if not dry_run and (kept := finished_result(out, subject.result_name, fingerprint)):
            results.append(kept)
            log.info("%s is up to date.", subject.result_name)
            continue
        answers = written_answers(calls, subject, items, profiles, best_of, seed)
        transcripts, verdicts = judged_answers(calls, found, answers, items, profiles)
        if dry_run:
            said.append(spent(calls))
            continue
        check_all_answered(calls)
        made = provenance(command, calls=calls)
        del calls  # with it the models that wrote and judged, before the one that scores is loaded
        scores = candidate_scores(subject, answers, items, dataset, profiles, base_model)
        content, rows = content_of(answers, scores, verdicts, seed)
        facts = subject_of(subject.scorer)
        result = Result(
            evaluation=EVALUATION,
            name=subject.result_name,
            description=f"{describe(subject.scorer.training or {})}: what it writes and chooses",
            fingerprint=fingerprint,
            dataset=identity,
            subject=facts,
            judges=[judge_facts(judge, build, facts) for judge in found],
            settings={
                **{"limit": limit, "best_of": best_of, "max_tokens": ANSWER.max_tokens},
                **{"end_sentence_after": ANSWER.end_sentence_after, "temperature_of_candidates": CANDIDATE.temperature},
                "writes_nothing": subject.writes_nothing,
            },
            seed=seed,
            provenance=made,
            rows=rows,
            files={
                **write_table(out, f"{subject.result_name}-answers.parquet", answers, ANSWER_COLUMNS),
                **write_table(out, f"{subject.result_name}-scores.parquet", scores, SCORE_COLUMNS),
                **write_table(out, f"{subject.result_name}-transcripts.parquet", transcripts, TRANSCRIPT_COLUMNS),
            },
            content=content,
        )
        log.info("%s written.", write_result(out, result))
        results.append(result)
    return "\n".join(said) if dry_run else printed(results)


def check_request(judges: Sequence[str], best_of: int, seed: int) -> list[EvaluationJudge]:
    """The judges. Raises InputError for what could not be judged."""
    if best_of < 2:
        raise InputError(f"best_of is {best_of}; to choose there must be at least 2 candidates.")
    return find_judges(judges, ("pairwise", "likelihood"), seed)


def rescored(result: Result, folder: Path, judges: Mapping[str, Judge]) -> Result:
    """The same result from the kept replies, read as today's `judges` (label in the result -> judge) read them."""
    answers, scores, transcripts = (
        read_table(folder / f"{result.name}-{part}.parquet") for part in ("answers", "scores", "transcripts")
    )
    verdicts = {
        judge.label: _verdicts(reread(judge, [row for row in transcripts if row["judge"] == label]))
        for label, judge in judges.items()
    }
    content, rows = content_of(answers, scores, verdicts, result.seed)
    return replace(result, judges=todays_facts(result.judges, judges), content=content, rows=rows)


def find_subjects(folders: Sequence[Path], base_model: str | None) -> list[Subject]:
    """Raises InputError for a folder that is no finished model, or whose base model is not found."""
    subjects = []
    for scorer in list_scorers(folders, {}):
        if scorer.kind not in MODEL_KINDS or scorer.folder is None or scorer.training is None:
            continue
        writer, why = None, f"a {DESCRIPTIONS[scorer.kind]} writes nothing here"
        if scorer.kind == "dpo":
            try:
                writer, why = find_language_model(str(scorer.folder)), ""
            except InputError as error:  # one that reads labelled pairs: it can choose, and not write
                why = str(error)
        subjects.append(
            Subject(
                scorer,
                base_recipe(scorer.folder, scorer.training, base_model),
                writer,
                writer.conditioning if writer is not None else prompts_of(scorer.training, {}, {}).conditioning,
                why or None,
            )
        )
    return subjects


def base_recipe(folder: Path, record: Mapping[str, Any], base_model: str | None) -> ModelRecipe:
    """How the base model of a training is reached. Raises InputError where it is not found or is another one."""
    base = base_of(folder, dict(record), base_model)
    if base.given == EMBEDDED or base.model_id == EMBEDDED_MODEL_ID:
        return ModelRecipe(model=EMBEDDED_MODEL_ID)
    if base.given == "hub":
        return ModelRecipe(model=base.model_id, revision=base.revision)
    return ModelRecipe(model=str(record["base_model"]["model_id"]), path=str(base.folder))


def written_answers(
    calls: ModelCalls,
    subject: Subject,
    items: Sequence[Item],
    profiles: Mapping[str, str],
    best_of: int,
    seed: int,
) -> list[Row]:
    """The rows of ANSWER_COLUMNS: of a writer its answers and its base model's under each condition, and of every model the candidates."""
    rows: list[Row] = []
    if subject.writer is not None:
        for role, writer in ((MODEL_ROLE, "model"), (BASE_ROLE, "base")):
            asked = [(item, condition, writer, 0) for condition in CONDITIONS for item in items]
            rows += _ask(calls, role, subject.conditioning, AGAINST_BASE, asked, profiles, ANSWER, seed)
    asked = [(item, "none", "base", sample) for item in items for sample in range(best_of)]
    return rows + _ask(calls, BASE_ROLE, subject.conditioning, BEST_OF, asked, profiles, CANDIDATE, seed)


def judged_answers(
    calls: ModelCalls,
    judges: Sequence[EvaluationJudge],
    answers: Sequence[Row],
    items: Sequence[Item],
    profiles: Mapping[str, str],
) -> tuple[list[Row], dict[str, dict[str, Verdict]]]:
    """(rows of transcripts, judge's label -> comparison's id -> verdict). What has no text is not asked about."""
    asked: dict[str, Comparison] = {}
    by_key = {(row["use"], row["item"], row["condition"], row["writer"], row["sample"]): row for row in answers}

    def ask(name: str, item: Item, first: Row, second: Row) -> None:
        if not first["failure"] and not second["failure"]:
            asked[name] = Comparison(profiles[item.persona_id], item.question, (first["text"], second["text"]))

    for item in items:
        for condition in CONDITIONS:
            own = by_key.get((AGAINST_BASE, item.key, condition, "model", 0))
            if own is not None:
                base = by_key[AGAINST_BASE, item.key, condition, "base", 0]
                ask(against_base_id(item.key, condition), item, own, base)
    first = {row["item"]: row for row in answers if row["use"] == BEST_OF and row["sample"] == 0}
    at = {item.key: item for item in items}
    for row in answers:
        if row["use"] == BEST_OF and row["sample"]:
            ask(best_of_id(row["item"], row["sample"]), at[row["item"]], row, first[row["item"]])
    rows: list[Row] = []
    verdicts: dict[str, dict[str, Verdict]] = {}
    for judge in judges:
        found = compare(judge.judge, calls, list(asked.values()), f"judging by {judge.judge.name}")
        rows += transcript_rows(judge.judge, list(asked), found)
        verdicts[judge.judge.label] = dict(zip(asked, found, strict=True))
    return rows, verdicts


def candidate_scores(
    subject: Subject,
    answers: Sequence[Row],
    items: Sequence[Item],
    dataset: Path,
    profiles: Mapping[str, str],
    base_model: str | None,
) -> list[Row]:
    """The rows of SCORE_COLUMNS: each candidate under each condition."""
    at = {item.key: item for item in items}
    places: dict[Candidate, int] = {}
    rows: list[Row] = []
    for row in (row for row in answers if row["use"] == BEST_OF):
        for condition in CONDITIONS:
            entry = {
                "item": row["item"],
                "sample": row["sample"],
                "condition": condition,
                "score": None,
                "reason": None,
            }
            if row["failure"]:
                entry["reason"] = f"a candidate: {row['failure']}"
            else:
                item = at[row["item"]]
                candidate = Candidate(_shown(item, condition), item.prompt_id, item.question, row["text"])
                entry["score"] = places.setdefault(candidate, len(places))  # where its score will stand
            rows.append(entry)
    scorer = subject.scorer
    values = score_folder(scorer, list(places), profiles, labelled_of(scorer, dataset), base_model)
    for entry in rows:
        if entry["score"] is not None:
            value = values[entry["score"]]
            entry["score"], entry["reason"] = (None, value) if isinstance(value, str) else (float(value), None)
    return rows


def _ask(
    calls: ModelCalls,
    role: str,
    conditioning: Conditioning,
    use: str,
    asked: Sequence[tuple[Item, str, str, int]],
    profiles: Mapping[str, str],
    sampling: Sampling,
    seed: int,
) -> list[Row]:
    """One answer for each (item, condition, writer, sample). The prompts are the training's own."""
    requests = []
    for item, condition, _, sample in asked:
        persona = _shown(item, condition)
        profile = None if persona is None else profiles[persona]
        messages = persona_messages(conditioning, profile, item.question)
        requests.append(ChatRequest(tuple(messages), sampling, ANSWER_TEMPLATE, seed, sample))
    rows = []
    for (item, condition, writer, sample), reply in zip(asked, calls.generate(role, requests, use), strict=True):
        failed = isinstance(reply, Failure)
        rows.append(
            {
                "use": use,
                "item": item.key,
                "persona_id": item.persona_id,
                "prompt_id": item.prompt_id,
                "cell": item.cell,
                "question": item.question,
                "condition": condition,
                "writer": writer,
                "sample": sample,
                "text": reply.text,
                "failure": reply.reason if failed else "",
            }
        )
    return rows


def _shown(item: Item, condition: str) -> str | None:
    return shown_persona({"persona_id": item.persona_id, "wrong_persona_id": item.wrong_persona_id}, condition)


def _verdicts(found: Mapping[str, Any]) -> dict[str, Verdict]:
    return {name: verdict for name, verdict in found.items() if isinstance(verdict, Verdict)}
