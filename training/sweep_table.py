"""One table of a sweep: methods x cells x conditions, with intervals, beside what they must be read with.

A share is the mean over seeds of each row's outcome (won 1, tied 1/2, lost 0), and its interval comes from drawing personas anew, on
contrast pairs both of a pair: so it says how far other personas could move it. How far another seed moves it stands beside it, seed by
seed, since three seeds are too few for an interval of their own.
"""

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from builder.files import read_json, write_json, write_text
from training.conditioning import CONDITIONS
from training.estimates import MINIMUM_ROWS, Estimate
from training.fairness import spread
from training.metrics import CELLS, CONTROLS, condition_estimates, persona_clusters
from training.results import BY_PERSONA_ID, read_margins
from training.sweep import AXES, GROUPS_FILE, Cell, Method, Sweep, all_cells, model_folder, result_file

Row = Mapping[str, Any]
Scored = tuple[list[Row], dict[str, np.ndarray]]  # rows, and condition -> outcomes of shape (seeds, rows)
NAME_WIDTH = 27
# Seen and unseen apart: some methods keep what they learned of seen personas at every point of an axis.
AXIS_CELLS = ("unseen", "seen", *CELLS)
AXIS_SHOWN = ("unseen", "seen")
WITHOUT_PAIRS = {
    "low_rank": "an unseen persona has the generic weights; a seen one keeps the weights that it was trained with at every k, so that only "
    "unseen rows say what pairs are worth",
    "vpl": "the latent is the prior's mean, for every persona alike",
}
KNOWN_BY_ID = {
    "p_dpo": "an unseen one is scored as the generic persona, so that true, none and wrong are alike there by construction. The cell all "
    "mixes such pairs in and is diluted; read the seen cells",
    "per_persona": "pairs of a persona without an adapter are left out, so that no cell says anything of unseen personas",
}
IN_CONTEXT = "no example stands in the prompt: the neutral text, or with full+few_shot the profile alone"
CSV_COLUMNS = (
    *("id", "name", "method", "own_condition", "axis", "axis_value", "config", "cell", "rows", "asked", "personas"),
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
    """Every method of the sweep, those without results with the reason.

    `asked`: how many test pairs some method with a result has scored. `rows` below it are other rows than the rest of the column has.
    """
    cells = all_cells(sweep)
    own_cells = {m.id: [cell for cell in cells if cell.method.id == m.id] for m in sweep.methods}
    scored = {method: _outcomes(folder, [c for c in own if c.axis is None]) for method, own in own_cells.items()}
    asked = {row["pair_id"]: row for rows, _ in scored.values() for row in rows}
    groups_file = folder / GROUPS_FILE
    groups = read_json(groups_file) if groups_file.is_file() else {}
    methods = []
    for method in sweep.methods:
        entry = _method(folder, method, own_cells[method.id], scored[method.id], list(asked.values()), groups)
        if entry["results"] and scored.get(method.blind or "", ([], {}))[0]:
            _add_blind_spread(entry["results"], scored[method.id][0], scored[method.blind or ""], groups)
        methods.append(entry)
    return {"sweep": sweep.name, "seeds": list(sweep.seeds), "minimum_rows": MINIMUM_ROWS, "methods": methods}


def _method(
    folder: Path, method: Method, cells: Sequence[Cell], scored: Scored, asked: Sequence[Row], groups: Mapping[str, Any]
) -> dict[str, Any]:
    """The row of one method. Results that are not there are named as missing. asked: the rows that any method has scored."""
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
        "left_out": 0,
        "coverage": None,
        "results": [],
        "axes": {},
        "no_points": {},
    }
    if method.not_run is None and not done:
        entry["not_run"] = "no result yet"
    if not done:
        return entry
    results = [read_json(result_file(folder, cell)) for cell in done]
    own_condition, seed = results[0]["own_condition"], results[0]["data"]["rows_seed"]
    entry |= {key: results[0].get(key) for key in ("persona", "conditioning", "trainable_parameters", "steps")}
    entry |= {"own_condition": own_condition, "left_out": max(result["left_out"] for result in results)}
    entry["results"] = figures(*scored, own_condition, seed, CELLS, asked, groups)
    if not entry["results"]:
        entry["not_run"] = f"none of its {entry['left_out']} test pairs could be scored"
    record = model_folder(folder, done[0]) / "training.json"
    if record.is_file():
        entry["coverage"] = read_json(record)["run"].get("coverage")
    for key in AXES:
        if getattr(method.axes, key):
            entry["axes"][key], entry["no_points"][key] = _axis(folder, cells, key, scored, own_condition, seed)
    return entry


def _axis(
    folder: Path, cells: Sequence[Cell], key: str, trained: Scored, own: str, seed: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(figures of the points, value None being as trained; points without figures, with the reason), all on the same pairs.

    What a point cannot score (a persona with fewer than k labelled pairs, a prompt too long) is left out of all the others too. A point
    that would leave nothing to compare is not shown, instead of emptying the others.
    """
    points: dict[float | None, Scored] = {None: trained}
    missing: list[dict[str, Any]] = []
    for value in dict.fromkeys(cell.axis[1] for cell in cells if cell.axis and cell.axis[0] == key):
        there = [c for c in cells if c.axis == (key, value) and result_file(folder, c).is_file()]
        if there:
            points[value] = _outcomes(folder, there)
        else:
            missing.append({"value": value, "config": None, "reason": "no result yet"})
    shown = []
    for config in dict.fromkeys(row["pair_kind"] for rows, _ in points.values() for row in rows):
        asked = {row["pair_id"]: row for rows, _ in points.values() for row in rows if row["pair_kind"] == config}
        left = {
            v: Counter(r["persona_group"] for r in rows if r["pair_id"] in asked) for v, (rows, _) in points.items()
        }
        kept = dict(points)
        for point, count in left.items():
            for group in ("unseen", "seen"):
                most = max(other[group] for other in left.values())
                if count[group] < min(MINIMUM_ROWS, most):
                    reason = f"{count[group]} of {most} pairs of {group} personas could be scored"
                    missing.append({"value": point, "config": config, "reason": reason})
                    kept.pop(point, None)
        everywhere = set(asked).intersection(*({row["pair_id"] for row in rows} for rows, _ in kept.values()))
        for point, (rows, outcomes) in kept.items():
            places = [place for place, row in enumerate(rows) if row["pair_id"] in everywhere]
            same = {name: values[:, places] for name, values in outcomes.items()}
            entries = figures([rows[i] for i in places], same, own, seed, AXIS_CELLS, list(asked.values()))
            shown += [{"value": point, **entry} for entry in entries]
    return shown, missing


def _outcomes(folder: Path, cells: Sequence[Cell]) -> Scored:
    """Of the cells that have a result: (rows that all seeds scored, condition -> (seeds, rows): won 1, tied 1/2, lost 0)."""
    done = [result_file(folder, cell) for cell in cells if result_file(folder, cell).is_file()]
    if not done:
        return [], {}
    by_seed = [{row["pair_id"]: row for row in read_margins(file)} for file in done]
    shared = [pair for pair in by_seed[0] if all(pair in rows for rows in by_seed)]
    margins = {
        name: np.array([[rows[pair][f"margin_{name}"] for pair in shared] for rows in by_seed], dtype=float)
        for name in CONDITIONS
    }
    return [by_seed[0][pair] for pair in shared], {name: (np.sign(values) + 1) / 2 for name, values in margins.items()}


def _in_cell(row: Row, config: str, cell: str) -> bool:
    group = row["persona_group"]
    return row["pair_kind"] == config and cell in ("all", group, f"{group}/{row['split']}")


def figures(
    rows: Sequence[Row],
    outcomes: Mapping[str, np.ndarray],
    own: str,
    seed: int,
    cells: Sequence[str] = CELLS,
    asked: Sequence[Row] = (),
    groups: Mapping[str, Any] = MappingProxyType({}),
) -> list[dict[str, Any]]:
    """One entry for each pair config and cell with rows. outcomes: condition -> (seeds, rows). seed: of the resampling. asked: the rows of
    which these are those that could be scored. groups: persona -> attribute -> group, for the worst one.

    With one seed these are the figures of training.metrics.control_metrics.
    """
    clusters = persona_clusters(rows)
    mean = {name: values.mean(axis=0) for name, values in outcomes.items()}
    entries = []
    for config in dict.fromkeys(row["pair_kind"] for row in rows):
        for cell in cells:
            places = [place for place, row in enumerate(rows) if _in_cell(row, config, cell)]
            if not places:
                continue
            shares, gaps = condition_estimates(mean, places, clusters, seed, f"{config}/{cell}")
            by_seed = {name: values[:, places].mean(axis=1) for name, values in outcomes.items()}
            entries.append(
                {
                    "config": config,
                    "cell": cell,
                    "rows": len(places),
                    "asked": sum(_in_cell(row, config, cell) for row in asked or rows),
                    "personas": shares[0].clusters,
                    "conditions": {
                        name: _figure(share, by_seed[name]) for name, share in zip(CONDITIONS, shares, strict=True)
                    },
                    "gaps": {
                        name: _figure(gap, by_seed["true"] - by_seed[name])
                        for name, gap in zip(CONTROLS, gaps, strict=True)
                    },
                    "spread": _spread(mean[own][places], [rows[place]["persona_id"] for place in places], groups),
                    "blind_spread": None,
                }
            )
    return entries


def _add_blind_spread(
    entries: Sequence[dict[str, Any]], rows: Sequence[Row], blind: Scored, groups: Mapping[str, Any]
) -> None:
    """Beside each spread that of the blind counterpart, which is shown nobody's persona, on the same rows, and of the same group."""
    own = {row["pair_id"] for row in rows}
    means = zip(blind[0], blind[1]["none"].mean(axis=0), strict=True)
    shared = [(row, float(outcome)) for row, outcome in means if row["pair_id"] in own]
    for entry in entries:
        there = [(row["persona_id"], won) for row, won in shared if _in_cell(row, entry["config"], entry["cell"])]
        found = _spread(np.array([won for _, won in there]), [persona for persona, _ in there], {})
        worst = (entry["spread"] or {}).get("worst_group")
        if found is not None and worst is not None:
            same = [won for persona, won in there if groups.get(persona, {}).get(worst["attribute"]) == worst["value"]]
            if len(same) == worst["rows"]:
                found["worst_group"] = worst | {"accuracy": float(np.mean(same))}
        entry["blind_spread"] = found


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


def _spread(outcomes: np.ndarray, personas: Sequence[str], groups: Mapping[str, Any]) -> dict[str, Any] | None:
    return spread(list(outcomes), personas, groups) if len(outcomes) >= MINIMUM_ROWS else None


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
                f"{head} {_rows(entry):>5} {shown[0]:>6}{shown[1]:>6}{shown[2]:>6}  {_interval(own):<14}"
                f"{_gap(gap):<23}{_range(gap['by_seed'], signed=True):<15}".rstrip()
            )
    lines += [
        "",
        "true, none, wrong: pairs won with that persona shown, a tie half. gap: true - wrong. *: what a blind method was made for.",
    ]
    if _unlike_rows(table):
        lines.append(f"†: not the same pairs as the rest; test pairs left out: {_left_out(table)}.")
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
                    f"| {method['id']} | {method['name']} | {entry['cell']} | {_rows(entry)} | {' | '.join(shown)} | {_gap(gap)} | "
                    f"{_range(gap['by_seed'], signed=True)} | {_range(conditions['true']['by_seed'])} |"
                )
    lines += ["", *_notes(table), *_markdown_spread(table), *_markdown_axes(table)]
    return "\n".join(line.replace("  ", " ") for line in lines) + "\n"


def _notes(table: Mapping[str, Any]) -> list[str]:
    """What a reader must know of single methods before comparing them."""
    lines = [
        "Test pairs that a method could not score (too long for it, a persona that it does not know, too few labelled pairs):"
    ]
    lines[0] += f" {_left_out(table) or 'none'}."
    if _unlike_rows(table):
        lines[0] += " †: fewer pairs than others scored; this figure is not to be set against those of other rows."
    for method in table["methods"]:
        if method["method"] not in BY_PERSONA_ID or not method["results"]:
            continue
        said = KNOWN_BY_ID[method["method"]]
        counted = [
            f"{name}: {found['rows_generic']} of {found['rows']} rows, {found['personas_generic']} of {found['personas']} personas"
            for name, found in (method["coverage"] or {}).items()
        ]
        lines += [
            "",
            f"{method['id']}, {method['name']}, knows personas by their id: {said}."
            + (f" Scored as the generic persona: {'; '.join(counted)}." if counted else ""),
        ]
    return lines


def _markdown_spread(table: Mapping[str, Any]) -> list[str]:
    lines = [
        "",
        "## The worst served",
        "",
        "Of the personas with enough rows: the accuracy of the worst one and of the tenth percentile, under the condition that the method "
        "was made for, beside its blind counterpart on the same rows. Per persona a blind method is not balanced on contrast pairs: it "
        "gives two mirrored personas the same text, so that it serves one and fails the other. Worst group: of those that share a value "
        f"of an attribute, with at least {table['minimum_rows']} rows, the one with the lowest mean over seeds, and what the blind "
        "counterpart gives the same group. The worst of many groups is low by chance too.",
        "",
        "| | method | pairs of | personas | worst | 10th percentile | blind: worst | blind: 10th percentile | worst group | pairs "
        "| accuracy | blind: same group |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for method in table["methods"]:
        for config in _configs(table):
            entry = _entry(method, config, "all")
            if entry is None:
                continue
            own, blind = entry["spread"] or {}, entry["blind_spread"] or {}
            shown = [_share(found.get(key)) for found in (own, blind) for key in ("worst_persona", "tenth_percentile")]
            group, same = own.get("worst_group"), blind.get("worst_group") or {}
            worst = (
                [f"{group['attribute']}: {group['value']}", str(group["rows"]), _share(group["accuracy"])]
                if group
                else ["-", "", "-"]
            )
            lines.append(
                f"| {method['id']} | {method['name']} | {config} | {own.get('personas', 0)} | {' | '.join(shown)} | {' | '.join(worst)} | "
                f"{_share(same.get('accuracy'))} |"
            )
    return lines


def _markdown_axes(table: Mapping[str, Any]) -> list[str]:
    titles = {
        "few_shot_pairs": "Labelled pairs shown in testing (k)",
        "persona_corruption": "Share of the stated attributes left out in testing",
    }
    lines: list[str] = []
    for key in AXES:
        methods = [m for m in table["methods"] if m["axes"].get(key) or m["no_points"].get(key)]
        if not methods:
            continue
        lines += [
            "",
            f"## {titles[key]}",
            "",
            "Every point of a method is of the same pairs: those that can be scored at all points shown, of those at any of them.",
        ]
        if key == "few_shot_pairs":
            lines += ["", "What k = 0 means:", ""]
            lines += [f"* {m['id']}, {m['name']}: {WITHOUT_PAIRS.get(m['method'], IN_CONTEXT)}." for m in methods]
        lines += [
            "",
            f"| | method | pairs of | personas | {key} | pairs | true | wrong | gap | gap by seed |",
            "|---|---|---|---|---|---|---|---|---|---|",
        ]
        for method in methods:
            head = f"| {method['id']} | {method['name']}"
            trained = (method["conditioning"] or {}).get(key)
            as_trained = "as trained" if trained is None else f"as trained ({trained:g})"
            shown_entries = [entry for entry in method["axes"][key] if entry["cell"] in AXIS_SHOWN]
            # A curve is read down the column: all points of a cell one below the other.
            for config, cell in dict.fromkeys(map(_place, shown_entries)):
                for entry in (entry for entry in shown_entries if _place(entry) == (config, cell)):
                    value = as_trained if entry["value"] is None else f"{entry['value']:g}"
                    conditions, gap = entry["conditions"], entry["gaps"]["wrong"]
                    shown = [f"{_share(conditions[n]['value'])} {_interval(conditions[n])}" for n in ("true", "wrong")]
                    lines.append(
                        f"{head} | {config} | {cell} | {value} | {entry['rows']} of {entry['asked']} | {' | '.join(shown)} | {_gap(gap)} | "
                        f"{_range(gap['by_seed'], signed=True)} |"
                    )
            for point in method["no_points"][key]:
                value = as_trained if point["value"] is None else f"{point['value']:g}"
                lines.append(
                    f"{head} | {point['config'] or ''} | | {value} | not available: {point['reason']} | | | | |"
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
            writer.writerow((*head, *[""] * 11, f"not run: {method['not_run']}", ""))
        points = [("", "", entry) for entry in method["results"]]
        points += [
            (key, "as trained" if entry["value"] is None else entry["value"], entry)
            for key, entries in method["axes"].items()
            for entry in entries
        ]
        for axis, value, entry in points:
            place = (axis, value, entry["config"], entry["cell"], entry["rows"], entry["asked"], entry["personas"])
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


def _rows(entry: Mapping[str, Any]) -> str:
    """Marked where another method has scored more: figures of unlike rows are not to be compared."""
    return f"{entry['rows']}{'†' if entry['rows'] < entry['asked'] else ''}"


def _unlike_rows(table: Mapping[str, Any]) -> bool:
    return any(entry["rows"] < entry["asked"] for method in table["methods"] for entry in method["results"])


def _left_out(table: Mapping[str, Any]) -> str:
    return ", ".join(f"{method['id']} {method['left_out']}" for method in table["methods"] if method["left_out"])


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
