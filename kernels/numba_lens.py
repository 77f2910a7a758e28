"""Lensed surface brightness on the CPU, with Numba: what ``dhs/injection/reference.py`` defines.

One image at a time. Samples are collected into blocks that the L1 cache holds, so
that ray shooting and light are loops over a block, which vectorise; which sample belongs
to which pixel is kept beside it. An image depends on nothing but its own row.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from fastnorm.kernels.lens_columns import (
    AMPLITUDE,
    BRIGHT_RING,
    CELL_NODES,
    CELL_RINGS,
    CELLS,
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
    REACH,
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

BLOCK = 256  # samples, a multiple of the vectors
VECTOR = 8
SEGMENTS = BLOCK  # at most one for every sample
X, Y, U, V, LIGHT, SQUARE_U, SQUARE_V, SERIES_U, SERIES_V, HALF_U, HALF_V = range(11)
LANES = 11
_TINY = np.float32(1e-30)
_HALF = np.float32(0.5)
_FOUR = np.float32(4)

jit = njit(nogil=True, error_model="numpy")


@jit
def whole_vectors(n: Any) -> Any:
    """The next multiple of a vector: what lies beyond ``n`` is computed and not used."""
    return (n + VECTOR - 1) // VECTOR * VECTOR


@jit
def shoot(work: Any, n: Any, row: Any, coefficients: Any) -> None:
    """Take ``n`` positions (X, Y) to the source plane (U, V), in the frame of the source."""
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
    # arctan(z) / z and artanh(z) / z: one series, four terms in a pass.
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
    """Light per pixel of a source of flux 1 at ``n`` positions (U, V), into LIGHT."""
    u, v, light = work[U], work[V], work[LIGHT]
    inverse_q, power, scale = row[SOURCE_INVERSE_Q], row[HALF_POWER], row[LOG2_SCALE]
    amplitude = row[AMPLITUDE]
    for i in range(n):
        across = v[i] * inverse_q
        square = u[i] * u[i] + across * across + _TINY
        exponent = min(power * log2(square) + scale, np.float32(6.9))
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
    """Square of the elliptical radius at which a square of half-width ``half`` comes nearest."""
    near_u = max(abs(u) - half, np.float32(0))
    near_v = max(abs(v) - half, np.float32(0)) * inverse_q
    return near_u * near_u + near_v * near_v


@jit
def is_near_a_clump(u: Any, v: Any, row: Any, clumps: Any) -> Any:
    for j in range(np.int64(row[CLUMPS])):
        to_u, to_v = u - clumps[j, CLUMP_X], v - clumps[j, CLUMP_Y]
        if to_u * to_u + to_v * to_v < clumps[j, CLUMP_REACH] * clumps[j, CLUMP_REACH]:
            return True
    return False


@jit
def pixel_level(x: Any, y: Any, near: Any, row: Any, scale: Any) -> Any:
    """Level of a pixel, clumps left out; 0 is one sample."""
    level = 0
    for i in range(SPLIT):
        level += near < row[PIXEL_RINGS + i]
    if row[LENS_STRENGTH] > 0:
        from_x, from_y = x - row[LENS_X], y - row[LENS_Y]
        from_lens = from_x * from_x + from_y * from_y
        if from_lens < scale * scale:
            return SPLIT
        half = row[THETA_E] * _HALF
        if near < row[BRIGHT_RING]:
            level += from_lens < half * half
            level += _FOUR * from_lens < half * half
    return min(level, SPLIT)


@jit
def add_samples(
    x: Any, y: Any, size: Any, share: Any, which: Any, pixel: Any, state: Any, work: Any,
    owners: Any, weights: Any, nodes: Any, start: Any, image: Any, row: Any, clumps: Any,
    coefficients: Any,
) -> None:  # fmt: skip
    """Queue one set of nodes on a square; a full block is carried out."""
    k, stop = start[which], start[which + 1]
    while k < stop:
        if state[0] == BLOCK:
            carry_out(state, work, owners, weights, image, row, clumps, coefficients)
        filled = state[0]
        count = min(stop - k, BLOCK - filled)
        at_x, at_y, weight = work[X], work[Y], weights
        for i in range(count):
            at_x[filled + i] = x + size * nodes[0, k + i]
            at_y[filled + i] = y + size * nodes[1, k + i]
            weight[filled + i] = share * nodes[2, k + i]
        segment = state[1]
        owners[0, segment], owners[1, segment] = pixel, filled + count
        state[0], state[1] = filled + count, segment + 1
        k += count


@jit
def carry_out(
    state: Any, work: Any, owners: Any, weights: Any, image: Any, row: Any, clumps: Any,
    coefficients: Any,
) -> None:  # fmt: skip
    """Evaluate the queued samples and add them to their pixels, in their order."""
    n = state[0]
    padded = whole_vectors(n)
    shoot(work, padded, row, coefficients)
    shine(work, padded, row, clumps)
    light = work[LIGHT]
    i = 0
    for segment in range(state[1]):
        total = np.float32(0)
        while i < owners[1, segment]:
            total += light[i] * weights[i]
            i += 1
        image[owners[0, segment]] += total
    state[0] = state[1] = 0


@jit
def split_pixel(
    x: Any, y: Any, scale: Any, pixel: Any, state: Any, work: Any, owners: Any, weights: Any,
    cells: Any, nodes: Any, start: Any, image: Any, row: Any, clumps: Any, coefficients: Any,
) -> None:  # fmt: skip
    """One sample of every cell, or, where the source is close, the nodes of its level instead."""
    first, count = start[CELLS], start[CELLS + 1] - start[CELLS]
    share = nodes[2, first]
    size = scale * np.sqrt(share)
    for i in range(count):
        cells[X, i] = x + scale * nodes[0, first + i]
        cells[Y, i] = y + scale * nodes[1, first + i]
    padded = whole_vectors(count)
    shoot(cells, padded, row, coefficients)
    shine(cells, padded, row, clumps)
    total = np.float32(0)
    for i in range(count):
        near = distance(cells[U, i], cells[V, i], row[SOURCE_INVERSE_Q], size * _HALF)
        level = 0
        for ring in range(2):
            level += near < row[CELL_RINGS + ring]
        if level == 0 and is_near_a_clump(cells[U, i], cells[V, i], row, clumps):
            level = 1
        if level == 0:
            total += cells[LIGHT, i] * share
        else:
            add_samples(
                cells[X, i], cells[Y, i], size, share, CELL_NODES + level, pixel, state, work,
                owners, weights, nodes, start, image, row, clumps, coefficients,
            )  # fmt: skip
    image[pixel] += total


@jit
def add_row(
    begin: Any, n: Any, i: Any, y: Any, scale: Any, middle_x: Any, width: Any, state: Any,
    line: Any, near: Any, work: Any, owners: Any, weights: Any, cells: Any, nodes: Any,
    start: Any, image: Any, row: Any, clumps: Any, coefficients: Any,
) -> None:  # fmt: skip
    """Light at the centres of a run of pixels; those of a higher level are queued instead."""
    at_x, at_y, u, v, light = line[X], line[Y], line[U], line[V], line[LIGHT]
    padded = whole_vectors(n)
    for j in range(padded):
        at_x[j] = (np.float32(begin + j) - middle_x) * scale
        at_y[j] = y
    shoot(line, padded, row, coefficients)
    shine(line, padded, row, clumps)
    inverse_q, half = row[SOURCE_INVERSE_Q], scale * _HALF
    for j in range(padded):
        near[j] = distance(u[j], v[j], inverse_q, half)
    widest = max(row[PIXEL_RINGS], row[BRIGHT_RING])
    is_at_lens = row[LENS_STRENGTH] > 0 and abs(y - row[LENS_Y]) < scale
    has_clumps = row[CLUMPS] > 0
    for j in range(n):
        pixel = i * width + begin + j
        level = 0
        if near[j] < widest or is_at_lens:
            level = pixel_level(at_x[j], y, near[j], row, scale)
        if has_clumps and is_near_a_clump(u[j], v[j], row, clumps):
            level = SPLIT
        if level == 0:
            image[pixel] = light[j]
        elif level < SPLIT:
            add_samples(
                at_x[j], y, scale, np.float32(1), level, pixel, state, work, owners, weights,
                nodes, start, image, row, clumps, coefficients,
            )  # fmt: skip
        else:
            split_pixel(
                at_x[j], y, scale, pixel, state, work, owners, weights, cells, nodes, start,
                image, row, clumps, coefficients,
            )  # fmt: skip


@njit(nogil=True, error_model="numpy", cache=True)
def render_images(
    table: Any, clump_table: Any, flux: Any, nodes: Any, start: Any, coefficients: Any, scale: Any,
    width: Any, out: Any, line: Any, near: Any, work: Any, owners: Any, weights: Any, cells: Any,
    image: Any, first: Any, stop: Any,
) -> None:  # fmt: skip
    """Images ``first`` to ``stop``.

    Parameters
    ----------
    table : (B, COLUMNS) float32
    clump_table : (B, M, CLUMP_COLUMNS) float32
    flux : (B, bands) float32
    nodes : (3, K) float32, positions in pixels and weights of the node sets
    start : (NODE_SETS + 1,) int32
    coefficients : (T,) float32, (-1)^k / (2k + 1)
    scale : float32, arcsec per pixel
    width : int, of an image
    out : (B, bands, H * W) float32, written
    line, near, work, owners, weights, cells, image : a ``Workspace``
    """
    height = image.size // width
    state = np.zeros(2, np.int64)
    middle_x, middle_y = np.float32(0.5) * (width - 1), np.float32(0.5) * (height - 1)
    for b in range(first, stop):
        row, clumps = table[b], clump_table[b]
        image[:] = np.float32(0)
        state[:] = 0
        reach = row[REACH]
        for i in range(height):
            y = np.float32((i - middle_y) * scale)
            room = reach * reach - y * y
            if not room > 0:
                continue
            half = np.sqrt(room) / scale
            left = max(np.int64(np.ceil(max(middle_x - half, np.float32(0)))), 0)
            right = min(np.int64(np.floor(min(middle_x + half, np.float32(width)))) + 1, width)
            for begin in range(left, right, BLOCK):
                n = min(right - begin, BLOCK)
                add_row(
                    begin, n, i, y, scale, middle_x, width, state, line, near, work, owners,
                    weights, cells, nodes, start, image, row, clumps, coefficients,
                )  # fmt: skip
        carry_out(state, work, owners, weights, image, row, clumps, coefficients)
        b_out = out[b]
        for band in range(flux.shape[1]):
            for i in range(image.size):
                b_out[band, i] = image[i] * flux[b, band]


class Workspace(NamedTuple):
    """What one thread writes to: lines of pixels, the queue and whose its samples are, an image."""

    line: NDArray[np.float32]
    near: NDArray[np.float32]
    work: NDArray[np.float32]
    owners: NDArray[np.int64]
    weights: NDArray[np.float32]
    cells: NDArray[np.float32]
    image: NDArray[np.float32]


def workspace(pixels: int) -> Workspace:
    return Workspace(
        np.zeros((LANES, BLOCK), np.float32),
        np.zeros(BLOCK, np.float32),
        np.zeros((LANES, BLOCK), np.float32),
        np.zeros((2, SEGMENTS), np.int64),
        np.zeros(BLOCK, np.float32),
        np.zeros((LANES, BLOCK), np.float32),
        np.zeros(pixels, np.float32),
    )
