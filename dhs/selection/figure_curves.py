"""Figures of completeness against Einstein radius, and of the score distributions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dhs.figures import DASH, SMALL, USUAL, bin_style, count_range, figure_with_heading
from dhs.selection.figure_style import (
    SOURCE_R,
    THETA_E,
    drawn_thresholds,
    grid_heading,
    require_injections,
)
from dhs.selection.grid_result import MAGNITUDE, GridResult, kind, label
from dhs.statistics.intervals import jeffreys_intervals
from dhs.statistics.thresholds import Threshold
from fastnorm.io import INSTALL_EXTRA

try:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
except ImportError as error:
    raise ImportError(f"figures need matplotlib and astropy: {INSTALL_EXTRA}") from error

SCORE_BINS = 60
NEGATIVES_STYLE: dict[str, Any] = {"facecolor": "0.85", "edgecolor": "0.45", "linewidth": 0.8}
THRESHOLD_LINES: tuple[Any, ...] = ("-", (0, (6, 2)), (0, (1, 1.5)))


def completeness_figure(grid: GridResult) -> Figure:
    """Draw completeness against theta_E, one line per bin of source magnitude.

    Cells are summed over PSF and depth. Error bars are 95 % Jeffreys intervals.

    Parameters
    ----------
    grid : GridResult

    Returns
    -------
    matplotlib.figure.Figure
        One panel per threshold, at most three, those set by a false-positive rate first.

    Raises
    ------
    ValueError
        No injection has a score.
    """
    require_injections(grid)
    thresholds = drawn_thresholds(grid.thresholds)
    tried, _ = grid.counts(thresholds[0], ("theta_e", MAGNITUDE))
    says = f"all PSFs and depths; bars: 95 % (Jeffreys); {count_range(tried)} injections per point"
    lines = grid_heading(grid, "Completeness of injected arcs", says)
    figure = figure_with_heading(
        (max(6.4, 0.6 + 3.3 * len(thresholds)), 4.1), lines, is_constrained=True
    )
    panels = figure.subplots(1, len(thresholds), sharey=True, squeeze=False)[0]
    for axes, threshold in zip(panels, thresholds, strict=True):
        tried, found = grid.counts(threshold, ("theta_e", MAGNITUDE))
        for k in range(len(grid.bins)):
            _draw_line(axes, grid, k, tried[:, k], found[:, k])
        axes.set_title(_title(threshold), size=USUAL)
        axes.set_xlabel(THETA_E, size=USUAL)
        axes.set_ylim(-0.03, 1.03)
        axes.grid(color="0.9")
        axes.tick_params(labelsize=SMALL)
    panels[0].set_ylabel("completeness", size=USUAL)
    _draw_legend(figure, panels[0])
    return figure


def score_figure(grid: GridResult) -> Figure:
    """Draw the distributions of the logits of non-lenses and of injections.

    Parameters
    ----------
    grid : GridResult
        Non-lenses are drawn if the folder has ``negatives.parquet``. Injections are read in
        batches.

    Returns
    -------
    matplotlib.figure.Figure
        One panel with a logarithmic vertical axis; every distribution has unit area.

    Raises
    ------
    ValueError
        No injection has a score.
    """
    require_injections(grid)
    negatives = grid.negatives()
    edges = _edges(grid, negatives)
    counts = np.zeros((len(grid.bins), SCORE_BINS), np.int64)
    for batch in grid.batches("source_r_mag", "logit"):
        logits = batch["logit"]
        is_scored = ~np.isnan(logits)
        bins = grid.bin_of(batch["source_r_mag"][is_scored])
        counts += np.histogram2d(bins, logits[is_scored], [np.arange(len(grid.bins) + 1), edges])[
            0
        ].astype(np.int64)
    lines = grid_heading(
        grid, "Scores of non-lenses and of injected arcs", "each distribution has an area of 1"
    )
    figure = figure_with_heading((7.2, 4.2), lines, is_constrained=True)
    axes = figure.subplots()
    if negatives is not None:
        density = _density(np.histogram(negatives, edges)[0], edges)
        name = f"{len(negatives):,} non-lenses"
        axes.stairs(density, edges, fill=True, label=name, **NEGATIVES_STYLE)
    for k, name in enumerate(grid.bins):
        style = bin_style(k)
        axes.stairs(
            _density(counts[k], edges),
            edges,
            label=f"{counts[k].sum():,} injections, $r$ {name.replace('-', DASH)}",
            color=style["color"],
            linestyle=style["linestyle"],
            linewidth=1.6,
        )
    for threshold, line in zip(drawn_thresholds(grid.thresholds), THRESHOLD_LINES, strict=False):
        axes.axvline(threshold.logit, color="black", linestyle=line, label=kind(threshold))
    axes.set_yscale("log")
    axes.set_xlabel("logit of the score", size=USUAL)
    axes.set_ylabel("fraction per unit of logit", size=USUAL)
    axes.tick_params(labelsize=SMALL, which="both")
    _draw_legend(figure, axes, columns=2, title=None)
    return figure


def _title(threshold: Threshold) -> str:
    if threshold.fpr_low is None or threshold.fpr_high is None:
        return label(threshold)
    low, high = f"{threshold.fpr_low:.2g}", f"{threshold.fpr_high:.2g}"
    return f"{label(threshold)}\nactual FPR: {low} to {high} (95 %)"


def _draw_line(
    axes: Axes, grid: GridResult, k: int, tried: NDArray[np.int64], found: NDArray[np.int64]
) -> None:
    radii = grid.centres["theta_e"]
    # Shift the bins sideways so that their error bars do not overlap.
    step = float(np.diff(radii).min()) if len(radii) > 1 else 1.0
    place = radii + 0.07 * step * (k - (len(grid.bins) - 1) / 2)
    has = tried > 0
    share = found[has] / tried[has]
    low, high = jeffreys_intervals(found[has], tried[has], 0.95)
    axes.errorbar(
        place[has],
        share,
        (share - low, high - share),
        label=grid.bins[k].replace("-", DASH),
        markersize=4,
        capsize=2,
        linewidth=1.3,
        elinewidth=1.0,
        **bin_style(k),
    )


def _draw_legend(
    figure: Figure, axes: Axes, columns: int | None = None, title: str | None = SOURCE_R
) -> None:
    handles, names = axes.get_legend_handles_labels()
    figure.legend(
        handles,
        names,
        loc="outside lower center",
        ncols=columns or len(names),
        fontsize=USUAL,
        frameon=False,
        handlelength=3.2,
        title=title,
        title_fontsize=USUAL,
    )


def _edges(grid: GridResult, negatives: NDArray[np.float32] | None) -> NDArray[np.float64]:
    """Return histogram edges that cover every logit."""
    low, high = np.inf, -np.inf
    if negatives is not None:
        low, high = float(negatives.min()), float(negatives.max())
    for batch in grid.batches("logit"):
        low = float(np.fmin.reduce(batch["logit"], initial=low))
        high = float(np.fmax.reduce(batch["logit"], initial=high))
    margin = max(0.02 * (high - low), 0.5)
    return np.linspace(low - margin, high + margin, SCORE_BINS + 1)


def _density(counts: NDArray[np.int64], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    total = counts.sum() * (edges[1] - edges[0])
    return counts / total if total else counts.astype(np.float64)
