"""Contrast pairs: the same question, two personas' revisions, and which belongs to whom.

`chosen` is the persona's own revision, `rejected` the partner's. Both mirrors are always built, in the same split and group, so every
text is chosen exactly as often as it is rejected and a scorer that does not look at the persona gets exactly one half. All candidates
are kept; `flips` says for each judge whether its preference turns round between the two personas.
"""

from collections.abc import Sequence
from typing import Any

from builder.judge.judge import Comparison, Judge, Verdict, compare, margin, published_verdict
from builder.pairs.assignment import members_by_group, wrong_persona
from builder.pairs.dpf import PairTable
from builder.pairs.flags import leaks_attribute
from builder.randomness import rng_for
from builder.recipe import BuildRecipe
from builder.schema import contrast_pair_id

Row = dict[str, Any]


def build_contrast(
    recipe: BuildRecipe, calls: Any, judge: Judge, personas: list[Row], dpf_rows: list[Row]
) -> PairTable:
    """Mirrored pairs from the rows of `dpf`; only rows of the same prompt, split and persona group are set against each other."""
    candidates = choose_partners(recipe.seed, recipe.contrast.partners, dpf_rows)
    different = [(a, b) for a, b in candidates if a["chosen"] != b["chosen"]]
    profile_of = {p["persona_id"]: p["profile"] for p in personas}

    comparisons = []
    for a, b in different:
        question = a["prompt"][-1]["content"]
        texts = (_text(a), _text(b))
        comparisons.append(Comparison(profile_of[a["persona_id"]], question, texts))
        comparisons.append(Comparison(profile_of[b["persona_id"]], question, (texts[1], texts[0])))
    verdicts = compare(judge, calls, comparisons, "judging contrast pairs")

    persona_of = {p["persona_id"]: p for p in personas}
    members = members_by_group(personas)
    rows, flipped, scored = [], 0, 0
    for (a, b), own, other in zip(different, verdicts[::2], verdicts[1::2], strict=True):
        flip = _flip(own, other)
        scored += flip is not None
        flipped += flip is True
        rows.append(_row(recipe, judge, a, b, own, flip, persona_of, members[a["persona_group"]]))
        rows.append(_row(recipe, judge, b, a, other, flip, persona_of, members[a["persona_group"]]))
    rows.sort(key=lambda row: (row["persona_id"], row["prompt_id"], row["partner_persona_id"]))
    identical = len(candidates) - len(different)
    return PairTable(
        rows=rows,
        counts={
            "in": 2 * len(candidates),
            "out": len(rows),
            "dropped": {"identical_texts": 2 * identical} if identical else {},
        },
        ledger=[
            {
                "stage": "contrast",
                "item": contrast_pair_id(a["persona_id"], b["persona_id"], a["prompt_id"]),
                "reason": r,
                "detail": "",
            }
            for a, b in candidates
            if a["chosen"] == b["chosen"]
            for r in ("identical_texts",)
        ],
        details={
            "flip": {
                "judge": judge.label,
                "n": scored,
                "flipped": flipped,
                "unscored": len(different) - scored,
                "rate": flipped / scored if scored else None,
                "rate_by_chance": 0.25,
                # The judge that picked the revisions also decides the flip: a rate for this judge, not a finding about people.
                "judge_selected_the_revisions": recipe.pairs.candidates > 1,
            }
        },
    )


def choose_partners(seed: int, partners: int, rows: Sequence[Row]) -> list[tuple[Row, Row]]:
    """Unordered pairs of rows: every row draws `partners` others of its prompt, split and group. Each pair once, in id order."""
    cells: dict[tuple[str, str, str], list[Row]] = {}
    for row in sorted(rows, key=lambda r: r["persona_id"]):
        cells.setdefault((row["prompt_id"], row["split"], row["persona_group"]), []).append(row)
    chosen: dict[tuple[str, str, str], tuple[Row, Row]] = {}
    for cell in cells.values():
        for row in cell:
            others = [other for other in cell if other["persona_id"] != row["persona_id"]]
            order = rng_for(seed, "contrast_partner", row["pair_id"]).permutation(len(others))
            for position in order[:partners]:
                first, second = sorted((row, others[position]), key=lambda r: r["persona_id"])
                chosen[(row["prompt_id"], first["persona_id"], second["persona_id"])] = (first, second)
    return [chosen[key] for key in sorted(chosen)]


def _flip(own: Verdict, other: Verdict) -> bool | None:
    """Each persona is judged with its own text as A. The preference turns round if the judge prefers A both times."""
    if "unscored" in (own.verdict, other.verdict):
        return None
    return own.verdict == "A" and other.verdict == "A"


def _row(
    recipe: BuildRecipe,
    judge: Judge,
    own: Row,
    partner: Row,
    verdict: Verdict,
    flip: bool | None,
    persona_of: dict[str, Row],
    group_members: Sequence[str],
) -> Row:
    pair_id = contrast_pair_id(own["persona_id"], partner["persona_id"], own["prompt_id"])
    involved = {own["persona_id"], partner["persona_id"]}
    shared = (
        "split",
        "persona_id",
        "prompt_id",
        "prompt",
        "chosen",
        "topic",
        "persona_group",
        "is_adult",
        "prompt_tokens",
        "chosen_tokens",
    )
    return {
        **{key: own[key] for key in shared},
        "pair_id": pair_id,
        "partner_persona_id": partner["persona_id"],
        "mirror_pair_id": contrast_pair_id(partner["persona_id"], own["persona_id"], own["prompt_id"]),
        "rejected": partner["chosen"],
        "rejected_tokens": partner["chosen_tokens"],
        "wrong_persona_id": wrong_persona(recipe.seed, pair_id, involved, group_members),
        "judge": judge.label,
        "judge_verdict": published_verdict(verdict),
        "judge_score": verdict.score,
        "length_violation": own["chosen_tokens"] >= partner["chosen_tokens"],
        "attribute_leak": leaks_attribute(
            persona_of[own["persona_id"]], _text(own), [own["prompt"][-1]["content"], _text(partner)]
        ),
        "flips": [
            {
                "judge": judge.label,
                "flip": flip,
                "margin": margin(judge, verdict),
                "is_selector": recipe.pairs.candidates > 1,
            },
        ],
    }


def _text(row: Row) -> str:
    return row["chosen"][0]["content"]
