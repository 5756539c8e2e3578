"""Elicitation (paper, section 1, the fifth intended use): what is asking a persona a few questions worth?

Each persona is interviewed: about itself (learner `profile`), or which of two answers it prefers (learner `pairs`). After 0, 1, 2, 4 and 8
answers what was learned predicts its preferences on test pairs. The control is an interview with the wrong persona of the pair.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from builder.errors import InputError
from builder.judge.judge import Comparison, Judge, compare
from builder.judge.judge import margin as margin_of
from builder.lexical import profile_overlap
from builder.llm.budget import Budget
from builder.llm.calls import ModelCalls
from builder.randomness import rng_for
from eval.calls import MODEL_ROLE, check_all_answered, open_calls, spent
from eval.elicitation.curves import ALL, STEPS, content_of, reasons_of
from eval.elicitation.learners import (
    DIMENSIONS,
    LEARNERS,
    PRIOR_VARIANCE,
    Features,
    fit_features,
    learn_taste,
    most_uncertain_pair,
    partial_profile,
    squared_lengths,
)
from eval.elicitation.material import PAIRS_A_PERSONA, Material, Pair, askable, load_material, wrong_persona
from eval.elicitation.orders import (
    ORDERS,
    Population,
    describe_population,
    fixed_order,
    fixed_pairs,
    most_uncertain_attribute,
    question_spread,
    random_order,
)
from eval.elicitation.section import text_table
from eval.elicitation.simulator import (
    ATTEMPTS,
    QUESTIONS_FILE,
    SAMPLING,
    TEMPLATE,
    Reply,
    Stated,
    question_about,
    replies,
)
from eval.judging import EvaluationJudge, find_judges, judge_facts, judge_identity, todays_facts
from eval.language_models import LanguageModel, file_name, find_language_model
from eval.provenance import dataset_identity, provenance, rows_by_split
from eval.results import Result, check_files, digest, is_finished, read_result, result_path, write_result
from eval.rows import EvaluatedRow, content_hash, read_build
from eval.tables import read_table, write_table
from eval.transcripts import TRANSCRIPT_COLUMNS, reread, transcript_rows
from training.profiles import stated_attributes

OVERLAP = "profile-overlap"
# One row for each pair, condition (none, true, wrong), order and k. order is empty where it plays no part: nothing or everything known.
# k: answers known; ALL for everything. asked: questions that it took. item_id: of the comparison that a judge made, else empty, and then
# `margin` is the verdict: positive for the chosen answer. reason: why there is none.
SCORE_COLUMNS = {
    "config": "string",
    "split": "string",
    "persona_group": "string",
    "pair_id": "string",
    "prompt_id": "string",
    "persona_id": "string",
    "partner_persona_id": "string",
    "shown_persona_id": "string",
    "order": "string",
    "condition": "string",
    "k": "int64",
    "asked": "int64",
    "item_id": "string",
    "margin": "double",
    "reason": "string",
}
# One row for each question of an interview. asked_about: an attribute, or the id of a pair. held_out_for: the persona whose test questions
# were left out of a pool (learner pairs). status: see simulator.Reply; of a pair `answered`.
INTERVIEW_COLUMNS = {
    "config": "string",
    "order": "string",
    "persona_id": "string",
    "held_out_for": "string",
    "step": "int64",
    "asked_about": "string",
    "question": "string",
    "answer": "string",
    "status": "string",
    "leaks": "int64",
    "failures": "string",
    "replaced": "bool",
    "states_value": "bool",
}

Row = dict[str, Any]


@dataclass(frozen=True)
class Known:
    """What an interview has told after k answers. what: lines of a profile, or places of labelled pairs."""

    k: int
    asked: int
    what: Any


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
        if learner == "profile":
            settings = shared | {"learner": learner, "scorer": judge.judge.label if judge else OVERLAP}
            name = _profile_name(judge, player)
        else:
            settings = shared | {"learner": learner, "scorer": "Bayesian logistic regression"}
            settings |= {"dimensions": DIMENSIONS, "prior_variance": PRIOR_VARIANCE}
            name = "elicitation-pairs"
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
        if not dry_run and is_finished(out, name, fingerprint):
            tables.append(text_table(read_result(result_path(out, name))))
            continue
        calls.begin_part()
        if learner == "profile":
            asked, scores, transcripts, counts = _elicit_profiles(material, player, judge, chosen_orders, seed, calls)
        else:
            asked, scores, transcripts, counts = _elicit_pairs(material, chosen_orders, seed)
        if dry_run:
            continue
        check_all_answered(calls)
        written_by = judge if learner == "profile" else None
        scored = _with_margins(scores, transcripts, written_by.judge if written_by else None)
        files = write_table(out, f"{name}.scores.parquet", scores, SCORE_COLUMNS)
        files |= write_table(out, f"{name}.interviews.parquet", asked, INTERVIEW_COLUMNS)
        if written_by:
            files |= write_table(out, f"{name}.judgements.parquet", transcripts, TRANSCRIPT_COLUMNS)
        templates = [] if learner == "pairs" or player.scripted else [TEMPLATE]
        result = Result(
            evaluation="elicitation",
            name=name,
            description=_description(learner, settings["scorer"], facts),
            fingerprint=fingerprint,
            dataset=dataset_identity(dataset, rows_by_split((row.config, row.split) for row in material.rows)),
            subject=facts,
            judges=[judge_facts(written_by, read_build(dataset), None)] if written_by else [],
            settings=settings,
            seed=seed,
            provenance=provenance(command, templates, calls),
            rows=reasons_of(scored),
            files=files,
            content=content_of(scored, counts, seed),
        )
        write_result(out, result)
        tables.append(text_table(result))
    return spent(calls) if dry_run else "\n\n".join([*tables, spent(calls)])


def rescored(result: Result, folder: Path, judges: Mapping[str, Judge]) -> Result:
    """The result computed anew from the kept rows and replies. judges: label in the result -> today's judge. Calls no model."""
    check_files(folder, result)
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


# Learner `profile`


def _elicit_profiles(
    material: Material,
    player: LanguageModel,
    judge: EvaluationJudge | None,
    orders: Sequence[str],
    seed: int,
    calls: ModelCalls,
) -> tuple[list[Row], list[Row], list[Row], dict[str, Any]]:
    """(interviews, scores, judge transcripts, counts)."""
    persons = sorted({person for row in material.rows for person in (row.persona_id, wrong_persona(row))})
    stated = {person: _stated(person, material.profiles[person]) for person in {*persons, *material.population}}
    pairs = material.train.get("contrast") or material.train.get("dpf") or []
    population = describe_population({person: stated[person] for person in material.population}, pairs, seed)
    given = {
        order: interview(stated, persons, order, population, seed, None if player.scripted else calls)
        for order in orders
    }
    known = {
        (order, person): list(_known_lines(answers)) for order in orders for person, answers in given[order].items()
    }
    scores: list[Row] = []
    shown: list[str | None] = []  # the profile text of each row
    for row in material.rows:
        for order, condition, person, told in _conditions(row, orders, known):
            scores.append(_score_row(row, order, condition, person, told))
            whole = told.k == ALL
            shown.append(material.profiles[person] if whole else partial_profile(told.what, stated[person]))
    transcripts = _judge(scores, shown, _texts(material.rows), judge, calls)
    return _interview_rows(given), scores, transcripts, _interview_counts(given, material.personas)


def interview(
    stated: Mapping[str, Stated],
    persons: Sequence[str],
    order: str,
    population: Population,
    seed: int,
    calls: ModelCalls | None = None,
    answers: int = STEPS[-1],
) -> dict[str, list[tuple[str, Reply]]]:
    """Persona -> (attribute, reply) in the order asked, until `answers` of them were answered or there is nothing left to ask.

    Everybody is asked one question at a time, so that a model can answer many at once.
    """
    given: dict[str, list[tuple[str, Reply]]] = {person: [] for person in sorted(persons)}
    for_everybody = fixed_order(population)
    while True:
        asked: dict[str, str] = {}
        for person, said in given.items():
            if sum(reply.status == "answered" for _, reply in said) >= answers:
                continue
            following = _next_attribute(order, population, person, said, for_everybody, seed)
            if following is not None:
                asked[person] = following
        if not asked:
            return given
        questions = [(stated[person], question_about(attribute)) for person, attribute in asked.items()]
        said_now = replies(questions, calls, MODEL_ROLE, seed, f"interviews, {order}")
        for (person, attribute), reply in zip(asked.items(), said_now, strict=True):
            given[person].append((attribute, reply))


def _next_attribute(
    order: str,
    population: Population,
    person: str,
    said: Sequence[tuple[str, Reply]],
    for_everybody: Sequence[str],
    seed: int,
) -> str | None:
    if order == "uncertainty":
        return most_uncertain_attribute(population, person, said, for_everybody)
    names = for_everybody if order == "fixed" else random_order(for_everybody, seed, person)
    return names[len(said)] if len(said) < len(names) else None


def _known_lines(said: Sequence[tuple[str, Reply]]) -> Iterator[Known]:
    """What is known at each step that the interview reached."""
    learned: dict[str, str] = {}
    answered = 0
    for asked, (_, reply) in enumerate(said, 1):
        learned |= reply.learned
        if reply.status == "answered":
            answered += 1
            if answered in STEPS:
                yield Known(answered, asked, dict(learned))


def _stated(person: str, profile: str) -> Stated:
    try:
        return stated_attributes(profile)
    except InputError:
        raise InputError(
            f"The profile of {person} begins {profile[:60]!r} and has no line `Label: value`, so nobody can be asked about one attribute. "
            "Use --learner pairs with this dataset, or build profiles of lines."
        ) from None


def _judge(
    scores: Sequence[Row],
    shown: Sequence[str | None],
    texts: Mapping[str, tuple[str, str, str]],
    judge: EvaluationJudge | None,
    calls: ModelCalls,
) -> list[Row]:
    """Fills in `margin` (profile-overlap) or `item_id` (a judge), and returns the judge's transcripts. Equal comparisons are one."""
    items: dict[str, Comparison] = {}
    for row, profile in zip(scores, shown, strict=True):
        if row["reason"] is not None:
            continue
        question, chosen, rejected = texts[row["pair_id"]]
        if judge is None:
            row["margin"] = profile_overlap(chosen, profile or "") - profile_overlap(rejected, profile or "")
        else:
            row["item_id"] = digest([profile, question, chosen, rejected])[:16]
            items[row["item_id"]] = Comparison(profile, question, (chosen, rejected))
    if judge is None:
        return []
    ids = sorted(items)
    verdicts = compare(judge.judge, calls, [items[item] for item in ids], "preferences")
    return transcript_rows(judge.judge, ids, verdicts)


# Learner `pairs`


def _elicit_pairs(
    material: Material, orders: Sequence[str], seed: int
) -> tuple[list[Row], list[Row], list[Row], dict[str, Any]]:
    asked: list[Row] = []
    scores: list[Row] = []
    pools: dict[str, list[int]] = {}
    for config, train in material.train.items():
        features = fit_features(train, seed)
        if features is None:
            raise InputError(
                f"Config {config} has no train pair with words in its answers, so no features can be made. Use --learner profile, or build "
                "with pairs.train above 0."
            )
        differences = features.differences([(pair.preferred, pair.other) for pair in train])
        spread = question_spread(train, squared_lengths(differences).tolist())
        rows_of: dict[str, list[EvaluatedRow]] = {}
        for row in material.rows:
            if row.config == config:
                rows_of.setdefault(row.persona_id, []).append(row)
        for persona in sorted(rows_of):
            rows = rows_of[persona]
            pool = {p: askable(material.pools[config][p], rows) for p in {persona, *map(wrong_persona, rows)}}
            pools.setdefault(config, []).append(len(pool[persona]))
            labels = {p: features.differences([(pair.preferred, pair.other) for pair in pool[p]]) for p in pool}
            places = {
                (order, p): ask_pairs(pool[p], labels[p], order, spread, seed) for order in orders for p in sorted(pool)
            }
            known = {
                key: [Known(k, k, taken[:k]) for k in STEPS[1:] if k <= len(taken)] for key, taken in places.items()
            }
            asked += [
                _pair_row(config, order, p, persona, step, pool[p][place], seed)
                for (order, p), taken in sorted(places.items())
                for step, place in enumerate(taken, 1)
            ]
            scores += _pair_scores(rows, orders, known, labels, features)
    return asked, scores, [], {"pool": {config: _spread(sizes) for config, sizes in sorted(pools.items())}}


def ask_pairs(
    pool: Sequence[Pair],
    differences: np.ndarray,
    order: str,
    spread: Mapping[str, float],
    seed: int,
    answers: int = STEPS[-1],
) -> list[int]:
    """Places of the pool in the order asked, at most `answers`. differences: (pairs, dimensions), preferred minus other.

    `uncertainty` looks at the labels of the pairs asked so far, and at the texts alone of the others.
    """
    place_of = {pair.pair_id: place for place, pair in enumerate(pool)}
    if order == "fixed":
        return [place_of[pair.pair_id] for pair in fixed_pairs(pool, spread)][:answers]
    owner = pool[0].pair_id if pool else ""
    drawn = [place_of[pair_id] for pair_id in random_order(sorted(place_of), seed, owner)]
    if order == "random":
        return drawn[:answers]
    taken: list[int] = []
    left = list(drawn)  # so that equals are taken at random
    while left and len(taken) < answers:
        taste = learn_taste(differences[taken])
        taken.append(left.pop(most_uncertain_pair(taste, differences[left])))
    return taken


def _pair_scores(
    rows: Sequence[EvaluatedRow],
    orders: Sequence[str],
    known: Mapping[tuple[str, str], Sequence[Known]],
    labels: Mapping[str, np.ndarray],
    features: Features,
) -> list[Row]:
    tests = features.differences([(row.chosen or "", row.rejected or "") for row in rows])
    tastes: dict[tuple[str, str, int], np.ndarray] = {}
    scores = []
    for place, row in enumerate(rows):
        for order, condition, person, told in _conditions(row, orders, known):
            score = _score_row(row, order, condition, person, told)
            key = (order, person, told.k)
            if key not in tastes:
                own = labels[person]
                told_by = own[:0] if told.k == 0 else own if told.k == ALL else own[told.what]
                # Rounded, so that a machine's last bits make no verdict out of a tie.
                tastes[key] = np.round(learn_taste(told_by).log_odds(tests), 9)
            if score["reason"] is None:
                score["margin"] = float(tastes[key][place])
            scores.append(score)
    return scores


def _pair_row(config: str, order: str, person: str, held_out_for: str, step: int, pair: Pair, seed: int) -> Row:
    """The question as it is put: the two answers in an order drawn by seed."""
    first_is_preferred = bool(rng_for(seed, "elicitation/sides", pair.pair_id).integers(2))
    sides = (pair.preferred, pair.other) if first_is_preferred else (pair.other, pair.preferred)
    return {
        "config": config,
        "order": order,
        "persona_id": person,
        "held_out_for": held_out_for,
        "step": step,
        "asked_about": pair.pair_id,
        "question": f"Which answer do you prefer?\n{pair.question}\nA: {sides[0]}\nB: {sides[1]}",
        "answer": "A" if first_is_preferred else "B",
        "status": "answered",
        "leaks": 0,
        "failures": "",
        "replaced": False,
        "states_value": None,
    }


# Both


def _conditions(
    row: EvaluatedRow, orders: Sequence[str], known: Mapping[tuple[str, str], Sequence[Known]]
) -> Iterator[tuple[str, str, str, Known]]:
    """(order, condition, who was interviewed, what is known) of every score of one pair. Steps that an interview did not reach are not
    filled up: they are not there.
    """
    true, wrong = row.persona_id, wrong_persona(row)
    yield "", "none", true, Known(0, 0, {})
    for condition, person in (("true", true), ("wrong", wrong)):
        yield "", condition, person, Known(ALL, 0, None)
        for order in orders:
            for told in known[order, person]:
                yield order, condition, person, told


def _score_row(row: EvaluatedRow, order: str, condition: str, person: str, told: Known) -> Row:
    missing = "chosen" if row.chosen is None else "rejected" if row.rejected is None else None
    return {
        "config": row.config,
        "split": row.split,
        "persona_group": row.persona_group,
        "pair_id": row.pair_id,
        "prompt_id": row.published["prompt_id"],
        "persona_id": row.persona_id,
        "partner_persona_id": row.published.get("partner_persona_id"),
        "shown_persona_id": person if told.k else None,
        "order": order,
        "condition": condition,
        "k": told.k,
        "asked": told.asked,
        "item_id": "",
        "margin": None,
        "reason": f"{missing} text missing" if missing else None,
    }


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


def _interview_rows(given: Mapping[str, Mapping[str, Sequence[tuple[str, Reply]]]]) -> list[Row]:
    return [
        {
            "config": "",
            "order": order,
            "persona_id": person,
            "held_out_for": "",
            "step": step,
            "asked_about": attribute,
            "question": reply.question,
            "answer": reply.text,
            "status": reply.status,
            "leaks": reply.leaks,
            "failures": ", ".join(reply.failures),
            "replaced": reply.replaced,
            "states_value": reply.states_value,
        }
        for order in sorted(given)
        for person, said in sorted(given[order].items())
        for step, (attribute, reply) in enumerate(said, 1)
    ]


def _interview_counts(
    given: Mapping[str, Mapping[str, Sequence[tuple[str, Reply]]]], personas: Sequence[str]
) -> dict[str, Any]:
    """Over all interviews, those of wrong personas included; `first` by order: what was asked first, and of how many evaluated personas."""
    said = [reply for interviews in given.values() for answers in interviews.values() for _, reply in answers]
    answered = [reply for reply in said if reply.status == "answered"]
    failures: dict[str, int] = {}
    for reply in said:
        for reason in reply.failures:
            failures[reason] = failures.get(reason, 0) + 1
    first: dict[str, dict[str, int]] = {}
    for order, interviews in given.items():
        for person in personas:
            for attribute, _ in interviews[person][:1]:
                counts = first.setdefault(order, {})
                counts[attribute] = counts.get(attribute, 0) + 1
    return {
        "questions": len(said),
        "answered": len(answered),
        "not_known": sum(reply.status == "not_known" for reply in said),
        "leaks": sum(reply.leaks for reply in said),
        "failures": dict(sorted(failures.items())),
        "replaced": sum(reply.replaced for reply in said),
        "state_the_value": sum(bool(reply.states_value) for reply in answered),
        "first": {
            order: dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
            for order, counts in sorted(first.items())
        },
    }


def _texts(rows: Sequence[EvaluatedRow]) -> dict[str, tuple[str, str, str]]:
    return {row.pair_id: (row.question, row.chosen or "", row.rejected or "") for row in rows}


def _spread(sizes: Sequence[int]) -> dict[str, int]:
    return {"smallest": min(sizes), "largest": max(sizes)}


def _known(given: Sequence[str] | None, names: Sequence[str], option: str) -> list[str]:
    """Without any given, all; in the order of `names`, each once."""
    unknown = [name for name in given or () if name not in names]
    if unknown:
        raise InputError(f"--{option} is {unknown[0]!r}; choose from {', '.join(names)}.")
    return [name for name in names if not given or name in given]


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
