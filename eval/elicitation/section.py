"""Elicitation in words, tables and curves: for the terminal and for the report."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eval.drawings import line_figure
from eval.page import Example, Figure, Section, Table
from eval.results import Result, as_estimate, check_files, is_scripted
from eval.tables import read_table
from training.estimates import Estimate

CONFIGS = ("contrast", "dpf")  # the first is where the persona decides
EXAMPLES = 2  # interviews shown for each result
WIDTH = 110  # characters, of the terminal's table
WIDTHS = (12, 4, 22, 22, 22, 6, 6)


def printed(result: Result) -> str:
    """At most WIDTH columns."""
    content = result.content
    lines = [f"{result.name}: {result.description}{' (scripted)' if is_scripted(result) else ''}"]
    if content["withheld"]:
        return "\n".join([*textwrap.wrap(lines[0], WIDTH), f"Figures withheld: {content['withheld']}."])
    for config in _configs(content):
        ends = _ends(content, config)
        if ends["none"]["value"] is None:  # then so is every step, which has no more rows
            lines.append(f"{config}: every figure {_shown(ends['none'])}")
            continue
        lines.append(
            f"{config}: nothing known {_shown(ends['none'])}, everything known {_shown(ends['all'])}, all of a wrong persona "
            f"{_shown(ends['all_wrong'])}"
        )
        lines.append(_columns("order", "k", "accuracy", "wrong persona", "regret", "asked", "short"))
        for curve in _curves(content, config):
            for point in curve["points"]:
                lines.append(
                    _columns(
                        curve["order"],
                        point["k"],
                        _shown(point["accuracy"]),
                        _shown(point["wrong"]),
                        _shown(point["regret"], signed=True),
                        "" if point["asked"] is None else f"{point['asked']:.1f}",
                        point["personas_short"],
                    )
                )
            lines.append(_columns(curve["order"], "area", "", "", _shown(curve["area"], signed=True), "", ""))
    lines += _interview_words(result)
    return "\n".join(part for line in lines for part in textwrap.wrap(line, WIDTH) or [""])


def section(results: Sequence[Result], folder: Path) -> Section:
    tables: list[Table] = []
    figures: list[Figure] = []
    examples: list[Example] = []
    text = [
        "What is asking worth? A persona is asked about itself, or which of two answers it prefers, and what was learned predicts its "
        "preferences on test pairs. With k = 0 nothing is known and every pair is a tie. Wrong persona: the same interview with "
        "another person, whose answers are then used.",
        "Regret is the accuracy with everything known minus that after k answers, on the same pairs; its area is the mean regret on "
        "the way from 0 to 8 answers. k counts answers; asked counts questions, those included that the profile has no answer to. A "
        "persona that has fewer than k answers to give is not counted at k (short).",
    ]
    for result in results:
        if result.content["withheld"]:
            text.append(f"{result.name}: figures withheld, {result.content['withheld']}.")
            continue
        label = " (scripted)" if is_scripted(result) else ""
        text.append(" ".join([f"{result.name}: {result.description}{label}.", *_interview_words(result)]))
        for config in _configs(result.content):
            tables.append(_table(result, config))
            tables.append(_areas(result, config))
        figures += _figures(result)
        examples += _examples(result, folder)
    return Section(
        anchor="elicitation",
        title="Elicitation",
        text=text,
        tables=tables,
        figures=figures,
        examples=examples,
        scripted=any(is_scripted(result) for result in results),
    )


def _table(result: Result, config: str) -> Table:
    ends = _ends(result.content, config)
    rows: list[list[Any]] = [
        ["nothing known", 0, as_estimate(ends["none"]), as_estimate(ends["none"]), None, None, 0.0, None]
    ]
    for curve in _curves(result.content, config):
        rows += [
            [
                curve["order"],
                point["k"],
                *(as_estimate(point[name]) for name in ("accuracy", "wrong", "gap", "regret")),
                point["asked"],
                point["personas_short"],
            ]
            for point in curve["points"]
            if point["k"]
        ]
    everything = [as_estimate(ends[name]) for name in ("all", "all_wrong", "all_minus_wrong")]
    rows.append(["everything known", "all", *everything, None, None, None])
    return Table(
        caption=f"{result.name}, {config}: accuracy on test pairs after k answers",
        header=("order", "k", "accuracy", "wrong persona", "accuracy - wrong", "regret", "asked", "short"),
        rows=rows,
        signed=(4, 5),
    )


def _areas(result: Result, config: str) -> Table:
    return Table(
        caption=f"{result.name}, {config}: area under the regret (mean regret between 0 and 8 answers; less is better)",
        header=("order", "area", "area - that of the random order"),
        rows=[
            [
                curve["order"],
                as_estimate(curve["area"]),
                as_estimate(curve["area_minus_random"]) if curve["area_minus_random"] else None,
            ]
            for curve in _curves(result.content, config)
        ],
        signed=(1, 2),
    )


def _figures(result: Result) -> list[Figure]:
    """Accuracy and regret by k, of the first config; none where every point is withheld."""
    found = []
    config = _configs(result.content)[0]
    curves = _curves(result.content, config)
    accuracy = {curve["order"]: _points(curve, "accuracy") for curve in curves}
    if curves:
        accuracy[f"{curves[-1]['order']}, wrong persona"] = _points(curves[-1], "wrong")
    regret = {curve["order"]: _points(curve, "regret") for curve in curves}
    for title, series, axis, reference in (
        ("Accuracy after k answers", accuracy, "accuracy", 0.5),
        ("Regret after k answers", regret, "regret", 0.0),
    ):
        series = {name: points for name, points in series.items() if points}
        if series:
            words = "; ".join(
                f"{name}: " + ", ".join(f"k = {k:.0f} {value:.3f}" for k, value in points)
                for name, points in series.items()
            )
            image = line_figure(series, "answers (k)", f"{axis} on {config}", reference)
            found.append(Figure(f"{title}: {result.name}", image, words))
    return found


def _points(curve: Mapping[str, Any], name: str) -> list[tuple[float, float]]:
    return [(float(p["k"]), p[name]["value"]) for p in curve["points"] if p[name]["value"] is not None]


def _examples(result: Result, folder: Path) -> list[Example]:
    """The first interviews by order and persona."""
    check_files(folder, result)
    rows = read_table(folder / f"{result.name}.interviews.parquet")
    own = [row for row in rows if row["held_out_for"] in ("", row["persona_id"])]
    keys = sorted({(row["persona_id"], row["config"], row["order"]) for row in own})
    # One of each order, as far as they go, so that the orders can be compared.
    shown = keys[:EXAMPLES]
    return [
        Example(
            f"{result.name}: {persona}, {order}{f', {config}' if config else ''}",
            [
                (row["question"], row["answer"])
                for row in own
                if (row["persona_id"], row["config"], row["order"]) == (persona, config, order)
            ],
        )
        for persona, config, order in shown
    ]


def _interview_words(result: Result) -> list[str]:
    counts = result.content["interviews"]
    if "pool" in counts:
        return [
            f"Labelled pairs a persona could be asked about ({config}): {sizes['smallest']} to {sizes['largest']}."
            for config, sizes in counts["pool"].items()
        ]
    said = [
        f"Interviews: {counts['questions']:,} questions, {counts['answered']:,} answered, {counts['not_known']:,} not known to the profile."
    ]
    if (result.subject or {}).get("provider") != "none":
        failures = ", ".join(f"{reason} {n}" for reason, n in counts["failures"].items()) or "none"
        said.append(
            f"Replies of the model: {counts['leaks']:,} thrown away for stating what was not asked, failures: {failures}; exact answer put "
            f"in place of {counts['replaced']:,}; {counts['state_the_value']:,} of {counts['answered']:,} answers state the value."
        )
    return said


def _configs(content: Mapping[str, Any]) -> list[str]:
    present = {ends["config"] for ends in content["ends"]}
    return [config for config in CONFIGS if config in present]


def _ends(content: Mapping[str, Any], config: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = next(ends for ends in content["ends"] if ends["config"] == config)
    return found


def _curves(content: Mapping[str, Any], config: str) -> list[Mapping[str, Any]]:
    return [curve for curve in content["curves"] if curve["config"] == config]


def _columns(*cells: object) -> str:
    return "".join(f"{cell!s:<{width}} " for cell, width in zip(cells, WIDTHS, strict=True)).rstrip()


def _shown(raw: Mapping[str, Any], signed: bool = False) -> str:
    estimate: Estimate = as_estimate(dict(raw))
    if estimate.value is None:
        return f"withheld ({estimate.withheld})"
    form = "+.3f" if signed else ".3f"
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:{form}}"
    return f"{estimate.value:{form}} [{estimate.low:.2f}, {estimate.high:.2f}]"
