"""What annotators say of given pairs: judges asked through recorded calls, kept replies read anew, and those who need no model."""

from collections.abc import Mapping, Sequence
from typing import Any

from builder.judge.judge import Judge, Verdict, compare
from builder.llm.calls import ModelCalls
from eval.agreement.annotators import (
    Annotator,
    Asked,
    comparison,
    file_rating,
    lexical_answer,
    rating,
    verdict_rating,
)
from eval.agreement.choices import Choice
from eval.agreement.pairs import AnnotatedPair
from eval.agreement.simulated import simulated_answer
from eval.transcripts import reread, transcript_rows


def ask_judges(
    asked: Asked,
    annotators: Sequence[Annotator],
    pairs: Sequence[AnnotatedPair],
    profiles: Mapping[str, str],
    calls: ModelCalls,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(the rows of the transcripts, the ratings). item_id of a transcript: PAIR|CONDITION. profiles: persona id -> what a judge is shown of
    it, the whole profile or a part."""
    by_label = {judge.judge.label: judge.judge for judge in asked.judges}
    transcripts, ratings = [], []
    for annotator in annotators:
        if annotator.judge is None:
            continue
        judge = by_label[annotator.judge]
        comparisons = [comparison(pair, annotator.condition, profiles) for pair in pairs]
        verdicts = compare(judge, calls, comparisons, annotator.name)
        transcripts += transcript_rows(judge, [f"{pair.pair_id}|{annotator.condition}" for pair in pairs], verdicts)
        ratings += [verdict_rating(annotator.name, p.pair_id, v) for p, v in zip(pairs, verdicts, strict=True)]
    return transcripts, ratings


def other_ratings(
    annotators: Sequence[Annotator],
    choices: Sequence[Choice],
    pairs: Sequence[AnnotatedPair],
    profiles: Mapping[str, str],
    seed: int,
) -> list[dict[str, Any]]:
    """Of lexical rules, simulated people and files."""
    ratings = []
    for annotator in annotators:
        if annotator.group == "lexical":
            ratings += [rating(annotator.name, p.pair_id, lexical_answer(annotator, p, profiles)) for p in pairs]
        elif annotator.reliability is not None:
            ratings += [
                rating(
                    annotator.name,
                    p.pair_id,
                    simulated_answer(annotator.name, annotator.reliability, p.pair_id, p.label, seed),
                )
                for p in pairs
            ]
    by_id = {pair.pair_id: pair for pair in pairs}
    return [*ratings, *(file_rating(choice, by_id[choice.pair_id]) for choice in choices if choice.pair_id in by_id)]


def reread_ratings(
    annotators: Sequence[Mapping[str, Any]], transcripts: Sequence[Mapping[str, Any]], judges: Mapping[str, Judge]
) -> list[dict[str, Any]]:
    """The ratings of judges from their kept replies. judges: label in the replies -> the judge that reads them today."""
    ratings = []
    for annotator in annotators:
        if annotator["judge"]:
            own = [
                {**row, "item_id": row["item_id"].rpartition("|")[0]}
                for row in transcripts
                if row["judge"] == annotator["judge"] and row["item_id"].endswith(f"|{annotator['condition']}")
            ]
            ratings += [
                verdict_rating(annotator["name"], pair_id, verdict)
                for pair_id, verdict in reread(judges[annotator["judge"]], own).items()
                if isinstance(verdict, Verdict)
            ]
    return ratings


def todays_annotators(annotators: Sequence[dict[str, Any]], judges: Mapping[str, Judge]) -> list[dict[str, Any]]:
    """The annotators with the labels of the judges that read today."""
    return [
        annotator | ({"judge": judges[annotator["judge"]].label} if annotator["judge"] else {})
        for annotator in annotators
    ]


def templates_of(asked: Asked) -> list[str]:
    return sorted({judge.judge.template for judge in asked.judges if judge.judge.template})
