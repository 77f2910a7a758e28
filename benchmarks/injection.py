"""Time rendering of lensed sources against lenstronomy and caustics (``make bench-injection``).

All contenders render the same draws from the priors, interleaved in one run. The table shows the
error relative to 32 x 32 sub-pixels next to the time, because speed without accuracy means nothing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

import fastnorm
from benchmarks.lens_peers import caustics_renderer, lenstronomy_renderer
from benchmarks.lens_truth import truth
from benchmarks.memory import peak_bytes
from benchmarks.timing import Case, time_interleaved
from dhs.constants import BANDS, CUTOUT_SIZE
from dhs.injection import (
    PSF,
    LensParams,
    SourceParams,
    inject,
    render,
    sample_lens_params,
    sample_source_params,
)

DRAWS = 64
THETA_E_RANGE = (0.5, 3.0)
SUB_PIXELS = {"usual": 4, "equal accuracy": 16}
PEERS = {"lenstronomy": lenstronomy_renderer, "caustics": caustics_renderer}
FEW = 4  # draws per round for a slow contender
STREAM_BATCH = 256
Images = NDArray[np.float32]


class Contender(NamedTuple):
    """A renderer: ``run`` renders the first ``draws`` draws, ``render_all`` all, for comparison."""

    name: str
    kind: str
    draws: int
    run: Callable[[], object]
    render_all: Callable[[], Images]


def draws(count: int, seed: int = 0) -> tuple[LensParams, SourceParams]:
    """Draw lenses and sources of flux 1 from the priors, Einstein radii uniform in 0.5-3 arcsec."""
    rng = np.random.default_rng(seed)
    theta_e = rng.uniform(*THETA_E_RANGE, count)
    lens, source = sample_lens_params(rng, theta_e), sample_source_params(rng, theta_e)
    fields = source.arrays() | {f"flux_nmgy_{band}": 1.0 for band in BANDS}
    return lens, SourceParams(**fields)


def contenders(lens: LensParams, source: SourceParams) -> list[Contender]:
    """Return our renderer in one and three bands, and both peers at two samplings."""

    def ours(bands: tuple[str, ...], out: Images) -> Images:
        return render(lens, source, bands=bands, out=out)[:, 0]

    found = []
    for count in (1, 3):
        out = np.zeros((DRAWS, count, CUTOUT_SIZE, CUTOUT_SIZE), np.float32)
        run = partial(ours, BANDS[:count], out)
        found.append(Contender(f"dhs, {count} band{'s' * (count > 1)}", "ours", DRAWS, run, run))
    everything = np.arange(DRAWS)
    for label, side in SUB_PIXELS.items():
        few = DRAWS if side <= SUB_PIXELS["usual"] else FEW
        for peer, renderer in PEERS.items():
            if find_spec(peer) is None:
                continue
            draw = renderer(lens, source, side)
            name = f"{peer}, {side} x {side} ({label})"
            run_few, run_all = partial(draw, everything[:few]), partial(draw, everything)
            found.append(Contender(name, peer, few, run_few, run_all))
    return found


def worst_error(images: Images, expected: NDArray[np.float64]) -> float:
    """Return the largest difference of all draws, in units of the brightest pixel of each."""
    peak = expected.max(axis=(1, 2), keepdims=True)
    return float((np.abs(images - expected) / peak).max())


def report(
    found: list[Contender], seconds: dict[str, list[float]], errors: dict[str, float]
) -> Table:
    """Return a table with one line per contender: time per image, ratio, and worst error."""
    each = {c.name: float(np.median(seconds[c.name])) / c.draws for c in found}
    ours = each[found[0].name]
    rounds = len(seconds[found[0].name])
    table = Table(
        title=f"{DRAWS} draws, 101 x 101 pixels, before the PSF; median of {rounds} rounds"
    )
    for heading in ("", "us / image", "25-75 %", "x dhs, 1 band", "worst error, % of peak"):
        table.add_column(heading, justify="left" if not heading else "right")
    for c in found:
        low, high = np.percentile(seconds[c.name], [25, 75]) / c.draws * 1e6
        table.add_row(
            c.name,
            f"{each[c.name] * 1e6:.1f}",
            f"{low:.1f}-{high:.1f}",
            f"{each[c.name] / ours:.2f}",
            f"{100 * errors[c.name]:.2f}",
        )
    return table


def stream(count: int, console: Console) -> dict[str, Any]:
    """Inject ``count`` arcs batch by batch, and measure the memory of the process."""
    rng = np.random.default_rng(1)
    shape = (STREAM_BATCH, 3, CUTOUT_SIZE, CUTOUT_SIZE)
    hosts = (0.01 * rng.standard_normal(shape)).astype(np.float32)
    psf = PSF.moffat(1.3)
    peaks, started = [], time.perf_counter()
    batches = range(0, count, STREAM_BATCH)
    for first in track(batches, "injecting", console=console, transient=True):
        size = min(STREAM_BATCH, count - first)
        theta_e = rng.uniform(*THETA_E_RANGE, size)
        lens, source = sample_lens_params(rng, theta_e), sample_source_params(rng, theta_e)
        inject(hosts[:size], lens, source, psf, seed=1, ids=np.arange(first, first + size))
        peaks.append(peak_bytes() / 2**20)
    seconds = time.perf_counter() - started
    tenth = max(1, len(peaks) // 10)
    return {
        "injections": count,
        "seconds": seconds,
        "milliseconds_per_injection": 1e3 * seconds / count,
        "peak_mib_after_a_tenth": peaks[tenth - 1],
        "peak_mib_at_the_end": peaks[-1],
    }


def main(
    rounds: Annotated[int, typer.Option(min=3)] = 9,
    threads: Annotated[int, typer.Option(min=1)] = 2,
    stream_count: Annotated[
        int, typer.Option("--stream", min=0, help="Inject this many arcs instead.")
    ] = 0,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all numbers.")] = None,
) -> None:
    """Time the renderer and its peers on the same draws, or measure the memory of a stream."""
    console = Console(width=110)
    torch.set_num_threads(threads)
    fastnorm.set_num_threads(threads)
    results: dict[str, Any]
    if stream_count:
        results = stream(stream_count, console)
        console.print(results)
    else:
        lens, source = draws(DRAWS)
        found = contenders(lens, source)
        expected = truth(lens, source, console)
        errors = {
            c.name: worst_error(c.render_all(), expected)
            for c in track(found, "comparing", console=console, transient=True)
        }
        cases = [Case(c.name, c.kind, c.run) for c in found]
        seconds = time_interleaved(cases, rounds, console)
        results = {"seconds": seconds, "errors": errors}
        console.print(report(found, seconds, errors))
        console.print(
            f"{threads} threads for dhs and caustics (torch, vmap, float32); lenstronomy uses one. "
            "Both peers render one band, with radii that make their profiles equal ours."
        )
        for peer in PEERS:
            if find_spec(peer) is None:
                console.print(f"Skipped: {peer} is not installed (pip install {peer})")
    if json_file is not None:
        json_file.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    typer.run(main)
