"""Threads of the CPU backends: they share items out, and hold no lock while a kernel runs.

The threads are Python's own: a kernel holds no lock of the interpreter.
Numba's parallel loops would bring a runtime that dies when a process forks
after using it, as PyTorch's data loaders do.
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
            # An outgrown pool finishes what it has and ends by itself.
            _pool = ThreadPoolExecutor(count, thread_name_prefix="fastnorm")
            _pool_size = count
        return _pool


@contextmanager
def notice_if_slow(what: str) -> Iterator[None]:
    """Say on stderr what is being compiled, where that takes some seconds."""

    def say() -> None:
        print(f"fastnorm: compiling {what} (some seconds)...", file=sys.stderr, flush=True)

    timer = threading.Timer(SECONDS_BEFORE_NOTICE, say)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def read_only(array: NDArray[Any]) -> NDArray[Any]:
    """View that cannot be written: Numba compiles anew for such arrays, so it gets no others."""
    view = array.view()
    view.flags.writeable = False
    return view


def share_out(
    prepare: Callable[[], Callable[[int, int], object]],
    count: int,
    most_per_task: int,
    fewest_per_thread: int,
) -> None:
    """Do items 0 to ``count`` in threads, as many as `num_threads` allows.

    Parameters
    ----------
    prepare : function
        Called once in every thread; what it returns is called with the first item of
        a task and the one after its last.
    count : int
    most_per_task : int
    fewest_per_thread : int
        With fewer items there are fewer threads.
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
        # An interrupted call leaves no thread behind that still writes to its output.
        starts.clear()
        if helpers:
            wait(helpers)
    for helper in helpers:
        helper.result()


_num_threads: int | None = None


def set_num_threads(count: int | None) -> None:
    """Set how many CPU threads the backends use; results do not depend on it.

    Parameters
    ----------
    count : int or None
        At least 1. None returns to the default: every core that this process
        may use, or one inside a worker of a PyTorch ``DataLoader``.

    Raises
    ------
    TypeError, ValueError
        ``count`` is not an integer, or is below 1.
    """
    global _num_threads
    if count is not None:
        if not isinstance(count, numbers.Integral) or isinstance(count, bool):
            raise TypeError(f"count={count!r} is not an integer; give the number of threads.")
        if count < 1:
            raise ValueError(f"count={count!r}: the number of threads is at least 1.")
        count = int(count)
    _num_threads = count


def num_threads() -> int:
    """How many CPU threads a backend may use now."""
    if _num_threads is not None:
        return _num_threads
    loader = sys.modules.get("torch.utils.data")
    if loader is not None and loader.get_worker_info() is not None:
        return 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
