"""``dhs grid compare``."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dhs.config.options import AsJson
from fastnorm.terminal import check_folder, console, counting, messages
from fastnorm.text import printable

if TYPE_CHECKING:
    from dhs.selection.comparison import Comparison


def compare(
    first: Annotated[Path, typer.Argument(metavar="A", help="Folder of a finished grid.")],
    second: Annotated[
        Path, typer.Argument(metavar="B", help="Folder of a second grid with the same injections.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the tables and the plot.")],
    as_json: AsJson = False,
) -> None:
    """Compare the completeness of two models on the same injections.

    Write comparison.parquet, .csv, .json and .png: the completeness of both models, the
    difference with its interval, and McNemar's exact test, by cell and over all cells.

    Exit status: 0 compared; 2 nothing done.
    """
    started = time.perf_counter()
    check_folder(out)
    with messages(TypeError, ValueError, OSError, ImportError):
        from dhs.selection.compare import compare_grids, write_comparison

        with counting("comparing", "injections") as show:
            comparison = compare_grids(first, second, show)
        files = write_comparison(comparison, out)
    if as_json:
        written = {"files": [str(path) for path in files]}
        seconds = {"seconds": round(time.perf_counter() - started, 3)}
        typer.echo(json.dumps(comparison.metadata() | written | seconds))
        return
    _print(comparison)
    typer.echo(printable(f"in {out}: {', '.join(path.name for path in files)}"))


def _print(comparison: Comparison) -> None:
    from rich.table import Table

    from dhs.selection.paired import p_text, signed

    screen = console(sys.stdout)
    for name, grid in (("A", comparison.first), ("B", comparison.second)):
        line = printable(f"{name}: {grid.model}; {grid.annulus}")
        screen.print(line, markup=False, highlight=False, soft_wrap=True)
    pairs = comparison.injections - comparison.left_out
    table = Table(
        title=f"completeness of the same {pairs} injections; {comparison.left_out} failed and are "
        "excluded",
        title_justify="left",
    )
    table.add_column("threshold")
    for name in ("A", "B", "B - A (95 %)", "only A", "only B", "p", "cells that differ"):
        table.add_column(name, justify="right")
    for threshold in comparison.thresholds:
        found = comparison.overall(threshold)
        low, high = (signed(found[f"difference_ci95_{end}"]) for end in ("lo", "hi"))
        table.add_row(
            str(threshold),
            f"{found['completeness_first']:.3f}",
            f"{found['completeness_second']:.3f}",
            f"{signed(found['difference'])} ({low} to {high})",
            str(found["n_only_first"]),
            str(found["n_only_second"]),
            p_text(found["p_mcnemar"]).removeprefix("= "),
            f"{found['significant_cells']} of {found['cells']}",
        )
    screen.print(table)
    screen.print("Intervals and p-values do not include the uncertainty of the thresholds.")
