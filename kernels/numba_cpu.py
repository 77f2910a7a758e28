"""Outer-annulus median, MAD and normalisation on the CPU, with Numba.

The kernel handles one plane at a time. It gathers the annulus into a buffer that
fits in the L1 cache, finds both medians there, then reads the plane again (from L2)
and writes the result. The result of a plane depends on that plane only.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastnorm.kernels.cpu_vectors import (
    LINE_BYTES,
    VECTOR_BYTES,
    borrow,
    copy_vector,
    stream_fence,
    stream_normalized,
)
from fastnorm.kernels.numba_cache import cached_njit
from fastnorm.kernels.numba_select import MOST_CANDIDATES, SCAN, jit, middle_pair


@jit
def gather(plane: Any, table: Any, pixels: Any, tail: Any, values: Any) -> Any:
    """Copy the annulus to ``values`` in row-major order, and return whether it may have NaN.

    Vectors also copy pixels next to the annulus, whose NaN cause a false alarm.
    """
    size = plane.itemsize
    source, target = plane.ctypes.data, values.ctypes.data
    zero = values.dtype.type(0)
    nan_lanes = np.uint32(0)
    for c in range(table.shape[0]):
        copied = copy_vector(target + size * table[c, 1], source + size * table[c, 0], zero)
        nan_lanes = np.uint32(nan_lanes | copied)
    may_be_nan = nan_lanes > 0
    for i in range(tail, pixels.size):
        values[i] = plane[pixels[i]]
        may_be_nan |= values[i] != values[i]
    return may_be_nan


@jit
def keep_good(values: Any, mask: Any, pixels: Any, for_nan: Any) -> Any:
    """Remove NaN and masked pixels from ``values`` in place, and return how many remain."""
    kept = 0
    for i in range(pixels.size):
        value = values[i]
        value = value if value == value else for_nan
        values[kept] = value
        kept += not (value != value or (mask.size > 0 and mask[pixels[i]]))
    return kept


@jit
def median_mad(values: Any, n: Any, candidates: Any, ahead: Any) -> Any:
    """Return the median and MAD of ``values[:n]``, which it overwrites; 0 where undefined."""
    real = values.dtype.type
    half = real(0.5)
    if n == 0:
        return real(0), real(0)
    padded = values[: (n + SCAN - 1) // SCAN * SCAN]
    padded[n:] = np.inf
    low, high = middle_pair(padded, n, candidates, ahead)
    median = real(low + high) * half if n % 2 == 0 else low
    if median != median:
        return real(0), real(0)
    if np.isinf(median):
        # |v - inf| is inf, or NaN where v is that same infinity.
        for i in range(n):
            if values[i] != median:
                return median, real(np.inf)
        return median, real(0)
    for i in range(padded.size):
        padded[i] = abs(padded[i] - median)
    low, high = middle_pair(padded, n, candidates, ahead)
    return median, real(low + high) * half if n % 2 == 0 else low


@jit
def normalize(
    source: Any,
    start: Any,
    stop: Any,
    target: Any,
    median: Any,
    scale: Any,
    clip: Any,
    for_nan: Any,
) -> None:
    # Unsigned indices, because a check for negative ones keeps LLVM from vectorising.
    for i in range(np.uint64(start), np.uint64(stop)):
        value = source[i]
        value = value if value == value else for_nan
        value = (value - median) / scale
        value = value if value == value else for_nan
        value = clip if value > clip else value
        target[i] = -clip if value < -clip else value


@jit
def normalize_streaming(
    source: Any, target: Any, median: Any, scale: Any, clip: Any, for_nan: Any
) -> None:
    """Do the same as ``normalize``, but store whole cache lines bypassing the cache."""
    size = source.itemsize
    step = LINE_BYTES // size
    start = min(source.size, (-target.ctypes.data % LINE_BYTES) // size)
    lines = (source.size - start) // step
    stop = start + lines * step
    read, written = source.ctypes.data + start * size, target.ctypes.data + start * size
    for offset in range(0, lines * LINE_BYTES, LINE_BYTES):
        stream_normalized(written + offset, read + offset, median, scale, clip, for_nan)
    normalize(source, 0, start, target, median, scale, clip, for_nan)
    normalize(source, stop, source.size, target, median, scale, clip, for_nan)


@cached_njit(nogil=True, error_model="numpy")
def normalize_planes(
    owned_images: Any,
    owned_masks: Any,
    owned_out: Any,
    median: Any,
    mad: Any,
    table: Any,
    pixels: Any,
    tail: Any,
    eps: Any,
    clip: Any,
    for_nan: Any,
    streaming: Any,
    owned_work: Any,
    owned_ahead: Any,
    start: Any,
    stop: Any,
) -> None:
    """Compute statistics of planes ``start`` to ``stop - 1``, and pixels if ``out`` has any.

    Parameters
    ----------
    owned_images : (N, P) float32 or float64, C-contiguous
    owned_masks : (N, P) bool, C-contiguous, True is bad; (N, 0) for none
    owned_out : (N, P) of the images' dtype, C-contiguous; (N, 0) for statistics only
    median, mad : (N,) of the images' dtype, written
    table, pixels, tail : fields of a ``GatherPlan``
    eps : float64, added to the MAD in float64
    clip : of the images' dtype; inf for none
    for_nan : of the images' dtype, 0 or NaN: replaces NaN before and after
    streaming : bool, bypass the cache, for stacks that fit in no cache
    owned_work, owned_ahead : fields of a ``Workspace``
    """
    images, masks, out = borrow(owned_images), borrow(owned_masks), borrow(owned_out)
    work, ahead = borrow(owned_work), borrow(owned_ahead)
    candidates, values = work[:MOST_CANDIDATES], work[MOST_CANDIDATES:]
    real = images.dtype.type
    plane_bytes = images.shape[1] * images.itemsize
    for p in range(start, stop):
        plane = images[p]
        ahead[0] = plane.ctypes.data + plane_bytes
        ahead[1] = ahead[0] + plane_bytes * (p + 1 < stop)
        may_be_nan = gather(plane, table, pixels, tail, values)
        n = pixels.size
        if masks[p].size or may_be_nan:
            n = keep_good(values, masks[p], pixels, for_nan)
        median[p], mad[p] = median_mad(values, n, candidates, ahead)
        if out[p].size:
            scale = real(np.float64(mad[p]) + eps)
            if streaming:
                normalize_streaming(plane, out[p], median[p], scale, clip, for_nan)
            else:
                normalize(plane, 0, plane.size, out[p], median[p], scale, clip, for_nan)
    stream_fence()


class GatherPlan(NamedTuple):
    """Positions of the annulus in a plane, as vectors to copy.

    ``table`` (M, 2) has the first pixel that each vector copies and its target
    position. ``pixels`` has the flat index of every annulus pixel in row-major
    order; those from ``pixels[tail]`` on are not covered by vectors.
    """

    table: NDArray[np.uint32]
    pixels: NDArray[np.uint32]
    tail: int


def gather_plan(pixels: NDArray[np.integer[Any]], plane_size: int, itemsize: int) -> GatherPlan:
    """Divide the sorted flat pixel indices into vectors of 32 bytes.

    The last vector of a run also copies pixels outside the annulus, which the next
    run overwrites. No vector reads past the plane: such pixels become the tail.
    """
    lanes = VECTOR_BYTES // itemsize
    breaks = np.flatnonzero(np.diff(pixels) != 1) + 1
    starts = np.concatenate([[0], breaks])
    stops = np.concatenate([breaks, [pixels.size]])
    rows = []
    tail = 0
    for start, stop in zip(starts, stops, strict=True):
        for position in range(start, stop, lanes):
            if pixels[position] + lanes <= plane_size:
                rows.append((pixels[position], position))
                tail = min(position + lanes, stop)
    return GatherPlan(
        np.array(rows, dtype=np.uint32).reshape(-1, 2), pixels.astype(np.uint32), int(tail)
    )


class Workspace(NamedTuple):
    """Buffers of one thread: candidates and annulus values, and the prefetch state."""

    work: NDArray[Any]
    ahead: NDArray[np.int64]


def workspace(pixel_count: int, dtype: np.dtype[Any]) -> Workspace:
    # Vectors write past the last pixel, and the values are padded to whole scans.
    return Workspace(
        np.empty(MOST_CANDIDATES + pixel_count + 2 * SCAN, dtype), np.zeros(2, np.int64)
    )
