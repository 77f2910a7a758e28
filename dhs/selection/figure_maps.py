"""Maps of completeness: Einstein radius against source magnitude, depth and PSF width."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dhs.figures import (
    DASH,
    SMALL,
    USUAL,
    add_axes,
    colours_of,
    draw_map,
    figure_with_heading,
    short_count,
)
from dhs.selection.figure_style import (
    SOURCE_R,
    THETA_E,
    floor_line,
    grid_heading,
    require_injections,
)
from dhs.selection.folder import SELECTION
from dhs.selection.grid_result import MAGNITUDE, GridResult, label
from dhs.selection.seeing import POOLED, pooled_text
from dhs.statistics.clusters import WARNED_CLUSTERS
from dhs.statistics.thresholds import Threshold
from fastnorm.io import INSTALL_EXTRA

try:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle
except ImportError as error:
    raise ImportError(f"figures need matplotlib and astropy: {INSTALL_EXTRA}") from error

PANELS = {
    MAGNITUDE: SOURCE_R,
    "depth_5sig": r"$5\sigma$ depth in $r$ (AB mag), cell centre",
    "psf_fwhm": "FWHM of the PSF in $r$ (arcsec), cell centre",
}

# Inches.
CELL_WIDTH, CELL_HEIGHT = 0.56, 0.34
LEFT, RIGHT, ABOVE, BELOW, LOWEST = 0.6, 0.95, 0.26, 0.26, 0.2
NARROWEST = 6.4
BRIGHT_FIRST = (MAGNITUDE, "depth_5sig")
"""Axes of magnitudes, which start with the bright ones at the top."""


def map_figure(grid: GridResult, threshold: Threshold) -> Figure:
    """Draw maps of completeness at one threshold, with the counts in the cells.

    Parameters
    ----------
    grid : GridResult
    threshold : Threshold
        One of ``grid.thresholds``.

    Returns
    -------
    matplotlib.figure.Figure
        Three stacked panels with a common axis of Einstein radii, and a colour bar. Each panel
        sums over the grid axes that it does not show.

    Raises
    ------
    ValueError
        No injection has a score.
    """
    require_injections(grid)
    labels = {
        MAGNITUDE: [name.replace("-", DASH) for name in grid.bins],
        **{axis: [f"{centre:g}" for centre in centres] for axis, centres in grid.centres.items()},
    }
    columns = len(labels["theta_e"])
    width = max(NARROWEST, LEFT + CELL_WIDTH * columns + RIGHT)
    across = width - LEFT - RIGHT
    height = sum(ABOVE + BELOW + CELL_HEIGHT * len(labels[axis]) for axis in PANELS) + LOWEST
    lines = grid_heading(
        grid,
        f"Completeness at {label(threshold)}",
        "in each cell: completeness, and below it the number of injections; hatched: no hosts",
        f"dashed outline: fewer than {WARNED_CLUSTERS} hosts; intervals: {SELECTION}.csv",
        *filter(None, [floor_line(grid, threshold)]),
    )
    figure = figure_with_heading((width, height), lines)
    colours = colours_of("cividis", 0, 1)
    top = height
    for axis, title in PANELS.items():
        found = grid.completeness(threshold, ("theta_e", axis))
        tried, share = found.tried.T, found.share.T
        texts = np.empty(share.shape, object)
        for place, value in np.ndenumerate(share):
            texts[place] = f"{value:.2f}\n{short_count(int(tried[place]))}"
        up = CELL_HEIGHT * len(share)
        axes = add_axes(figure, LEFT, top - ABOVE - up, across, up)
        draw_map(axes, share, texts, colours, rows=labels[axis], columns=labels["theta_e"])
        _outline(axes, (found.is_few & (found.tried > 0)).T)
        if axis in BRIGHT_FIRST:
            axes.invert_yaxis()
        axes.set_title(f"{title}; {_summed(grid, axis)}", size=USUAL, loc="left")
        top -= ABOVE + up + BELOW
    axes.set_xlabel(THETA_E, size=USUAL)
    bar = add_axes(figure, width - RIGHT + 0.15, top + BELOW, 0.14, height - top - ABOVE - BELOW)
    figure.colorbar(colours, cax=bar).set_label("completeness", size=USUAL)
    bar.tick_params(labelsize=SMALL)
    return figure


def _summed(grid: GridResult, shown: str) -> str:
    """Say over which axes a panel sums."""
    magnitudes = [] if shown == MAGNITUDE else ["magnitudes"]
    return pooled_text(grid.assumed, *magnitudes, axes=[axis for axis in POOLED if axis != shown])


def _outline(axes: Axes, few: NDArray[np.bool_]) -> None:
    """Outline the cells with few hosts, in a colour that shows on any background."""
    for row, column in np.argwhere(few).tolist():
        corner = (column - 0.46, row - 0.44)
        for colour, style in (("white", "-"), ("black", (0, (3, 3)))):
            outline: dict[str, Any] = {"edgecolor": colour, "linestyle": style, "linewidth": 1.1}
            axes.add_patch(Rectangle(corner, 0.92, 0.88, fill=False, **outline))
