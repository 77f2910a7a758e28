"""Rendering of lensed images on a GPU, in one Triton kernel; see ``dhs/injection/reference.py``.

A program is one warp with a tile of adjacent pixels, one per lane. It evaluates their
centres. Then all lanes together sample the pixels that need more: nodes of a pixel, cells
of a split pixel and nodes of a cell are spread over the lanes. No lane therefore waits for
the level of another, and every sum has a fixed order.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import triton
import triton.language as tl
from torch import Tensor

from fastnorm.kernels import lens_columns as column

LANES = tl.constexpr(32)
TILE_HEIGHT, TILE_WIDTH = tl.constexpr(4), tl.constexpr(8)
TERMS_AT_ONCE = tl.constexpr(16)  # with fewer, the assembler unrolls the loop
TINY = tl.constexpr(1e-30)
# 2^-(2^6.5) is negligible in every sum, and values below 2^-126 are flushed to 0 or slow.
FAINTEST, LEAST = tl.constexpr(6.5), tl.constexpr(-126.0)


class Scene(NamedTuple):
    """A row of the table, and pointers to the other tables."""

    p_row: Any
    p_clumps: Any  # clumps of this image; unused if no image has clumps
    p_coefficients: Any
    p_nodes: Any
    p_start: Any
    nodes: Any  # length of a row of the node table
    lens_x: Any
    lens_y: Any
    cos: Any
    sin: Any
    q: Any
    squash: Any
    strength: Any
    shear_1: Any
    shear_2: Any
    source_x: Any
    source_y: Any
    source_cos: Any
    source_sin: Any
    inverse_q: Any
    half_power: Any
    log2_scale: Any
    amplitude: Any
    terms: Any
    clumps: Any  # number of clumps
    clump_stride: Any


@triton.jit
def _scene(p_row, p_clumps, p_coefficients, p_nodes, p_start, nodes, clump_stride):
    terms = tl.load(p_row + column.TERMS).to(tl.int32)
    return Scene(
        p_row, p_clumps, p_coefficients, p_nodes, p_start, nodes,
        tl.load(p_row + column.LENS_X), tl.load(p_row + column.LENS_Y),
        tl.load(p_row + column.LENS_COS), tl.load(p_row + column.LENS_SIN),
        tl.load(p_row + column.LENS_Q), tl.load(p_row + column.LENS_SQUASH),
        tl.load(p_row + column.LENS_STRENGTH),
        tl.load(p_row + column.SHEAR_1), tl.load(p_row + column.SHEAR_2),
        tl.load(p_row + column.SOURCE_X), tl.load(p_row + column.SOURCE_Y),
        tl.load(p_row + column.SOURCE_COS), tl.load(p_row + column.SOURCE_SIN),
        tl.load(p_row + column.SOURCE_INVERSE_Q), tl.load(p_row + column.HALF_POWER),
        tl.load(p_row + column.LOG2_SCALE), tl.load(p_row + column.AMPLITUDE),
        (terms + TERMS_AT_ONCE - 1) // TERMS_AT_ONCE * TERMS_AT_ONCE,
        tl.load(p_row + column.CLUMPS).to(tl.int32), clump_stride,
    )  # fmt: skip


@triton.jit
def _shoot(x, y, s):
    """Map image positions to the source plane, in the frame of the source."""
    from_x, from_y = x - s.lens_x, y - s.lens_y
    along, across = s.cos * from_x + s.sin * from_y, s.cos * from_y - s.sin * from_x
    r = tl.sqrt(along * along + across * across)
    psi = tl.sqrt(s.q * s.q * along * along + across * across)
    half_u, half_v = along / (r + psi + TINY), across / (s.q * r + psi + TINY)
    t_u, t_v = s.squash * half_u * half_u, -s.squash * half_v * half_v
    series_u = tl.full(t_u.shape, 0.0, tl.float32)
    series_v = series_u
    # arctan(z) / z and artanh(z) / z are one series, evaluated from the last term.
    for done in range(0, s.terms, TERMS_AT_ONCE):
        p_last = s.p_coefficients + (s.terms - 1 - done)
        for k in tl.static_range(TERMS_AT_ONCE):
            term = tl.load(p_last - k)
            series_u, series_v = tl.fma(series_u, t_u, term), tl.fma(series_v, t_v, term)
    along, across = s.strength * half_u * series_u, s.strength * half_v * series_v
    alpha_x, alpha_y = s.cos * along - s.sin * across, s.sin * along + s.cos * across
    to_x = x - alpha_x - (s.shear_1 * x + s.shear_2 * y) - s.source_x
    to_y = y - alpha_y - (s.shear_2 * x - s.shear_1 * y) - s.source_y
    return s.source_cos * to_x + s.source_sin * to_y, s.source_cos * to_y - s.source_sin * to_x


@triton.jit
def _shine(u, v, s, HAS_CLUMPS: tl.constexpr):
    """Compute the light per pixel of a source of flux 1."""
    across = v * s.inverse_q
    exponent = s.half_power * tl.log2(u * u + across * across + TINY) + s.log2_scale
    exponent = tl.maximum(tl.minimum(exponent, FAINTEST), LEAST)
    light = s.amplitude * tl.exp2(-tl.exp2(exponent))
    if HAS_CLUMPS:
        # The stride is not a compile-time constant, so that the assembler does not unroll the loop.
        for offset in range(0, s.clumps * s.clump_stride, s.clump_stride):
            p_clump = s.p_clumps + offset
            to_u = u - tl.load(p_clump + column.CLUMP_X)
            to_v = v - tl.load(p_clump + column.CLUMP_Y)
            exponent = tl.load(p_clump + column.CLUMP_RATE) * (to_u * to_u + to_v * to_v)
            height = tl.load(p_clump + column.CLUMP_AMPLITUDE)
            light += height * tl.exp2(-tl.minimum(exponent, -LEAST))
    return light


@triton.jit
def _distance(u, v, inverse_q, size):
    """Return the squared elliptical radius of the nearest point of a pixel or cell."""
    near_u = tl.maximum(tl.abs(u) - size * 0.5, 0.0)
    near_v = tl.maximum(tl.abs(v) - size * 0.5, 0.0) * inverse_q
    return near_u * near_u + near_v * near_v


@triton.jit
def _is_near_a_clump(u, v, size, s, HAS_CLUMPS: tl.constexpr):
    """Return 1 where a pixel or cell is within reach of a clump."""
    is_near = tl.full(u.shape, 0, tl.int32)
    if HAS_CLUMPS:
        for offset in range(0, s.clumps * s.clump_stride, s.clump_stride):
            p_clump = s.p_clumps + offset
            to_u = u - tl.load(p_clump + column.CLUMP_X)
            to_v = v - tl.load(p_clump + column.CLUMP_Y)
            reach = tl.load(p_clump + column.CLUMP_REACH)
            is_near |= (_distance(to_u, to_v, 1.0, size) < reach * reach).to(tl.int32)
    return is_near


@triton.jit
def _pixel_level(x, y, u, v, scale, s, HAS_CLUMPS: tl.constexpr):
    near = _distance(u, v, s.inverse_q, scale)
    level = (near < tl.load(s.p_row + column.PIXEL_RINGS)).to(tl.int32)
    level += (near < tl.load(s.p_row + column.PIXEL_RINGS + 1)).to(tl.int32)
    level += (near < tl.load(s.p_row + column.PIXEL_RINGS + 2)).to(tl.int32)
    if s.strength > 0:
        # The same as `_distance`, but from the lens, in the radius of its convergence.
        to_x, to_y = x - s.lens_x, y - s.lens_y
        near_u = tl.maximum(tl.abs(s.cos * to_x + s.sin * to_y) - scale * 0.5, 0.0)
        near_v = tl.maximum(tl.abs(s.cos * to_y - s.sin * to_x) - scale * 0.5, 0.0)
        from_lens = s.q * near_u * near_u + near_v * near_v / s.q
        half = tl.load(s.p_row + column.THETA_E) * 0.5
        is_bright = near < tl.load(s.p_row + column.BRIGHT_RING)
        level += (is_bright & (from_lens < half * half)).to(tl.int32)
        level += (is_bright & (4 * from_lens < half * half)).to(tl.int32)
        level = tl.where(4 * from_lens < scale * scale, column.SPLIT, level)
    level += column.SPLIT * _is_near_a_clump(u, v, scale, s, HAS_CLUMPS)
    return tl.minimum(level, column.SPLIT)


@triton.jit
def _sample(x, y, size, which, part, parts, s, HAS_CLUMPS: tl.constexpr):
    """Sum by lane the weighted light of nodes ``part``, ``part + parts``, ... of a set."""
    stop = tl.load(s.p_start + which + 1)
    total = tl.full((LANES,), 0.0, tl.float32)
    for first in range(tl.load(s.p_start + which), stop, parts):
        node = first + part
        m_node = node < stop
        at_x = x + size * tl.load(s.p_nodes + node, mask=m_node, other=0)
        at_y = y + size * tl.load(s.p_nodes + s.nodes + node, mask=m_node, other=0)
        weight = tl.load(s.p_nodes + 2 * s.nodes + node, mask=m_node, other=0)
        u, v = _shoot(at_x, at_y, s)
        total += weight * _shine(u, v, s, HAS_CLUMPS)
    return total


@triton.jit
def _split(x, y, scale, s, HAS_CLUMPS: tl.constexpr):
    """Sum by lane a part of the light of one pixel, whose cells are spread over the lanes."""
    lane = tl.arange(0, LANES)
    begin = tl.load(s.p_start + column.CELLS)
    cells = tl.load(s.p_start + column.CELLS + 1) - begin
    p_x = s.p_nodes + begin
    p_y = p_x + s.nodes
    share = tl.load(p_y + s.nodes)
    size = scale * tl.sqrt(share)
    abreast = tl.minimum(cells, LANES)
    part, parts = lane // abreast, tl.full((), LANES, tl.int32) // abreast
    total = tl.full((LANES,), 0.0, tl.float32)
    for first in range(0, cells, abreast):
        cell = first + lane % abreast
        m_cell = (cell < cells) & (part < parts)
        at_x = x + scale * tl.load(p_x + cell, mask=m_cell, other=0)
        at_y = y + scale * tl.load(p_y + cell, mask=m_cell, other=0)
        u, v = _shoot(at_x, at_y, s)
        near = _distance(u, v, s.inverse_q, size)
        level = (near < tl.load(s.p_row + column.CELL_RINGS)).to(tl.int32)
        level += (near < tl.load(s.p_row + column.CELL_RINGS + 1)).to(tl.int32)
        level = tl.where(m_cell, tl.maximum(level, _is_near_a_clump(u, v, size, s, HAS_CLUMPS)), -1)
        total += tl.where((level == 0) & (part == 0), _shine(u, v, s, HAS_CLUMPS), 0.0)
        if tl.max((level == 1).to(tl.int32)) > 0:
            finer = _sample(at_x, at_y, size, column.CELL_NODES + 1, part, parts, s, HAS_CLUMPS)
            total += tl.where(level == 1, finer, 0.0)
        chosen = tl.max(tl.where(level == 2, cell, -1))
        while chosen >= 0:
            cell_x, cell_y = x + scale * tl.load(p_x + chosen), y + scale * tl.load(p_y + chosen)
            finest = column.CELL_NODES + 2
            total += _sample(cell_x, cell_y, size, finest, lane, LANES, s, HAS_CLUMPS)
            level = tl.where(cell == chosen, -1, level)
            chosen = tl.max(tl.where(level == 2, cell, -1))
    return total * share


@triton.jit
def _tile_light(x, y, left, top, m_lit, scale, s, HAS_CLUMPS: tl.constexpr):
    """Compute the mean light in the pixels of a tile, at least one of which is lit."""
    lane = tl.arange(0, LANES)
    u, v = _shoot(x, y, s)
    level = tl.where(m_lit, _pixel_level(x, y, u, v, scale, s, HAS_CLUMPS), 0)
    light = _shine(u, v, s, HAS_CLUMPS)
    if tl.max((level == 1).to(tl.int32)) > 0:
        light = tl.where(level == 1, _sample(x, y, scale, 1, lane * 0, 1, s, HAS_CLUMPS), light)
    # Pixels of higher levels one at a time, the split ones first.
    waiting = tl.where(level > 1, level * LANES + lane, -1)
    chosen = tl.max(waiting)
    while chosen >= 0:
        at_x = (left + chosen % TILE_WIDTH) * scale
        at_y = (top + chosen % LANES // TILE_WIDTH) * scale
        if chosen >= column.SPLIT * LANES:
            part = _split(at_x, at_y, scale, s, HAS_CLUMPS)
        else:
            part = _sample(at_x, at_y, scale, 2, lane, LANES, s, HAS_CLUMPS)
        light = tl.where(waiting == chosen, tl.sum(part), light)
        waiting = tl.where(waiting == chosen, -1, waiting)
        chosen = tl.max(waiting)
    return tl.where(m_lit, light, 0.0)


@triton.jit(do_not_specialize=["image_stride", "clump_stride", "nodes"])
def _render_tile(
    p_table, p_clumps, p_flux, p_nodes, p_start, p_coefficients, p_out,
    image_stride, clump_stride, nodes, scale,
    BANDS: tl.constexpr, HEIGHT: tl.constexpr, WIDTH: tl.constexpr, HAS_CLUMPS: tl.constexpr,
):  # fmt: skip
    ACROSS: tl.constexpr = (WIDTH + TILE_WIDTH - 1) // TILE_WIDTH
    TILES: tl.constexpr = (HEIGHT + TILE_HEIGHT - 1) // TILE_HEIGHT * ACROSS
    program, lane = tl.program_id(0), tl.arange(0, LANES)
    image, tile = (program // TILES).to(tl.int64), program % TILES
    i, j = tile // ACROSS * TILE_HEIGHT, tile % ACROSS * TILE_WIDTH
    # Position in pixels from the centre of the image.
    top, left = i - 0.5 * (HEIGHT - 1), j - 0.5 * (WIDTH - 1)
    i, j = i + lane // TILE_WIDTH, j + lane % TILE_WIDTH
    x, y = (left + lane % TILE_WIDTH) * scale, (top + lane // TILE_WIDTH) * scale
    m_pixel = (i < HEIGHT) & (j < WIDTH)
    p_row = p_table + image * column.COLUMNS
    reach = tl.load(p_row + column.REACH)
    m_lit = m_pixel & (x * x + y * y < reach * reach)
    light = tl.full((LANES,), 0.0, tl.float32)
    if tl.max(m_lit.to(tl.int32)) > 0:
        p_clumps += image * image_stride
        scene = _scene(p_row, p_clumps, p_coefficients, p_nodes, p_start, nodes, clump_stride)
        light = _tile_light(x, y, left, top, m_lit, scale, scene, HAS_CLUMPS)
    p_pixel = p_out + image * BANDS * HEIGHT * WIDTH + i * WIDTH + j
    for band in range(BANDS):
        amount = tl.load(p_flux + image * BANDS + band)
        tl.store(p_pixel + band * HEIGHT * WIDTH, amount * light, mask=m_pixel)


def launch(
    table: Tensor,
    clumps: Tensor,
    flux: Tensor,
    nodes: Tensor,
    start: Tensor,
    coefficients: Tensor,
    pixel_scale: float,
    out: Tensor,
) -> None:
    """Render B images; all tensors must be contiguous, on one device, and already checked.

    Parameters
    ----------
    table : (B, COLUMNS) float32 tensor
        Columns as in `lens_columns`.
    clumps : (B, M, CLUMP_COLUMNS) float32 tensor
        M may be 0.
    flux : (B, bands) float32 tensor
    nodes : (3, K) float32 tensor
        Positions in pixels and weights of the node sets.
    start : (NODE_SETS + 1,) int32 tensor
    coefficients : (T,) float32 tensor
        ``(-1)^k / (2k + 1)``; T is a multiple of `TERMS_AT_ONCE` and enough for every row.
    pixel_scale : float
        Arcsec per pixel.
    out : (B, bands, H, W) float32 tensor
        Written.
    """
    count, bands, height, width = out.shape
    tiles = -(-height // TILE_HEIGHT.value) * -(-width // TILE_WIDTH.value)
    _render_tile[(count * tiles,)](
        table, clumps if clumps.shape[1] else table, flux, nodes, start, coefficients, out,
        clumps.shape[1] * column.CLUMP_COLUMNS, column.CLUMP_COLUMNS, nodes.shape[1], pixel_scale,
        BANDS=bands, HEIGHT=height, WIDTH=width, HAS_CLUMPS=clumps.shape[1] > 0,
        num_warps=1, enable_fp_fusion=False,
    )  # fmt: skip
