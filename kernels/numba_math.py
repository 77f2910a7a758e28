"""Vectorisable base-2 logarithm and exponential in float32, from IEEE operations only.

Library functions are calls, which prevent vectorisation, and their last bit differs
between machines. These functions avoid both.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

jit = njit(nogil=True, error_model="numpy")

# log2((1 + s) / (1 - s)) = 2 / ln 2 (s + s^3 / 3 + ...), to 3e-8 for mantissas in [2/3, 4/3).
_L1, _L3, _L5, _L7, _L9 = (np.float32(2 / np.log(2) / k) for k in (1, 3, 5, 7, 9))
# Taylor series of 2^x for x in [-1/2, 1/2]; the next term is below 2e-8.
_E1, _E2, _E3, _E4, _E5, _E6 = (
    np.float32(np.log(2) ** k / np.prod(np.arange(1.0, k + 1))) for k in range(1, 7)
)
_ONE, _TWO_THIRDS_BITS = np.float32(1), np.int32(0x3F2AAAAB)
_EXPONENT_MASK = np.int32(-0x800000)


@jit
def log2(x: Any) -> Any:
    """Return log2 of a positive, normal float32, to 2e-7 (absolute near 1, else relative)."""
    bits = np.float32(x).view(np.int32)
    exponent = np.int32(np.int32(bits - _TWO_THIRDS_BITS) & _EXPONENT_MASK)
    mantissa = np.int32(bits - exponent).view(np.float32)
    s = (mantissa - _ONE) / (mantissa + _ONE)
    t = s * s
    series = s * (_L1 + t * (_L3 + t * (_L5 + t * (_L7 + t * _L9))))
    return np.float32(np.int32(exponent >> np.int32(23))) + series


@jit
def exp2(x: Any) -> Any:
    """Return 2^x of a float32 between -126 and 126, with a relative error below 2e-7."""
    whole = np.float32(np.floor(x + np.float32(0.5)))
    r = x - whole
    series = _ONE + r * (_E1 + r * (_E2 + r * (_E3 + r * (_E4 + r * (_E5 + r * _E6)))))
    bits = np.int32((np.int32(whole) + np.int32(127)) << np.int32(23))
    return series * np.int32(bits).view(np.float32)
