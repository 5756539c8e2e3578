"""The figures of the report, each as one SVG data address: bars, lines, histograms, matrices, distributions, estimates.

Drawn with the Agg backend's object interface, so no global state of matplotlib is touched. Every figure is narrow and its letters
large enough to be read on a phone. The same data draw the same bytes.
"""

import base64
import io
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from builder.randomness import rng_for
from training.estimates import Estimate

INK, SOFT, GRID = "#1d2733", "#8b95a1", "#d9dee4"
FIRST, SECOND = "#2a5d84", "#d08a3c"
COLOURS = (FIRST, SECOND, "#5b7f3b", "#8a4f7d", "#3f8f8a", "#a3473b", "#6f6f6f", "#b59a2b")
WIDTH = 4.8  # inches
LETTERS = 10.5  # points
LABEL_CHARACTERS = 34
AXIS_CHARACTERS = 52
NUMBERED_COLUMNS = 8  # a matrix with more columns has no room for numbers in its cells
MOST_DOTS = 60  # of one distribution; more are drawn as a sample, the box holds all


def bar_figure(counts: Mapping[str, Sequence[float]], names: Sequence[str], axis: str) -> str:
    """Horizontal bars, one per series and label, in the given order from the top. counts: label -> a value for each of `names`."""
    width = 0.76 / len(names)
    figure, axes = _new_figure(height=0.9 + max(0.3, 0.17 * len(names)) * len(counts))
    labels = list(counts)
    places = range(len(labels))
    for series, name in enumerate(names):
        axes.barh(
            [place + (series - (len(names) - 1) / 2) * width for place in places],
            [counts[label][series] for label in labels],
            height=width * 0.95,
            color=COLOURS[series % len(COLOURS)],
            label=_text(name),
        )
    axes.set_yticks(list(places), [_text(label) for label in labels])
    axes.invert_yaxis()
    axes.set_xlabel(_text(axis, AXIS_CHARACTERS))
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    if all(float(value).is_integer() for row in counts.values() for value in row):
        axes.xaxis.get_major_locator().set_params(integer=True)
    if len(names) > 1:
        _legend(figure, len(names))
    return _as_data_address(figure)


def line_figure(
    series: Mapping[str, Sequence[tuple[float, float]]], x_axis: str, y_axis: str, reference: float | None = None
) -> str:
    """One line per series of (x, y), with a dashed line at `reference`: what a model that has learned nothing would show."""
    figure, axes = _new_figure(height=2.9 + 0.2 * ((len(series) + 1) // 2))
    for number, (name, points) in enumerate(series.items()):
        axes.plot(
            [x for x, _ in points],
            [y for _, y in points],
            color=COLOURS[number % len(COLOURS)],
            linestyle=("-", "--", ":")[number // len(COLOURS) % 3],
            linewidth=1.8,
            marker="o" if len(points) <= 20 else None,
            markersize=4,
            label=_text(name),
        )
    if reference is not None:
        axes.axhline(reference, color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
    axes.set_xlabel(_text(x_axis))
    axes.set_ylabel(_text(y_axis))
    axes.grid(color=GRID, linewidth=0.8)
    if series:
        _legend(figure, len(series))
    return _as_data_address(figure)


def histogram_figure(values: Mapping[str, Sequence[float]], bins: Sequence[float], axis: str) -> str:
    """One histogram per name, one below the other on the same scale: the share of its values in each bin.

    bins: the edges, rising. Values outside count in the outer bins; NaN counts nowhere.
    """
    from matplotlib.ticker import PercentFormatter

    edges = [float(edge) for edge in bins]
    figure, rows = _new_rows(len(values), height=0.6 + 1.15 * len(values))
    shares = {name: _histogram_shares(of, edges) for name, of in values.items()}
    highest = max((share for of in shares.values() for share in of), default=0.0) or 1.0
    for number, (axes, (name, of)) in enumerate(zip(rows, shares.items(), strict=True)):
        axes.bar(
            edges[:-1], of, width=np.diff(edges), align="edge", color=COLOURS[number % len(COLOURS)], edgecolor="white"
        )
        axes.set_title(
            f"{_text(name, AXIS_CHARACTERS)} (n = {len(_numbers(values[name]))})",
            loc="left",
            fontsize=LETTERS,
            color=INK,
        )
        axes.set_ylim(0, highest * 1.05)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.grid(axis="y", color=GRID, linewidth=0.8)
        axes.tick_params(labelbottom=number == len(values) - 1)
    rows[-1].set_xlabel(_text(axis, AXIS_CHARACTERS))
    return _as_data_address(figure)


def heatmap_figure(
    matrix: Sequence[Sequence[float | None]],
    row_labels: Sequence[str],
    column_labels: Sequence[str],
    axis: str,
    blank: Collection[tuple[int, int]] = (),
) -> str:
    """A matrix with a colour scale. matrix: rows of numbers; None and NaN are drawn as empty cells. axis: what the numbers are.

    The colours go from -1 to 1, and zero is white. blank: (row, column) of cells that are no part of the figure, as one triangle of a
    symmetric matrix: left white, whatever the matrix has there.
    """
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.patches import Rectangle

    numbers = np.array([[math.nan if cell is None else float(cell) for cell in row] for row in matrix], dtype=float)
    numbers = numbers.reshape(len(row_labels), len(column_labels))
    columns = [_text(label, 22) for label in column_labels]
    upright = max((len(label) for label in columns), default=0) <= 3
    figure, axes = _new_figure(
        height=1.0
        + min(0.42, max(0.26, 5.0 / max(1, len(row_labels)))) * max(2, len(row_labels))
        + (0 if upright else 0.075 * max(map(len, columns)))
    )
    colours = LinearSegmentedColormap.from_list("matrix", [SECOND, "#ffffff", FIRST])
    # Empty cells let the ground through.
    axes.add_patch(Rectangle((-0.5, -0.5), len(columns), len(row_labels), facecolor="#eef0f2", zorder=0))
    for row, column in blank:
        numbers[row, column] = math.nan
        axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor="white", linewidth=0, zorder=0.5))
    image = axes.imshow(np.ma.masked_invalid(numbers), cmap=colours, vmin=-1.0, vmax=1.0, aspect="auto")
    axes.set_xticks(
        range(len(columns)),
        columns,
        rotation=0 if upright else 40 if len(columns) <= NUMBERED_COLUMNS else 90,
        ha="center" if upright else "right",
        va="center" if len(columns) > NUMBERED_COLUMNS and not upright else "top",
        rotation_mode="anchor",
    )
    axes.set_yticks(range(len(row_labels)), [_text(label, 24) for label in row_labels])
    if len(columns) <= NUMBERED_COLUMNS:
        for row, column in np.ndindex(numbers.shape):
            if (row, column) in blank:
                continue
            value = numbers[row, column]
            axes.text(
                column,
                row,
                "–" if math.isnan(value) else f"{value + 0.0:.2f}".replace("-0.00", "0.00").replace("-", "−"),
                ha="center",
                va="center",
                # Seven columns beside long row labels are narrower than −0.12 in the usual letters.
                fontsize=LETTERS - (1 if len(columns) < 7 else 3),
                color="white" if abs(value) > 0.6 else INK,
            )
    for side in axes.spines.values():
        side.set_visible(False)
    bar = figure.colorbar(image, ax=axes, orientation="horizontal", fraction=0.05, pad=0.03, aspect=30)
    bar.set_ticks(np.linspace(-1.0, 1.0, 5))
    bar.set_label(_text(axis, AXIS_CHARACTERS), color=INK, fontsize=LETTERS)
    bar.ax.tick_params(colors=INK, labelsize=LETTERS - 1, length=0)
    bar.outline.set_visible(False)
    return _as_data_address(figure)


def distribution_figure(values: Mapping[str, Sequence[float]], axis: str, reference: float | None = None) -> str:
    """How the values of each label are distributed: a dot each, and a box from the lower to the upper quartile with the median.

    reference: a dashed line, as the mean of all or what nothing would show. NaN is left out; a label without values keeps its place.
    """
    figure, axes = _new_figure(height=0.9 + 0.3 * len(values))
    if reference is not None:
        axes.axvline(reference, color=INK, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
    for place, (label, of) in enumerate(values.items()):
        numbers = _numbers(of)
        if not len(numbers):
            continue
        rng = rng_for(0, "report/dots", label)
        dots = numbers if len(numbers) <= MOST_DOTS else rng.choice(numbers, MOST_DOTS, replace=False)
        axes.scatter(
            dots, place + rng.uniform(-0.26, 0.26, len(dots)), s=7, color=FIRST, alpha=0.35, linewidth=0, zorder=2
        )
        lower, median, upper = np.percentile(numbers, (25, 50, 75))
        axes.barh(place, upper - lower, left=lower, height=0.56, color="none", edgecolor=INK, linewidth=0.9, zorder=3)
        axes.plot([median, median], [place - 0.28, place + 0.28], color=SECOND, linewidth=2.4, zorder=4)
    axes.set_yticks(range(len(values)), [_text(label) for label in values])
    axes.set_ylim(len(values) - 0.4, -0.6)
    axes.set_xlabel(_text(axis, AXIS_CHARACTERS))
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    return _as_data_address(figure)


def points_figure(estimates: Mapping[str, Estimate], axis: str, reference: float | None = None) -> str:
    """A point with its 95 % interval for each label, from the top. Shares and differences are drawn in %, as the tables give them.

    reference: a dashed line, as chance (0.5) or no difference (0). What is withheld stands as a word instead of a point.
    """
    figure, axes = _new_figure(height=0.9 + 0.3 * len(estimates))
    if reference is not None:
        axes.axvline(100 * reference, color=INK, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
    withheld = []
    for place, estimate in enumerate(estimates.values()):
        if estimate.value is None:
            withheld.append((place, f"withheld: {estimate.withheld}"))
            continue
        if estimate.low is not None and estimate.high is not None:
            axes.plot(
                [100 * estimate.low, 100 * estimate.high],
                [place] * 2,
                color="#9dbbd1",
                linewidth=5,
                solid_capstyle="butt",
                zorder=2,
            )
        axes.plot([100 * estimate.value], [place], "o", color=FIRST, markersize=6, zorder=3)
    if len(withheld) == len(estimates):
        axes.set_xlim(0, 100)
    for place, words in withheld:
        axes.text(
            0.02,
            place,
            _text(words),
            transform=axes.get_yaxis_transform(),
            va="center",
            fontsize=LETTERS - 1,
            color=SOFT,
        )
    axes.set_yticks(range(len(estimates)), [_text(label) for label in estimates])
    axes.set_ylim(len(estimates) - 0.4, -0.6)
    axes.set_xlabel(_text(axis, AXIS_CHARACTERS))
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    return _as_data_address(figure)


def pipeline_figure(steps: Sequence[tuple[str, Sequence[str]]]) -> str:
    """Boxes from the top with arrows between them. steps: (title, lines below it), as `Persona` and `12 drawn`."""
    from matplotlib.patches import FancyBboxPatch

    heights = [0.34 + 0.2 * len(lines) for _, lines in steps]
    gap = 0.26
    total = sum(heights) + gap * (len(steps) - 1) + 0.1
    figure, axes = _new_figure(height=total)
    axes.set_axis_off()
    axes.set_xlim(0, WIDTH)
    axes.set_ylim(-total, 0)
    top = -0.05
    for number, ((title, lines), height) in enumerate(zip(steps, heights, strict=True)):
        box = FancyBboxPatch((0.15, top - height), WIDTH - 0.3, height, boxstyle="round,pad=0,rounding_size=0.06")
        box.set(facecolor="#f5f7f9", edgecolor=SOFT, linewidth=0.9)
        axes.add_patch(box)
        axes.text(0.3, top - 0.17, _text(title, 60), va="center", fontsize=LETTERS, color=INK, fontweight="bold")
        for line, words in enumerate(lines):
            axes.text(0.3, top - 0.4 - 0.2 * line, _text(words, 64), va="center", fontsize=LETTERS - 1.5, color=INK)
        if number < len(steps) - 1:
            axes.annotate(
                "",
                (WIDTH / 2, top - height - gap + 0.02),
                (WIDTH / 2, top - height - 0.02),
                arrowprops={"arrowstyle": "-|>", "color": FIRST, "linewidth": 1.4, "shrinkA": 0, "shrinkB": 0},
            )
        top -= height + gap
    return _as_data_address(figure)


def _numbers(values: Sequence[float]) -> np.ndarray:
    numbers = np.array([math.nan if value is None else value for value in values], dtype=float)
    return numbers[~np.isnan(numbers)]


def _histogram_shares(values: Sequence[float], edges: Sequence[float]) -> list[float]:
    numbers = np.clip(_numbers(values), edges[0], edges[-1])
    counts, _ = np.histogram(numbers, edges)
    return [float(count) / max(1, len(numbers)) for count in counts]


def _legend(figure: Any, entries: int) -> None:
    figure.legend(frameon=False, loc="outside upper left", ncols=min(2, entries), fontsize=LETTERS - 1)


def _new_figure(height: float) -> tuple[Any, Any]:
    figure, rows = _new_rows(1, height)
    return figure, rows[0]


def _new_rows(count: int, height: float) -> tuple[Any, list[Any]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    FigureCanvasAgg(figure)
    rows = [figure.add_subplot(max(1, count), 1, number + 1) for number in range(max(1, count))]
    for axes in rows[1:]:
        axes.sharex(rows[0])
    for axes in rows:
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        for side in ("left", "bottom"):
            axes.spines[side].set_color(SOFT)
        axes.tick_params(colors=INK, labelsize=LETTERS, length=0)
        for label in (axes.xaxis.label, axes.yaxis.label):
            label.set_color(INK)
            label.set_fontsize(LETTERS)
        axes.set_axisbelow(True)
    return figure, rows


def _as_data_address(figure: Any) -> str:
    import matplotlib

    buffer = io.BytesIO()
    # A fixed salt and no date: the same data draw the same bytes.
    with matplotlib.rc_context({"svg.hashsalt": "persona"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _text(label: str, characters: int = LABEL_CHARACTERS) -> str:
    """Cut where it is long, with `$` as a letter: a persona's income is no formula."""
    short = label if len(label) <= characters else label[: characters - 1].rstrip() + "…"
    return short.replace("$", r"\$")
