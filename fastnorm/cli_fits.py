"""``fastnorm normalize-fits``: one normalised FITS file for each one given."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from fastnorm.terminal import counting, fail, finish, messages

PUBLISHED_CLIP = 10.0


def normalize_fits(
    paths: Annotated[
        list[str], typer.Argument(metavar="PATH...", help="FITS files, folders, or patterns.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the files; made if need be.")],
    annulus: Annotated[
        tuple[float, float] | None,
        typer.Option(
            metavar="R_IN R_OUT",
            help="Radii of the annulus in pixels.",
            show_default="65 and 90 % of the half-width",
        ),
    ] = None,
    clip: Annotated[
        float | None,
        typer.Option(
            help="Limit to plus or minus so many MAD.", show_default=f"{PUBLISHED_CLIP:g}"
        ),
    ] = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="Only normalise: keep NaN, and do not clip.")
    ] = False,
    mask_bits: Annotated[
        str,
        typer.Option(
            metavar="RELEASE:NAME,...",
            help="Bits of MASKBITS that make a pixel bad, by name.",
            show_default="dr10, with those of stars, clusters, and pixels without a good value",
        ),
    ] = "dr10",
    backend: Annotated[
        str | None,
        typer.Option(help="A name that `fastnorm backends` lists.", show_default="the fastest"),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object instead of text.")
    ] = False,
) -> None:
    """Normalise FITS cutouts, file by file; header, WCS and all other units are kept.

    Pixels that INVVAR or MASKBITS say are bad leave the statistics.

    Exit status: 0 all written; 1 some paths rejected, the others written; 2 nothing done.
    """
    started = time.perf_counter()
    if raw and clip is not None:
        fail(f"--clip {clip:g} and --raw exclude each other: --raw does not clip. Leave one out.")
    with messages(TypeError, ValueError, OSError, ImportError):
        from fastnorm import dispatch
        from fastnorm.annulus import Annulus
        from fastnorm.fits_output import normalize_file
        from fastnorm.io import CutoutError, Rejected, find_cutouts
        from fastnorm.maskbits import MaskBits

        bits = MaskBits.parse(mask_bits)
        given = None if annulus is None else Annulus(*annulus)
        if backend is not None:
            dispatch.choose(backend)
        limit = None if raw or clip == math.inf else PUBLISHED_CLIP if clip is None else clip
        rejected: list[Rejected] = []
        files = find_cutouts(paths, rejected)
        targets = {path: out / f"{_stem(path)}.fits" for path in files}
        _refuse_clashes(targets)
        out.mkdir(parents=True, exist_ok=True)
        if not os.access(out, os.W_OK | os.X_OK):
            fail(f"--out {out}: the folder is not writable; choose another.")
        written = 0
        with counting("normalising", "files") as show:
            for number, (path, target) in enumerate(targets.items()):
                show(number, len(targets))
                try:
                    normalize_file(
                        path,
                        target,
                        given,
                        clip=limit,
                        nan_to_zero=not raw,
                        mask_bits=bits,
                        backend=backend,
                    )
                except CutoutError as error:
                    rejected.append(Rejected(error.path, error.reason))
                else:
                    written += 1
    report: dict[str, Any] = {"out": str(out), "mask_bits": str(bits), "written": written}
    finish(report, rejected, started, f"{written} files in {out}", as_json)


def _stem(path: Path) -> str:
    return path.name.partition(".fit")[0] if ".fit" in path.name else path.stem


def _refuse_clashes(targets: dict[Path, Path]) -> None:
    owners: dict[Path, Path] = {}
    for path, target in targets.items():
        other = owners.setdefault(target, path)
        if other != path:
            fail(f"{other} and {path} would both be written to {target}; give them one at a time.")
