"""``fastnorm normalize-fits``: write one normalised FITS file per input file."""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastnorm.cli.options import AsJson, BackendName, MaskBitNames, Radii, say_flat
from fastnorm.terminal import (
    annulus_warnings,
    check_folder,
    counting,
    fail,
    finish,
    messages,
    notices,
    say,
)
from fastnorm.text import one_line

if TYPE_CHECKING:
    from fastnorm.io import Rejected


def normalize_fits(
    paths: Annotated[
        list[str],
        typer.Argument(metavar="PATH...", help="Read these FITS files, folders, or patterns."),
    ],
    out: Annotated[Path, typer.Option(help="Write to this folder; it is created if needed.")],
    annulus: Radii = None,
    clip: Annotated[
        float | None,
        typer.Option(
            help="Clip the result to this many MAD either side of 0.", show_default="no limit"
        ),
    ] = None,
    nan_to_zero: Annotated[
        bool,
        typer.Option(
            "--nan-to-zero",
            help="Treat NaN as 0, as the published models do; otherwise NaN pixels are bad.",
        ),
    ] = False,
    mask_bits: MaskBitNames = "dr10",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")] = False,
    backend: BackendName = None,
    as_json: AsJson = False,
) -> None:
    """Normalise FITS cutouts file by file, and keep the header, WCS and all other HDUs.

    Pixels that INVVAR or MASKBITS mark as bad are excluded from the statistics. Use --clip 10
    --nan-to-zero for the input of the published models.

    Exit status: 0 all files written; 1 some paths rejected, the others written; 2 wrong arguments.
    """
    started = time.perf_counter()
    check_folder(out)
    with messages(TypeError, ValueError, OSError, ImportError):
        import numpy as np

        from fastnorm import dispatch
        from fastnorm.annulus import Annulus
        from fastnorm.io import CutoutError, Rejected
        from fastnorm.io.maskbits import MaskBits
        from fastnorm.nddata.fits_output import normalize_file
        from fastnorm.normalize.eps_clip import check_eps_and_clip

        options: dict[str, Any] = {
            "annulus": None if annulus is None else Annulus(*annulus),
            "clip": check_eps_and_clip(1.0, clip, np.finfo(np.float32))[1],
            "nan_to_zero": nan_to_zero,
            "mask_bits": MaskBits.parse(mask_bits),
            "backend": backend,
        }
        if backend is not None:
            dispatch.choose(backend)
        rejected: list[Rejected] = []
        targets = _targets(paths, out, rejected, overwrite)
        out.mkdir(parents=True, exist_ok=True)
        written = 0
        flat: list[tuple[str, str]] = []
        annuli: Counter[tuple[tuple[int, int], tuple[float, float]]] = Counter()
        with notices(), counting("normalising", "files") as show, annulus_warnings():
            for number, (path, target) in enumerate(targets.items()):
                show(number, len(targets))
                try:
                    done = normalize_file(path, target, **options)
                except CutoutError as error:
                    rejected.append(Rejected(error.path, error.reason))
                # Whatever goes wrong with a file, the others are written.
                except Exception as error:
                    rejected.append(Rejected(path, _said(error)))
                else:
                    written += 1
                    annuli[done.size, (done.annulus.r_in, done.annulus.r_out)] += 1
                    if done.flat_bands:
                        flat.append((path.name, done.flat_bands))
            show(len(targets), len(targets))
    if len({radii for _, radii in annuli}) > 1:
        sizes = len({size for size, _ in annuli})
        said = f"the files have {sizes} sizes, and each size another annulus; --annulus sets one."
        say("warning", "yellow", said)
    report = {
        "out": str(out),
        "mask_bits": str(options["mask_bits"]),
        "written": written,
        "flat_bands": say_flat(flat),
        "annuli": [
            {"size": list(size), "annulus": list(radii), "files": count}
            for (size, radii), count in sorted(annuli.items())
        ],
    }
    used = "; ".join(
        f"{count} of {height} x {width} pixels with the annulus {radii}"
        for ((height, width), radii), count in sorted(annuli.items())
    )
    finish(report, rejected, started, f"{written} files in {out}: {used}", as_json)


def _said(error: Exception) -> str:
    """Describe an error that is not one of reading, which may come from a library."""
    named = isinstance(error, (ValueError, OSError))
    return one_line(str(error) if named else f"{type(error).__name__}: {error}")


def _targets(
    paths: list[str], out: Path, rejected: list[Rejected], overwrite: bool
) -> dict[Path, Path]:
    """Map each input file to its output file, after checking all of them."""
    from fastnorm.io import Rejected, find_cutouts
    from fastnorm.io.read import FITS_SUFFIXES, stem_of

    files = find_cutouts(paths, rejected)
    given = {Path(path) for path in paths}
    # In a folder, skip other files and earlier results; a file that is named is never skipped.
    fits = [
        path
        for path in files
        if path in given or (path.name.lower().endswith(FITS_SUFFIXES) and not _is_in(path, out))
    ]
    targets: dict[Path, Path] = {}
    owners: dict[Path, Path] = {}
    sources = {os.path.realpath(path) for path in fits}
    for path in fits:
        target = out / f"{stem_of(path)}.fits"
        other = owners.setdefault(target, path)
        if other != path:
            fail(f"{other} and {path} would both be written to {target}; run them separately.")
        if os.path.realpath(target) in sources:
            fail(f"--out {out}: {target} is an input and would be replaced; name another folder.")
        if target.is_symlink():
            reason = f"{target} is a link, which may lead anywhere; delete it."
            rejected.append(Rejected(path, reason))
        elif target.exists() and not overwrite:
            reason = f"{target} already exists; use --overwrite to replace it."
            rejected.append(Rejected(path, reason))
        else:
            targets[path] = target
    return targets


def _is_in(path: Path, folder: Path) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))
