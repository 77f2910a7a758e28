"""``fastnorm show``: draw cutouts under two annuli."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastnorm.cli.cutouts import find_files, read_files
from fastnorm.cli.options import AsJson, MaskBitNames
from fastnorm.opener import Open, open_written
from fastnorm.pictures import PICTURE_SUFFIXES
from fastnorm.terminal import (
    SILENT_SECONDS,
    check_out,
    counting,
    fail,
    finish,
    messages,
    notices,
    say,
    say_not_drawn,
)
from fastnorm.text import printable

if TYPE_CHECKING:
    from fastnorm.io import Cutout, Rejected
    from fastnorm.io.stack_table import StackTable

SCORES = {"galaxy_id", "logit", "score"}
MANIFEST_FILE, MANIFEST_COLUMNS = "manifest.parquet", ({"cutout_path"}, {"shard", "row"})


def show(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH...",
            help="Read these files (.npz, .npy, FITS, the table of a stack), folders, or patterns.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Write the figure to this .png, .pdf or .svg file.")],
    limit: Annotated[int, typer.Option(help="Draw at most this many cutouts.", min=1)] = 12,
    annulus: Annotated[
        tuple[float, float] | None,
        typer.Option(
            metavar="R_IN R_OUT",
            help="Draw the annulus of these radii in pixels beside the corrected one, in place of "
            "the legacy one.",
            show_default="20 32, the legacy annulus",
        ),
    ] = None,
    mask_bits: MaskBitNames = "dr10",
    is_opened: Open = False,
    as_json: AsJson = False,
) -> None:
    """Draw cutouts with the legacy, or your own, and the corrected annulus side by side.

    Pixels that INVVAR or MASKBITS of a FITS file, or the array mask of an .npz file, mark as bad
    are purple, and excluded from the statistics. The rows of a stack that fastnorm normalize wrote
    have the ids and positions of its table.

    Exit status: 0 all cutouts drawn; 1 some paths rejected, the others drawn; 2 wrong arguments.
    """
    from fastnorm.annulus import LEGACY_ANNULUS, Annulus
    from fastnorm.io import Rejected, count_cutouts
    from fastnorm.io.maskbits import MaskBits

    started = time.perf_counter()
    check_out(out, *PICTURE_SUFFIXES)
    rejected: list[Rejected] = []
    drawn: list[Cutout] = []
    left = 0
    tables: dict[Path, StackTable | None] = {}
    fault = ""
    with notices(), messages(TypeError, ValueError, OSError, ImportError):
        given = None if annulus is None else Annulus(*annulus)
        bits = MaskBits.parse(mask_bits)
        from fastnorm.figure import annuli_of, draw_comparison

        files = _without_tables(find_files(paths, out, rejected), rejected)
        counts = [count_cutouts(path) for path in files]
        done = [1]  # the last cutout is advanced when the next is asked for
        for cutout in read_files(files, rejected, done.append, bits):
            plane = cutout.pixels.shape[1:]
            try:
                for ring in (given or LEGACY_ANNULUS, Annulus.default(*plane)):
                    ring.pixels(*plane)
            except ValueError as error:
                fault = str(error)
                rejected.append(Rejected(cutout.path, fault))
                continue
            table = _table_of(cutout.path, tables)
            drawn.append(cutout if table is None else table.named(cutout))
            if len(drawn) == limit:
                left = sum(counts) - sum(done)
                break
        if given is not None and fault and not drawn:
            fail(fault)
        units = {path: f"MAD of {_pair(table)}" for path, table in tables.items() if table}
        if drawn:
            with counting("drawing", "cutouts", after=SILENT_SECONDS) as progress:
                draw_comparison(drawn, out, annulus=given, units=units, progress=progress)
    report: dict[str, Any] = {
        "out": str(out) if drawn else None,
        "drawn": [printable(cutout.id) for cutout in drawn],
        "annuli": [list(radii) for radii in annuli_of(drawn, given)] if drawn else None,
        "mask_bits": str(bits),
        "written": len(drawn),
        "not_drawn": left,
    }
    if is_opened and drawn:
        report["opened"] = open_written(out)
    if not as_json:
        say_not_drawn(left, len(drawn))
    finish(report, rejected, started, f"{len(drawn)} cutouts drawn in {out}", as_json)


def _without_tables(files: Sequence[Path], rejected: list[Rejected]) -> list[Path]:
    """Replace tables of stacks by their stacks; reject tables that dhs draws, with the command."""
    from fastnorm.io import Rejected

    kept: dict[Path, None] = {}
    packs: dict[Path, None] = {}
    for path in files:
        columns, is_stack = _columns(path)
        if is_stack:
            kept[path.with_suffix(".npy")] = None
        elif columns >= SCORES:
            reason = f"is a table of scores; use dhs show {path} to draw the highest."
            rejected.append(Rejected(path, reason))
        elif any(columns >= needed for needed in MANIFEST_COLUMNS):
            reason = f"is a manifest; use dhs show {path} to draw its cutouts with id and position."
            rejected.append(Rejected(path, reason))
        else:
            kept[path] = None
            if path.name.startswith("shard-") and (path.parent / MANIFEST_FILE).is_file():
                packs[path.parent] = None
    for pack in packs:
        said = f"{pack} is a pack, whose rows have no name here; dhs show {pack} draws them with "
        say("note", "yellow", f"{said}id, position and label.")
    return list(kept)


def _columns(path: Path) -> tuple[set[str], bool]:
    """Return the columns of a table, and whether it is of a stack; nothing for other files."""
    if path.suffix == ".csv" and path.is_file():
        with path.open(encoding="utf-8-sig", errors="replace") as stream:
            header = stream.readline(4096).replace(";", ",")
        return {name.strip().strip('"') for name in header.split(",")}, False
    if path.suffix != ".parquet" or not path.is_file():
        return set(), False
    from pyarrow import ArrowException, parquet

    from fastnorm.io.stack_table import METADATA_KEY

    try:
        schema = parquet.read_schema(path)
    except (ArrowException, OSError):
        return set(), False
    return set(schema.names), METADATA_KEY in (schema.metadata or {})


def _table_of(path: Path, known: dict[Path, StackTable | None]) -> StackTable | None:
    """Return the table of a stack, and say that its pixels are normalised, or why it is not."""
    from fastnorm.io import CutoutError
    from fastnorm.io.stack_table import read_stack_table

    if path in known or path.suffix.lower() != ".npy":
        return known.get(path)
    try:
        known[path] = table = read_stack_table(path)
    except CutoutError as error:
        known[path] = None
        say("note", "yellow", f"{error}; its rows are named by their number.")
        return None
    if table is not None:
        said = (
            f"{path}: is normalised with the annulus {_pair(table)}, so that the picture "
            "normalises it again. To compare annuli, give the files that it was made from."
        )
        say("note", "yellow", said)
    return table


def _pair(table: StackTable) -> str:
    return "({:g}, {:g})".format(*table.annulus)
