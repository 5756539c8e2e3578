"""PERSONA Bench on the report's page: modes with their controls (the paper's Figure 10), pass@k (Figure 12), groups, the comparison."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eval.bench.modes import BASELINE
from eval.drawings import line_figure, points_figure
from eval.page import CONDITION_WORDS, Cell, Example, Figure, Section, Table
from eval.results import Result, as_estimate, is_scripted
from eval.tables import read_table

SHOWN_GROUPS = 15
SHOWN_EXAMPLES = 2  # a model and mode
OWN_CONDITION_WORDS = CONDITION_WORDS | {"true": "own persona"}  # as the tables of this section call it
TEXT = (
    "A critic reads the profile, the question and one answer, and says whether the answer needs revision to suit this person. An answer "
    "that needs none passes. The critic always sees the persona that asked. In the column no persona the answer was written without "
    "one, in wrong persona for somebody else: a pass rate that is as high there says nothing of the persona.",
    "Baseline: no persona and no reasoning. Output only: the persona, the answer at once. Chain of thought: reasons first, and the critic "
    "sees the answer alone. Demographic summary: the model first summarises what of the persona bears on the question, and answers with "
    "the summary in the persona's place.",
)
COMPARISON_TEXT = (
    "The open comparison shows the evaluated model a persona, a question and two revisions, one written for this persona and one for "
    "another of the same group, in both orders. Without a persona exactly half is chance. Who contradicts itself has tied."
)


def section(results: Sequence[Result], folder: Path) -> Section:
    by_kind = {
        kind: [result for result in results if result.settings["evaluation"] == kind]
        for kind in ("main", "pass_at_k", "intersectionality", "comparison")
    }
    tables: list[Table] = []
    figures: list[Figure] = []
    if by_kind["main"]:
        tables += [_main_table(by_kind["main"]), _cells_table(by_kind["main"]), _between_table(by_kind["main"])]
        figures += _main_figures(by_kind["main"])
    if by_kind["pass_at_k"]:
        tables.append(_pass_at_k_table(by_kind["pass_at_k"]))
        figures += _pass_at_k_figures(by_kind["pass_at_k"])
    tables += [_groups_table(result) for result in by_kind["intersectionality"]]
    if by_kind["comparison"]:
        tables.append(_comparison_table(by_kind["comparison"]))
        figures.append(_comparison_figure(by_kind["comparison"]))
    tables.append(_rows_table(results))
    return Section(
        anchor="bench",
        title="PERSONA Bench",
        text=[*TEXT, *([COMPARISON_TEXT] if by_kind["comparison"] else [])],
        tables=[table for table in tables if table.rows],
        figures=figures,
        examples=[example for result in by_kind["main"] for example in _examples(result, folder)],
        scripted=any(is_scripted(result) for result in results),
    )


def _judged(results: Sequence[Result]) -> list[tuple[str, Result, str, Mapping[str, Any]]]:
    """(model, result, judge's label, its content) of every result and judge."""
    return [
        (_model(result), result, label, content)
        for result in results
        for label, content in result.content["judges"].items()
    ]


def _model(result: Result) -> str:
    return str((result.subject or {}).get("name"))


def _row(start: Sequence[Cell], figures: Mapping[str, Any], is_baseline: bool = False) -> list[Cell]:
    if is_baseline:
        return [*start, None, as_estimate(figures["none"]), None, None]
    return [*start, *(as_estimate(figures[name]) for name in ("true", "none", "wrong", "gap"))]


def _main_table(results: Sequence[Result]) -> Table:
    rows: list[list[Cell]] = []
    for model, _, label, content in _judged(results):
        for mode, figures in content["modes"].items():
            is_baseline = mode == BASELINE
            words = figures["rows"]["none" if is_baseline else "true"]["mean_words"]
            length = None if words is None else round(words, 1)
            rows.append([*_row([model, label, _said(mode)], figures["pass"], is_baseline), length])
    return Table(
        "Share of answers that need no revision",
        ("Model", "Judge", "Mode", "Pass", "No persona", "Wrong persona", "Gap: own - wrong", "Mean words"),
        rows,
        signed=(6,),
    )


def _cells_table(results: Sequence[Result]) -> Table:
    rows = [
        _row([model, label, _said(mode), cell], own)
        for model, _, label, content in _judged(results)
        for mode, figures in content["modes"].items()
        if mode != BASELINE
        for cell, own in figures["cells"].items()
    ]
    return Table(
        "The same by cell: persona group / part of the questions",
        ("Model", "Judge", "Mode", "Cell", "Pass", "No persona", "Wrong persona", "Gap: own - wrong"),
        rows,
        signed=(7,),
        folded=True,
    )


def _between_table(results: Sequence[Result]) -> Table:
    rows: list[list[Cell]] = [
        [model, label, _said(name), as_estimate(estimate)]
        for model, _, label, content in _judged(results)
        for name, estimate in content["between_modes"].items()
    ]
    return Table(
        "Differences between modes, over the same items", ("Model", "Judge", "Modes", "Difference"), rows, signed=(3,)
    )


def _main_figures(results: Sequence[Result]) -> list[Figure]:
    """One for each model and judge: the modes, each beside its answers for a wrong persona, and the baseline."""
    figures = []
    for model, _, label, content in _judged(results):
        points = {}
        for mode, own in content["modes"].items():
            if mode == BASELINE:
                points["baseline (no persona)"] = as_estimate(own["pass"]["none"])
            else:
                points[_said(mode)] = as_estimate(own["pass"]["true"])
                points[f"{_said(mode)}, wrong"] = as_estimate(own["pass"]["wrong"])
        figures.append(
            Figure(
                title=f"{model}: pass rate by mode, judged by {label}",
                image=points_figure(points, "answers that need no revision, %"),
                words=_in_words(points),
                number="10",
                caption="Points with 95 % intervals. `wrong`: answers for another persona, judged under the own one.",
            )
        )
    return figures


def _pass_at_k_table(results: Sequence[Result]) -> Table:
    rows = [
        [
            *_row([model, label, _said(mode), int(k)], own, mode == BASELINE),
            figures["too_few"]["none" if mode == BASELINE else "true"][k],
        ]
        for model, _, label, content in _judged(results)
        for mode, figures in content["modes"].items()
        for k, own in figures["k"].items()
    ]
    return Table(
        "pass@k: at least one of k answers needs no revision",
        (
            "Model",
            "Judge",
            "Mode",
            "k",
            "Own persona",
            "No persona",
            "Wrong persona",
            "Gap: own - wrong",
            "Items with too few",
        ),
        rows,
        signed=(7,),
    )


def _pass_at_k_figures(results: Sequence[Result]) -> list[Figure]:
    """One for each judge and mode: a curve for each model, and its two controls."""
    curves: dict[tuple[str, str], dict[str, list[tuple[float, float]]]] = {}
    for model, _, label, content in _judged(results):
        for mode, figures in content["modes"].items():
            conditions = (
                {"none": ""} if mode == BASELINE else {"true": "", "wrong": "wrong persona: ", "none": "none: "}
            )
            for condition, words in conditions.items():
                values = {int(k): own[condition]["value"] for k, own in figures["k"].items()}
                curve = [(float(k), 100 * value) for k, value in values.items() if value is not None]
                if curve:
                    curves.setdefault((label, mode), {})[f"{words}{model}"] = curve
    asked = {mode for _, mode in curves} - {BASELINE}
    return [
        Figure(
            title=f"pass@k, {_said(mode)}, judged by {label}",
            image=line_figure(series, "k", "pass@k, %"),
            words="; ".join(f"{name}: {_curve_in_words(curve)}" for name, curve in series.items()),
            number="12",
            caption="Unbiased estimates from answers that were judged one by one. `none`: the baseline without a persona.",
        )
        for (label, mode), series in curves.items()
        # The baseline's curve stands in the figure of every other mode.
        if mode != BASELINE or not asked
    ]


def _curve_in_words(curve: Sequence[tuple[float, float]]) -> str:
    return ", ".join(f"k = {k:.0f} {value:.1f} %" for k, value in curve)


def _groups_table(result: Result) -> Table:
    rows: list[list[Cell]] = []
    for label, content in result.content["judges"].items():
        for mode, figures in content["modes"].items():
            for group in figures["groups"][:SHOWN_GROUPS]:
                true, wrong = group["true"], group["wrong"]
                rows.append(
                    [
                        f"{group['name']}",
                        label,
                        _said(mode),
                        as_estimate(true["pass"]),
                        _points(true["difference"]),
                        _rounded(true["q"]),
                        as_estimate(wrong["pass"]),
                        _points(wrong["difference"]),
                        _rounded(wrong["q"]),
                    ]
                )
    return Table(
        f"{_model(result)}: groups of personas against all others (lowest q first, at most {SHOWN_GROUPS} a mode)",
        ("Group", "Judge", "Mode", "Pass", "Points over others", "q", "Wrong persona", "Points over others", "q"),
        rows,
        folded=True,
    )


def _comparison_table(results: Sequence[Result]) -> Table:
    rows = []
    for model, _, label, content in _judged(results):
        subsets = {
            "all": content["accuracy"],
            **content["cells"],
            "pairs whose verdict flips": content["flips"],
            "both orders agree": content["orders_agree"],
        }
        rows += [_row([model, label, name], figures) for name, figures in subsets.items() if figures is not None]
    return Table(
        "Comparison: the model chooses the revision that was written for the persona it is shown",
        ("Model", "Asked as", "Pairs", "Own persona", "No persona", "Wrong persona", "Gap: own - wrong"),
        rows,
        signed=(6,),
    )


def _comparison_figure(results: Sequence[Result]) -> Figure:
    estimates = {
        f"{model}: {OWN_CONDITION_WORDS[condition]}": as_estimate(content["accuracy"][condition])
        for model, _, _, content in _judged(results)
        for condition in OWN_CONDITION_WORDS
    }
    return Figure(
        title="Comparison of two revisions",
        image=points_figure(estimates, "own revision chosen, %", reference=0.5),
        words=_in_words(estimates),
        caption="Dashed: chance.",
    )


def _rows_table(results: Sequence[Result]) -> Table:
    rows: list[list[Cell]] = [
        [_model(result), _said(result.settings["evaluation"]), reason, count]
        for result in results
        for reason, count in (("scored", result.rows["scored"]), *result.rows["unscored"].items())
    ]
    return Table("Rows scored and unscored", ("Model", "Evaluation", "Rows", "Number"), rows, folded=True)


def _examples(result: Result, folder: Path) -> list[Example]:
    """The first answers of each mode for the own persona, with what the first judge replied."""
    answers, verdicts = (folder / f"{result.name}-{part}.parquet" for part in ("answers", "verdicts"))
    if not answers.is_file() or not verdicts.is_file():
        return []
    label = result.judges[0].get("kept_as", result.judges[0]["label"])
    replies = {row["item_id"]: row["raw"] for row in read_table(verdicts) if row["judge"] == label}
    shown: dict[str, list[dict[str, Any]]] = {mode: [] for mode in result.settings["modes"]}
    for row in read_table(answers):
        if row["condition"] != "wrong" and not row["failure"] and len(shown[row["mode"]]) < SHOWN_EXAMPLES:
            shown[row["mode"]].append(row)
    return [
        Example(
            title=f"{_model(result)}, {_said(mode)}, {row['persona_id']}",
            parts=[
                ("Question", row["question"]),
                *([("Written before the answer", row["thought"])] if row["thought"] else []),
                ("Answer", row["text"]),
                ("Reply of the judge", replies.get(row["item_id"], "")),
            ],
        )
        for mode, rows in shown.items()
        for row in rows
    ]


def _in_words(estimates: Mapping[str, Any]) -> str:
    return "; ".join(
        f"{name}: " + (f"withheld ({e.withheld})" if e.value is None else f"{100 * e.value:.1f} % (n = {e.n})")
        for name, e in estimates.items()
    )


def _said(name: str) -> str:
    return name.replace("_", " ")


def _points(difference: float | None) -> str | None:
    return None if difference is None else f"{100 * difference:+.1f}".replace("-", "−")


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
