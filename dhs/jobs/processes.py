"""Jobs that fill a folder, done here or in processes that end with this one."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, wait
from contextlib import suppress
from multiprocessing import connection
from pathlib import Path
from typing import Any, TypeVar

import fastnorm
from dhs.jobs.lock import hold_until_exit

Job = TypeVar("Job")

SECONDS_BETWEEN_REPORTS = 0.2

# In a worker: how much of every job is done; the last entry is 1 when all are to stop.
_board: Any = None


class _StoppedError(Exception):
    pass


def run_jobs(
    make: Callable[[Job, Callable[[int], None]], None],
    jobs: Sequence[Job],
    workers: int,
    folder: Path,
    report: Callable[[int], None],
) -> None:
    """Do jobs here, or in new processes of one thread each.

    Parameters
    ----------
    make : function
        Does one job. Its second argument is a function to be called with how much was done since
        the last call. For other processes it has to be picklable, as have the jobs.
    jobs : sequence
    workers : int
        Number of processes; 1 stays in this one.
    folder : Path
        The folder that this process holds, and that every worker holds with it.
    report : function
        Called now and then with how much of all jobs is done.
    """
    report(0)
    workers = min(workers, len(jobs))
    if workers <= 1:
        done = 0

        def advance(count: int) -> None:
            nonlocal done
            done += count
            report(done)

        for job in jobs:
            make(job, advance)
        return

    # Not forked: threads of this process may hold locks.
    context = multiprocessing.get_context("spawn")
    board = context.RawArray("q", len(jobs) + 1)
    with ProcessPoolExecutor(workers, context, _start_worker, (board, folder)) as pool:
        pending: set[Future[None]] = set()
        try:
            for place, job in enumerate(jobs):
                pending.add(pool.submit(_make_in_worker, make, job, place))
            while pending:
                finished, pending = wait(pending, SECONDS_BETWEEN_REPORTS, FIRST_EXCEPTION)
                report(sum(board[:-1]))
                for future in finished:
                    future.result()
        finally:
            board[-1] = 1
            for future in pending:
                future.cancel()


def _start_worker(board: Any, folder: Path) -> None:
    global _board
    _board = board
    start_worker(folder, 1)


def start_worker(folder: Path, threads: int) -> None:
    """Make a new process a worker: of so many threads, holding a folder, ending with its parent.

    Parameters
    ----------
    folder : Path
        That the parent holds.
    threads : int
    """
    fastnorm.set_num_threads(threads)
    # An interrupt of the terminal reaches all processes; the first one tells the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    hold_until_exit(folder)
    parent = multiprocessing.parent_process()
    # Held before this look: whoever continues the work of a dead parent finds the lock.
    if parent is None or connection.wait([parent.sentinel], timeout=0):
        os._exit(1)
    threading.Thread(target=_end_with_parent, args=(parent.sentinel,), daemon=True).start()


def _end_with_parent(sentinel: int) -> None:
    """A worker whose parent was killed would wait for work for ever."""
    connection.wait([sentinel])
    os._exit(1)


def _make_in_worker(
    make: Callable[[Job, Callable[[int], None]], None], job: Job, place: int
) -> None:
    def advance(count: int) -> None:
        _board[place] += count
        if _board[-1]:
            raise _StoppedError

    with suppress(_StoppedError):
        make(job, advance)
