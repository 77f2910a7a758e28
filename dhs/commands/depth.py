"""``dhs depth``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from dhs.commands.paths import require_paths
from dhs.commands.words import in_options
from dhs.config.options import AsJson, IdCol, LabelCol, PathPattern
from fastnorm.terminal import check_out, counting, fail, finish, messages, notices, say
from fastnorm.text import printable

TYPICAL = "give --psf-fwhm 1.3 (typical of DR10 in r), or the seeing of your images"


def depth(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="TABLE",
            help="Read cutout_path from this .parquet or .csv, or list the files of this folder.",
        ),
    ],
    out: Annotated[
        Path, typer.Option(help="Write the table to this .parquet; or .csv, if TABLE is one.")
    ],
    psf_fwhm: Annotated[
        float | None,
        typer.Option(
            help="Use this FWHM in arcsec for the depth where the seeing is unknown; the seeing "
            "stays empty."
        ),
    ] = None,
    seeing_card: Annotated[
        str | None,
        typer.Option(
            metavar="NAME=UNIT",
            help="Read the seeing from this FITS card; UNIT is arcsec or pixel.",
            show_default="SEEING, FWHM and others with their unit in brackets",
        ),
    ] = None,
    psfdepth_unit: Annotated[
        str,
        typer.Option(
            help="State the unit of depths in the table, nanomaggy^-2 or mag.",
            show_default="the unit that the column declares",
        ),
    ] = "",
    mask_bits: Annotated[
        str,
        typer.Option(
            metavar="RELEASE:NAME,...",
            help="Name the MASKBITS bits that make a pixel of a FITS file bad.",
            show_default="dr10, with the bits of stars, clusters, and pixels without a good value",
        ),
    ] = "dr10",
    label_col: LabelCol = None,
    id_col: IdCol = None,
    path_pattern: PathPattern = None,
    as_json: AsJson = False,
) -> None:
    """Measure seeing and depth of cutouts where a table lacks them, and write a new table.

    The seeing is read from FITS headers. The depth follows from INVVAR, or roughly from the noise
    of the sky. The columns psfsize_r_from and psfdepth_r_from state the origin of every value, or
    why it is missing. Measure before dhs pack, which keeps the columns.

    Exit status: 0 every row has a depth; 1 some rows have none; 2 nothing done.
    """
    started = time.perf_counter()
    check_out(out, ".parquet", ".csv")
    require_paths(source)
    with messages(TypeError, ValueError, OSError, ImportError), notices(), in_options():
        from dhs.selection.depth import SeeingCard
        from dhs.selection.depth_table import MISSING, NO_SEEING, SKY, write_depths
        from fastnorm.io.maskbits import MaskBits

        if out.exists() and source.is_file() and out.samefile(source):
            fail(f"--out {out} is the table itself; name another file.")
        with counting("measuring", "cutouts") as show:
            result = write_depths(
                source,
                out,
                psf_fwhm=psf_fwhm,
                seeing_card=None if seeing_card is None else SeeingCard.parse(seeing_card),
                psfdepth_unit=psfdepth_unit,
                mask_bits=MaskBits.parse(mask_bits),
                label_col=label_col,
                id_col=id_col,
                path_pattern=path_pattern,
                progress=show,
            )
    known = result.rows - len(result.rejected)
    report = {
        "out": str(out) if result.written else None,
        "written": result.rows * result.written,
        "rows": result.rows,
        "seeing": result.seeing,
        "depth": result.depth,
        "median_depth_mag": result.magnitudes,
        "psfdepth_unit": result.unit,
    }
    if not as_json and result.written:
        typer.echo(printable(f"seeing: {_listed(result.seeing)}"))
        typer.echo(printable(f"depth: {_listed(result.depth, result.magnitudes)}"))
    if any(kind.startswith(SKY) for kind in result.depth):
        say(
            "note",
            "yellow",
            "depths from the noise of the sky are rough: objects make them a few hundredths of a "
            "magnitude too shallow, noise that is correlated between pixels makes them too deep.",
        )
    without = result.seeing.get(MISSING, 0)
    if result.written and without == result.rows:
        text = "no row has a seeing; give the grid one for all hosts with hosts.psf_fwhm."
        say("note", "yellow", text)
    elif result.written and without:
        say("note", "yellow", f"dhs grid leaves out the {without:,} rows without a seeing.")
    unseen = sum(item.reason.startswith(NO_SEEING) for item in result.rejected)
    if not result.written:
        say("error", "red", f"{out} was not written, because no row has a depth.")
    if unseen:
        rows = "1 row" if unseen == 1 else f"{unseen:,} rows"
        text = f"{TYPICAL}, for the depths of the {rows} without a seeing."
        say("note", "yellow", text)
    if result.written and out.suffix == ".csv" and result.unit:
        text = (
            f"a .csv does not state the unit of psfdepth_r; give the grid "
            f"hosts.psfdepth_unit: {result.unit}."
        )
        say("note", "yellow", text)
    if result.written and not result.has_labels:
        say("note", "yellow", "dhs pack and dhs grid also need a column label; 0 is a non-lens.")
    done = f"{known:,} of {result.rows:,} rows have a depth: {out}"
    finish(report, result.rejected, started, done, as_json)


def _listed(counts: dict[str, int], magnitudes: dict[str, float] | None = None) -> str:
    parts = []
    for kind, count in counts.items():
        median = (magnitudes or {}).get(kind)
        parts.append(
            f"{count:,} {kind}" + ("" if median is None else f" (median {median:.2f} mag)")
        )
    return ", ".join(parts)


if __name__ == "__main__":
    raise SystemExit("This module runs as dhs depth, or python -m dhs depth.")
