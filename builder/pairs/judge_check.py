"""The check of the paper's claim that a role-playing judge prefers the revision on 96 % of the pairs (section 3.2).

A judge that chose the revision among several cannot be asked how good revisions are. So every judge is asked about the first revision
drawn, before any choice, on a sample of pairs stratified by split and topic; ties and order are counted (decision Q19).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from builder.judge.judge import Judge, Verdict, may_pass, published_verdict
from builder.pairs.assignment import Assigned
from builder.prompts.split import largest_remainder
from builder.randomness import seed_for
from builder.recipe import BuildRecipe
from builder.schema import SPLITS, dpf_pair_id, split_for
from builder.statistics import clustered_interval

Row = dict[str, Any]
PAPER_RATE = 0.96
FEWEST = 20  # scored rows; a share of fewer is withheld


def choose_check(
    seed: int,
    size: int,
    assigned: Sequence[Assigned],
    topic_of: Mapping[str, str],
    group_of: Mapping[str, str],
    config: str = "dpf",
) -> frozenset[str]:
    """Pair ids of a sample of `size` of the assigned pairs (all, if there are fewer), stratified by split and topic.

    Each stratum gets its proportional number, whole numbers by largest remainders; within it the draw depends on seed and pair id only.

    topic_of: by prompt id. group_of: by persona id.
    """
    if size <= 0:
        return frozenset()
    strata: dict[str, list[tuple[str, str]]] = {}
    for a in assigned:
        stratum = f"{split_for(a.part, group_of[a.persona_id])}/{topic_of[a.prompt_id] or ''}"
        strata.setdefault(stratum, []).append((a.persona_id, a.prompt_id))
    sizes = {stratum: len(pairs) for stratum, pairs in strata.items()}
    numbers = largest_remainder(sizes, min(size, len(assigned)), seed, "judge_check_stratum")
    return frozenset(
        dpf_pair_id(persona, prompt, config)
        for stratum, pairs in strata.items()
        for persona, prompt in sorted(pairs, key=lambda p: (seed_for(seed, "judge_check", "/".join(p)), p))[
            : numbers[stratum]
        ]
    )


def check_row(
    pair_id: str, split: str, persona: Row, prompt: Row, judge: Judge, verdict: Verdict, recipe: BuildRecipe
) -> Row:
    """The outcome of one judge on one pair: `verdict` on (first revision, base answer). `may_pass`: a call of it failed because of the
    endpoint."""
    return {
        "pair_id": pair_id,
        "persona_id": persona["persona_id"],
        "prompt_id": prompt["prompt_id"],
        "split": split,
        "reviser": recipe.models.reviser.model,
        "judge": judge.label,
        "judge_model": judge.model,
        "verdict": published_verdict(verdict),
        "may_pass": may_pass(verdict),
    }


def summarise_check(rows: Sequence[Row], seed: int) -> Row:
    """What the rows of `check_row` say, one entry per judge and model that wrote the revisions.

    Each entry: {judge, judge_model, reviser, judge_wrote_it, rates as below, splits: {split: rates}}. Rates: n (scored), preferred,
    ties, against, unscored; `rate` with ties as not preferred and `rate_ties_half`, each with its 95 % interval [low, high]; all None
    (withheld) below FEWEST scored rows. The intervals draw personas and prompts: pairs of a prompt share its base answer.
    """
    entries: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        entries.setdefault((row["judge"], row["reviser"]), []).append(row)
    return {
        "paper_rate": PAPER_RATE,
        "judges": [
            {
                "judge": judge,
                "judge_model": own[0]["judge_model"],
                "reviser": reviser,
                # Then the rate is a model's opinion of its own texts.
                "judge_wrote_it": own[0]["judge_model"] == reviser,
                **_rates(own, seed, f"{judge}/{reviser}"),
                "splits": {
                    split: _rates(part, seed, f"{judge}/{reviser}/{split}")
                    for split in SPLITS
                    if (part := [row for row in own if row["split"] == split])
                },
            }
            for (judge, reviser), own in sorted(entries.items())
        ],
    }


def _rates(rows: Sequence[Row], seed: int, key: str) -> Row:
    counts = Counter(row["verdict"] for row in rows)
    scored = [row for row in rows if row["verdict"] != "unscored"]
    clusters = [(row["persona_id"], row["prompt_id"]) for row in scored]
    enough = len(scored) >= FEWEST
    result: Row = {
        "n": len(scored),
        "preferred": counts["chosen"],
        "ties": counts["tie"],
        "against": counts["rejected"],
        "unscored": counts["unscored"],
    }
    # The same resamples for both: where nothing ties they are one number, with one interval.
    for name, tie in (("rate", 0.0), ("rate_ties_half", 0.5)):
        values = [{"chosen": 1.0, "tie": tie, "rejected": 0.0}[row["verdict"]] for row in scored]
        result[name] = sum(values) / len(values) if enough else None
        result[f"{name}_interval"] = (
            list(clustered_interval(values, clusters, seed, f"judge_check/{key}")) if enough else None
        )
    return result
