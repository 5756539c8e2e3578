"""Contrast pairs: the same question, two personas' revisions, and which belongs to whom.

`chosen` is the persona's own revision, `rejected` the partner's. All candidates are kept; `flips` says for each judge whether its
preference turns round between the two personas.

partners.py chooses the candidates; `judge_candidates` has a shard of them judged and leaves a small table without texts; contrast_rows.py
makes the published rows of it. What all of it says about a judge is counted in flips.py.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from builder.judge.judge import Comparison, Judge, Verdict, compare, margin, published_verdict
from builder.pairs.judgements import judgement_rows
from builder.pairs.partners import Candidate
from builder.pairs.shard_result import ShardResult
from builder.recipe import BuildRecipe
from builder.schema import contrast_pair_id, ids_of_dpf_pair

Row = dict[str, Any]


def judged_schema() -> Any:
    """Columns of a judged candidate: `first` and `second` are its two rows of `dpf`, each with what a judge says under its persona.

    judged: one entry a judge, in the recipe's order. The verdicts are about (own text, the other's).
    """
    import pyarrow as arrow

    said = [("verdict", arrow.string()), ("score", arrow.float64()), ("margin", arrow.float64())]
    judged = [("judge", arrow.string()), ("flip", arrow.bool_()), ("is_selector", arrow.bool_())]
    judged += [(f"{side}_{name}", kind) for side in ("first", "second") for name, kind in said]
    return arrow.schema(
        [
            ("first_pair_id", arrow.string()),
            ("second_pair_id", arrow.string()),
            ("distance", arrow.float64()),
            ("judged", arrow.list_(arrow.struct(judged))),
        ]
    )


def judge_candidates(
    recipe: BuildRecipe,
    calls: Any,
    judges: Sequence[Judge],
    candidates: Sequence[Candidate],
    text_of: Mapping[str, str],
    profile_of: Mapping[str, str],
    question_of: Mapping[str, str],
) -> ShardResult:
    """Ask every judge, for both personas of each candidate, whether it prefers the persona's own text to the other's.

    text_of: `dpf` pair id -> chosen text. profile_of: persona id -> profile. question_of: prompt id -> question. Candidates whose texts
    are the same go to the ledger and are not judged.

    Returns: one row a candidate with different texts (`judged_schema`); counted are published rows, two a candidate.
    """
    different = [c for c in candidates if text_of[c.first_pair_id] != text_of[c.second_pair_id]]
    comparisons = []
    for candidate in different:
        (first, prompt), (second, _) = (
            ids_of_dpf_pair(candidate.first_pair_id),
            ids_of_dpf_pair(candidate.second_pair_id),
        )
        texts = text_of[candidate.first_pair_id], text_of[candidate.second_pair_id]
        comparisons.append(Comparison(profile_of[first], question_of[prompt], texts))
        comparisons.append(Comparison(profile_of[second], question_of[prompt], texts[::-1]))
    rows = [c._asdict() | {"judged": []} for c in different]
    judgements: list[Row] = []
    for judge in judges:
        label = f"{judge.role.replace('_', ' ')} on contrast pairs"
        verdicts = compare(judge, calls, comparisons, label) if comparisons else []
        is_selector = chose_revisions(recipe, judges, judge)
        for row, candidate, own, mirrored in zip(rows, different, verdicts[::2], verdicts[1::2], strict=True):
            row["judged"].append(said_by(judge, own, mirrored, is_selector))
            for pair_id, verdict in zip(mirror_ids(candidate), (own, mirrored), strict=True):
                judgements += judgement_rows(judge, pair_id, verdict)
    return ShardResult(
        judged_table(rows),
        {
            "in": 2 * len(candidates),
            "out": 2 * len(different),
            "dropped": {"identical_texts": 2 * (len(candidates) - len(different))}
            if len(different) < len(candidates)
            else {},
        },
        [
            {"stage": "contrast", "item": mirror_ids(candidate)[0], "reason": "identical_texts", "detail": ""}
            for candidate in candidates
            if text_of[candidate.first_pair_id] == text_of[candidate.second_pair_id]
        ],
        judgements=judgements,
    )


def chose_revisions(recipe: BuildRecipe, judges: Sequence[Judge], judge: Judge) -> bool:
    """Whether `judge` is the one that chose among revisions, or another name for it: the same kind of judge on the same model has the same
    likings, whatever its template."""

    def likings(judge: Judge) -> tuple[str, str, str | None]:
        return judge.kind, judge.model, getattr(recipe.models, judge.role).revision

    return recipe.pairs.candidates > 1 and likings(judge) == likings(judges[0])


def judged_table(rows: list[Row]) -> Any:
    import pyarrow as arrow

    return arrow.Table.from_pylist(rows, schema=judged_schema())


def said_by(judge: Judge, first: Verdict, second: Verdict, is_selector: bool) -> Row:
    """The preference flips where both personas get their own text; a tie under one of them is no flip."""
    scored = "unscored" not in (first.verdict, second.verdict)
    said: Row = {
        "judge": judge.label,
        "flip": first.verdict == second.verdict == "A" if scored else None,
        "is_selector": is_selector,
    }
    for side, verdict in (("first", first), ("second", second)):
        said |= {
            f"{side}_verdict": published_verdict(verdict),
            f"{side}_score": verdict.score,
            f"{side}_margin": margin(judge, verdict),
        }
    return said


def mirror_ids(candidate: Candidate) -> tuple[str, str]:
    (first, prompt), (second, _) = ids_of_dpf_pair(candidate.first_pair_id), ids_of_dpf_pair(candidate.second_pair_id)
    return contrast_pair_id(first, second, prompt), contrast_pair_id(second, first, prompt)
