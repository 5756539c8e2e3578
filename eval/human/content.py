"""Every figure of a human study, from the kept tables: who agrees with whom, what the raters did, and who of them counts.

The configs of the dataset stay apart, and are also taken together. Beside every kappa stand those that need no persona: the data's label
(on dpf the rule to take the refined answer), the shorter answer, and what raters of other personas say of the same question.
"""

import dataclasses
import itertools
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from builder.randomness import rng_for
from eval.agreement.annotators import rating
from eval.agreement.content import (
    EVERY_CONFIG,
    annotator_answers,
    annotators_of_the_data,
    cluster_of,
    content_of,
)
from eval.agreement.kappa import (
    FEWEST_OF_PERSONA,
    Answers,
    kappa_difference,
    pooled_kappa,
    pooled_kappa_value,
)
from eval.human.exclusion import PASTED
from eval.rows import EVALUATED_CONFIGS
from training.estimates import estimate_columns

Row = Mapping[str, Any]
Both = list[tuple[Answers, Answers]]
PARTS = (*EVALUATED_CONFIGS, EVERY_CONFIG)
# An annotator made of raters: it has never seen the persona in question, but people answered it.
BLIND = "raters of other personas"
CONTROLS = ("none", "wrong")


def study_content(
    pairs: Sequence[Row],
    ratings: Sequence[Row],
    annotators: Sequence[Row],
    raters: Sequence[Row],
    answers: Sequence[Row],
    seed: int,
) -> dict[str, Any]:
    """pairs, ratings, annotators: as eval.agreement.content.content_of takes them; a persona's first rater is `human rater 1` and so on.
    raters, answers: rows of eval.human.export.COLUMNS; their times are not looked at. The order of rows changes nothing.
    """
    pairs = sorted(pairs, key=lambda pair: pair["pair_id"])
    content = content_of(pairs, ratings, annotators, seed, PARTS)
    names = set(rater_names(annotators))
    for config in content["configs"].values():
        # Who is the first of a persona's raters means nothing, so the kappas of all first raters do not either.
        for key in ("kappas", "of_personas"):
            config[key] = [entry for entry in config[key] if not names & {entry["first"], entry["second"]}]
    people = {
        part: _people(
            part, [pair for pair in pairs if part in (pair["config"], EVERY_CONFIG)], ratings, annotators, seed
        )
        for part in content["configs"]
    }
    return content | {"people": people, "raters": _raters(raters, answers, seed)}


def rater_names(annotators: Sequence[Row]) -> list[str]:
    return [annotator["name"] for annotator in annotators if annotator["group"] in ("human", "simulated")]


def blind_ratings(pairs: Sequence[Row], ratings: Sequence[Row]) -> list[dict[str, Any]]:
    """What most raters of other personas say, who never saw the pair's own: on contrast those of the mirror, which has the same two texts,
    on dpf those who were asked the same question, the refined answer standing for the refined answer. No rating where they are split.

    ratings: those of raters alone.
    """
    by_id = {pair["pair_id"]: pair for pair in pairs}
    given: dict[str, list[str]] = {}
    for row in ratings:
        given.setdefault(row["pair_id"], []).append(row["answer"])
    same_question: dict[str, list[str]] = {}
    for pair in pairs:
        if pair["config"] == "dpf":
            same_question.setdefault(pair["prompt_id"], []).append(pair["pair_id"])
    found = []
    for pair_id, pair in sorted(by_id.items()):
        if pair["config"] == "dpf":
            others = [by_id[other] for other in same_question[pair["prompt_id"]] if other != pair_id]
        else:
            others = [by_id[pair["mirror_pair_id"]]] if pair["mirror_pair_id"] in by_id else []
        others = [other for other in others if other["persona_id"] != pair["persona_id"]]
        counts = Counter(
            _translated(answer, other, pair) for other in others for answer in given.get(other["pair_id"], ())
        )
        if counts["A"] != counts["B"]:
            found.append(rating(BLIND, pair_id, "A" if counts["A"] > counts["B"] else "B"))
    return found


def _translated(answer: str, other: Row, pair: Row) -> str:
    """The answer to another pair as one to this: the same text on contrast, where both mirrors show the same text at A; the refined or
    the base answer on dpf."""
    if pair["config"] == "contrast" or other["first"] == pair["first"]:
        return answer
    return {"A": "B", "B": "A"}.get(answer, answer)


def _people(
    part: str, pairs: Sequence[Row], ratings: Sequence[Row], annotators: Sequence[Row], seed: int
) -> dict[str, Any]:
    """Kappas with single raters, every rater of an item counted alike. Those with most raters stand in `configs`."""
    given: dict[str, dict[str, Row]] = {}
    for row in ratings:
        given.setdefault(row["annotator"], {})[row["pair_id"]] = row
    described = [*annotators, *annotators_of_the_data()]
    answers, _ = annotator_answers(pairs, given, described)
    people = [name for name in rater_names(annotators) if name in answers]
    label = f"{next(a['group'] for a in annotators if a['name'] in rater_names(annotators))} raters"
    clusters, prompts = [cluster_of(pair) for pair in pairs], [pair["prompt_id"] for pair in pairs]

    def rng(what: str) -> np.random.Generator:
        return rng_for(seed, "human/people", f"{part}/{what}")

    with_raters: dict[str, Both] = {
        a["name"]: [(answers[a["name"]], answers[person]) for person in people]
        for a in described
        if a["name"] in answers and a["name"] not in people
    }
    each_other: Both = [(answers[one], answers[other]) for one, other in itertools.combinations(people, 2)]
    across = _across_personas(pairs, answers, people)
    entries = []
    for annotator in (a for a in described if a["name"] in with_raters):
        name = annotator["name"]
        kappa, agreement = pooled_kappa(with_raters[name], clusters, prompts, rng(name))
        entry = {
            "name": name,
            "of": annotator["of"],
            "condition": annotator["condition"],
            "kappa": dataclasses.asdict(kappa),
            "agreement": dataclasses.asdict(agreement),
        }
        twins = {
            a["condition"]: a["name"] for a in described if a["of"] == annotator["of"] and a["name"] in with_raters
        }
        if annotator["condition"] == "true":
            for condition in CONTROLS:
                if condition in twins:
                    difference = kappa_difference(
                        with_raters[name], with_raters[twins[condition]], clusters, prompts, rng(f"{name}/{condition}")
                    )
                    entry[f"above_{condition}"] = dataclasses.asdict(difference)
        entries.append(entry)
    answered = [sum(answers[person][i] is not None for person in people) for i in range(len(pairs))]
    return {
        "of": label,
        "pairs": len(pairs),
        "personas": len({pair["persona_id"] for pair in pairs}),
        "answers": sum(answered),
        "mirrors": _complete_mirrors(pairs),
        "raters_a_pair": dict(sorted(Counter(str(count) for count in answered).items())),
        "each_other": _both_figures(each_other, clusters, prompts, rng("each other")),
        "of_other_personas": _both_figures(across, clusters, prompts, rng("across")),
        "with_raters": entries,
        "of_personas": [
            _by_persona(label, label, each_other, pairs, symmetric=True),
            *(_by_persona(name, label, both, pairs) for name, both in with_raters.items()),
        ],
    }


def _both_figures(both: Both, clusters: Any, prompts: Any, rng: np.random.Generator) -> dict[str, Any] | None:
    """None where there is nobody to compare."""
    if not both:
        return None
    kappa, agreement = pooled_kappa(both, clusters, prompts, rng, symmetric=True)
    return {"kappa": dataclasses.asdict(kappa), "agreement": dataclasses.asdict(agreement)}


def _across_personas(pairs: Sequence[Row], answers: Mapping[str, Answers], people: Sequence[str]) -> Both:
    """Each rater of a pair with each rater of another persona who was asked the same: about the mirror, or on dpf about the same question
    for the next persona."""
    place = {pair["pair_id"]: i for i, pair in enumerate(pairs)}
    same_question: dict[str, list[int]] = {}
    for i, pair in enumerate(pairs):
        if pair["config"] == "dpf":
            same_question.setdefault(pair["prompt_id"], []).append(i)
    following = {
        own[k]: own[(k + 1) % len(own)] for own in same_question.values() if len(own) > 1 for k in range(len(own))
    }
    others = [
        following.get(i) if pair["config"] == "dpf" else place.get(pair["mirror_pair_id"] or "")
        for i, pair in enumerate(pairs)
    ]
    if all(other is None for other in others):
        return []

    def across(person: str) -> list[str | None]:
        found: list[str | None] = []
        for i, other in enumerate(others):
            answer = None if other is None else answers[person][other]
            found.append(None if other is None or answer is None else _translated(answer, pairs[other], pairs[i]))
        return found

    elsewhere = {person: across(person) for person in people}
    return [(answers[one], elsewhere[other]) for one in people for other in people]


def _complete_mirrors(pairs: Sequence[Row]) -> int:
    """Contrast pairs of which both mirrors were asked, counted once."""
    present = {pair["pair_id"] for pair in pairs}
    return sum(pair["mirror_pair_id"] in present for pair in pairs) // 2


def _by_persona(first: str, second: str, both: Both, pairs: Sequence[Row], symmetric: bool = False) -> dict[str, Any]:
    """Kappas on each persona's own items, in the form of content_of's `of_personas`."""
    places: dict[str, list[int]] = {}
    for i, pair in enumerate(pairs):
        places.setdefault(pair["persona_id"], []).append(i)
    kappas, undefined = {}, Counter[str]()
    for persona, own in sorted(places.items() if both else ()):
        compared = [([one[i] for i in own], [other[i] for i in own]) for one, other in both]
        value, n, reason = pooled_kappa_value(compared, FEWEST_OF_PERSONA, symmetric)
        if value is not None:
            kappas[persona] = value
        elif n:
            undefined[str(reason)] += 1
    return {
        "first": first,
        "second": second,
        "kappas": kappas,
        "undefined": dict(sorted(undefined.items())),
        "median": statistics.median(kappas.values()) if kappas else None,
    }


def _raters(raters: Sequence[Row], answers: Sequence[Row], seed: int) -> dict[str, Any]:
    """Who took part and what became of it, and how those who count answered."""
    began = [rater for rater in raters if rater["state"] != "new"]
    counted = {rater["rater_id"]: rater for rater in raters if rater["counted"]}
    own = sorted((a for a in answers if a["rater_id"] in counted), key=lambda a: (a["rater_id"], a["item_id"]))
    questions = [answer for answer in own if answer["kind"] != "check"]
    checks = [answer for answer in own if answer["kind"] == "check"]
    lengths = Counter(rater["persona_id"] for rater in counted.values())
    return {
        "invited": len(raters),
        "began": len(began),
        "finished": sum(rater["state"] == "finished" for rater in raters),
        "counted": len(counted),
        "excluded": sum(rater["excluded"] for rater in raters),
        "unfinished": sum(rater["state"] == "open" for rater in raters),
        "beyond_places": sum(
            rater["state"] == "finished" and not rater["counted"] and not rater["excluded"] for rater in raters
        ),
        "personas_with": dict(sorted(Counter(str(count) for count in lengths.values()).items())),
        "not_counted": [
            {
                "rater_id": rater["rater_id"],
                "persona_id": rater["persona_id"],
                "excluded": rater["excluded"],
                "reason": rater["reason"],
            }
            for rater in sorted(began, key=lambda rater: rater["rater_id"])
            if not rater["counted"]
        ],
        "seconds_a_question": _quantiles([answer["seconds"] for answer in questions]),
        "minutes_in_all": _quantiles([rater["minutes"] for rater in counted.values()]),
        "characters_of_reasoning": _quantiles([float(len(answer["reason"])) for answer in questions]),
        # A rater who always takes the first answer shows here; the order of the answers was drawn, so without a preference it is one half.
        "took_first": _share([answer["choice"] == "A" for answer in questions], questions, seed, "first"),
        "pasted": _share([answer["pasted"] >= PASTED for answer in questions], questions, seed, "pasted"),
        "changed_later": _share([answer["changes"] > 0 for answer in questions], questions, seed, "changed"),
        "checks_passed": _share([answer["preferred"] == "chosen" for answer in checks], checks, seed, "checks"),
    }


def _share(values: Sequence[bool], answers: Sequence[Row], seed: int, what: str) -> dict[str, Any] | None:
    """Of answers; raters are resampled, since one rater's habits are in all its answers. None without an answer."""
    if not values:
        return None
    column = np.array(values, dtype=float)[:, None]
    clusters = [(answer["rater_id"],) for answer in answers]
    (estimate,) = estimate_columns(column, clusters, rng_for(seed, "human/raters", what))
    return dataclasses.asdict(estimate)


def _quantiles(values: Sequence[float]) -> dict[str, float] | None:
    if not values:
        return None
    low, median, high = np.percentile(values, (10, 50, 90))
    return {"p10": float(low), "median": float(median), "p90": float(high), "n": len(values)}
