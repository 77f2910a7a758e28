"""Logarithm and exponential to base 2 in float32, of IEEE operations alone, that vectorise.

The libraries' own are calls, which no loop around them survives, and differ from
machine to machine in the last bit; these do not.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

jit = njit(nogil=True, error_model="numpy")

# log2((1 + s) / (1 - s)) = 2 / ln 2 (s + s^3 / 3 + ...), to 3e-8 for mantissas in [2/3, 4/3).
_L1, _L3, _L5, _L7, _L9 = (np.float32(2 / np.log(2) / k) for k in (1, 3, 5, 7, 9))
# 2^x for x in [-1/2, 1/2], its Taylor series: the next term is below 2e-8.
_E1, _E2, _E3, _E4, _E5, _E6 = (
    np.float32(np.log(2) ** k / np.prod(np.arange(1.0, k + 1))) for k in range(1, 7)
)
_ONE, _TWO_THIRDS_BITS = np.float32(1), np.int32(0x3F2AAAAB)
_EXPONENT_MASK = np.int32(-0x800000)


@jit
def log2(x: Any) -> Any:
    """Of a positive, normal float32; absolute error below 2e-7 near 1, else relative."""
    bits = np.float32(x).view(np.int32)
    exponent = np.int32(np.int32(bits - _TWO_THIRDS_BITS) & _EXPONENT_MASK)
    mantissa = np.int32(bits - exponent).view(np.float32)
    s = (mantissa - _ONE) / (mantissa + _ONE)
    t = s * s
    series = s * (_L1 + t * (_L3 + t * (_L5 + t * (_L7 + t * _L9))))
    return np.float32(np.int32(exponent >> np.int32(23))) + series


@jit
def exp2(x: Any) -> Any:
    """Of a float32 between -126 and 126; relative error below 2e-7."""
    whole = np.float32(np.floor(x + np.float32(0.5)))
    r = x - whole
    series = _ONE + r * (_E1 + r * (_E2 + r * (_E3 + r * (_E4 + r * (_E5 + r * _E6)))))
    bits = np.int32((np.int32(whole) + np.int32(127)) << np.int32(23))
    return series * np.int32(bits).view(np.float32)
