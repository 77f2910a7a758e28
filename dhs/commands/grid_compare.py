"""``dhs grid compare``."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dhs.commands.paths import require_paths
from dhs.config.options import AsJson, PictureFormat, Seed
from fastnorm.terminal import check_folder, console, counting, messages
from fastnorm.text import printable

if TYPE_CHECKING:
    from dhs.selection.comparison import Comparison


def compare(
    first: Annotated[
        Path, typer.Argument(metavar="A", help="Read a finished grid from this folder.")
    ],
    second: Annotated[
        Path,
        typer.Argument(
            metavar="B", help="Read a second grid with the same injections from this folder."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Write the tables and the plot to this folder.")],
    resamples: Annotated[int, typer.Option(help="Draw this many resamples.")] = 1000,
    seed: Seed = 1,
    picture_format: PictureFormat = "png",
    as_json: AsJson = False,
) -> None:
    """Compare the completeness of two models on the same injections.

    Write comparison.parquet, .csv, .json and a picture: the completeness of both models, and the
    difference with its interval and p-value, by cell and over all cells.

    Exit status: 0 compared; 2 nothing done.
    """
    started = time.perf_counter()
    check_folder(out)
    require_paths(first, second)
    with messages(TypeError, ValueError, OSError, ImportError):
        from dhs.selection.compare import compare_grids, write_comparison

        with counting("comparing", "injections") as show:
            comparison = compare_grids(first, second, show, resamples=resamples, seed=seed)
        files = write_comparison(comparison, out, picture_format)
    if as_json:
        written = {"files": [str(path) for path in files]}
        seconds = {"seconds": round(time.perf_counter() - started, 3)}
        typer.echo(json.dumps(comparison.metadata() | written | seconds))
        return
    _print(comparison)
    typer.echo(printable(f"in {out}: {', '.join(path.name for path in files)}"))


def _print(comparison: Comparison) -> None:
    from rich.table import Table

    from dhs.selection.paired import METHODS, difference_text, p_text

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
    # These fit a terminal of 80 characters; comparison.csv has the rest.
    table.add_column("threshold", no_wrap=True)
    for name in ("A", "B", "B - A (95 %)", "p", "differ"):
        table.add_column(name, justify="right", no_wrap=True)
    for threshold in comparison.thresholds:
        found = comparison.overall(threshold)
        table.add_row(
            str(threshold),
            f"{found['completeness_first']:.3f}",
            f"{found['completeness_second']:.3f}",
            difference_text(found),
            p_text(found["p_value"]).removeprefix("= "),
            f"{found['significant_cells']} of {found['cells']}",
        )
    screen.print(table)
    differ = "differ: number of cells with a simultaneous p below 0.05"
    for line in (*comparison.warnings(), differ, METHODS["interval"]):
        screen.print(printable(line), markup=False, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    raise SystemExit("This module runs as dhs grid compare, or python -m dhs grid compare.")
