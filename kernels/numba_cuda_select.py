"""Selection of the two middle keys of an annulus, by block-wide counting without a sort.

A key is an integer with the order of the floats. A bracket always contains the
wanted rank. A sample of the keys narrows it, then interpolation between its ends,
until few keys are left; these are collected and ranked. If ties, gaps or a
misleading sample defeat the guesses, a bisection of the key range follows, which
halves it in every pass. A median therefore takes at most ``GUESSES + 33`` passes
over float32 keys and ``GUESSES + 65`` over float64 keys, for any values, and
typically 3 or 4.

A pass is called a turn. Its sum, maximum and minimum are in one of three slots of
the scratch memory, so that one barrier per pass is enough.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastnorm.kernels.numba_cuda_shim import cuda, device

GUESSES = 6
SAMPLE_MARGIN = 0.64  # times the sampled keys in the bracket: 1.6 standard errors, squared
RANK_MARGIN = 0.8  # times the keys in the bracket: 1.8 standard deviations of a rank, squared
FEW = 64  # size of a sample, and number of keys that is cheaper to rank than to narrow down

# Scratch memory: a sum, a maximum and a minimum for each of three turns, then FEW keys.
SUM, MAXIMUM, MINIMUM, TURN = 0, 1, 2, 3
CANDIDATES = 3 * TURN
SCRATCH = CANDIDATES + FEW


@device
def flip(bits: Any, key: Any) -> Any:
    """Convert float bits to a key in the order of the floats, -0 just below 0; or back."""
    return bits if bits >= key(0) else key(bits ^ key(np.iinfo(key).max))


@device
def to_key(value: Any, key: Any) -> Any:
    return flip(value.view(key), key)


@device
def to_value(bits: Any, real: Any, key: Any) -> Any:
    return flip(bits, key).view(real)


@device
def read_shared(source: Any, i: Any) -> Any:
    return source[0][i]


@device
def read_plane(source: Any, i: Any) -> Any:
    """Return the key of listed pixel ``i``, or the largest integer if the pixel is excluded."""
    keys, real, load, images, start, pixels, bad, strides, masked, for_nan = source[:10]
    mask, mask_start, mask_row, mask_column = bad
    width, row_stride, column_stride = strides
    key = keys.dtype.type
    pixel = np.uint32(pixels[i])
    row, column = np.int32(pixel // width), np.int32(pixel % width)
    value = real(load(images, start + (row * row_stride + column * column_stride)))
    value = value if value == value else for_nan
    if source[11]:
        value = abs(value - source[10])
    if value != value or (
        masked and mask[np.uint64(mask_start + (row * mask_row + column * mask_column))]
    ):
        return key(np.iinfo(key).max)
    return to_key(value, key)


@device
def clear(scratch: Any, turn: Any) -> None:
    if cuda.threadIdx.x == 0:
        key = scratch.dtype.type
        scratch[turn % 3 * TURN + SUM] = key(0)
        scratch[turn % 3 * TURN + MAXIMUM] = key(np.iinfo(key).min)
        scratch[turn % 3 * TURN + MINIMUM] = key(np.iinfo(key).max)


@device
def end_turn(scratch: Any, turn: Any) -> Any:
    """Wait for all threads, and return the sum, maximum and minimum of this turn."""
    # No thread still reads the cleared slot: its turn ended before the last barrier.
    clear(scratch, turn + 1)
    cuda.syncthreads()
    at = turn % 3 * TURN
    return scratch[at + SUM], scratch[at + MAXIMUM], scratch[at + MINIMUM], turn + 1


@device
def count(annulus: Any, a: Any, b: Any, turn: Any) -> Any:
    """Count the keys below ``a`` and the keys not above ``b``."""
    source, read, scratch, pixel_count = annulus
    both = np.int32(0)
    i = np.uint32(cuda.threadIdx.x)
    while i < pixel_count:
        found = read(source, i)
        both = np.int32(both + (np.int32(found < a) + np.int32(np.int32(found <= b) << 16)))
        i = np.uint32(i + cuda.blockDim.x)
    cuda.atomic.add(scratch, turn % 3 * TURN + SUM, scratch.dtype.type(both))
    total, _, _, turn = end_turn(scratch, turn)
    return np.int32(total & 0xFFFF), np.int32(total >> 16), turn


@device
def split(annulus: Any, threshold: Any, turn: Any) -> Any:
    """Count keys not above a threshold; return also their largest and the smallest of the rest."""
    source, read, scratch, pixel_count = annulus
    key = scratch.dtype.type
    up_to, under, over = np.int32(0), key(np.iinfo(key).min), key(np.iinfo(key).max)
    i = np.uint32(cuda.threadIdx.x)
    while i < pixel_count:
        found = read(source, i)
        if found <= threshold:
            up_to, under = np.int32(up_to + 1), max(under, found)
        else:
            over = min(over, found)
        i = np.uint32(i + cuda.blockDim.x)
    at = turn % 3 * TURN
    cuda.atomic.add(scratch, at + SUM, key(up_to))
    cuda.atomic.max(scratch, at + MAXIMUM, under)
    cuda.atomic.min(scratch, at + MINIMUM, over)
    total, under, over, turn = end_turn(scratch, turn)
    return np.int32(total), under, over, turn


@device
def collect(annulus: Any, low: Any, high: Any, few: Any, turn: Any) -> Any:
    """Copy keys in ``[low, high]`` to the candidates if ``few``; return the smallest above."""
    source, read, scratch, pixel_count = annulus
    key = scratch.dtype.type
    at = turn % 3 * TURN
    over = key(np.iinfo(key).max)
    i = np.uint32(cuda.threadIdx.x)
    while i < pixel_count:
        found = read(source, i)
        if found > high:
            over = min(over, found)
        elif few and found >= low:
            scratch[CANDIDATES + cuda.atomic.add(scratch, at + SUM, key(1))] = found
        i = np.uint32(i + cuda.blockDim.x)
    cuda.atomic.min(scratch, at + MINIMUM, over)
    _, _, over, turn = end_turn(scratch, turn)
    return over, turn


@device
def rank(scratch: Any, found: Any, first: Any, second: Any, turn: Any) -> Any:
    """Return the candidates of ranks ``first`` and ``second``."""
    at = turn % 3 * TURN
    s = cuda.threadIdx.x
    while s < found:
        mine = scratch[CANDIDATES + s]
        smaller = 0
        for t in range(found):
            other = scratch[CANDIDATES + t]
            smaller += other < mine or (other == mine and t < s)
        if smaller == first:
            scratch[at + MAXIMUM] = mine
        if smaller == second:
            scratch[at + MINIMUM] = mine
        s += cuda.blockDim.x
    _, lower, upper, turn = end_turn(scratch, turn)
    return lower, upper, turn


@device
def sample(annulus: Any, low: Any, high: Any, wanted: Any, among: Any, turn: Any) -> Any:
    """Return two sampled keys around the expected rank ``wanted`` of the keys in the bracket."""
    source, read, scratch, pixel_count = annulus
    key = scratch.dtype.type
    step = np.uint32(pixel_count // FEW)
    offset = np.uint32(np.uint32(turn * 5) % step)
    s = np.uint32(cuda.threadIdx.x)
    while s < FEW:
        found = read(source, np.uint32(s * step + offset))
        inside = low <= found <= high
        scratch[CANDIDATES + s] = found if inside else key(np.iinfo(key).max)
        cuda.atomic.add(scratch, turn % 3 * TURN + SUM, key(inside))
        s = np.uint32(s + cuda.blockDim.x)
    inside, _, _, turn = end_turn(scratch, turn)
    expected = np.float32(inside * wanted) / np.float32(among)
    reach = np.float32(math.sqrt(np.float32(SAMPLE_MARGIN) * np.float32(inside)))
    first, second = max(int(expected - reach), 0), min(int(expected + reach), FEW - 1)
    return rank(scratch, FEW, first, second, turn)


@device
def interpolate(low: Any, high: Any, inside: Any, wanted: Any, real: Any, key: Any) -> Any:
    """Return two keys around rank ``wanted``, as if values were uniform in ``[low, high]``."""
    start = to_value(low, real, key)
    width = to_value(high, real, key) - start
    reach = real(math.sqrt(real(RANK_MARGIN) * real(inside)))
    a = start + (real(wanted) - reach) * width / real(inside)
    b = start + (real(wanted) + reach) * width / real(inside)
    return to_key(real(a), key), to_key(real(b), key)


@device
def middle_keys(annulus: Any, n: Any, real: Any, turn: Any) -> Any:
    """Return keys of ranks ``(n - 1) // 2`` and ``n // 2`` of the ``n >= 1`` valid ones.

    Invariant: the first of them is in ``[low, high]``, which contains ``inside``
    keys; ``base`` keys are below it.
    """
    scratch = annulus[2]
    key = scratch.dtype.type
    first, second = np.int32((n - 1) // 2), np.int32(n // 2)
    lowest, highest = to_key(real(-np.inf), key), to_key(real(np.inf), key)
    low, high, base, inside = lowest, highest, np.int32(0), np.int32(n)
    for _ in range(GUESSES):
        if inside <= FEW or low == high:
            break
        wanted = np.int32(first - base)
        if lowest < low and high < highest:
            a, b = interpolate(low, high, inside, wanted, real, key)
        else:
            a, b, turn = sample(annulus, low, high, wanted, inside, turn)
        a = min(max(a, low), high)
        b = min(max(b, a), high)
        below, up_to, turn = count(annulus, a, b, turn)
        before = inside
        if first < below:
            high, inside = key(a - 1), np.int32(below - base)
        elif first < up_to:
            low, high, base, inside = a, b, below, np.int32(up_to - below)
        else:
            low, base, inside = key(b + 1), up_to, np.int32(base + inside - up_to)
        if 4 * inside > 3 * before:
            break
    for _ in range(8 * scratch.itemsize):
        if inside <= FEW or low == high:
            break
        middle = key((low >> 1) + (high >> 1) + (low & high & 1))
        up_to, under, over, turn = split(annulus, middle, turn)
        if first < up_to:
            high, inside = under, np.int32(up_to - base)
        else:
            low, base, inside = over, up_to, np.int32(base + inside - up_to)
    few = inside <= FEW
    over, turn = collect(annulus, low, high, few, turn)
    lower, upper = low, low
    if few:
        lower, upper, turn = rank(scratch, inside, first - base, second - base, turn)
    return lower, upper if second < base + inside else over, turn


@device
def middle_value(annulus: Any, n: Any, real: Any, turn: Any) -> Any:
    lower, upper, turn = middle_keys(annulus, n, real, turn)
    key = annulus[2].dtype.type
    value = to_value(lower, real, key)
    if n % 2 == 0:
        value = real(value + to_value(upper, real, key)) * real(0.5)
    return value, turn
