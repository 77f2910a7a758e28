"""Maps of completeness: Einstein radius against source magnitude, depth and PSF width."""

from __future__ import annotations

import numpy as np

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
from dhs.selection.figure_style import SOURCE_R, THETA_E, grid_heading, require_injections
from dhs.selection.grid_result import MAGNITUDE, GridResult, label
from dhs.statistics.thresholds import Threshold
from fastnorm.io import INSTALL_EXTRA

try:
    from matplotlib.figure import Figure
except ImportError as error:
    raise ImportError(f"figures need matplotlib and astropy: {INSTALL_EXTRA}") from error

PANELS = {
    MAGNITUDE: f"{SOURCE_R}; all PSFs and depths",
    "depth_5sig": r"$5\sigma$ depth in $r$ (AB mag); all PSFs and magnitudes",
    "psf_fwhm": "FWHM of the PSF in $r$ (arcsec); all depths and magnitudes",
}

# Inches.
CELL_WIDTH, CELL_HEIGHT = 0.56, 0.34
LEFT, RIGHT, ABOVE, BELOW, LOWEST = 0.6, 0.95, 0.26, 0.26, 0.2
NARROWEST = 6.4


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
    )
    figure = figure_with_heading((width, height), lines)
    colours = colours_of("cividis", 0, 1)
    top = height
    for axis, title in PANELS.items():
        tried, found = (counts.T for counts in grid.counts(threshold, ("theta_e", axis)))
        with np.errstate(invalid="ignore"):
            share = found / tried
        texts = np.empty(share.shape, object)
        for place, value in np.ndenumerate(share):
            texts[place] = f"{value:.2f}\n{short_count(tried[place])}"
        up = CELL_HEIGHT * len(share)
        axes = add_axes(figure, LEFT, top - ABOVE - up, across, up)
        draw_map(axes, share, texts, colours, rows=labels[axis], columns=labels["theta_e"])
        axes.set_title(title, size=USUAL, loc="left")
        top -= ABOVE + up + BELOW
    axes.set_xlabel(THETA_E, size=USUAL)
    bar = add_axes(figure, width - RIGHT + 0.15, top + BELOW, 0.14, height - top - ABOVE - BELOW)
    figure.colorbar(colours, cax=bar).set_label("completeness", size=USUAL)
    bar.tick_params(labelsize=SMALL)
    return figure
