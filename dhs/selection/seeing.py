"""Seeing and depth of the hosts of a grid, in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from dhs.selection.grid_result import GridResult

NAMES = {"psf_fwhm": ("PSF FWHM", "arcsec", 2), "depth_5sig": ("5-sigma depth", "mag", 2)}
"""Name, unit and decimals of the axes that belong to hosts; both are in r."""
POOLED = {"psf_fwhm": "PSFs", "depth_5sig": "depths"}


def assumed_text(assumed: Mapping[str, float]) -> str:
    """Say which seeing and depth were assumed; empty if both were measured.

    Parameters
    ----------
    assumed : dict
        `dhs.selection.grid_result.GridResult.assumed`.
    """
    given = [f"{NAMES[axis][0]} {value:g} {NAMES[axis][1]}" for axis, value in assumed.items()]
    return f"every host with {' and '.join(given)} (assumed)" if given else ""


def pooled_text(assumed: Mapping[str, float], *others: str, axes: Iterable[str] = POOLED) -> str:
    """Say over what cells are summed, in a caption; axes of one assumed value are left out.

    Parameters
    ----------
    assumed : dict
        `dhs.selection.grid_result.GridResult.assumed`.
    *others : str
        Other axes, in the plural.
    axes : iterable of str
        Axes of hosts that are summed over; by default both.
    """
    names = [POOLED[axis] for axis in axes if axis not in assumed] + list(others)
    return f"all {' and '.join(names)}" if names else "seeing and depth assumed"


def averaged_over(assumed: Mapping[str, float], *others: str) -> str:
    """Say over what completeness is pooled, in a sentence.

    Parameters
    ----------
    assumed : dict
        `dhs.selection.grid_result.GridResult.assumed`.
    *others : str
        Other axes, in the singular.
    """
    words = {"psf_fwhm": "seeing", "depth_5sig": "depth"}
    names = [word for axis, word in words.items() if axis not in assumed] + list(others)
    listed = ", ".join(names[:-1]) + " and " * (len(names) > 1) + names[-1]
    parts = [f"pooled over {listed}", assumed_text(assumed)]
    return "; ".join(part for part in parts if part)


def host_ranges(grid: GridResult) -> dict[str, tuple[float, float]]:
    """Return the least and the greatest seeing and depth of the hosts that arcs were injected into.

    Parameters
    ----------
    grid : GridResult
        Its injections are read in batches.

    Returns
    -------
    dict
        By axis; empty for folders whose injections do not record them.
    """
    columns = {axis: f"host_{axis}" for axis in NAMES}
    if not grid.has(*columns.values()):
        return {}
    ends = {axis: [np.inf, -np.inf] for axis in NAMES}
    for batch in grid.batches(*columns.values()):
        for axis, name in columns.items():
            low, high = ends[axis]
            ends[axis] = [
                float(np.fmin.reduce(batch[name], initial=low)),
                float(np.fmax.reduce(batch[name], initial=high)),
            ]
    return {axis: (low, high) for axis, (low, high) in ends.items() if low <= high}


def hosts_text(grid: GridResult) -> str:
    """Describe seeing and depth of the hosts: their ranges, or the value that was assumed.

    Parameters
    ----------
    grid : GridResult
    """
    parts = [assumed_text(grid.assumed)]
    for axis, (low, high) in host_ranges(grid).items():
        if axis not in grid.assumed:
            name, unit, digits = NAMES[axis]
            parts.append(f"{name} {span(low, high, digits)} {unit}")
    return ", ".join(part for part in parts if part)


def span(low: float, high: float, digits: int) -> str:
    """Write a range; one number where both ends look the same.

    Parameters
    ----------
    low, high : float
        Ends of the range.
    digits : int
        Number of decimals.
    """
    first, last = f"{low:.{digits}f}", f"{high:.{digits}f}"
    return first if first == last else f"{first} to {last}"
