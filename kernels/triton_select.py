"""Exact selection of the two middle values of three tensors in registers, by counting.

A pass counts the values below two thresholds, interpolated in a bracket that always
contains both middle ranks. The search ends when a threshold falls between them: the
result is the largest value below it and the smallest that is not below it. If ties or
two modes defeat the interpolation, a bisection of float bit patterns follows.
"""

from __future__ import annotations

import triton
import triton.language as tl

COUNTING_PASSES = tl.constexpr(10)
STALLS = tl.constexpr(2)  # passes that did not shrink the bracket, which indicates ties
FIRST_REACH = tl.constexpr(0.08)  # times the spread: two standard errors of the guess
STEP_OUTSIDE = tl.constexpr(5.0)  # spreads per n ranks, while one end of the bracket is infinite
MANY = tl.constexpr(40)  # values in the bracket above which the margin should contain the ranks
WIDE_MARGIN, NARROW_MARGIN = tl.constexpr(0.5), tl.constexpr(0.2)  # times the root of their number


@triton.jit
def _is_negative(x):
    """Return 1 where the sign bit is set, for half the cost of a comparison and a select."""
    if x.dtype.primitive_bitwidth == 64:
        sign = x.to(tl.uint64, bitcast=True) >> 63
    else:
        sign = x.to(tl.uint32, bitcast=True) >> 31
    return sign.to(tl.int32)


@triton.jit
def _count_below(a, b, c, p, q):
    """Count values below each of two finite thresholds, among fewer than 32,768 values in all."""
    # -0 - (-0) is +0, but -0 - (+0) is -0, whose sign bit would count. A product makes the -0,
    # because Triton turns every constant that equals 0 into +0.
    p = tl.where(p == 0, tl.abs(p) * -1.0, p)
    q = tl.where(q == 0, tl.abs(q) * -1.0, q)
    below_p = _is_negative(a - p) + _is_negative(b - p) + _is_negative(c - p)
    below_q = _is_negative(a - q) + _is_negative(b - q) + _is_negative(c - q)
    both = tl.sum(below_p + (below_q << 16))
    return both & 0xFFFF, both >> 16


@triton.jit
def _split(a, b, c, p):
    """Return the largest value below ``p`` and the smallest that is not below it."""
    inf: tl.constexpr = float("inf")
    under = tl.maximum(tl.where(a < p, a, -inf), tl.where(b < p, b, -inf))
    under = tl.maximum(under, tl.where(c < p, c, -inf))
    over = tl.minimum(tl.where(a >= p, a, inf), tl.where(b >= p, b, inf))
    over = tl.minimum(over, tl.where(c >= p, c, inf))
    return tl.max(under), tl.min(over)


@triton.jit
def _count(a, b, c, p):
    """Count the values below ``p``, which may be infinite."""
    return tl.sum((a < p).to(tl.int32) + (b < p).to(tl.int32) + (c < p).to(tl.int32))


@triton.jit
def _key(x):
    """Convert floats to integers in the same order; both zeros have the same integer."""
    if x.dtype.primitive_bitwidth == 64:
        bits = x.to(tl.int64, bitcast=True)
        magnitude = bits & 0x7FFFFFFFFFFFFFFF
    else:
        bits = x.to(tl.int32, bitcast=True)
        magnitude = bits & 0x7FFFFFFF
    return tl.where(bits >= 0, bits, -magnitude)


@triton.jit
def _from_key(key, like):
    sign = (key < 0).to(key.dtype) << (key.dtype.primitive_bitwidth - 1)
    return (tl.abs(key) | sign).to(like.dtype, bitcast=True)


@triton.jit
def _bisect(a, b, c, low, high, rank):
    """Return the value of a rank that is in ``[low, high]``, and the number of passes.

    Every pass leaves at most half of the bit patterns between the ends, so there are
    at most 32 passes for float32 and 64 for float64. The ends snap to values.
    """
    passes = tl.full((), 0, tl.int32)
    while low < high:
        i, j = _key(low), _key(high)
        middle = _from_key((i | j) - ((i ^ j) >> 1), low)
        under, over = _split(a, b, c, middle)
        is_over = _count(a, b, c, middle) > rank
        low, high = tl.where(is_over, low, over), tl.where(is_over, under, high)
        passes += 1
    return low, passes


@triton.jit
def middle_pair(a, b, c, n, guess, spread):
    """Return the values of ranks ``(n - 1) // 2`` and ``n // 2`` of ``n`` values padded with +inf.

    The values contain no NaN. ``guess`` and ``spread`` affect the duration, never the
    result. Invariant: ``base`` values are below ``low``, ``top`` below ``high``, and
    ``base <= first`` and ``second < top``. The function also returns the number of
    counting passes, at most 10, and of bisecting passes, at most 32 (64 in float64).
    """
    inf: tl.constexpr = float("inf")
    first, second = (n - 1) // 2, n // 2
    low, high = tl.full((), -inf, guess.dtype), tl.full((), inf, guess.dtype)
    base, top = tl.full((), 0, tl.int32), n
    p, q = guess - FIRST_REACH * spread, guess + FIRST_REACH * spread
    step = STEP_OUTSIDE * spread / n
    between, below, is_between = guess, n, n < 0
    passes, stalls = tl.full((), 0, tl.int32), tl.full((), 0, tl.int32)
    passes_left = tl.where(spread > 0, COUNTING_PASSES, 0)
    while (passes_left > 0) & (tl.abs(p) < inf) & (tl.abs(q) < inf):
        below_p, below_q = _count_below(a, b, c, p, q)
        hit_p = (below_p == second) | (below_p == first + 1)
        hit_q = (below_q == second) | (below_q == first + 1)
        is_between = hit_p | hit_q
        between, below = tl.where(hit_p, p, q), tl.where(hit_p, below_p, below_q)
        width = top - base
        is_over_p, is_over_q = below_p > first, below_q > first
        low = tl.where(is_over_p, low, tl.where(is_over_q, p, q))
        base = tl.where(is_over_p, base, tl.where(is_over_q, below_p, below_q))
        high = tl.where(is_over_p, p, tl.where(is_over_q, q, high))
        top = tl.where(is_over_p, below_p, tl.where(is_over_q, below_q, top))
        passes += 1
        stalls += (top - base == width).to(tl.int32)
        is_done = is_between | (stalls == STALLS)
        passes_left = tl.where(is_done, 0, COUNTING_PASSES - passes)

        inside = (top - base).to(guess.dtype)
        is_open_below, is_open = low == -inf, (low == -inf) | (high == inf)
        ahead = n * 0.5 - tl.where(is_open_below, top, base)
        margin = tl.sqrt(inside) * tl.where(inside > MANY, WIDE_MARGIN, NARROW_MARGIN)
        margin = tl.minimum(margin, 0.8 * tl.minimum(ahead, inside - ahead))
        margin = tl.where(is_open, 0.3 * tl.abs(ahead) + 0.5 * tl.sqrt(inside), margin)
        rank = tl.where(is_open, step, (high - low) / inside)
        start = tl.where(is_open_below, high, low)
        p, q = start + (ahead - margin) * rank, start + (ahead + margin) * rank
        step = step * 2
    bisected = tl.full((), 0, tl.int32)
    if is_between == 0:
        low, bisected = _bisect(a, b, c, low, high, first)
        between = tl.where(low < inf, _from_key(_key(low) + 1, low), inf)
        below = _count(a, b, c, between)
    under, over = _split(a, b, c, between)
    return (
        tl.where(below > first, under, over), tl.where(below > second, under, over),
        passes, bisected,
    )  # fmt: skip
