"""Streaming normalisation of the pixels of a plane: load, divide, clip, turn, cast, store."""

from __future__ import annotations

import triton
import triton.language as tl

ALIGNED = tl.constexpr(8)  # elements: 128 bits of 16-bit output, 256 of float32


@triton.jit
def widened(raw, COMPUTE):
    """Convert a loaded value to the dtype of the computation; bfloat16 is loaded as its bits."""
    if raw.dtype == tl.int16:
        value = (raw.to(tl.int32) << 16).to(tl.float32, bitcast=True)
    else:
        value = raw.to(COMPUTE)
    return value


@triton.jit
def _narrowed(y, OUT, HAS_NAN):
    """Cast a result to the dtype of the output, via float32 to 16 bits, as torch does."""
    if OUT.primitive_bitwidth == 16:
        y = y.to(tl.float32)
    if OUT == tl.int16:
        # Round explicitly: Triton's interpreter truncates to bfloat16, a GPU rounds to even.
        bits = y.to(tl.int32, bitcast=True)
        bits = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
        y = tl.where(y == y, bits, 0x7FC0) if HAS_NAN else bits
    return y.to(OUT)


@triton.jit
def normalized(raw, median, scale, inverse, OUT, CLIP, NAN_TO_ZERO):
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
    if CLIP is not None and scale.dtype == tl.float64:
        y = tl.where(tl.abs(y) > CLIP, tl.where(y < 0, -CLIP, CLIP), y)
    elif CLIP is not None:
        y = tl.clamp(y, -CLIP, CLIP, propagate_nan=tl.PropagateNan.ALL)
    return _narrowed(y, OUT, not NAN_TO_ZERO)


@triton.jit
def store_straight(
    p_source, p_out, p_channel, start, median, scale, inverse,
    SIZE, CHANNELS, CLIP, NAN_TO_ZERO, CHANNELS_LAST, BLOCK,
):  # fmt: skip
    """Store ``SIZE`` elements from ``start`` on, 128 bits at a time except at the ends."""
    OUT: tl.constexpr = p_out.dtype.element_ty
    stop = start + SIZE
    first, last = (start + ALIGNED - 1) // ALIGNED * ALIGNED, stop // ALIGNED * ALIGNED
    for block in range(first, last, BLOCK):
        i = block + tl.arange(0, BLOCK)
        raw = tl.load(p_source + i, mask=i < last)
        y = normalized(raw, median, scale, inverse, OUT, CLIP, NAN_TO_ZERO)
        p_y = p_channel + (i - start) * CHANNELS if CHANNELS_LAST else p_out + i
        tl.store(p_y, y, mask=i < last)
    i = tl.arange(0, 2 * ALIGNED)
    i = tl.where(i < ALIGNED, start + i, last + i - ALIGNED)
    m_end = ((i < first) | (i >= last)) & (i < stop)
    raw = tl.load(p_source + i, mask=m_end)
    y = normalized(raw, median, scale, inverse, OUT, CLIP, NAN_TO_ZERO)
    p_y = p_channel + (i - start) * CHANNELS if CHANNELS_LAST else p_out + i
    tl.store(p_y, y, mask=m_end)


@triton.jit
def store_turned(
    p_plane, p_channel, element, median, scale, inverse,
    SIDE, STRIDE, CLIP, NAN_TO_ZERO, TILE,
):  # fmt: skip
    """Store a square plane flipped and turned, in tiles, so that loads and stores go by rows."""
    OUT: tl.constexpr = p_channel.dtype.element_ty
    LAST: tl.constexpr = SIDE - 1
    TILES: tl.constexpr = (SIDE + TILE - 1) // TILE
    turns, is_flipped = element % 4, element >= 4
    is_transposed = turns % 2 == 1
    # The pixel (row, column) goes to corner + row * down + column * right.
    down = tl.where(is_transposed, 1, SIDE) * tl.where(turns >= 2, -1, 1)
    right = tl.where(is_transposed, SIDE, 1) * tl.where((turns == 1) | (turns == 2), -1, 1)
    right = tl.where(is_flipped, -right, right)
    corner = tl.where(down < 0, -down, 0) * LAST + tl.where(right < 0, -right, 0) * LAST
    lane = tl.arange(0, TILE)
    taken = lane[:, None] * SIDE + lane[None, :]
    placed = lane[:, None] * tl.where(is_transposed, right, down) * STRIDE
    placed += lane[None, :] * tl.where(is_transposed, down, right) * STRIDE
    for tile in range(TILES * TILES):
        # The last tiles overlap earlier ones: equal values are stored twice, and none outside.
        row = tl.minimum(tile // TILES * TILE, SIDE - TILE)
        column = tl.minimum(tile % TILES * TILE, SIDE - TILE)
        raw = tl.load(p_plane + (row * SIDE + column) + taken)
        y = normalized(raw, median, scale, inverse, OUT, CLIP, NAN_TO_ZERO)
        if is_transposed:
            y = tl.trans(y)
        tl.store(p_channel + (corner + row * down + column * right) * STRIDE + placed, y)
