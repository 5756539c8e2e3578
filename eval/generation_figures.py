"""What models write, as figures: wins against the base model's answers, and what a scorer's choice among candidates is worth.

Pure functions of the kept tables, so that a rereading of the judges' replies computes them anew (`persona eval rescore`).
"""

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from builder.judge.judge import WORTH, Verdict
from builder.lexical import words
from builder.randomness import rng_for
from eval.length_control import length_controlled
from eval.results import row_counts, too_many_unscored
from training.conditioning import CONDITIONS
from training.estimates import Estimate, Resampled, estimate_mean, resample
from training.metrics import CELLS

AGAINST_BASE, BEST_OF = "against_base", "best_of"
CONTROLS = ("wrong", "none")
CHOICE_CONTROLS = ("random", "none", "wrong")
# use: AGAINST_BASE or BEST_OF. writer: `model` or `base`. condition: whose persona the writer was shown. failure: why there is no text.
ANSWER_COLUMNS = {
    **dict.fromkeys(("use", "item", "persona_id", "prompt_id", "cell", "question", "condition", "writer"), "string"),
    "sample": "int64",
    "text": "string",
    "failure": "string",
}
# The scorer's, of the candidates. condition: whose persona the scorer was shown. reason: why there is none.
SCORE_COLUMNS = {
    "item": "string",
    "sample": "int64",
    "condition": "string",
    "score": "double",
    "reason": "string",
}

Row = Mapping[str, Any]


def against_base_id(item: str, condition: str) -> str:
    """Of a comparison: the model's answer first, the base model's second."""
    return f"{item}|{AGAINST_BASE}|{condition}"


def best_of_id(item: str, sample: int) -> str:
    """Of a comparison: this candidate first, candidate 0 second."""
    return f"{item}|{BEST_OF}|{sample}"


def content_of(
    answers: Sequence[Row],
    scores: Sequence[Row],
    verdicts: Mapping[str, Mapping[str, Verdict]],
    seed: int,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """(`Result.content`, `Result.rows`).

    answers, scores: the kept tables. verdicts: judge's label -> comparison's id -> verdict.
    """
    reasons: list[str | None] = []
    judged = {}
    for judge, own in verdicts.items():
        judged[judge] = {
            AGAINST_BASE: _against_base([row for row in answers if row["use"] == AGAINST_BASE], own, seed, reasons),
            BEST_OF: _best_of([row for row in answers if row["use"] == BEST_OF], scores, own, seed, reasons),
        }
    return {"judges": judged, "lengths": lengths(answers)}, row_counts(reasons)


def lengths(answers: Sequence[Row]) -> list[dict[str, Any]]:
    """One entry for each use, writer and condition: `answers`, `failures` (reason -> answers), `mean_words` of those without one."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in answers:
        groups.setdefault((row["use"], row["writer"], row["condition"]), []).append(row)
    return [
        {
            "use": use,
            "writer": writer,
            "condition": condition,
            "answers": len(rows),
            "failures": dict(sorted(Counter(row["failure"] for row in rows if row["failure"]).items())),
            "mean_words": _mean([len(words(row["text"])) for row in rows if not row["failure"]]),
        }
        for (use, writer, condition), rows in sorted(groups.items())
    ]


def _against_base(
    answers: Sequence[Row], verdicts: Mapping[str, Verdict], seed: int, reasons: list[str | None]
) -> dict[str, Any] | None:
    """Won by the model against the base model under the same condition, judged for the true persona; None without answers.

    `conditions`: condition -> {`win_rate`, `length_controlled`, `length_slope`, `ties`, `rows`}. `gaps`: control -> win rate(true) less
    that of the control, over the items counted under both. `cells`: of each of the four that has items, `win_rates`, `gaps` and `rows` by
    themselves. Every reason of a row goes to `reasons`.
    """
    if not answers:
        return None
    texts = {(row["item"], row["condition"], row["writer"]): row for row in answers}
    items = {row["item"]: row for row in answers}
    names = sorted(items)
    wins: dict[str, np.ndarray] = {}
    longer: dict[str, np.ndarray] = {}
    rows: dict[str, dict[str, Any]] = {}
    own_reasons: dict[str, list[str | None]] = {}
    for condition in CONDITIONS:
        found = [_win(texts, item, condition, verdicts) for item in names]
        wins[condition] = np.array([math.nan if win is None else win for win, _ in found])
        own_reasons[condition] = [reason for _, reason in found]
        rows[condition] = row_counts(own_reasons[condition])
        reasons += own_reasons[condition]
        longer[condition] = np.array([_longer(texts, item, condition) for item in names])
    columns = [wins[c] for c in CONDITIONS] + [wins["true"] - wins[control] for control in CONTROLS]
    clusters = [(items[name]["persona_id"],) for name in names]
    prompts = [items[name]["prompt_id"] for name in names]
    values = np.stack(columns, axis=1)
    resampled = resample(values, clusters, rng_for(seed, "eval/generations", AGAINST_BASE), prompts)
    conditions = {}
    for place, condition in enumerate(CONDITIONS):
        why = too_many_unscored(rows[condition])
        controlled, slope = length_controlled(
            resampled, place, longer[condition], rng_for(seed, "eval/length_control", condition)
        )
        conditions[condition] = {
            "win_rate": _plain(estimate_mean(resampled, place), why),
            "length_controlled": _plain(controlled, why),
            "length_slope": None if why else slope,
            "ties": int((wins[condition] == 0.5).sum()),
            "rows": rows[condition],
        }
    return {
        "conditions": conditions,
        "gaps": _gaps(resampled, rows, CONTROLS),
        "cells": _by_cell(
            [items[name] for name in names], values, own_reasons, "win_rates", CONTROLS, AGAINST_BASE, seed
        ),
    }


def _by_cell(
    items: Sequence[Row],
    values: np.ndarray,
    reasons: Mapping[str, Sequence[str | None]],
    shares: str,
    controls: Sequence[str],
    use: str,
    seed: int,
) -> dict[str, dict[str, Any]]:
    """The same figures of each cell that has items. values: (items, columns), a share for each condition, then its gap to each control."""
    found = {}
    for cell in CELLS[1:]:
        places = [place for place, item in enumerate(items) if item["cell"] == cell]
        if not places:
            continue
        own = [items[place] for place in places]
        resampled = resample(
            values[places],
            [(item["persona_id"],) for item in own],
            rng_for(seed, "eval/generations", f"{use}/{cell}"),
            [item["prompt_id"] for item in own],
        )
        rows = {condition: row_counts(of[place] for place in places) for condition, of in reasons.items()}
        found[cell] = {
            shares: {
                condition: _plain(estimate_mean(resampled, place), too_many_unscored(rows[condition]))
                for place, condition in enumerate(CONDITIONS)
            },
            "gaps": _gaps(resampled, rows, controls),
            "rows": rows,
        }
    return found


def _gaps(resampled: Resampled, rows: Mapping[str, dict[str, Any]], controls: Sequence[str]) -> dict[str, Any]:
    """control -> share(true) less that of the control; their columns are the last. One that is no condition has the rows of `true`."""
    first = resampled.values.shape[1] - len(controls)
    return {
        control: _plain(
            estimate_mean(resampled, first + place, is_difference=True),
            too_many_unscored(rows["true"]) or too_many_unscored(rows.get(control, rows["true"])),
        )
        for place, control in enumerate(controls)
    }


def _win(
    texts: Mapping[tuple[str, str, str], Row], item: str, condition: str, verdicts: Mapping[str, Verdict]
) -> tuple[float | None, str | None]:
    for writer in ("model", "base"):
        failure = texts[item, condition, writer]["failure"]
        if failure:
            return None, f"{writer}'s answer: {failure}"
    verdict = verdicts[against_base_id(item, condition)]
    return (None, verdict.reason or "unscored") if verdict.verdict == "unscored" else (WORTH[verdict.verdict], None)


def _longer(texts: Mapping[tuple[str, str, str], Row], item: str, condition: str) -> float:
    """Log of how many times as long the model's answer is, in words (one more each, for those without a word)."""
    own, base = (len(words(texts[item, condition, writer]["text"])) + 1 for writer in ("model", "base"))
    return math.log(own / base)


def _best_of(
    answers: Sequence[Row],
    scores: Sequence[Row],
    verdicts: Mapping[str, Verdict],
    seed: int,
    reasons: list[str | None],
) -> dict[str, Any] | None:
    """What the scorer's choice among the candidates wins against the first of them, judged for the true persona; None without any.

    An item counts only where every candidate was written and judged. Where several candidates score alike, their mean counts. `picks`:
    condition that the scorer was shown -> win rate. `random`: of a candidate at random. `best`: of the one that the judge likes best, the
    most that any choice could win. `gaps`: what the choice for the true persona wins more than `random`, `none`, `wrong`. `cells`: of each
    of the four that has items, `picks`, `gaps` and `rows` by themselves.
    """
    if not answers:
        return None
    candidates: dict[str, list[Row]] = {}
    for row in sorted(answers, key=lambda row: (row["item"], row["sample"])):
        candidates.setdefault(row["item"], []).append(row)
    scored = {(row["item"], row["condition"], row["sample"]): row for row in scores}
    picks: dict[str, list[float]] = {condition: [] for condition in CONDITIONS}
    own_reasons: dict[str, list[str | None]] = {condition: [] for condition in CONDITIONS}
    random, best = [], []
    for item, own in candidates.items():
        won, failure = _wins_of_candidates(item, own, verdicts)
        random.append(sum(won) / len(won) if won else math.nan)
        best.append(max(won) if won else math.nan)
        for condition in CONDITIONS:
            given = [scored[item, condition, row["sample"]] for row in own]
            reason = failure or next((value["reason"] for value in given if value["reason"]), None)
            own_reasons[condition].append(reason)
            picks[condition].append(math.nan if reason else _picked([value["score"] for value in given], won))
    rows = {condition: row_counts(found) for condition, found in own_reasons.items()}
    reasons += [reason for found in own_reasons.values() for reason in found]
    named: dict[str, list[float]] = {**picks, "random": random, "best": best}
    worth = {name: np.array(column, dtype=float) for name, column in named.items()}
    gaps = [worth["true"] - worth[name] for name in CHOICE_CONTROLS]
    firsts = [own[0] for own in candidates.values()]
    resampled = resample(
        np.stack([*worth.values(), *gaps], axis=1),
        [(row["persona_id"],) for row in firsts],
        rng_for(seed, "eval/generations", BEST_OF),
        [row["prompt_id"] for row in firsts],
    )
    why = {condition: too_many_unscored(counts) for condition, counts in rows.items()}
    estimates = {name: estimate_mean(resampled, place) for place, name in enumerate(worth)}
    return {
        "candidates": max(len(own) for own in candidates.values()),
        "picks": {condition: _plain(estimates[condition], why[condition]) for condition in CONDITIONS},
        "random": _plain(estimates["random"], why["true"]),
        "best": _plain(estimates["best"], why["true"]),
        "gaps": _gaps(resampled, rows, CHOICE_CONTROLS),
        "rows": rows,
        "cells": _by_cell(
            firsts,
            np.stack([*(worth[condition] for condition in CONDITIONS), *gaps], axis=1),
            own_reasons,
            "picks",
            CHOICE_CONTROLS,
            BEST_OF,
            seed,
        ),
    }


def _wins_of_candidates(
    item: str, candidates: Sequence[Row], verdicts: Mapping[str, Verdict]
) -> tuple[list[float], str | None]:
    """Of each candidate against the first (the first: a tie with itself); none with a reason where one is not known."""
    failed = next((row["failure"] for row in candidates if row["failure"]), None)
    if failed:
        return [], f"a candidate: {failed}"
    won = [0.5]
    for row in candidates[1:]:
        verdict = verdicts[best_of_id(item, row["sample"])]
        if verdict.verdict == "unscored":
            return [], verdict.reason or "unscored"
        won.append(WORTH[verdict.verdict])
    return won, None


def _picked(scores: Sequence[float], won: Sequence[float]) -> float:
    """What the candidate with the highest score won; of several, their mean."""
    highest = max(scores)
    best = [win for score, win in zip(scores, won, strict=True) if score == highest]
    return sum(best) / len(best)


def _mean(values: Iterable[float]) -> float | None:
    listed = list(values)
    return sum(listed) / len(listed) if listed else None


def _plain(estimate: Estimate, why: str | None) -> dict[str, Any]:
    """As it stands in a result; with a reason why its figures are withheld."""
    if why is not None:
        estimate = Estimate(None, None, None, estimate.n, estimate.clusters, why)
    return dataclasses.asdict(estimate)
