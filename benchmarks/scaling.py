"""Time an injection stage by stage, and extrapolate to 10^8 injections.

Run as ``python -m benchmarks.scaling``. Every stage is timed on this CPU in one run, interleaved,
in batches of 16 cutouts. The hours on GPUs are from the model in `benchmarks.scaling_model`, and
not measured.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, NamedTuple

import numpy as np
import pyarrow
import torch
import typer
from pyarrow import parquet
from rich.console import Console
from rich.table import Table

from benchmarks.grid import NETWORKS, configuration, write_hosts, write_model
from benchmarks.scaling_model import (
    EFFICIENCY,
    HOST_CORES,
    TENSOR_FLOPS,
    Work,
    as_json,
    assumptions,
    count_network,
    gpu_stages,
    hours,
)
from benchmarks.timing import Case, time_interleaved
from dhs.constants import BANDS, CUTOUT_SIZE, PIXEL_SCALE
from dhs.injection import render
from dhs.injection.psf import SIDE
from dhs.injection.psf_tensors import convolve, psf_transfer, transform_size
from dhs.injection.quadrature import make_plan
from dhs.injection.source import draw_clumps
from dhs.jobs.malloc import keep_freed_memory
from dhs.model.threads import threads_of
from dhs.selection.draws import BLOCK, Drawer
from dhs.selection.engine import Engine, Shard
from dhs.selection.injector import SCHEMA
from dhs.statistics.thresholds import sigmoid
from fastnorm.atomic import atomic_path

BATCH = 16
TARGET = 1e8
WHOLE_BATCHES = 8
OVERSAMPLE = 4
DRAW, READ, PLAN = "draw parameters", "read hosts", "of which plan"
RENDER, CONVOLVE, MAKE, REST = "render", "PSF", "make", "noise, sum, measures"
NORMALISE, FORWARD, WRITE, WHOLE = "normalise", "forward", "write", "whole"
ON_HOST = (DRAW, READ, PLAN, WRITE)
"""Stages that stay on the host if the rest runs on a GPU."""


class Stage(NamedTuple):
    """A stage: ``run`` does it for ``injections`` injections."""

    name: str
    injections: int
    run: Callable[[], object]


def stages(engines: dict[str, Engine], folder: Path) -> list[Stage]:
    """Return every stage on the same injections, and each network's forward pass and whole run."""
    engine = next(iter(engines.values()))
    ids = engine.ids(0, BATCH)
    drawn = Drawer(engine.config, engine.hosts).draw(ids)
    unit = dataclasses.replace(drawn.source, **{f"flux_nmgy_{band}": 1.0 for band in BANDS})
    rows, width = (
        engine.hosts.rows[drawn.host],
        torch.from_numpy(engine.hosts.fwhm[drawn.host][:, 1:2].repeat(3, axis=1)).float(),
    )
    light = torch.from_numpy(render(drawn.lens, unit, bands=("r",), ids=ids))
    shape = (CUTOUT_SIZE, CUTOUT_SIZE)
    size = transform_size(*shape)
    images = engine.injector.make(ids).images
    table = _shard_table(engine)

    def draw() -> None:
        # A new drawer, because a drawer caches its block.
        Drawer(engine.config, engine.hosts).draw(engine.ids(0, BLOCK))

    def plan() -> None:
        clumps = draw_clumps(unit, 0, ids)
        make_plan(drawn.lens, unit, clumps, unit.fluxes()[:, 1:2], shape, PIXEL_SCALE, OVERSAMPLE)

    def write() -> None:
        with atomic_path(folder / "shard.parquet") as temporary:
            parquet.write_table(table, temporary)

    found = [
        Stage(DRAW, BLOCK, draw),
        Stage(READ, BATCH, lambda: engine.hosts.data.read(rows)),
        Stage(RENDER, BATCH, lambda: render(drawn.lens, unit, bands=("r",), ids=ids)),
        Stage(PLAN, BATCH, plan),
        Stage(CONVOLVE, BATCH, lambda: convolve(light, psf_transfer(width, size))),
        Stage(MAKE, BATCH, lambda: engine.injector.make(ids)),
        Stage(NORMALISE, BATCH, lambda: engine.finder.preprocess(images)),
        Stage(WRITE, len(table), write),
    ]
    for name, each in engines.items():
        backbone, seen = each.finder.backbone, each.finder.preprocess(images)
        found.append(Stage(f"{FORWARD}, {name}", BATCH, _forward(backbone, seen)))
        found.append(Stage(f"{WHOLE}, {name}", WHOLE_BATCHES * BATCH, _whole(each, folder)))
    return found


def _forward(backbone: torch.nn.Module, seen: torch.Tensor) -> Callable[[], object]:
    def run() -> None:
        with torch.inference_mode():
            backbone(seen)

    return run


def _whole(engine: Engine, folder: Path) -> Callable[[], object]:
    shard, path = Shard("injections", 0, 0, WHOLE_BATCHES * BATCH), folder / "whole.parquet"
    return lambda: engine.make(shard, path, lambda rows: None)


def _shard_table(engine: Engine) -> pyarrow.Table:
    """Return the rows of a shard, with arbitrary logits."""
    parts = []
    size = engine.config.shard_size
    logits = np.random.default_rng(0).normal(0, 3, BATCH).astype(np.float32)
    for start in range(0, size, BATCH):
        injected = engine.injector.make(engine.ids(start, start + BATCH))
        scores = {"logit": logits, "score": sigmoid(logits)}
        parts.append(pyarrow.table(injected.columns | scores, schema=SCHEMA))
    return pyarrow.concat_tables(parts).combine_chunks()


def per_injection(found: list[Stage], seconds: dict[str, list[float]]) -> dict[str, float]:
    """Return median seconds per injection by stage, with the rest of `Injector.make` as a stage."""
    each = {s.name: float(np.median(seconds[s.name])) / s.injections for s in found}
    injected = each.pop(MAKE)
    each[REST] = max(injected - sum(each[name] for name in (READ, RENDER, CONVOLVE)), 0.0)
    return each


def of_network(each: dict[str, float], name: str) -> dict[str, float]:
    """Return the stages of a whole injection with one network, which add up."""
    order = (DRAW, READ, RENDER, CONVOLVE, REST, NORMALISE)
    return {stage: each[stage] for stage in order} | {
        FORWARD: each[f"{FORWARD}, {name}"],
        WRITE: each[WRITE],
    }


def measure(rounds: int, threads: int, console: Console) -> tuple[dict[str, Any], dict[str, Work]]:
    """Time and count everything, and return it with the work of the networks."""
    seen = torch.zeros(1, len(BANDS), CUTOUT_SIZE, CUTOUT_SIZE)
    with TemporaryDirectory() as name, threads_of(threads):
        folder = Path(name)
        hosts = write_hosts(folder / "hosts")
        engines = {}
        for arch, options in NETWORKS.items():
            path = write_model(folder / f"{arch}.safetensors", arch, **options)
            config = configuration(
                hosts, path, folder / arch, 8 * BLOCK, threads=threads, device="cpu"
            )
            engines[arch] = Engine(config)
        found = stages(engines, folder)
        seconds = time_interleaved([Case(s.name, "", s.run) for s in found], rounds, console)
        each = per_injection(found, seconds)
        networks = {arch: count_network(e.finder.backbone, seen) for arch, e in engines.items()}
        result = {
            "threads": threads,
            "rounds": rounds,
            "batch": BATCH,
            "stages": each,
            "measured": {arch: of_network(each, arch) for arch in engines},
            "whole": {arch: each[f"{WHOLE}, {arch}"] for arch in engines},
            "bytes_on_disk_per_injection": (folder / "shard.parquet").stat().st_size
            / config.shard_size,
            "networks": {arch: as_json(work) for arch, work in networks.items()},
        }
    return result, networks


def model(
    each: dict[str, float],
    networks: dict[str, Work],
    gpus: list[int],
    efficiency: float,
    cores: int,
) -> dict[str, Any]:
    """Model seconds by stage and hours of 10^8 injections, for every network and precision."""
    host = sum(each[name] for name in ON_HOST)
    rows: dict[str, Any] = {}
    for name, work in networks.items():
        for precision in TENSOR_FLOPS:
            gpu = gpu_stages(work, CUTOUT_SIZE, SIDE, precision, efficiency)
            rows[f"{name}, {precision}"] = {
                "gpu_seconds": gpu,
                "host_seconds": host,
                "hours": {n: hours(gpu, host, cores, TARGET, n) for n in gpus},
            }
    return rows


def measured_table(result: dict[str, Any]) -> Table:
    """Return a table of us per injection by stage, their sum, and fraction outside the network."""
    names = list(result["measured"])
    table = Table(
        title=f"Measured on this CPU: us / injection, batches of {BATCH}, "
        f"{result['threads']} threads, median of {result['rounds']} rounds"
    )
    for heading in ("", *names):
        table.add_column(heading, justify="left" if not heading else "right")
    for stage in result["measured"][names[0]]:
        table.add_row(stage, *(f"{1e6 * result['measured'][name][stage]:,.1f}" for name in names))
        if stage == RENDER:
            table.add_row(f"  {PLAN}", *[f"{1e6 * result['stages'][PLAN]:,.1f}"] * len(names))
    totals = {name: sum(result["measured"][name].values()) for name in names}
    outside = [1 - result["measured"][name][FORWARD] / totals[name] for name in names]
    table.add_section()
    table.add_row("sum of the stages", *(f"{1e6 * totals[name]:,.0f}" for name in names))
    table.add_row("as in dhs grid", *(f"{1e6 * result['whole'][name]:,.0f}" for name in names))
    table.add_row("fraction outside the forward pass", *(f"{share:.0%}" for share in outside))
    table.add_row(
        f"hours for {TARGET:.0e}, extrapolated",
        *(f"{TARGET * totals[name] / 3600:,.0f}" for name in names),
    )
    return table


def stages_table(result: dict[str, Any]) -> Table:
    """Return a table of modelled us per injection on a GPU, and of those on the host."""
    rows = result["modelled"]
    table = Table(title="MODELLED, NOT MEASURED: us / injection on one H100 SXM")
    table.add_column("")
    for name in rows:
        table.add_column(name.replace(", ", ",\n"), justify="right", no_wrap=True)
    for stage in next(iter(rows.values()))["gpu_seconds"]:
        table.add_row(stage, *(f"{1e6 * row['gpu_seconds'][stage]:.2f}" for row in rows.values()))
    table.add_section()
    totals = [sum(row["gpu_seconds"].values()) for row in rows.values()]
    table.add_row("on the GPU", *(f"{1e6 * total:.2f}" for total in totals))
    table.add_row(
        "on one core of the host (measured)",
        *(f"{1e6 * row['host_seconds']:.0f}" for row in rows.values()),
    )
    return table


def hours_table(result: dict[str, Any]) -> Table:
    """Return a table of modelled hours for 10^8 injections."""
    table = Table(title=f"MODELLED, NOT MEASURED: hours for {TARGET:.0e} injections")
    for heading in ("network", "H100s", "in turn", f"{result['cores']} cores each", "GPU alone"):
        table.add_column(heading, justify="left" if heading == "network" else "right")
    for name, row in result["modelled"].items():
        for gpus, found in row["hours"].items():
            table.add_row(name, str(gpus), *(f"{value:,.3g}" for value in found.values()))
        table.add_section()
    return table


def main(
    gpus: Annotated[
        list[int] | None, typer.Option(help="Numbers of GPUs.", min=1, show_default="1, 8, 64")
    ] = None,
    rounds: Annotated[int, typer.Option(min=3)] = 7,
    threads: Annotated[int, typer.Option(min=1)] = 2,
    efficiency: Annotated[
        float, typer.Option(help="Assumed fraction of a GPU's rates.", min=0.01, max=1)
    ] = EFFICIENCY,
    cores: Annotated[int, typer.Option(help="Assumed host cores per GPU.", min=1)] = HOST_CORES,
    as_json_text: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Time every stage of an injection here, and extrapolate to 10^8 on GPUs with a model."""
    keep_freed_memory()  # as in dhs grid
    console = Console(stderr=as_json_text, width=110)
    result, networks = measure(rounds, threads, console)
    result |= {
        "cores": cores,
        "modelled": model(result["stages"], networks, gpus or [1, 8, 64], efficiency, cores),
        "assumptions": assumptions(efficiency, cores),
    }
    if as_json_text:
        typer.echo(json.dumps(result))
        return
    for table in (measured_table(result), stages_table(result), hours_table(result)):
        console.print(table)
    on_disk = result["bytes_on_disk_per_injection"]
    console.print(
        f"Written: {on_disk:.0f} bytes per injection, measured; {TARGET:.0e} take "
        f"{TARGET * on_disk / 1e9:.0f} GB, and twice that while shards are merged."
    )
    for arch, work in networks.items():
        moved = 4 * work.bytes / 1e6
        console.print(
            f"{arch}: {work.flops / 1e6:,.0f} MFLOP and {moved:.1f} MB (float32) a cutout, counted."
        )
    console.print(*result["assumptions"], sep="\n", markup=False, highlight=False)


if __name__ == "__main__":
    typer.run(main)
