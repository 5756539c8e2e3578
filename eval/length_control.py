"""The win rate that a model would have if its answers were as long as those it is compared with.

Judges like long answers, so that a model can win by writing more. A logistic regression of the outcome on the difference in log length,
read at no difference, takes that away, as the length-controlled win rate of AlpacaEval does (Dubois et al. 2024, arXiv:2404.04475;
theirs also knows how hard each instruction is, which takes many models).
"""

import numpy as np

from builder.statistics import resampled_weights
from training.estimates import MINIMUM_ROWS, Estimate, Resampled, interval_of

# A normal prior of standard deviation 1 / sqrt(PENALTY) on both coefficients: without it no figure exists where all are won.
PENALTY = 0.1
STEPS = 30


def length_controlled(
    resampled: Resampled, column: int, differences: np.ndarray, rng: np.random.Generator
) -> tuple[Estimate, float | None]:
    """(win rate at no difference in length, change of the log-odds where an answer is e times as long).

    resampled: its `column` holds 1 won, 0.5 tied, 0 lost, NaN not counted. differences: (rows,), log of the lengths' ratio.
    """
    outcomes = resampled.values[:, column]
    counted = ~np.isnan(outcomes) & ~np.isnan(differences)
    n, clusters = int(counted.sum()), resampled.sums.personas_counted(column)
    if n < MINIMUM_ROWS:
        return Estimate(None, None, None, n, clusters, f"n < {MINIMUM_ROWS}"), None
    own, lengths = outcomes[counted], differences[counted]
    intercept, slope = fit_logistic(lengths, own, np.ones((1, n)))[0]
    value = float(_logistic(intercept))
    if clusters < 2:
        return Estimate(value, None, None, n, clusters, "no interval: one cluster"), float(slope)
    drawn = [
        _logistic(fit_logistic(lengths, own, weights[:, resampled.sums.membership][:, counted])[:, 0])
        for weights in resampled_weights(resampled.sums, rng)
    ]
    return interval_of(value, np.concatenate(drawn), n, clusters), float(slope)


def fit_logistic(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Intercept and slope of y in [0, 1] on x, for each row of weights (draws, rows), by Newton's method; shape (draws, 2)."""
    found = np.zeros((len(weights), 2))
    squared = x * x
    for _ in range(STEPS):
        fitted = _logistic(found[:, :1] + found[:, 1:] * x)
        residual = weights * (y - fitted)
        spread = weights * fitted * (1 - fitted)
        gradient = np.stack([residual.sum(axis=1), residual @ x], axis=1) - PENALTY * found
        first, mixed, second = spread.sum(axis=1) + PENALTY, spread @ x, spread @ squared + PENALTY
        determinant = first * second - mixed * mixed
        step = np.stack(
            [second * gradient[:, 0] - mixed * gradient[:, 1], first * gradient[:, 1] - mixed * gradient[:, 0]], axis=1
        )
        # A whole Newton step can overshoot where hardly anything is lost.
        found += np.clip(step / determinant[:, None], -2.0, 2.0)
        if np.abs(step / determinant[:, None]).max() < 1e-10:
            break
    return found


def _logistic(values: np.ndarray) -> np.ndarray:
    # Written so that no value is too large for it.
    result: np.ndarray = 0.5 + 0.5 * np.tanh(values / 2)
    return result
