"""Completeness net of the hosts that pass without an arc, in words."""

from __future__ import annotations

from typing import Any

import numpy as np

from dhs.selection.host_sums import Completeness
from dhs.selection.intervals import TOO_FEW

WARNED_PART = 0.1
"""Part of the completeness that hosts alone may make up without a warning."""
NET = "net: without the hosts that are above the threshold without an arc"
UNKNOWN, UNDEFINED = (
    "unknown: the hosts alone were not scored",
    "undefined: every host passes without an arc",
)


def net_reason(found: Completeness, place: Any = ()) -> str:
    """Return why there is no net completeness; empty where there is one.

    Parameters
    ----------
    found : Completeness
    place : int or tuple of int
        Position in its arrays.
    """
    if not np.isnan(found.net[place]):
        return ""
    return UNKNOWN if np.isnan(found.alone[place]) else UNDEFINED


def net_text(found: Completeness, place: Any = (), between: str = " to ") -> str:
    """Return the net completeness with its 95 % interval, or why it is not known.

    Parameters
    ----------
    found : Completeness
    place : int or tuple of int
        Position in its arrays.
    between : str
        Text between both ends of the interval.
    """
    reason = net_reason(found, place)
    if reason:
        return reason
    ends = float(found.net_low[place]), float(found.net_high[place])
    return share_text(float(found.net[place]), *ends, between)


def share_text(share: float, low: float, high: float, between: str = " to ") -> str:
    """Return a completeness with its interval, or with the reason why it has none.

    Parameters
    ----------
    share, low, high : float
        Completeness and the ends of its interval, NaN with too few hosts.
    between : str
        Text between both ends.
    """
    ends = f"{TOO_FEW} hosts" if np.isnan(low) else f"{low:.3f}{between}{high:.3f}"
    return f"{share:.3f} ({ends})"


def is_floor_large(found: Completeness) -> bool:
    """Whether hosts alone make up more than a tenth of one completeness."""
    return bool(found.alone > WARNED_PART * found.share)


def floor_warning(found: Completeness, name: str) -> str:
    """Return a sentence on the hosts that pass without an arc; empty where they matter little.

    Parameters
    ----------
    found : Completeness
        That of all cells together.
    name : str
        Name of the threshold.
    """
    if not is_floor_large(found):
        return ""
    return (
        f"{name}: {100 * float(found.alone):.2g} % of the injections are in hosts that are above "
        f"the threshold without an arc, and are part of the completeness of "
        f"{float(found.share):.3f}; quote the net completeness, {net_text(found)}."
    )
