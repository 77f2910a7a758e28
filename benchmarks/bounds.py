"""``make bench-check``: what the ratios of a run must keep, wherever it ran.

A bound catches what is broken (a kernel that is no longer vectorised, some passes too many), on
whatever machine; what `benchmarks.compare` sees between two runs of one machine is finer.
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
"""Times a copy that ours takes, by the number of cutouts: twice the most that was measured. A copy
of 64 stays in the cache, where reading and writing cost little beside the median."""

AT_LEAST = {"NumPy, vectorised": 5.0, "bottleneck nanmedian": 3.0, "NumPy loop, reference": 3.5}
"""Times ours that a peer takes, on every stack: a third of the least that was measured."""


class Checked(NamedTuple):
    """``name`` may take ``least`` to ``most`` times as long as ``of``, and takes ``ratio``."""

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
            f"{self.of}; allowed is {allowed}"
        )


def check(run: Run) -> Iterator[Checked]:
    """Hold the bounds of every stack; those of a peer that was not timed are left out.

    Raises
    ------
    ValueError
        No bound is stated for a stack, or ours was not timed.
    """
    for cutouts in run.stacks():
        if cutouts not in AT_MOST:
            raise ValueError(
                f"no bounds are stated for {cutouts} cutouts, only for "
                f"{', '.join(map(str, AT_MOST))}."
            )
        median = {name: float(np.median(r)) for name, r in run.ratios(cutouts).items()}
        if OURS not in median:
            raise ValueError(f"{OURS} was not timed, and the bounds are its own.")
        yield Checked(cutouts, OURS, COPY, 0.0, AT_MOST[cutouts], median[OURS])
        for peer, least in AT_LEAST.items():
            if peer in median:
                ratio = median[peer] / median[OURS]
                yield Checked(cutouts, peer, OURS, least, float("inf"), ratio)


def report(run: Run, console: Console) -> None:
    """Print the bounds, and end with exit status 1 where one does not hold."""
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
    """Hold the bounds of a run that was kept."""
    with messages(ValueError, OSError):
        report(runs.read(file), Console(width=100))


if __name__ == "__main__":
    typer.run(main)
