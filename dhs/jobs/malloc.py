"""Settings of malloc; with the defaults, page faults take half of the time of a network."""

from __future__ import annotations

import ctypes
import sys

MIB = 2**20
# Parameters of glibc's mallopt(3). glibc always maps blocks larger than 32 MiB.
TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD, ARENA_MAX = -1, -2, -3, -8
SETTINGS = {
    TRIM_THRESHOLD: 2**31 - 1,
    TOP_PAD: 64 * MIB,
    MMAP_THRESHOLD: 32 * MIB,
    ARENA_MAX: 1,  # the arenas of other threads return their pages regardless of the settings
}


def keep_freed_memory() -> bool:
    """Make this process keep freed memory for its next batch.

    A network allocates and frees its layers for every batch. By default, glibc returns blocks of
    such sizes to the system, which must zero them again. Use this only in processes that do
    nothing else, because they keep their peak memory.

    Returns
    -------
    bool
        True if the C library accepted the settings, as glibc does. Otherwise nothing changes.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(mallopt(*setting) for setting in SETTINGS.items())
