"""Summary removal as text: the table that the command prints, and the section of the report with Figure 11."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eval.drawings import bar_figure
from eval.page import Cell, Example, Figure, Section, Table
from eval.printing import percent, percent_with_interval
from eval.results import Result, as_estimate, is_scripted
from eval.summaries.content import SUMMARIES
from eval.tables import read_table
from training.profiles import label


def sorted_attributes(content: Mapping[str, Any]) -> list[str]:
    """Those with a rate first, the most removed first; then the others by name."""
    rates = {name: block["removed"]["value"] for name, block in content["attributes"].items()}
    return sorted(rates, key=lambda name: (rates[name] is None, -(rates[name] or 0.0), name))


def printed(result: Result) -> str:
    """For a terminal, at most 110 columns."""
    content = result.content
    lines = [
        f"{result.subject['name'] if result.subject else ''}: {content['summaries']:,} summaries of {content['personas']:,} personas"
        + (
            f", {content['words']:.0f} words each of {content['profile_words']:.0f}"
            if content["words"] is not None
            else ""
        )
        + (" (scripted)" if is_scripted(result) else "")
    ]
    if content["withheld"]:
        return f"{lines[0]}\nFigures withheld: {content['withheld']}"
    heading = f"{'attribute':<28}{'n':>5}  {'removed':<22}{'wrong persona':<22}{'difference':<12}{'whole':>6}"
    lines.append(heading + ("  listed" if content["differ"] else ""))
    for name in [*sorted_attributes(content), "all"]:
        block = content["all"] if name == "all" else content["attributes"][name]
        line = f"{label(name) if name != 'all' else 'All':<28}{block['removed']['n']:>5}  {percent_with_interval(block['removed']):<22}"
        line += f"{percent_with_interval(block['removed_wrong']):<22}"
        line += f"{percent(block['difference']['value'], 0):<12}{percent(block['whole_profile']['value'], 0):>6}"
        lines.append(line + (f"  {percent(block['listed']['value'], 0)}" if content["differ"] else ""))
    return "\n".join([*lines, "", *_notes(result)])


def section(results: Sequence[Result], folder: Path) -> Section:
    """Figure 11 of the paper, with controls."""
    tables, figures, examples = [], [], []
    text = [
        "Which attributes a model leaves out when it summarises a persona for a question. Kept is an attribute whose value the summary "
        "holds, in words or numbers; a summary in other words counts as one that leaves it out. Beside it the same values in the summary "
        "of another persona for the same question: the less the two differ, the less a summary says of its own persona."
    ]
    for result in results:
        content = result.content
        text += [f"{result.description}. {' '.join(_notes(result))}"]
        if content["withheld"]:
            continue
        order = sorted_attributes(content)
        rows: list[list[Cell]] = []
        for name in [*order, "all"]:
            block = content["all"] if name == "all" else content["attributes"][name]
            shown = (
                "removed",
                "removed_wrong",
                "difference",
                "whole_profile",
                *(("listed",) if content["differ"] else ()),
            )
            rows.append([label(name) if name != "all" else "All", *(as_estimate(block[measure]) for measure in shown)])
        header = [
            "Attribute",
            "left out",
            "left out of another's summary",
            "difference",
            "left out of the profile itself",
        ]
        tables.append(
            Table(
                f"What summaries leave out ({result.name})",
                header + (["listed by a model"] if content["differ"] else []),
                rows,
                signed=(3,),
            )
        )
        drawn = [name for name in order if content["attributes"][name]["removed"]["value"] is not None]
        if drawn:
            figures.append(_figure(result, drawn))
        examples += _examples(result, folder)
    return Section(
        anchor="summaries",
        title="Summary removal",
        text=text,
        tables=tables,
        figures=figures,
        examples=examples,
        scripted=any(is_scripted(result) for result in results),
    )


def _figure(result: Result, names: Sequence[str]) -> Figure:
    blocks = {name: result.content["attributes"][name] for name in names}
    measures = ["removed", "removed_wrong", *(["listed"] if result.content["differ"] else [])]
    series = ["left out", "of another's summary", "listed by a model"][: len(measures)]
    bars = {
        label(name): [math.nan if block[m]["value"] is None else block[m]["value"] for m in measures]
        for name, block in blocks.items()
    }
    said = [
        f"{label(name)} {percent_with_interval(block['removed'])} (another's {percent(block['removed_wrong']['value'], 0)})"
        for name, block in blocks.items()
    ]
    return Figure(
        f"Attributes that summaries leave out: {result.subject['name'] if result.subject else result.name}",
        bar_figure(bars, series, "share of summaries without the value"),
        "; ".join(said),
        "11",
        "Of the personas whose profile states the attribute. Matched on values, not on names of keys.",
    )


def _examples(result: Result, folder: Path, count: int = 2) -> list[Example]:
    path = folder / f"{result.name}-{SUMMARIES}"
    if not path.is_file():
        return []
    rows = [row for row in read_table(path) if row["condition"] == "true" and not row["failure"]]
    return [
        Example(
            f"{result.name}: {row['persona_id']}",
            [("Question", row["question"]), ("Profile", row["profile"]), ("Summary", row["summary"])]
            + ([("Differences", row["differences"])] if row["differences"] else []),
        )
        for row in rows[:count]
    ]


def _notes(result: Result) -> list[str]:
    content, notes = result.content, []
    notes.append(f"{content['nothing_removed']:,} of {content['summaries']:,} summaries leave nothing out.")
    if differ := content["differ"]:
        notes.append(
            f"{differ['judged_equivalent']:,} of {differ['listed']:,} were listed as without any difference (the paper: none)."
        )
    if unscored := sum(result.rows["unscored"].values()):
        notes.append(f"{unscored:,} of {unscored + result.rows['scored']:,} summaries could not be used.")
    return notes
