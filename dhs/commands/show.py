"""``dhs show``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from dhs.config.options import AsJson
from fastnorm.terminal import check_out, finish, messages
from fastnorm.text import printable


def show(
    scores: Annotated[
        Path, typer.Argument(metavar="SCORES", help="Read this table of dhs score, a .parquet.")
    ],
    out: Annotated[Path, typer.Option(help="Write the picture to this .png file.")],
    top: Annotated[
        int, typer.Option(help="Draw this many of the highest scores.", min=1, max=500)
    ] = 50,
    as_json: AsJson = False,
) -> None:
    """Draw the cutouts with the highest scores, with score, id and position.

    The cutouts are read again from where they were scored. Masked pixels are purple.

    Exit status: 0 all drawn; 1 some could not be read, the others drawn; 2 invalid arguments.
    """
    started = time.perf_counter()
    check_out(out, ".png")
    with messages(TypeError, ValueError, OSError, ImportError):
        from dhs.figures import save
        from dhs.score.picture import best_figure, read_best
        from dhs.score.table import read_table

        table = read_table(scores)
        found = read_best(table, top)
        if found.cutouts:
            save(best_figure(table, found.cutouts), out)
    report = {
        "out": str(out) if found.cutouts else None,
        "written": len(found.cutouts),
        "shown": [
            {"id": printable(str(table.ids[item.row])), "score": float(table.scores[item.row])}
            for item in found.cutouts
        ],
    }
    done = f"{len(found.cutouts)} of {len(table)} cutouts drawn, in {out}"
    finish(report, found.rejected, started, done, as_json)


if __name__ == "__main__":
    raise SystemExit("This module runs as dhs show, or python -m dhs show.")
