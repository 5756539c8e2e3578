"""The checks of the audit as plain text."""

from collections.abc import Sequence
from typing import Any


def audit_table(checks: Sequence[dict[str, Any]]) -> str:
    """One line per check: name, value, interval, band, number of rows, verdict and what was measured."""
    width = max([len("check"), *(len(check["name"]) for check in checks)])
    lines = [f"{'check':<{width}}{'value':>8}  {'95 % interval':<18}{'band':<14}{'n':>9}  verdict"]
    for check in checks:
        value, low, high, band = check["value"], check["low"], check["high"], check["band"]
        shown = "-" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:.3f}"
        interval = "" if low is None else f"[{low:.3f}, {high:.3f}]"
        allowed = "" if band is None else f"[{band[0]:.2f}, {band[1]:.2f}]"
        lines.append(
            f"{check['name']:<{width}}{shown:>8}  {interval:<18}{allowed:<14}{check['n']:>9,}  {check['verdict']} ({check['note']})"
        )
    return "\n".join(lines)
