"""What `persona eval models --judge` found, as the table that it prints and as a part of the report."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eval.drawings import points_figure
from eval.generation_figures import AGAINST_BASE, BEST_OF
from eval.models_table import plain_estimate
from eval.page import CONDITION_WORDS, Cell, Example, Figure, Section, Table
from eval.results import Result, as_estimate, is_scripted
from eval.tables import read_table
from training.conditioning import CONDITIONS
from training.estimates import Estimate
from training.metrics import CELLS

NAME_WIDTH = 22
EXAMPLES = 4
CELL_TITLES = {AGAINST_BASE: "Against the base model", BEST_OF: "Chosen candidate"}


def printed(results: Sequence[Result]) -> str:
    """At most 110 columns."""
    lines: list[str] = []
    for judge, scripted in _judges(results).items():
        mark = " (scripted)" if scripted else ""
        wins, picks = [], []
        cells: dict[str, list[tuple[str, ...]]] = {AGAINST_BASE: [], BEST_OF: []}
        for result in results:
            found = result.content["judges"].get(judge, {})
            if found.get(AGAINST_BASE):
                wins.append((_name(result), *_cells(_wins(found[AGAINST_BASE]))))
            if found.get(BEST_OF):
                picks.append((_name(result), *_cells(_picks(found[BEST_OF]))))
            for use, rows in cells.items():
                if found.get(use):
                    rows.append((_name(result), *_cells(_gap_by_cell(found[use]))))
        if wins:
            lines += [f"Answers that win against the base model's, in %, by {judge}{mark}"]
            lines += [_row(("", *CONDITION_WORDS.values(), "true - wrong", "true, length ctl")), *map(_row, wins), ""]
        if picks:
            lines += [f"The chosen of several candidates against the first, wins in %, by {judge}{mark}"]
            lines += [_row(("", "true persona", "wrong persona", "at random", "best there is", "true - random"))]
            lines += [*map(_row, picks), ""]
        for use, rows in cells.items():
            if rows:
                lines += [f"{CELL_TITLES[use]}: true - wrong by cell, in points, by {judge}{mark}"]
                lines += [_row(("", *(cell.removesuffix("_test") for cell in CELLS[1:]))), *map(_row, rows), ""]
    lines.append("Judged for the true persona throughout, whatever the writer or scorer was shown; ties count half.")
    return "\n".join(lines)


def section(results: Sequence[Result], folder: Path) -> Section:
    ordered = sorted(results, key=lambda result: result.name)
    wins: list[list[Cell]] = []
    picks: list[list[Cell]] = []
    figures = []
    for judge in _judges(ordered):
        points: dict[str, Estimate] = {}
        for result in ordered:
            found = result.content["judges"].get(judge, {})
            if found.get(AGAINST_BASE):
                own = found[AGAINST_BASE]
                by_condition = [own["conditions"][condition] for condition in CONDITIONS]
                wins.append(
                    [
                        _name(result),
                        judge,
                        *(as_estimate(own["gaps"][control]) for control in ("wrong", "none")),
                        *(as_estimate(entry["win_rate"]) for entry in by_condition),
                        *(as_estimate(entry["length_controlled"]) for entry in by_condition),
                        _unscored(entry["rows"] for entry in by_condition),
                    ]
                )
                points[_name(result)] = as_estimate(own["conditions"]["true"]["length_controlled"])
            if found.get(BEST_OF):
                own = found[BEST_OF]
                picks.append(
                    [
                        _name(result),
                        judge,
                        own["candidates"],
                        *(as_estimate(own["gaps"][name]) for name in ("random", "wrong", "none")),
                        *(as_estimate(own["picks"][condition]) for condition in CONDITIONS),
                        as_estimate(own["random"]),
                        as_estimate(own["best"]),
                        _unscored(own["rows"].values()),
                    ]
                )
        if points:
            words = "; ".join(f"{name}: {plain_estimate(value)}" for name, value in points.items())
            figures.append(
                Figure(
                    f"Wins against the base model, by {judge}",
                    points_figure(points, "length-controlled win rate, true persona, %", 0.5),
                    f"Length-controlled win rate under the true persona, in %, by {judge}. {words}.",
                )
            )
    tables = [
        Table(
            "Answers of DPO models against those of their base model under the same condition. Length-controlled: what would be won if "
            "both were equally long.",
            (
                *("model", "judge", "true - wrong", "true - none"),
                *CONDITION_WORDS.values(),
                *(f"{words}, length-controlled" for words in CONDITION_WORDS.values()),
                "unscored",
            ),
            wins,
            signed=(2, 3),
        ),
        Table(
            "The candidate that the model scores highest against the first one. The candidates are the base model's, written without a "
            "persona, so that the person enters by the choice alone.",
            (
                *("model", "judge", "candidates", "true - random", "true - wrong", "true - none"),
                *(f"chosen for {words}" for words in CONDITION_WORDS.values()),
                *("at random", "judge's own choice", "unscored"),
            ),
            picks,
            signed=(3, 4, 5),
        ),
        Table(
            "The same by cell: personas seen in training or not, and questions seen in training or held out.",
            ("model", "judge", "what", "cell", "true - wrong", "true - none", *CONDITION_WORDS.values(), "unscored"),
            [row for judge in _judges(ordered) for result in ordered for row in _cell_rows(result, judge)],
            signed=(4, 5),
        ),
        Table(
            "Length of what was written, in words.",
            ("model", "use", "writer", "shown", "answers", "mean words", "without an answer"),
            [_length(result, entry) for result in ordered for entry in result.content["lengths"]],
            folded=True,
        ),
    ]
    return Section(
        "generations",
        "What models write and choose",
        [
            "Every answer is judged for the true persona, whatever its writer was shown: an answer for a wrong persona that wins as often "
            "owes nothing to the person. Ties count half; what could not be judged counts nowhere. Intervals: 95 %, personas and prompts "
            "resampled together."
        ],
        [part for part in tables if part.rows],
        figures,
        _examples(ordered, folder),
        scripted=any(is_scripted(result) for result in ordered),
    )


def _judges(results: Sequence[Result]) -> dict[str, bool]:
    """Label -> whether it is scripted."""
    return {judge["label"]: judge["scripted"] for result in results for judge in result.judges}


def _name(result: Result) -> str:
    return str((result.subject or {})["name"])


def _wins(found: dict[str, Any]) -> list[tuple[Estimate, bool]]:
    conditions = found["conditions"]
    return [
        *((as_estimate(conditions[condition]["win_rate"]), False) for condition in CONDITIONS),
        (as_estimate(found["gaps"]["wrong"]), True),
        (as_estimate(conditions["true"]["length_controlled"]), False),
    ]


def _picks(found: dict[str, Any]) -> list[tuple[Estimate, bool]]:
    return [
        *((as_estimate(found["picks"][condition]), False) for condition in ("true", "wrong")),
        (as_estimate(found["random"]), False),
        (as_estimate(found["best"]), False),
        (as_estimate(found["gaps"]["random"]), True),
    ]


def _gap_by_cell(found: dict[str, Any]) -> list[tuple[Estimate, bool]]:
    absent = Estimate(None, None, None, 0, 0, "no items")
    cells = found["cells"]
    return [(as_estimate(cells[cell]["gaps"]["wrong"]) if cell in cells else absent, True) for cell in CELLS[1:]]


def _cell_rows(result: Result, judge: str) -> list[list[Cell]]:
    found = result.content["judges"].get(judge, {})
    return [
        [
            *(_name(result), judge, CELL_TITLES[use], cell),
            *(as_estimate(own["gaps"][control]) for control in ("wrong", "none")),
            *(as_estimate(own[shares][condition]) for condition in CONDITIONS),
            _unscored(own["rows"].values()),
        ]
        for use, shares in ((AGAINST_BASE, "win_rates"), (BEST_OF, "picks"))
        if found.get(use)
        for cell, own in found[use]["cells"].items()
    ]


def _cells(estimates: Sequence[tuple[Estimate, bool]]) -> list[str]:
    # The whole reason stands on the page.
    return [
        "many unscored" if estimate.withheld and "unscored" in estimate.withheld else plain_estimate(estimate, signed)
        for estimate, signed in estimates
    ]


def _row(cells: Sequence[str]) -> str:
    name = cells[0] if len(cells[0]) <= NAME_WIDTH else cells[0][: NAME_WIDTH - 1] + "…"
    return " ".join((f"{name:<{NAME_WIDTH}}", *(f"{cell:<16}" for cell in cells[1:]))).rstrip()


def _unscored(counts: Any) -> str:
    """Of several row counts: how many, and why."""
    reasons: dict[str, int] = {}
    scored = 0
    for rows in counts:
        scored += rows["scored"]
        for reason, number in rows["unscored"].items():
            reasons[reason] = reasons.get(reason, 0) + number
    unscored = sum(reasons.values())
    said = "; ".join(f"{reason}: {number}" for reason, number in sorted(reasons.items()))
    return f"{unscored} of {unscored + scored}" + (f" ({said})" if said else "")


def _length(result: Result, entry: dict[str, Any]) -> list[Cell]:
    failures = "; ".join(f"{reason}: {number}" for reason, number in entry["failures"].items())
    use = {AGAINST_BASE: "against the base model", BEST_OF: "candidates"}[entry["use"]]
    words = None if entry["mean_words"] is None else f"{entry['mean_words']:.1f}"
    shown = CONDITION_WORDS[entry["condition"]]
    return [_name(result), use, entry["writer"], shown, entry["answers"], words, failures or None]


def _examples(results: Sequence[Result], folder: Path) -> list[Example]:
    """The first items of each model that writes: its answers and its base model's."""
    examples = []
    for result in results:
        path = folder / f"{result.name}-answers.parquet"
        rows = read_table(path, [("use", "==", AGAINST_BASE)])
        texts = {(row["item"], row["writer"], row["condition"]): row for row in rows}
        for item in sorted({row["item"] for row in rows})[:EXAMPLES]:
            asked = [
                ("model", "true", "the model, true persona"),
                ("model", "wrong", "the model, wrong persona"),
                ("base", "true", "its base model, true persona"),
            ]
            parts = [("question", texts[item, "model", "true"]["question"])]
            for writer, condition, heading in asked:
                row = texts[item, writer, condition]
                parts.append((heading, row["text"] if not row["failure"] else f"(none: {row['failure']})"))
            examples.append(Example(f"{_name(result)}: {item}", parts))
    return examples
