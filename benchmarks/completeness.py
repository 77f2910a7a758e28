"""Time the table of a grid: completeness and its intervals from the injections.

Run as ``python -m benchmarks.completeness``. The grid has 220 cells, two false-positive rates and
a given score, 20,000 non-lenses of which every one is a host, and 110,000 injections. Intervals
need no resampling: limits of the threshold come from order statistics, and hosts are summed. The
second size shows that memory does not grow with the number of injections.
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
import pyarrow
import typer
from pyarrow import parquet

from benchmarks.memory import peak_bytes
from dhs.selection.completeness import selection_function
from dhs.selection.config import GridConfig
from dhs.selection.host_sums import Negatives
from dhs.statistics.thresholds import find_thresholds

CELLS = 220
NON_LENSES = 20_000
USUAL, LARGE = 110_000, 1_100_000
ALLOWED_SECONDS = 20.0


def configuration(folder: Path, injections: int) -> GridConfig:
    return GridConfig.model_validate(
        {
            "checkpoint": "model",
            "out_dir": str(folder),
            "hosts": {"parquet_path": "survey"},
            "psf_fwhm": {"start": 1.05, "stop": 1.5, "step": 0.15},
            "thresholds": [0.5],
            "injections_per_cell": injections // CELLS,
        }
    )


def write_injections(path: Path, injections: int, rng: np.random.Generator) -> None:
    """Write injections cell by cell; the cells of one PSF and depth share a 20th of the hosts."""
    per_cell, pool = injections // CELLS, NON_LENSES // 20
    writer = None
    for cell in range(CELLS):
        host = np.resize(rng.permutation(pool), per_cell) + cell % 20 * pool
        logit = rng.normal(-1, 2, per_cell).astype(np.float32)
        magnitude = rng.uniform(23, 26, per_cell)
        table = pyarrow.table(
            {
                "cell": np.full(per_cell, cell, np.int32),
                "host_row": host,
                "source_r_mag": magnitude,
                "lensed_r_mag": magnitude - 1.5,
                "logit": logit,
                "score": 1 / (1 + np.exp(-logit.astype(np.float64))),
                "arc_snr_r": rng.uniform(1, 50, per_cell),
                "failure": [""] * per_cell,
            }
        )
        writer = writer or parquet.ParquetWriter(path, table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()


def measure(injections: int) -> dict[str, float]:
    """Return seconds per table, and the peak resident memory of this process, MiB."""
    rng = np.random.default_rng(1)
    logits = rng.normal(-5, 1.3, NON_LENSES).astype(np.float32)
    negatives = Negatives(np.arange(NON_LENSES), logits)
    with TemporaryDirectory() as name:
        path = Path(name) / "injections.parquet"
        config = configuration(Path(name), injections)
        assert len(config.cells()) == CELLS
        write_injections(path, injections, rng)
        thresholds = find_thresholds(config.thresholds, config.fpr_targets, logits)
        started = time.perf_counter()
        table = selection_function(path, config, thresholds, negatives)
        seconds = time.perf_counter() - started
    assert int(table.loc[table["source_mag_bin"] == "all", "n_injections"].sum()) == injections * 3
    peak = peak_bytes() / 2**20
    return {"injections": injections, "rows": len(table), "seconds": seconds, "peak_mib": peak}


def main(
    only: Annotated[int | None, typer.Option(hidden=True)] = None,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    if only is not None:
        typer.echo(json.dumps(measure(only)))
        return
    found: list[dict[str, Any]] = []
    for injections in (USUAL, LARGE):
        command = [sys.executable, "-m", "benchmarks.completeness", "--only", str(injections)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found.append(json.loads(done.stdout))
    if as_json:
        typer.echo(json.dumps(found))
        return
    for row in found:
        typer.echo(
            f"{row['injections']:,} injections: {row['rows']:,} rows in {row['seconds']:.1f} s "
            f"({ALLOWED_SECONDS:.0f} s allowed for {USUAL:,}), peak memory {row['peak_mib']:.0f} "
            "MiB"
        )


if __name__ == "__main__":
    typer.run(main)
