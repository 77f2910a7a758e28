"""``make bench``: all cases interleaved in one run, as one table of ratios.

Every round times all contenders in a new order, so that neither what else the
machine does nor what the one before left in the cache favours any; the median
over rounds, so that a hiccup does not count.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

import fastnorm
from benchmarks.cases import Case, cases, make_stack


def time_interleaved(
    contenders: list[Case], rounds: int, console: Console
) -> dict[str, list[float]]:
    """Seconds of every round of every contender, after one round that is not counted."""
    seconds: dict[str, list[float]] = {case.name: [] for case in contenders}
    rng = np.random.default_rng(0)
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("timing", total=(rounds + 1) * len(contenders))
        for number in range(rounds + 1):
            for i in rng.permutation(len(contenders)):
                case = contenders[i]
                start = time.perf_counter()
                case.run()
                if number:
                    seconds[case.name].append(time.perf_counter() - start)
                progress.advance(task)
    return seconds


def report(contenders: list[Case], seconds: dict[str, list[float]], cutouts: int) -> Table:
    """One line per contender: time, spread, and the ratios that matter."""
    median = {name: float(np.median(times)) for name, times in seconds.items()}
    ours = min(median[case.name] for case in contenders if case.kind == "ours")
    copy = median["torch copy_"]
    moved = 2 * cutouts * 3 * 101 * 101 * 4
    rounds = len(seconds["torch copy_"])
    table = Table(title=f"{cutouts} cutouts of 3 x 101 x 101 float32, median of {rounds} rounds")
    for heading in ("", "us / cutout", "25-75 %", "x copy", "x fastnorm", "GB/s"):
        table.add_column(heading, justify="left" if not heading else "right")
    for case in contenders:
        low, high = np.percentile(seconds[case.name], [25, 75]) / cutouts * 1e6
        value = median[case.name]
        table.add_row(
            case.name,
            f"{value / cutouts * 1e6:.2f}",
            f"{low:.2f}-{high:.2f}",
            f"{value / copy:.2f}",
            f"{value / ours:.2f}",
            f"{moved / value / 1e9:.2f}",
        )
    return table


def main(
    cutouts: Annotated[list[int] | None, typer.Option(help="Stack sizes.")] = None,
    rounds: Annotated[int, typer.Option(min=3)] = 21,
    threads: Annotated[int, typer.Option(min=1)] = 2,
    loop: Annotated[bool, typer.Option(help="Time the per-stamp loop too.")] = True,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all timings.")] = None,
) -> None:
    """Time every backend and every peer on the same stack, with the same threads."""
    console = Console(width=100)
    torch.set_num_threads(threads)
    fastnorm.set_num_threads(threads)
    results = {}
    for size in cutouts or [4096, 64]:
        stack = make_stack(size)
        out = np.zeros_like(stack)
        contenders = list(cases(stack, out, with_loop=loop))
        seconds = time_interleaved(contenders, rounds, console)
        results[size] = seconds
        console.print(report(contenders, seconds, size))
    console.print(
        f"{threads} threads for torch and fastnorm; NumPy, bottleneck and astropy use one.\n"
        "GB/s counts one read and one write of every pixel, which the copy does and no more."
    )
    if json_file is not None:
        json_file.write_text(json.dumps({"threads": threads, "seconds": results}, indent=1))


if __name__ == "__main__":
    typer.run(main)
