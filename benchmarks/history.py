"""Plot all runs of ``make bench``, and print them as tables (``make bench-history``).

Every machine and stack has a panel. It shows the ratios of our backends to the copy, and above them
those of the peer that was fastest in the last run: medians over the rounds, with bars between the
quartiles.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import typer
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from rich.console import Console
from rich.table import Table

from benchmarks import runs
from benchmarks.cases import COPY
from benchmarks.runs import Run
from fastnorm.atomic import atomic_path
from fastnorm.terminal import check_out, fail, messages

LABELS = 6
"""Largest number of labelled runs in a panel."""


class Point(NamedTuple):
    """A contender in a run: quartiles of its ratios to the copy."""

    machine: str
    cutouts: int
    threads: int
    contender: str
    kind: str
    commit: str
    time: str
    low: float
    median: float
    high: float


class Panel(NamedTuple):
    machine: str
    cutouts: int
    threads: int


def points(found: Sequence[Run]) -> Iterator[Point]:
    """Yield a point for every contender of every run, except the copy."""
    for run in found:
        for cutouts, contenders in run.stacks().items():
            for name, ratios in run.ratios(cutouts).items():
                if name == COPY:
                    continue
                low, median, high = map(float, np.percentile(ratios, [25, 50, 75]))
                what = contenders[name].extra_info
                yield Point(
                    machine=str(run.machine_info),
                    cutouts=cutouts,
                    threads=what.threads,
                    contender=name,
                    kind=what.kind,
                    commit=str(run.commit_info),
                    time=run.datetime.isoformat(timespec="seconds"),
                    low=low,
                    median=median,
                    high=high,
                )


def panels(everything: Sequence[Point]) -> dict[Panel, list[Point]]:
    """Select our backends and the fastest peer of the last run, by panel."""
    found: dict[Panel, list[Point]] = {}
    for point in everything:
        panel = Panel(point.machine, point.cutouts, point.threads)
        found.setdefault(panel, []).append(point)
    for panel, of_panel in found.items():
        peers = [p for p in of_panel if p.time == of_panel[-1].time and p.kind != "ours"]
        names = {p.contender for p in of_panel if p.kind == "ours"}
        names |= {min(peers, key=lambda p: p.median).contender} if peers else set()
        found[panel] = [point for point in of_panel if point.contender in names]
    return found


def draw(found: Mapping[Panel, Sequence[Point]]) -> Figure:
    """Draw one column per machine, and one row per stack."""
    machines = list(dict.fromkeys(panel.machine for panel in found))
    stacks = sorted({(panel.cutouts, panel.threads) for panel in found}, reverse=True)
    size = (1 + 6.5 * len(machines), 0.8 + 3.6 * len(stacks))
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.add_gridspec(len(stacks), len(machines))
    for panel, of_panel in found.items():
        row, column = stacks.index(panel[1:]), machines.index(panel.machine)
        parts = grid[row, column].subgridspec(2, 1, height_ratios=(1, 2.5), hspace=0.03)
        _draw_panel(figure.add_subplot(parts[0]), figure.add_subplot(parts[1]), of_panel)
    figure.supylabel("time as a multiple of a copy's", fontsize=10)
    return figure


def _draw_panel(above: Axes, below: Axes, of_panel: Sequence[Point]) -> None:
    """Draw the peer above, and ours and the limit below: one axis would hide a fifth of ours."""
    times = list(dict.fromkeys(point.time for point in of_panel))
    below.axhline(1, color="0.3", lw=1, ls="--")
    _label(below, 1, "copy, the limit", "0.3")
    for k, name in enumerate(dict.fromkeys(point.contender for point in of_panel)):
        line = [point for point in of_panel if point.contender == name]
        axes = below if line[0].kind == "ours" else above
        x = [times.index(point.time) for point in line]
        low, median, high = np.array([(p.low, p.median, p.high) for p in line]).T
        spread = [median - low, high - median]
        axes.errorbar(x, median, spread, fmt="o-", ms=4, lw=1.5, capsize=2, color=f"C{k}")
        _label(axes, median[-1], f"{name}, {median[-1]:.2f}", f"C{k}")
    for axes in (above, below):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.2, 1.5, 2, 3, 4, 5, 7)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.tick_params(labelsize=8)
        axes.grid(axis="y", alpha=0.25)
        axes.set_xlim(-0.5, len(times) - 0.5)
    low, high = below.get_ylim()
    below.set_ylim(min(low, 0.9), max(high, 1.5))
    commits = {point.time: point.commit.replace(" ", "\n", 1) for point in of_panel}
    step = -(-len(times) // LABELS)
    ticks = range((len(times) - 1) % step, len(times), step)
    names = [f"{times[k][:10]}\n{times[k][11:16]}\n{commits[times[k]]}" for k in ticks]
    above.set_xticks([])
    below.set_xticks(list(ticks), names, fontsize=8)
    first = of_panel[0]
    above.set_title(f"{runs.group(first.cutouts, first.threads)}, {first.machine}", fontsize=10)


def _label(axes: Axes, y: float, text: str, color: str) -> None:
    axes.annotate(
        text, (1, y), (4, 0), axes.get_yaxis_transform(), "offset points",
        color=color, va="center", fontsize=9, annotation_clip=False,
    )  # fmt: skip


def table(panel: Sequence[Point], title: str) -> Table:
    """Return a table with one line per run, with the plotted values."""
    names = list(dict.fromkeys(point.contender for point in panel))
    found = Table("time", "commit", title=title)
    for name in names:
        found.add_column(name, justify="right")
    for time in dict.fromkeys(point.time for point in panel):
        of_run = {point.contender: point for point in panel if point.time == time}
        commit = next(iter(of_run.values())).commit
        cells = [
            f"{p.median:.2f} ({p.low:.2f}-{p.high:.2f})" if (p := of_run.get(name)) else ""
            for name in names
        ]
        found.add_row(time[:16].replace("T", " "), commit, *cells)
    return found


def main(
    folder: Annotated[Path, typer.Argument(help="Folder of runs.")] = runs.FOLDER,
    out: Annotated[
        Path | None, typer.Option(help="Figure to draw.", show_default="history.png in the folder")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Plot the history of all runs."""
    found = runs.files(folder)
    if not found:
        fail(f"{folder} has no runs: run `make bench`.")
    out = out or folder / "history.png"
    check_out(out, ".png")
    with messages(ValueError, OSError):
        everything = list(points(sorted(map(runs.read, found), key=lambda run: run.datetime)))
    drawn = panels(everything)
    with atomic_path(out) as temporary:
        draw(drawn).savefig(temporary, format="png", dpi=150)
    if as_json:
        typer.echo(json.dumps({"out": str(out), "points": [p._asdict() for p in everything]}))
        return
    console = Console(width=120)
    for panel, of_panel in drawn.items():
        stack = runs.group(panel.cutouts, panel.threads)
        console.print(table(of_panel, f"{stack}, {panel.machine}: x copy"))
    console.print(f"Written: {out}", soft_wrap=True)


if __name__ == "__main__":
    typer.run(main)
