"""What the pictures of a grid have in common: colours, headings, and maps with numbers in them."""

from __future__ import annotations

from collections.abc import Sequence

from dhs.selection.grid_result import GridResult
from dhs.statistics.thresholds import Threshold

MOST_THRESHOLDS = 3
THETA_E = r"Einstein radius $\theta_\mathrm{E}$ (arcsec)"
SOURCE_R = "unlensed source $r$ (AB mag)"


def drawn_thresholds(thresholds: Sequence[Threshold]) -> list[Threshold]:
    """At most three, those of a false-positive rate first."""
    return sorted(thresholds, key=lambda threshold: threshold.fpr_target is None)[:MOST_THRESHOLDS]


def require_injections(grid: GridResult) -> None:
    """Refuse to draw a grid without a single score.

    Raises
    ------
    ValueError
        All injections failed, or no cell has hosts.
    """
    if not grid.metadata["injections"]:
        raise ValueError(
            f"{grid.folder} has no injection that was scored, and {grid.metadata['failed']} that "
            "failed: there is nothing to draw."
        )


def grid_heading(grid: GridResult, title: str, *more: str) -> list[str]:
    """Lines that say of which grid a picture is: model, annulus, hosts, numbers."""
    metadata = grid.metadata
    failed = f", without {metadata['failed']:,} that failed" if metadata["failed"] else ""
    return [
        title,
        grid.model,
        grid.annulus,
        f"hosts: {metadata['data_origin']}; {metadata['injections']:,} injections{failed}",
        *more,
    ]
