"""Jobs in an executor, restarted after the death of a worker, and workers of a Dask cluster."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    wait,
)
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from fastnorm.extras import how_to_install
from fastnorm.text import one_line

Job = TypeVar("Job")

MOST_DEATHS = 3
"""Number of deaths of workers after which a job that ran at all of them is the likely cause."""

JOBS_PER_WORKER = 3
"""Number of jobs submitted ahead per worker, because there may be millions of jobs."""

INSTALL_DASK = how_to_install("dask")
SECONDS_TO_CONNECT = 30
SECONDS_BETWEEN_POLLS = 0.2


class WorkersDiedError(RuntimeError):
    """Workers died repeatedly, or the cluster is gone; complete shards are kept."""


def run_all(
    work: Callable[[Job], int],
    jobs: list[Job],
    open_executor: Callable[[], AbstractContextManager[Executor]],
    workers: int,
    advance: Callable[[int], None],
    warn: Callable[[str], None],
    poll: Callable[[], None] | None = None,
    describe: Callable[[Job], str] = str,
) -> int:
    """Run every job in an executor, and repeat jobs after the death of a worker.

    Parameters
    ----------
    work : function
        Runs one job; must be picklable. Its result is passed to ``advance``.
    jobs : list
        Independent jobs. They run in any order, and any job may run twice.
    open_executor : function
        Opens an executor; called again after an executor broke.
    workers : int
        Number of workers of the executor.
    advance : function
        Called in this process when a job is done.
    warn : function
        Called with a message when a worker died.
    describe : function
        Returns the name of a job, for messages.
    poll : function, optional
        Called several times a second while jobs run.

    Returns
    -------
    int
        Number of times that workers died.

    Raises
    ------
    WorkersDiedError
        A job was running at three deaths, or the cluster is gone.
    Exception
        A job raised it.
    """
    left = dict(enumerate(jobs))
    deaths = dict.fromkeys(left, 0)
    total = 0
    while left:
        with open_executor() as executor:
            under_way = _drain(executor, work, left, workers, advance, poll)
        if not under_way:
            break
        total += 1
        for number in under_way:
            deaths[number] += 1
        suspect = max(under_way, key=deaths.__getitem__)
        if deaths[suspect] >= MOST_DEATHS:
            raise WorkersDiedError(
                f"workers died {total} times, {deaths[suspect]} of them before "
                f"{one_line(describe(jobs[suspect]), 80)} was finished, perhaps for lack of "
                "memory, or because a script starts workers outside "
                "`if __name__ == '__main__':`. Complete shards are kept; run the same command "
                "again to resume. --workers 1 needs less memory."
            )
        warn(f"a worker died; the {len(under_way)} unfinished shards are built again.")
    return total


def _drain(
    executor: Executor,
    work: Callable[[Job], int],
    left: dict[int, Job],
    workers: int,
    advance: Callable[[int], None],
    poll: Callable[[], None] | None,
) -> list[int]:
    """Run the jobs that are ``left`` and remove them; return those running when a worker died."""
    waiting = iter(list(left))
    futures: dict[Future[int], int] = {}
    try:
        while True:
            while len(futures) < JOBS_PER_WORKER * workers:
                number = next(waiting, None)
                if number is None:
                    break
                futures[executor.submit(work, left[number])] = number
            if not futures:
                return []
            finished = wait(futures, poll and SECONDS_BETWEEN_POLLS, FIRST_COMPLETED).done
            if poll is not None:
                poll()
            for future in finished:
                advance(future.result())
                left.pop(futures.pop(future))
    except BrokenExecutor:
        # The executor does not report which of these jobs were running.
        return list(futures.values())
    except CancelledError as error:
        raise WorkersDiedError(
            "the Dask scheduler is gone, and the jobs with it. Complete shards are kept; start a "
            "cluster and run the same command again to resume."
        ) from error
    finally:
        for future in futures:
            future.cancel()


@contextmanager
def dask_cluster(address: str | None, workers: int) -> Iterator[tuple[Executor, int]]:
    """Connect to a Dask cluster, or start one on this machine.

    Parameters
    ----------
    address : str or None
        Address of a scheduler, or path of its scheduler file; None starts a cluster here.
    workers : int
        Number of workers of a cluster that is started here.

    Yields
    ------
    executor : Executor
        Executor of the cluster.
    workers : int
        Number of workers, at least 1.

    Raises
    ------
    ImportError
        Dask is not installed.
    OSError
        There is no scheduler at the address.
    """
    try:
        from distributed import Client, KilledWorker, LocalCluster
    except ImportError as error:
        raise ImportError(f"--dask needs dask.distributed: {INSTALL_DASK}") from error
    with ExitStack() as exits:
        where: dict[str, Any] = {"address": address}
        if address is None:
            cluster = LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                processes=True,
                dashboard_address=None,
                memory_limit=0,
                silence_logs=logging.ERROR,
            )
            where = {"address": exits.enter_context(cluster)}
        elif address.endswith(".json"):
            if not Path(address).exists():
                raise FileNotFoundError(f"dask={address!r}: the scheduler file does not exist.")
            where = {"scheduler_file": address}
        client = exits.enter_context(Client(**where, timeout=SECONDS_TO_CONNECT))
        count = len(client.scheduler_info(n_workers=-1)["workers"])
        try:
            yield client.get_executor(pure=False), max(count, 1)
        except KilledWorker as error:
            raise WorkersDiedError(
                f"Dask gave up: {error} Complete shards are kept; run the same command again to "
                "resume."
            ) from error
