"""Small grids for tests that run them.

``python -m tests.dhs.selection.grid_runs CONFIG WORKERS`` runs one in a process that a test kills.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import torch
from pyarrow import parquet

from dhs import checkpoint
from dhs.model import LensFinder
from dhs.model.features import last_layer
from dhs.preprocess.spec import PreprocessSpec
from dhs.selection.config import GridConfig, read_grid_config
from dhs.selection.folder import FALSE_POSITIVES, INJECTIONS, NEGATIVES, SELECTION
from dhs.selection.run import Workers, run_grid
from tests.dhs.train.training_runs import SIDE, write_pack

SPEC = PreprocessSpec(annulus_r_in=10.4, annulus_r_out=14.4)
HOSTS = 40  # of 80 cutouts, half of them non-lenses
INVERSE_VARIANCE = 396.225  # depth 24.0
FILES = (
    *(INJECTIONS, NEGATIVES, f"{SELECTION}.parquet", f"{SELECTION}.csv"),
    *(FALSE_POSITIVES, "grid.json"),
)


def write_hosts(folder: Path, unit: bytes | None = None, **columns: Any) -> Path:
    """Write a pack with seeing and depth; ``columns`` replace columns of its manifest."""
    write_pack(folder, 2 * HOSTS, "made-up")
    table = parquet.read_table(folder / "manifest.parquet")
    frame = table.to_pandas()
    frame["psfsize_r"] = np.where(np.arange(2 * HOSTS) % 8 < 4, 1.2, 1.5)
    frame["psfdepth_r"] = INVERSE_VARIANCE
    frame["host_q"] = np.linspace(0.55, 0.95, 2 * HOSTS)
    changed = pyarrow.Table.from_pandas(frame.assign(**columns), preserve_index=False)
    changed = changed.replace_schema_metadata(table.schema.metadata)
    if unit is not None:
        place = changed.schema.get_field_index("psfdepth_r")
        field = changed.schema.field(place).with_metadata({b"unit": unit})
        changed = changed.set_column(place, field, changed["psfdepth_r"])
    parquet.write_table(changed, folder / "manifest.parquet")
    return folder


def write_model(
    path: Path, spec: PreprocessSpec = SPEC, side: int = SIDE, bias: float | None = None
) -> Path:
    torch.manual_seed(1)
    finder = LensFinder(spec, "bottlenecked_resnet", size=side, base_ch=2)
    if bias is not None:
        torch.nn.init.constant_(last_layer(finder).bias, bias)
    checkpoint.save(path, finder, config={}, metrics={}, data={"data_origin": "simulated"})
    return path


def grid(pack: Path, model: Path, out: Path, **changes: Any) -> GridConfig:
    """Configure two radii, two PSF widths, one depth: 5 shards of negatives, 10 of injections."""
    values: dict[str, Any] = {
        "checkpoint": str(model),
        "out_dir": str(out),
        "hosts": {"parquet_path": str(pack), "split": "all", "fewest_per_cell": 5},
        "theta_e": {"start": 0.8, "stop": 1.6, "step": 0.8},
        "psf_fwhm": {"start": 1.2, "stop": 1.5, "step": 0.3},
        "depth_5sig": {"start": 24.0, "stop": 24.0, "step": 1.0},
        "injections_per_cell": 20,
        "thresholds": [0.5],
        "fpr_targets": [0.25],
        "batch_size": 4,
        "shard_size": 8,
        "seed": 7,
    }
    for name, value in changes.pop("hosts", {}).items():
        values["hosts"][name] = value
    return GridConfig.model_validate(values | changes)


def bytes_of(out: Path) -> dict[str, bytes]:
    """Read the files that a grid has to reproduce byte for byte."""
    return {name: (out / name).read_bytes() for name in FILES if (out / name).exists()}


if __name__ == "__main__":
    run_grid(read_grid_config(sys.argv[1]), Workers(int(sys.argv[2])))
