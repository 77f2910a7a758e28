"""The outer-annulus normalisation in NumPy: the definition that every backend equals.

Readable before fast: one plane, one statistic, one step at a time. Equal means
`numpy.array_equal(a, b, equal_nan=True)`, with no tolerance. float32 planes are
computed in float32 and float64 planes in float64, except for ``MAD + eps``,
which is summed in float64 and then rounded.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnorm.annulus import Annulus

# Infinities and overflow follow IEEE arithmetic: they are values here, not mistakes.
_ieee = np.errstate(all="ignore")


def middle_value(values: NDArray[Any]) -> Any:
    """Median of a vector without NaN, in its own dtype; 0 for an empty one.

    For an even number of values it is the sum of the two middle ones, rounded
    to the dtype, halved. (`numpy.median` gives the same where the sum is finite.)
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
    """Median and unscaled MAD of the values that are not NaN.

    Returns
    -------
    median, mad
        Scalars of the values' dtype. Both are 0 where nothing is defined: no
        values, or two middle ones of opposite infinity.
    """
    values = values[~np.isnan(values)]
    median = middle_value(values)
    if np.isnan(median):
        return values.dtype.type(0), values.dtype.type(0)
    deviation = np.abs(values - median)
    return median, middle_value(deviation[~np.isnan(deviation)])


@_ieee
def scale_of(mad: Any, eps: float) -> Any:
    """``float64(mad) + eps``, rounded to the dtype of ``mad``; scalars or arrays."""
    return (np.asarray(mad, dtype=np.float64) + eps).astype(np.asarray(mad).dtype)[()]


@_ieee
def normalize_plane(
    plane: NDArray[Any],
    annulus: Annulus,
    *,
    mask: NDArray[np.bool_] | None = None,
    eps: float = 1e-8,
    clip: float | None = None,
    nan_to_zero: bool = False,
) -> tuple[NDArray[Any], Any, Any]:
    """Normalise one (H, W) plane of float32 or float64.

    Returns
    -------
    out, median, mad
        ``out`` is a new (H, W) array of the plane's dtype.
    """
    if nan_to_zero:
        plane = np.where(np.isnan(plane), plane.dtype.type(0), plane)
    pixels = annulus.pixels(*plane.shape)
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
