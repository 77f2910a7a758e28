"""Figure of the completeness of two models side by side, and of their difference."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dhs.figures import (
    DASH,
    MINUS,
    SMALL,
    USUAL,
    add_axes,
    colours_of,
    count_range,
    draw_map,
    figure_with_heading,
)
from dhs.selection.comparison import Comparison
from dhs.selection.figure_style import MOST_THRESHOLDS, SOURCE_R
from dhs.selection.grid_result import ALL_MAGNITUDES, MAGNITUDE
from dhs.selection.intervals import HOSTS, HOSTS_AND_NEGATIVES
from dhs.selection.matching import CommonThreshold
from dhs.selection.paired import POOLED, SIGNIFICANT, difference_text, p_text
from dhs.selection.seeing import assumed_text, pooled_text
from dhs.statistics.clusters import FEWEST_CLUSTERS
from fastnorm.io import INSTALL_EXTRA

try:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle
except ImportError as error:
    raise ImportError(f"figures need matplotlib and astropy: {INSTALL_EXTRA}") from error

LEAST_LIMIT = 0.05

# Inches.
CELL_WIDTH, CELL_HEIGHT, NARROWEST = 0.56, 0.26, 1.9
LEFT, BETWEEN, BAR, BAR_WIDTH, RIGHT = 0.62, 0.2, 0.12, 0.13, 0.72
ABOVE, BELOW = 0.58, 0.5


def comparison_figure(comparison: Comparison) -> Figure:
    """Draw completeness maps of both models, and of the second minus the first.

    Parameters
    ----------
    comparison : Comparison

    Returns
    -------
    matplotlib.figure.Figure
        One row per threshold, at most three: three maps of theta_E against source magnitude and
        two colour bars. Cells that differ are outlined and marked with a star; the p-values are
        simultaneous over the cells of a threshold.
    """
    grid = comparison.first
    drawn = sorted(comparison.thresholds, key=lambda common: common.first.fpr_target is None)
    drawn = drawn[:MOST_THRESHOLDS]
    across = max(NARROWEST, CELL_WIDTH * len(grid.bins))
    up = CELL_HEIGHT * len(grid.centres["theta_e"])
    second = LEFT + across + BETWEEN
    third = second + across + BAR + BAR_WIDTH + RIGHT
    width = third + across + BAR + BAR_WIDTH + RIGHT
    height = len(drawn) * (ABOVE + up + BELOW)
    figure = figure_with_heading((width, height), _heading(comparison))
    limit = _limit([_cells(comparison, common) for common in drawn])
    colours = {"share": colours_of("cividis", 0, 1), "change": colours_of("PuOr", -limit, limit)}
    for row, common in enumerate(drawn):
        bottom = height - (row + 1) * (ABOVE + up + BELOW) + BELOW
        place = (LEFT / width, (bottom + up + ABOVE - 0.22) / figure.get_figheight())
        figure.text(*place, _overall(comparison, common), size=USUAL, weight="bold")
        maps = [add_axes(figure, left, bottom, across, up) for left in (LEFT, second, third)]
        _draw_maps(maps, comparison, common, colours)
        for left, name, says in (
            (second, "share", "completeness"),
            (third, "change", f"B {MINUS} A"),
        ):
            bar = add_axes(figure, left + across + BAR, bottom, BAR_WIDTH, up)
            figure.colorbar(colours[name], cax=bar).set_label(says, size=SMALL)
            bar.tick_params(labelsize=SMALL)
    return figure


def _draw_maps(
    maps: list[Axes],
    comparison: Comparison,
    common: CommonThreshold,
    colours: dict[str, ScalarMappable],
) -> None:
    grid, rows = comparison.first, _cells(comparison, common)
    columns = [name.replace("-", DASH) for name in grid.bins]
    radii = [f"{radius:g}" for radius in grid.centres["theta_e"]]
    change, is_significant = (_by_cell(rows, grid.bins, n) for n in ("difference", "significant"))
    values = [_by_cell(rows, grid.bins, f"completeness_{name}") for name in ("first", "second")]
    texts = [np.vectorize("{:.2f}".format)(table).astype(object) for table in values]
    values.append(change)
    texts.append(np.vectorize(_change)(change).astype(object) + np.where(is_significant, "*", ""))
    titles = [
        f"A (score > {common.first.threshold:.4g})",
        f"B (score > {common.second.threshold:.4g})",
        f"B {MINUS} A",
    ]
    shades = ("share", "share", "change")
    for k, (axes, title) in enumerate(zip(maps, titles, strict=True)):
        ticks = radii if k == 0 else [""] * len(radii)
        draw_map(axes, values[k], texts[k], colours[shades[k]], rows=ticks, columns=columns)
        axes.set_title(title, size=USUAL)
        axes.set_xlabel(SOURCE_R, size=SMALL)
    maps[0].set_ylabel(r"$\theta_\mathrm{E}$ (arcsec)", size=SMALL)
    for row, column in np.argwhere(is_significant):
        corner = (column - 0.46, row - 0.44)
        maps[2].add_patch(Rectangle(corner, 0.92, 0.88, fill=False, linewidth=1.3, zorder=3))


def _heading(comparison: Comparison) -> list[str]:
    first, second = comparison.first, comparison.second
    title = "Completeness of two models"
    preprocessing = [] if first.spec != second.spec else [f"both: {first.spec}"]
    if first.spec.annulus != second.spec.annulus:
        radii = [str(g.spec.annulus) for g in (first, second)]
        title = f"Across annuli: A {radii[0]} px, B {radii[1]} px"
    others = [line for line in comparison.differences() if not line.startswith("annulus_")]
    if others:
        preprocessing = [f"different preprocessing: {'; '.join(others)}"]
    pairs = _cells(comparison, comparison.thresholds[0])["n_injections"].to_numpy()
    lost = f", excluding {comparison.left_out:,} that failed" if comparison.left_out else ""
    return [
        title,
        f"A: {first.model}; {first.annulus}",
        f"B: {second.model}; {second.annulus}",
        *preprocessing,
        f"hosts: {first.metadata['data_origin']}; the same {comparison.injections:,} injections"
        f"{lost}; {count_range(pairs)} per cell; {pooled_text(first.assumed)}",
        *([assumed_text(first.assumed)] if first.assumed else []),
        f"outlined, with a star: p < {SIGNIFICANT}, simultaneous over the cells of a threshold",
        *_untested(comparison),
        f"intervals and p: {_resampled(comparison)}",
        *(
            f"{name}: the intervals of its own table are of the old kind; those shown are not"
            for name, grid in (("A", first), ("B", second))
            if grid.warning
        ),
    ]


def _untested(comparison: Comparison) -> list[str]:
    """Say how many of the drawn cells have too few hosts for a test, if there are any."""
    cells = _cells(comparison, comparison.thresholds[0])
    count = ((cells["n_injections"] > 0) & (cells["n_hosts"] < FEWEST_CLUSTERS)).sum()
    return [f"not tested: {count} cells with fewer than {FEWEST_CLUSTERS} hosts"] if count else []


def _overall(comparison: Comparison, common: CommonThreshold) -> str:
    found = comparison.overall(common)
    return (
        f"{common}, all cells: A {found['completeness_first']:.3f}, "
        f"B {found['completeness_second']:.3f}; B {MINUS} A {difference_text(found)}, "
        f"p {p_text(found['p_value'])}"
    )


def _resampled(comparison: Comparison) -> str:
    """Name what is resampled for the intervals of the drawn thresholds."""
    kinds = {comparison.overall(common)["interval"] for common in comparison.thresholds}
    says = f"{comparison.resamples:,} resamples of hosts"
    if HOSTS_AND_NEGATIVES not in kinds:
        return f"{says}; thresholds are given scores"
    others = "; given scores stay" if HOSTS in kinds else ""
    return f"{says} and of non-lenses, which set both thresholds again{others}"


def _cells(comparison: Comparison, common: CommonThreshold) -> pd.DataFrame:
    """Return the table rows of the drawn cells at one threshold."""
    rows = comparison.rows(POOLED, common)
    return rows[rows[MAGNITUDE] != ALL_MAGNITUDES]


def _by_cell(rows: pd.DataFrame, bins: list[str], name: str) -> NDArray[Any]:
    """Arrange a column of the table by Einstein radius and magnitude bin."""
    table: NDArray[Any] = rows.pivot(index="theta_e", columns=MAGNITUDE, values=name)[
        bins
    ].to_numpy()
    return table


def _change(value: float) -> str:
    """Format a difference with two decimals; zero has no sign."""
    text = f"{value:+.2f}".replace("-", MINUS)
    return text if float(f"{value:.2f}") else "0.00"


def _limit(tables: list[pd.DataFrame]) -> float:
    """Return the largest drawn difference, rounded up to a multiple of 0.05."""
    largest = [float(table["difference"].abs().max()) for table in tables]
    return max(LEAST_LIMIT, math.ceil(round(max(largest) / LEAST_LIMIT, 6)) * LEAST_LIMIT)
