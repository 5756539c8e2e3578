"""Figures of the card and of the report, as PNG bytes. The same counts give the same bytes: no date, no version, no
user settings.
"""

import io
from collections.abc import Mapping
from typing import Any

BAR_COLOUR = "#33658a"
BAR_HEIGHT = 0.26  # inches of figure height per bar
LABEL_LENGTH = 44
COLUMNS = 2


def topic_figure(topics: Mapping[str, int]) -> bytes:
    """Questions per topic, most frequent at the top."""
    ordered = dict(sorted(topics.items(), key=lambda item: (-item[1], item[0])))
    return _drawn({"Questions by topic": ordered}, columns=1, width=7.0)


def persona_figure(histograms: Mapping[str, Mapping[str, int]]) -> bytes:
    """One panel per attribute, {attribute: {value: personas}}; values in the order given (ages and levels have one of
    their own).
    """
    return _drawn({name.replace("_", " "): counts for name, counts in histograms.items()}, columns=COLUMNS, width=11.0)


def _drawn(panels: Mapping[str, Mapping[str, int]], columns: int, width: float) -> bytes:
    """Horizontal bars, one panel per entry, filled row by row. Panels without a bar say so."""
    import matplotlib.style
    from matplotlib.figure import Figure

    panels = panels or {"": {}}
    columns = min(columns, len(panels))
    names = list(panels)
    rows = [names[start : start + columns] for start in range(0, len(names), columns)]
    heights = [max(max(len(panels[name]) for name in row), 2) for row in rows]
    # `default` undoes a user's own settings; Figure instead of pyplot leaves no global state and needs no display.
    with matplotlib.style.context("default"):
        figure = Figure(figsize=(width, BAR_HEIGHT * sum(heights) + 0.7 * len(rows)), dpi=120, layout="constrained")
        axes = figure.subplots(len(rows), columns, squeeze=False, gridspec_kw={"height_ratios": heights})
        for row, cells in zip(rows, axes, strict=True):
            most = max(len(panels[name]) for name in row)
            for name, axis in zip(row, cells, strict=False):
                _bars(axis, name, panels[name], most)
            for axis in cells[len(row) :]:
                axis.axis("off")
        picture = io.BytesIO()
        # Without this the file names the version of matplotlib.
        figure.savefig(picture, format="png", metadata={"Software": None})
    return picture.getvalue()


def _bars(axis: Any, title: str, counts: Mapping[str, int], slots: int) -> None:
    """`slots`: bars of the longest panel in the row, so that all its bars are equally thick."""
    # parse_math off: a label such as "$50k to $90k" is no formula.
    axis.set_title(title, fontsize=10, loc="left", parse_math=False)
    if not counts:
        axis.axis("off")
        axis.text(0, 0.5, "no data", fontsize=9)
        return
    positions = range(len(counts))
    bars = axis.barh(positions, list(counts.values()), color=BAR_COLOUR)
    axis.bar_label(bars, [f"{number:,}" for number in counts.values()], fontsize=8, padding=2)
    axis.set_yticks(positions)
    axis.set_yticklabels([_short(str(label)) for label in counts], fontsize=8, parse_math=False)
    axis.margins(x=0.12)
    axis.set_ylim(max(slots, 2) - 0.5, -0.5)  # the first at the top
    axis.set_xticks([])
    axis.spines[["top", "right", "bottom"]].set_visible(False)


def _short(label: str) -> str:
    return label if len(label) <= LABEL_LENGTH else label[: LABEL_LENGTH - 1].rstrip() + "…"
