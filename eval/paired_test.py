"""Is the mean of paired differences 0? p-values for rows of which those of a persona, and those of a question, belong together.

Personas and questions are crossed, so that no way of exchanging alone is right: with signs drawn by persona, what a question does to all
personas looks like a finding, and the other way about. And contrast rows share personas across pairs. So three tests are made and the
largest p counts: signs by persona (on contrast by the two personas, which keeps mirrors together), signs by question, and a t-test whose
variance lets rows depend that share a persona or a question (two-way clusters: Cameron, Gelbach and Miller 2011, Journal of Business &
Economic Statistics 29(2); rows of two personas: Aronow, Samii and Assenova 2015, Political Analysis 23(4)). The first two hold for few
and oddly distributed personas, the third where both effects are there at once.
"""

from collections.abc import Hashable, Sequence

import numpy as np

from builder.statistics import Cluster

FLIPS = 9_999
EXACT_GROUPS = 13  # with so many every exchange is tried


def paired_p_values(
    differences: np.ndarray,
    clusters: Sequence[Cluster],
    prompts: Sequence[str],
    rng: np.random.Generator,
    one_sided: bool = False,
) -> list[float]:
    """Of a mean of 0, one a column. differences: (rows, columns), NaN = not counted. clusters, prompts: of each row.

    one_sided: against a mean above 0, else against one that is not 0.
    """
    tests = (
        sign_flip_p_values(differences, clusters, rng, one_sided),
        sign_flip_p_values(differences, prompts, rng, one_sided),
        crossed_p_values(differences, clusters, prompts, one_sided),
    )
    return [max(p_values) for p_values in zip(*tests, strict=True)]


def sign_flip_p_values(
    differences: np.ndarray, groups: Sequence[Hashable], rng: np.random.Generator, one_sided: bool = False
) -> list[float]:
    """How often the sum is as far from 0 (one_sided: as high) with signs drawn by group; one a column.

    Groups whose sums are all 0 say nothing. With at most EXACT_GROUPS others all signs are tried, else FLIPS draws (the data's own signs
    count as one more, so that no p is 0).
    """
    sums = _sums(np.nan_to_num(differences), _codes(groups))
    sums = sums[sums.any(axis=1)]
    # Signs go to sums in the order of their values, so that names decide nothing.
    sums = sums[np.lexsort(sums.T)]
    as_far_as = sums.sum(axis=0) if one_sided else np.abs(sums.sum(axis=0))
    threshold = as_far_as - 1e-9

    def reaches(signs: np.ndarray) -> np.ndarray:
        drawn = signs @ sums
        found: np.ndarray = (drawn if one_sided else np.abs(drawn)) >= threshold
        return found

    if len(sums) <= EXACT_GROUPS:
        shares = reaches(1.0 - 2.0 * ((np.arange(2 ** len(sums))[:, None] >> np.arange(len(sums))) & 1)).mean(axis=0)
        return [float(share) for share in shares]
    count = np.zeros(differences.shape[1])
    block = max(1, 4_000_000 // len(sums))
    for start in range(0, FLIPS, block):
        signs = 1.0 - 2.0 * rng.integers(0, 2, size=(min(block, FLIPS - start), len(sums)), dtype=np.int8)
        count += reaches(signs).sum(axis=0)
    return [float(found + 1) / (FLIPS + 1) for found in count]


def crossed_p_values(
    differences: np.ndarray, clusters: Sequence[Cluster], prompts: Sequence[str], one_sided: bool = False
) -> list[float]:
    """A t-test of the mean, one a column, with as many degrees of freedom as there are personas or prompts, whichever are fewer, less 1.

    1.0 where there is only one persona or prompt: then nothing tells chance from its effect.
    """
    from scipy.stats import t

    counted = ~np.isnan(differences)
    rows = counted.sum(axis=0)
    totals = np.nansum(differences, axis=0)
    residuals = np.where(counted, differences - totals / np.maximum(rows, 1), 0.0)
    first, second = _members(clusters)
    pairs, prompt = _codes(clusters), _codes(prompts)
    by_prompt = _squares(residuals, prompt)
    by_persona = _sharing_a_persona(residuals, first, second, pairs)
    width = int(prompt.max()) + 1
    by_both = _sharing_a_persona(residuals, *(codes * width + prompt for codes in (first, second, pairs)))
    # Counted twice is what shares both. Where that leaves less than one of the two alone, chance has made it so.
    variances = np.maximum(by_persona + by_prompt - by_both, np.maximum(by_persona, by_prompt))
    found = []
    for column, own in enumerate(counted.T):
        fewer = min(len(np.union1d(first[own], second[own])), len(np.unique(prompt[own])))
        if fewer < 2 or totals[column] == 0:
            found.append(1.0)
            continue
        error = np.sqrt(variances[column] * fewer / (fewer - 1))
        with np.errstate(divide="ignore"):
            ratio = totals[column] / error
        tail = t.sf(ratio if one_sided else abs(ratio), fewer - 1)
        found.append(float(tail if one_sided else 2 * tail))
    return found


def _sharing_a_persona(values: np.ndarray, first: np.ndarray, second: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Sum of the products of all two rows that share a persona, (columns,). Two rows with the same two personas count once."""
    two = first != second
    members = np.concatenate([first, second[two]])
    return _squares(np.concatenate([values, values[two]]), members) - _squares(values[two], pairs[two])


def _squares(values: np.ndarray, codes: np.ndarray) -> np.ndarray:
    if not len(codes):
        return np.zeros(values.shape[1])
    squares: np.ndarray = (_sums(values, np.unique(codes, return_inverse=True)[1]) ** 2).sum(axis=0)
    return squares


def _sums(values: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """(groups, columns)."""
    return np.stack([np.bincount(codes, column) for column in values.T], axis=1)


def _codes(names: Sequence[Hashable]) -> np.ndarray:
    places: dict[Hashable, int] = {}
    return np.array([places.setdefault(name, len(places)) for name in names], dtype=np.int64)


def _members(clusters: Sequence[Cluster]) -> tuple[np.ndarray, np.ndarray]:
    codes = _codes([persona for cluster in clusters for persona in (cluster[0], cluster[-1])]).reshape(-1, 2)
    return codes[:, 0], codes[:, 1]
