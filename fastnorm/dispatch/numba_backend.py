"""The CPU backend, which divides planes among threads that run the Numba kernel."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from fastnorm.dispatch.planes import Options, Planes
from fastnorm.dispatch.threads import notice_if_slow, read_only, share_out
from fastnorm.footprint import Footprint
from fastnorm.kernels import numba_cpu

PLANES_PER_TASK = 256
FEWEST_PLANES_PER_THREAD = 8
STREAMING_BYTES = 32 * 2**20  # a larger output does not fit in a typical last-level cache


@lru_cache(maxsize=64)
def _plan(footprint: Footprint, height: int, width: int, itemsize: int) -> numba_cpu.GatherPlan:
    return numba_cpu.gather_plan(footprint.pixels(height, width), height * width, itemsize)


_compiled: set[np.dtype[Any]] = set()


def run(planes: Planes, options: Options) -> None:
    """Normalise the planes and fill ``planes.out``, ``planes.median`` and ``planes.mad``."""
    count, height, width = planes.images.shape
    dtype = planes.images.dtype
    real = dtype.type
    plan = _plan(options.footprint, height, width, dtype.itemsize)
    # Numba compiles separately for read-only arrays, so these two are always read-only.
    images = read_only(planes.images.reshape(count, height * width))
    no_masks = np.empty((count, 0), bool)
    masks = read_only(no_masks if planes.masks is None else planes.masks.reshape(images.shape))
    out = np.empty((count, 0), dtype) if planes.out is None else planes.out.reshape(images.shape)
    arrays = (images, masks, out, planes.median, planes.mad)
    with np.errstate(over="ignore"):  # a limit beyond the range of the dtype becomes infinite
        clip = real(np.inf if options.clip is None else options.clip)
    settings = (
        float(options.eps),
        clip,
        real(0 if options.nan_to_zero else np.nan),
        planes.stack_bytes > STREAMING_BYTES,
    )
    kernel = numba_cpu.normalize_planes
    if dtype not in _compiled:
        with notice_if_slow("the CPU kernel, once per machine and dtype"):
            kernel(*arrays, *plan, *settings, *numba_cpu.workspace(plan.pixels.size, dtype), 0, 0)
        _compiled.add(dtype)

    def work() -> Callable[[int, int], None]:
        space = numba_cpu.workspace(plan.pixels.size, dtype)
        return lambda start, stop: kernel(*arrays, *plan, *settings, *space, start, stop)

    share_out(work, count, PLANES_PER_TASK, FEWEST_PLANES_PER_THREAD)
