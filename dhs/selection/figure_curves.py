"""Figures of completeness against Einstein radius, and of the score distributions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dhs.figures import (
    DASH,
    SMALL,
    USUAL,
    bin_style,
    count_range,
    figure_with_heading,
    plain_log_ticks,
)
from dhs.selection.figure_style import (
    SOURCE_R,
    THETA_E,
    drawn_thresholds,
    floor_line,
    grid_heading,
    require_injections,
)
from dhs.selection.grid_result import MAGNITUDE, GridResult, kind, label
from dhs.selection.host_sums import Completeness
from dhs.selection.intervals import COMPUTED_AGAIN, HOSTS_AND_NEGATIVES, TOO_FEW
from dhs.selection.seeing import pooled_text
from dhs.statistics.clusters import FEWEST_CLUSTERS, WARNED_CLUSTERS
from dhs.statistics.threshold_scatter import FEW_FALSE_POSITIVES
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

    Cells are summed over PSF and depth. Error bars are 95 % intervals with hosts as the sampling
    unit, and include the scatter of a threshold that a false-positive rate sets. Points of fewer
    than 30 hosts are open; those of fewer than 10 have no error bar.

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
    found = [grid.completeness(threshold, ("theta_e", MAGNITUDE)) for threshold in thresholds]
    says = (
        f"{pooled_text(grid.assumed)}; {count_range(found[0].tried)} injections into "
        f"{count_range(found[0].hosts)} hosts per point"
    )
    again = [COMPUTED_AGAIN] if grid.warning else []
    floors = [floor_line(grid, threshold) for threshold in thresholds]
    lines = grid_heading(
        grid, "Completeness of injected arcs", *again, says, _bars(found), *filter(None, floors)
    )
    figure = figure_with_heading(
        (max(6.4, 0.6 + 3.3 * len(thresholds)), 4.1), lines, is_constrained=True
    )
    panels = figure.subplots(1, len(thresholds), sharey=True, squeeze=False)[0]
    for axes, threshold, measured in zip(panels, thresholds, found, strict=True):
        for k in range(len(grid.bins)):
            _draw_line(axes, grid, k, measured)
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
    plain_log_ticks(axes.yaxis)
    axes.set_xlabel("logit of the score", size=USUAL)
    axes.set_ylabel("fraction per unit of logit", size=USUAL)
    axes.tick_params(labelsize=SMALL, which="both")
    _draw_legend(figure, axes, columns=2, title=None)
    return figure


def _title(threshold: Threshold) -> str:
    if threshold.fpr_low is None or threshold.fpr_high is None:
        return label(threshold)
    low, high = f"{threshold.fpr_low:.2g}", f"{threshold.fpr_high:.2g}"
    title = f"{label(threshold)}\nactual FPR: {low} to {high} (95 %)"
    count, expected = threshold.false_positives, threshold.expected_fpr
    if expected is None or count is None or count >= FEW_FALSE_POSITIVES:
        return title
    return f"{title}\n{count} false positives, expected FPR: {expected:.3g}"


def _bars(found: list[Completeness]) -> str:
    """Return a line on what the error bars and markers mean."""
    says = "bars: 95 %, hosts are the sampling unit"
    if any(measured.interval == HOSTS_AND_NEGATIVES for measured in found):
        says += "; at a false-positive rate, the scatter of the threshold is included"
    hosts = found[0].hosts[found[0].tried > 0]
    if (hosts < WARNED_CLUSTERS).any():
        says += f"; open: fewer than {WARNED_CLUSTERS} hosts"
    if (hosts < FEWEST_CLUSTERS).any():
        says += f"; without a bar: {TOO_FEW} hosts (below {FEWEST_CLUSTERS})"
    return says


def _draw_line(axes: Axes, grid: GridResult, k: int, measured: Completeness) -> None:
    radii = grid.centres["theta_e"]
    # Shift the bins sideways so that their error bars do not overlap.
    step = float(np.diff(radii).min()) if len(radii) > 1 else 1.0
    place = radii + 0.07 * step * (k - (len(grid.bins) - 1) / 2)
    has = measured.tried[:, k] > 0
    share, low, high = (values[has, k] for values in (measured.share, measured.low, measured.high))
    few = measured.is_few[has, k]
    style = bin_style(k)
    axes.plot(
        place[has][few],
        share[few],
        linestyle="none",
        marker=style["marker"],
        markersize=4,
        markeredgecolor=style["color"],
        markerfacecolor="white",
        zorder=3,
    )
    axes.errorbar(
        place[has],
        share,
        # Without an interval there is no bar.
        np.nan_to_num([share - low, high - share]),
        label=grid.bins[k].replace("-", DASH),
        markersize=4,
        capsize=2,
        linewidth=1.3,
        elinewidth=1.0,
        **style,
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
