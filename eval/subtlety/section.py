"""Subtlety as text: the table that the command prints, and the section of the report."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from eval.drawings import points_figure
from eval.judging import own_work_notes
from eval.page import Cell, Example, Figure, Section, Table
from eval.printing import percent_with_interval
from eval.results import Result, as_estimate, is_scripted
from eval.subtlety.content import ANSWERS, KINDS
from eval.tables import read_table


def printed(result: Result) -> str:
    """For a terminal, at most 110 columns."""
    content = result.content
    lines = [
        f"{result.subject['name'] if result.subject else ''}: {content['items']:,} questions of {content['personas']:,} personas; "
        f"share of answers that recite the persona{_mark(result)}"
    ]
    measures = list(content["measures"])
    lines.append((f"{'answers':<38}" + "".join(f"{name[:23]:<24}" for name in measures)).rstrip())
    for kind in KINDS.values():
        blocks = [content["measures"][name] for name in measures]
        lines.append(
            f"{kind:<38}"
            + "".join(f"{_share(block['shares'].get(kind), block['withheld']):<24}" for block in blocks).rstrip()
        )
    lines += [textwrap.fill(f"{name}: {said}", 110, subsequent_indent="  ") for name, said in _tests(content)]
    return "\n".join([*lines, *(textwrap.fill(note, 110) for note in _notes(result))])


def section(results: Sequence[Result], folder: Path) -> Section:
    tables, figures, examples = [], [], []
    text = [
        "Do answers recite the persona, and do they more after reasoning? The same questions for the same personas in both arms. Answers "
        "that were written without a persona, and for another one, are held against the same profile: what they seem to recite is "
        "chance, or the judge's error."
    ]
    for result in results:
        content = result.content
        said = [f"{result.description}{_mark(result)}.", *(f"{name}: {test}." for name, test in _tests(content))]
        text.append(" ".join([*said, *_notes(result)]))
        for name, block in content["measures"].items():
            if block["withheld"]:
                text.append(f"{name}: figures withheld, {block['withheld']}.")
                continue
            tables.append(_table(result, name, block))
            estimates = {kind: as_estimate(raw) for kind, raw in block["shares"].items()}
            figures.append(
                Figure(
                    f"Answers that recite the persona, by {name}",
                    points_figure(estimates, "% of answers"),
                    "; ".join(f"{kind} {_share(raw)}" for kind, raw in block["shares"].items()),
                    None,
                    f"{result.name}. Section 5.2 of the paper has no figure.",
                )
            )
        examples += _examples(result, folder)
    return Section(
        anchor="subtlety",
        title="Subtlety",
        text=text,
        tables=tables,
        figures=figures,
        examples=examples,
        scripted=any(is_scripted(result) for result in results),
    )


def _table(result: Result, name: str, block: Mapping[str, Any]) -> Table:
    rows: list[list[Cell]] = [[kind, as_estimate(raw), None] for kind, raw in block["shares"].items()]
    rows += [[gap, None, as_estimate(raw)] for gap, raw in block["gaps"].items()]
    return Table(
        f"Answers that recite the persona, by {name} ({result.name})",
        ["Answers", "share", "difference"],
        rows,
        signed=(2,),
    )


def _tests(content: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, block in content["measures"].items():
        for key, of in (("reasoning", ""), ("reasoning_for_another", " for another persona (control)")):
            test = block[key]
            if test is not None:
                p = (
                    "no discordant pair, no test"
                    if test["p"] is None
                    else f"McNemar's exact p = {test['p']:.3f} as if items were independent, which those of a persona are not; "
                    f"with personas and questions exchanged whole p = {test['clustered_p']:.3f}"
                )
                yield (
                    name,
                    f"reasoning against none{of}: {test['discordant']} of {test['pairs']} pairs discordant, "
                    f"{test['only_second']} recite only with reasoning, {test['only_first']} only without; {p}",
                )


def _notes(result: Result) -> list[str]:
    notes = []
    if unscored := sum(result.rows["unscored"].values()):
        notes.append(f"{unscored:,} of {unscored + result.rows['scored']:,} verdicts are missing; they count nowhere.")
    return [*notes, *own_work_notes(result)]


def _mark(result: Result) -> str:
    return " (scripted)" if is_scripted(result) else ""


def _examples(result: Result, folder: Path, count: int = 2) -> list[Example]:
    path = folder / f"{result.name}-{ANSWERS}"
    if not path.is_file():
        return []
    by_item: dict[str, list[Mapping[str, Any]]] = {}
    for row in read_table(path):
        if row["condition"] == "true" and not row["failure"]:
            by_item.setdefault(f"{row['persona_id']}/{row['prompt_id']}", []).append(row)
    return [
        Example(
            f"{result.name}: {key}",
            [("Question", rows[0]["question"]), ("Profile", rows[0]["profile"])]
            + [(KINDS[row["mode"], "true"].capitalize(), row["text"]) for row in rows],
        )
        for key, rows in list(by_item.items())[:count]
    ]


def _share(estimate: Mapping[str, Any] | None, withheld: str | None = None) -> str:
    return f"withheld: {withheld}"[:23] if estimate is None else percent_with_interval(estimate)
