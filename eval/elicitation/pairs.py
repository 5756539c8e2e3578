"""Learner `pairs`: personas are asked which of two answers they prefer, and preferences are predicted by the taste that this shows."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from builder.errors import InputError
from builder.randomness import rng_for
from eval.elicitation.curves import ALL, STEPS
from eval.elicitation.learners import Features, fit_features, learn_taste, most_uncertain_pair, squared_lengths
from eval.elicitation.material import Material, Pair, askable, wrong_persona
from eval.elicitation.orders import fixed_pairs, question_spread, random_order
from eval.elicitation.rows import Known, Row, conditions, score_row
from eval.rows import EvaluatedRow


def elicit_pairs(
    material: Material, orders: Sequence[str], seed: int
) -> tuple[list[Row], list[Row], list[Row], dict[str, Any]]:
    asked: list[Row] = []
    scores: list[Row] = []
    pools: dict[str, list[int]] = {}
    for config, train in material.train.items():
        features = fit_features(train, seed)
        if features is None:
            raise InputError(
                f"Config {config} has no train pair with words in its answers, so no features can be made. Use --learner profile, or build "
                "with pairs.train above 0."
            )
        differences = features.differences([(pair.preferred, pair.other) for pair in train])
        spread = question_spread(train, squared_lengths(differences).tolist())
        rows_of: dict[str, list[EvaluatedRow]] = {}
        for row in material.rows:
            if row.config == config:
                rows_of.setdefault(row.persona_id, []).append(row)
        for persona in sorted(rows_of):
            rows = rows_of[persona]
            pool = {p: askable(material.pools[config][p], rows) for p in {persona, *map(wrong_persona, rows)}}
            pools.setdefault(config, []).append(len(pool[persona]))
            labels = {p: features.differences([(pair.preferred, pair.other) for pair in pool[p]]) for p in pool}
            places = {
                (order, p): ask_pairs(pool[p], labels[p], order, spread, seed) for order in orders for p in sorted(pool)
            }
            known = {
                key: [Known(k, k, taken[:k]) for k in STEPS[1:] if k <= len(taken)] for key, taken in places.items()
            }
            asked += [
                _pair_row(config, order, p, persona, step, pool[p][place], seed)
                for (order, p), taken in sorted(places.items())
                for step, place in enumerate(taken, 1)
            ]
            scores += _pair_scores(rows, orders, known, labels, features)
    return asked, scores, [], {"pool": {config: _spread(sizes) for config, sizes in sorted(pools.items())}}


def ask_pairs(
    pool: Sequence[Pair],
    differences: np.ndarray,
    order: str,
    spread: Mapping[str, float],
    seed: int,
) -> list[int]:
    """Places of the pool in the order asked, at most STEPS[-1]. differences: (pairs, dimensions), preferred minus other.

    `uncertainty` looks at the labels of the pairs asked so far, and at the texts alone of the others.
    """
    place_of = {pair.pair_id: place for place, pair in enumerate(pool)}
    if order == "fixed":
        return [place_of[pair.pair_id] for pair in fixed_pairs(pool, spread)][: STEPS[-1]]
    owner = pool[0].pair_id if pool else ""
    drawn = [place_of[pair_id] for pair_id in random_order(sorted(place_of), seed, owner)]
    if order == "random":
        return drawn[: STEPS[-1]]
    taken: list[int] = []
    left = list(drawn)  # so that equals are taken at random
    while left and len(taken) < STEPS[-1]:
        taste = learn_taste(differences[taken])
        taken.append(left.pop(most_uncertain_pair(taste, differences[left])))
    return taken


def _pair_scores(
    rows: Sequence[EvaluatedRow],
    orders: Sequence[str],
    known: Mapping[tuple[str, str], Sequence[Known]],
    labels: Mapping[str, np.ndarray],
    features: Features,
) -> list[Row]:
    tests = features.differences([(row.chosen or "", row.rejected or "") for row in rows])
    tastes: dict[tuple[str, str, int], np.ndarray] = {}
    scores = []
    for place, row in enumerate(rows):
        for order, condition, person, told in conditions(row, orders, known):
            score = score_row(row, order, condition, person, told)
            key = (order, person, told.k)
            if key not in tastes:
                own = labels[person]
                told_by = own[:0] if told.k == 0 else own if told.k == ALL else own[told.what]
                # Rounded, so that a machine's last bits make no verdict out of a tie.
                tastes[key] = np.round(learn_taste(told_by).log_odds(tests), 9)
            if score["reason"] is None:
                score["margin"] = float(tastes[key][place])
            scores.append(score)
    return scores


def _pair_row(config: str, order: str, person: str, held_out_for: str, step: int, pair: Pair, seed: int) -> Row:
    """The question as it is put: the two answers in an order drawn by seed."""
    first_is_preferred = bool(rng_for(seed, "elicitation/sides", pair.pair_id).integers(2))
    sides = (pair.preferred, pair.other) if first_is_preferred else (pair.other, pair.preferred)
    return {
        "config": config,
        "order": order,
        "persona_id": person,
        "held_out_for": held_out_for,
        "step": step,
        "asked_about": pair.pair_id,
        "question": f"Which answer do you prefer?\n{pair.question}\nA: {sides[0]}\nB: {sides[1]}",
        "answer": "A" if first_is_preferred else "B",
        "status": "answered",
        "leaks": 0,
        "failures": "",
        "replaced": False,
        "states_value": None,
    }


def _spread(sizes: Sequence[int]) -> dict[str, int]:
    return {"smallest": min(sizes), "largest": max(sizes)}
