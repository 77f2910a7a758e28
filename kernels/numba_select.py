"""Exact selection of the two middle values of a buffer, by counting, without sort or state.

A small sample gives a first guess of the median. Each pass over the buffer counts
the values below two thresholds and narrows a bracket that always contains both
middle ranks. When few values are left in it, they are collected and ranked. If ties,
two modes or a misleading sample defeat the guess, a bisection of float bit patterns
follows, whose number of passes is bounded.

Counters are narrowed to int32 after every step, since Numba widens them to int64,
which would halve the vector width.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from fastnorm.kernels.cpu_vectors import between_bits, lowest_bit, prefetch_line

SCAN = 32  # values per step of a scan; buffers are padded to a multiple of it
SAMPLE_ROWS, SAMPLE_LANES = 8, 32
SAMPLE_HALF_WIDTH = 0.2  # times the sample's interquartile width: 2 standard errors
RANK_MARGIN = 1.1  # times sqrt(ranks in the bracket): 2 standard deviations of a rank
COUNTING_PASSES = 6
FEW = 32  # number of values in the bracket that is cheaper to rank than to narrow down
MOST_CANDIDATES = 64
COUNT_BLOCK = 512
PREFETCH_LINES = 12

jit = njit(nogil=True, error_model="numpy")
# The value of a guess affects the duration of the search, never its result.
jit_guess = njit(nogil=True, error_model="numpy", fastmath={"reassoc", "nsz"})


@jit
def prefetch(ahead: Any) -> None:
    """Prefetch the next cache lines of the next plane, between ``ahead[0]`` and ``ahead[1]``."""
    stop = min(ahead[0] + PREFETCH_LINES * 64, ahead[1])
    for address in range(ahead[0], stop, 64):
        prefetch_line(address)
    ahead[0] = stop


@jit
def count(values: Any, low: Any, high: Any) -> Any:
    """Count the values below ``low`` and the values not above ``high``."""
    below = np.int32(0)
    up_to = np.int32(0)
    for i in range(values.size):
        below = np.int32(below + np.int32(values[i] < low))
        up_to = np.int32(up_to + np.int32(values[i] <= high))
    return below, up_to


@jit
def count_ahead(values: Any, low: Any, high: Any, ahead: Any) -> Any:
    """Do the same as ``count`` while prefetching the next plane."""
    below = 0
    up_to = 0
    for start in range(0, values.size, COUNT_BLOCK):
        prefetch(ahead)
        block = count(values[start : start + COUNT_BLOCK], low, high)
        below += block[0]
        up_to += block[1]
    return below, up_to


@jit
def order(a: Any, b: Any) -> Any:
    return (a if a < b else b), (b if a < b else a)


@jit_guess
def guess(values: Any, n: Any) -> Any:
    """Return the median and interquartile width of a sample, averaged over 32 lanes of 8 values."""
    real = values.dtype.type
    step = n // SAMPLE_ROWS
    r0 = values[:SAMPLE_LANES]
    r1 = values[step : step + SAMPLE_LANES]
    r2 = values[2 * step : 2 * step + SAMPLE_LANES]
    r3 = values[3 * step : 3 * step + SAMPLE_LANES]
    r4 = values[4 * step : 4 * step + SAMPLE_LANES]
    r5 = values[5 * step : 5 * step + SAMPLE_LANES]
    r6 = values[6 * step : 6 * step + SAMPLE_LANES]
    r7 = values[7 * step : 7 * step + SAMPLE_LANES]
    middle = real(0)
    width = real(0)
    for lane in range(np.uint32(SAMPLE_LANES)):
        # The optimal network for 8 inputs: 19 exchanges (Knuth, TAOCP 3, 5.3.4).
        a, b = order(r0[lane], r1[lane])
        c, d = order(r2[lane], r3[lane])
        e, f = order(r4[lane], r5[lane])
        g, h = order(r6[lane], r7[lane])
        a, c = order(a, c)
        b, d = order(b, d)
        e, g = order(e, g)
        f, h = order(f, h)
        b, c = order(b, c)
        f, g = order(f, g)
        a, e = order(a, e)
        d, h = order(d, h)
        b, f = order(b, f)
        c, g = order(c, g)
        b, e = order(b, e)
        d, g = order(d, g)
        c, e = order(c, e)
        d, f = order(d, f)
        d, e = order(d, e)
        middle += d + e
        width += f - c
    return real(middle / real(2 * SAMPLE_LANES)), real(width / real(SAMPLE_LANES))


@jit
def collect(values: Any, low: Any, high: Any, candidates: Any) -> Any:
    """Copy values in ``[low, high]`` to ``candidates``; return their number, or -1 if too many."""
    found = 0
    address = values.ctypes.data
    for start in range(0, values.size, SCAN):
        bits = between_bits(address + start * values.itemsize, low, high)
        while bits:
            if found == MOST_CANDIDATES:
                return -1
            candidates[found] = values[start + np.int64(lowest_bit(bits))]
            found += 1
            bits = np.uint32(bits & np.uint32(bits - np.uint32(1)))
    return found


@jit
def pick(candidates: Any, found: Any, first: Any, second: Any) -> Any:
    """Return the candidates of ranks ``first`` and ``second``."""
    padded = candidates[: (found + 7) // 8 * 8]
    padded[found:] = np.inf
    low = high = padded[0]
    has_low = has_high = False
    for i in range(found):
        value = padded[i]
        below, up_to = count(padded, value, value)
        if below <= first < up_to:
            low, has_low = value, True
        if below <= second < up_to:
            high, has_high = value, True
        if has_low and has_high:
            break
    return low, high


@jit
def split(values: Any, threshold: Any) -> Any:
    """Return the largest value below ``threshold`` and the smallest that is not below it."""
    real = values.dtype.type
    under, over = real(-np.inf), real(np.inf)
    for i in range(values.size):
        value = values[i]
        under = value if under < value < threshold else under
        over = value if threshold <= value < over else over
    return under, over


@jit
def halve(bits: Any, magnitude: Any) -> None:
    """Replace ``bits[0]`` by the middle of two float bit patterns, in the order of the floats."""
    low = bits[0] if bits[0] >= 0 else -(bits[0] & magnitude)
    high = bits[1] if bits[1] >= 0 else -(bits[1] & magnitude)
    middle = (low >> 1) + (high >> 1) + (low & high & 1)
    bits[0] = middle if middle >= 0 else (-middle) | ~magnitude


@jit
def midpoint(low: Any, high: Any) -> Any:
    """Return the middle float of ``[low, high)`` by bit pattern, for ``low < high``."""
    ends = np.array([low, high])
    if ends.itemsize == 4:
        halve(ends.view(np.int32), np.int32(0x7FFFFFFF))
    else:
        halve(ends.view(np.int64), np.int64(0x7FFFFFFFFFFFFFFF))
    return ends[0]


@jit
def bisect(values: Any, low: Any, high: Any, rank: Any) -> Any:
    """Return the value of rank ``rank``, which is in ``[low, high]``.

    Every pass halves the range of bit patterns, so there are at most 32 passes for
    float32 and 64 for float64. The ends snap to values, so that ties end it early.
    """
    real = values.dtype.type
    while low < high:
        threshold = midpoint(low, high)
        up_to = np.int32(0)
        under, over = real(-np.inf), real(np.inf)
        for i in range(values.size):
            value = values[i]
            inside = value <= threshold
            up_to = np.int32(up_to + np.int32(inside))
            under = value if inside and value > under else under
            over = value if not inside and value < over else over
        if up_to > rank:
            high = under
        else:
            low = over
    return low


@jit
def bisect_pair(values: Any, low: Any, high: Any, first: Any, second: Any) -> Any:
    """Return the values of two adjacent ranks, of which the first is in ``[low, high]``."""
    lower = bisect(values, low, high, first)
    _, up_to = count(values, lower, lower)
    if second < up_to:
        return lower, lower
    return lower, split(values, np.nextafter(lower, values.dtype.type(np.inf)))[1]


@jit
def middle_pair(values: Any, n: Any, candidates: Any, ahead: Any) -> Any:
    """Return the values of ranks ``(n - 1) // 2`` and ``n // 2`` of ``values[:n]``, ``n >= 1``.

    ``values`` contains no NaN and is padded with +inf to a multiple of ``SCAN``.
    Invariant: both ranks are in ``[low, high]``, ``base`` values are below
    ``low``, and ``top`` is a lower bound on the values that are not above ``high``.
    """
    real = values.dtype.type
    first, second = (n - 1) // 2, n // 2
    low, high = real(-np.inf), real(np.inf)
    if n < SAMPLE_ROWS * SAMPLE_LANES:
        return bisect_pair(values, low, high, first, second)
    base, top = 0, n
    middle, width = guess(values, n)
    reach = real(width * real(SAMPLE_HALF_WIDTH))
    a, b = real(middle - reach), real(middle + reach)
    for _ in range(COUNTING_PASSES):
        if not a <= b:
            break
        below, up_to = count_ahead(values, a, b, ahead)
        if below > second:
            high, top = a, below
        elif below == second and first < second:
            return split(values, a)
        elif up_to <= first:
            low, base = np.nextafter(b, high), up_to
        elif up_to <= second:
            return split(values, np.nextafter(b, high))
        else:
            low, base, high, top = a, below, b, up_to
        inside = top - base
        if inside <= FEW:
            found = collect(values, low, high, candidates)
            if found < 0:
                break
            return pick(candidates, found, first - base, second - base)
        if low == -np.inf:
            a, b = real(high - reach), high
        elif high == np.inf:
            a, b = low, real(low + reach)
        else:
            step = real((high - low) / real(inside))
            margin = real(RANK_MARGIN * np.sqrt(inside))
            a = real(low + (real(first - base) - margin) * step)
            b = real(low + (real(second - base) + margin) * step)
        reach = real(reach * real(4))
    return bisect_pair(values, low, high, first, second)
