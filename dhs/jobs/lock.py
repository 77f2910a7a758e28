"""Locks that allow one writer per folder; a killed writer leaves no stale lock."""

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

from dhs.jobs.files import open_own, write_new
from dhs.jobs.holders import Holder, holders_of, is_gone
from fastnorm.json_text import parse_json
from fastnorm.text import one_line

SECONDS_TO_WAIT_FOR_THE_FOLDER = 3.0
WRITER = ".writer.json"
"""File in a locked folder that identifies its owner; it informs others, but is not the lock."""

_LONGEST = 200, 4096
"""Largest length of the recorded command in letters, and of the file in bytes."""
_NOT_WRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS}
_LOCKS_NO_FOLDERS = {errno.EINVAL, errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP}


@contextmanager
def only_writer(
    folder: Path, what: str, seconds: float | None = None
) -> Iterator[Callable[[], None]]:
    """Lock a folder, so that no other process writes to it.

    The lock is first exclusive and then turned into a shared one, which every worker takes as
    well. An exclusive lock is available only if there is no shared one. Thus the workers of a
    killed run, which exit slightly later than their parent, never write at the same time as the
    run that resumes it.

    Parameters
    ----------
    folder : Path
        Folder, created if needed; its parent must exist.
    what : str
        Kind of output with its article, for the message.
    seconds : float, optional
        Time to wait for the folder; 3 by default.

    Yields
    ------
    function
        Records the owner of the folder for the message to a second process. Call it before
        writing. It raises a PermissionError if the folder is not writable.

    Raises
    ------
    BlockingIOError
        Another process has locked the folder; the message names it if it has recorded itself. If
        it was killed on this host, the message names those of its workers that are left.
    """
    patience = SECONDS_TO_WAIT_FOR_THE_FOLDER if seconds is None else seconds
    deadline = time.monotonic() + patience
    while (held := _hold(folder)) is None:
        if time.monotonic() > deadline:
            raise BlockingIOError(_held(folder, what))
        time.sleep(0.05)
    try:
        # A killed writer may have left its file.
        _forget(folder)
        yield partial(_record_owner, folder, what)
    finally:
        _forget(folder)
        os.close(held)


def hold_until_exit(folder: Path) -> None:
    """Share the lock of a folder, as workers do, until this process exits."""
    _lock(os.open(folder, os.O_RDONLY), fcntl.LOCK_SH)


def _hold(folder: Path) -> int | None:
    """Return a descriptor with the lock; None if others have it, or if the folder was removed."""
    folder.mkdir(exist_ok=True)
    with suppress(FileNotFoundError):
        descriptor = os.open(folder, os.O_RDONLY)
        is_held = False
        try:
            is_locked = _lock(descriptor, fcntl.LOCK_EX) and _lock(descriptor, fcntl.LOCK_SH)
            # The last writer may have removed the folder; a lock on it would then exclude nobody.
            is_held = is_locked and os.path.samestat(os.fstat(descriptor), folder.stat())
        finally:
            if not is_held:
                os.close(descriptor)
        return descriptor if is_held else None
    return None


def _lock(descriptor: int, kind: int) -> bool:
    """Lock a folder and return True, or return False if others have locked it."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        # Some network file systems cannot lock folders; files are still written atomically.
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
        write_new(folder / WRITER, json.dumps(owner).encode())
    except OSError as error:
        # On a full disk the owner stays unknown; the lock works nevertheless.
        if error.errno in _NOT_WRITABLE:
            raise PermissionError(
                f"{folder} is not writable ({error.strerror}); choose another folder, or change "
                "its permissions."
            ) from error


def _held(folder: Path, what: str) -> str:
    """Say who holds a folder, as far as it is known, and what to do."""
    owner, holders = _read_owner(folder), holders_of(folder)
    named = ", ".join(map(str, holders))
    if owner is None:
        who = f"an unknown process{f' (here, {named} holds the folder)' if holders else ''}"
    else:
        pid, host, who = owner
        # A number that others hold the lock without may belong to a later process.
        is_other = bool(holders) and pid not in [holder.pid for holder in holders]
        if host == socket.gethostname() and (is_other or is_gone(pid)):
            return f"{folder} is locked for {what}: {who} is gone, but {_left(folder, holders)}"
    return (
        f"another process is writing {what} into {folder}: {who}; wait for it to finish, or stop "
        "it."
    )


def _left(folder: Path, holders: list[Holder]) -> str:
    """Say which workers a killed writer left behind."""
    if not holders:
        return (
            "others hold the folder, perhaps its workers, that cannot be seen from here (without "
            f"/proc, in another container, or of another user); find them with: lsof {folder}"
        )
    named = ", ".join(map(str, holders))
    pids = " ".join(str(holder.pid) for holder in holders)
    return (
        f"its workers hold the folder: {named}; wait for them to exit, or end them with: "
        f"kill -9 {pids}"
    )


def _read_owner(folder: Path) -> tuple[int, str, str] | None:
    """Return number, host and description of the owner of a folder, as far as they are known."""
    try:
        with os.fdopen(open_own(folder / WRITER, os.O_RDONLY), "rb") as file:
            owner = parse_json(file.read(_LONGEST[1]))
        where = f"process {owner['pid']} on host {owner['host']} since {owner['since']}"
        said = one_line(f"{where} ({owner['command']})")
        return int(owner["pid"]), str(owner["host"]), said
    except (OSError, ValueError, LookupError, TypeError, OverflowError):
        return None


def _forget(folder: Path) -> None:
    with suppress(OSError):
        (folder / WRITER).unlink()
