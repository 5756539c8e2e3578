"""The page's templates, and how figures are written in them."""

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eval.metrics import FEW_CLUSTERS
from eval.web.drawing import new_environment
from training.estimates import Estimate

TEMPLATES = Path(__file__).with_name("templates")


def render(context: Mapping[str, Any]) -> str:
    environment = new_report_environment()
    style, script = (read(name) for name in ("page.css", "samples.js"))
    return environment.get_template("page.html").render(
        {"style": style, "script": script, "script_hash": content_hash(script), "few_clusters": FEW_CLUSTERS, **context}
    )


def new_report_environment(*folders: Path) -> Any:
    """A Jinja environment of the report's templates, behind those of `folders`, with what they write figures by."""
    environment = new_environment(*folders, TEMPLATES)
    environment.filters |= {
        "percent": percent,
        "number": number,
        "strip": strip_places,
        "plain": plain,
        "first_sentence": first_sentence,
    }
    environment.tests["estimate"] = lambda value: isinstance(value, Estimate)
    return environment


def read(name: str) -> Any:
    """A part of the page that is ours and holds no data: it is put in as it is."""
    from markupsafe import Markup

    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))


def content_hash(script: str) -> str:
    """As a browser wants it: the page lets this one script run and no other."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")


def percent(share: float | None, digits: int = 1, signed: bool = False) -> str:
    """0.712 -> `71.2`, with a true minus sign."""
    if share is None:
        return "–"
    text = f"{100 * share:{'+' if signed else ''}.{digits}f}"
    return text.lstrip("+-") if float(text) == 0 else text.replace("-", "−")


def plain(value: float | None, signed: bool = False) -> str:
    """0.712 -> `0.71`."""
    if value is None:
        return "–"
    text = f"{value:{'+' if signed else ''}.2f}"
    return text.lstrip("+-") if float(text) == 0 else text.replace("-", "−")


def first_sentence(text: str) -> str:
    """What stands on something that is drawn shut."""
    return text.split(". ")[0].rstrip(".") + "."


def number(value: Any) -> str:
    """A figure as a reader wants it: thousands apart, at most four significant digits behind the point."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "–"}[value]
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return (f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}").replace("-", "−")
    return str(value)


def strip_places(estimate: Estimate, signed: bool = False) -> dict[str, float]:
    """Where value and interval stand on a strip of width 100; a difference has its zero in the middle."""

    def place(value: float) -> float:
        return round(min(100.0, max(0.0, 50 + 50 * value if signed else 100 * value)), 1)

    assert estimate.value is not None
    low = estimate.value if estimate.low is None else estimate.low
    high = estimate.value if estimate.high is None else estimate.high
    return {"value": place(estimate.value), "low": place(low), "width": round(place(high) - place(low), 1)}
