"""Styles and elements that all figures share."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnorm.io import INSTALL_EXTRA
from fastnorm.pictures import save_picture

try:
    from matplotlib import colormaps
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Colormap, Normalize
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
except ImportError as error:
    raise ImportError(f"figures need matplotlib and astropy: {INSTALL_EXTRA}") from error

# The colours of Okabe and Ito, dark ones first. Markers and lines tell bins apart without colour.
BIN_STYLES: tuple[dict[str, Any], ...] = (
    {"color": "#0072B2", "marker": "o", "linestyle": "-"},
    {"color": "#D55E00", "marker": "s", "linestyle": (0, (5, 1.5))},
    {"color": "#009E73", "marker": "^", "linestyle": (0, (3, 1, 1, 1))},
    {"color": "#CC79A7", "marker": "D", "linestyle": (0, (1, 1))},
    {"color": "#E69F00", "marker": "v", "linestyle": (0, (8, 2))},
    {"color": "#56B4E9", "marker": "P", "linestyle": (0, (5, 1, 1, 1, 1, 1))},
    {"color": "#000000", "marker": "X", "linestyle": (0, (2, 2))},
)


SMALL, USUAL, LARGE = 8.0, 9.0, 12.0
MINUS, DASH = "\N{MINUS SIGN}", "\N{EN DASH}"
# Inches.
EDGE, LINE, TITLE_LINE = 0.12, 0.17, 0.24
LETTER, TITLE_LETTER = 0.068, 0.105
# Numbers beyond these are easier to read as powers of ten.
SMALLEST_PLAIN, LARGEST_PLAIN, MOST_PLAIN_DECADES = 5e-5, 2e5, 4.3


def bin_style(position: int) -> dict[str, Any]:
    """Return the colour, marker and line style of the magnitude bin at this position."""
    return BIN_STYLES[position % len(BIN_STYLES)]


def short_count(count: int) -> str:
    """Format a count in at most five characters."""
    if count < 10_000:
        return f"{count}"
    return f"{count / 1e3:.0f}k" if count < 999_500 else f"{count / 1e6:.3g}M"


def count_range(counts: NDArray[np.int64]) -> str:
    """Format the smallest and the largest of the counts that are not 0."""
    low, high = counts[counts > 0].min(), counts.max()
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def figure_with_heading(
    size: tuple[float, float], lines: Sequence[str], *, is_constrained: bool = False
) -> Figure:
    """Make a figure with lines of text above the drawing area, the first line large.

    Parameters
    ----------
    size : (float, float)
        Width and height of the drawing area below the heading, inches.
    lines : sequence of str
        Lines of the heading. Long lines are wrapped.
    is_constrained : bool
        Whether matplotlib lays out the axes within ``size``. Otherwise they stay where the
        caller puts them.

    Returns
    -------
    matplotlib.figure.Figure
    """
    width = size[0]
    title = textwrap.wrap(lines[0], int((width - 2 * EDGE) / TITLE_LETTER))
    below = [
        part for line in lines[1:] for part in textwrap.wrap(line, int((width - 2 * EDGE) / LETTER))
    ]
    height = size[1] + 2 * EDGE + TITLE_LINE * len(title) + LINE * len(below)
    figure = Figure(figsize=(width, height))
    if is_constrained:
        figure.set_layout_engine(
            "constrained", rect=(0, 0, 1, size[1] / height), w_pad=0.06, h_pad=0.06
        )
    large: dict[str, Any] = {"size": LARGE, "weight": "bold"}
    styles = [large] * len(title) + [{"size": USUAL}] * len(below)
    place = height - EDGE
    for text, style in zip(title + below, styles, strict=True):
        figure.text(EDGE / width, place / height, text, va="top", parse_math=False, **style)
        place -= TITLE_LINE if style is large else LINE
    return figure


def add_axes(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Add axes at a position given in inches.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    left, bottom : float
        Position of the lower left corner, inches.
    width, height : float
        Size of the axes, inches.

    Returns
    -------
    matplotlib.axes.Axes
    """
    across, up = figure.get_size_inches()
    return figure.add_axes((left / across, bottom / up, width / across, height / up))


def draw_map(
    axes: Axes,
    values: NDArray[np.float64],
    texts: NDArray[Any],
    colours: ScalarMappable,
    *,
    rows: Sequence[str],
    columns: Sequence[str],
) -> None:
    """Draw a table of coloured cells with a text in each, and hatch NaN cells in grey.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    values : (R, C) float64
        Values that set the colours. The first row is at the bottom.
    texts : (R, C) array of str
        Text of each cell.
    colours : matplotlib.cm.ScalarMappable
        Colour map from `colours_of`.
    rows, columns : sequence of str
        Tick labels.
    """
    across, up = (np.arange(count + 1) - 0.5 for count in (values.shape[1], values.shape[0]))
    low, high = colours.get_clim()
    style: dict[str, Any] = {"cmap": colours.cmap, "edgecolor": "white", "linewidth": 0.8}
    axes.pcolormesh(across, up, values, vmin=low, vmax=high, **style)
    shades = colours.to_rgba(np.nan_to_num(values))
    for (row, column), value in np.ndenumerate(values):
        if np.isnan(value):
            empty: dict[str, Any] = {"facecolor": "0.9", "edgecolor": "0.6", "hatch": "////"}
            corner = (column - 0.5, row - 0.5)
            axes.add_patch(Rectangle(corner, 1, 1, linewidth=0, **empty))
            continue
        axes.text(
            column,
            row,
            str(texts[row, column]),
            size=SMALL,
            ha="center",
            va="center",
            color=_readable_on(shades[row, column]),
            linespacing=1.05,
        )
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.tick_params(labelsize=SMALL, length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def colours_of(name: str, low: float, high: float) -> ScalarMappable:
    """Return a colour map with limits.

    Parameters
    ----------
    name : str
        Name of a matplotlib colour map.
    low, high : float
        Values at the ends of the colour map.

    Returns
    -------
    matplotlib.cm.ScalarMappable
    """
    chosen: Colormap = colormaps[name]
    return ScalarMappable(Normalize(low, high), chosen)


def _readable_on(shade: NDArray[np.float64]) -> str:
    """Return black or white, whichever has more contrast (WCAG 2.1, relative luminance)."""
    linear = np.where(shade[:3] <= 0.04045, shade[:3] / 12.92, ((shade[:3] + 0.055) / 1.055) ** 2.4)
    luminance = float(linear @ [0.2126, 0.7152, 0.0722])
    return "black" if (luminance + 0.05) ** 2 > 1.05 * 0.05 else "white"


def plain_log_ticks(axis: Axis) -> None:
    """Label a logarithmic axis of at most four decades with plain numbers; leave longer ones.

    Call it after the data are drawn and the limits are set.
    """
    low, high = sorted(axis.get_view_interval())
    decades = np.log10(high / low)
    if decades > MOST_PLAIN_DECADES or not SMALLEST_PLAIN <= low < high <= LARGEST_PLAIN:
        return
    if decades < 1:
        axis.set_major_locator(MaxNLocator(5))
    else:
        steps = (1, 2, 5) if decades <= 2 else (1,)
        axis.set_major_locator(LogLocator(subs=steps, numticks=20))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def save(figure: Figure, path: Path, progress: Callable[[int, int], None] | None = None) -> None:
    """Write a figure as PNG, PDF or SVG, as the suffix says, atomically.

    Parameters
    ----------
    figure : Figure
        Figure to write.
    path : Path
        File to write.
    progress : function, optional
        Called with the number of axes drawn so far and in total.
    """
    save_picture(figure, path, progress=progress)
