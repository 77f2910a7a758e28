"""Parts that all figures of a grid share: axis labels, choice of thresholds, headings."""

from __future__ import annotations

from collections.abc import Sequence

from dhs.selection.grid_result import GridResult, kind
from dhs.selection.net import floor_warning
from dhs.selection.seeing import assumed_text
from dhs.statistics.thresholds import Threshold

MOST_THRESHOLDS = 3
THETA_E = r"Einstein radius $\theta_\mathrm{E}$ (arcsec)"
SOURCE_R = "unlensed source $r$ (AB mag)"


def drawn_thresholds(thresholds: Sequence[Threshold]) -> list[Threshold]:
    """Choose at most three thresholds, those set by a false-positive rate first."""
    return sorted(thresholds, key=lambda threshold: threshold.fpr_target is None)[:MOST_THRESHOLDS]


def require_injections(grid: GridResult) -> None:
    """Refuse to draw a grid that has no scored injection.

    Raises
    ------
    ValueError
        All injections failed, or no cell has hosts.
    """
    if not grid.metadata["injections"]:
        raise ValueError(
            f"{grid.folder} has no scored injection ({grid.metadata['failed']} failed): there is "
            "nothing to draw."
        )


def floor_line(grid: GridResult, threshold: Threshold) -> str:
    """Return a line on the hosts that pass without an arc; empty where they matter little."""
    return floor_warning(grid.completeness(threshold), kind(threshold))


def grid_heading(grid: GridResult, title: str, *more: str) -> list[str]:
    """Return the heading lines of a figure: title, model, annulus, hosts, counts, assumptions.

    Parameters
    ----------
    grid : GridResult
    title : str
        First line.
    *more : str
        Further lines at the end.

    Returns
    -------
    list of str
    """
    metadata = grid.metadata
    warning = [grid.warning] if grid.warning else []
    assumed = [assumed_text(grid.assumed)] if grid.assumed else []
    failed = f", excluding {metadata['failed']:,} that failed" if metadata["failed"] else ""
    return [
        title,
        grid.model,
        grid.annulus,
        f"hosts: {metadata['data_origin']}; {metadata['injections']:,} injections{failed}",
        *assumed,
        *warning,
        *more,
    ]
