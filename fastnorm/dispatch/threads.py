"""Threads of the CPU backends, which divide planes among themselves.

They are Python threads: kernels release the GIL. The runtime of Numba's parallel
loops would crash if a process forks after using it, as PyTorch's data loaders do.
"""

from __future__ import annotations

import _thread
import numbers
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from typing import Any

from numpy.typing import NDArray

SECONDS_BEFORE_NOTICE = 2.0
SECONDS_BETWEEN_LOOKS = 0.05
ENDS = 8
"""How often the end of a call is tried, for interrupts that come faster than it ends."""

# An interrupt can leave the locks of `concurrent.futures` and `threading` taken for ever, but not
# this queue. Races of two callers start too many threads at worst.
_calls: SimpleQueue[_Crew] = SimpleQueue()
_num_started = 0
_start = _thread.start_new_thread


def _forget_pool() -> None:
    global _calls, _num_started
    _calls, _num_started = SimpleQueue(), 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


def _serve(calls: SimpleQueue[_Crew]) -> None:
    while True:
        calls.get().help()


def _call(crew: _Crew, count: int) -> None:
    """Call ``count`` helpers, or as many as the system gives threads to."""
    global _num_started
    with suppress(RuntimeError):
        while _num_started < count:
            _start(_serve, (_calls,))
            _num_started += 1
    for _ in range(min(count, _num_started)):
        _calls.put(crew)


@contextmanager
def notice_if_slow(what: str, how_long: str = "a few seconds") -> Iterator[None]:
    """Print a notice on stderr if the compilation of ``what`` takes more than two seconds."""

    def say() -> None:
        print(f"fastnorm: compiling {what} ({how_long})...", file=sys.stderr, flush=True)

    timer = threading.Timer(SECONDS_BEFORE_NOTICE, say)
    timer.daemon = True
    with suppress(RuntimeError):  # No more threads: no notice.
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
    crew = _Crew(prepare, count, step)
    _work_together(crew, threads - 1, ENDS)
    if crew.error is not None:
        raise crew.error


def _work_together(crew: _Crew, helpers: int, ends: int) -> None:
    """Work with helpers, and end whatever happens.

    Python raises an interrupt where a function begins or a loop turns, before any ``try`` there, so
    it can skip an `_Crew.end`. Each of ``ends`` is skipped by an interrupt of its own at most.
    """
    try:
        if ends > 1:
            _work_together(crew, helpers, ends - 1)
        else:
            if helpers:
                _call(crew, helpers)
            crew.work()
            crew.wait()
    finally:
        crew.end()


class _Crew:
    """The caller's thread and its helpers, none of which works after `end`.

    Parameters
    ----------
    prepare : function
        See `share_out`.
    count, step : int
        Numbers of items in all, and in a task.

    Attributes
    ----------
    error : exception or None
        An error of a helper.
    """

    def __init__(
        self, prepare: Callable[[], Callable[[int, int], object]], count: int, step: int
    ) -> None:
        self._prepare: Callable[[], Callable[[int, int], object]] | None = prepare
        self._count, self._step = count, step
        self._starts = deque(range(0, count, step))
        self._at_work: set[object] = set()
        self._left: SimpleQueue[None] = SimpleQueue()
        self.error: BaseException | None = None

    def help(self) -> None:
        """Work in a thread that `end` waits for."""
        me = object()
        self._at_work.add(me)
        try:
            self.work()
        except BaseException as error:
            self.error = error
        finally:
            self._at_work.discard(me)
            self._left.put(None)

    def work(self) -> None:
        """Process tasks until none is left."""
        prepare = self._prepare
        if prepare is None or not self._starts:
            return
        task = prepare()
        while self._prepare is not None:
            try:
                start = self._starts.popleft()
            except IndexError:
                return
            task(start, min(start + self._step, self._count))

    def wait(self) -> None:
        """Wait until no helper is at work."""
        while self._at_work:
            with suppress(Empty):
                self._left.get(timeout=SECONDS_BETWEEN_LOOKS)

    def end(self) -> None:
        """Let helpers begin nothing more, and wait for them; interrupts are raised at the end."""
        late: BaseException | None = None
        while True:
            try:
                # A thread that is called too late finds nothing, and keeps no array in memory.
                self._prepare = None
                self.wait()
                break
            except BaseException as error:
                late = error
        if late is not None:
            raise late


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
