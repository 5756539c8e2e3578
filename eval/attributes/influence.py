"""How much one change of a persona changes the verdicts, against a change that says nothing: pure statistics.

An annotator is a judge that was shown one profile. Three annotators mark the same pairs of answers: `base`, `changed` (the same persona
with one attribute more, less or other) and `null` (the lines of `base` in another order). base against changed is the measure; base against
null is what the judge does when nothing was changed, and no attribute is said to matter that does not change more than that.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from builder.randomness import rng_for
from eval.paired_test import paired_p_values
from training.estimates import (
    CONSTANT_RATER,
    MINIMUM_ROWS,
    Estimate,
    cohens_kappa,
    estimate_columns,
    estimate_derived,
    resample,
)

MARKS = ("A", "B", "tie")
FEWEST_QUESTIONS = 5  # of one persona: with fewer, one verdict moves a kappa by more than 0.4
# Below, no test can reach 0.05 after correction for 33 attributes: 2^-10 is the smallest p there is.
FEWEST_PERSONAS = 10
FDR = 0.05
QUARTILES = (0.25, 0.5, 0.75)

Mark = str | None  # A, B or tie; None: unscored


@dataclass(frozen=True)
class Marks:
    """What three annotators said of one persona's pair on one question, in one test of a change."""

    persona_id: str
    prompt_id: str
    base: Mark
    changed: Mark
    null: Mark


def influence_of(label: str, marks: Sequence[Marks], seed: int) -> dict[str, Any]:
    """One row of `content.attributes`, without q and discovery, which take all attributes. marks: of all personas of this attribute."""
    rows = sorted(marks, key=lambda mark: (mark.persona_id, mark.prompt_id))
    changed = agreement_of([(m.persona_id, m.prompt_id, m.base, m.changed) for m in rows], seed, f"{label}/changed")
    null = agreement_of([(m.persona_id, m.prompt_id, m.base, m.null) for m in rows], seed, f"{label}/null")
    flips = np.array([(flipped(m.base, m.changed), flipped(m.base, m.null)) for m in rows])
    rates = estimate_columns(
        np.column_stack([flips, flips[:, 0] - flips[:, 1]]),
        [(m.persona_id,) for m in rows],
        rng_for(seed, "eval/attributes/flips", label),
        differences=1,
        prompts=[m.prompt_id for m in rows],
    )
    personas = sorted({m.persona_id for m in rows if not math.isnan(flipped(m.base, m.changed))})
    withheld = None if len(personas) >= FEWEST_PERSONAS else f"{len(personas)} personas (at least {FEWEST_PERSONAS})"
    return {
        "attribute": label,
        "personas": len(personas),
        "withheld": withheld,
        **changed,
        "null": null,
        "flip_rate": asdict(rates[0]),
        "null_flip_rate": asdict(rates[1]),
        "difference": asdict(rates[2]),
        "p": None if withheld else p_of_excess(rows, rng_for(seed, "eval/attributes/permutation", label)),
    }


def agreement_of(rows: Sequence[tuple[str, str, Mark, Mark]], seed: int, key: str) -> dict[str, Any]:
    """Cohen's kappa of two annotators. rows: (persona, question, first mark, second mark), not empty.

    {kappa: pooled over personas, with its interval from resampling personas and questions; kappas: {persona: kappa or None}; quartiles: of
    those that are defined; undefined: {reason: personas}}.
    """
    both = [row for row in rows if row[2] is not None and row[3] is not None]
    by_persona: dict[str, np.ndarray] = {row[0]: np.zeros((len(MARKS), len(MARKS))) for row in rows}
    cells = np.zeros((len(both), len(MARKS) ** 2))
    for number, (persona, _, first, second) in enumerate(both):
        cell = MARKS.index(str(first)), MARKS.index(str(second))
        by_persona[persona][cell] += 1
        cells[number, len(MARKS) * cell[0] + cell[1]] = 1
    kappas, reasons = {}, Counter[str]()
    for persona, counts in sorted(by_persona.items()):
        kappas[persona], reason = kappa_of(counts)
        if reason is not None:
            reasons[reason] += 1
    defined = [kappa for kappa in kappas.values() if kappa is not None]
    return {
        "kappa": asdict(_pooled_kappa(cells, both, rng_for(seed, "eval/attributes/kappa", key))),
        "kappas": kappas,
        "quartiles": [float(value) for value in np.quantile(defined, QUARTILES)] if defined else None,
        "undefined": dict(sorted(reasons.items())),
    }


def kappa_of(counts: np.ndarray) -> tuple[float | None, str | None]:
    """(Cohen's kappa, why there is none) of one table of counts, shape (marks, marks)."""
    if counts.sum() < FEWEST_QUESTIONS:
        return None, f"fewer than {FEWEST_QUESTIONS} questions scored"
    value = float(cohens_kappa((counts / counts.sum()).ravel()))
    return (None, CONSTANT_RATER) if math.isnan(value) else (value, None)


def _pooled_kappa(cells: np.ndarray, rows: Sequence[tuple[str, str, Mark, Mark]], rng: np.random.Generator) -> Estimate:
    if len(rows) < MINIMUM_ROWS:
        personas = len({persona for persona, *_ in rows})
        return Estimate(None, None, None, len(rows), personas, f"n < {MINIMUM_ROWS}")
    resampled = resample(cells, [(persona,) for persona, *_ in rows], rng, [prompt for _, prompt, *_ in rows])
    return estimate_derived(resampled, range(cells.shape[1]), cohens_kappa, CONSTANT_RATER)


def flipped(first: Mark, second: Mark) -> float:
    """1 where the verdict changed (a tie is a verdict), 0 where it did not, NaN where one of them is unscored."""
    return math.nan if first is None or second is None else float(first != second)


def p_of_excess(marks: Sequence[Marks], rng: np.random.Generator) -> float:
    """One-sided p: does the change turn more verdicts than the null arm does? Over the questions on which all three were scored.

    Were change and null alike, the two could be exchanged. One-sided, because an attribute that changes less than another order of the
    lines has no influence. 1.0 without such a question.
    """
    rows = [m for m in marks if m.base is not None and m.changed is not None and m.null is not None]
    if not rows:
        return 1.0
    excess = np.array([[flipped(m.base, m.changed) - flipped(m.base, m.null)] for m in rows])
    clusters, prompts = [(m.persona_id,) for m in rows], [m.prompt_id for m in rows]
    return paired_p_values(excess, clusters, prompts, rng, one_sided=True)[0]


def with_discoveries(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same rows with `q` (Benjamini-Hochberg over those that were tested) and `discovered` (q below FDR)."""
    from scipy.stats import false_discovery_control

    tested = [row["p"] for row in rows if row["p"] is not None]
    adjusted = iter(false_discovery_control(tested, method="bh") if tested else ())
    result = []
    for row in rows:
        q = None if row["p"] is None else float(next(adjusted))
        result.append(row | {"q": q, "discovered": q is not None and q < FDR})
    return result


def by_influence(row: Mapping[str, Any]) -> tuple[bool, float, float, str]:
    """Sorting key: the largest influence (the smallest kappa) first, attributes without a figure last."""
    pooled, flips = row["kappa"]["value"], row["flip_rate"]["value"]
    quartiles = row["quartiles"]
    median = quartiles[1] if quartiles else math.inf
    known = pooled if pooled is not None else median
    return (row["withheld"] is not None, known, -(flips or 0.0), row["attribute"])


def determination_of(marks: Mapping[str, Sequence[Marks]], seed: int) -> dict[str, Any]:
    """How far a persona settles the verdict: over all wordings of the same persona (base, null and each `changed`), question by question.

    marks: by attribute left out. Tiers: `settled` (one verdict throughout), `leaning` (one in at least three quarters) and `open`; with the
    mean entropy of the verdicts in bits. Rows with fewer than 3 scored wordings are left out and counted.
    """
    said: dict[tuple[str, str], list[str]] = {}
    fixed: set[tuple[str, str]] = set()
    for name in sorted(marks):
        for m in marks[name]:
            key = (m.persona_id, m.prompt_id)
            heard = [m.changed] if key in fixed else [m.base, m.null, m.changed]
            fixed.add(key)
            said.setdefault(key, []).extend(mark for mark in heard if mark is not None)
    keys = [key for key in sorted(said) if len(said[key]) >= 3]
    if not keys:
        return {"tiers": None, "entropy_bits": None, "wordings": None, "rows": 0, "left_out": len(said)}
    shares = [max(Counter(said[key]).values()) / len(said[key]) for key in keys]
    columns = np.array([(share == 1, 0.75 <= share < 1, share < 0.75) for share in shares], dtype=float)
    rng = rng_for(seed, "eval/attributes/tiers", "")
    tiers = estimate_columns(columns, [(p,) for p, _ in keys], rng, prompts=[q for _, q in keys])
    return {
        "tiers": {name: asdict(tier) for name, tier in zip(("settled", "leaning", "open"), tiers, strict=True)},
        "entropy_bits": float(np.mean([_entropy_bits(said[key]) for key in keys])),
        "wordings": float(np.median([len(said[key]) for key in keys])),
        "rows": len(keys),
        "left_out": len(said) - len(keys),
    }


def _entropy_bits(marks: Sequence[str]) -> float:
    shares = [count / len(marks) for count in Counter(marks).values()]
    return max(0.0, -math.fsum(share * math.log2(share) for share in shares))
