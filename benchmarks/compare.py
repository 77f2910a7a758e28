"""Compare two runs, and list the changes that exceed the noise (``make bench-compare``).

The compared quantity is a contender's ratio to the copy of the same round, the median over the
rounds. The noise is the sum of two parts. The first is the dependence of that median on the rounds
that happened to be timed (a bootstrap). The second is the change of the machine: at least `DRIFT`,
more if others used it, and the median change of the peers if that is larger and more than chance,
because their code is not ours.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.stats import norm, t

from benchmarks import runs
from benchmarks.cases import COPY
from benchmarks.runs import Run
from fastnorm.terminal import SOME_REJECTED, fail, messages

DRIFT = 0.05
"""Logarithm of the ratio between two equal runs on an idle machine; doubled if others used all of
the processors. Measured, see docs/howto/benchmark.md."""

RESAMPLES = 1000
INTERVAL = 99.0
"""Percentage of the resampled changes that the noise interval contains."""

BLOCKS = 12
"""Number of blocks of neighbouring rounds that are resampled together, because a disturbance of one
round also affects the next."""


class Change(NamedTuple):
    """A contender in two runs: medians of its ratios to the copy.

    ``move`` and ``noise`` are natural logarithms of a ratio, so that twice as slow and twice as
    fast are equally far from no change; `percent` converts them to percent.
    """

    cutouts: int
    name: str
    kind: str
    old: float
    new: float
    move: float
    noise: float

    @property
    def verdict(self) -> str:
        if abs(self.move) <= self.noise:
            return ""
        return "slower" if self.move > 0 else "faster"

    @property
    def allowed(self) -> float:
        """Return the noise with the sign of the change."""
        return math.copysign(self.noise, self.move)


def percent(logarithm: float) -> float:
    """Convert a change from a logarithm to percent."""
    return 100 * math.expm1(logarithm)


def require_alike(old: Run, new: Run) -> None:
    """Refuse runs whose ratios may differ for other reasons than the code.

    Raises
    ------
    ValueError
        The runs have different machines, threads or stacks.
    """
    for what, was, now in (
        ("machines", str(old.machine_info), str(new.machine_info)),
        ("stacks", " and ".join(old.groups()), " and ".join(new.groups())),
    ):
        if was != now:
            raise ValueError(
                f"the runs have different {what}: {was}, and {now}. Compare runs with the same "
                f"{what}, or use --anyway."
            )


def compare_runs(old: Run, new: Run) -> Iterator[Change]:
    """Compare every contender except the copy, on every stack, if both runs have them."""
    kinds = {e.extra_info.contender: e.extra_info.kind for e in new.benchmarks}
    rng = np.random.default_rng(0)
    shares = [run.machine_info.others for run in (old, new)]
    drift = DRIFT * (1 + max(1.0 if share is None else share for share in shares))
    for cutouts in sorted(old.stacks().keys() & new.stacks().keys(), reverse=True):
        before, after = old.ratios(cutouts), new.ratios(cutouts)
        names = [name for name in before if name in after and name != COPY]
        moved, resampled = {}, {}
        for name in names:
            moved[name] = float(np.log(np.median(after[name]) / np.median(before[name])))
            resampled[name] = _medians(after[name], rng) - _medians(before[name], rng)
        peers = [name for name in names if kinds[name] != "ours"]
        machine = max(drift, _together(moved, resampled, peers))
        for name in names:
            drawn = min(len(before[name]), len(after[name]), BLOCKS)
            yield Change(
                cutouts=cutouts,
                name=name,
                kind=kinds[name],
                old=float(np.median(before[name])),
                new=float(np.median(after[name])),
                move=moved[name],
                noise=machine + _of_few(drawn) * _half_interval(resampled[name]),
            )


def _together(
    moved: Mapping[str, float], resampled: Mapping[str, NDArray[np.float64]], peers: list[str]
) -> float:
    """Return the median change of the peers, or 0 if it may be chance."""
    if not peers:
        return 0.0
    move = abs(float(np.median([moved[name] for name in peers])))
    chance = _half_interval(np.median([resampled[name] for name in peers], axis=0))
    return move if move > chance else 0.0


def _of_few(count: int) -> float:
    """Return the factor that widens an interval from few rounds: Student's t over the normal."""
    tail = (100 - INTERVAL) / 200
    return float(t.isf(tail, count - 1) / norm.isf(tail)) if count > 1 else math.inf


def _half_interval(resampled: NDArray[np.float64]) -> float:
    low, high = np.percentile(resampled, [50 - INTERVAL / 2, 50 + INTERVAL / 2])
    return float(high - low) / 2


def _medians(ratios: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Return logarithms of medians of rounds drawn with replacement, in blocks."""
    length = max(1, len(ratios) // BLOCKS)
    blocks = -(-len(ratios) // length)
    starts = rng.integers(len(ratios) - length + 1, size=(RESAMPLES, blocks, 1))
    drawn = ratios[(starts + np.arange(length)).reshape(RESAMPLES, -1)]
    return np.asarray(np.log(np.median(drawn, axis=1)))


def tables(changes: list[Change]) -> Iterator[Table]:
    """Yield one table per stack."""
    for cutouts in sorted({change.cutouts for change in changes}, reverse=True):
        table = Table(title=f"{cutouts} cutouts: x copy")
        for heading in ("", "old", "new", "change, %", "noise, %", "verdict"):
            table.add_column(heading, justify="right" if heading not in ("", "verdict") else "left")
        for change in changes:
            if change.cutouts == cutouts:
                table.add_row(
                    change.name,
                    f"{change.old:.2f}",
                    f"{change.new:.2f}",
                    f"{percent(change.move):+.1f}",
                    f"{percent(change.allowed):+.1f}" if change.noise < math.log(2) else "> 100",
                    change.verdict,
                )
        yield table


def describe(old: Run, new: Run) -> Iterator[str]:
    """Yield lines on both runs, and on contenders that only one of them has."""
    for label, run in (("old", old), ("new", new)):
        others = run.machine_info.others
        share = "" if others is None else f"; others used {others:.0%} of the processors"
        yield f"{label}: {run}{share}"
    before, after = old.machine_info.fastnorm, new.machine_info.fastnorm
    for name in before:
        if (was := before[name]) != (now := after.get(name)):
            yield f"{name}: {was}, then {now}"
    for run, other, label in ((old, new, "old"), (new, old, "new")):
        for cutouts, found in run.stacks().items():
            for name in found.keys() - other.stacks().get(cutouts, {}).keys():
                yield f"{name}, {cutouts} cutouts: only in the {label} run"


def main(
    old: Annotated[Path | None, typer.Argument(show_default="the last but one")] = None,
    new: Annotated[Path | None, typer.Argument(show_default="the last run")] = None,
    fail_over: Annotated[
        float | None,
        typer.Option(min=0, help="Exit with 1 if a backend is slower by this %, beyond noise."),
    ] = None,
    anyway: Annotated[bool, typer.Option(help="Compare different machines or stacks too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Compare two runs of ``make bench``."""
    if (old is None) != (new is None):
        fail("expected two runs, the old one and the new one, or none; got one.")
    if old is None or new is None:
        found = runs.files()
        if len(found) < 2:
            fail(f"{runs.FOLDER} has {len(found)} runs, but 2 are needed: run `make bench`.")
        old, new = found[-2:]
    with messages(ValueError, OSError):
        before, after = runs.read(old), runs.read(new)
        if not anyway:
            require_alike(before, after)
    changes = list(compare_runs(before, after))
    moved = [change for change in changes if change.verdict]
    worse = [
        change
        for change in moved
        if change.kind == "ours" and fail_over is not None and percent(change.move) > fail_over
    ]
    if as_json:
        rows = [change._asdict() | {"verdict": change.verdict} for change in changes]
        typer.echo(json.dumps({"old": str(old), "new": str(new), "changes": rows}))
    else:
        console = Console(width=100)
        console.print(*describe(before, after), sep="\n", markup=False, highlight=False)
        for table in tables(changes):
            console.print(table)
        for change in moved:
            console.print(
                f"{change.name}, {change.cutouts} cutouts: {change.verdict} by "
                f"{percent(change.move):+.0f} %, {change.old:.2f} to {change.new:.2f} x copy; "
                f"noise {percent(change.allowed):+.0f} %",
                highlight=False,
            )
        if not moved:
            console.print("no change exceeds the noise")
    if worse:
        raise typer.Exit(SOME_REJECTED)


if __name__ == "__main__":
    typer.run(main)
