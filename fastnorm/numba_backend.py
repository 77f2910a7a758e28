"""The CPU backend: shares planes out among threads that run the Numba kernel.

The threads are Python's own: the kernel holds no lock of the interpreter.
Numba's parallel loops would bring a runtime that dies when a process forks
after using it, as PyTorch's data loaders do.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnorm import dispatch
from fastnorm.annulus import Annulus
from fastnorm.kernels import numba_cpu

PLANES_PER_TASK = 256
FEWEST_PLANES_PER_THREAD = 8
STREAMING_BYTES = 32 * 2**20  # a larger output does not stay in a usual last-level cache
SECONDS_BEFORE_NOTICE = 2.0

_pool: ThreadPoolExecutor | None = None
_pool_size = 0
_lock = threading.Lock()


def _forget_pool() -> None:
    global _pool, _pool_size, _lock
    _pool, _pool_size, _lock = None, 0, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


def _helpers(count: int) -> ThreadPoolExecutor:
    global _pool, _pool_size
    with _lock:
        if _pool is None or _pool_size < count:
            # An outgrown pool finishes what it has and ends by itself.
            _pool = ThreadPoolExecutor(count, thread_name_prefix="fastnorm")
            _pool_size = count
        return _pool


@lru_cache(maxsize=64)
def _plan(annulus: Annulus, height: int, width: int, itemsize: int) -> numba_cpu.GatherPlan:
    return numba_cpu.gather_plan(annulus.pixels(height, width), height * width, itemsize)


@contextmanager
def _notice_if_slow() -> Iterator[None]:
    def say() -> None:
        print(
            "fastnorm: compiling the CPU kernel, once per machine and dtype (some seconds)...",
            file=sys.stderr,
            flush=True,
        )

    timer = threading.Timer(SECONDS_BEFORE_NOTICE, say)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    view = array.view()
    view.flags.writeable = False
    return view


_compiled: set[np.dtype[Any]] = set()


def run(planes: dispatch.Planes, options: dispatch.Options) -> None:
    """Fill ``planes.out``, ``planes.median`` and ``planes.mad``."""
    count, height, width = planes.images.shape
    dtype = planes.images.dtype
    real = dtype.type
    plan = _plan(options.annulus, height, width, dtype.itemsize)
    # Numba compiles anew for arrays that cannot be written: these two never can.
    images = _read_only(planes.images.reshape(count, height * width))
    no_masks = np.empty((count, 0), bool)
    masks = _read_only(no_masks if planes.masks is None else planes.masks.reshape(images.shape))
    out = np.empty((count, 0), dtype) if planes.out is None else planes.out.reshape(images.shape)
    arrays = (images, masks, out, planes.median, planes.mad)
    with np.errstate(over="ignore"):  # a limit beyond the dtype's range is no limit
        clip = real(np.inf if options.clip is None else options.clip)
    settings = (
        float(options.eps),
        clip,
        real(0 if options.nan_to_zero else np.nan),
        planes.stack_bytes > STREAMING_BYTES,
    )
    kernel = numba_cpu.normalize_planes
    if dtype not in _compiled:
        with _notice_if_slow():
            kernel(*arrays, *plan, *settings, *numba_cpu.workspace(plan.pixels.size, dtype), 0, 0)
        _compiled.add(dtype)

    threads = max(1, min(dispatch.num_threads(), count // FEWEST_PLANES_PER_THREAD))
    step = max(1, min(PLANES_PER_TASK, -(-count // threads)))
    starts = deque(range(0, count, step))

    def work() -> None:
        space = numba_cpu.workspace(plan.pixels.size, dtype)
        while True:
            try:
                start = starts.popleft()
            except IndexError:
                return
            kernel(*arrays, *plan, *settings, *space, start, min(start + step, count))

    helpers: list[Future[None]] = []
    try:
        helpers.extend(_helpers(threads - 1).submit(work) for _ in range(threads - 1))
        work()
    finally:
        # An interrupted call leaves no thread behind that still writes to `out`.
        starts.clear()
        if helpers:
            wait(helpers)
    for helper in helpers:
        helper.result()
