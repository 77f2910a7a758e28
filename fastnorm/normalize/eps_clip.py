"""The checks of ``eps`` and ``clip``, shared by all backends."""

from __future__ import annotations

import math
import numbers
from typing import Any

import numpy as np


def check_eps_and_clip(eps: Any, clip: Any, limits: np.finfo[Any]) -> tuple[float, float | None]:
    """Check ``eps`` and ``clip`` against the range of a dtype.

    Parameters
    ----------
    eps : float
        Added to the MAD.
    clip : float or None
        Limit of the result.
    limits : numpy.finfo
        Range of the dtype of the computation.

    Returns
    -------
    eps : float
    clip : float or None

    Raises
    ------
    TypeError
        A value is not a real number.
    ValueError
        A value is out of range.
    """
    eps = _positive("eps", eps, float(limits.tiny), float(limits.max))
    if clip is not None:
        clip = _positive("clip", clip, float(limits.tiny), math.inf)
    return eps, clip


def _positive(name: str, value: Any, least: float, most: float) -> float:
    # The first test is the usual case, and ten times faster than the others.
    if type(value) is not float and (
        not isinstance(value, numbers.Real) or isinstance(value, bool | np.bool_)
    ):
        raise TypeError(f"{name}={value!r} is not a number.")
    try:
        number = float(value)
    except OverflowError:
        number = math.nan
    if not least <= number <= most:
        raise ValueError(f"{name}={value!r} is out of range; expected {least:.3g} to {most:.3g}.")
    return number
