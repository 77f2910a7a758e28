"""``dhs grid CONFIG``, ``dhs grid plan CONFIG`` and ``dhs grid compare A B``."""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import BrokenExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dhs.commands.grid_compare import compare
from dhs.commands.grid_completeness import by_radius, pooled, print_completeness
from dhs.commands.paths import require_checkpoints, require_paths
from dhs.config.options import AsJson, PictureFormat, Settings, group_with_default
from dhs.jobs.malloc import keep_freed_memory
from fastnorm.terminal import console, counting, fail, messages, say
from fastnorm.text import printable

if TYPE_CHECKING:
    from dhs.selection.config import Axis, GridConfig
    from dhs.selection.plan import Plan

app = typer.Typer(
    cls=group_with_default("run"),
    help="Measure completeness on a grid by injecting arcs and scoring them.\n\n"
    "dhs grid CONFIG is short for dhs grid run CONFIG.",
    subcommand_metavar="CONFIG | plan CONFIG | compare A B",
    no_args_is_help=True,
    add_completion=False,
)
app.command()(compare)

File = Annotated[Path, typer.Argument(metavar="CONFIG", help="Read the grid from this YAML file.")]
Unit = Annotated[
    str | None,
    typer.Option(
        help="State the unit of the hosts' depth, nanomaggy^-2 or mag; same as hosts.psfdepth_unit."
    ),
]
ASSUMED = {"psf_fwhm": "PSF FWHM {:g} arcsec", "depth_5sig": "5-sigma depth {:g} mag"}
ERRORS = (TypeError, ValueError, OSError, ImportError, RuntimeError, BrokenExecutor)


@app.command()
def run(
    file: File,
    settings: Settings = None,
    psfdepth_unit: Unit = None,
    workers: Annotated[
        int | None,
        typer.Option(help="Use this many processes.", show_default="number of available cores"),
    ] = None,
    dask: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS", help="Use the Dask scheduler at this address, or of this .json file."
        ),
    ] = None,
    dask_local: Annotated[
        int | None,
        typer.Option(metavar="N", help="Start a Dask cluster of N workers on this machine."),
    ] = None,
    picture_format: PictureFormat = "png",
    as_json: AsJson = False,
) -> None:
    """Inject arcs into the hosts of every cell, score them, and tabulate the completeness.

    The output does not depend on the number of workers. Run the same command again to resume an
    interrupted run.

    Exit status: 0 complete; 2 invalid arguments, or the grid is not finished.
    """
    started = time.perf_counter()
    with messages(*ERRORS):
        config = _config(file, settings, psfdepth_unit)
        from dhs.selection.run import Workers, run_grid

        keep_freed_memory()
        try:
            with counting("injecting", "cutouts") as show:
                result = run_grid(
                    config,
                    Workers(workers, dask, dask_local),
                    progress=show,
                    warn=lambda text: say("warning", "yellow", text),
                    picture_format=picture_format,
                )
        except KeyboardInterrupt:
            fail(f"interrupted; run the same command again to resume {config.out_dir}.")
    from dhs.statistics.clusters import FEWEST_CLUSTERS, WARNED_CLUSTERS

    metadata = result.metadata
    if as_json:
        report = {
            "out": str(result.out),
            "injections": metadata["injections"],
            "failed": metadata["failed"],
            "cells": metadata["cells"],
            "thresholds": metadata["thresholds"],
            "false_positives": metadata["false_positives"],
            "completeness": by_radius(result.out),
            "completeness_pooled": pooled(result.out),
            "annulus": metadata["annulus"],
            "deaths_of_workers": result.deaths,
            "scored": result.scored,
            "pictures": [str(path) for path in result.pictures],
            "seconds": round(time.perf_counter() - started, 3),
        }
        typer.echo(json.dumps(report))
        return
    _print_thresholds(metadata)
    print_completeness(result.out)
    cells = metadata["cells"]
    without = cells["total"] - cells["with_hosts"]
    if without:
        say(
            "note",
            "yellow",
            f"{without} of {cells['total']} cells have too few hosts and stay empty.",
        )
    if cells["few_hosts"]:
        say(
            "note",
            "yellow",
            f"{cells['few_hosts']} cells have fewer than {WARNED_CLUSTERS} hosts, so their "
            f"intervals are rough; with fewer than {FEWEST_CLUSTERS} they are left out (too few).",
        )
    if metadata["failed"]:
        say(
            "note",
            "yellow",
            f"{metadata['failed']} injections failed; see failure in injections.parquet.",
        )
    which = f"{metadata['injections']:,} injections in {cells['with_hosts']} cells"
    typer.echo(printable(f"{which}: {result.out / 'selection_function.csv'}"))
    for path in result.pictures:
        typer.echo(printable(f"picture: {path}"))


@app.command()
def plan(
    file: File,
    settings: Settings = None,
    psfdepth_unit: Unit = None,
    workers: Annotated[
        int | None,
        typer.Option(
            help="Estimate a run with this many processes.",
            show_default="number of available cores",
            min=1,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Estimate the time and disk space of a grid from a trial of seconds; write nothing.

    The time is that of the whole command if the load of the machine stays the same: programs and
    data are read, workers start, they inject and score, and tables and pictures are written. The
    trial compiles the kernels, so the run does not.
    """
    with messages(*ERRORS):
        config = _config(file, settings, psfdepth_unit)
        from dhs.selection.plan import make_plan

        keep_freed_memory()
        result = make_plan(config, workers)
    if as_json:
        typer.echo(json.dumps(result._asdict()))
    else:
        _print_plan(result, config)


def _config(file: Path, settings: list[str] | None, psfdepth_unit: str | None) -> GridConfig:
    from dhs.config.file import located
    from dhs.selection.config import read_grid_config

    unit = [] if psfdepth_unit is None else [f"hosts.psfdepth_unit={psfdepth_unit}"]
    config = read_grid_config(file, [*(settings or ()), *unit])
    hosts = config.hosts.dataset()
    require_checkpoints(Path(located(config.checkpoint)))
    require_paths(Path(hosts.parquet_path if hosts.mode == "pack" else hosts.manifest_path))
    for name, value in config.hosts.assumed().items():
        text = (
            f"every host has the {ASSUMED[name].format(value)} (hosts.{name}), not a measured one."
        )
        say("note", "yellow", text)
    return config


def _print_thresholds(metadata: dict[str, Any]) -> None:
    from rich.table import Table

    from dhs.statistics.digits import digits_to_tell_apart

    spec = metadata["spec"]
    radii = f"({spec['annulus_r_in']:g}, {spec['annulus_r_out']:g})"
    title = f"{metadata['checkpoint']['name']}, annulus {radii} px: {metadata['annulus']}"
    table = Table(title=title, title_justify="left")
    for name in ("threshold", "score", "false positives", "of non-lenses"):
        table.add_column(name, justify="left" if name == "threshold" else "right")
    digits = digits_to_tell_apart((e["threshold"] for e in metadata["thresholds"]), 6, 12)
    for entry in metadata["thresholds"]:
        counts = (entry["false_positives"], entry["negatives"])
        shown = ["" if count is None else f"{count:,}" for count in counts]
        table.add_row(_threshold(entry), f"{entry['threshold']:.{digits}f}", *shown)
    console(sys.stdout).print(table)
    names = {entry["threshold_type"]: _threshold(entry) for entry in metadata["thresholds"]}
    for entry in metadata["false_positives"]:
        low, high = entry["by_cell"]
        is_one = f"{low:.2g}" == f"{high:.2g}"
        rates = [f"{low:.2g} in every cell" if is_one else f"{low:.2g} to {high:.2g} by cell"]
        rates += [f"{rate:.2g} {name}" for name, rate in entry["by_class"].items()]
        name = names[entry["threshold_type"]]
        said = f"{name}, of hosts without an arc: {', '.join(rates)} (false_positives.csv)"
        typer.echo(printable(said))
        if entry["remark"]:
            say("note", "yellow", f"{name}: {entry['remark']}.")


def _threshold(entry: dict[str, Any]) -> str:
    from dhs.statistics.digits import rate_text

    rate = entry["fpr_target"]
    return entry["threshold_type"] if rate is None else f"FPR {rate_text(rate)}"


def _print_plan(plan: Plan, config: GridConfig) -> None:
    from rich.table import Table

    hosts = Table(title="hosts in the cells of seeing and depth", title_justify="left")
    depths = sorted({entry["depth_5sig"] for entry in plan.hosts})
    hosts.add_column("PSF FWHM", no_wrap=True)
    for depth in depths:
        hosts.add_column(f"{_cell(depth, config.depth_5sig)} mag", justify="right")
    for width in sorted({entry["psf_fwhm"] for entry in plan.hosts}):
        counts = [entry["hosts"] for entry in plan.hosts if entry["psf_fwhm"] == width]
        name = f'{_cell(width, config.psf_fwhm)}"'
        hosts.add_row(name, *(f"{count:,}" for count in counts))
    table = Table(show_header=False)
    table.add_column()
    table.add_column(justify="right")
    rows = {
        "cells": f"{plan.cells:,}",
        "cells with enough hosts": f"{plan.cells_with_hosts:,}",
        "hosts outside all cells": f"{plan.hosts_outside:,}",
        "hosts without seeing or depth": f"{plan.hosts_without_seeing:,}",
        "injections": f"{plan.injections:,}",
        "non-lenses to score": f"{plan.negatives:,}",
        "shards": f"{plan.shards:,}",
        "time per injection and worker": f"{plan.seconds_per_injection * 1e3:.2f} ms",
        f"time, {plan.workers} workers of {plan.threads} threads": _durations(plan),
        "- start": _duration(plan.seconds_start),
        "- injecting and scoring": _duration(plan.seconds_work),
        "- tables and pictures": _duration(plan.seconds_results),
        "disk space": f"{plan.bytes_on_disk / 1e6:,.1f} MB, twice that during the run",
        "free disk space": f"{plan.bytes_free / 1e6:,.0f} MB",
        "preprocessing": plan.spec,
    }
    for name, value in rows.items():
        table.add_row(name, value)
    console(sys.stdout).print(hosts)
    console(sys.stdout).print(table)
    if plan.workers > plan.cores:
        text = (
            f"this machine runs {plan.cores} workers of {plan.threads} threads without sharing its "
            f"cores; the time of {plan.workers} is that of a machine with enough cores."
        )
        say("note", "yellow", text)
    if 2 * plan.bytes_on_disk > plan.bytes_free:
        say("warning", "yellow", "the disk does not have enough free space for the run.")


def _cell(centre: float, axis: Axis) -> str:
    """Return the range of a cell, which its centre alone does not tell."""
    low, high = (round(centre + sign * axis.step / 2, 6) for sign in (-1, 1))
    return f"{low:g}-{high:g}"


def _durations(plan: Plan) -> str:
    low, high = plan.seconds_range
    return f"{_duration(plan.seconds)} ({_duration(low)} to {_duration(high)})"


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"


if __name__ == "__main__":
    raise SystemExit("This module runs as dhs grid, or python -m dhs grid.")
