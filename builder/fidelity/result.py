"""The distances and the noise as plain JSON values."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from builder.fidelity.bins import binning
from builder.fidelity.noise import Noise
from builder.fidelity.people import People
from builder.fidelity.side_by_side import WITHOUT_BINS, Distances, SideBySide

LARGEST = 10  # pairs named
ROUNDING = 1e-6  # distances of equal tables differ in the last digits of single precision


def report_distances(
    tables: SideBySide, distances: Distances, noise: Noise, first: People, second: People
) -> dict[str, Any]:
    imputed = first.imputed | second.imputed
    direct = [place for place, name in enumerate(tables.attributes) if name not in imputed]
    return {
        "attributes": [
            report_attribute(tables, distances, noise, place, imputed) for place in range(len(tables.attributes))
        ],
        "without_bins": [report_without_bins(name, distances, noise) for name in tables.without_bins],
        "pairs": report_pairs(tables, distances, noise, direct),
        "joint": report_joint(distances, noise, direct),
        "not_compared": [
            {"attribute": name, "label": binning(name, second.survey_year).label, "why": why}
            for name, why in tables.not_compared.items()
        ],
    }


def report_attribute(
    tables: SideBySide, distances: Distances, noise: Noise, place: int, imputed: frozenset[str]
) -> dict[str, Any]:
    name = tables.attributes[place]
    start = int(tables.cells.starts[place])
    shares = [joint.diagonal() for joint in distances.joint]
    bins = [
        {
            "label": label,
            "share": number(shares[0][cell]),
            "census": number(shares[1][cell]),
            "low": number(noise.bands[0][cell]),
            "high": number(noise.bands[1][cell]),
        }
        for cell, label in enumerate(tables.labels[name], start)
    ]
    return {
        "attribute": name,
        "label": tables.binnings[name].label,
        "sampled": "from donors" if name in imputed else "directly",
        "bins": bins,
        **report_distance(distances.tv[place, place], noise.tv[:, place, place], noise.floor_tv[place, place]),
        "jsd": report_distance(
            distances.jsd[place, place], noise.jsd[:, place, place], noise.floor_jsd[place, place], "jsd"
        ),
    }


def report_without_bins(name: str, distances: Distances, noise: Noise) -> dict[str, Any]:
    return {
        "attribute": name,
        "label": WITHOUT_BINS[name],
        "values": int((distances.shares[name][0] + distances.shares[name][1] > 0).sum()),
        **report_distance(distances.exact[name], noise.exact[name], noise.floor_exact[name]),
    }


def report_pairs(
    tables: SideBySide, distances: Distances, noise: Noise, direct: Sequence[int]
) -> dict[str, Any] | None:
    """None where fewer than two attributes were sampled directly."""
    pairs = [(a, b) for at, a in enumerate(direct) for b in direct[at + 1 :]]
    if not pairs:
        return None
    rows, columns = (np.array(side) for side in zip(*pairs, strict=True))
    every = [
        {
            "attributes": [tables.attributes[a], tables.attributes[b]],
            **report_distance(distances.tv[a, b], noise.tv[:, a, b], noise.floor_tv[a, b]),
            "jsd": {"jsd": number(distances.jsd[a, b]), "noise": number(noise.floor_jsd[a, b])},
        }
        for a, b in pairs
    ]
    floor = float(noise.floor_tv[rows, columns].mean())
    mean = float(distances.tv[rows, columns].mean())
    means = noise.tv[:, rows, columns].mean(axis=1)
    summary = report_distance(mean, means, floor)
    if not noise.whole_people:
        # Each pair was simulated for itself: the spread of their mean is not known.
        summary |= {"p95": None, "p99": None, "within": None}
    return {
        "count": len(pairs),
        "mean": summary,
        "mean_jsd": {
            "jsd": number(distances.jsd[rows, columns].mean()),
            "noise": number(noise.floor_jsd[rows, columns].mean()),
        },
        "share_within": number(np.mean([pair["within"] for pair in every])),
        "largest_excess": sorted(every, key=lambda pair: (-pair["excess"], pair["attributes"]))[:LARGEST],
        "every": every,
    }


def report_joint(distances: Distances, noise: Noise, direct: Sequence[int]) -> dict[str, Any]:
    """All directly sampled attributes at once. p: the share of draws, this one among them, whose most extreme attribute is as extreme.

    Of 22 attributes each outside its 99th percentile once in a hundred draws, some attribute is outside in up to a fifth of all draws.
    Attributes are made comparable by the mean and standard deviation of their noise; ranks could never get below attributes / draws.
    """
    observed = distances.tv[direct, direct]
    drawn = noise.tv[:, direct, direct]
    inside = observed <= np.quantile(drawn, 0.99, axis=0) + ROUNDING
    p = None
    if noise.whole_people and len(direct):
        together = np.vstack([observed[None], drawn])
        spread = drawn.std(axis=0)
        varied = spread > ROUNDING
        extreme = ((together[:, varied] - drawn.mean(axis=0)[varied]) / spread[varied]).max(axis=1, initial=-np.inf)
        p = number((extreme >= extreme[0]).mean())
    excess = observed - noise.floor_tv[direct, direct]
    return {
        "attributes": len(direct),
        "within": int(inside.sum()),
        "p": p,
        "largest_excess": number(excess.max()) if len(direct) else None,
    }


def report_distance(value: float, drawn: np.ndarray, floor: float, name: str = "tv") -> dict[str, Any]:
    p99 = float(np.quantile(drawn, 0.99))
    return {
        name: number(value),
        "noise": number(floor),
        "p95": number(np.quantile(drawn, 0.95)),
        "p99": number(p99),
        "excess": number(value - floor),
        "within": bool(value <= p99 + ROUNDING),
    }


def number(value: float) -> float:
    """Six digits after the point: the last ones depend on the machine's arithmetic."""
    return round(float(value), 6)
