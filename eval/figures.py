"""The figures of the report, each as one SVG data address: what a topic or an attribute holds, and how a training went.

Drawn with the Agg backend's object interface, so no global state of matplotlib is touched.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

INK, FIRST, SECOND, GRID = "#1d2733", "#2a5d84", "#d08a3c", "#d9dee4"
LABEL_CHARACTERS = 44


def bar_figure(counts: Mapping[str, tuple[float, float]], names: tuple[str, str], axis: str) -> str:
    """Horizontal bars, two series per label, in the given order from the top. `counts`: label -> (first, second)."""
    figure, axes = _new_figure(height=1.0 + 0.36 * len(counts))
    labels = list(counts)
    places = range(len(labels))
    for series, (offset, colour) in enumerate(((-0.19, FIRST), (0.19, SECOND))):
        axes.barh(
            [place + offset for place in places],
            [counts[label][series] for label in labels],
            height=0.36,
            color=colour,
            label=names[series],
        )
    axes.set_yticks(list(places), [_short(label) for label in labels], parse_math=False)
    axes.invert_yaxis()
    axes.set_xlabel(axis)
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    if all(float(value).is_integer() for pair in counts.values() for value in pair):
        axes.xaxis.get_major_locator().set_params(integer=True)
    figure.legend(frameon=False, loc="outside upper left", ncols=2, fontsize=9)
    return _as_data_address(figure)


def line_figure(series: Mapping[str, Sequence[tuple[float, float]]], x_axis: str, y_axis: str, reference: float) -> str:
    """One line per series of (x, y), with a dashed line at `reference`: what a model that has learned nothing would
    show.
    """
    figure, axes = _new_figure(height=2.6)
    for (name, points), colour in zip(series.items(), (FIRST, SECOND, "#5b7f3b", "#8a4f7d"), strict=False):
        axes.plot([x for x, _ in points], [y for _, y in points], color=colour, linewidth=1.8, label=_short(name))
    axes.axhline(reference, color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
    axes.set_xlabel(x_axis)
    axes.set_ylabel(y_axis)
    axes.grid(color=GRID, linewidth=0.8)
    axes.legend(frameon=False, fontsize=9)
    return _as_data_address(figure)


def _new_figure(height: float) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.4, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#8b95a1")
    axes.tick_params(colors=INK, labelsize=9, length=0)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    axes.set_axisbelow(True)
    return figure, axes


def _as_data_address(figure: Any) -> str:
    import matplotlib

    buffer = io.BytesIO()
    # A fixed salt and no date: the same data draw the same bytes.
    with matplotlib.rc_context({"svg.hashsalt": "persona"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _short(label: str) -> str:
    return label if len(label) <= LABEL_CHARACTERS else label[: LABEL_CHARACTERS - 1].rstrip() + "…"
