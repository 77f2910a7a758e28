"""``dhs simulate`` and ``dhs inject``."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Annotated

import typer

import fastnorm
from dhs.config.options import AsJson, Seed
from fastnorm.dispatch import threads
from fastnorm.opener import Open, open_written
from fastnorm.pictures import PICTURE_SUFFIXES
from fastnorm.terminal import check_out, counting, fail, finish, messages, say, say_not_drawn
from fastnorm.text import printable


def simulate(
    out: Annotated[
        Path, typer.Option(help="Write to this folder: new, empty, or left by an interrupted run.")
    ],
    n: Annotated[int, typer.Option("--n", help="Simulate this many cutouts.")] = 20_000,
    seed: Seed = 1,
    lens_fraction: Annotated[
        float, typer.Option(help="Give a galaxy an arc with this probability, 0 to 1.")
    ] = 0.2,
    workers: Annotated[
        int | None,
        typer.Option(help="Use this many processes.", show_default="number of available cores"),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            help="Read the survey from this YAML file.",
            show_default="configs/simulated_survey.yaml",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Simulate a survey: shards of cutouts, a manifest, and a picture of the first 64.

    The output depends on the seed, not on the number of workers. Run the same command again to
    resume an interrupted run.

    Exit status: 0 complete; 2 invalid arguments, or the survey is not finished.
    """
    started = time.perf_counter()
    with messages(TypeError, ValueError, OSError, ImportError, RuntimeError):
        from dhs.simulate import write_survey
        from dhs.simulate.config import read_survey_config

        chosen = None if config is None else read_survey_config(config)
        count = threads.num_threads() if workers is None else workers
        try:
            with counting("simulating", "cutouts") as show:
                result = write_survey(
                    out,
                    n,
                    seed,
                    lens_fraction,
                    workers=count,
                    config=chosen,
                    progress=show,
                    warn=lambda text: say("warning", "yellow", text),
                )
        except KeyboardInterrupt:
            fail(f"interrupted; run the same command again to resume {out}.")
    if as_json:
        report = result._asdict() | {"out": str(out), "seconds": _seconds_since(started)}
        typer.echo(json.dumps(report))
        return
    what = (
        f"{result.cutouts} cutouts, {result.bright} with a bright arc, "
        f"{result.limit} near the limit"
    )
    if result.was_complete:
        typer.echo(printable(f"{out} is already complete with these settings: {what}"))
        return
    files = f"{len(result.shards)} shards, manifest.parquet, picture.png"
    typer.echo(printable(f"{what}, in {out}: {files}"))


def inject(
    out: Annotated[Path, typer.Option(help="Write the picture to this .png, .pdf or .svg file.")],
    theta_e: Annotated[float, typer.Option(help="Set the Einstein radius, in arcsec.")],
    r_mag: Annotated[float, typer.Option(help="Set the AB magnitude of the unlensed source in r.")],
    hosts: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH...", help="Read these files (.npz, .npy, FITS), folders, or patterns."
        ),
    ] = None,
    more: Annotated[list[str] | None, typer.Argument(metavar="[PATH]...", hidden=True)] = None,
    psf_fwhm: Annotated[float, typer.Option(help="Set the FWHM of the PSF in r, in arcsec.")] = 1.3,
    seed: Seed = 1,
    limit: Annotated[int, typer.Option(help="Draw at most this many hosts.", min=1)] = 12,
    backend: Annotated[
        str | None,
        typer.Option(
            help="Use a backend that dhs.injection.backends() lists.", show_default="the fastest"
        ),
    ] = None,
    is_opened: Open = False,
    as_json: AsJson = False,
) -> None:
    """Inject an arc into each host, and draw hosts, arcs, and their sum.

    The other parameters are drawn from the priors; they depend on the seed and on the name of the
    host.

    Exit status: 0 all drawn; 1 some hosts rejected, the others drawn; 2 nothing done.
    """
    started = time.perf_counter()
    check_out(out, *PICTURE_SUFFIXES)
    paths = [*(hosts or []), *(more or [])]
    if not paths:
        fail("no hosts: give --hosts with files, folders, or patterns.")
    with messages(TypeError, ValueError, OSError, ImportError, fastnorm.BackendUnavailableError):
        from dhs.injection.cutouts import CutoutInjector, InjectedCutout, summary
        from dhs.injection.figure import draw_injections
        from dhs.pack.cutouts import require_pixel_scale
        from fastnorm.cli.cutouts import read_files
        from fastnorm.io import CutoutError, Rejected, count_cutouts, find_cutouts
        from fastnorm.io.maskbits import MaskBits

        injector = CutoutInjector(theta_e, r_mag, psf_fwhm, seed, backend)
        rejected: list[Rejected] = []
        drawn: list[InjectedCutout] = []
        left = 0
        files = find_cutouts(paths, rejected)
        # Path.resolve raises an error for a link to itself.
        if os.path.realpath(out) in {os.path.realpath(path) for path in files}:
            fail(f"--out {out} is among the hosts and would replace one; choose another file.")
        counts = [count_cutouts(path) for path in files]
        done = [1]  # the last cutout is advanced when the next is asked for
        for cutout in read_files(files, rejected, done.append, MaskBits()):
            try:
                require_pixel_scale(cutout)
                drawn.append(injector.inject(cutout))
            except CutoutError as error:
                rejected.append(Rejected(error.path, error.reason))
            except ValueError as error:
                rejected.append(Rejected(cutout.path, f"{cutout.id}: {error}"))
            if len(drawn) == limit:
                left = sum(counts) - sum(done)
                break
        if drawn:
            title = f'Injected arcs: unlensed r = {r_mag:g}, seeing {psf_fwhm:g}" in r, seed {seed}'
            draw_injections(drawn, title, out)
    report = {
        "out": str(out) if drawn else None,
        "written": len(drawn),
        "not_drawn": left,
        "r_mag": r_mag,
        "psf_fwhm_arcsec": psf_fwhm,
        "seed": seed,
        "drawn": [
            {"id": printable(item.cutout.id), "path": printable(item.cutout.path)} | summary(item)
            for item in drawn
        ],
    }
    if is_opened and drawn:
        report["opened"] = open_written(out)
    if not as_json:
        say_not_drawn(left, len(drawn))
    finish(report, rejected, started, f"{len(drawn)} injections drawn in {out}", as_json)


def _seconds_since(started: float) -> float:
    return round(time.perf_counter() - started, 3)


if __name__ == "__main__":
    raise SystemExit("This module runs as dhs simulate and dhs inject, or python -m dhs simulate.")
