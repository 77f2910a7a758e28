"""Fraction of the processors that other processes used while a run was timed."""

from __future__ import annotations

import os
from pathlib import Path
from time import perf_counter, process_time

STAT = Path("/proc/stat")


class Others:
    """Measures the load of other processes since its construction (Linux)."""

    def __init__(self) -> None:
        self._started = self._busy(), process_time(), perf_counter()

    def share(self) -> float | None:
        """Return the fraction of all processors that others used, hypervisor included.

        It is ``None`` if unknown.
        """
        before, own_before, started = self._started
        now, own = self._busy(), process_time()
        if before is None or now is None:
            return None
        seconds = (perf_counter() - started) * (os.cpu_count() or 1)
        # Ticks are coarse, so the difference may be slightly negative.
        return min(1.0, max(0.0, ((now - before) - (own - own_before)) / seconds))

    @staticmethod
    def _busy() -> float | None:
        """Return the busy seconds, summed over all processors."""
        if not STAT.is_file():
            return None
        user, nice, system, _, _, irq, softirq, steal = map(int, STAT.read_text().split()[1:9])
        ticks = user + nice + system + irq + softirq + steal
        return ticks / os.sysconf("SC_CLK_TCK")
