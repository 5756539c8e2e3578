"""Learner `profile`: personas are asked about themselves, and preferences are predicted by what of their profile is known by then."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from builder.errors import InputError
from builder.judge.judge import Comparison, compare
from builder.lexical import profile_overlap
from builder.llm.calls import ModelCalls
from eval.calls import MODEL_ROLE
from eval.elicitation.curves import ALL, STEPS
from eval.elicitation.learners import partial_profile
from eval.elicitation.material import Material, wrong_persona
from eval.elicitation.orders import Population, describe_population, fixed_order, most_uncertain_attribute, random_order
from eval.elicitation.rows import Known, Row, conditions, score_row
from eval.elicitation.simulator import Reply, Stated, question_about, replies
from eval.judging import EvaluationJudge
from eval.language_models import LanguageModel
from eval.results import digest
from eval.rows import EvaluatedRow
from eval.transcripts import transcript_rows
from training.profiles import stated_attributes


def elicit_profiles(
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
        for order, condition, person, told in conditions(row, orders, known):
            scores.append(score_row(row, order, condition, person, told))
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
) -> dict[str, list[tuple[str, Reply]]]:
    """Persona -> (attribute, reply) in the order asked, until STEPS[-1] of them were answered or there is nothing left to ask.

    Everybody is asked one question at a time, so that a model can answer many at once.
    """
    given: dict[str, list[tuple[str, Reply]]] = {person: [] for person in sorted(persons)}
    for_everybody = fixed_order(population)
    while True:
        asked: dict[str, str] = {}
        for person, said in given.items():
            if sum(reply.status == "answered" for _, reply in said) >= STEPS[-1]:
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


def _texts(rows: Sequence[EvaluatedRow]) -> dict[str, tuple[str, str, str]]:
    return {row.pair_id: (row.question, row.chosen or "", row.rejected or "") for row in rows}


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
