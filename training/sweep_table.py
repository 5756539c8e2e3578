"""One table of a sweep: methods x cells x conditions, with intervals, beside what they must be read with.

A share is the mean over seeds of each row's outcome (won 1, tied 1/2, lost 0), and its interval comes from drawing personas anew, on
contrast pairs both of a pair: so it says how far other personas could move it. How far another seed moves it stands beside it, seed by
seed, since three seeds are too few for an interval of their own.
"""

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
from training.record import RECORD_FILE
from training.results import read_margins
from training.sweep_recipe import AXES, GROUPS_FILE, Cell, Method, Sweep, all_cells, model_folder, result_file
from training.sweep_table_text import as_csv, as_markdown, as_text

Row = Mapping[str, Any]
Scored = tuple[list[Row], dict[str, np.ndarray]]  # rows, and condition -> outcomes of shape (seeds, rows)
# Seen and unseen apart: some methods keep what they learned of seen personas at every point of an axis.
AXIS_CELLS = ("unseen", "seen", *CELLS)


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
    record = model_folder(folder, done[0]) / RECORD_FILE
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
