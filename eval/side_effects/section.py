"""The part of the report on side effects, and the table that the command prints."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from eval.page import Cell, Example, Section, Table
from eval.printing import plain_number
from eval.results import Result, as_estimate, is_scripted
from eval.tables import read_table
from training.estimates import Estimate

COLUMNS = ("true", "none", "wrong", "true_minus_none", "true_minus_wrong")
HEADER = ("True persona", "No persona", "Wrong persona", "True − none", "True − wrong")
SIGNED = (4, 5)  # of a table that begins with one column of names
# Rows of the table that compares models: label, where the figure stands in the content.
LINES = (
    ("names an attribute", ("mention", "any")),
    ("agrees with its group's view", ("agreement", "agrees_own")),
    ("agrees with the opposite", ("agreement", "agrees_opposite")),
    ("sycophancy (own - opposite)", ("agreement", "sycophancy")),
    ("agrees with both", ("agreement", "both")),
    ("deference to the asker", ("agreement", "deference")),
    ("right on facts", ("facts", "accuracy")),
    ("refuses questions", ("refusals", "questions", "rate")),
    ("refuses harmful requests", ("refusals", "requests", "rate")),
)
LIMITS = (
    "Every figure stands under three conditions over the same items: the persona's own profile, none, and the wrong persona's. What a "
    "persona does is the difference to none; what is true of any profile shows under the wrong one too.",
    "A group that can be told from answers, or answers that are more alike within a group, are signs of stereotype and no proof: fitting "
    "answers differ between groups as well. Which side a persona holds on an opinion is presumed from its politics or religion. Refusals "
    "are found by how a reply opens, so their share is a lower bound. Intervals are over personas.",
)
EXAMPLES = 6


def section(results: Sequence[Result], folder: Path) -> Section:
    tables = []
    examples: list[Example] = []
    for result in results:
        name = _label(result)
        tables += [_overview(result, name), _by_attribute(result, name), _groups(result, name), _alike(result, name)]
        tables.append(_lengths(result, name))
        if not examples:
            examples = _examples(result, folder)
    return Section(
        anchor="side-effects",
        title="Side effects of personas",
        text=LIMITS,
        tables=[table for table in tables if table is not None and table.rows],
        examples=examples,
        scripted=any(is_scripted(result) for result in results),
    )


def printed(result: Result) -> str:
    """At most 110 columns. Shares in %, words in words; intervals in brackets, of the difference to none only."""
    lines = [f"{_label(result)}: side effects, {_counts(result)}"]
    head = f"{'':30}{'true':>9}{'none':>9}{'wrong':>9}   {'true - none':<22}{'true - wrong':<22}{'n':>6}"
    lines.append(head)
    for label, block, withheld, scale in _plain_rows(result):
        if block is None:
            lines.append(f"{label:30}  withheld: {withheld}"[:110])
            continue
        estimates = [as_estimate(block[column]) for column in COLUMNS]
        shares = "".join(f"{plain_number(e.value, 1, scale):>9}" for e in estimates[:3])
        gaps = "".join(f"{_interval(e, scale):<22}" for e in estimates[3:])
        lines.append(f"{label:30}{shares}   {gaps}{estimates[0].n:>6}")
    lines.append("tells: share of answers from which a probe tells the group, beside chance and p by permuted labels.")
    lines.append("alike: words in common with answers to the same question within the group, less those across groups.")
    return "\n".join(lines)


def _plain_rows(result: Result) -> Iterator[tuple[str, dict[str, Any] | None, str, float]]:
    """(label, the figure of eval.side_effects.paired or None, why it is withheld, factor)."""
    content = result.content
    for label, path in LINES:
        block, withheld = _find(content, path)
        yield label, block, withheld, 100.0
        if path == ("mention", "any") and block is not None:
            # Chance in the place of `none`: the wrong persona's values in the same answers.
            chance = {"none": block["other"], "true_minus_none": block["true_minus_other"]}
            yield "  chance in place of none", block | chance, "", 100.0
    for grouping, block in content["accentuation"].get("by_group", {}).items():
        yield f"tells {grouping}{_chance(block)}", block["recovered"], str(block["withheld"]), 100.0
    for grouping, block in content["homogenisation"].get("by_group", {}).items():
        yield f"alike within {grouping}", block["difference"], "", 100.0
    block, withheld = _find(content, ("length", "words"))
    yield "words", block, withheld, 1.0


def _chance(block: dict[str, Any]) -> str:
    return f" ({100 * block['chance']['mean']:.0f}, p {block['p_value']:.2f})" if block["chance"] else ""


def _find(content: dict[str, Any], path: Sequence[str]) -> tuple[dict[str, Any] | None, str]:
    here: Any = content
    withheld = ""
    for step in path:
        withheld = (here or {}).get("withheld") or withheld
        here = (here or {}).get(step)
    return here, withheld


def _overview(result: Result, name: str) -> Table:
    rows: list[Sequence[Cell]] = []
    for label, path in LINES:
        block, withheld = _find(result.content, path)
        rows.append([label, *(_cells(block) if block else [f"withheld: {withheld}", *[None] * 4])])
    return Table(f"{name}: what a persona changes, {_counts(result)}", ("", *HEADER), rows, SIGNED)


def _by_attribute(result: Result, name: str) -> Table | None:
    found = result.content["mention"].get("by_attribute")
    if not found:
        return None
    rows = [
        [attribute.replace("_", " "), *_cells(block), as_estimate(block["other"])]
        for attribute, block in sorted(found.items(), key=lambda item: (-(item[1]["true"]["value"] or 0), item[0]))
    ]
    return Table(
        f"{name}: answers that name an attribute, by attribute; chance is the wrong persona's value in the same answers",
        ("Attribute", *HEADER, "Chance"),
        rows,
        SIGNED,
    )


def _groups(result: Result, name: str) -> Table:
    rows: list[Sequence[Cell]] = []
    for grouping, block in result.content["accentuation"].get("by_group", {}).items():
        members = ", ".join(f"{group} {count}" for group, count in block["classes"].items())
        if block["recovered"] is None:
            rows.append([grouping, f"withheld: {block['withheld']}", *[None] * 6])
            continue
        chance = block["chance"]
        said = f"{100 * chance['mean']:.0f} % ({100 * chance['low']:.0f} to {100 * chance['high']:.0f})"
        rows.append([f"{grouping} ({members})", *_cells(block["recovered"]), said, f"{block['p_value']:.3f}"])
    return Table(
        f"{name}: how often a probe tells the group of a persona from an answer, the words that name it left out; chance and p from "
        "permuted labels",
        ("Group", *HEADER, "Chance", "p"),
        rows,
        SIGNED,
    )


def _alike(result: Result, name: str) -> Table:
    rows = [
        [f"{grouping}, {part}", *_cells(block[part])]
        for grouping, block in result.content["homogenisation"].get("by_group", {}).items()
        for part in ("within", "across", "difference")
    ]
    return Table(
        f"{name}: words that two answers to one question have in common, within a group and across groups",
        ("Group", *HEADER),
        rows,
        SIGNED,
    )


def _lengths(result: Result, name: str) -> Table:
    block, withheld = _find(result.content, ("length", "words"))
    cells: list[Cell] = [f"withheld: {withheld}", *[None] * 4]
    if block is not None:
        estimates = [as_estimate(block[column]) for column in COLUMNS]
        cells = [_interval(e, 1.0, sign=place > 2) for place, e in enumerate(estimates)]
    ended = result.settings["sampling"]["end_sentence_after"]
    cut = f"; an answer ends with the first sentence after {ended} tokens, which bounds the drift" if ended else ""
    return Table(f"{name}: words an answer{cut}", ("", *HEADER), [["words", *cells]])


def _examples(result: Result, folder: Path) -> list[Example]:
    path = folder / f"{result.name}.answers.parquet"
    if not path.is_file():
        return []
    rows = read_table(path, filters=[("probe", "=", "question")])
    by_item: dict[str, dict[str, Any]] = {}
    for row in rows:
        by_item.setdefault(row["item_id"], {"question": row["question"]})[row["condition"]] = row["answer"]
    return [
        Example(
            title=f"{_label(result)}, {item}",
            parts=[
                ("Question", shown["question"]),
                *((heading, shown.get(c) or "(no answer)") for c, heading in zip(COLUMNS, HEADER[:3], strict=False)),
            ],
        )
        for item, shown in sorted(by_item.items())[:EXAMPLES]
    ]


def _cells(block: dict[str, Any]) -> list[Cell]:
    return [as_estimate(block[column]) for column in COLUMNS]


def _label(result: Result) -> str:
    subject = result.subject or {}
    return f"{subject.get('name')}{' (scripted)' if is_scripted(result) else ''}"


def _counts(result: Result) -> str:
    unscored = ", ".join(f"{count} {reason}" for reason, count in result.rows["unscored"].items())
    return f"{result.rows['scored']:,} replies scored" + (f", unscored: {unscored}" if unscored else "")


def _interval(estimate: Estimate, scale: float, sign: bool = True) -> str:
    if estimate.value is None:
        return str(estimate.withheld)
    plus = "+" if sign else ""
    value = f"{scale * estimate.value:{plus}.1f}"
    if estimate.low is None or estimate.high is None:
        return value
    return f"{value} [{scale * estimate.low:{plus}.1f} {scale * estimate.high:{plus}.1f}]"
