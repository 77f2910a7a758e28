"""Jobs in an executor: run again after the death of a worker; workers of a Dask cluster."""

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

from fastnorm.text import one_line

Job = TypeVar("Job")

MOST_DEATHS = 3
"""A job that was under way at so many deaths of workers is taken for their cause."""

JOBS_PER_WORKER = 3
"""So many are handed out ahead, of the millions that there may be."""

INSTALL_DASK = "pip install 'dhs-fastnorm[dask]'"
SECONDS_TO_CONNECT = 30
SECONDS_BETWEEN_POLLS = 0.2


class WorkersDiedError(RuntimeError):
    """Workers died again and again, or the cluster is gone; what is complete is kept."""


def run_all(
    work: Callable[[Job], int],
    jobs: list[Job],
    open_executor: Callable[[], AbstractContextManager[Executor]],
    workers: int,
    advance: Callable[[int], None],
    warn: Callable[[str], None],
    poll: Callable[[], None] | None = None,
) -> int:
    """Run every job in an executor, and again the jobs that a worker died with.

    Parameters
    ----------
    work : function
        Picklable; what it returns is handed to ``advance``.
    jobs : list
        Each of its own, in any order; all may be done twice.
    open_executor : function
        Opens an executor; a new one follows one that broke.
    workers : int
        Of the executor.
    advance : function
        Called in this process when a job is done.
    warn : function
        Called with a message when a worker died.
    poll : function, optional
        Called several times a second while jobs run.

    Returns
    -------
    int
        How often workers died.

    Raises
    ------
    WorkersDiedError
        A job was under way at three deaths, or the cluster is gone.
    Exception
        What a job raised.
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
                f"workers died {total} times, {deaths[suspect]} of them running "
                f"{one_line(str(jobs[suspect]), 80)}, perhaps for lack of memory. Complete shards "
                "are kept; run the same command again to "
                "resume. --workers 1 needs less memory."
            )
        warn(f"a worker died; {len(under_way)} shards that it or others had begun are built again.")
    return total


def _drain(
    executor: Executor,
    work: Callable[[Job], int],
    left: dict[int, Job],
    workers: int,
    advance: Callable[[int], None],
    poll: Callable[[], None] | None,
) -> list[int]:
    """Do what is ``left``, and take it from there; give what was under way at a death."""
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
        # The next ones in line may be as well: the executor does not say which job it was.
        return list(futures.values())
    except CancelledError as error:
        raise WorkersDiedError(
            "the Dask scheduler is gone, and the jobs with it. Complete shards are kept; start a "
            "cluster, and give the same command to go on from them."
        ) from error
    finally:
        for future in futures:
            future.cancel()


@contextmanager
def dask_cluster(address: str | None, workers: int) -> Iterator[tuple[Executor, int]]:
    """Workers of a Dask cluster: of a scheduler that runs, or of one started here.

    Parameters
    ----------
    address : str or None
        Of a scheduler, or the path of its scheduler file; None starts a cluster on this machine.
    workers : int
        Of a cluster that is started here.

    Yields
    ------
    executor : Executor
    workers : int
        How many there are.

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
                raise FileNotFoundError(f"dask={address!r}: there is no such scheduler file.")
            where = {"scheduler_file": address}
        client = exits.enter_context(Client(**where, timeout=SECONDS_TO_CONNECT))
        count = len(client.scheduler_info(n_workers=-1)["workers"])
        try:
            yield client.get_executor(pure=False), max(count, 1)
        except KilledWorker as error:
            raise WorkersDiedError(
                f"Dask gave up: {error} Complete shards are kept; the same command goes on from "
                "them."
            ) from error
