"""The processes that hold the lock of a folder, as far as the system tells."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

PROCESSES = Path("/proc")
"""Where Linux describes processes; other systems have nothing there."""


class Holder(NamedTuple):
    """A process that holds a lock. ``is_stopped``: whether it is frozen, and will not exit."""

    pid: int
    is_stopped: bool

    def __str__(self) -> str:
        return f"process {self.pid}{' (stopped)' if self.is_stopped else ''}"


def holders_of(folder: Path) -> list[Holder]:
    """Return the processes of this user and container that hold the lock of a folder."""
    try:
        sought, entries = folder.stat(), list(PROCESSES.iterdir())
    except OSError:
        return []
    return sorted(
        Holder(int(entry.name), _is_stopped(entry))
        for entry in entries
        if entry.name.isdecimal() and any(_locks(entry, sought))
    )


def is_gone(pid: int) -> bool:
    """Tell whether no process of this number is left on this host."""
    try:
        # Other numbers mean groups of processes.
        if pid > 0:
            os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return False


def _locks(process: Path, sought: os.stat_result) -> Iterator[bool]:
    """Tell of every open folder of a process whether it is this one, locked."""
    # Processes of others cannot be looked into, and any may exit meanwhile.
    with suppress(OSError):
        for descriptor in os.listdir(process / "fd"):
            with suppress(OSError):
                if os.path.samestat(os.stat(process / "fd" / descriptor), sought):
                    yield "FLOCK" in (process / "fdinfo" / descriptor).read_text()


def _is_stopped(process: Path) -> bool:
    try:
        # The name before the state may contain anything.
        after = (process / "stat").read_bytes().rpartition(b")")[2]
    except OSError:
        return False
    return after.split()[:1] in ([b"T"], [b"t"])
