"""How the C library keeps memory: with its usual settings, page faults take half of a network."""

from __future__ import annotations

import ctypes
import sys

MIB = 2**20
# Names and numbers of glibc's mallopt(3). Blocks of 32 MiB and more are mapped whatever is set.
TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD, ARENA_MAX = -1, -2, -3, -8
SETTINGS = {
    TRIM_THRESHOLD: 2**31 - 1,
    TOP_PAD: 64 * MIB,
    MMAP_THRESHOLD: 32 * MIB,
    ARENA_MAX: 1,  # arenas of further threads give their pages back regardless
}


def keep_freed_memory() -> bool:
    """Let this process keep the memory that it frees, for its next batch.

    The layers of a network are allocated and freed for every batch; glibc returns blocks of such
    sizes to the system, which zeroes them again. It is meant for processes that do nothing else:
    what they once needed stays with them.

    Returns
    -------
    bool
        Whether the C library knows the settings, as glibc does; others are left as they are.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(mallopt(*setting) for setting in SETTINGS.items())
