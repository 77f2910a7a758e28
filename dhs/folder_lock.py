"""One writer per folder, whatever becomes of the processes that write it."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SECONDS_TO_WAIT_FOR_THE_FOLDER = 3.0


@contextmanager
def only_writer(
    folder: Path, what: str, seconds: float = SECONDS_TO_WAIT_FOR_THE_FOLDER
) -> Iterator[None]:
    """Hold a folder against other processes that write to it.

    An exclusive lock is had only where nobody holds a shared one; then it is turned into a
    shared one, which every worker takes as well. So no worker of a run that was killed, which
    ends a moment later than its parent, can write beside the run that continues it.

    Parameters
    ----------
    folder : Path
    what : str
        What is written, with its article.
    seconds : float
        How long to wait for the folder.

    Raises
    ------
    BlockingIOError
        Another run is at it.
    """
    deadline = time.monotonic() + seconds
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        while not _lock(descriptor, fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                raise BlockingIOError(
                    f"another process is writing {what} into {folder}; wait for it, or end it."
                )
            time.sleep(0.05)
        _lock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


def hold_until_exit(folder: Path) -> None:
    """Take part in a hold on a folder, as a worker does; only the end of the process ends it."""
    _lock(os.open(folder, os.O_RDONLY), fcntl.LOCK_SH)


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
