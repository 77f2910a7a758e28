"""``dhs show``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dhs.commands.paths import require_paths
from dhs.config.options import AsJson
from fastnorm.opener import Open, open_written
from fastnorm.pictures import PICTURE_SUFFIXES
from fastnorm.terminal import SILENT_SECONDS, check_out, counting, fail, finish, messages, say
from fastnorm.text import printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from fastnorm.io import Rejected

DEFAULT_COUNT = 50


def show(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="SCORES|PACK",
            help="Read this table of dhs score, a .parquet; or a pack, or a manifest, .parquet or "
            ".csv, which have no scores.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Write the picture to this .png, .pdf or .svg file.")],
    top: Annotated[
        int | None,
        typer.Option(
            help="Draw this many of the highest scores.", min=1, max=500, show_default="50"
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            help="Draw this many rows of a pack or manifest, from the first.",
            min=1,
            max=500,
            show_default="50",
        ),
    ] = None,
    ids: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="Draw the cutout with this id instead; repeatable."),
    ] = None,
    is_opened: Open = False,
    as_json: AsJson = False,
) -> None:
    """Draw the cutouts with the highest scores, with score, label, id and position.

    The cutouts are read again from where they were scored. Masked pixels are purple. Of a pack or
    manifest, the first rows are drawn, or those of --ids.

    Exit status: 0 all drawn; 1 some could not be read, the others drawn; 2 invalid arguments.
    """
    started = time.perf_counter()
    check_out(out, *PICTURE_SUFFIXES)
    for name, count in (("--top", top), ("--limit", limit)):
        if ids and count is not None:
            fail(f"{name} {count} and --ids exclude each other; give one of them.")
    require_paths(data)
    with messages(TypeError, ValueError, OSError, ImportError):
        from dhs.figures import save

        if _has_scores(data):
            if limit is not None:
                fail(f"--limit {limit}: {data} is a table of scores; use --top {limit}.")
            figure, shown, rejected, total = _best(data, top or DEFAULT_COUNT, ids or [])
        else:
            if top is not None:
                said = f"--top {top}: {data} has no scores, as it is no table of dhs score"
                fail(f"{said}; use --limit {top} to draw its first rows.")
            figure, shown, rejected, total = _rows(data, limit or DEFAULT_COUNT, ids or [])
        if figure is not None:
            with counting("drawing", "panels", after=SILENT_SECONDS) as progress:
                save(figure, out, progress)
    report = {"out": str(out) if shown else None, "written": len(shown), "shown": shown}
    if is_opened and shown:
        report["opened"] = open_written(out)
    finish(report, rejected, started, f"{len(shown)} of {total} cutouts drawn, in {out}", as_json)


Drawn = tuple["Figure | None", list[dict[str, Any]], "list[Rejected]", int]


def _has_scores(path: Path) -> bool:
    """Tell a table of scores from a manifest; what is neither is left to the reader of scores."""
    from dhs.manifest.table import column_names
    from dhs.score.input import TABLES
    from dhs.score.table import COLUMNS

    if path.is_dir() or path.suffix not in TABLES:
        return not path.is_dir()
    names = set(column_names(path))
    return names >= set(COLUMNS) or not names & {"cutout_path", "shard"}


def _best(path: Path, top: int, ids: list[str]) -> Drawn:
    from dhs.score.picture import best_figure, read_best
    from dhs.score.table import read_table

    table = read_table(path)
    found = read_best(table, top, ids)
    heading = f"{len(ids)} of {len(table):,} scored cutouts" if ids else ""
    figure = best_figure(table, found.cutouts, heading) if found.cutouts else None
    shown = [
        {"id": printable(str(table.ids[item.row])), "score": float(table.scores[item.row])}
        for item in found.cutouts
    ]
    return figure, shown, found.rejected, len(table)


def _rows(path: Path, limit: int, ids: list[str]) -> Drawn:
    from dhs.score.rows import rows_figure, shown_rows

    found = shown_rows(path, ids, limit)
    for note in found.notes:
        say("note", "yellow", note)
    shown = [
        {
            "id": printable(item.id),
            "row": item.row,
            "label": int(item.label) if item.label == item.label else None,
        }
        for item in found.rows
    ]
    figure = rows_figure(found) if found.rows else None
    return figure, shown, found.rejected, found.total


if __name__ == "__main__":
    raise SystemExit("This module runs as dhs show, or python -m dhs show.")
