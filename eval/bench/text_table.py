"""A result as plain text for the terminal, at most 110 columns wide."""

from collections.abc import Mapping
from typing import Any

from eval.printing import percent
from eval.results import Result

SHOWN_GROUPS = 15
SCRIPTED = "*scripted*"


def printed(result: Result) -> str:
    """The model and its judges, then a line for each mode (or k, group, subset) with its controls."""
    evaluation, subject = result.settings["evaluation"], result.subject or {}
    lines = [""]
    for facts in result.judges:
        marks = [SCRIPTED] if facts["scripted"] or subject.get("provider") == "scripted" else []
        marks += [f"its model also {part}" for part in facts["also"]]
        how = "chooses as" if evaluation == "comparison" else "judged by"
        lines.append(_cut(f"{evaluation}: {subject.get('name')}, {how} {facts['label']}"))
        if marks:
            lines.append(_cut(f"  ({'; '.join(marks)})"))
        content = result.content["judges"][facts["label"]]
        lines += _TABLES[evaluation](content)
    unscored = ", ".join(f"{count} {reason}" for reason, count in result.rows["unscored"].items())
    lines.append(_cut(f"{result.rows['scored']} rows scored; unscored: {unscored or 'none'}"))
    return "\n".join(lines)


def _main(content: Mapping[str, Any]) -> list[str]:
    lines = [_line("mode", "pass (true)", "baseline", "wrong", "gap true - wrong")]
    for mode, figures in content["modes"].items():
        lines.append(_estimates(mode, figures["pass"], mode == "baseline"))
        if figures["score"] is not None:
            lines.append(_estimates("  mean score", figures["score"], mode == "baseline"))
    return [*lines, *(f"  {name}: {_signed(estimate)}" for name, estimate in content["between_modes"].items())]


def _pass_at_k(content: Mapping[str, Any]) -> list[str]:
    lines = [_line("mode, k", "pass (true)", "baseline", "wrong", "gap true - wrong")]
    for mode, figures in content["modes"].items():
        lines += [_estimates(f"{mode}, {k}", estimates, mode == "baseline") for k, estimates in figures["k"].items()]
    return lines


def _intersectionality(content: Mapping[str, Any]) -> list[str]:
    lines = []
    for mode, figures in content["modes"].items():
        lines.append(
            f"{mode}: {figures['tested']} groups of {figures['minimum_rows']} rows or more, {figures['too_small']} too small"
        )
        lines.append(
            f"{'group':54}{'n':>5} {'pass':>7} {'others':>8} {'q':>6} {'wrong: pass':>12} {'others':>8} {'q':>6}"
        )
        for group in figures["groups"][:SHOWN_GROUPS]:
            true, wrong = group["true"], group["wrong"]
            lines.append(
                f"{group['name'][:53]:54}{true['pass']['n']:>5} {_pass_rate(true['pass']):>7} {_difference(true):>8} "
                f"{_q(true):>6} {_pass_rate(wrong['pass']):>12} {_difference(wrong):>8} {_q(wrong):>6}"
            )
    return lines


def _comparison(content: Mapping[str, Any]) -> list[str]:
    lines = [_line("subset", "own (true)", "no persona", "wrong", "gap true - wrong")]
    subsets = {
        "all": content["accuracy"],
        **content["cells"],
        "flips": content["flips"],
        "orders agree": content["orders_agree"],
    }
    return lines + [_estimates(name, figures) for name, figures in subsets.items() if figures is not None]


_TABLES = {
    "main": _main,
    "pass_at_k": _pass_at_k,
    "intersectionality": _intersectionality,
    "comparison": _comparison,
}


def _estimates(name: str, figures: Mapping[str, Any], only_none: bool = False) -> str:
    """The baseline has no persona, so neither a wrong one nor a gap."""
    if only_none:
        return _line(name, "", _pass_rate(figures["none"]), "", "")
    return _line(
        name,
        _pass_rate(figures["true"]),
        _pass_rate(figures["none"]),
        _pass_rate(figures["wrong"]),
        _signed(figures["gap"]),
    )


def _line(name: str, *cells: str) -> str:
    true, none, wrong, gap = cells
    return f"{name[:33]:34}{true:>14}{none:>14}{wrong:>14}  {gap}".rstrip()


def _pass_rate(estimate: Mapping[str, Any]) -> str:
    value = estimate["value"]
    return f"({estimate['withheld']})"[:13] if value is None else percent(value)


def _signed(estimate: Mapping[str, Any]) -> str:
    if estimate["value"] is None:
        return f"({estimate['withheld']})"[:32]
    low, high = estimate["low"], estimate["high"]
    interval = f" ({100 * low:+.1f} to {100 * high:+.1f})" if low is not None and high is not None else ""
    return f"{100 * estimate['value']:+.1f}{interval}"


def _difference(tested: Mapping[str, Any]) -> str:
    return "–" if tested["difference"] is None else f"{100 * tested['difference']:+.1f}"


def _q(tested: Mapping[str, Any]) -> str:
    return "–" if tested["q"] is None else f"{tested['q']:.3f}"


def _cut(line: str) -> str:
    return line if len(line) <= 110 else line[:109] + "…"
