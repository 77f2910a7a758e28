"""The planes of an array, piece by piece through a backend of the CPU.

Arrays that a backend can read directly are not copied. Other strides, byte orders
and dtypes are converted in pieces that stay in the cache.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnorm.dispatch import threads
from fastnorm.dispatch.planes import Options, Planes, Run
from fastnorm.normalize.arrays import Stack

PIECE_BYTES_PER_THREAD = 224 * 2**10


def compute_dtype(stack: Stack) -> np.dtype[Any]:
    """Return the dtype of the computation: float64 for float64 images, else float32."""
    return np.dtype(np.float64 if stack.array.dtype.itemsize == 8 else np.float32)


def run_in_pieces(
    run: Run,
    options: Options,
    stack: Stack,
    masks: Stack | None,
    target: Stack | None,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Run a backend on all planes, piece by piece for arrays that it cannot read directly.

    Parameters
    ----------
    run : Run
        The backend.
    options : Options
        The footprint, and how to normalise.
    stack : Stack
        Planes of the images.
    masks : Stack or None
        Planes of the mask.
    target : Stack or None
        Planes of the output; None for the statistics alone.

    Returns
    -------
    median, mad : arrays, shape (...)
        Statistics of every plane.
    """
    dtype = compute_dtype(stack)
    images = stack.direct(dtype)
    bad = None if masks is None else masks.direct(np.dtype(bool))
    out = None if target is None else target.direct(dtype)
    is_direct = images is not None and (masks is None) == (bad is None)
    is_direct = is_direct and (target is None) == (out is None)

    count, plane = stack.count, stack.plane
    plane_bytes = plane[0] * plane[1] * dtype.itemsize
    step = threads.num_threads() * max(1, PIECE_BYTES_PER_THREAD // plane_bytes)
    step = count if is_direct else min(step, count)
    median, mad = np.empty(count, dtype), np.empty(count, dtype)
    scratch = None if target is None or out is not None else np.empty((step, *plane), dtype)
    for start in range(0, count, max(step, 1)):
        stop = min(start + step, count)
        part = slice(start, stop)
        written = out[part] if out is not None else None
        if scratch is not None:
            written = scratch[: stop - start]
        mask_piece = None
        if masks is not None:
            mask_piece = bad[part] if bad is not None else masks.read(start, stop, np.dtype(bool))
        image_piece = images[part] if images is not None else stack.read(start, stop, dtype)
        run(
            Planes(image_piece, mask_piece, written, median[part], mad[part], count * plane_bytes),
            options,
        )
        if scratch is not None and target is not None and written is not None:
            target.write(start, stop, written)
    return median.reshape(stack.lead), mad.reshape(stack.lead)
