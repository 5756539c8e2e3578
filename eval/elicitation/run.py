"""Elicitation (paper, section 1, the fifth intended use): what is asking a persona a few questions worth?

Each persona is interviewed: about itself (learner `profile`), or which of two answers it prefers (learner `pairs`). After 0, 1, 2, 4 and 8
answers what was learned predicts its preferences on test pairs. The control is an interview with the wrong persona of the pair.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from builder.errors import InputError
from builder.judge.judge import Judge
from builder.judge.judge import margin as margin_of
from builder.llm.budget import Budget
from eval.calls import check_all_answered, open_calls, spent
from eval.elicitation.curves import STEPS, content_of, reasons_of
from eval.elicitation.learners import DIMENSIONS, LEARNERS, PRIOR_VARIANCE
from eval.elicitation.material import PAIRS_A_PERSONA, load_material
from eval.elicitation.orders import ORDERS
from eval.elicitation.pairs import elicit_pairs
from eval.elicitation.profiles import elicit_profiles
from eval.elicitation.rows import INTERVIEW_COLUMNS, SCORE_COLUMNS, Row
from eval.elicitation.section import printed
from eval.elicitation.simulator import ATTEMPTS, QUESTIONS_FILE, SAMPLING, TEMPLATE
from eval.judging import EvaluationJudge, find_judges, judge_facts, judge_identity, todays_facts
from eval.language_models import LanguageModel, file_name, find_language_model
from eval.provenance import dataset_identity, provenance, rows_by_split
from eval.results import Result, digest, finished_result, write_result
from eval.rows import content_hash, read_build
from eval.tables import read_table, write_table
from eval.transcripts import TRANSCRIPT_COLUMNS, reread

OVERLAP = "profile-overlap"


def run_elicitation(
    dataset: Path,
    model: str,
    out: Path,
    *,
    learners: Sequence[str] | None = None,
    orders: Sequence[str] | None = None,
    scorer: str = "likelihood",
    limit: int | None = 40,
    seed: int = 0,
    budget: Budget | None = None,
    dry_run: bool = False,
    command: str | None = None,
) -> str:
    """The table to print. One result for each learner; one that is there already is kept.

    model: who plays the personas; `scripted` answers exactly. scorer: what judges pairs by a partial profile, `profile-overlap` or
    JUDGE[=MODEL] of kind likelihood or pairwise. limit: at most so many personas. Raises InputError for names that do not exist and data
    that cannot be used.
    """
    chosen_learners = _known(learners, LEARNERS, "learner")
    chosen_orders = _known(orders, ORDERS, "order")
    player = find_language_model(model)
    judge = None
    if "profile" in chosen_learners and scorer != OVERLAP:
        judge = find_judges([scorer], ("likelihood", "pairwise"), seed)[0]
    material = load_material(dataset, limit, seed)
    calls = open_calls(
        out, [judge] if judge else [], None if player.scripted else player, budget=budget, dry_run=dry_run
    )
    shared: dict[str, Any] = {
        "orders": chosen_orders,
        "steps": list(STEPS),
        "limit": limit,
        "personas": len(material.personas),
        "pairs_a_persona": PAIRS_A_PERSONA,
    }
    tables = []
    for learner in chosen_learners:
        name, own_settings = _learner_settings(learner, judge, player)
        settings = shared | own_settings
        facts = _simulator_facts(None if learner == "pairs" or player.scripted else player)
        fingerprint = {
            "dataset": content_hash(dataset),
            "settings": settings,
            "judge": judge_identity(judge, calls) if judge and learner == "profile" else None,
            "seed": seed,
            "simulator": digest(
                [facts, QUESTIONS_FILE.read_text(encoding="utf-8"), dataclasses.asdict(SAMPLING), ATTEMPTS]
            ),
        }
        if not dry_run and (kept := finished_result(out, name, fingerprint)):
            tables.append(printed(kept))
            continue
        calls.begin_part()
        if learner == "profile":
            asked, scores, transcripts, counts = elicit_profiles(material, player, judge, chosen_orders, seed, calls)
        else:
            asked, scores, transcripts, counts = elicit_pairs(material, chosen_orders, seed)
        if dry_run:
            continue
        check_all_answered(calls)
        scorer_judge = judge if learner == "profile" else None
        scored = _with_margins(scores, transcripts, scorer_judge.judge if scorer_judge else None)
        templates = [] if learner == "pairs" or player.scripted else [TEMPLATE]
        result = Result(
            evaluation="elicitation",
            name=name,
            description=_description(learner, settings["scorer"], facts),
            fingerprint=fingerprint,
            dataset=dataset_identity(dataset, rows_by_split((row.config, row.split) for row in material.rows)),
            subject=facts,
            judges=[judge_facts(scorer_judge, read_build(dataset), None)] if scorer_judge else [],
            settings=settings,
            seed=seed,
            provenance=provenance(command, templates, calls),
            rows=reasons_of(scored),
            files=_write_tables(out, name, scores, asked, transcripts if scorer_judge else None),
            content=content_of(scored, counts, seed),
        )
        write_result(out, result)
        tables.append(printed(result))
    return spent(calls) if dry_run else "\n\n".join([*tables, spent(calls)])


def rescored(result: Result, folder: Path, judges: Mapping[str, Judge]) -> Result:
    """The result computed anew from the kept rows and replies. judges: label in the result -> today's judge. Calls no model."""
    scores = read_table(folder / f"{result.name}.scores.parquet")
    if not result.judges:
        return dataclasses.replace(
            result, content=content_of(scores, result.content["interviews"], result.seed), rows=reasons_of(scores)
        )
    facts = todays_facts(result.judges, judges)
    judge = judges[result.judges[0]["label"]]
    transcripts = read_table(folder / f"{result.name}.judgements.parquet")
    scored = _with_margins(scores, transcripts, judge)
    return dataclasses.replace(
        result,
        content=content_of(scored, result.content["interviews"], result.seed),
        rows=reasons_of(scored),
        judges=facts,
    )


def _with_margins(scores: Sequence[Row], transcripts: Sequence[Row], judge: Judge | None) -> list[Row]:
    """The rows with the verdicts that today's parser reads from a judge's kept replies."""
    if judge is None:
        return list(scores)
    verdicts: Mapping[str, Any] = reread(judge, transcripts)
    filled = []
    for row in scores:
        if row["reason"] is not None:
            filled.append(row)
            continue
        verdict = verdicts[row["item_id"]]
        # Orders that disagree are a tie, however far the mean of their probabilities is from one half.
        margin = 0.0 if verdict.verdict == "tie" else margin_of(judge, verdict)
        filled.append(row | {"margin": margin, "reason": (verdict.reason or "unscored") if margin is None else None})
    return filled


def _known(given: Sequence[str] | None, names: Sequence[str], option: str) -> list[str]:
    """Without any given, all; in the order of `names`, each once."""
    unknown = [name for name in given or () if name not in names]
    if unknown:
        raise InputError(f"--{option} is {unknown[0]!r}; choose from {', '.join(names)}.")
    return [name for name in names if not given or name in given]


def _learner_settings(learner: str, judge: EvaluationJudge | None, player: LanguageModel) -> tuple[str, dict[str, Any]]:
    """(name of the result, what its settings say beside those that all learners share)."""
    if learner == "profile":
        return _profile_name(judge, player), {"learner": learner, "scorer": judge.judge.label if judge else OVERLAP}
    fixed = {"dimensions": DIMENSIONS, "prior_variance": PRIOR_VARIANCE}
    return "elicitation-pairs", {"learner": learner, "scorer": "Bayesian logistic regression", **fixed}


def _write_tables(
    out: Path, name: str, scores: Sequence[Row], asked: Sequence[Row], transcripts: Sequence[Row] | None
) -> dict[str, str]:
    """File name -> SHA-256. transcripts: None where no judge was asked."""
    files = write_table(out, f"{name}.scores.parquet", scores, SCORE_COLUMNS)
    files |= write_table(out, f"{name}.interviews.parquet", asked, INTERVIEW_COLUMNS)
    if transcripts is not None:
        files |= write_table(out, f"{name}.judgements.parquet", transcripts, TRANSCRIPT_COLUMNS)
    return files


def _profile_name(judge: EvaluationJudge | None, player: LanguageModel) -> str:
    scorer = OVERLAP if judge is None else f"{judge.judge.name}-{file_name(judge.recipe.model.rsplit('/', 1)[-1])}"
    return f"elicitation-profile-{scorer}-{'exact' if player.scripted else player.name}"


def _simulator_facts(player: LanguageModel | None) -> dict[str, Any]:
    """Of whoever answers, for `Result.subject`. Labels of pairs and exact answers come from the dataset, not from a model."""
    if player is None:
        return {
            "name": "exact",
            "kind": "persona simulator: answers exactly",
            "provider": "none",
            "model": None,
            "revision": None,
            "training": None,
        }
    return {"name": player.name, **player.facts, "kind": "persona simulator: language model"}


def _description(learner: str, scorer: str, facts: Mapping[str, Any]) -> str:
    if learner == "pairs":
        return "Elicitation by labelled pairs: Bayesian logistic regression on frozen features of the answers"
    return f"Elicitation by questions about oneself, answers by {facts['name']}, preferences by {scorer}"
