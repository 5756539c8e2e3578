"""All figures of subtlety, from the kept answers and the verdicts alone: the same for a new evaluation and for `persona eval rescore`."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from builder.judge.critique import CritiqueVerdict
from builder.randomness import rng_for
from eval.bench.answers import ANSWER_COLUMNS
from eval.paired_test import paired_p_values
from eval.results import row_counts, too_many_unscored
from eval.value_matching import matcher, names_value, said_attributes
from training.estimates import estimate_columns

PLAIN, REASONED = "output_only", "chain_of_thought"
MODES = (PLAIN, REASONED)
ANSWERS = "answers.parquet"
COLUMNS = {**ANSWER_COLUMNS, "profile": "string", "other_profile": "string"}
# Kinds of answers, and how the tables call them: (mode, condition) -> words. The last two are the controls of both arms.
KINDS = {
    (PLAIN, "true"): "persona alone",
    (REASONED, "true"): "with reasoning",
    (PLAIN, "wrong"): "for another persona",
    (REASONED, "wrong"): "for another persona, with reasoning",
    ("baseline", "none"): "without a persona",
}
LEXICAL = "words of the profile"


def content_of(
    answers: Sequence[Mapping[str, Any]], verdicts: Mapping[str, Mapping[str, CritiqueVerdict]], seed: int
) -> dict[str, Any]:
    """All figures. answers: rows of COLUMNS. verdicts: judge -> item_id of an answer -> verdict.

    `measures`: a block for each judge and one for the words of the profile; of each the share that recites by kind of answer, its gap to
    both controls, and of reasoning against none McNemar's test and one that takes personas and questions whole. `judge_and_words`: of the
    judged answers under their own persona, how many both measures call reciting, one of them, and none.
    """
    by_kind: dict[tuple[str, str], dict[str, Mapping[str, Any]]] = {kind: {} for kind in KINDS}
    for row in answers:
        by_kind[row["mode"], row["condition"]][f"{row['persona_id']}/{row['prompt_id']}"] = row
    keys = sorted(by_kind["baseline", "none"])
    rows = [by_kind["baseline", "none"][key] for key in keys]
    named = {row["item_id"]: _names_profile(row) for row in answers}
    measures = {}
    for name in (*verdicts, LEXICAL):
        recites = named if name == LEXICAL else {item: _recites(v) for item, v in verdicts[name].items()}
        values = {
            kind: np.array([recites.get(own[key]["item_id"], math.nan) if key in own else math.nan for key in keys])
            for kind, own in by_kind.items()
        }
        reasons = [] if name == LEXICAL else [_reason(row, verdicts[name]) for row in answers]
        measures[name] = _measure(values, rows, seed, name, too_many_unscored(row_counts(reasons)) if reasons else None)
    return {
        "items": len(keys),
        "personas": len({row["persona_id"] for row in rows}),
        "words": {KINDS[kind]: _mean_words(own.values()) for kind, own in by_kind.items()},
        "measures": measures,
        "judge_and_words": {name: _crossed(own, named, answers) for name, own in verdicts.items()},
    }


def scored_rows(
    answers: Sequence[Mapping[str, Any]], verdicts: Mapping[str, Mapping[str, CritiqueVerdict]]
) -> dict[str, Any]:
    return row_counts(_reason(row, own) for own in verdicts.values() for row in answers)


def mcnemar(first: np.ndarray, second: np.ndarray) -> dict[str, Any]:
    """McNemar's exact test on paired 0/1 values (NaN: not counted): do the discordant pairs fall to both sides alike?

    only_first, only_second: pairs with 1 in one alone. p is two-sided, None without a discordant pair.
    """
    from scipy.stats import binomtest

    counted = ~(np.isnan(first) | np.isnan(second))
    one, other = first[counted], second[counted]
    only_first, only_second = int(((one == 1) & (other == 0)).sum()), int(((one == 0) & (other == 1)).sum())
    discordant = only_first + only_second
    return {
        "pairs": int(counted.sum()),
        "only_first": only_first,
        "only_second": only_second,
        "discordant": discordant,
        "p": float(binomtest(only_second, discordant, 0.5).pvalue) if discordant else None,
    }


def _measure(
    values: Mapping[tuple[str, str], np.ndarray],
    rows: Sequence[Mapping[str, Any]],
    seed: int,
    name: str,
    withheld: str | None,
) -> dict[str, Any]:
    """Arms, gaps to the controls, and the test. Gaps: an arm minus the same arm for another persona, and minus no persona."""
    if withheld:
        return {"withheld": withheld, "shares": {}, "gaps": {}, "reasoning": None, "reasoning_for_another": None}
    gaps = {
        f"{KINDS[mode, 'true']} minus {KINDS[control]}": values[mode, "true"] - values[control]
        for mode in MODES
        for control in ((mode, "wrong"), ("baseline", "none"))
    }
    gaps[f"{KINDS[REASONED, 'true']} minus {KINDS[PLAIN, 'true']}"] = values[REASONED, "true"] - values[PLAIN, "true"]
    estimates = estimate_columns(
        np.stack([*values.values(), *gaps.values()], axis=1),
        [(row["persona_id"],) for row in rows],
        rng_for(seed, "subtlety", name),
        differences=len(gaps),
        prompts=[row["prompt_id"] for row in rows],
    )
    plain = [dataclasses.asdict(estimate) for estimate in estimates]
    return {
        "withheld": None,
        "shares": dict(zip(KINDS.values(), plain, strict=False)),
        "gaps": dict(zip(gaps, plain[len(KINDS) :], strict=True)),
        "reasoning": _tested(values[PLAIN, "true"], values[REASONED, "true"], rows, seed, name),
        "reasoning_for_another": _tested(
            values[PLAIN, "wrong"], values[REASONED, "wrong"], rows, seed, f"{name}/wrong"
        ),
    }


def _tested(
    first: np.ndarray, second: np.ndarray, rows: Sequence[Mapping[str, Any]], seed: int, key: str
) -> dict[str, Any]:
    """McNemar's test, which takes items for independent, and beside it `clustered_p`: the answers of a persona, and those to a question,
    are alike, and an effect on a few personas is then no effect on all.
    """
    found = mcnemar(first, second)
    (p,) = paired_p_values(
        (second - first)[:, None],
        [(row["persona_id"],) for row in rows],
        [row["prompt_id"] for row in rows],
        rng_for(seed, "subtlety/clustered", key),
    )
    return found | {"clustered_p": p if found["discordant"] else None}


def _names_profile(row: Mapping[str, Any]) -> float:
    """1 where the answer names a value of its persona's profile that the question does not name; NaN where there is no answer.

    Values that the other persona shares are left out, so that answers for that one are a control of the same values.
    """
    if row["failure"]:
        return math.nan
    other = said_attributes(row["other_profile"])
    matchers = [
        matcher(name, value) for name, value in said_attributes(row["profile"]).items() if other.get(name) != value
    ]
    return float(any(names_value(one, row["text"]) and not names_value(one, row["question"]) for one in matchers))


def _recites(verdict: CritiqueVerdict) -> float:
    return {"pass": 0.0, "needs_revision": 1.0}.get(verdict.verdict, math.nan)


def _reason(row: Mapping[str, Any], verdicts: Mapping[str, CritiqueVerdict]) -> str | None:
    """Why an answer is not scored by a judge."""
    if row["failure"]:
        return f"answer {row['failure']}"
    verdict = verdicts.get(row["item_id"])
    if verdict is None:
        return "not judged"
    return (verdict.reason or "unscored") if verdict.verdict == "unscored" else None


def _crossed(
    verdicts: Mapping[str, CritiqueVerdict], named: Mapping[str, float], answers: Sequence[Mapping[str, Any]]
) -> dict[str, int]:
    pairs = [
        (_recites(verdicts[row["item_id"]]), named[row["item_id"]])
        for row in answers
        if row["condition"] == "true" and row["item_id"] in verdicts
    ]
    return {
        "both": sum(pair == (1.0, 1.0) for pair in pairs),
        "judge_only": sum(pair == (1.0, 0.0) for pair in pairs),
        "words_only": sum(pair == (0.0, 1.0) for pair in pairs),
        "neither": sum(pair == (0.0, 0.0) for pair in pairs),
    }


def _mean_words(rows: Any) -> float | None:
    lengths = [len(row["text"].split()) for row in rows if not row["failure"]]
    return float(np.mean(lengths)) if lengths else None
