"""``dhs simulate``: a simulated survey, made in parallel, resumable to the same bytes."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager, suppress
from multiprocessing import connection
from pathlib import Path
from typing import Any, NamedTuple

from pyarrow import parquet

import fastnorm
from dhs.injection.checks import integer
from dhs.survey.config import SurveyConfig, survey_config
from dhs.survey.files import (
    CUTOUTS_PER_SHARD,
    MANIFEST,
    SurveySettings,
    check_folder,
    finish,
    make_shard,
    missing_shards,
    remove_leftovers,
    remove_parts,
)
from dhs.survey.images import LENS_FRACTION
from dhs.survey.scene import BRIGHT

SECONDS_BETWEEN_REPORTS = 0.2
SECONDS_TO_WAIT_FOR_THE_FOLDER = 3.0

# In a worker: how many cutouts of every shard are done; the last entry is 1 when all are to stop.
_board: Any = None


class Survey(NamedTuple):
    """What `write_survey` gives.

    ``out``: the folder. ``shards``: names of its files. ``cutouts``: how many there are, of which
    ``bright`` and ``limit`` have an arc. ``simulated``: how many this call made. ``was_complete``:
    there was nothing to do.
    """

    out: Path
    shards: list[str]
    cutouts: int
    bright: int
    limit: int
    simulated: int
    was_complete: bool


def write_survey(
    out: str | Path,
    n: int,
    seed: int,
    lens_fraction: float = LENS_FRACTION,
    *,
    workers: int = 1,
    config: SurveyConfig | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Survey:
    """Simulate a survey into a folder, or finish one that was interrupted.

    The files are the same whatever the number of workers, and however often the work was
    interrupted. A folder that is complete already is left as it is.

    Parameters
    ----------
    out : str or Path
        Made if need be. It has to be empty, or to hold a survey of these settings.
    n : int
        Number of cutouts.
    seed, lens_fraction, config
        As of `dhs.survey.images.simulate_cutouts`.
    workers : int
        Processes; 1 stays in this one. Others are started afresh, so that a script needs
        ``if __name__ == "__main__":``.
    progress : function, optional
        Called with how many cutouts are done and how many there are to be.

    Returns
    -------
    Survey

    Raises
    ------
    TypeError, ValueError
        A number is out of its range; the folder holds something else, or a survey of other
        settings (what differs is named), or a complete survey that was damaged.
    OSError
        The folder cannot be written, or another process is writing it.
    """
    chosen = survey_config() if config is None else config
    settings = SurveySettings(n, seed, lens_fraction, chosen, CUTOUTS_PER_SHARD)
    integer("workers", workers, 1, 1024)
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"{out} is a file; name a folder for the survey.")
    out.mkdir(parents=True, exist_ok=True)
    with _only_writer(out):
        is_complete = check_folder(out, settings)
        remove_leftovers(out)
        missing = [] if is_complete else missing_shards(out, settings)
        left = sum(len(settings.numbers(shard)) for shard in missing)
        if missing:
            report = progress or (lambda done, total: None)
            _make_shards(out, settings, missing, workers, lambda done: report(n - left + done, n))
        if not is_complete:
            finish(out, settings)
        remove_parts(out)
    return _summary(out, settings, left, is_complete)


def _summary(out: Path, settings: SurveySettings, simulated: int, was_complete: bool) -> Survey:
    tiers = parquet.read_table(out / MANIFEST, columns=["tier"])["tier"].to_pylist()
    bright, arcs = tiers.count(BRIGHT), len(tiers) - tiers.count("")
    return Survey(
        out, settings.shards(), len(tiers), bright, arcs - bright, simulated, was_complete
    )


class _StoppedError(Exception):
    pass


def _make_shards(
    out: Path,
    settings: SurveySettings,
    missing: list[int],
    workers: int,
    report: Callable[[int], None],
) -> None:
    """Make shards here, or in new processes of one thread each.

    Parameters
    ----------
    out : Path
    settings : SurveySettings
    missing : list of int
        Which shards.
    workers : int
        Number of processes; 1 makes them in this one.
    report : function
        Called now and then with the number of cutouts done.
    """
    report(0)
    workers = min(workers, len(missing))
    if workers == 1:
        done = 0

        def advance(count: int) -> None:
            nonlocal done
            done += count
            report(done)

        for shard in missing:
            make_shard(out, settings, shard, advance)
        return

    # Not forked: threads of this process may hold locks.
    context = multiprocessing.get_context("spawn")
    board = context.RawArray("q", len(missing) + 1)
    with ProcessPoolExecutor(workers, context, _start_worker, (board, out)) as pool:
        pending: set[Future[None]] = set()
        try:
            for place, shard in enumerate(missing):
                pending.add(pool.submit(_make_in_worker, out, settings, shard, place))
            while pending:
                finished, pending = wait(pending, SECONDS_BETWEEN_REPORTS, FIRST_EXCEPTION)
                report(sum(board[:-1]))
                for future in finished:
                    future.result()
        finally:
            board[-1] = 1
            for future in pending:
                future.cancel()


@contextmanager
def _only_writer(folder: Path) -> Iterator[None]:
    """Hold the folder against other processes that write a survey.

    An exclusive lock is had only where nobody holds a shared one; then it is turned into a
    shared one, which every worker takes as well. So no worker of a run that was killed, which
    ends a moment later than its parent, can write beside the run that continues it.

    Raises
    ------
    BlockingIOError
        Another run is at it.
    """
    deadline = time.monotonic() + SECONDS_TO_WAIT_FOR_THE_FOLDER
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        while not _lock(descriptor, fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                raise BlockingIOError(
                    f"another process is writing a survey into {folder}; wait for it, or end it."
                )
            time.sleep(0.05)
        _lock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, kind: int) -> bool:
    """Lock a folder, unless others hold it."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        # Some network file systems lock no folders; files are still whole or absent.
        pass
    return True


def _start_worker(board: Any, folder: Path) -> None:
    global _board
    _board = board
    fastnorm.set_num_threads(1)
    # An interrupt of the terminal reaches all processes; the first one tells the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Open, and so locked, until the process ends.
    _lock(os.open(folder, os.O_RDONLY), fcntl.LOCK_SH)
    parent = multiprocessing.parent_process()
    # Locked before this look: whoever continues the work of a dead parent finds the lock.
    if parent is None or connection.wait([parent.sentinel], timeout=0):
        os._exit(1)
    threading.Thread(target=_end_with_parent, args=(parent.sentinel,), daemon=True).start()


def _end_with_parent(sentinel: int) -> None:
    """A worker whose parent was killed would wait for work for ever."""
    connection.wait([sentinel])
    os._exit(1)


def _make_in_worker(out: Path, settings: SurveySettings, shard: int, place: int) -> None:
    def advance(count: int) -> None:
        _board[place] += count
        if _board[-1]:
            raise _StoppedError

    with suppress(_StoppedError):
        make_shard(out, settings, shard, advance)
