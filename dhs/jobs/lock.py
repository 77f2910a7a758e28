"""One writer per folder, whatever becomes of the processes that write it."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shlex
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

SECONDS_TO_WAIT_FOR_THE_FOLDER = 3.0
WRITER = ".writer.json"
"""In a folder: who writes it, for those who find it locked. The lock decides, not the file."""

_LONGEST = 200, 4096
"""Of a command, in letters, and of the file, in bytes."""
_NOT_WRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS}
_LOCKS_NO_FOLDERS = {errno.EINVAL, errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP}


@contextmanager
def only_writer(
    folder: Path, what: str, seconds: float | None = None
) -> Iterator[Callable[[], None]]:
    """Hold a folder against other processes that write to it.

    An exclusive lock is had only where nobody holds a shared one; then it is turned into a
    shared one, which every worker takes as well. So no worker of a run that was killed, which
    ends a moment later than its parent, can write beside the run that continues it.

    Parameters
    ----------
    folder : Path
        Made if need be; the folder that it lies in has to be there.
    what : str
        What is written, with its article.
    seconds : float, optional
        How long to wait for the folder; by default 3.

    Yields
    ------
    function
        Records the owner: call it before writing, so that a second process is told who holds the
        folder. Raises a PermissionError if the folder is not writable.

    Raises
    ------
    BlockingIOError
        Another process is at it: which, if it has signed.
    """
    patience = SECONDS_TO_WAIT_FOR_THE_FOLDER if seconds is None else seconds
    deadline = time.monotonic() + patience
    while (held := _hold(folder)) is None:
        if time.monotonic() > deadline:
            raise BlockingIOError(
                f"another process is writing {what} into {folder}: {_writer(folder)}; wait for "
                "it, or end it."
            )
        time.sleep(0.05)
    try:
        # What a killed writer left says nothing of this one.
        _forget(folder)
        yield partial(_record_owner, folder, what)
    finally:
        _forget(folder)
        os.close(held)


def hold_until_exit(folder: Path) -> None:
    """Take part in a hold on a folder, as a worker does; only the end of the process ends it."""
    _lock(os.open(folder, os.O_RDONLY), fcntl.LOCK_SH)


def _hold(folder: Path) -> int | None:
    """A descriptor that holds the folder; None if others do, or if it has gone meanwhile."""
    folder.mkdir(exist_ok=True)
    with suppress(FileNotFoundError):
        descriptor = os.open(folder, os.O_RDONLY)
        is_held = False
        try:
            is_locked = _lock(descriptor, fcntl.LOCK_EX) and _lock(descriptor, fcntl.LOCK_SH)
            # Its last writer may have removed it: a lock on what is gone keeps nobody away.
            is_held = is_locked and os.path.samestat(os.fstat(descriptor), folder.stat())
        finally:
            if not is_held:
                os.close(descriptor)
        return descriptor if is_held else None
    return None


def _lock(descriptor: int, kind: int) -> bool:
    """Lock a folder, unless others hold it."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        # Some network file systems lock no folders; files are still whole or absent.
        if error.errno not in _LOCKS_NO_FOLDERS:
            raise
    return True


def _record_owner(folder: Path, what: str) -> None:
    command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    owner = {
        "what": what,
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
        "command": command[: _LONGEST[0]],
    }
    try:
        (folder / WRITER).write_text(json.dumps(owner), "utf-8")
    except OSError as error:
        # On a full disk the writer stays unknown: the lock holds all the same.
        if error.errno in _NOT_WRITABLE:
            raise PermissionError(
                f"{folder} is not writable ({error.strerror}); name another folder, or have its "
                "permissions changed."
            ) from error


def _writer(folder: Path) -> str:
    """Who holds a folder, as far as is known."""
    try:
        with (folder / WRITER).open("rb") as file:
            owner = json.loads(file.read(_LONGEST[1]))
        where = f"process {owner['pid']} on host {owner['host']} since {owner['since']}"
        return f"{where} ({owner['command']})"
    except (OSError, ValueError, LookupError, TypeError):
        return "an unknown process"


def _forget(folder: Path) -> None:
    with suppress(OSError):
        (folder / WRITER).unlink()
