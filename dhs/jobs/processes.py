"""Jobs that fill a folder, run here or in worker processes that end with this one."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing import connection
from pathlib import Path
from typing import Any, TypeVar

import fastnorm
from dhs.jobs.executors import run_all
from dhs.jobs.lock import hold_until_exit

Job = TypeVar("Job")
Make = Callable[[Job, Callable[[int], None]], None]

# In a worker: the amount done of every job; the last entry is 1 when all must stop.
_board: Any = None


class _StoppedError(Exception):
    pass


def run_jobs(
    make: Make[Job],
    jobs: Sequence[Job],
    workers: int,
    folder: Path,
    report: Callable[[int], None],
    *,
    describe: Callable[[Job], str] = str,
    warn: Callable[[str], None] = warnings.warn,
) -> None:
    """Run jobs here or in new processes of one thread each; restart after the death of a worker.

    Parameters
    ----------
    make : function
        Runs one job. Its second argument is a function to call with the amount done since the
        last call. It and the jobs must be picklable where there are several workers.
    jobs : sequence
        A job may run twice, after a worker died with it.
    workers : int
        Number of processes; 1 stays in this one.
    folder : Path
        Folder that this process has locked; every worker takes part in the lock.
    report : function
        Called several times a second with the amount done of all jobs, which never falls.
    describe : function
        Returns the name of a job, for messages.
    warn : function
        Called with a message when a worker died; by default it becomes a warning.

    Raises
    ------
    dhs.jobs.executors.WorkersDiedError
        Workers died three times with the same job.
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

    board = multiprocessing.get_context("spawn").RawArray("q", len(jobs) + 1)
    most = 0

    def poll() -> None:
        # A job that runs again starts from 0.
        nonlocal most
        most = max(most, sum(board[:-1]))
        report(most)

    run_all(
        partial(_make_in_worker, make),
        list(enumerate(jobs)),
        partial(local_pool, workers, 1, folder, board),
        workers,
        advance=lambda _: None,
        warn=warn,
        poll=poll,
        describe=lambda numbered: describe(numbered[1]),
    )
    poll()


@contextmanager
def local_pool(workers: int, threads: int, folder: Path, board: Any = None) -> Iterator[Executor]:
    """Open a pool of processes on this machine, which end with this one.

    Parameters
    ----------
    workers, threads : int
        Number of processes, and of threads in each.
    folder : Path
        Folder that this process has locked.
    board : (J + 1,) shared int64 array, optional
        Amount done of every job; the last entry tells the workers to stop.

    Yields
    ------
    Executor
    """
    # Not forked: threads of this process may hold locks.
    context = multiprocessing.get_context("spawn")
    if board is not None:
        board[-1] = 0
    with ProcessPoolExecutor(workers, context, _start_worker, (board, folder, threads)) as pool:
        try:
            yield pool
        finally:
            if board is not None:
                board[-1] = 1


def _start_worker(board: Any, folder: Path, threads: int) -> None:
    """Limit the threads, take part in the lock, and watch the parent."""
    global _board
    _board = board
    fastnorm.set_num_threads(threads)
    # An interrupt in the terminal reaches all processes; only the parent reacts, and stops workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    hold_until_exit(folder)
    parent = multiprocessing.parent_process()
    # Checked after taking the lock, so that whoever resumes a dead parent's work finds the lock.
    if parent is None or connection.wait([parent.sentinel], timeout=0):
        os._exit(1)
    threading.Thread(target=_end_with_parent, args=(parent.sentinel,), daemon=True).start()


def _end_with_parent(sentinel: int) -> None:
    """Exit when the parent is killed; the worker would otherwise wait for work forever."""
    connection.wait([sentinel])
    os._exit(1)


def _make_in_worker(make: Make[Job], numbered: tuple[int, Job]) -> int:
    number, job = numbered
    # A worker that died may have done part of it.
    _board[number] = 0

    def advance(count: int) -> None:
        _board[number] += count
        if _board[-1]:
            raise _StoppedError

    with suppress(_StoppedError):
        make(job, advance)
    return 0
