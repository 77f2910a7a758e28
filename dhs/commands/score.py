"""``dhs score``."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from dhs.commands.options import AsJson
from fastnorm.terminal import check_out, console, counting, finish, messages, printable


def score(
    model: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="As dhs train writes it.")],
    data: Annotated[
        list[Path], typer.Argument(metavar="DATA...", help="A pack, or files and folders.")
    ],
    out: Annotated[Path, typer.Option(help="The table to write, .parquet.")],
    allow_deprecated: Annotated[
        bool, typer.Option("--allow-deprecated", help="Use a checkpoint that is marked.")
    ] = False,
    show: Annotated[int, typer.Option(help="Print so many of the highest scores.", min=0)] = 10,
    as_json: AsJson = False,
) -> None:
    """Score cutouts with a checkpoint, under the checkpoint's own annulus.

    Exit status: 0 all scored; 1 some rejected, the others scored; 2 nothing done.
    """
    started = time.perf_counter()
    check_out(out, ".parquet")
    with messages(TypeError, ValueError, OSError, ImportError):
        from dhs.score import score as run
        from dhs.score import write_scores

        with counting("scoring", "cutouts") as advance:
            made = run(model, data, allow_deprecated=allow_deprecated, progress=advance)
        if made.ids:
            write_scores(out, made)
    best = sorted(range(len(made.ids)), key=lambda k: -made.logits[k])[:show]
    highest = [
        {"id": printable(made.ids[k]), "score": round(float(made.probabilities[k]), 6)}
        for k in best
    ]
    report = {
        "out": str(out) if made.ids else None,
        "written": len(made.ids),
        "checkpoint": str(model),
        "spec": str(made.checkpoint.spec),
        "highest": highest,
    }
    if highest and not as_json:
        _print_best(highest, str(made.checkpoint.spec))
    done = f"{len(made.ids)} cutouts scored, in {out}"
    finish(report, made.rejected, started, done, as_json)


def _print_best(highest: list[dict[str, Any]], spec: str) -> None:
    from rich.table import Table
    from rich.text import Text

    console(sys.stdout).print(f"{len(highest)} highest scores; {spec}", markup=False)
    table = Table()
    table.add_column("id", overflow="fold")
    table.add_column("score", justify="right")
    for item in highest:
        table.add_row(Text(item["id"]), f"{item['score']:.3f}")
    console(sys.stdout).print(table)
