"""Check that the ratios of a run are within bounds, on any machine (``make bench-check``).

The bounds detect broken kernels (no longer vectorised, some passes too many). Smaller changes show
in `benchmarks.compare`, between two runs of one machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from benchmarks import runs
from benchmarks.cases import COPY
from benchmarks.runs import Run
from fastnorm.terminal import SOME_REJECTED, messages, say

OURS = "fastnorm numba"

AT_MOST = {4096: 3.5, 512: 3.5, 64: 12.0}
"""Largest ratio of our time to a copy, by number of cutouts: twice the largest measurement. A
copy of 64 stays in the cache, where reading and writing cost little compared with the median."""

AT_LEAST = {"NumPy, vectorised": 5.0, "bottleneck nanmedian": 3.0, "NumPy loop, reference": 3.5}
"""Smallest ratio of a peer's time to ours, on every stack: a third of the smallest measurement."""


class Checked(NamedTuple):
    """A ratio of the times of ``name`` and ``of``, and the range ``least`` to ``most`` allowed."""

    cutouts: int
    name: str
    of: str
    least: float
    most: float
    ratio: float

    @property
    def holds(self) -> bool:
        return self.least <= self.ratio <= self.most

    def __str__(self) -> str:
        allowed = f"at least {self.least:g}" if self.least else f"at most {self.most:g}"
        return (
            f"{self.cutouts} cutouts: {self.name} takes {self.ratio:.2f} times as long as "
            f"{self.of}; it must be {allowed}"
        )


def check(run: Run) -> Iterator[Checked]:
    """Yield the ratios of every stack with their bounds, except for peers that were not timed.

    Raises
    ------
    ValueError
        A stack has no bounds, or our backend was not timed.
    """
    for cutouts in run.stacks():
        if cutouts not in AT_MOST:
            raise ValueError(
                f"there are no bounds for {cutouts} cutouts, only for "
                f"{', '.join(map(str, AT_MOST))}."
            )
        median = {name: float(np.median(r)) for name, r in run.ratios(cutouts).items()}
        if OURS not in median:
            raise ValueError(f"{OURS} was not timed, but the bounds are relative to it.")
        yield Checked(cutouts, OURS, COPY, 0.0, AT_MOST[cutouts], median[OURS])
        for peer, least in AT_LEAST.items():
            if peer in median:
                ratio = median[peer] / median[OURS]
                yield Checked(cutouts, peer, OURS, least, float("inf"), ratio)


def report(run: Run, console: Console) -> None:
    """Print the bounds, and exit with status 1 if a ratio is out of bounds."""
    found = list(check(run))
    table = Table(title="bounds of the ratios")
    for heading in ("cutouts", "", "of", "allowed", "ratio", "room"):
        table.add_column(heading, justify="left" if heading in ("", "of") else "right")
    for each in found:
        allowed = f">= {each.least:g}" if each.least else f"<= {each.most:g}"
        room = each.ratio / each.least if each.least else each.most / each.ratio
        table.add_row(
            str(each.cutouts), each.name, each.of, allowed, f"{each.ratio:.2f}", f"{room:.1f} x"
        )
    console.print(table)
    broken = [each for each in found if not each.holds]
    for each in broken:
        say("out of bounds", "red", str(each))
    if broken:
        raise typer.Exit(SOME_REJECTED)


def main(file: Path) -> None:
    """Check the bounds of a saved run."""
    with messages(ValueError, OSError):
        report(runs.read(file), Console(width=100))


if __name__ == "__main__":
    typer.run(main)
