"""The outer-annulus normalisation in NumPy: the definition that every backend reproduces.

It favours readability over speed: one plane, one statistic, one step at a time.
Backends match it exactly: `numpy.array_equal(a, b, equal_nan=True)`, with no
tolerance. float32 planes are computed in float32 and float64 planes in float64,
except for ``MAD + eps``, which is summed in float64 and then rounded.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnorm.footprint import Footprint
from fastnorm.kinds import flag

# Infinities and overflow follow IEEE arithmetic: they are valid values, not errors.
_ieee = np.errstate(all="ignore")


def middle_value(values: NDArray[Any]) -> Any:
    """Return the median of a vector without NaN, in its dtype; 0 for an empty vector.

    For an even number of values the median is half of the sum of the two middle
    values, where the sum is rounded to the dtype. (`numpy.median` returns the same
    value if the sum is finite.)
    """
    if values.size == 0:
        return values.dtype.type(0)
    first, second = (values.size - 1) // 2, values.size // 2
    ordered = np.partition(values, (first, second))
    if first == second:
        return ordered[first]
    return (ordered[first] + ordered[second]) * values.dtype.type(0.5)


@_ieee
def median_mad(values: NDArray[Any]) -> tuple[Any, Any]:
    """Return the median and unscaled MAD of the values that are not NaN.

    Returns
    -------
    median, mad
        Scalars of the values' dtype. Both are 0 if the median is undefined: no
        values, or infinities of opposite sign as the two middle values.
    """
    values = values[~np.isnan(values)]
    median = middle_value(values)
    if np.isnan(median):
        return values.dtype.type(0), values.dtype.type(0)
    deviation = np.abs(values - median)
    return median, middle_value(deviation[~np.isnan(deviation)])


@_ieee
def scale_of(mad: Any, eps: float) -> Any:
    """Return ``float64(mad) + eps``, rounded to the dtype of ``mad``; scalars or arrays."""
    return (np.asarray(mad, dtype=np.float64) + eps).astype(np.asarray(mad).dtype)[()]


@_ieee
def normalize_plane(
    plane: NDArray[Any],
    footprint: Footprint,
    *,
    mask: NDArray[np.bool_] | None = None,
    eps: float = 1e-8,
    clip: float | None = None,
    nan_to_zero: bool = False,
) -> tuple[NDArray[Any], Any, Any]:
    """Normalise one plane.

    Parameters
    ----------
    plane : (H, W) float32 or float64 array
        The image. Never modified.
    footprint : Annulus or another footprint
        Pixels that the statistics use.
    mask : (H, W) bool array, optional
        True is bad: excluded from the statistics, normalised like all others.
    eps : float
        Added to the MAD in float64.
    clip : float, optional
        Limit the result to ``[-clip, clip]``.
    nan_to_zero : bool
        Replace NaN by 0 before the statistics and again after the division.

    Returns
    -------
    out, median, mad
        ``out`` is a new (H, W) array of the plane's dtype; ``median`` and ``mad`` are
        scalars of that dtype.

    Raises
    ------
    ValueError
        The footprint does not fit the plane: an annulus of fewer than 100 pixels, for example.
    """
    if flag("nan_to_zero", nan_to_zero):
        plane = np.where(np.isnan(plane), plane.dtype.type(0), plane)
    pixels = footprint.pixels(*plane.shape)
    values = plane.reshape(-1)[pixels]
    if mask is not None:
        values = values[~mask.reshape(-1)[pixels]]
    median, mad = median_mad(values)
    out = (plane - median) / scale_of(mad, eps)
    if nan_to_zero:
        out[np.isnan(out)] = 0
    if clip is not None:
        limit = out.dtype.type(clip)
        out = np.clip(out, -limit, limit)
    return out, median, mad
