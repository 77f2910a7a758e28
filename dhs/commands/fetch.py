"""``dhs fetch --ra --dec`` and ``dhs fetch --catalog FILE``."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dhs.config.options import AsJson
from fastnorm.terminal import counting, fail, finish, messages
from fastnorm.text import printable

if TYPE_CHECKING:
    from dhs.fetch import FetchResult


def fetch(
    out: Annotated[
        Path,
        typer.Option(help="Write to this folder: new, empty, or left by an interrupted run."),
    ],
    ra: Annotated[
        float | None, typer.Option(help="Fetch one cutout at this right ascension, in degrees.")
    ] = None,
    dec: Annotated[
        float | None, typer.Option(help="Fetch one cutout at this declination, in degrees.")
    ] = None,
    catalog: Annotated[
        Path | None,
        typer.Option(
            help="Read ra, dec and others from this .parquet, .csv, .fits, .ecsv or .vot."
        ),
    ] = None,
    layer: Annotated[str, typer.Option(help="Use ls-dr11, ls-dr10 or ls-dr9.")] = "ls-dr10",
    size: Annotated[int, typer.Option(help="Set the side, in pixels of 0.262 arcsec.")] = 101,
    images_only: Annotated[
        bool, typer.Option("--images-only", help="Omit INVVAR and MASKBITS.")
    ] = False,
    limit: Annotated[
        int | None,
        typer.Option(help="Fetch only the first rows of the catalogue.", show_default="all"),
    ] = None,
    rate: Annotated[
        float,
        typer.Option(help="Send at most this many requests per second; the service is shared."),
    ] = 2.0,
    workers: Annotated[int, typer.Option(help="Send this many requests at a time.")] = 2,
    attempts: Annotated[
        int, typer.Option(help="Try each cutout this often, with increasing pauses.")
    ] = 5,
    timeout: Annotated[
        float, typer.Option(help="Wait this many seconds for data before a retry.")
    ] = 30.0,
    deadline: Annotated[
        float,
        typer.Option(help="Allow an attempt this many seconds, whatever arrives."),
    ] = 300.0,
    url: Annotated[
        str | None,
        typer.Option(help="Use a mirror at this address.", show_default="www.legacysurvey.org"),
    ] = None,
    allow_redirect: Annotated[
        list[str] | None,
        typer.Option(
            help="Allow redirects to this other server, like https://mirror.org; repeatable.",
            show_default="none",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the planned requests without sending any.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Download cutouts of the Legacy Surveys, check each one, and list them in a manifest.

    Run the same command again to resume an interrupted run; it also replaces damaged cutouts. The
    manifest keeps the columns of the catalogue; with a column label, dhs pack can read it.

    Exit status: 0 all fetched; 1 some rejected; 2 invalid arguments, or stopped early.
    """
    started = time.perf_counter()
    if (catalog is None) == (ra is None) or (ra is None) != (dec is None):
        fail("give either --ra and --dec, or --catalog.")
    with messages(TypeError, ValueError, OSError, ImportError, RuntimeError):
        import pyarrow

        from dhs.fetch import URL, plan
        from dhs.fetch import fetch as fetch_all

        source: Any = catalog or pyarrow.table({"ra": [ra], "dec": [dec]})
        asked: dict[str, Any] = {
            "layer": layer,
            "size": size,
            "images_only": images_only,
            "limit": limit,
            "url": url or URL,
            "rate": rate,
        }
        if dry_run:
            planned = plan(source, **asked)
            minutes = f"at least {planned.seconds / 60:,.1f} minutes at {rate:g} per second"
            text = f"{planned.cutouts:,} cutouts, {minutes}; the first is {planned.first}"
            typer.echo(json.dumps(planned._asdict()) if as_json else printable(text))
            return
        how: dict[str, Any] = {
            "workers": workers,
            "attempts": attempts,
            "timeout": timeout,
            "deadline": deadline,
            "allow_redirect": allow_redirect or (),
        }
        try:
            with counting("fetching", "cutouts") as show:
                result = fetch_all(source, out, progress=show, **asked, **how)
        except KeyboardInterrupt:
            fail(f"interrupted; run the same command again to resume {out}.")
    report = result._asdict() | {"out": str(out), "written": result.cutouts}
    where = out / "rejected.parquet"
    finish(report, result.rejected, started, _summary(result), as_json, where)


def _summary(result: FetchResult) -> str:
    there = result.cutouts - result.downloaded
    damaged = f"; {result.damaged:,} were damaged" if result.damaged else ""
    parts = f"{result.downloaded:,} downloaded, {there:,} already present{damaged}"
    return f"{result.cutouts:,} verified cutouts ({parts}), manifest.parquet, in {result.out}"


if __name__ == "__main__":
    raise SystemExit("This module runs as dhs fetch, or python -m dhs fetch.")
