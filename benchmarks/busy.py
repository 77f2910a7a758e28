"""How much of the processors others used while a run was timed."""

from __future__ import annotations

import os
from pathlib import Path
from time import perf_counter, process_time

STAT = Path("/proc/stat")


class Others:
    """Looks at the processors from its making on (Linux)."""

    def __init__(self) -> None:
        self._started = self._busy(), process_time(), perf_counter()

    def share(self) -> float | None:
        """Of all processors, what others had, a hypervisor included; ``None`` if unknown."""
        before, own_before, started = self._started
        now, own = self._busy(), process_time()
        if before is None or now is None:
            return None
        seconds = (perf_counter() - started) * (os.cpu_count() or 1)
        # Ticks are coarse: less than nothing is nothing.
        return min(1.0, max(0.0, ((now - before) - (own - own_before)) / seconds))

    @staticmethod
    def _busy() -> float | None:
        """Seconds that all processors were not idle."""
        if not STAT.is_file():
            return None
        user, nice, system, _, _, irq, softirq, steal = map(int, STAT.read_text().split()[1:9])
        ticks = user + nice + system + irq + softirq + steal
        return ticks / os.sysconf("SC_CLK_TCK")
