"""Time all cases interleaved in one run, and write a table of ratios and a file (``make bench``).

Tables show the median over rounds, so that a hiccup does not count. See `benchmarks.timing` for the
rounds, and `benchmarks.runs` for the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table

import fastnorm
from benchmarks import bounds, runs
from benchmarks.busy import Others
from benchmarks.cases import COPY, Stack, cases, make_stack
from benchmarks.runs import CUTOUT_BYTES
from benchmarks.timing import Case, Timed, ratios, time_in_turns
from fastnorm.terminal import check_out, messages

IN_CACHE = 64
"""Largest number of cutouts that fit into the last-level cache. They are timed with one thread, as
in a data-loader worker: on shared cores, two threads wait for each other longer than a copy."""


class Size(NamedTuple):
    """Size of a run: stacks, rounds, minimum seconds per measurement, maximum seconds per peer."""

    cutouts: tuple[int, ...]
    rounds: int
    least: float
    budget: float


FULL, QUICK = Size((4096, 64), 141, 0.1, 2.0), Size((512, 64), 121, 0.03, 1.0)


def left_out() -> Iterator[str]:
    """Yield every backend and peer that is not available here, with the reason."""
    for backend in fastnorm.backends():
        if backend.device == "cpu" and not backend.available:
            yield f"fastnorm {backend.name}: {backend.reason}"
    some = make_stack(1)
    for case in cases(some, some.copy()):
        if not is_installed(case):
            yield f"{case.name}: {case.needs} is not installed (pip install {case.needs})"


def set_threads(count: int) -> None:
    torch.set_num_threads(count)
    fastnorm.set_num_threads(count)


def chosen(stack: Stack, out: Stack, loop: bool) -> Iterator[Case]:
    """Yield the cases that can be timed here."""
    return filter(is_installed, cases(stack, out, with_loop=loop))


def is_installed(case: Case) -> bool:
    return not case.needs or find_spec(case.needs) is not None


def report(
    contenders: Sequence[Case], results: dict[str, Timed], cutouts: int, threads: int
) -> Table:
    """Return a table with one line per contender: time, spread, and ratios."""
    to_copy = {
        name: float(np.median(ratios(timed, results[COPY]))) for name, timed in results.items()
    }
    ours = min(to_copy[case.name] for case in contenders if case.kind == "ours")
    moved = 2 * cutouts * CUTOUT_BYTES
    table = Table(title=f"{runs.group(cutouts, threads)}; 3 x 101 x 101 float32, medians of rounds")
    for heading in ("", "rounds", "us / cutout", "25-75 %", "x copy", "x fastnorm", "GB/s"):
        table.add_column(heading, justify="left" if not heading else "right")
    for case in contenders:
        seconds = results[case.name].seconds
        low, middle, high = np.percentile(seconds, [25, 50, 75])
        table.add_row(
            case.name,
            str(len(seconds)),
            f"{middle / cutouts * 1e6:.2f}",
            f"{low / cutouts * 1e6:.2f}-{high / cutouts * 1e6:.2f}",
            f"{to_copy[case.name]:.2f}",
            f"{to_copy[case.name] / ours:.2f}",
            f"{moved / middle / 1e9:.2f}",
        )
    return table


def main(
    cutouts: Annotated[
        list[int] | None, typer.Option(min=1, help="Stack sizes.", show_default="4096, 64")
    ] = None,
    rounds: Annotated[
        int | None, typer.Option(min=3, help="Rounds for fast contenders.", show_default="141")
    ] = None,
    threads: Annotated[
        int, typer.Option(min=1, help=f"Threads for stacks of more than {IN_CACHE} cutouts.")
    ] = 2,
    loop: Annotated[bool, typer.Option(help="Time the per-stamp loops too.")] = True,
    quick: Annotated[
        bool, typer.Option(help="512 and 64 cutouts and fewer rounds; saved only with --json.")
    ] = False,
    check: Annotated[bool, typer.Option(help="Exit with 1 if a ratio is out of bounds.")] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="File for the run.", show_default="named by time")
    ] = None,
) -> None:
    """Time every backend and every peer on the same stacks, with the same threads."""
    console = Console(width=100)
    if json_file is not None:
        check_out(json_file, ".json")
    size = QUICK if quick else FULL
    sizes = cutouts or size.cutouts
    used = {count: 1 if count <= IN_CACHE else threads for count in sizes}
    stacks: dict[int, list[Case]] = {}
    for count in sizes:
        stack = make_stack(count)
        out = np.zeros_like(stack)
        for case in chosen(stack[:1], out[:1], loop):
            case.run()  # First calls compile and import.
        stacks[count] = list(chosen(stack, out, loop))
    others = Others()
    timed = time_in_turns(
        stacks,
        rounds or size.rounds,
        console,
        budget=size.budget,
        least=size.least,
        before=lambda count: set_threads(used[count]),
    )
    content = runs.as_json(timed, stacks, used, others.share())
    for count, contenders in stacks.items():
        console.print(report(contenders, timed[count], count, used[count]))
    for reason in left_out():
        console.print(f"Skipped: {reason}", markup=False)
    console.print(
        "Threads are for torch and fastnorm; NumPy, bottleneck and astropy use one.\n"
        "GB/s counts one read and one write of every pixel, as in the copy."
    )
    if json_file is not None or not quick:
        console.print(f"Written: {runs.write(content, json_file)}", soft_wrap=True)
    if check:
        with messages():
            bounds.report(runs.Run.model_validate(content), console)


if __name__ == "__main__":
    typer.run(main)
