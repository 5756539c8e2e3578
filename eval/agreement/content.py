"""Every figure of the agreement evaluation, from the kept tables: who agrees with whom, over all personas and in each.

The configs dpf and contrast are never pooled here; the human study asks for that too, with both beside it. On dpf a rule that never looks
at the persona, take the refined answer, agrees highly with whoever prefers refined answers. On contrast every text is chosen as often as
it is rejected, and such a rule agrees with the labels exactly as often as not.
"""

import dataclasses
import itertools
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from builder.randomness import rng_for
from eval.agreement.annotators import CONDITION_SUFFIXES, LABEL, PUBLISHED
from eval.agreement.kappa import (
    FEWEST_OF_PERSONA,
    FEWEST_RATERS,
    Answers,
    consensus,
    consensus_without,
    kappa_estimates,
    kappa_value,
    krippendorffs_alpha,
)
from eval.results import row_counts, too_many_unscored
from eval.rows import EVALUATED_CONFIGS
from training.estimates import estimate_columns

Row = Mapping[str, Any]
PEOPLE = ("human", "simulated")
PERSONA_GROUPS = ("all", "seen", "unseen")
CONSENSUS_SUFFIX = " consensus"
EVERY_CONFIG = "all"


def content_of(
    pairs: Sequence[Row],
    ratings: Sequence[Row],
    annotators: Sequence[Row],
    seed: int,
    configs: Sequence[str] = EVALUATED_CONFIGS,
) -> dict[str, Any]:
    """pairs: rows of PAIR_COLUMNS. ratings: rows of RATING_COLUMNS. annotators: as eval.agreement.annotators.Annotator has them.

    configs: those to report, EVERY_CONFIG for all pairs together. The order of rows changes nothing.
    """
    pairs = sorted(pairs, key=lambda pair: pair["pair_id"])
    given: dict[str, dict[str, Row]] = {}
    for row in ratings:
        given.setdefault(row["annotator"], {})[row["pair_id"]] = row
    described = [*map(dict, annotators), *annotators_of_the_data()]
    contents = {}
    items: dict[str, dict[str, Any]] = {annotator["name"]: {} for annotator in described}
    for config in configs:
        own = [pair for pair in pairs if config in (pair["config"], EVERY_CONFIG)]
        if own:
            answers, counted = annotator_answers(own, given, described)
            contents[config] = _config_content(config, own, answers, described, seed)
            for name, counts in counted.items():
                items[name][config] = counts
    return {
        "annotators": [{**annotator, "items": items[annotator["name"]]} for annotator in described],
        "configs": contents,
    }


def judged_rows(ratings: Sequence[Row], annotators: Sequence[Row]) -> dict[str, Any]:
    """`Result.rows`: what judges answered and what not. People and lexical rules have no unscored rows."""
    judges = {annotator["name"] for annotator in annotators if annotator["judge"]}
    return row_counts([row["reason"] for row in ratings if row["annotator"] in judges])


def annotators_of_the_data() -> list[dict[str, Any]]:
    nobody = {"condition": "", "judge": None, "reliability": None, "scripted": False}
    return [
        {"name": LABEL, "group": "rule", "of": LABEL, **nobody},
        {"name": PUBLISHED, "group": "model", "of": PUBLISHED, **nobody},
    ]


def annotator_answers(
    pairs: Sequence[Row], given: Mapping[str, Mapping[str, Row]], annotators: Sequence[Row]
) -> tuple[dict[str, list[str | None]], dict[str, dict[str, Any]]]:
    """(name -> an answer a pair, of those who answered any; name -> what they answered and what not)."""
    answers: dict[str, list[str | None]] = {}
    counted = {}
    for name in (annotator["name"] for annotator in annotators):
        if name == LABEL:
            rows: list[Row | None] = [
                {"answer": "A" if pair["first"] == "chosen" else "B", "reason": None} for pair in pairs
            ]
        elif name == PUBLISHED:
            rows = [_published(pair) for pair in pairs]
        else:
            rows = [given.get(name, {}).get(pair["pair_id"]) for pair in pairs]
        asked = [row for row in rows if row is not None]
        if not asked:
            continue
        counts = row_counts(row["reason"] for row in asked)
        counted[name] = {
            "answered": counts["scored"],
            "ties": sum(row["answer"] == "tie" for row in asked),
            "unscored": counts["unscored"],
            "withheld": too_many_unscored(counts),
        }
        if counts["scored"] and not counted[name]["withheld"]:
            answers[name] = [None if row is None else row["answer"] for row in rows]
    return answers, counted


def _published(pair: Row) -> Row | None:
    verdict = pair["published_verdict"]
    if verdict == "unscored":
        return None
    if verdict == "tie":
        return {"answer": "tie", "reason": None}
    return {"answer": "A" if verdict == pair["first"] else "B", "reason": None}


def _config_content(
    config: str,
    pairs: Sequence[Row],
    answers: dict[str, list[str | None]],
    annotators: Sequence[Row],
    seed: int,
) -> dict[str, Any]:
    raters = {kind: [a["name"] for a in annotators if a["group"] == kind and a["name"] in answers] for kind in PEOPLE}
    agreed = {kind: names for kind, names in raters.items() if len(names) >= FEWEST_RATERS}
    everybody = answers | {
        f"{kind}{CONSENSUS_SUFFIX}": [consensus(unit) for unit in _units(answers, names)]
        for kind, names in agreed.items()
    }
    part_of = {name: f"{kind}{CONSENSUS_SUFFIX}" for kind, names in agreed.items() for name in names}
    compared = [both for both in itertools.combinations(everybody, 2) if part_of.get(both[0]) != both[1]]
    return {
        "items": len(pairs),
        "personas": len({pair["persona_id"] for pair in pairs}),
        "kappas": _kappas(config, pairs, everybody, compared, seed),
        "of_personas": _of_personas(pairs, everybody, compared),
        "alphas": _alphas(config, pairs, answers, annotators, seed),
        "consensus": [_consensus(config, pairs, everybody, kind, names, seed) for kind, names in agreed.items()],
    }


def _kappas(
    config: str, pairs: Sequence[Row], answers: Mapping[str, Answers], both: Sequence[tuple[str, str]], seed: int
) -> list[dict[str, Any]]:
    """Of every two annotators, for all personas and by group. `decided`: kappa of the items on which neither said tie.

    both: who is compared with whom. Never a rater with a consensus that it is part of: that agrees with itself, whatever it says.
    """
    entries = []
    for group in PERSONA_GROUPS:
        places = [i for i, pair in enumerate(pairs) if group in ("all", pair["persona_group"])]
        if not places or not both:
            continue
        own = {name: [given[i] for i in places] for name, given in answers.items()}
        decided = {name: [None if answer == "tie" else answer for answer in given] for name, given in own.items()}
        estimates = kappa_estimates(
            [
                *((own[one], own[other]) for one, other in both),
                *((decided[one], decided[other]) for one, other in both),
            ],
            [cluster_of(pairs[i]) for i in places],
            [pairs[i]["prompt_id"] for i in places],
            rng_for(seed, "agreement/kappa", f"{config}/{group}"),
        )
        for number, (one, other) in enumerate(both):
            kappa, agreement = estimates[number]
            entries.append(
                {
                    "first": one,
                    "second": other,
                    "group": group,
                    "kappa": dataclasses.asdict(kappa),
                    "agreement": dataclasses.asdict(agreement),
                    "decided": dataclasses.asdict(estimates[len(both) + number][0]),
                }
            )
    return entries


def _of_personas(
    pairs: Sequence[Row], answers: Mapping[str, Answers], both: Sequence[tuple[str, str]]
) -> list[dict[str, Any]]:
    """Of every two of `both` the kappa on each persona's own items. An undefined one is counted with its reason and has no value."""
    places: dict[str, list[int]] = {}
    for i, pair in enumerate(pairs):
        places.setdefault(pair["persona_id"], []).append(i)
    entries = []
    for one, other in both:
        kappas, undefined = {}, Counter[str]()
        for persona, own in places.items():
            value, n, reason = kappa_value(
                [answers[one][i] for i in own], [answers[other][i] for i in own], FEWEST_OF_PERSONA
            )
            if value is not None:
                kappas[persona] = value
            elif n:
                undefined[str(reason)] += 1
        entries.append(
            {
                "first": one,
                "second": other,
                "kappas": kappas,
                "undefined": dict(sorted(undefined.items())),
                "median": statistics.median(kappas.values()) if kappas else None,
            }
        )
    return entries


def _alphas(
    config: str, pairs: Sequence[Row], answers: Mapping[str, Answers], annotators: Sequence[Row], seed: int
) -> list[dict[str, Any]]:
    """Krippendorff's alpha of groups of annotators. Twins without or with a wrong persona are groups of their own."""
    by_name = {annotator["name"]: annotator for annotator in annotators}
    present = [by_name[name] for name in answers]
    own = [a for a in present if a["condition"] in ("", "true") and a["group"] != "rule" and a["name"] != PUBLISHED]
    groups = {
        "all": own,
        **{
            f"models{CONDITION_SUFFIXES[condition]}": [a for a in own if a["group"] == "model"]
            if condition == "true"
            else [a for a in present if a["group"] == "model" and a["condition"] == condition]
            for condition in CONDITION_SUFFIXES
        },
        **{kind: [a for a in present if a["group"] == kind] for kind in PEOPLE},
    }
    entries = []
    for name, members in groups.items():
        if len(members) > 1:
            names = [member["name"] for member in members]
            alpha = krippendorffs_alpha(
                _units(answers, names),
                [cluster_of(pair) for pair in pairs],
                [pair["prompt_id"] for pair in pairs],
                rng_for(seed, "agreement/alpha", f"{config}/{name}"),
            )
            entries.append({"of": name, "annotators": names, "alpha": dataclasses.asdict(alpha)})
    return entries


def _consensus(
    config: str, pairs: Sequence[Row], answers: Mapping[str, Answers], kind: str, names: Sequence[str], seed: int
) -> dict[str, Any]:
    """What most raters of an item say. `with_others`: kappa of each rater with the majority of the other raters. `drop_one`: kappa of every
    other annotator with the majority of the raters but one, in turn.
    """
    units = _units(answers, names)
    rated = [i for i, unit in enumerate(units) if sum(answer is not None for answer in unit) >= FEWEST_RATERS]
    agreed = [consensus(unit) for unit in units]
    share = np.array([[1.0 if agreed[i] is None else 0.0] for i in rated]).reshape(-1, 1)
    without = [[consensus_without(units[i], dropped) for i in range(len(pairs))] for dropped in range(len(names))]
    others = [name for name in answers if name not in names and not name.endswith(CONSENSUS_SUFFIX)]
    estimate = (
        estimate_columns(
            share,
            [cluster_of(pairs[i]) for i in rated],
            rng_for(seed, "agreement/consensus", f"{config}/{kind}"),
            prompts=[pairs[i]["prompt_id"] for i in rated],
        )[0]
        if rated
        else None
    )
    majority = dict(zip(names, without, strict=True))
    asked = [(name, name) for name in names] + [(other, name) for other in others for name in names]
    found = kappa_estimates(
        [(answers[who], majority[dropped]) for who, dropped in asked],
        [cluster_of(pair) for pair in pairs],
        [pair["prompt_id"] for pair in pairs],
        rng_for(seed, "agreement/drop_one", f"{config}/{kind}"),
    )
    kappas = {both: dataclasses.asdict(kappa) for both, (kappa, _) in zip(asked, found, strict=True)}
    return {
        "of": kind,
        "raters": list(names),
        "items": len(rated),
        "no_consensus": None if estimate is None else dataclasses.asdict(estimate),
        "with_others": {name: kappas[name, name] for name in names},
        "drop_one": [{"with": other, "kappas": {name: kappas[other, name] for name in names}} for other in others],
    }


def _units(answers: Mapping[str, Answers], names: Sequence[str]) -> list[Answers]:
    """The answers to each item."""
    return [list(unit) for unit in zip(*(answers[name] for name in names), strict=True)]


def cluster_of(pair: Row) -> tuple[str, ...]:
    partner = pair["partner_persona_id"]
    return (pair["persona_id"],) if partner is None else tuple(sorted((pair["persona_id"], partner)))
