"""A sweep's table in words: for the terminal, as Markdown with all cells, and as CSV."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from training.conditioning import CONDITIONS
from training.kinds import BY_PERSONA_ID
from training.sweep_recipe import AXES

NAME_WIDTH = 27
# Of an axis; the CSV has all cells. Apart, because some methods keep what they learned of seen personas at every point.
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
