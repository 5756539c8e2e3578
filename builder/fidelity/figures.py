"""Figure 2 of the paper beside its Figure 13: histograms of the personas and of the census, attribute by attribute, as one picture."""

import io
from pathlib import Path
from typing import Any

from builder.fidelity.table import counted_with, initial_capital, shown_as
from builder.files import write_bytes

INK, SOFT, PERSONAS, CENSUS, CHANCE = "#1d2733", "#55606d", "#2a5d84", "#ffffff", "#b3541e"
COLUMNS = 3
LABEL_CHARACTERS = 36


def figures(result: dict[str, Any], folder: Path) -> Path:
    """Write `population.png` into `folder`; its path. The same result gives the same bytes on the same matplotlib."""
    path = folder / "population.png"
    write_bytes(path, population_figure(result))
    return path


def population_figure(result: dict[str, Any]) -> bytes:
    """One panel an attribute: the personas' bars on the left, the census' on the right, on one scale."""
    import matplotlib.style
    from matplotlib.figure import Figure

    entries = sorted(result["attributes"], key=lambda entry: -len(entry["bins"]))
    rows = [entries[start : start + COLUMNS] for start in range(0, len(entries), COLUMNS)]
    heights = [0.21 * len(row[0]["bins"]) + 0.75 for row in rows]
    # `default` undoes a user's own settings; Figure instead of pyplot leaves no global state and needs no display.
    with matplotlib.style.context("default"):
        figure = Figure(figsize=(16, sum(heights) + 1.1), dpi=110, layout="constrained")
        first = "Personas" if result["kind"] == "build" else initial_capital(shown_as(result["what"]))
        title = f"{first} (left, n = {result['what']['people']:,}) beside {counted_with(result)} (right)"
        figure.suptitle(
            f"{title}\nLines over the bars: where 95 % of simulated draws lie", fontsize=12, color=INK, parse_math=False
        )
        grid = figure.subfigures(len(rows), COLUMNS, height_ratios=heights, squeeze=False)
        for row, panels in zip(rows, grid, strict=True):
            for entry, panel in zip(row, panels, strict=False):
                draw_attribute(panel, entry, first)
        picture = io.BytesIO()
        # Without this the file names the version of matplotlib.
        figure.savefig(picture, format="png", metadata={"Software": None})
    return picture.getvalue()


def draw_attribute(panel: Any, entry: dict[str, Any], first: str) -> None:
    left, right = panel.subplots(1, 2, sharey=True)
    bins = entry["bins"]
    places = range(len(bins))
    top = 1.08 * max(max(bin["share"], bin["census"], bin["high"]) for bin in bins)
    left.barh(places, [bin["share"] for bin in bins], color=PERSONAS, height=0.72)
    right.barh(places, [bin["census"] for bin in bins], color=CENSUS, edgecolor=INK, hatch="////", height=0.72)
    for position, bin in zip(places, bins, strict=True):
        left.plot(
            [bin["low"], bin["high"]], [position, position], color=CHANCE, linewidth=1.6, marker="|", markersize=5
        )
    left.set_yticks(places, [short(bin["label"]) for bin in bins], parse_math=False)
    left.invert_yaxis()
    outside = "" if entry["within"] else ", outside the 99th percentile"
    title = f"{entry['label']}: TV {entry['tv']:.3f}, noise {entry['noise']:.3f}{outside}"
    panel.suptitle(title, fontsize=9.5, color=INK, x=0.02, ha="left", parse_math=False)
    for axis, name in ((left, first), (right, "Census")):
        axis.set_xlim(0, top)
        axis.xaxis.set_major_locator(fewer_ticks())
        axis.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f}%")
        axis.set_title(short(name), fontsize=8, color=SOFT, parse_math=False)
        axis.tick_params(labelsize=8, length=0, colors=INK)
        axis.grid(axis="x", color="#d9dee4", linewidth=0.7)
        axis.set_axisbelow(True)
        for side in ("top", "right", "bottom"):
            axis.spines[side].set_visible(False)
        axis.spines["left"].set_color("#8b95a1")
    right.tick_params(labelleft=False)


def fewer_ticks() -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=3)


def short(label: str) -> str:
    return label if len(label) <= LABEL_CHARACTERS else label[: LABEL_CHARACTERS - 1].rstrip() + "…"
