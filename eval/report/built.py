"""How the data came about: pairs by split, the stages of the build, and what the audit found of shortcuts and leaks."""

from collections.abc import Mapping, Sequence
from typing import Any

from builder.schema import PAIR_CONFIGS, SPLITS
from builder.statistics import clustered_interval
from eval.page import Cell, Section, Table
from eval.report.published import Tables, columns, reasons_in_words, words
from eval.report.render import number, percent
from training.estimates import MINIMUM_ROWS

CHECK: dict[str, Any] = dict.fromkeys(("name", "value", "low", "high", "n", "verdict", "note"))  # of audit.json


def built_section(build: Mapping[str, Any], tables: Tables) -> Section:
    sizes = Table(
        "Pairs by split. Only train is for training; support holds the unseen personas' pairs for few-shot use.",
        ("pairs", *SPLITS),
        [
            (config, *(len(tables[config].get(split, ())) for split in SPLITS))
            for config in PAIR_CONFIGS
            if config in tables
        ],
    )
    stages = Table(
        "Stages of the build: what went in, what came out, and why the rest did not.",
        ("stage", "in", "out", "dropped", "seconds", "details"),
        stage_rows(build),
    )
    return Section("built", "What was built", tables=[table for table in (sizes, stages) if table.rows])


def stage_rows(build: Mapping[str, Any]) -> list[list[Cell]]:
    """One row per stage of the build, with its other plain figures in words."""
    rows: list[list[Cell]] = []
    known = ("in", "out", "dropped", "seconds")
    for name, stage in (build.get("stages") or {}).items():
        details = {
            key: value for key, value in stage.items() if key not in known and isinstance(value, (int, float, str))
        }
        said = "; ".join(f"{words(key)}: {number(value)}" for key, value in details.items() if value != "")
        counts = [stage.get(key) for key in ("in", "out")]
        rows.append([words(name), *counts, reasons_in_words(stage.get("dropped")), stage.get("seconds"), said or None])
    return rows


def checks_section(build: Mapping[str, Any], tables: Tables, audit: Mapping[str, Any] | None) -> Section:
    text = [*flip_text(build, tables), *preferred_text(build)]
    if judges_own_texts(build):
        text.append("The same model wrote the revisions and judges them: its preference is no outside opinion.")
    if audit is None:
        text.append(
            "No audit was found beside this build (audit.json), so nothing is known here of shortcuts and leaks. `persona audit` makes one."
        )
        return Section("checks", "Checks of the data", text)
    table = Table(
        "Shortcuts and leaks: can the pairs be won without the persona, and do the splits hold?",
        ("check", "value", "95 % interval", "n", "verdict", "note"),
        [audit_row(check) for check in audit.get("checks", [])],
    )
    return Section("checks", "Checks of the data", text, [table])


def audit_row(check: Mapping[str, Any]) -> list[Cell]:
    """One check of audit.json; a share (it is `report`ed, not proved) of too few pairs is withheld."""
    whole = {**CHECK, **check}
    few = whole["verdict"] == "report" and whole["n"] is not None and whole["n"] < MINIMUM_ROWS
    interval = (
        None if whole["low"] is None or whole["high"] is None else f"{number(whole['low'])} to {number(whole['high'])}"
    )
    value, interval = (f"withheld (n < {MINIMUM_ROWS})", None) if few else (whole["value"], interval)
    return [words(whole["name"]), value, interval, whole["n"], whole["verdict"], whole["note"]]


def flip_text(build: Mapping[str, Any], tables: Tables) -> list[str]:
    """How often the judge changes sides with the persona, in the right and in the reverse direction, with the difference."""
    flip = flip_figures(build, tables)
    if flip is None:
        return []
    n, counts = flip["n"], flip["counts"]
    if flip["self_selected"]:
        return [
            f"Does the judge change sides with the persona? On {counts['right']:,} of {n:,} contrast pairs each persona's own revision "
            f"wins under that persona; the reverse happens on {counts['reverse']:,}. Counts only: this judge also chose among the "
            "candidate revisions, so a share would be partly its own making."
        ]
    if n < MINIMUM_ROWS:
        return [
            f"Does the judge change sides with the persona? Withheld: {n} contrast pairs have both mirrors judged, fewer than "
            f"{MINIMUM_ROWS}."
        ]
    right, reverse, neither = (percent(counts[key] / n) for key in ("right", "reverse", "neither"))
    value, low, high = (percent(flip["difference"][key], signed=True) for key in ("value", "low", "high"))
    return [
        f"Does the judge change sides with the persona? On {right} % of {n:,} contrast pairs each persona's own revision wins under that "
        f"persona. The reverse, each persona preferring the other's revision, happens on {reverse} %; on {neither} % the same text wins "
        f"for both, or the judge ties. The difference is {value} points [95 % interval over personas {low} to {high}]. A judge that "
        "ignores the persona shows 0 and 0; one that answers at random shows the same share of both."
    ]


def flip_figures(build: Mapping[str, Any], tables: Tables) -> dict[str, Any] | None:
    """`right`: each persona's own revision wins under that persona. `reverse`: each persona prefers the other's.

    Counted over unordered pairs of mirrors, all splits. `difference`: share right less share reverse, with its 95 % interval over
    personas; None for a judge that chose among the revisions, which gets counts only.
    """
    names = ("pair_id", "mirror_pair_id", "judge_verdict", "persona_id", "partner_persona_id")
    rows = [row for table in tables.get("contrast", {}).values() for row in columns(table, names)]
    verdicts = {row["pair_id"]: row["judge_verdict"] for row in rows}
    counts = {"right": 0, "reverse": 0, "neither": 0}
    turns: list[float] = []
    clusters: list[tuple[str, ...]] = []
    for row in rows:
        both = {row["judge_verdict"], verdicts.get(row["mirror_pair_id"], "unscored")}
        if row["pair_id"] < row["mirror_pair_id"] and "unscored" not in both:
            turn = "right" if both == {"chosen"} else "reverse" if both == {"rejected"} else "neither"
            counts[turn] += 1
            turns.append({"right": 1.0, "reverse": -1.0, "neither": 0.0}[turn])
            clusters.append(tuple(sorted((row["persona_id"], row["partner_persona_id"]))))
    if not rows:
        return None
    declared = build.get("flip") or _detail(build, "contrast", "flip")
    selected = declared.get("judge_selected_the_revisions")
    difference = None
    if turns and not selected:
        low, high = clustered_interval(turns, clusters, 0, "report/flips")
        difference = {"value": sum(turns) / len(turns), "low": low, "high": high}
    return {"n": len(turns), "counts": counts, "self_selected": selected, "difference": difference}


def preferred_text(build: Mapping[str, Any]) -> list[str]:
    """How often the judge prefers the revision to the base answer, as the build counted it. A judge that chose among the revisions gets
    counts only.
    """
    declared = build.get("preferred") or _detail(build, "pairs", "judge_prefers_revision")
    n, preferred, ties = (declared.get(key, 0) for key in ("n", "preferred", "ties"))
    tied = f" ({ties:,} ties)" if ties else ""
    if not n:
        return []
    if declared.get("judge_selected_the_revision"):
        return [
            f"Does the judge prefer the revision? On {preferred:,} of {n:,} pairs the judge prefers the revision to the base answer{tied}. "
            "Counts only: it also chose among the candidate revisions."
        ]
    if n < MINIMUM_ROWS:
        return [f"Does the judge prefer the revision? Withheld: only {n} pairs are judged, fewer than {MINIMUM_ROWS}."]
    return [
        f"Does the judge prefer the revision? On {percent(preferred / n)} % of {n:,} pairs the judge prefers the revision to the base "
        f"answer{tied}; a coin would on 50 %."
    ]


def judges_own_texts(build: Mapping[str, Any]) -> bool:
    """Whether the judge is the model that also wrote the revisions."""
    models = build.get("models") or {}
    judge, author = ((models.get(role) or {}).get("model") for role in ("judge", "reviser"))
    return judge is not None and judge == author


def split_counts(tables: Tables) -> Sequence[str]:
    """`240 dpf pairs`, for each kind of pairs."""
    return [
        f"{sum(len(table) for table in tables[config].values()):,} {config} pairs"
        for config in PAIR_CONFIGS
        if config in tables
    ]


def _detail(build: Mapping[str, Any], stage: str, name: str) -> dict[str, Any]:
    return ((build.get("stages") or {}).get(stage) or {}).get(name) or {}
