"""The fidelity report as files: fidelity.json and one page that needs no network, fidelity.html."""

from pathlib import Path
from typing import Any

from builder.fidelity.table import DRIFT_TITLES, counted_with, initial_capital, shown_as
from builder.files import write_json, write_text

TEMPLATE = Path(__file__).with_name("page.html")
# The map of pairs, in units of its view box.
CELL, LABELS_WIDTH = 22, 190
# White, and ever darker in equal steps of excess: legible without colour too.
SHADES = ("#ffffff", "#dfe8ef", "#b7cedf", "#86abc8", "#4f80a6", "#24506f")
SHADE_STEP = 0.01


def write_fidelity(result: dict[str, Any], folder: Path) -> Path:
    """Write `fidelity.json` and `fidelity.html` into `folder`; the path of the page. The same result gives the same bytes."""
    page = folder / "fidelity.html"
    write_json(folder / "fidelity.json", result)
    write_text(page, render(result))
    return page


def render(result: dict[str, Any]) -> str:
    from jinja2 import Environment, StrictUndefined

    # Names of files and words of a language model are filled in: all of it is escaped.
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {
        "share": share,
        "signed": signed,
        "percent": percent,
        "verdict": verdict,
        "place": place,
        "longest": longest,
    }
    titles = {entry["attribute"]: entry["label"] for entry in result["attributes"]}
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        result=result,
        first_name="personas" if result["kind"] == "build" else shown_as(result["what"]),
        who="adults" if result["adults_only"] else "persons",
        heading=result["what"]["name"] if result["kind"] == "build" else initial_capital(shown_as(result["what"])),
        lead=lead(result),
        verdict=verdict_text(result),
        noise_text=noise_text(result),
        direct=[entry for entry in result["attributes"] if entry["sampled"] == "directly"],
        donors=[entry for entry in result["attributes"] if entry["sampled"] != "directly"],
        titles=titles,
        map=pair_map(result, titles) if result["pairs"] else None,
        drift_titles=DRIFT_TITLES,
        provenance=provenance(result),
    )


# --- sentences


def lead(result: dict[str, Any]) -> str:
    what, who = result["what"], "adults" if result["adults_only"] else "persons"
    first = (
        f"{what['people']:,} personas" if result["kind"] == "build" else f"{what['people']:,} {who} of {shown_as(what)}"
    )
    return f"{first} beside {counted_with(result)}."


def verdict_text(result: dict[str, Any]) -> str:
    joint, pairs = result["joint"], result["pairs"]
    text = f"{joint['within']} of {joint['attributes']} directly sampled attributes lie within the 99th percentile of what chance gives"
    if joint["largest_excess"] is not None:
        text += f"; the largest excess of an attribute over noise is {signed(joint['largest_excess'])}"
    return text + (f", the mean excess over all pairs {signed(pairs['mean']['excess'])}." if pairs else ".")


def noise_text(result: dict[str, Any]) -> str:
    what, census = result["what"], result["census"]
    if result["kind"] == "build":
        kind = "weighted draws without replacement" if census["drawn_from"] else "weighted draws with replacement"
        text = f"Noise: the mean distance of {result['draws']:,} simulated {kind} of {what['people']:,} records from the census."
        return text if census["drawn_from"] else f"{text} The personas themselves were drawn from {what['source']}."
    return (
        f"Noise: the mean distance of {result['draws']:,} samples of {what['effective_size']:,} from the census table; the 99th "
        f"percentile is that of two samples, of {what['effective_size']:,} and {census['effective_size']:,}."
    )


def provenance(result: dict[str, Any]) -> dict[str, str]:
    what, census = result["what"], result["census"]
    facts = {
        "census table": census["source"],
        "survey year": str(census["survey_year"]),
        "SHA-256 of the census table": census["sha256"],
        "who is compared": "adults (18 and older)" if result["adults_only"] else "everybody",
        "people": f"{what['people']:,} beside {census['people']:,}",
        "simulated draws": f"{result['draws']:,}",
        "seed": str(result["seed"]),
        "income": "in dollars of the survey year"
        + (", rounded to two digits on both sides" if result["income_rounded"] else ""),
    }
    if result["kind"] == "build":
        return facts | {
            "enrichment": what["enrichment"],
            "personas drawn from": f"{what['source']} ({what['survey_year']})",
            "recipe fingerprint": what["fingerprint"] or "not recorded",
        }
    facts |= {"compared with it": f"{what['source']} ({what['survey_year']})", "its SHA-256": what["sha256"]}
    if result["states_left_out"]:
        facts["left out, in one table only"] = ", ".join(result["states_left_out"])
    return facts


# --- the map of pairs


def pair_map(result: dict[str, Any], titles: dict[str, str]) -> dict[str, Any]:
    """Places and shades of the lower triangle, one cell a pair."""
    names = list(dict.fromkeys(name for pair in result["pairs"]["every"] for name in pair["attributes"]))
    labels = [
        {
            "text": f"{titles[name]} {row + 1}",
            "number": row + 1,
            "x": LABELS_WIDTH - 6,
            "y": row * CELL + 16,
            "column": LABELS_WIDTH + row * CELL + 4,
        }
        for row, name in enumerate(names)
    ]
    cells = []
    for pair in result["pairs"]["every"]:
        column, row = sorted(names.index(name) for name in pair["attributes"])
        shade = min(max(0, int(pair["excess"] / SHADE_STEP + 1)) if pair["excess"] > 0 else 0, len(SHADES) - 1)
        cells.append(
            {
                "x": LABELS_WIDTH + column * CELL,
                "y": row * CELL,
                "fill": SHADES[shade],
                "ink": "#ffffff" if shade > 3 else "#1d2733",
                "outside": not pair["within"],
                "title": f"{titles[names[row]]} × {titles[names[column]]}: TV {share(pair['tv'])}, noise {share(pair['noise'])}, "
                f"{'within' if pair['within'] else 'outside'}",
            }
        )
    steps = ["none", *(f"to {SHADE_STEP * step:.2f}" for step in range(1, len(SHADES) - 1)), "more"]
    legend = [
        {"x": LABELS_WIDTH + 50 * step, "width": 46, "fill": SHADES[step], "text": text}
        for step, text in enumerate(steps)
    ]
    return {
        "labels": labels,
        "cells": cells,
        "legend": legend,
        "side": CELL,
        "width": max(LABELS_WIDTH + len(names) * CELL + 10, LABELS_WIDTH + 50 * len(SHADES)),
        "height": len(names) * CELL + 34,
        "outside": sum(cell["outside"] for cell in cells),
        "top": SHADE_STEP * (len(SHADES) - 2),
    }


# --- how values are written


def share(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}".replace("-", "−")


def signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.3f}".replace("-", "−")


def percent(value: float) -> str:
    return f"{100 * value:.1f}"


def verdict(within: bool | None) -> Any:
    from markupsafe import Markup

    return "–" if within is None else "yes" if within else Markup('<b class="no">no</b>')


def longest(entry: dict[str, Any]) -> float:
    return max(max(bin["share"], bin["census"], bin["high"]) for bin in entry["bins"])


def place(value: float, longest: float) -> str:
    """A share on a scale of 100 units."""
    return f"{100 * value / longest:.2f}"
