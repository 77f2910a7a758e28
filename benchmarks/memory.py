"""Peak memory of this process.

On Linux, ``ru_maxrss`` of a new process includes the memory of the one that started it, and never
falls.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_bytes() -> int:
    """Return the largest resident memory since the start, or since `reset_peak`."""
    if STATUS.exists():
        (line,) = (row for row in STATUS.read_text().splitlines() if row.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def reset_peak() -> int:
    """Forget what was resident before, and return what is resident now, where the system can."""
    if RESET.exists():
        RESET.write_text("5")
    return peak_bytes()
