"""What chance alone gives: the distances of simulated draws.

Two kinds. A build is one draw of n records without replacement, each time with probability proportional to weight (builder/census/draw.py).
The same draw is simulated from the same records, and each simulated draw is compared with the census as the build is.

Two census tables are both samples of a population. Their distances are compared with those of two independent multinomial samples of the
reference's distribution, each as large as its table is worth (Kish's effective size, since records have weights). The excess is taken over
the smaller noise of the first sample alone, with the reference as the truth, so that the reference's own sampling error flatters nobody.
That members of a household are alike is in neither, so for whole files both are a little too small.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from builder.fidelity.distances import jensen_shannon, total_variation
from builder.fidelity.people import People
from builder.fidelity.side_by_side import Distances, SideBySide
from builder.randomness import rng_for

ROWS_AT_ONCE = 2_000_000


@dataclass(frozen=True)
class Noise:
    """Distances that chance gives. tv, jsd: shape (draws, attributes, attributes); floor: mean of the noise over which excess is taken.

    bands: 2.5th and 97.5th percentile of the share of every bin, shape (2, bins). exact: attribute -> distances without bins (draws,).
    whole_people: a draw is the same people in every table, so that tables of one draw can be taken together.
    """

    tv: np.ndarray
    jsd: np.ndarray
    floor_tv: np.ndarray
    floor_jsd: np.ndarray
    bands: np.ndarray
    exact: dict[str, np.ndarray]
    floor_exact: dict[str, float]
    whole_people: bool


def noise_of_draws(
    tables: SideBySide, people: People, distances: Distances, size: int, draws: int, seed: int, replacement: bool
) -> Noise:
    """Draws of `size` whole people from `people`, by weight."""
    cells, reference = tables.cells, distances.joint[1]
    number = len(tables.attributes)
    tv = np.empty((draws, number, number), dtype=np.float32)
    jsd = np.empty_like(tv)
    shares = np.empty((draws, cells.size), dtype=np.float32)
    exact = {name: np.empty(draws) for name in tables.without_bins}
    rng = rng_for(seed, "fidelity", "draws")
    drawn = simulated_draws(people.weights, size, draws, rng, replacement)
    for draw, rows in enumerate(drawn):
        joint = cells.joint_shares(tables.second[rows])
        tv[draw], jsd[draw] = cells.distances(joint, reference)
        shares[draw] = joint.diagonal()
        for name, (_, codes) in tables.without_bins.items():
            truth = distances.shares[name][1]
            exact[name][draw] = total_variation(np.bincount(codes[rows], minlength=len(truth)) / size, truth)
    return Noise(
        tv,
        jsd,
        tv.mean(axis=0),
        jsd.mean(axis=0),
        np.quantile(shares, [0.025, 0.975], axis=0),
        exact,
        {name: float(values.mean()) for name, values in exact.items()},
        whole_people=True,
    )


def noise_of_samples(
    tables: SideBySide, distances: Distances, first_size: float, second_size: float, draws: int, seed: int
) -> Noise:
    """Two independent samples of the reference's distribution, of the effective sizes of both tables.

    Every joint table is simulated for itself (a multinomial draw of its cells), which costs the same whatever the number of people; so the
    draws of different tables do not belong together, and nothing is said of all tables at once.
    """
    cells, reference = tables.cells, distances.joint[1]
    number = len(tables.attributes)
    tv = np.zeros((draws, number, number), dtype=np.float32)
    jsd = np.zeros_like(tv)
    floor_tv, floor_jsd = np.zeros((number, number)), np.zeros((number, number))
    bands = np.empty((2, cells.size))
    sizes = (max(1, round(first_size)), max(1, round(second_size)))

    def simulate(truth: np.ndarray, key: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        truth = truth / truth.sum()
        rng = rng_for(seed, "fidelity", f"samples|{key}")
        first, second = (rng.multinomial(size, truth, size=draws) / size for size in sizes)
        return truth, first, second

    ends = [*cells.starts[1:], cells.size]
    for a in range(number):
        for b in range(a, number):
            block = reference[cells.starts[a] : ends[a], cells.starts[b] : ends[b]]
            key = f"{tables.attributes[a]}|{tables.attributes[b]}"
            inside = block > 0
            truth, first, second = simulate(block[inside], key)
            for matrix, floor, distance in ((tv, floor_tv, total_variation), (jsd, floor_jsd, jensen_shannon)):
                matrix[:, a, b] = matrix[:, b, a] = distance(first, second)
                floor[a, b] = floor[b, a] = distance(first, truth).mean()
            if a == b:
                band = np.zeros((2, ends[a] - cells.starts[a]))
                band[:, np.flatnonzero(inside.diagonal())] = np.quantile(first, [0.025, 0.975], axis=0)
                bands[:, cells.starts[a] : ends[a]] = band
    exact, floor_exact = {}, {}
    for name, (_, truth) in distances.shares.items():
        truth, first, second = simulate(truth, f"{name}|without bins")
        exact[name], floor_exact[name] = total_variation(first, second), float(total_variation(first, truth).mean())
    return Noise(tv, jsd, floor_tv, floor_jsd, bands, exact, floor_exact, whole_people=False)


def simulated_draws(
    weights: np.ndarray, size: int, draws: int, rng: np.random.Generator, replace: bool = False
) -> Iterator[np.ndarray]:
    """`draws` times the numbers of `size` rows, drawn by weight, not ordered. Without replacement `size` is at most len(weights)."""
    cumulative = np.cumsum(weights)
    at_once = max(1, ROWS_AT_ONCE // size)
    for start in range(0, draws, at_once):
        for uniforms in rng.random((min(at_once, draws - start), size)):
            if replace:
                yield rows_at(uniforms, cumulative)
            elif size > len(weights) // 2:
                yield smallest_keys(weights, size, rng)
            else:
                yield first_distinct(rows_at(uniforms, cumulative), cumulative, size, rng)


def rows_at(uniforms: np.ndarray, cumulative: np.ndarray) -> np.ndarray:
    return np.searchsorted(cumulative, uniforms * cumulative[-1], side="right").clip(max=len(cumulative) - 1)


def first_distinct(rows: np.ndarray, cumulative: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Drawing by weight with replacement and passing over whoever came before equals drawing without replacement."""
    while True:
        distinct, first = np.unique(rows, return_index=True)
        if len(distinct) >= size:
            return rows[np.sort(first)[:size]]
        more = rng.random(size - len(distinct) + size // 50 + 1)
        rows = np.concatenate([rows, rows_at(more, cumulative)])


def smallest_keys(weights: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Efraimidis and Spirakis (2006): the rows with the smallest exponential waiting times. Passing over takes long for a large share."""
    keys = rng.exponential(size=len(weights)) / weights
    return np.argpartition(keys, size - 1)[:size] if size < len(weights) else np.arange(len(weights))
