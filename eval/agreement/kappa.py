"""How far annotators agree: Cohen's kappa of two, Krippendorff's alpha of any number, and what most raters of an item say.

Pure functions. An answer is `A`, `B` or `tie`; None where the annotator gave none. A kappa that is not defined has no value and a reason,
and is never taken for 0 or 1.
"""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from builder.statistics import Cluster
from training.estimates import (
    MINIMUM_ROWS,
    Estimate,
    Resampled,
    cohens_kappa,
    estimate_derived,
    estimate_mean,
    resample,
)

ANSWERS = ("A", "B", "tie")
# Of one persona's items: with fewer, one answer moves a kappa by more than 0.4.
FEWEST_OF_PERSONA = 5
ONE_ANSWER = "one answer only"  # an annotator who always says the same: whatever the other says, kappa is 0 or 0/0
CONSENSUS = 0.75  # three of four raters (the paper's rule)
FEWEST_RATERS = 3
WIDTH = len(ANSWERS) ** 2 + 1  # columns that two annotators take

Answers = Sequence[str | None]


def kappa_value(first: Answers, second: Answers, fewest: int = MINIMUM_ROWS) -> tuple[float | None, int, str | None]:
    """(Cohen's kappa, items that both answered, why there is no kappa). Ties are an answer of their own."""
    both = [(one, other) for one, other in zip(first, second, strict=True) if one is not None and other is not None]
    if len(both) < fewest:
        return None, len(both), f"n < {fewest}"
    ones, others = zip(*both, strict=True)
    value = float(cohens_kappa(_cells(ones, others)[:, :-1].mean(axis=0)))
    return (None, len(both), ONE_ANSWER) if math.isnan(value) else (value, len(both), None)


def kappa_estimates(
    pairs: Sequence[tuple[Answers, Answers]],
    clusters: Sequence[Cluster],
    prompts: Sequence[str],
    rng: np.random.Generator,
) -> list[tuple[Estimate, Estimate]]:
    """For each two annotators (kappa, raw agreement) of the items that both answered, with 95 % intervals from resampling personas and
    prompts, the same draws for all.

    clusters, prompts: of each item, the persona (both, on contrast) and the question.
    """
    columns = resample(np.hstack([_cells(*pair) for pair in pairs]), clusters, rng, prompts)
    return [_estimates_of(columns, number * WIDTH, *pair) for number, pair in enumerate(pairs)]


def pooled_kappa(
    both: Sequence[tuple[Answers, Answers]],
    clusters: Sequence[Cluster],
    prompts: Sequence[str],
    rng: np.random.Generator,
    symmetric: bool = False,
) -> tuple[Estimate, Estimate]:
    """(kappa, raw agreement) of several comparisons taken together: an item counts once, however many of them it is in.

    both: in each comparison the two sides' answers to every item. symmetric: the two sides are of one kind (two raters), so that it does
    not matter which comes first. `n` counts items.
    """
    ((kappa, agreement),) = pooled_kappas([(both, symmetric)], clusters, prompts, rng)
    return kappa, agreement


def pooled_kappas(
    several: Sequence[tuple[Sequence[tuple[Answers, Answers]], bool]],
    clusters: Sequence[Cluster],
    prompts: Sequence[str],
    rng: np.random.Generator,
) -> list[tuple[Estimate, Estimate]]:
    """As pooled_kappa, of each (`both`, `symmetric`); the same draws for all, which is quicker than draws for each."""
    columns = resample(np.hstack([_pooled_cells(both) for both, _ in several]), clusters, rng, prompts)
    found = []
    for number, (_, symmetric) in enumerate(several):
        start, statistic = number * WIDTH, _symmetric_kappa if symmetric else cohens_kappa
        kappa = estimate_derived(columns, range(start, start + WIDTH - 1), statistic, ONE_ANSWER)
        found.append((kappa, estimate_mean(columns, start + WIDTH - 1)))
    return found


def pooled_kappa_value(
    both: Sequence[tuple[Answers, Answers]], fewest: int, symmetric: bool = False
) -> tuple[float | None, int, str | None]:
    """As kappa_value, of several comparisons taken together."""
    cells = _pooled_cells(both)
    counted = cells[~np.isnan(cells[:, 0])]
    if len(counted) < fewest:
        return None, len(counted), f"n < {fewest}"
    value = float((_symmetric_kappa if symmetric else cohens_kappa)(counted[:, :-1].mean(axis=0)))
    return (None, len(counted), ONE_ANSWER) if math.isnan(value) else (value, len(counted), None)


def kappa_difference(
    first: Sequence[tuple[Answers, Answers]],
    second: Sequence[tuple[Answers, Answers]],
    clusters: Sequence[Cluster],
    prompts: Sequence[str],
    rng: np.random.Generator,
) -> Estimate:
    """How much higher the pooled kappa of `first` is than that of `second`, value and interval on the items that both have."""
    both = np.hstack([_pooled_cells(first), _pooled_cells(second)])
    # Resampling takes each column's own items, so one that only one side has would be in the interval and not in the value.
    both[np.isnan(both).any(axis=1)] = np.nan
    columns = resample(both, clusters, rng, prompts)
    cells = WIDTH - 1

    def difference(means: np.ndarray) -> np.ndarray:
        return cohens_kappa(means[..., :cells]) - cohens_kappa(means[..., cells:])

    return estimate_derived(columns, [*range(cells), *range(WIDTH, WIDTH + cells)], difference, ONE_ANSWER)


def _pooled_cells(both: Sequence[tuple[Answers, Answers]]) -> np.ndarray:
    """As _cells, each item the mean of its comparisons."""
    cells = np.stack([_cells(*pair) for pair in both])
    counted = ~np.isnan(cells)
    with np.errstate(invalid="ignore"):
        return np.where(counted, cells, 0.0).sum(axis=0) / counted.sum(axis=0)


def _symmetric_kappa(shares: np.ndarray) -> np.ndarray:
    table = shares.reshape(*shares.shape[:-1], len(ANSWERS), len(ANSWERS))
    return cohens_kappa(((table + table.swapaxes(-1, -2)) / 2).reshape(shares.shape))


def _cells(first: Answers, second: Answers) -> np.ndarray:
    """Shape (items, WIDTH): one column for each pair of answers and one for "the same answer"; NaN where one of the two gave none."""
    cells = np.full((len(first), WIDTH), np.nan)
    for row, (one, other) in enumerate(zip(first, second, strict=True)):
        if one is not None and other is not None:
            cells[row] = 0.0
            cells[row, len(ANSWERS) * ANSWERS.index(one) + ANSWERS.index(other)] = 1.0
            cells[row, -1] = one == other
    return cells


def _estimates_of(columns: Resampled, start: int, first: Answers, second: Answers) -> tuple[Estimate, Estimate]:
    agreement = estimate_mean(columns, start + WIDTH - 1)
    value, n, reason = kappa_value(first, second)
    if value is None:
        return Estimate(None, None, None, n, agreement.clusters, reason), agreement
    return estimate_derived(columns, range(start, start + WIDTH - 1), cohens_kappa, ONE_ANSWER), agreement


def krippendorffs_alpha(
    units: Sequence[Answers], clusters: Sequence[Cluster], prompts: Sequence[str], rng: np.random.Generator
) -> Estimate:
    """Krippendorff's alpha for nominal answers; `units`: the answers to each item, None where there is none. `n` counts the items with two
    answers or more, which alone say anything.

    Each item adds n_c (n_k - [c = k]) / (m - 1) to the coincidences of c and k, for m answers of which n_c are c (Krippendorff, Computing
    Krippendorff's Alpha-Reliability, 2011).
    """
    places = [i for i, unit in enumerate(units) if sum(answer is not None for answer in unit) > 1]
    own, n = [clusters[i] for i in places], len(places)
    if n < MINIMUM_ROWS:
        return Estimate(None, None, None, n, _personas(own), f"n < {MINIMUM_ROWS}")
    tables = coincidence_tables([units[i] for i in places])
    flat = tables.reshape(n, -1)
    resampled = resample(flat, own, rng, [prompts[i] for i in places])

    def statistic(means: np.ndarray) -> np.ndarray:
        return _alpha(means.reshape(*means.shape[:-1], *tables.shape[1:]), n)

    return estimate_derived(resampled, range(flat.shape[1]), statistic, ONE_ANSWER)


def coincidence_tables(units: Sequence[Answers]) -> np.ndarray:
    """Shape (items, answers, answers), of items with two answers or more; the answers are those that occur, in sorted order."""
    names = sorted({answer for unit in units for answer in unit if answer is not None})
    counts = np.array([[sum(answer == name for answer in unit) for name in names] for unit in units], dtype=float)
    products = counts[:, :, None] * (counts[:, None, :] - np.eye(len(names)))
    return products / (counts.sum(axis=1) - 1)[:, None, None]


def consensus(answers: Answers) -> str | None:
    """What at least three quarters of the raters of an item say (three of four); None without such a majority or below three raters."""
    given = [answer for answer in answers if answer is not None]
    return _majority(given, math.ceil(CONSENSUS * len(given))) if len(given) >= FEWEST_RATERS else None


def consensus_without(answers: Answers, dropped: int) -> str | None:
    """What more than half of the others say when one rater's answer is left out (two of three)."""
    given = [answer for place, answer in enumerate(answers) if place != dropped and answer is not None]
    return _majority(given, len(given) // 2 + 1) if len(given) >= FEWEST_RATERS - 1 else None


def _majority(given: Sequence[str], needed: int) -> str | None:
    return next((answer for answer, count in Counter(given).most_common(1) if count >= needed), None)


def _alpha(coincidences: np.ndarray, items: int) -> np.ndarray:
    """coincidences: means per item, shape (..., answers, answers)."""
    totals = coincidences * items
    marginals = totals.sum(axis=-1)
    n = marginals.sum(axis=-1)
    observed = n - np.trace(totals, axis1=-2, axis2=-1)
    expected = n**2 - (marginals**2).sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(expected > 1e-9, 1 - (n - 1) * observed / expected, np.nan)


def _personas(clusters: Sequence[Cluster]) -> int:
    return len({persona for cluster in clusters for persona in cluster})
