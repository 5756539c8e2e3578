"""Accuracy, the specificity gap, agreement with the judge and how unequally personas are served, each with n and a
bootstrap interval over personas and prompts.

A tie counts half and is also reported apart. An unscored row counts nowhere, and is reported with its reason. A
contrast row counts only where its mirror is scored too: on complete mirrored sets a scorer that ignores the persona
then comes out at exactly 0.5.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from builder.judge.judge import PUBLISHED_VERDICTS
from builder.judge.judge import WORTH as WORTH_OF_FIRST
from builder.randomness import rng_for
from eval.rows import EvaluatedRow
from eval.scores import PairScore
from training.estimates import CONSTANT_RATER, Estimate, cohens_kappa, estimate_derived, estimate_mean, resample
from training.fairness import inequality, persona_groups
from training.metrics import CELLS

FEW_CLUSTERS = 10  # below this many clusters a cluster bootstrap is known to give intervals that are too narrow
# `flipped`: the judge that labelled the rows changes sides with the persona; `flipped_second`: another judge does.
SUBSETS = {"dpf": ("all",), "contrast": ("all", "flipped", "flipped_second")}
GAPS = (("true", "wrong"), ("true", "none"))
WORTH = {PUBLISHED_VERDICTS[verdict]: worth for verdict, worth in WORTH_OF_FIRST.items()} | {"unscored": math.nan}


@dataclass(frozen=True)
class Measurement:
    """One condition on one (config, subset, cell)."""

    config: str
    subset: str
    cell: str
    condition: str
    rows: int  # in this cell, scored or not
    unscored: dict[str, int]  # reason -> rows
    mirrors_dropped: int  # scored contrast rows left out because their mirror is unscored or absent
    ties: int
    personas: int
    prompts: int
    accuracy: Estimate
    judge_agreement: Estimate  # with the judge's own verdict, over the rows that have one; a tie of either is half
    kappa: Estimate  # Cohen's, between the side that the scorer prefers and the one that the judge does; in [-1, 1]
    kappa_left_out: dict[str, int]  # counted rows that no kappa can use: scorer ties, judge ties, judge has no verdict


@dataclass(frozen=True)
class Gap:
    """accuracy(true) - accuracy(`against`), over the rows counted under both conditions."""

    config: str
    subset: str
    cell: str
    against: str
    difference: Estimate


@dataclass(frozen=True)
class Disagreement:
    """How often the scorer prefers what the judge does for the row's persona, where the judge has others prefer the other side.

    Rows are weighted by the share of other personas for whom the judge prefers the other side (`disagreement_weights`): where all agree
    the weight is 0, and a scorer that knows only what most people like loses exactly the rows that weigh most.
    """

    config: str
    condition: str
    weight: float  # sum of the weights
    accuracy: Estimate  # n: rows with a weight above 0


@dataclass(frozen=True)
class Figures:
    """All that is computed from one scorer's scores. spread: training.fairness.inequality, with `config` and `condition`."""

    measurements: list[Measurement]
    gaps: list[Gap]
    disagreement: list[Disagreement]
    spread: list[dict[str, Any]]


def measure(
    rows: Sequence[EvaluatedRow],
    scores: Mapping[str, Sequence[PairScore]],
    seed: int,
    profiles: Mapping[str, str] | None = None,
) -> Figures:
    """Every figure of one scorer.

    `scores` holds for each condition one PairScore per row, in the order of `rows`. profiles: persona id -> profile, from which the
    groups of `spread` come.
    """
    outcomes = {condition: counted_outcomes(rows, values) for condition, values in scores.items()}
    agreements = {condition: judge_agreements(rows, values) for condition, values in outcomes.items()}
    sides = {condition: preferred_sides(rows, values) for condition, values in outcomes.items()}
    judged = preferred_sides(rows, np.array([WORTH[row.judge_verdict] for row in rows], dtype=float))
    compared = [pair for pair in GAPS if pair[0] in outcomes and pair[1] in outcomes]
    measurements: list[Measurement] = []
    gaps: list[Gap] = []
    for config in SUBSETS:
        for subset in SUBSETS[config]:
            for cell in CELLS:
                places = np.flatnonzero(_membership(rows, config, subset, cell)).tolist()
                if not places:
                    continue
                columns = [outcomes[c][places] for c in outcomes]
                columns += [agreements[c][places] for c in outcomes]
                columns += [outcomes[left][places] - outcomes[right][places] for left, right in compared]
                for condition in outcomes:
                    columns += _kappa_columns(sides[condition][places], judged[places])
                own = [rows[place] for place in places]
                resampled = resample(
                    np.stack(columns, axis=1),
                    [row.cluster for row in own],
                    rng_for(seed, "eval/bootstrap", f"{config}/{subset}/{cell}"),
                    [row.prompt_id for row in own],
                )
                first_gap = 2 * len(outcomes)
                first_kappa = first_gap + len(compared)
                for index, condition in enumerate(outcomes):
                    start = first_kappa + 4 * index
                    measurements.append(
                        _measurement(
                            (config, subset, cell, condition),
                            own,
                            [scores[condition][place] for place in places],
                            outcomes[condition][places],
                            estimate_mean(resampled, index),
                            estimate_mean(resampled, len(outcomes) + index),
                            estimate_derived(resampled, range(start, start + 4), cohens_kappa, CONSTANT_RATER),
                        )
                    )
                for index, (_, against) in enumerate(compared):
                    gaps.append(Gap(config, subset, cell, against, estimate_mean(resampled, first_gap + index, True)))
    groups = persona_groups(profiles or {})
    return Figures(
        measurements,
        gaps,
        measure_disagreement(rows, agreements, seed),
        [
            {"config": config, "condition": condition, **_inequality(rows, values, config, groups, seed)}
            for config in SUBSETS
            if any(row.config == config for row in rows)
            for condition, values in outcomes.items()
        ],
    )


def measure_disagreement(
    rows: Sequence[EvaluatedRow], agreements: Mapping[str, np.ndarray], seed: int
) -> list[Disagreement]:
    """One for each config and condition. agreements: condition -> `judge_agreements`."""
    weights = disagreement_weights(rows)
    found = []
    for config in SUBSETS:
        if not any(row.config == config for row in rows):
            continue
        places = [place for place, row in enumerate(rows) if row.config == config and weights[place] > 0]
        if not places:
            none = Estimate(None, None, None, 0, 0, "no disagreement among personas")
            found += [Disagreement(config, condition, 0.0, none) for condition in agreements]
            continue
        columns = []
        for values in agreements.values():
            own = np.where(np.isnan(values[places]), math.nan, weights[places])
            columns += [own * values[places], own]
        resampled = resample(
            np.stack(columns, axis=1),
            [rows[place].cluster for place in places],
            rng_for(seed, "eval/disagreement", config),
            [rows[place].prompt_id for place in places],
        )
        for index, condition in enumerate(agreements):
            pair = (2 * index, 2 * index + 1)
            estimate = estimate_derived(resampled, pair, _ratio, "no disagreement among personas")
            found.append(Disagreement(config, condition, float(np.nansum(resampled.values[:, pair[1]])), estimate))
    return found


def _ratio(means: np.ndarray) -> np.ndarray:
    ratio: np.ndarray = means[..., 0] / means[..., 1]
    return ratio


def disagreement_weights(rows: Sequence[EvaluatedRow]) -> np.ndarray:
    """For each row the share, in [0, 1], of the other personas for whom the judge prefers the other side; 0 without a clear verdict or
    without others. Shape (rows,).

    The others are those whose rows set the same two sides against one another. On `dpf` these are the rows of the prompt: the persona's
    revision against the base answer. On `contrast` it is the mirror, with the same two texts: so the weight is 1 where the judge prefers
    another text for each of the two personas, whichever, and else 0.
    """
    judged = preferred_sides(rows, np.array([WORTH[row.judge_verdict] for row in rows], dtype=float))
    units: dict[tuple[Any, ...], list[int]] = {}
    for place, row in enumerate(rows):
        if not math.isnan(judged[place]):
            compared = row.cluster if row.config == "contrast" else ()
            units.setdefault((row.config, row.prompt_id, compared), []).append(place)
    weights = np.zeros(len(rows))
    for places in units.values():
        own = judged[places]
        if len(own) > 1:
            others = np.where(own == 1.0, (own == 0.0).sum(), (own == 1.0).sum())
            weights[places] = others / (len(own) - 1)
    return weights


def preferred_sides(rows: Sequence[EvaluatedRow], outcomes: np.ndarray) -> np.ndarray:
    """1 for the first side, 0 for the second, NaN for a tie or without an outcome. outcomes: 1 for the chosen text. Shape (rows,).

    On `dpf` the sides are revision and base answer. On `contrast` they are the texts of the two personas in the order of their ids:
    `chosen` there is always the own text of the persona that is asked, so that it says nothing apart from who is asked.
    """
    swapped = np.array([row.config == "contrast" and row.persona_id != row.cluster[0] for row in rows], dtype=bool)
    sides = np.where(swapped, 1.0 - outcomes, outcomes)
    sides[sides == 0.5] = math.nan
    return sides


def _kappa_columns(first: np.ndarray, second: np.ndarray) -> list[np.ndarray]:
    """Four columns from whose means `cohens_kappa` follows, one for each pair of sides; NaN where either has none."""
    missing = np.isnan(first) | np.isnan(second)
    return [
        np.where(missing, math.nan, (first == one) & (second == other)) for one in (0.0, 1.0) for other in (0.0, 1.0)
    ]


def counted_outcomes(rows: Sequence[EvaluatedRow], scores: Sequence[PairScore]) -> np.ndarray:
    """1 where the chosen text scores higher, 0.5 for a tie, 0 otherwise; NaN where the row does not count. Shape
    (rows,).
    """
    pairs = [(row.pair_id, row.mirror_pair_id) for row in rows]
    return outcomes_of(pairs, [score.verdict for score in scores])


def outcomes_of(pairs: Sequence[tuple[str, str | None]], verdicts: Sequence[str]) -> np.ndarray:
    """`counted_outcomes` of bare ids (pair, its mirror) and verdicts."""
    outcomes = np.array([WORTH[verdict] for verdict in verdicts], dtype=float)
    scored = {pair for (pair, _), outcome in zip(pairs, outcomes, strict=True) if not math.isnan(outcome)}
    for place, (_, mirror) in enumerate(pairs):
        if mirror is not None and mirror not in scored:
            outcomes[place] = math.nan
    return outcomes


def judge_agreements(rows: Sequence[EvaluatedRow], outcomes: np.ndarray) -> np.ndarray:
    """1 where scorer and judge prefer the same text, 0 where not, 0.5 where either ties; NaN without a verdict."""
    judged = np.array([WORTH[row.judge_verdict] for row in rows], dtype=float)
    return (1.0 + np.sign(judged - 0.5) * np.sign(outcomes - 0.5)) / 2.0


def _measurement(
    key: tuple[str, str, str, str],
    rows: Sequence[EvaluatedRow],
    scores: Sequence[PairScore],
    outcomes: np.ndarray,
    accuracy: Estimate,
    judge_agreement: Estimate,
    kappa: Estimate,
) -> Measurement:
    counted = ~np.isnan(outcomes)
    own = [(row, outcome) for row, outcome in zip(rows, outcomes, strict=True) if not math.isnan(outcome)]
    left_out = Counter(
        "judge has no verdict"
        if row.judge_verdict == "unscored"
        else "judge ties"
        if row.judge_verdict == "tie"
        else "scorer ties"
        for row, outcome in own
        if row.judge_verdict in ("unscored", "tie") or outcome == 0.5
    )
    unscored = Counter(score.reason for score in scores if score.reason is not None)
    return Measurement(
        *key,
        rows=len(rows),
        unscored=dict(sorted(unscored.items())),
        mirrors_dropped=len(rows) - sum(unscored.values()) - int(counted.sum()),
        ties=int((outcomes[counted] == 0.5).sum()),
        personas=len({row.persona_id for row, _ in own}),
        prompts=len({row.prompt_id for row, _ in own}),
        accuracy=accuracy,
        judge_agreement=judge_agreement,
        kappa=kappa,
        kappa_left_out=dict(sorted(left_out.items())),
    )


def _inequality(
    rows: Sequence[EvaluatedRow],
    outcomes: np.ndarray,
    config: str,
    groups: Mapping[str, Mapping[str, str]],
    seed: int,
) -> dict[str, Any]:
    places = [
        place for place, row in enumerate(rows) if row.config == config and not math.isnan(float(outcomes[place]))
    ]
    personas = [rows[place].persona_id for place in places]
    return inequality(outcomes[places], personas, groups, rng_for(seed, "eval/inequality", config))


def _membership(rows: Sequence[EvaluatedRow], config: str, subset: str, cell: str) -> np.ndarray:
    flipped = {row.pair_id for row in rows if (row.second_flip if subset == "flipped_second" else row.flip)}
    return np.array(
        [
            row.config == config
            and (cell == "all" or row.cell == cell)
            # Both mirrors or neither, even where only one of them carries the mark.
            and (subset == "all" or (row.pair_id in flipped and row.mirror_pair_id in flipped))
            for row in rows
        ],
        dtype=bool,
    )
