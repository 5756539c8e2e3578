"""What is learned from answers: a partial profile from what a persona says of itself, or its taste from pairs that it labels.

Taste is a Bayesian logistic regression on frozen features: log-odds of preferring an answer = w . (features of it - of the other), with a
normal prior on w. There is no intercept and no feature of the persona, so without a label every pair is a tie. Features: TF-IDF of the
answer's words, reduced by a singular value decomposition (latent semantic analysis) of answers in the train split.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from builder.randomness import seed_for
from eval.elicitation.material import Pair
from eval.elicitation.simulator import Stated
from training.profiles import as_lines

LEARNERS = ("profile", "pairs")
DIMENSIONS = 64
PRIOR_VARIANCE = 4.0  # of the log-odds of a typical pair before any label
NEWTON_STEPS = 50


def partial_profile(learned: Mapping[str, str], stated: Stated) -> str | None:
    """The learned lines as a profile, in the order in which the dataset's profiles have them; None where nothing was learned."""
    lines = {name: learned[name] for name in stated if name in learned}
    return as_lines(lines) if lines else None


@dataclass(frozen=True)
class Features:
    """Frozen features of answers. scale: makes the mean squared difference of a train pair's answers 1."""

    vectorizer: Any
    reduction: np.ndarray  # (words, dimensions)
    scale: float

    def of(self, texts: Sequence[str]) -> np.ndarray:
        """(texts, dimensions)."""
        return self.vectorizer.transform(texts) @ self.reduction * self.scale

    def differences(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        """(pairs, dimensions): first answer minus second."""
        if not pairs:
            return np.zeros((0, self.reduction.shape[1]))
        both = self.of([text for pair in pairs for text in pair])
        return both[0::2] - both[1::2]


def fit_features(pairs: Sequence[Pair], seed: int) -> Features | None:
    """Of a population's pairs; their labels are not used. None where their texts hold no words."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.utils.extmath import randomized_svd

    texts = sorted({text for pair in pairs for text in (pair.preferred, pair.other)})
    vectorizer = TfidfVectorizer(sublinear_tf=True)
    try:
        table = vectorizer.fit_transform(texts)
    except ValueError:  # an empty vocabulary
        return None
    dimensions = min(DIMENSIONS, *table.shape)
    own_seed = seed_for(seed, "elicitation/features", "") % 2**32
    _, _, rows = randomized_svd(table, n_components=dimensions, random_state=own_seed)
    unscaled = Features(vectorizer, rows.T, 1.0)
    spread = squared_lengths(unscaled.differences([(pair.preferred, pair.other) for pair in pairs])).mean()
    return Features(vectorizer, rows.T, 1.0 / np.sqrt(spread) if spread > 0 else 1.0)


def squared_lengths(differences: np.ndarray) -> np.ndarray:
    return (differences**2).sum(axis=1)


@dataclass(frozen=True)
class Taste:
    """Posterior over w after some labelled pairs (Laplace approximation). It lies in the span of the labelled differences, so it is kept
    by these: weights (n,) of the mean, shrinkage (n, n) of the covariance.
    """

    labelled: np.ndarray  # (n, dimensions), preferred minus other
    weights: np.ndarray
    shrinkage: np.ndarray

    def log_odds(self, differences: np.ndarray) -> np.ndarray:
        """(pairs,): posterior mean of w . difference."""
        return PRIOR_VARIANCE * differences @ self.labelled.T @ self.weights

    def information(self, differences: np.ndarray) -> np.ndarray:
        """(pairs,), in bits: mutual information between w and the label that a pair would get (BALD; Houlsby et al. 2011)."""
        mean = self.log_odds(differences)
        across = PRIOR_VARIANCE * differences @ self.labelled.T
        variance = PRIOR_VARIANCE * squared_lengths(differences) - ((across @ self.shrinkage) * across).sum(axis=1)
        points, weights = np.polynomial.hermite_e.hermegauss(31)
        weights = weights / weights.sum()
        log_odds = mean[:, None] + np.sqrt(np.maximum(variance, 0.0))[:, None] * points
        chance = 1 / (1 + np.exp(-log_odds))
        return _entropy(chance @ weights) - _entropy(chance) @ weights


def learn_taste(labelled: np.ndarray) -> Taste:
    """labelled: (n, dimensions), features of the preferred answer minus those of the other. n may be 0.

    Newton's method on the log-odds of the labelled pairs, whose prior covariance is K = PRIOR_VARIANCE * labelled labelled^T (Rasmussen
    and Williams 2006, algorithm 3.1). The posterior is log-concave, so it has one maximum.
    """
    n = len(labelled)
    kernel = PRIOR_VARIANCE * labelled @ labelled.T
    weights, log_odds = np.zeros(n), np.zeros(n)
    for _ in range(NEWTON_STEPS):
        chance = 1 / (1 + np.exp(-log_odds))
        curvature = chance * (1 - chance)
        target = curvature * log_odds + (1 - chance)
        # (K^-1 + W)^-1 target = K (I + W K)^-1 target
        following = np.linalg.solve(np.eye(n) + curvature[:, None] * kernel, target)
        moved = float(np.abs(following - weights).max(initial=0.0))
        weights, log_odds = following, kernel @ following
        if moved < 1e-10:
            break
    chance = 1 / (1 + np.exp(-log_odds))
    curvature = chance * (1 - chance)
    shrinkage = np.linalg.solve(np.eye(n) + curvature[:, None] * kernel, np.diag(curvature))
    return Taste(labelled, weights, shrinkage)


def most_uncertain_pair(taste: Taste, differences: np.ndarray) -> int:
    """The place of the pair whose label would tell most; the first of equals."""
    # Rounded, so that a machine's last bits decide nothing.
    return int(np.argmax(np.round(taste.information(differences), 9)))


def _entropy(chance: np.ndarray) -> np.ndarray:
    inside = np.clip(chance, 1e-12, 1 - 1e-12)
    return -(inside * np.log2(inside) + (1 - inside) * np.log2(1 - inside))
