"""Completeness by Einstein radius, as ``dhs grid`` prints it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import typer

from fastnorm.terminal import console, say
from fastnorm.text import printable

if TYPE_CHECKING:
    from dhs.selection.grid_result import GridResult
    from dhs.selection.host_sums import Completeness
    from dhs.statistics.thresholds import Threshold

PER_TABLE = 3
"""Largest number of thresholds in a table of at most 80 characters."""
ALL = "all"
"""Name of the row of all Einstein radii together."""


def by_radius(folder: Path) -> list[dict[str, Any]]:
    """Return completeness by Einstein radius at every threshold, pooled over all other axes.

    An interval is None with too few hosts, and completeness is None without injections. Net
    completeness leaves out the hosts that are above the threshold without an arc, a share of
    ``hosts_alone`` of the injections; both are None if the hosts alone were not scored.
    """
    from dhs.selection.grid_result import GridResult

    return _rows(GridResult(folder), is_by_radius=True)


def pooled(folder: Path) -> list[dict[str, Any]]:
    """Return completeness at every threshold, pooled over all axes; see `by_radius`."""
    from dhs.selection.grid_result import GridResult

    return _rows(GridResult(folder), is_by_radius=False)


def _rows(grid: GridResult, *, is_by_radius: bool) -> list[dict[str, Any]]:
    rows = []
    for threshold in grid.thresholds:
        found = grid.completeness(threshold, ("theta_e",) if is_by_radius else ())
        if not is_by_radius:
            rows.append(_row(found, (), threshold))
            continue
        for place, radius in enumerate(grid.centres["theta_e"]):
            rows.append({"theta_e": float(radius)} | _row(found, place, threshold))
    return rows


def _row(found: Completeness, place: Any, threshold: Threshold) -> dict[str, Any]:
    kind = threshold.threshold_type
    return {
        "threshold": f"score > {threshold.threshold:g}" if kind == "fixed" else kind,
        "injections": int(found.tried[place]),
        "hosts": int(found.hosts[place]),
        "completeness": _known(found.share[place]),
        "interval_95": _ends(found.low[place], found.high[place]),
        "completeness_net": _known(found.net[place]),
        "interval_95_net": _ends(found.net_low[place], found.net_high[place]),
        "hosts_alone": _known(found.alone[place]),
    }


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _ends(low: float, high: float) -> list[float] | None:
    return None if np.isnan(low) or np.isnan(high) else [float(low), float(high)]


def print_completeness(folder: Path) -> None:
    """Print completeness by Einstein radius with its intervals, and net of the hosts alone.

    Parameters
    ----------
    folder : Path
        Folder of a finished grid.
    """
    from rich.table import Table

    from dhs.selection.grid_result import GridResult, kind
    from dhs.selection.net import NET, floor_warning
    from dhs.selection.seeing import averaged_over

    grid = GridResult(folder)
    radii = [f"{radius:g}" for radius in grid.centres["theta_e"]]
    for start in range(0, len(grid.thresholds), PER_TABLE):
        some = grid.thresholds[start : start + PER_TABLE]
        table = Table(title="completeness", title_justify="left")
        for name in ("theta_E", *map(kind, some)):
            table.add_column(name, justify="right", no_wrap=True)
        single = [grid.completeness(threshold, ("theta_e",)) for threshold in some]
        whole = [grid.completeness(threshold) for threshold in some]
        rows: list[tuple[str, Any, list[Completeness]]]
        rows = [(radius, place, single) for place, radius in enumerate(radii)]
        for name, place, found in [*rows, (ALL, (), whole)]:
            table.add_section()
            table.add_row(name, *(_raw_text(item, place) for item in found))
            table.add_row("net", *(_net_text(item, place) for item in found))
        console(sys.stdout).print(table)
    over = averaged_over(grid.assumed, "magnitude")
    typer.echo(printable(f"theta_E in arcsec; {over}; 95 % in brackets"))
    typer.echo(NET)
    for threshold in grid.thresholds:
        text = floor_warning(grid.completeness(threshold), kind(threshold))
        if text:
            say("warning", "yellow", text)


def _raw_text(found: Completeness, place: Any) -> str:
    from dhs.selection.intervals import TOO_FEW

    if not found.tried[place]:
        return "no injections"
    ends = _ends(found.low[place], found.high[place])
    says = TOO_FEW if ends is None else f"{ends[0]:.3f}-{ends[1]:.3f}"
    return f"{found.share[place]:.3f} ({says})"


def _net_text(found: Completeness, place: Any) -> str:
    from dhs.selection.net import net_reason, net_text

    if not found.tried[place]:
        return ""
    # The reasons are too long for a column.
    return net_reason(found, place).partition(":")[0] or net_text(found, place, "-")
