"""The command ``fastnorm``: normalise cutouts, draw them, list and check the backends.

Each command imports the slow modules that it needs.
"""

from __future__ import annotations

import json
import math
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import asdict
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import typer

import fastnorm
from fastnorm.checksums import DEFINITION_VERSION
from fastnorm.cli.cutouts import find_files, of_one_shape, read_files, with_annulus
from fastnorm.cli.fits import normalize_fits
from fastnorm.cli.options import AsJson, BackendName, MaskBitNames, Radii, say_flat
from fastnorm.cli.show import show
from fastnorm.terminal import (
    HELP_SETTINGS,
    Commands,
    annulus_warnings,
    check_out,
    fail,
    finish,
    messages,
    notices,
    progress,
    wide_console,
)
from fastnorm.text import printable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fastnorm.annulus import Annulus
    from fastnorm.io import Cutout, Rejected

BATCH = 256
BATCH_BYTES = 64 * 2**20
EPS = 1e-8
PUBLISHED_CLIP = 10.0

app = typer.Typer(
    help="Normalise image cutouts by their outer annulus, exactly and fast.",
    cls=Commands,
    no_args_is_help=True,
    context_settings=HELP_SETTINGS,
)

Paths = Annotated[
    list[str],
    typer.Argument(
        metavar="PATH...", help="Read these files (.npz, .npy, FITS), folders, or patterns."
    ),
]


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fastnorm {fastnorm.__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Define the options that come before the name of the command."""


@app.command()
def normalize(
    paths: Paths,
    out: Annotated[
        Path, typer.Option(help="Write the stack to this .npy file, and its table next to it.")
    ],
    annulus: Radii = None,
    clip: Annotated[
        float | None,
        typer.Option(
            help="Clip the result to this many MAD either side of 0.",
            show_default=f"{PUBLISHED_CLIP:g}",
        ),
    ] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Keep NaN, and do not clip.")] = False,
    mask_bits: MaskBitNames = "dr10",
    backend: BackendName = None,
    threads: Annotated[
        int | None,
        typer.Option(help="Use this many CPU threads.", show_default="all available cores"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Normalise cutouts into one float32 stack (N, 3, H, W), with a table of statistics.

    The default equals preprocess_stack(..., "raw_robust", crop=False) of the published lens
    finders: NaN becomes 0, and the result is clipped.

    Pixels are bad by INVVAR and MASKBITS of a FITS file, or by the array mask of an .npz file.
    They are excluded from the statistics.

    Exit status: 0 all cutouts written; 1 some paths rejected, the others written; 2 wrong
    arguments.
    """
    from fastnorm import dispatch
    from fastnorm.annulus import Annulus
    from fastnorm.io.maskbits import MaskBits

    started = time.perf_counter()
    if raw and clip is not None:
        fail(f"--clip {clip:g} and --raw exclude each other: --raw does not clip. Give only one.")
    table = out.with_suffix(".parquet")
    check_out(out, ".npy")
    check_out(table, ".parquet")
    with messages():
        given = None if annulus is None else Annulus(*annulus)
        bits = MaskBits.parse(mask_bits)
        if backend is not None:
            dispatch.choose(backend)
        dispatch.set_num_threads(threads)
    limit = None if raw or clip == math.inf else PUBLISHED_CLIP if clip is None else clip

    rejected: list[Rejected] = []
    report: dict[str, Any] = {
        "out": None,
        "table": None,
        "shape": None,
        "annulus": None,
        "mask_bits": str(bits),
        "written": 0,
        "flat_bands": [],
    }
    files = find_files(paths, out, rejected)
    try:
        with notices(), progress(files) as advance, messages(OSError, ImportError):
            found = with_annulus(read_files(files, rejected, advance, bits), given, rejected)
            cutouts = of_one_shape(found, rejected)
            first = next(cutouts, None)
            if first is not None:
                used = _choose_annulus(given, first)
                job = _Job(used, limit, not raw, str(bits), backend)
                written, flat = _write(first, cutouts, job, out, table)
                report["out"], report["table"] = str(out), str(table)
                report["shape"] = [written, *first.pixels.shape]
                report["annulus"], report["written"] = [used.r_in, used.r_out], written
                report["flat_bands"] = say_flat(flat)
    finally:
        dispatch.set_num_threads(None)
    done = f"{report['written']} cutouts in {out}, their statistics in {table}"
    finish(report, rejected, started, done, as_json)


app.command()(normalize_fits)


app.command()(show)


@app.command()
def backends(as_json: AsJson = False) -> None:
    """List the backends, their devices, and why a backend is not available."""
    found = fastnorm.backends()
    if as_json:
        typer.echo(json.dumps([asdict(backend) for backend in found]))
        return
    from rich.table import Table

    table = Table("name", "device", "available", "reason")
    for backend in found:
        table.add_row(
            backend.name, backend.device, "yes" if backend.available else "no", backend.reason
        )
    wide_console(sys.stdout).print(table)


@app.command()
def check(
    device: Annotated[
        Literal["cpu", "cuda", "all"], typer.Option(help="Check the backends of this device.")
    ] = "all",
    quick: Annotated[bool, typer.Option("--quick", help="Use fewer cases and rounds.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check every available backend against the reference, value for value, and time it.

    Exit status: 0 all values equal; 1 some value differs, or --device cuda without a device.
    """
    with messages(ImportError):
        from fastnorm.check.run import run_selfcheck
    run_selfcheck(device, is_quick=quick, as_json=as_json)


class _Job(NamedTuple):
    annulus: Annulus
    clip: float | None
    nan_to_zero: bool
    mask_bits: str
    backend: str | None

    def metadata(self) -> dict[str, object]:
        from fastnorm.io import BANDS

        return {
            "annulus_r_in": self.annulus.r_in,
            "annulus_r_out": self.annulus.r_out,
            "eps": EPS,
            "clip": self.clip,
            "nan_to_zero": self.nan_to_zero,
            "mask_bits": self.mask_bits,
            "mode": "raw_robust" if self.nan_to_zero else "raw",
            "definition_version": DEFINITION_VERSION,
            "fastnorm_version": fastnorm.__version__,
            "bands": list(BANDS),
            "flux_unit": "nanomaggy",
        }


def _write(
    first: Cutout, others: Iterator[Cutout], job: _Job, out: Path, table: Path
) -> tuple[int, list[tuple[str, str]]]:
    """Normalise and write in batches, so that memory does not grow with the number of cutouts.

    Returns
    -------
    int
        Number of cutouts.
    list of (str, str)
        Ids of cutouts with flat bands, and these bands.
    """
    from fastnorm.io.write import StackWriter, open_table
    from fastnorm.normalize.flat import named_bands

    flat: list[tuple[str, str]] = []
    _, height, width = first.pixels.shape
    size = max(1, min(BATCH, BATCH_BYTES // (12 * height * width)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fastnorm.AnnulusWarning)
        # Let the library reject bad values before any file is created.
        _normalise([first], job)
        cutouts = chain([first], others)
        with (
            StackWriter(out, (height, width)) as stack,
            open_table(table, job.metadata()) as write_rows,
        ):
            while batch := list(islice(cutouts, size)):
                start = stack.count
                result, columns = _normalise(batch, job)
                stack.write(result)
                write_rows(_table_rows(batch, start) | columns)
                is_flat = columns["mad"].reshape(len(batch), -1) == 0
                flat += [
                    (printable(cutout.id), named_bands(bands))
                    for cutout, bands in zip(batch, is_flat, strict=True)
                    if bands.any()
                ]
            # The stack is complete on disk before its table replaces an older one.
            stack.finish()
    return stack.count, flat


def _normalise(
    batch: list[Cutout], job: _Job
) -> tuple[NDArray[np.float32], dict[str, NDArray[Any]]]:
    import numpy as np

    images = np.stack([cutout.pixels for cutout in batch])
    is_nan = np.isnan(images)
    if job.nan_to_zero:
        images[is_nan] = 0
    radii = (job.annulus.r_in, job.annulus.r_out)
    mask = None
    if any(cutout.mask is not None for cutout in batch):
        mask = np.zeros(images.shape, bool)
        for bad, cutout in zip(mask, batch, strict=True):
            if cutout.mask is not None:
                bad[:] = cutout.mask
    options: dict[str, Any] = {"mask": mask, "backend": job.backend}
    with messages():
        median, mad = fastnorm.annulus_median_mad(images, *radii, **options)
        result = fastnorm.normalize_outer_annulus(
            images, *radii, eps=EPS, clip=job.clip, nan_to_zero=job.nan_to_zero, **options
        )
    nan_count = is_nan.sum(axis=(2, 3), dtype=np.int32)
    return result, {"median": median.ravel(), "mad": mad.ravel(), "nan_count": nan_count.ravel()}


def _table_rows(batch: list[Cutout], start: int) -> dict[str, object]:
    from fastnorm.io import BANDS

    each = [cutout for cutout in batch for _ in BANDS]
    return {
        "row": [start + i for i in range(len(batch)) for _ in BANDS],
        "id": [printable(cutout.id) for cutout in each],
        "band": list(BANDS) * len(batch),
        "ra": [cutout.ra for cutout in each],
        "dec": [cutout.dec for cutout in each],
        "path": [printable(cutout.path) for cutout in each],
    }


def _choose_annulus(given: Annulus | None, first: Cutout) -> Annulus:
    from fastnorm.annulus import Annulus

    plane = first.pixels.shape[1:]
    annulus = Annulus.default(*plane) if given is None else given
    with annulus_warnings():
        annulus.warn_if_misplaced(*plane)
    return annulus


if __name__ == "__main__":
    app(prog_name="fastnorm")
