"""Threads of the CPU backends, which divide planes among themselves.

They are Python threads: kernels release the GIL. The runtime of Numba's parallel
loops would crash if a process forks after using it, as PyTorch's data loaders do.
"""

from __future__ import annotations

import numbers
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any

from numpy.typing import NDArray

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
            # A pool that is too small finishes its work and then ends on its own.
            _pool = ThreadPoolExecutor(count, thread_name_prefix="fastnorm")
            _pool_size = count
        return _pool


@contextmanager
def notice_if_slow(what: str) -> Iterator[None]:
    """Print a notice on stderr if the compilation of ``what`` takes more than two seconds."""

    def say() -> None:
        print(f"fastnorm: compiling {what} (a few seconds)...", file=sys.stderr, flush=True)

    timer = threading.Timer(SECONDS_BEFORE_NOTICE, say)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def read_only(array: NDArray[Any]) -> NDArray[Any]:
    """Return a read-only view: Numba compiles again for such arrays, so it gets no others."""
    view = array.view()
    view.flags.writeable = False
    return view


def share_out(
    prepare: Callable[[], Callable[[int, int], object]],
    count: int,
    most_per_task: int,
    fewest_per_thread: int,
) -> None:
    """Process items 0 to ``count - 1`` in up to `num_threads` threads.

    Parameters
    ----------
    prepare : function
        Called once in every thread. It returns the function that processes a task,
        which is called with the first item of the task and the one after the last.
    count : int
        Number of items.
    most_per_task : int
        Largest number of items in a task.
    fewest_per_thread : int
        Smallest number of items per thread; fewer items use fewer threads.
    """
    threads = max(1, min(num_threads(), count // fewest_per_thread))
    step = max(1, min(most_per_task, -(-count // threads)))
    starts = deque(range(0, count, step))

    def work() -> None:
        task = prepare()
        while True:
            try:
                start = starts.popleft()
            except IndexError:
                return
            task(start, min(start + step, count))

    helpers: list[Future[None]] = []
    try:
        helpers.extend(_helpers(threads - 1).submit(work) for _ in range(threads - 1))
        work()
    finally:
        # After an interrupt, no thread may still write to the output.
        starts.clear()
        if helpers:
            wait(helpers)
    for helper in helpers:
        helper.result()


_num_threads: int | None = None


def set_num_threads(count: int | None) -> None:
    """Set the number of CPU threads of the backends; results do not depend on it.

    Parameters
    ----------
    count : int or None
        Number of threads, at least 1. None restores the default: all cores that
        this process may use, or one in a worker of a PyTorch ``DataLoader``.

    Raises
    ------
    TypeError
        ``count`` is not an integer.
    ValueError
        ``count`` is below 1.

    Examples
    --------
    >>> set_num_threads(2)
    >>> num_threads()
    2
    >>> set_num_threads(None)
    """
    global _num_threads
    if count is not None:
        if not isinstance(count, numbers.Integral) or isinstance(count, bool):
            raise TypeError(f"count={count!r} is not an integer; give the number of threads.")
        if count < 1:
            raise ValueError(f"count={count!r} must be at least 1; give the number of threads.")
        count = int(count)
    _num_threads = count


def num_threads() -> int:
    """Return the number of CPU threads that a backend may use now."""
    if _num_threads is not None:
        return _num_threads
    loader = sys.modules.get("torch.utils.data")
    if loader is not None and loader.get_worker_info() is not None:
        return 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
