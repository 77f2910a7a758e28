"""Streaming normalisation of the pixels of a plane: load, divide, clip, turn, cast, store."""

from __future__ import annotations

import triton
import triton.language as tl

ALIGNED = tl.constexpr(8)  # elements of the output: 128 bits of 16-bit dtypes, 256 of float32
VECTOR = tl.constexpr(16)  # bytes
IS_INTERPRETED = tl.constexpr(bool(triton.knobs.runtime.interpret))


@triton.jit
def offset_of(pixel, row_stride, column_stride, WIDTH: tl.constexpr):
    """Convert flat indices of pixels to offsets in a plane of any strides."""
    return (pixel // WIDTH).to(tl.int64) * row_stride + pixel % WIDTH * column_stride


@triton.jit
def widened(raw, COMPUTE):
    """Convert a loaded value to the dtype of the computation; bfloat16 is loaded as its bits."""
    if raw.dtype == tl.int16:
        value = (raw.to(tl.int32) << 16).to(tl.float32, bitcast=True)
    else:
        value = raw.to(COMPUTE)
    return value


@triton.jit
def _narrowed(y, OUT):
    """Cast a result to the dtype of the output, via float32 to 16 bits, as torch does."""
    if OUT.primitive_bitwidth == 16:
        y = y.to(tl.float32)
    if OUT == tl.int16:
        if IS_INTERPRETED:
            # Triton's interpreter truncates to bfloat16, a GPU rounds to even.
            bits = y.to(tl.int32, bitcast=True)
            bits = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
            y = tl.where(y == y, bits, 0x7FC0)
        else:
            y = y.to(tl.bfloat16).to(tl.int16, bitcast=True)
    return y.to(OUT)


@triton.jit
def normalized(raw, median, scale, inverse, limit, OUT, NAN_TO_ZERO):
    """Normalise loaded pixels: (x - median) / scale, correctly rounded, clipped and cast."""
    x = widened(raw, scale.dtype)
    if NAN_TO_ZERO:
        x = tl.where(x == x, x, 0.0)
    y = x - median
    if inverse != 0:
        y = (y.to(tl.float64) * inverse).to(scale.dtype)
    else:
        y = y / scale if scale.dtype == tl.float64 else tl.div_rn(y, scale)
        if NAN_TO_ZERO:
            y = tl.where(y == y, y, 0.0)
    if scale.dtype == tl.float64:
        y = tl.where(tl.abs(y) > limit, tl.where(y < 0, -limit, limit), y)
    else:
        y = tl.clamp(y, -limit, limit, propagate_nan=tl.PropagateNan.ALL)
    return _narrowed(y, OUT)


@triton.jit
def _to_alignment(p, BYTES: tl.constexpr):
    """Return the bytes from an address to the next multiple of ``BYTES``."""
    return (-p.to(tl.int64)) & (BYTES - 1)


@triton.jit
def _store_body(
    p_plane, p_out, first, count, row_stride, column_stride, median, scale, inverse, limit,
    WIDTH: tl.constexpr, STEP, NAN_TO_ZERO, IS_STRIDED: tl.constexpr, BLOCK,
):  # fmt: skip
    """Store ``count`` pixels from ``first`` on; ``p_out`` is where the first of them goes."""
    OUT: tl.constexpr = p_out.dtype.element_ty
    for block in range(0, count, BLOCK):
        i = block + tl.arange(0, BLOCK)
        p_pixel = p_plane + i
        if IS_STRIDED:
            p_pixel = p_plane + offset_of(first + i, row_stride, column_stride, WIDTH)
        raw = tl.load(p_pixel, mask=i < count)
        y = normalized(raw, median, scale, inverse, limit, OUT, NAN_TO_ZERO)
        tl.store(p_out + i * STEP, y, mask=i < count)


@triton.jit
def store_straight(
    p_plane, p_out, row_stride, column_stride, median, scale, inverse, limit,
    SIZE: tl.constexpr, WIDTH: tl.constexpr, STEP: tl.constexpr, NAN_TO_ZERO,
    IS_STRIDED: tl.constexpr, BLOCK,
):  # fmt: skip
    """Store a plane, 128 bits at a time except at the ends; pixel ``i`` goes to ``i * STEP``."""
    OUT: tl.constexpr = p_out.dtype.element_ty
    # Stores decide what is aligned, or loads, if stores are too far apart to be wide.
    p_wide = p_out if STEP == 1 else p_plane
    ITEM: tl.constexpr = p_wide.dtype.element_ty.primitive_bitwidth // 8
    head = tl.minimum(_to_alignment(p_wide, ALIGNED * ITEM) // ITEM, SIZE).to(tl.int32)
    body = (SIZE - head) // ALIGNED * ALIGNED
    p_body = tl.multiple_of(p_out + head, VECTOR) if STEP == 1 else p_out + head * STEP
    if IS_STRIDED:
        _store_body(
            p_plane, p_body, head, body, row_stride, column_stride, median, scale, inverse, limit,
            WIDTH, STEP, NAN_TO_ZERO, True, BLOCK,
        )  # fmt: skip
    elif _to_alignment(p_plane + head, VECTOR) == 0:
        _store_body(
            tl.multiple_of(p_plane + head, VECTOR), p_body, head, body, 0, 0, median, scale,
            inverse, limit, WIDTH, STEP, NAN_TO_ZERO, False, BLOCK,
        )  # fmt: skip
    else:
        _store_body(
            p_plane + head, p_body, head, body, 0, 0, median, scale, inverse, limit,
            WIDTH, STEP, NAN_TO_ZERO, False, BLOCK,
        )  # fmt: skip
    i = tl.arange(0, 2 * ALIGNED)
    i = tl.where(i < ALIGNED, i, head + body + i - ALIGNED)
    m_end = ((i < head) | (i >= head + body)) & (i < SIZE)
    p_pixel = p_plane + i
    if IS_STRIDED:
        p_pixel = p_plane + offset_of(i, row_stride, column_stride, WIDTH)
    raw = tl.load(p_pixel, mask=m_end)
    y = normalized(raw, median, scale, inverse, limit, OUT, NAN_TO_ZERO)
    tl.store(p_out + i * STEP, y, mask=m_end)


@triton.jit
def store_turned(
    p_plane, p_out, row_stride, column_stride, element, median, scale, inverse, limit,
    SIDE: tl.constexpr, STEP, NAN_TO_ZERO, IS_STRIDED: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """Store a square plane flipped and turned, in tiles, so that loads and stores go by rows."""
    OUT: tl.constexpr = p_out.dtype.element_ty
    LAST: tl.constexpr = SIDE - 1
    TILES: tl.constexpr = SIDE // TILE
    WHOLE: tl.constexpr = TILES * TILE
    REST: tl.constexpr = SIDE - WHOLE
    if not IS_STRIDED:
        row_stride, column_stride = SIDE, 1
    turns, is_flipped = element % 4, element >= 4
    is_transposed = turns % 2 == 1
    # The pixel (row, column) goes to corner + row * down + column * right.
    down = tl.where(is_transposed, 1, SIDE) * tl.where(turns >= 2, -1, 1)
    right = tl.where(is_transposed, SIDE, 1) * tl.where((turns == 1) | (turns == 2), -1, 1)
    right = tl.where(is_flipped, -right, right)
    corner = tl.where(down < 0, -down, 0) * LAST + tl.where(right < 0, -right, 0) * LAST
    lane = tl.arange(0, TILE)
    taken = lane[:, None] * row_stride + lane[None, :] * column_stride
    placed = lane[:, None] * tl.where(is_transposed, right, down) * STEP
    placed += lane[None, :] * tl.where(is_transposed, down, right) * STEP
    for tile in range(TILES * TILES):
        row, column = tile // TILES * TILE, tile % TILES * TILE
        raw = tl.load(p_plane + (row * row_stride + column * column_stride) + taken)
        y = normalized(raw, median, scale, inverse, limit, OUT, NAN_TO_ZERO)
        if is_transposed:
            y = tl.trans(y)
        tl.store(p_out + (corner + row * down + column * right) * STEP + placed, y)
    # The border: the rows below the tiles, then the columns on their right.
    BORDER: tl.constexpr = REST * (SIDE + WHOLE)
    for first in range(0, BORDER, TILE * TILE):
        i = first + tl.arange(0, TILE * TILE)
        j = i - REST * SIDE
        row = tl.where(j < 0, WHOLE + i // SIDE, j // max(REST, 1))
        column = tl.where(j < 0, i % SIDE, WHOLE + j % max(REST, 1))
        p_pixel = p_plane + (row * row_stride + column * column_stride)
        raw = tl.load(p_pixel, mask=i < BORDER)
        y = normalized(raw, median, scale, inverse, limit, OUT, NAN_TO_ZERO)
        tl.store(p_out + (corner + row * down + column * right) * STEP, y, mask=i < BORDER)
