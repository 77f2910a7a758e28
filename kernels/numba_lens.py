"""Ray shooting and source light on the CPU, with Numba, as vectorised loops over samples.

``dhs/injection/reference.py`` defines the computation; `numba_render` chooses the samples.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from fastnorm.kernels.lens_columns import (
    AMPLITUDE,
    BRIGHT_RING,
    CLUMP_AMPLITUDE,
    CLUMP_RATE,
    CLUMP_REACH,
    CLUMP_X,
    CLUMP_Y,
    CLUMPS,
    HALF_POWER,
    LENS_COS,
    LENS_Q,
    LENS_SIN,
    LENS_SQUASH,
    LENS_STRENGTH,
    LENS_X,
    LENS_Y,
    LOG2_SCALE,
    PIXEL_RINGS,
    SHEAR_1,
    SHEAR_2,
    SOURCE_COS,
    SOURCE_INVERSE_Q,
    SOURCE_SIN,
    SOURCE_X,
    SOURCE_Y,
    SPLIT,
    TERMS,
    THETA_E,
)
from fastnorm.kernels.numba_math import exp2, log2

BLOCK = 256  # samples
X, Y, U, V, LIGHT, SQUARE_U, SQUARE_V, SERIES_U, SERIES_V, HALF_U, HALF_V = range(11)
LANES = 11
_TINY = np.float32(1e-30)
_HALF = np.float32(0.5)
_FOUR = np.float32(4)
# 2^-(2^6.5) is negligible in every sum, and no product with it is subnormal, which is slow.
_FAINTEST = np.float32(6.5)

jit = njit(nogil=True, error_model="numpy")


@jit
def shoot(work: Any, n: Any, row: Any, coefficients: Any) -> None:
    """Map ``n`` positions (X, Y) to the source plane (U, V), in the frame of the source."""
    x, y, u, v = work[X], work[Y], work[U], work[V]
    half_u, half_v = work[HALF_U], work[HALF_V]
    t_u, t_v, g_u, g_v = work[SQUARE_U], work[SQUARE_V], work[SERIES_U], work[SERIES_V]
    lens_x, lens_y, cos, sin = row[LENS_X], row[LENS_Y], row[LENS_COS], row[LENS_SIN]
    q, squash, strength = row[LENS_Q], row[LENS_SQUASH], row[LENS_STRENGTH]
    terms = np.int64(row[TERMS])
    last = coefficients[terms - 1]
    for i in range(n):
        from_x, from_y = x[i] - lens_x, y[i] - lens_y
        along, across = cos * from_x + sin * from_y, cos * from_y - sin * from_x
        r = np.sqrt(along * along + across * across)
        psi = np.sqrt(q * q * along * along + across * across)
        half_u[i], half_v[i] = along / (r + psi + _TINY), across / (q * r + psi + _TINY)
        t_u[i], t_v[i] = squash * half_u[i] * half_u[i], -squash * half_v[i] * half_v[i]
        g_u[i] = g_v[i] = last
    # arctan(z) / z and artanh(z) / z are one series, evaluated four terms per pass.
    done = terms - 1
    while done >= 4:
        a, b, c, d = (
            coefficients[done - 1], coefficients[done - 2], coefficients[done - 3],
            coefficients[done - 4],
        )  # fmt: skip
        for i in range(n):
            g_u[i] = (((g_u[i] * t_u[i] + a) * t_u[i] + b) * t_u[i] + c) * t_u[i] + d
            g_v[i] = (((g_v[i] * t_v[i] + a) * t_v[i] + b) * t_v[i] + c) * t_v[i] + d
        done -= 4
    a, b, c = coefficients[2], coefficients[1], coefficients[0]
    shear_1, shear_2 = row[SHEAR_1], row[SHEAR_2]
    source_x, source_y = row[SOURCE_X], row[SOURCE_Y]
    source_cos, source_sin = row[SOURCE_COS], row[SOURCE_SIN]
    for i in range(n):
        series_u = ((g_u[i] * t_u[i] + a) * t_u[i] + b) * t_u[i] + c
        series_v = ((g_v[i] * t_v[i] + a) * t_v[i] + b) * t_v[i] + c
        along, across = strength * half_u[i] * series_u, strength * half_v[i] * series_v
        to_x = x[i] - (cos * along - sin * across) - (shear_1 * x[i] + shear_2 * y[i]) - source_x
        to_y = y[i] - (sin * along + cos * across) - (shear_2 * x[i] - shear_1 * y[i]) - source_y
        u[i] = source_cos * to_x + source_sin * to_y
        v[i] = source_cos * to_y - source_sin * to_x


@jit
def shine(work: Any, n: Any, row: Any, clumps: Any) -> None:
    """Compute the light per pixel of a source of flux 1 at ``n`` positions (U, V)."""
    u, v, light = work[U], work[V], work[LIGHT]
    inverse_q, power, scale = row[SOURCE_INVERSE_Q], row[HALF_POWER], row[LOG2_SCALE]
    amplitude = row[AMPLITUDE]
    for i in range(n):
        across = v[i] * inverse_q
        square = u[i] * u[i] + across * across + _TINY
        exponent = min(power * log2(square) + scale, _FAINTEST)
        exponent = max(exponent, np.float32(-126))
        light[i] = amplitude * exp2(-exp2(exponent))
    for j in range(np.int64(row[CLUMPS])):
        clump_x, clump_y = clumps[j, CLUMP_X], clumps[j, CLUMP_Y]
        rate, height = clumps[j, CLUMP_RATE], clumps[j, CLUMP_AMPLITUDE]
        for i in range(n):
            to_u, to_v = u[i] - clump_x, v[i] - clump_y
            exponent = min(rate * (to_u * to_u + to_v * to_v), np.float32(126))
            light[i] += height * exp2(-exponent)


@jit
def distance(u: Any, v: Any, inverse_q: Any, half: Any) -> Any:
    """Return the squared elliptical radius of the nearest point of a square of side 2 ``half``."""
    near_u = max(abs(u) - half, np.float32(0))
    near_v = max(abs(v) - half, np.float32(0)) * inverse_q
    return near_u * near_u + near_v * near_v


@jit
def is_near_a_clump(u: Any, v: Any, half: Any, row: Any, clumps: Any) -> Any:
    """Return whether a square of half-width ``half`` is within reach of a clump."""
    for j in range(np.int64(row[CLUMPS])):
        to_u, to_v = u - clumps[j, CLUMP_X], v - clumps[j, CLUMP_Y]
        if distance(to_u, to_v, np.float32(1), half) < clumps[j, CLUMP_REACH] ** 2:
            return True
    return False


@jit
def lens_distance(x: Any, y: Any, row: Any, half: Any) -> Any:
    """Return the same as ``distance``, but from the lens, in the radius of its convergence."""
    cos, sin, q = row[LENS_COS], row[LENS_SIN], row[LENS_Q]
    to_x, to_y = x - row[LENS_X], y - row[LENS_Y]
    near_u = max(abs(cos * to_x + sin * to_y) - half, np.float32(0))
    near_v = max(abs(cos * to_y - sin * to_x) - half, np.float32(0))
    return q * near_u * near_u + near_v * near_v / q


@jit
def pixel_level(x: Any, y: Any, near: Any, row: Any, scale: Any) -> Any:
    """Return the level of a pixel without regard to clumps; level 0 is one sample."""
    level = 0
    for i in range(SPLIT):
        level += near < row[PIXEL_RINGS + i]
    if row[LENS_STRENGTH] > 0:
        from_lens = lens_distance(x, y, row, scale * _HALF)
        if _FOUR * from_lens < scale * scale:
            return SPLIT
        if near < row[BRIGHT_RING]:
            level += from_lens < (row[THETA_E] * _HALF) ** 2
            level += _FOUR * from_lens < (row[THETA_E] * _HALF) ** 2
    return min(level, SPLIT)
