"""Time injection and recovery against the loop over stamps that it replaces.

Run as ``python -m benchmarks.grid``. One run measures the fraction of a grid's time outside the
network; the same work one stamp at a time with existing tools (a lenstronomy image per band,
`dhs.preprocess.preprocess_stack`, a forward pass of one cutout); two Dask workers against one
process of two threads; and peak memory at 10,000 and 100,000 injections. Weights are random: they
cost as much as trained ones.

The loop is timed twice: with the usual 4 x 4 sub-pixels, off by 11 % of the peak at worst, and
with 16 x 16, which are as exact as ours (docs/injection.md).
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import pandas as pd
import pyarrow
import torch
import typer
from pyarrow import parquet
from rich.console import Console
from rich.table import Table
from scipy.signal import fftconvolve
from torch import Tensor

from benchmarks.lens_peers import lenstronomy_renderer
from benchmarks.loader import write_pack
from benchmarks.memory import peak_bytes
from dhs import checkpoint
from dhs.constants import CUTOUT_SIZE
from dhs.injection import PSF
from dhs.jobs.malloc import keep_freed_memory
from dhs.model import LensFinder
from dhs.model.threads import threads_of
from dhs.preprocess import preprocess_stack
from dhs.preprocess.spec import PreprocessSpec
from dhs.selection.config import GridConfig
from dhs.selection.draws import Drawer
from dhs.selection.engine import Engine, Shard
from dhs.selection.run import Workers, run_grid

CORES = 2
HOSTS = 256
ROUNDS = 3
LOOPS = {"usual": (4, 24), "as exact": (16, 3)}  # sub-pixels per side of lenstronomy, and stamps
NETWORKS: dict[str, dict[str, Any]] = {
    "bottlenecked_resnet": {"base_ch": 27},
    "efficientnet_v2_s": {},
}
ALLOWED = {"bottlenecked_resnet": 0.60, "efficientnet_v2_s": 0.20}
GOAL = {"bottlenecked_resnet": 0.30, "efficientnet_v2_s": 0.05}
SMALL = 33  # side in pixels of the cutouts for the memory test: 100,000 take a minute


def write_hosts(folder: Path, size: int = CUTOUT_SIZE) -> Path:
    rng = np.random.default_rng(1)
    write_pack(folder, rng.normal(0, 0.02, (HOSTS, 3, size, size)).astype(np.float32))
    path = folder / "manifest.parquet"
    table = parquet.read_table(path)
    frame = table.to_pandas().assign(label=0, psfsize_r=rng.uniform(1.0, 1.5, HOSTS))
    frame["psfdepth_r"] = 396.0
    changed = pyarrow.Table.from_pandas(frame, preserve_index=False)
    parquet.write_table(changed.replace_schema_metadata(table.schema.metadata), path)
    return folder


def write_model(path: Path, name: str, size: int = CUTOUT_SIZE, **options: Any) -> Path:
    share = size / CUTOUT_SIZE
    spec = PreprocessSpec(annulus_r_in=32.5 * share, annulus_r_out=45.0 * share)
    finder = LensFinder(spec, name, size=size, **options)
    checkpoint.save(path, finder, config={}, metrics={}, data={"data_origin": "simulated"})
    return path


def configuration(hosts: Path, model: Path, out: Path, injections: int, **more: Any) -> GridConfig:
    return GridConfig.model_validate(
        {
            "checkpoint": str(model),
            "out_dir": str(out),
            "hosts": {"parquet_path": str(hosts), "split": "all"},
            "theta_e": {"start": 1.0, "stop": 2.0, "step": 1.0},
            "psf_fwhm": {"start": 1.25, "stop": 1.25, "step": 0.6},
            "depth_5sig": {"start": 24.0, "stop": 24.0, "step": 1.0},
            "injections_per_cell": injections // 2,
            "thresholds": [0.5],
            "fpr_targets": [],
        }
        | more
    )


def share_outside(config: GridConfig, batches: int) -> dict[str, float]:
    """Return median seconds per injection, and the fraction outside the forward pass."""
    engine = Engine(config)
    backbone, inside = engine.finder.backbone, 0.0
    forward = backbone.forward

    def timed(images: Tensor) -> Tensor:
        nonlocal inside
        started = time.perf_counter()
        result: Tensor = forward(images)
        inside += time.perf_counter() - started
        return result

    backbone.forward = timed
    rows = batches * config.batch_size
    shard, path = Shard("injections", 0, 0, rows), Path(config.out_dir).with_suffix(".parquet")
    found = []
    with threads_of(config.threads):
        engine.make(shard._replace(stop=config.batch_size), path, lambda done: None)
        for _ in range(ROUNDS):
            inside, started = 0.0, time.perf_counter()
            engine.make(shard, path, lambda done: None)
            total = time.perf_counter() - started
            found.append((total / rows, 1 - inside / total))
    seconds, outside = np.median(found, axis=0)
    return {"seconds": float(seconds), "outside": float(outside)}


def one_at_a_time(config: GridConfig, sub_pixels: int, stamps: int) -> float:
    """Return seconds per injection of a loop over stamps with existing tools."""
    engine = Engine(config)
    ids = engine.ids(0, stamps)
    drawn = Drawer(config, engine.hosts).draw(ids)
    render = lenstronomy_renderer(drawn.lens, drawn.source, sub_pixels)
    images, _ = engine.hosts.data.read(engine.hosts.rows[drawn.host])
    fwhm, fluxes = engine.hosts.fwhm[drawn.host, 1], drawn.source.fluxes()
    keywords = engine.checkpoint.spec.preprocess_keywords()

    def inject_and_score(k: int) -> float:
        kernels = PSF.moffat(fwhm[k]).images[0]
        arc = [
            flux * fftconvolve(render(np.array([k]))[0], kernel, "same")
            for flux, kernel in zip(fluxes[k], kernels, strict=True)
        ]
        seen = preprocess_stack(images[k].numpy() + np.asarray(arc, np.float32), **keywords)
        with torch.inference_mode():
            return float(engine.finder.backbone(torch.from_numpy(seen[None]))[0, 0])

    with threads_of(config.threads):
        inject_and_score(0)
        started = time.perf_counter()
        for k in range(stamps):
            inject_and_score(k)
        return (time.perf_counter() - started) / stamps


def rate(config: GridConfig, workers: Workers) -> float:
    """Return injections per second, without the start of the workers, which is a fixed cost."""
    reports: list[tuple[float, int]] = []
    run_grid(config, workers, progress=lambda done, _: reports.append((time.perf_counter(), done)))
    within = [report for report in reports if report[1] >= reports[-1][1] / 2]
    (first, some), (last, every) = within[0], within[-1]
    return (every - some) / (last - first)


def peak_memory(injections: int) -> float:
    """Return the peak resident memory, MiB, of a process that runs a grid of this size."""
    command = [sys.executable, "-m", "benchmarks.grid", "--memory-of", str(injections)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout)


def _run_small_grid(injections: int) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        hosts = write_hosts(folder / "hosts", SMALL)
        model = write_model(folder / "m.safetensors", "bottlenecked_resnet", SMALL, base_ch=1)
        run_grid(configuration(hosts, model, folder / "out", injections), Workers(1))
    print(peak_bytes() / 2**20)


def _without_pictures() -> None:
    """Disable the figures, which are not part of the timing."""
    import dhs.selection.figure as figure

    figure.draw_grid = lambda folder, **_: []


def main(
    batches: Annotated[int, typer.Option(help="Batches of 16 injections per measurement.")] = 32,
    memory: Annotated[bool, typer.Option(help="Measure the peak memory as well.")] = True,
    memory_of: Annotated[int | None, typer.Option(hidden=True)] = None,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    _without_pictures()
    keep_freed_memory()  # as in the command
    if memory_of is not None:
        _run_small_grid(memory_of)
        return
    result: dict[str, Any] = {"networks": {}}
    with TemporaryDirectory() as place:
        folder = Path(place)
        hosts = write_hosts(folder / "hosts")
        models = {
            arch: write_model(folder / f"{arch}.safetensors", arch, **options)
            for arch, options in NETWORKS.items()
        }
        for arch, model in models.items():
            some = configuration(
                hosts,
                model,
                folder / arch,
                2 * 16 * batches,
                threads=CORES,
                shard_size=64 * batches,
            )
            ours = share_outside(some, batches)
            loops = {name: one_at_a_time(some, *how) for name, how in LOOPS.items()}
            result["networks"][arch] = ours | {"loops": loops}
        sizes: dict[str, Any] = {"injections": 256 * batches, "shard_size": 128}
        small = models["bottlenecked_resnet"]
        rates = {
            "one process, 2 threads": rate(
                configuration(hosts, small, folder / "one", threads=CORES, **sizes), Workers(1)
            ),
            "two Dask workers, 1 thread each": rate(
                configuration(hosts, small, folder / "two", **sizes), Workers(dask_local=CORES)
            ),
        }
    result["injections_per_second"] = rates
    if memory:
        result["peak_memory_mib"] = {str(n): peak_memory(n) for n in (10_000, 100_000)}
    if as_json:
        typer.echo(json.dumps(result))
        return
    _print(result)


def _print(result: dict[str, Any]) -> None:
    table = Table(title=f"{CORES} threads, batches of 16, 3 x {CUTOUT_SIZE} x {CUTOUT_SIZE}")
    for column in ("", "ms", "outside", "allowed", "goal", *(f"{name} loop" for name in LOOPS)):
        table.add_column(column, justify="right" if column else "left")
    for arch, row in result["networks"].items():
        table.add_row(
            arch,
            f"{row['seconds'] * 1e3:.2f}",
            f"{row['outside']:.0%}",
            f"{ALLOWED[arch]:.0%}",
            f"{GOAL[arch]:.0%}",
            *(
                f"{loop * 1e3:.0f} ms, {loop / row['seconds']:.1f} x"
                for loop in row["loops"].values()
            ),
        )
    console = Console()
    console.print(table)
    rates = pd.Series(result["injections_per_second"])
    console.print(f"injections per second: {', '.join(f'{k} {v:.0f}' for k, v in rates.items())}")
    console.print(
        f"the second over the first: {rates.iloc[1] / rates.iloc[0]:.2f} (expected 0.75 to 1.25)"
    )
    for count, peak in result.get("peak_memory_mib", {}).items():
        console.print(f"peak memory of {int(count):,} injections: {peak:.0f} MiB")


if __name__ == "__main__":
    typer.run(main)
