"""Does the persona turn the judge's preference round? Counts over all judged candidates, for build.json.

Which of these numbers say something about people, and which about the judge alone:

- A flip is a verdict of the judge on texts that it did not choose, so its rate is a finding: a judge that ignores the persona flips
  nothing. How often one flips that tosses a coin depends on what it tosses for (a persona, a call) and on its ties. Therefore `reversed`
  (each persona prefers the *other's* text) stands beside `flipped`: a judge at random does both equally often, and only the difference of
  the two says that it reads the persona.
- A judge that chose among revisions has picked for each persona the text that it likes for that persona. Its flips are partly its own
  making, so its counts are given and its rates withheld.
- On the pairs that a judge flipped, the same judge is right in 100 % by construction. Nothing here says that; `agreement` says instead
  how often a second judge, which chose nothing, flips what the first one flipped.
- Partners that differ in one attribute differ in others too, so the rates by attribute are associations, not effects.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from builder.pairs.partners import code_profiles
from builder.randomness import rng_for
from builder.schema import ids_of_dpf_pair
from builder.statistics import cluster_sums, resampled_means

Row = dict[str, Any]
# With fewer pairs a rate is withheld.
FEWEST = 20


def flip_rates(seed: int, judged: Any, personas: Sequence[Row], prompts: Sequence[Row]) -> dict[str, Any]:
    """{"flip": the first judge in short, "flips": {"judges": [...], "agreement": ... or None}} for build.json.

    judged: the tables of all shards (builder.pairs.contrast.judged_schema), one after the other. Per judge: n scored candidates, how
    many flipped, reversed and unscored, the rate with its 95 % interval (bootstrap over personas), `difference` (share flipped less share
    reversed) with its own, the mean margin for a persona's own text (zero for every judge that ignores the persona), and the same without
    intervals by topic, by third of the partners' distance, and by attribute: for partners that differ in it and for those that agree in it
    (both without it is agreeing). A rate of fewer than 20 pairs is None.
    """
    topic_of = {prompt["prompt_id"]: prompt["topic"] for prompt in prompts}
    people = [[ids_of_dpf_pair(i) for i in judged[f"{side}_pair_id"].to_pylist()] for side in ("first", "second")]
    groups = {
        "by_topic": by_topic([topic_of[prompt] for _, prompt in people[0]]),
        "by_distance": by_distance(judged["distance"].to_numpy()),
        "by_attribute": by_attribute(personas, *([persona for persona, _ in side] for side in people)),
    }
    said = columns_by_judge(judged)
    open_judges = [s for s in said if not s["is_selector"]]
    clusters = [tuple(sorted((first, second))) for (first, _), (second, _) in zip(*people, strict=True)]
    found = intervals(seed, [column for s in open_judges for column in (s["flip"], s["flip"] - s["reverse"])], clusters)
    both_of = {s["judge"]: both for s, both in zip(open_judges, zip(found[::2], found[1::2], strict=True), strict=True)}
    judges = [describe_judge(s, *both_of.get(s["judge"], (None, None)), groups) for s in said]
    return {
        "flip": in_short(judges[0]) if judges else {},
        "flips": {"judges": judges, "agreement": agreement(*said[:2]) if len(said) > 1 else None},
    }


def columns_by_judge(judged: Any) -> list[dict[str, Any]]:
    """Per judge its label, whether it chose among revisions, and columns of shape (candidates,): flip and reverse (1, 0, NaN unscored)
    and the mean margin of the two personas for their own text (NaN unscored)."""
    count = judged.num_rows
    if not count:
        return []
    entries = judged["judged"].combine_chunks().flatten()
    judges = len(entries) // count

    def numbers(name: str) -> np.ndarray:
        return entries.field(name).cast("float64").to_numpy(zero_copy_only=False).reshape(count, judges).T

    def verdicts(name: str, verdict: str) -> np.ndarray:
        import pyarrow.compute as compute

        return compute.equal(entries.field(name), verdict).to_numpy(zero_copy_only=False).reshape(count, judges).T

    flips = numbers("flip")
    reverse = verdicts("first_verdict", "rejected") & verdicts("second_verdict", "rejected")
    margins = (numbers("first_margin") + numbers("second_margin")) / 2
    labels = entries.field("judge")[:judges].to_pylist()
    selectors = entries.field("is_selector")[:judges].to_pylist()
    return [
        {
            "judge": labels[j],
            "is_selector": selectors[j],
            "flip": flips[j],
            "reverse": np.where(np.isnan(flips[j]), np.nan, reverse[j]),
            "margin": np.where(np.isnan(flips[j]), np.nan, margins[j]),
        }
        for j in range(judges)
    ]


def describe_judge(
    said: Row,
    interval: list[float] | None,
    difference_interval: list[float] | None,
    groups: Mapping[str, Mapping[str, Any]],
) -> Row:
    """A judge that chose among revisions gets its counts and no rates."""
    everything = summarise(said, np.ones(len(said["flip"]), dtype=bool))
    described = {
        "judge": said["judge"],
        "selected_by_this_judge": said["is_selector"],
        **everything,
        "unscored": int(np.isnan(said["flip"]).sum()),
        "interval": interval,
        "difference_interval": difference_interval,
    }
    if said["is_selector"]:
        withheld = "this judge chose among the revisions, so its rate is partly its own making"
        return described | {"rate": None, "difference": None, "mean_margin": None, "withheld": withheld}
    return described | {name: nested(parts, lambda inside: summarise(said, inside)) for name, parts in groups.items()}


def nested(parts: Mapping[str, Any], make: Callable[[np.ndarray], Row]) -> Row:
    """`make` of every mask, in mappings as deep as they come; what stands beside masks stays."""
    return {
        name: nested(part, make) if isinstance(part, Mapping) else make(part) if isinstance(part, np.ndarray) else part
        for name, part in parts.items()
    }


def summarise(said: Row, inside: np.ndarray) -> Row:
    """Of the scored candidates that `inside` marks."""
    flips = said["flip"][inside]
    scored = ~np.isnan(flips)
    number, flipped, turned = int(scored.sum()), int(np.nansum(flips)), int(np.nansum(said["reverse"][inside]))
    enough = number >= FEWEST
    return {
        "n": number,
        "flipped": flipped,
        "reversed": turned,
        "rate": flipped / number if enough else None,
        "difference": (flipped - turned) / number if enough else None,
        "mean_margin": round(float(said["margin"][inside][scored].mean()), 6) if enough else None,
    }


def in_short(first: Row) -> Row:
    """The keys of the first judge that the summary, the card and the report read."""
    names = ("judge", "n", "flipped", "reversed", "unscored", "rate", "interval", "difference", "difference_interval")
    return {**{name: first[name] for name in names}, "judge_selected_the_revisions": first["selected_by_this_judge"]}


def by_topic(topics: Sequence[str]) -> dict[str, np.ndarray]:
    names = np.array(topics, dtype=object)
    return {name: names == name for name in sorted(set(topics))}


def by_distance(distances: np.ndarray) -> dict[str, Any]:
    """Thirds of the candidates by distance; equal distances stand in one third. `up_to`: the largest distance in it. Candidates without a
    distance (NaN) are in none."""
    known = distances[~np.isnan(distances)]
    if not len(known):
        return {}
    low, high = np.quantile(known, [1 / 3, 2 / 3], method="inverted_cdf")
    masks = {"near": distances <= low, "middle": (distances > low) & (distances <= high), "far": distances > high}
    return {name: {"up_to": float(distances[mask].max()), "pairs": mask} for name, mask in masks.items() if mask.any()}


def by_attribute(personas: Sequence[Row], first: Sequence[str], second: Sequence[str]) -> dict[str, Any]:
    profiles = code_profiles(personas)
    places = [[profiles.row_of[persona] for persona in side] for side in (first, second)]
    one, other = (profiles.codes[side] for side in places)
    # Of two profiles one of which states nothing at all nobody knows in what they agree.
    told = profiles.states_something[places[0]] & profiles.states_something[places[1]]
    return {
        name: {
            "differ": told & (one[:, column] != other[:, column]),
            "agree": told & (one[:, column] == other[:, column]),
        }
        for column, name in enumerate(profiles.names)
    }


def intervals(
    seed: int, columns: Sequence[np.ndarray], clusters: Sequence[tuple[str, ...]]
) -> list[list[float] | None]:
    """95 % interval of the mean of each column (NaN does not count), from one set of draws of personas."""
    if not columns:
        return []
    values = np.column_stack(columns)
    means = resampled_means(cluster_sums(values, clusters), rng_for(seed, "bootstrap", "contrast/flips"))
    return [
        [float(edge) for edge in np.nanquantile(means[:, column], [0.025, 0.975])] if enough else None
        for column, enough in enumerate((~np.isnan(values)).sum(axis=0) >= FEWEST)
    ]


def agreement(first: Row, second: Row) -> Row:
    """Of the candidates that both judges scored: how many each of them flips, and both.

    `second_among_first`: the share of the first judge's flips that the second flips too; withheld where the second chose among revisions.
    `rate_both` and `first_among_second` rest on the first judge's own verdicts and are withheld where either of them chose.
    """
    both_scored = ~np.isnan(first["flip"]) & ~np.isnan(second["flip"])
    one, other = first["flip"][both_scored] == 1, second["flip"][both_scored] == 1
    number, both = int(both_scored.sum()), int((one & other).sum())

    either_chose = first["is_selector"] or second["is_selector"]

    def share(of: int, is_withheld: bool) -> float | None:
        return both / of if of >= FEWEST and not is_withheld else None

    return {
        "judges": [first["judge"], second["judge"]],
        "n": number,
        "flipped_by_first": int(one.sum()),
        "flipped_by_second": int(other.sum()),
        "flipped_by_both": both,
        "rate_both": share(number, either_chose),
        "second_among_first": share(int(one.sum()), second["is_selector"]),
        "first_among_second": share(int(other.sum()), either_chose),
    }
