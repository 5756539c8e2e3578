"""Values as Markdown: tables, numbers, shares. What comes from outside stays text: it ends no cell, opens no tag and makes no link."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def table(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A Markdown table, or nothing without rows. The cells are Markdown already: `cell`, `code` or `number` made them."""
    lines = ["| " + " | ".join(str(value) for value in row) + " |" for row in rows]
    if not lines:
        return ""
    return "\n".join(["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads), *lines])


def table_of(heads: tuple[str, str], values: Mapping[str, Any]) -> str:
    return table(heads, [(code(key), number(value)) for key, value in values.items()])


def cell(value: Any, empty: str = "") -> str:
    """One line of text without a meaning in Markdown or HTML."""
    text = " ".join((empty if value is None else str(value)).split())
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("[", "\\[").replace("]", "\\]")


def code(value: Any) -> str:
    """One line of text as code, where nothing but a backtick and a bar has a meaning."""
    return f"`{' '.join(str(value).split()).replace('`', chr(39)).replace('|', chr(92) + '|')}`"


def number(value: Any) -> str:
    """1234567 -> `1,234,567`, 0.123456 -> `0.123`, None -> `not measured`, lists joined, other values as text."""
    if value is None:
        return "not measured"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1_000 else f"{value:,.0f}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(number, value)) or "none"
    return cell(without_folder(str(value)))


def share(rate: float | None, interval: Sequence[float] | None) -> str:
    if rate is None:
        return "too few"
    return f"{100 * rate:.1f} %" + (f" ({100 * interval[0]:.1f} to {100 * interval[1]:.1f})" if interval else "")


def without_folder(text: str) -> str:
    """An absolute path shrinks to its last part: where a file lay is nobody's business."""
    return re.split(r"[/\\]", text)[-1] if re.match(r"(/|~|[A-Za-z]:[\\/]|file:|\\\\)", text) else text


def flat(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}"""
    found: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found
