"""Floating-point rules of PTX that differ from NumPy's, or that NumPy lacks."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np

Values = Any
"""An array with one value per lane, or a NumPy scalar that all lanes have."""
LEAST_NORMAL = np.float32(2.0**-126)
# The NaN that arithmetic returns on a GPU, whose sign bit is clear; on a CPU it is often set.
CANONICAL: dict[int, Any] = {
    2: np.uint16(0x7FFF).view(np.float16),
    4: np.uint32(0x7FFF_FFFF).view(np.float32),
    8: np.uint64(0x7FF8_0000_0000_0000).view(np.float64),
}


def with_canonical_nan(x: Values) -> Values:
    """Replace every NaN by the one that a GPU returns."""
    is_nan = np.isnan(x)
    return np.where(is_nan, CANONICAL[x.dtype.itemsize], x) if is_nan.any() else x


def flushed(x: Values) -> Values:
    """Return 0 of the same sign for every subnormal float32."""
    if x.dtype != np.float32:
        return x
    return np.where(np.abs(x) < LEAST_NORMAL, np.copysign(np.float32(0), x), x)


def perturbed(x: Values, ulps: int) -> Values:
    """Add -``ulps`` to ``ulps`` units in the last place, by a hash of the value."""
    bits = x.view(np.int32)
    hashed = (bits.view(np.uint32) * np.uint32(2654435761)) >> np.uint32(16)
    step = (hashed % np.uint32(2 * ulps + 1)).astype(np.int32) - np.int32(ulps)
    return np.where(np.isfinite(x) & (np.abs(x) >= LEAST_NORMAL), bits + step, bits).view(x.dtype)


def to_odd(total: Values, error: Values) -> Values:
    """Round an exact sum ``total + error`` of float64 to odd instead of to nearest.

    A number rounded to odd with two more bits can be rounded once more without harm.
    """
    bits = total.view(np.int64)
    inexact_and_even = (error != 0) & (bits & 1 == 0) & np.isfinite(total)
    step = np.where((error > 0) == (total > 0), 1, -1)
    return np.where(inexact_and_even, bits + step, bits).view(np.float64)


def two_sum(a: Values, b: Values) -> tuple[Values, Values]:
    """Return the rounded sum and its exact error."""
    total = a + b
    shadow = total - a
    return total, (a - (total - shadow)) + (b - shadow)


def fused(a: Values, b: Values, c: Values) -> Values:
    """Return ``a * b + c``, rounded once."""
    if a.dtype == np.float32:
        # The product of two float32 is exact in float64, and the sum is rounded to odd there.
        product = a.astype(np.float64) * b.astype(np.float64)
        return to_odd(*two_sum(product, c.astype(np.float64))).astype(np.float32)
    if a.dtype == np.float64:
        arrays = np.broadcast_arrays(a, b, c)
        return np.array(
            [_fused_double(*row) for row in zip(*(x.tolist() for x in arrays), strict=True)]
        )
    raise NotImplementedError(f"fma of {a.dtype}")


def _fused_double(a: float, b: float, c: float) -> float:
    if not (math.isfinite(a) and math.isfinite(b) and math.isfinite(c)) or a == 0 or b == 0:
        return float(np.float64(a) * np.float64(b) + np.float64(c))
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    if exact == 0:
        return -0.0 if math.copysign(1, a) * math.copysign(1, b) < 0 and c < 0 else 0.0
    try:
        return float(exact)
    except OverflowError:
        return math.copysign(math.inf, exact)


def _order(x: Values) -> Values:
    """Return integers in the order of floats, -0 below +0."""
    bits = x.view(f"i{x.dtype.itemsize}")
    return np.where(bits >= 0, bits, ~(bits & np.iinfo(bits.dtype).max))


def extreme(a: Values, b: Values, is_max: bool, keeps_nan: bool) -> Values:
    """Return the minimum or maximum by lane.

    Parameters
    ----------
    a, b : arrays of floats
    is_max : bool
    keeps_nan : bool
        Whether one NaN makes the result NaN; otherwise the other value is the result.
    """
    first, second = _order(a), _order(b)
    chosen = np.where(first >= second if is_max else first <= second, a, b)
    if keeps_nan:
        return np.where(np.isnan(a) | np.isnan(b), CANONICAL[a.dtype.itemsize], chosen)
    return with_canonical_nan(np.where(np.isnan(a), b, np.where(np.isnan(b), a, chosen)))


ROUNDINGS = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}


def to_integer(x: Values, kind: Any, mode: str) -> Values:
    """Convert floats to integers; what is too large becomes the nearest integer there is.

    Parameters
    ----------
    x : array of floats
    kind : dtype
        Of the result.
    mode : str
        A key of `ROUNDINGS`.
    """
    whole = ROUNDINGS[mode](x.astype(np.float64))
    limits = np.iinfo(kind)
    low, above = float(limits.min), float(limits.max + 1)
    inside = np.where((whole >= low) & (whole < above), whole, 0).astype(kind)
    result = np.where(whole >= above, limits.max, np.where(whole < low, limits.min, inside))
    wide = x.dtype == np.float64 or np.dtype(kind).itemsize == 8
    for_nan: Any = np.array(1 << (limits.bits - 1), f"u{limits.bits // 8}").view(kind)
    return np.where(np.isnan(x), for_nan if wide else kind(0), result).astype(kind)


def to_bfloat16(x: Values) -> Values:
    """Round float32 to the bits of bfloat16, ties to even."""
    bits = x.view(np.uint32)
    rounded = (bits + (np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1)))) >> np.uint32(
        16
    )
    return np.where(np.isnan(x), np.uint32(0x7FFF), rounded).astype(np.uint16)


def from_bfloat16(bits: Values) -> Values:
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)
