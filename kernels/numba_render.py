"""Rendering of lensed images on the CPU, with Numba; ``dhs/injection/reference.py`` defines it.

The kernel renders one image at a time. Squares to sample wait in queues, one per node set,
and are sampled together, node by node. Every loop is then over waiting squares and
vectorises, and the sum over the nodes of a square has a fixed order. An image depends only
on its own row of the table.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastnorm.kernels.cpu_vectors import borrow
from fastnorm.kernels.lens_columns import (
    BRIGHT_RING,
    CELL_NODES,
    CELL_RINGS,
    CELLS,
    CLUMPS,
    LENS_Q,
    LENS_STRENGTH,
    LENS_Y,
    NODE_SETS,
    PIXEL_RINGS,
    REACH,
    SOURCE_INVERSE_Q,
    SPLIT,
)
from fastnorm.kernels.numba_cache import cached_njit
from fastnorm.kernels.numba_lens import (
    BLOCK,
    LANES,
    LIGHT,
    U,
    V,
    X,
    Y,
    distance,
    is_near_a_clump,
    jit,
    pixel_level,
    shine,
    shoot,
)

TOGETHER = 32  # squares to sample at once
NODES_AT_ONCE = BLOCK // TOGETHER
VECTOR = 8
ROOM = BLOCK + TOGETHER + VECTOR  # capacity of a queue: most squares before it is drained again
_HALF = np.float32(0.5)


class Queues(NamedTuple):
    """Waiting squares by node set: centres (arcsec), pixels, and number of squares."""

    x: NDArray[np.float32]
    y: NDArray[np.float32]
    pixel: NDArray[np.int64]
    waiting: NDArray[np.int64]


class Stamp(NamedTuple):
    """The image and the buffers for samples, pixels in a line, cells, and sums."""

    image: NDArray[np.float32]
    work: NDArray[np.float32]
    line: NDArray[np.float32]
    line_pixel: NDArray[np.int64]
    near: NDArray[np.float32]
    cells: NDArray[np.float32]
    pixel: NDArray[np.int64]
    level: NDArray[np.int32]
    mean: NDArray[np.float32]


@jit
def whole_vectors(n: Any) -> Any:
    """Round up to whole vectors; values beyond ``n`` are computed and not used."""
    return (n + VECTOR - 1) // VECTOR * VECTOR


@jit
def push(which: Any, x: Any, y: Any, pixel: Any, queues: Any) -> None:
    """Append a square to the queue of a node set."""
    queues.waiting[which] += 1
    i = queues.waiting[which] - 1
    queues.x[which, i], queues.y[which, i], queues.pixel[which, i] = x, y, pixel


@jit
def carry_out(which: Any, most_left: Any, queues: Any, stamp: Any, rule: Any, lens: Any) -> None:
    """Sample squares of a node set, last in first out, until at most ``most_left`` wait."""
    nodes, start, sizes, shares = rule
    row, clumps, coefficients = lens
    work, image, mean = stamp.work, stamp.image, stamp.mean
    at_x, at_y, light = work[X], work[Y], work[LIGHT]
    size, share = sizes[which], shares[which]
    while queues.waiting[which] > most_left:
        count = min(queues.waiting[which], TOGETHER)
        padded = whole_vectors(count)
        begin = queues.waiting[which] - count
        queues.waiting[which] = begin
        wait_x, wait_y = queues.x[which, begin:], queues.y[which, begin:]
        mean[:] = np.float32(0)
        for first in range(start[which], start[which + 1], NODES_AT_ONCE):
            many = min(start[which + 1] - first, NODES_AT_ONCE)
            for k in range(many):
                to_x, to_y = size * nodes[0, first + k], size * nodes[1, first + k]
                row_x, row_y = at_x[k * padded :], at_y[k * padded :]
                for i in range(padded):
                    row_x[i] = wait_x[i] + to_x
                    row_y[i] = wait_y[i] + to_y
            shoot(work, many * padded, row, coefficients)
            shine(work, many * padded, row, clumps)
            for k in range(many):
                weight = nodes[2, first + k] * share
                row_light = light[k * padded :]
                for i in range(padded):
                    mean[i] += row_light[i] * weight
        for i in range(count):
            image[queues.pixel[which, begin + i]] += mean[i]


@jit
def split(most_left: Any, queues: Any, stamp: Any, rule: Any, lens: Any) -> None:
    """Sample the cells of split pixels, last in first out; cells near the source wait for more."""
    nodes, start, sizes, shares = rule
    row, clumps, coefficients = lens
    cells, level, image, pixel = stamp.cells, stamp.level, stamp.image, stamp.pixel
    at_x, at_y, u, v, light = cells[X], cells[Y], cells[U], cells[V], cells[LIGHT]
    scale, half, share = sizes[CELLS], sizes[CELL_NODES + 1] * _HALF, shares[CELL_NODES + 1]
    inverse_q, has_clumps = row[SOURCE_INVERSE_Q], row[CLUMPS] > 0
    near, nearest = row[CELL_RINGS], row[CELL_RINGS + 1]
    while queues.waiting[CELLS] > most_left:
        count = min(queues.waiting[CELLS], TOGETHER)
        padded = whole_vectors(count)
        begin = queues.waiting[CELLS] - count
        queues.waiting[CELLS] = begin
        wait_x, wait_y = queues.x[CELLS, begin:], queues.y[CELLS, begin:]
        for first in range(start[CELLS], start[CELLS + 1], NODES_AT_ONCE):
            many = min(start[CELLS + 1] - first, NODES_AT_ONCE)
            for k in range(many):
                to_x, to_y = scale * nodes[0, first + k], scale * nodes[1, first + k]
                row_x, row_y, row_pixel = (
                    at_x[k * padded :],
                    at_y[k * padded :],
                    pixel[k * padded :],
                )
                for i in range(padded):
                    row_x[i] = wait_x[i] + to_x
                    row_y[i] = wait_y[i] + to_y
                    row_pixel[i] = queues.pixel[CELLS, begin + i]
            shoot(cells, many * padded, row, coefficients)
            shine(cells, many * padded, row, clumps)
            for i in range(many * padded):
                distant = distance(u[i], v[i], inverse_q, half)
                level[i] = np.int32(distant < near) + np.int32(distant < nearest)
            for k in range(many):
                for i in range(k * padded, k * padded + count):
                    number = level[i]
                    if has_clumps and number == 0:
                        number = is_near_a_clump(u[i], v[i], half, row, clumps)
                    if number == 0:
                        image[pixel[i]] += light[i] * share
                    else:
                        push(CELL_NODES + number, at_x[i], at_y[i], pixel[i], queues)
            carry_out(CELL_NODES + 1, TOGETHER, queues, stamp, rule, lens)
            carry_out(CELL_NODES + 2, TOGETHER, queues, stamp, rule, lens)


@jit
def look_at_line(n: Any, queues: Any, stamp: Any, rule: Any, lens: Any) -> None:
    """Compute the light at the centres of ``n`` pixels; pixels of higher levels wait instead."""
    _, _, sizes, _ = rule
    row, clumps, coefficients = lens
    line, near, image = stamp.line, stamp.near, stamp.image
    at_x, at_y, u, v, light = line[X], line[Y], line[U], line[V], line[LIGHT]
    padded = whole_vectors(n)
    shoot(line, padded, row, coefficients)
    shine(line, padded, row, clumps)
    scale, inverse_q = sizes[0], row[SOURCE_INVERSE_Q]
    half = scale * _HALF
    for j in range(padded):
        near[j] = distance(u[j], v[j], inverse_q, half)
    widest = max(row[PIXEL_RINGS], row[BRIGHT_RING])
    has_lens, has_clumps, lens_y = row[LENS_STRENGTH] > 0, row[CLUMPS] > 0, row[LENS_Y]
    # Pixels that are split because they touch the lens are within this distance in y.
    room = scale + half / np.sqrt(row[LENS_Q]) if has_lens else np.float32(0)
    for j in range(n):
        is_plain = near[j] >= widest and not (has_lens and abs(at_y[j] - lens_y) < room)
        pixel = stamp.line_pixel[j]
        if is_plain and not has_clumps:
            image[pixel] = light[j]
            continue
        level = pixel_level(at_x[j], at_y[j], near[j], row, scale)
        if has_clumps and is_near_a_clump(u[j], v[j], half, row, clumps):
            level = SPLIT
        if level == 0:
            image[pixel] = light[j]
        else:
            push(level, at_x[j], at_y[j], pixel, queues)
    for level in range(1, SPLIT):
        carry_out(level, TOGETHER, queues, stamp, rule, lens)
    split(TOGETHER, queues, stamp, rule, lens)


@jit
def render_image(width: Any, queues: Any, stamp: Any, rule: Any, lens: Any) -> None:
    """Render all pixels within reach of the light of one source."""
    row, scale = lens[0], rule[2][0]
    line, line_pixel, image = stamp.line, stamp.line_pixel, stamp.image
    at_x, at_y = line[X], line[Y]
    image[:] = np.float32(0)
    height = image.size // width
    middle_x, middle_y = _HALF * np.float32(width - 1), _HALF * np.float32(height - 1)
    reach, filled = row[REACH], 0
    for i in range(height):
        y = (np.float32(i) - middle_y) * scale
        room = reach * reach - y * y
        if not room > 0:
            continue
        half = np.sqrt(room) / scale
        left = np.int64(np.ceil(max(middle_x - half, np.float32(0))))
        right = np.int64(np.floor(min(middle_x + half, np.float32(width - 1)))) + 1
        for j in range(left, right):
            if filled == BLOCK:
                look_at_line(filled, queues, stamp, rule, lens)
                filled = 0
            at_x[filled] = (np.float32(j) - middle_x) * scale
            at_y[filled] = y
            line_pixel[filled] = i * width + j
            filled += 1
    look_at_line(filled, queues, stamp, rule, lens)
    split(0, queues, stamp, rule, lens)
    for which in range(NODE_SETS):
        carry_out(which, 0, queues, stamp, rule, lens)


@cached_njit(nogil=True, error_model="numpy")
def render_images(
    table: Any, clumps: Any, flux: Any, nodes: Any, start: Any, coefficients: Any, scale: Any,
    width: Any, out: Any, space: Any, first: Any, stop: Any,
) -> None:  # fmt: skip
    """Render images ``first`` to ``stop - 1``.

    Parameters
    ----------
    table : (B, COLUMNS) float32
    clumps : (B, M, CLUMP_COLUMNS) float32
    flux : (B, bands) float32
    nodes : (3, K) float32, positions in pixels and weights of the node sets
    start : (NODE_SETS + 1,) int32
    coefficients : (T,) float32, (-1)^k / (2k + 1)
    scale : float32, arcsec per pixel
    width : int, of an image in pixels
    out : (B, bands, H * W) float32, written
    space : a ``Workspace``
    """
    o_queues, o_stamp = space
    queues = Queues(
        borrow(o_queues.x), borrow(o_queues.y), borrow(o_queues.pixel), borrow(o_queues.waiting)
    )
    stamp = Stamp(
        borrow(o_stamp.image), borrow(o_stamp.work), borrow(o_stamp.line),
        borrow(o_stamp.line_pixel), borrow(o_stamp.near), borrow(o_stamp.cells),
        borrow(o_stamp.pixel), borrow(o_stamp.level), borrow(o_stamp.mean),
    )  # fmt: skip
    share = nodes[2, start[CELLS]]
    owned_sizes = np.full(NODE_SETS, scale)
    owned_sizes[CELL_NODES + 1 :] = scale * np.sqrt(share)
    owned_shares = np.full(NODE_SETS, np.float32(1))
    owned_shares[CELL_NODES + 1 :] = share
    rule = (borrow(nodes), borrow(start), borrow(owned_sizes), borrow(owned_shares))
    rows, all_clumps, images = borrow(table), borrow(clumps), borrow(out)
    queues.waiting[:] = 0
    for b in range(first, stop):
        lens = (rows[b], all_clumps[b], borrow(coefficients))
        render_image(width, queues, stamp, rule, lens)
        for band in range(flux.shape[1]):
            plane, amount = images[b, band], flux[b, band]
            for i in range(plane.size):
                plane[i] = stamp.image[i] * amount


class Workspace(NamedTuple):
    """Buffers of one thread."""

    queues: Queues
    stamp: Stamp


def workspace(pixels: int) -> Workspace:
    return Workspace(
        Queues(
            np.zeros((NODE_SETS, ROOM), np.float32),
            np.zeros((NODE_SETS, ROOM), np.float32),
            np.zeros((NODE_SETS, ROOM), np.int64),
            np.zeros(NODE_SETS, np.int64),
        ),
        Stamp(
            np.zeros(pixels, np.float32),
            np.zeros((LANES, BLOCK), np.float32),
            np.zeros((LANES, BLOCK), np.float32),
            np.zeros(BLOCK, np.int64),
            np.zeros(BLOCK, np.float32),
            np.zeros((LANES, BLOCK), np.float32),
            np.zeros(BLOCK, np.int64),
            np.zeros(BLOCK, np.int32),
            np.zeros(TOGETHER, np.float32),
        ),
    )
