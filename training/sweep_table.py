"""One table of a sweep: methods x cells x conditions, with intervals, beside what they must be read with.

A share is the mean over seeds of each row's outcome (won 1, tied 1/2, lost 0), and its interval comes from drawing personas anew, on
contrast pairs both of a pair: so it says how far other personas could move it. How far another seed moves it stands beside it, seed by
seed, since three seeds are too few for an interval of their own.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from builder.files import read_json, write_json, write_text
from builder.randomness import rng_for
from training.conditioning import CONDITIONS
from training.estimates import MINIMUM_ROWS, Estimate, estimate_columns
from training.fairness import spread
from training.metrics import CELLS, CONTROLS, persona_clusters
from training.results import read_margins
from training.sweep import AXES, Cell, Method, Sweep, all_cells, result_file

Row = Mapping[str, Any]
NAME_WIDTH = 27
CSV_COLUMNS = (
    *("id", "name", "method", "own_condition", "axis", "axis_value", "config", "cell", "rows", "personas"),
    *("figure", "value", "low", "high", "withheld", "by_seed"),
)


def write_table(folder: Path, sweep: Sweep) -> str:
    """Write table.json, table.md and table.csv from the results that are there; returns the short table for the terminal."""
    table = sweep_table(folder, sweep)
    write_json(folder / "table.json", table)
    write_text(folder / "table.csv", as_csv(table))
    write_text(folder / "table.md", as_markdown(table))
    return as_text(table)


def sweep_table(folder: Path, sweep: Sweep) -> dict[str, Any]:
    """Every method of the sweep, those without results with the reason."""
    cells = all_cells(sweep)
    methods = [
        _method(folder, method, [cell for cell in cells if cell.method.id == method.id]) for method in sweep.methods
    ]
    by_id = {method["id"]: method for method in methods}
    for method in methods:
        for entry in method["results"]:
            blind = by_id.get(method["blind"], {"results": []})
            entry["blind_spread"] = next(
                (other["spread"] for other in blind["results"] if _place(other) == _place(entry)), None
            )
    return {"sweep": sweep.name, "seeds": list(sweep.seeds), "minimum_rows": MINIMUM_ROWS, "methods": methods}


def _method(folder: Path, method: Method, cells: Sequence[Cell]) -> dict[str, Any]:
    """The row of one method. Results that are not there are named as missing."""
    own = [cell for cell in cells if cell.axis is None]
    done = [cell for cell in own if result_file(folder, cell).is_file()]
    entry: dict[str, Any] = {
        "id": method.id,
        "name": method.name,
        "method": method.method,
        "blind": method.blind,
        "not_run": method.not_run,
        "seeds": [cell.seed for cell in done],
        "missing_seeds": [cell.seed for cell in own if cell not in done],
        "own_condition": None,
        "results": [],
        "axes": {},
    }
    if method.not_run is None and not done:
        entry["not_run"] = "no result yet"
    if not done:
        return entry
    results = [read_json(result_file(folder, cell)) for cell in done]
    entry["own_condition"] = results[0]["own_condition"]
    entry |= {key: results[0].get(key) for key in ("persona", "trainable_parameters", "steps", "left_out")}
    entry["results"] = figures(*_outcomes(folder, done), results[0]["own_condition"], results[0]["data"]["rows_seed"])
    for key in AXES:
        points = []
        for value in getattr(method.axes, key):
            there = [c for c in cells if c.axis == (key, value) and result_file(folder, c).is_file()]
            if there:
                made = figures(*_outcomes(folder, there), entry["own_condition"], results[0]["data"]["rows_seed"])
                points += [{"value": value, "seeds": [c.seed for c in there], **result} for result in made]
        if points:
            entry["axes"][key] = points
    return entry


def _outcomes(folder: Path, cells: Sequence[Cell]) -> tuple[list[Row], dict[str, np.ndarray]]:
    """(rows that all seeds scored, condition -> outcomes of shape (seeds, rows)): won 1, tied 1/2, lost 0."""
    by_seed = [{row["pair_id"]: row for row in read_margins(result_file(folder, cell))} for cell in cells]
    shared = [pair for pair in by_seed[0] if all(pair in rows for rows in by_seed)]
    margins = {
        name: np.array([[rows[pair][f"margin_{name}"] for pair in shared] for rows in by_seed], dtype=float)
        for name in CONDITIONS
    }
    return [by_seed[0][pair] for pair in shared], {name: (np.sign(values) + 1) / 2 for name, values in margins.items()}


def figures(rows: Sequence[Row], outcomes: Mapping[str, np.ndarray], own: str, seed: int) -> list[dict[str, Any]]:
    """One entry for each pair config and cell with rows. outcomes: condition -> (seeds, rows). seed: of the resampling.

    With one seed these are the figures of training.metrics.control_metrics.
    """
    clusters = persona_clusters(rows)
    mean = {name: values.mean(axis=0) for name, values in outcomes.items()}
    entries = []
    for config in dict.fromkeys(row["pair_kind"] for row in rows):
        for cell in CELLS:
            places = [
                place
                for place, row in enumerate(rows)
                if row["pair_kind"] == config and cell in ("all", f"{row['persona_group']}/{row['split']}")
            ]
            if not places:
                continue
            columns = [mean[name][places] for name in CONDITIONS]
            columns += [mean["true"][places] - mean[control][places] for control in CONTROLS]
            estimates = estimate_columns(
                np.stack(columns, axis=1),
                [clusters[place] for place in places],
                rng_for(seed, "training/bootstrap", f"{config}/{cell}"),
                differences=len(CONTROLS),
            )
            shares, gaps = estimates[: len(CONDITIONS)], estimates[len(CONDITIONS) :]
            by_seed = {name: values[:, places].mean(axis=1) for name, values in outcomes.items()}
            entries.append(
                {
                    "config": config,
                    "cell": cell,
                    "rows": len(places),
                    "personas": shares[0].clusters,
                    "conditions": {
                        name: _figure(share, by_seed[name]) for name, share in zip(CONDITIONS, shares, strict=True)
                    },
                    "gaps": {
                        name: _figure(gap, by_seed["true"] - by_seed[name])
                        for name, gap in zip(CONTROLS, gaps, strict=True)
                    },
                    "spread": _spread(mean[own][places], [rows[place]["persona_id"] for place in places]),
                }
            )
    return entries


def _figure(estimate: Estimate, by_seed: np.ndarray) -> dict[str, Any]:
    """by_seed: the same share of each seed alone; withheld with it."""
    values = [float(value) for value in by_seed] if estimate.value is not None else []
    return {
        "value": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "withheld": estimate.withheld,
        "by_seed": values,
    }


def _spread(outcomes: np.ndarray, personas: Sequence[str]) -> dict[str, Any] | None:
    if len(outcomes) < MINIMUM_ROWS:
        return None
    found = spread(list(outcomes), personas, {})
    return {key: found[key] for key in ("personas", "minimum_rows", "worst_persona", "tenth_percentile")}


def as_text(table: Mapping[str, Any]) -> str:
    """At most 120 columns: all cells together, dpf and contrast one below the other."""
    lines = []
    columns = f"{'n':>5} {'true':>6}{'none':>6}{'wrong':>6}  {'own, 95 %':<14}{'gap, 95 %':<23}gap by seed"
    heading = " " * (14 + NAME_WIDTH) + columns
    for config in _configs(table):
        lines += ["", f"{config}, all four cells together", heading]
        for method in table["methods"]:
            head = f"{method['id'][:12]:<13}{method['name'][:NAME_WIDTH]:<{NAME_WIDTH}}"
            entry = _entry(method, config, "all")
            if entry is None:
                lines.append(f"{head} not run: {method['not_run'] or 'no row of this config'}"[:120])
                continue
            shown = [_share(entry["conditions"][name]["value"]) + _mark(method, name) for name in CONDITIONS]
            own = entry["conditions"][method["own_condition"]]
            gap = entry["gaps"]["wrong"]
            lines.append(
                f"{head} {entry['rows']:>5} {shown[0]:>6}{shown[1]:>6}{shown[2]:>6}  {_interval(own):<14}"
                f"{_gap(gap):<23}{_range(gap['by_seed'], signed=True):<15}".rstrip()
            )
    lines += [
        "",
        "true, none, wrong: pairs won with that persona shown, a tie half. gap: true - wrong. *: what a blind method was made for.",
    ]
    missing = [f"{m['id']} {', '.join(map(str, m['missing_seeds']))}" for m in table["methods"] if m["missing_seeds"]]
    if missing:
        lines.append(f"Without the seeds that have no result: {'; '.join(missing)}.")
    return "\n".join(lines[1:])


def as_markdown(table: Mapping[str, Any]) -> str:
    lines = [
        f"# Sweep {table['sweep']}",
        "",
        f"Share of test pairs won with the true persona, none or a wrong one shown; a tie counts half. In brackets 95 % intervals from "
        f"drawing personas anew (on contrast pairs both of a pair). gap: true - wrong. By seed: the same figure of each seed "
        f"({', '.join(map(str, table['seeds']))}) alone, lowest to highest. `*`: what a method without personas was made for. "
        f"Figures of fewer than {table['minimum_rows']} rows are withheld.",
    ]
    for config in _configs(table):
        lines += [
            "",
            f"## {config}",
            "",
            "| | method | cell | pairs | true | none | wrong | gap | gap by seed | true by seed |",
        ]
        lines.append("|---|---|---|---|---|---|---|---|---|---|")
        for method in table["methods"]:
            if not method["results"]:
                lines.append(f"| {method['id']} | {method['name']} | not run: {method['not_run']} | | | | | | | |")
            for entry in method["results"]:
                if entry["config"] != config:
                    continue
                conditions, gap = entry["conditions"], entry["gaps"]["wrong"]
                shown = [
                    f"{_share(conditions[n]['value'])}{_mark(method, n)} {_interval(conditions[n])}" for n in CONDITIONS
                ]
                lines.append(
                    f"| {method['id']} | {method['name']} | {entry['cell']} | {entry['rows']} | {' | '.join(shown)} | {_gap(gap)} | "
                    f"{_range(gap['by_seed'], signed=True)} | {_range(conditions['true']['by_seed'])} |"
                )
    lines += [
        "",
        "## The worst served",
        "",
        "Of the personas with enough rows: the accuracy of the worst one and of the tenth percentile, under the condition that the method "
        "was made for, beside its blind counterpart. Per persona a blind method is not balanced on contrast pairs: it gives two mirrored "
        "personas the same text, so that it serves one and fails the other.",
        "",
        "| | method | pairs of | personas | worst | 10th percentile | blind: worst | blind: 10th percentile |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for method in table["methods"]:
        for config in _configs(table):
            entry = _entry(method, config, "all")
            if entry is None:
                continue
            own, blind = entry["spread"] or {}, entry["blind_spread"] or {}
            shown = [_share(found.get(key)) for found in (own, blind) for key in ("worst_persona", "tenth_percentile")]
            lines.append(
                f"| {method['id']} | {method['name']} | {config} | {own.get('personas', 0)} | {' | '.join(shown)} |"
            )
    lines += _markdown_axes(table)
    return "\n".join(line.replace("  ", " ") for line in lines) + "\n"


def _markdown_axes(table: Mapping[str, Any]) -> list[str]:
    titles = {
        "few_shot_pairs": "Labelled pairs shown in testing",
        "persona_corruption": "Share of the stated attributes left out in testing",
    }
    lines: list[str] = []
    for key in AXES:
        methods = [method for method in table["methods"] if key in method["axes"]]
        if not methods:
            continue
        lines += [
            "",
            f"## {titles[key]}",
            "",
            f"| | method | pairs of | {key} | pairs | true | wrong | gap | gap by seed |",
        ]
        lines.append("|---|---|---|---|---|---|---|---|---|")
        for method in methods:
            trained = [{"value": None, **entry} for entry in method["results"]]
            for entry in [*trained, *method["axes"][key]]:
                if entry["cell"] != "all":
                    continue
                value = "as trained" if entry["value"] is None else f"{entry['value']:g}"
                conditions, gap = entry["conditions"], entry["gaps"]["wrong"]
                shown = [
                    f"{_share(conditions[name]['value'])} {_interval(conditions[name])}" for name in ("true", "wrong")
                ]
                lines.append(
                    f"| {method['id']} | {method['name']} | {entry['config']} | {value} | {entry['rows']} | {' | '.join(shown)} | "
                    f"{_gap(gap)} | {_range(gap['by_seed'], signed=True)} |"
                )
    return lines


def as_csv(table: Mapping[str, Any]) -> str:
    """A line for each method, config, cell, point of an axis and figure."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for method in table["methods"]:
        head = (method["id"], method["name"], method["method"], method["own_condition"])
        if not method["results"]:
            writer.writerow((*head, *[""] * 10, f"not run: {method['not_run']}", ""))
        points = [("", "", entry) for entry in method["results"]]
        points += [(key, entry["value"], entry) for key, entries in method["axes"].items() for entry in entries]
        for axis, value, entry in points:
            place = (axis, value, entry["config"], entry["cell"], entry["rows"], entry["personas"])
            for figure, found in (*entry["conditions"].items(), *((f"gap_{n}", g) for n, g in entry["gaps"].items())):
                shown = (found["value"], found["low"], found["high"], found["withheld"] or "")
                writer.writerow((*head, *place, figure, *shown, " ".join(f"{v:.6f}" for v in found["by_seed"])))
    return text.getvalue()


def _configs(table: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys(entry["config"] for method in table["methods"] for entry in method["results"]))


def _entry(method: Mapping[str, Any], config: str, cell: str) -> dict[str, Any] | None:
    return next((entry for entry in method["results"] if _place(entry) == (config, cell)), None)


def _place(entry: Mapping[str, Any]) -> tuple[str, str]:
    return entry["config"], entry["cell"]


def _mark(method: Mapping[str, Any], condition: str) -> str:
    return "*" if method["own_condition"] == condition == "none" else ""


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _interval(figure: Mapping[str, Any]) -> str:
    return "" if figure["low"] is None else f"[{figure['low']:.2f}, {figure['high']:.2f}]"


def _gap(figure: Mapping[str, Any]) -> str:
    if figure["value"] is None:
        return "-"
    interval = "" if figure["low"] is None else f" [{figure['low']:+.2f}, {figure['high']:+.2f}]"
    return f"{figure['value']:+.2f}{interval}"


def _range(values: Sequence[float], signed: bool = False) -> str:
    """Lowest to highest; nothing with one seed."""
    if len(values) < 2:
        return ""
    form = "+.2f" if signed else ".2f"
    return f"{min(values):{form}} to {max(values):{form}}"
