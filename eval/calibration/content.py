"""The figures of a calibration card, computed from the rows of a judge's verdicts and from nothing else."""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from builder.judge.judge import WORTH
from builder.randomness import rng_for
from eval.calibration.anchors import ANCHORS, BY_CONSTRUCTION
from eval.calibration.verdicts import ANCHOR, CONDITIONS, Row
from eval.results import row_counts, too_many_unscored
from training.estimates import CONSTANT_RATER, MINIMUM_ROWS, cohens_kappa, estimate_columns, estimate_derived, resample

BINS = 10  # of the reliability curve, over [0, 1]
ONE_SCORE = "one score holds for both orders, so there is no place to prefer"
ONE_ANSWER = "it is shown one answer at a time, so there is no place to prefer"
SECOND_DRAW = "it scores given words, or takes the likeliest token, so a second draw is the first"


def content_of(rows: Sequence[Row], kind: str, repeats: int, draws: int, seed: int) -> dict[str, Any]:
    """kind: of the judge. repeats: that were asked for. draws: that were made; 1 where a second would be the first by construction.

    {"withheld": reason} where more rows are unscored than a figure bears.
    """
    ordered = sorted(rows, key=lambda row: (row["item_id"], row["part"], row["repeat"], row["answer"]))
    counts = row_counts(row["reason"] for row in ordered)
    if withheld := too_many_unscored(counts):
        return {"kind": kind, "withheld": withheld}
    items = _by_item(ordered)
    return {
        "kind": kind,
        "withheld": None,
        **_accuracy(items, kind, seed),
        "mirrors": _mirrors(items, kind, seed),
        "position": _position(items, kind, seed),
        "length": _length(items, kind, seed),
        "self_preference": _self_preference(items, kind, seed),
        "retest": _retest(ordered, repeats, draws, seed),
        "reliability": _reliability(items, kind),
        "anchors": _anchors(items, kind, seed),
        "anchors_by_construction": BY_CONSTRUCTION[kind],
        "asked": _asked(ordered),
    }


# One item: part -> its rows by answer ("" for a comparison), of the first draw.
Item = dict[str, dict[str, Row]]


def _by_item(rows: Sequence[Row]) -> list[Item]:
    found: dict[str, Item] = {}
    for row in rows:
        if row["repeat"] == 0:
            found.setdefault(row["item_id"], {}).setdefault(row["part"], {})[row["answer"]] = row
    return list(found.values())


def _accuracy(items: Sequence[Item], kind: str, seed: int) -> dict[str, Any]:
    """Right 1, a tie one half, unscored not counted; beside the conditions that cannot know, or know the demographic lines
    alone, and two baselines without a model."""
    conditions = [[_right(item.get(part), kind) for part in CONDITIONS] for item in items]
    told = np.array(
        [
            [*right, _takes(item, "overlap"), _takes(item, "shorter")]
            for item, right in zip(items, conditions, strict=True)
        ]
    )
    # Apart, because demographics can mislead: items whose right answer runs against them.
    counter = np.array([bool(_any(item).get("counter")) for item in items])
    against = np.where(counter[:, None], told[:, [0, CONDITIONS.index("demographics")]], np.nan)
    values = np.column_stack([told, against, told[:, [0]] - told[:, 1 : len(CONDITIONS)]])
    names = (
        *CONDITIONS,
        "profile_overlap",
        "shorter_answer",
        "counter_true",
        "counter_demographics",
        *(f"true_minus_{name}" for name in CONDITIONS[1:]),
    )
    estimates = _estimates(values, names, items, seed, "accuracy", differences=len(CONDITIONS) - 1)
    choices = [_choice(item.get("true"), kind) for item in items]
    decided = [None if choice is None else choice in (0, 1) for choice in choices]
    return {
        "accuracy": estimates,
        "ties": _share([choice == 0.5 for choice in choices if choice is not None]),
        "decided": _share([right for right, sure in zip(told[:, 0].tolist(), decided, strict=True) if sure]),
        "kappa": _kappa(items, choices, seed),
    }


def _kappa(items: Sequence[Item], choices: Sequence[float | None], seed: int) -> dict[str, Any]:
    """Cohen's kappa of the judge's choice and the label, over items on which it chose."""
    values = np.array(
        [
            [choice == first and _any(item)["expected"] == 1 - label for first in (0, 1) for label in (0, 1)]
            if choice in (0.0, 1.0)
            else [np.nan] * 4
            for item, choice in zip(items, choices, strict=True)
        ],
        dtype=float,
    )

    drawn = resample(values, _clusters(items), rng_for(seed, "calibration", "kappa"), _questions(items))
    return dataclasses.asdict(estimate_derived(drawn, range(4), cohens_kappa, CONSTANT_RATER))


def _mirrors(items: Sequence[Item], kind: str, seed: int) -> dict[str, Any]:
    """Over questions asked for two opposite persons with the same answers: does the verdict move with the person? A judge that does not
    see the person moves in none of them."""
    pairs: dict[str, list[Item]] = {}
    for item in items:
        pairs.setdefault(_any(item)["contrast_id"], []).append(item)
    mirrored = [pair for pair in pairs.values() if len(pair) == 2]
    if not mirrored:
        return {"reason": "no question is asked for two persons with the same answers"}
    values, clusters = [], []
    for pair in mirrored:
        right = [_right(item["true"], kind) for item in pair]
        moved = [float(right == [1.0, 1.0]), float(right == [0.0, 0.0])]
        values.append([np.nan] * 3 if np.isnan(right).any() else [*moved, 1.0 - sum(moved)])
        clusters.append(tuple(sorted(_any(item)["profile_id"] for item in pair)))
    estimates = estimate_columns(np.array(values), clusters, rng_for(seed, "calibration", "mirrors"))
    names = ("moved_to_fit", "moved_away", "unmoved")
    return {name: dataclasses.asdict(estimate) for name, estimate in zip(names, estimates, strict=True)}


def _position(items: Sequence[Item], kind: str, seed: int) -> dict[str, Any]:
    if kind != "pairwise":
        return {"reason": ONE_ANSWER if kind == "critique" else ONE_SCORE}
    values = []
    for item in items:
        row = _any(item)
        p_ab, p_ba = row["p_ab"], row["p_ba"]
        if p_ab is None or p_ba is None:
            values.append([np.nan] * 6)
            continue
        first_place = (_side(p_ab) + 1 - _side(p_ba)) / 2
        consistent = float(_side(p_ab) == _side(p_ba))
        by_probability = _side(row["probability"])
        right = by_probability if row["expected"] == 0 else 1 - by_probability
        values.append([first_place, p_ab, p_ba, consistent, right, p_ab - p_ba])
    names = (
        "first_place",
        "p_first_shown_first",
        "p_first_shown_second",
        "order_consistency",
        "accuracy_by_probability",
        "order_effect",
    )
    return _estimates(np.array(values), names, items, seed, "position", differences=1)


def _length(items: Sequence[Item], kind: str, seed: int) -> dict[str, Any]:
    """bias: how much oftener the longer answer is taken than it is the right one; 0 for a judge that looks at the content alone."""
    values = []
    for item in items:
        choice, row = _choice(item.get("true"), kind), _any(item)
        if choice is None or row["longer"] < 0:
            values.append([np.nan] * 5)
            continue
        taken = choice if row["longer"] == 0 else 1 - choice
        expected = float(row["longer"] == row["expected"])
        right = taken if expected else 1 - taken
        values.append([taken, expected, right if expected else np.nan, np.nan if expected else right, taken - expected])
    names = ("longer_taken", "longer_expected", "accuracy_longer_expected", "accuracy_shorter_expected", "bias")
    return _estimates(np.array(values), names, items, seed, "length", differences=1)


def _self_preference(items: Sequence[Item], kind: str, seed: int) -> dict[str, Any]:
    """bias: how much oftener the judge takes its own model's answer than that is the right one."""
    own = [item for item in items if _any(item)["own"] >= 0]
    if not own:
        return {
            "reason": "not measurable: no item names the judge's model as author of just one answer (`authors` in the items' file)"
        }
    values = []
    for item in own:
        choice, row = _choice(item.get("true"), kind), _any(item)
        taken = np.nan if choice is None else choice if row["own"] == 0 else 1 - choice
        values.append([taken, float(row["own"] == row["expected"]), taken - (row["own"] == row["expected"])])
    return _estimates(np.array(values), ("own_taken", "own_expected", "bias"), own, seed, "self", differences=1)


def _retest(rows: Sequence[Row], repeats: int, draws: int, seed: int) -> dict[str, Any]:
    """How often a further draw gives the first one's verdict, over items of which both are scored."""
    if draws < 2:
        reason = SECOND_DRAW if repeats > 1 else "asked once only; give --repeats 2 or more"
        return {"value": 1.0 if repeats > 1 else None, "by_construction": repeats > 1, "reason": reason}
    drawn: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row["part"] == "true" and row["answer"] in ("", "fitting"):
            drawn.setdefault((row["item_id"], row["answer"]), []).append(row)
    values, clusters, questions = [], [], []
    for first, *further in drawn.values():
        same = [
            float(other["verdict"] == first["verdict"])
            for other in further
            if "unscored" not in (first["verdict"], other["verdict"])
        ]
        values.append([np.mean(same) if same else np.nan])
        clusters.append((first["profile_id"],))
        questions.append(first["contrast_id"])
    rng = rng_for(seed, "calibration", "retest")
    (estimate,) = estimate_columns(np.array(values), clusters, rng, prompts=questions)
    return {"same": dataclasses.asdict(estimate), "by_construction": False, "draws": draws}


def _reliability(items: Sequence[Item], kind: str) -> dict[str, Any]:
    """What the judge's probabilities are worth: of the answer that it holds for likelier, or of a pass against being the fitting answer."""
    points = []
    for item in items:
        for row in item.get("true", {}).values():
            p = row["probability"]
            if p is None:
                continue
            if kind == "critique":
                points.append((p, float(row["answer"] == "fitting")))
            else:
                side = _side(p)
                points.append((max(p, 1 - p), side if row["expected"] == 0 else 1 - side))
    bins: list[list[tuple[float, float]]] = [[] for _ in range(BINS)]
    for p, right in points:
        bins[min(int(p * BINS), BINS - 1)].append((p, right))
    table = [
        {
            "from": number / BINS,
            "to": (number + 1) / BINS,
            "n": len(own),
            "mean_probability": _mean([p for p, _ in own]),
            "share_right": _mean([right for _, right in own]),
        }
        for number, own in enumerate(bins)
        if own
    ]
    n = len(points)
    if n < MINIMUM_ROWS:
        return {"n": n, "bins": [], "ece": None, "reason": f"n < {MINIMUM_ROWS}"}
    ece = sum(abs(own["mean_probability"] - own["share_right"]) * own["n"] for own in table) / n  # type: ignore[operator]
    return {"n": n, "bins": table, "ece": ece, "reason": None}


def _anchors(items: Sequence[Item], kind: str, seed: int) -> dict[str, Any]:
    """Comparisons: how often the fitting answer is preferred to each anchor, ties one half. Critique: how often each passes."""
    met = [item for item in items if any(part.startswith(ANCHOR) for part in item)]
    if not met:
        return {}
    if kind == "critique":
        names = ("fitting", *ANCHORS)
        values = np.array([[_passes(item, name) for name in names] for item in met])
    else:
        names = tuple(ANCHORS)
        beaten = [
            [_right(item.get("true" if name == "opposite" else ANCHOR + name), kind) for name in names] for item in met
        ]
        values = np.array(beaten)
    estimates = _estimates(values, names, met, seed, "anchors")
    for name, reason in BY_CONSTRUCTION[kind].items():
        if estimates[name]["n"] == 0:
            estimates[name]["withheld"] = reason
    return estimates


def _passes(item: Item, name: str) -> float:
    row = item["true"].get(name) if name in ("fitting", "opposite") else item.get(ANCHOR + name, {}).get(name)
    return np.nan if row is None or row["verdict"] == "unscored" else float(row["verdict"] == "pass")


def _choice(rows: Mapping[str, Row] | None, kind: str) -> float | None:
    """1 where the judge takes the first answer, 0 the second, 0.5 neither; None where that is not known."""
    if not rows:
        return None
    if kind != "critique":
        row = rows[""]
        return WORTH.get(row["verdict"])
    fitting, opposite = rows["fitting"]["probability"], rows["opposite"]["probability"]
    if fitting is None or opposite is None:
        return None
    right = 0.5 if fitting == opposite else float(fitting > opposite)
    return right if rows["fitting"]["expected"] == 0 else 1 - right


def _right(rows: Mapping[str, Row] | None, kind: str) -> float:
    choice = _choice(rows, kind)
    if rows is None or choice is None:
        return np.nan
    return choice if next(iter(rows.values()))["expected"] == 0 else 1 - choice


def _takes(item: Item, baseline: str) -> float:
    """How right a rule is that takes the answer with more of the profile's words, or the shorter one."""
    row = _any(item)
    place = row["overlap"] if baseline == "overlap" else (-1 if row["longer"] < 0 else 1 - row["longer"])
    return 0.5 if place < 0 else float(place == row["expected"])


def _any(item: Item) -> Row:
    return next(iter(item["true"].values()))


def _side(probability: float) -> float:
    return 1.0 if probability > 0.5 else 0.0 if probability < 0.5 else 0.5


def _clusters(items: Sequence[Item]) -> list[tuple[str, ...]]:
    return [(_any(item)["profile_id"],) for item in items]


def _questions(items: Sequence[Item]) -> list[str]:
    """An item and its mirror share question and answers, and a hard question is hard for both."""
    return [_any(item)["contrast_id"] for item in items]


def _asked(rows: Sequence[Row]) -> dict[str, int]:
    """What each condition cost, in judgements; all anchors under one name."""
    parts = Counter("anchors" if row["part"].startswith(ANCHOR) else row["part"] for row in rows)
    return dict(sorted(parts.items()))


def _estimates(
    values: np.ndarray, names: Sequence[str], items: Sequence[Item], seed: int, key: str, differences: int = 0
) -> dict[str, Any]:
    rng = rng_for(seed, "calibration", key)
    estimates = estimate_columns(values, _clusters(items), rng, differences, _questions(items))
    return {name: dataclasses.asdict(estimate) for name, estimate in zip(names, estimates, strict=True)}


def _share(values: Sequence[Any]) -> dict[str, Any]:
    return {
        "value": _mean([float(value) for value in values]) if len(values) >= MINIMUM_ROWS else None,
        "n": len(values),
    }


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None
