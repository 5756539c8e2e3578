"""Figures as words, the same in every table that a command prints. What is not known is a dash, never 0."""

from collections.abc import Mapping
from typing import Any

from training.estimates import Estimate

NOTHING = "-"


def plain_number(value: float | None, digits: int = 2, scale: float = 1.0) -> str:
    return NOTHING if value is None else f"{scale * value:z.{digits}f}"


def percent(share: float | None, digits: int = 1) -> str:
    return NOTHING if share is None else f"{100 * share:z.{digits}f} %"


def number_with_interval(estimate: Estimate | Mapping[str, Any]) -> str:
    """As `0.42 [0.30 0.55]`; without a value the reason, without an interval the value alone."""
    value, low, high, withheld = _parts(estimate)
    if value is None:
        return str(withheld)
    return (
        plain_number(value)
        if low is None or high is None
        else f"{plain_number(value)} [{plain_number(low)} {plain_number(high)}]"
    )


def percent_with_interval(estimate: Estimate | Mapping[str, Any]) -> str:
    """As `42 % [30 55]`; without a value the reason, without an interval the value alone."""
    value, low, high, withheld = _parts(estimate)
    if value is None:
        return str(withheld)
    interval = "" if low is None or high is None else f" [{plain_number(low, 0, 100)} {plain_number(high, 0, 100)}]"
    return percent(value, 0) + interval


def _parts(estimate: Estimate | Mapping[str, Any]) -> tuple[float | None, float | None, float | None, str | None]:
    """The estimate itself, or as it stands in a result."""
    if isinstance(estimate, Estimate):
        return estimate.value, estimate.low, estimate.high, estimate.withheld
    return estimate["value"], estimate["low"], estimate["high"], estimate["withheld"]
