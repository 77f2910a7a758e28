"""Completeness by Einstein radius, as ``dhs grid`` prints it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import typer

from fastnorm.terminal import console

PER_TABLE = 3
"""Largest number of thresholds in a table of at most 80 characters."""


def by_radius(folder: Path) -> list[dict[str, Any]]:
    """Return completeness by Einstein radius at every threshold, pooled over all other axes.

    An interval is None with too few hosts, and completeness is None without injections.
    """
    from dhs.selection.grid_result import GridResult

    grid, rows = GridResult(folder), []
    for threshold in grid.thresholds:
        found = grid.completeness(threshold, ("theta_e",))
        kind = threshold.threshold_type
        for number, radius in enumerate(grid.centres["theta_e"]):
            values = (found.share[number], found.low[number], found.high[number])
            share, low, high = (None if np.isnan(value) else float(value) for value in values)
            rows.append(
                {
                    "theta_e": float(radius),
                    "threshold": f"score > {threshold.threshold:g}" if kind == "fixed" else kind,
                    "injections": int(found.tried[number]),
                    "hosts": int(found.hosts[number]),
                    "completeness": share,
                    "interval_95": None if low is None or high is None else [low, high],
                }
            )
    return rows


def print_completeness(folder: Path) -> None:
    """Print completeness by Einstein radius with its intervals.

    Parameters
    ----------
    folder : Path
        Folder of a finished grid.
    """
    from rich.table import Table

    rows = by_radius(folder)
    names = list(dict.fromkeys(row["threshold"] for row in rows))
    radii = list(dict.fromkeys(row["theta_e"] for row in rows))
    shown = {(row["theta_e"], row["threshold"]): _text(row) for row in rows}
    for start in range(0, len(names), PER_TABLE):
        some = names[start : start + PER_TABLE]
        table = Table(title="completeness", title_justify="left")
        for name in ("theta_E", *some):
            table.add_column(name, justify="right", no_wrap=True)
        for radius in radii:
            table.add_row(f"{radius:g}", *(shown[radius, name] for name in some))
        console(sys.stdout).print(table)
    typer.echo("theta_E in arcsec; pooled over seeing, depth and magnitude; 95 % in brackets")


def _text(row: dict[str, Any]) -> str:
    from dhs.selection.intervals import TOO_FEW

    if row["completeness"] is None:
        return "no injections"
    ends = row["interval_95"]
    says = TOO_FEW if ends is None else f"{ends[0]:.3f}-{ends[1]:.3f}"
    return f"{row['completeness']:.3f} ({says})"
