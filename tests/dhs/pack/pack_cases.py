"""A small manifest of cutouts with masks, and helpers that pack it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
from astropy.io import fits
from pyarrow import parquet
from typer.testing import Result

from dhs.commands import pack as command
from dhs.pack import PackResult, write_pack
from tests.command_line import invoke

PLANE = (6, 5)
N, PER_SHARD = 20, 6
SHARD_BYTES = PER_SHARD * 3 * 6 * 5 * 4
STACK = np.random.default_rng(3).normal(0, 1, (N, 3, *PLANE)).astype(np.float32)
MASKS = np.random.default_rng(4).random(STACK.shape) < 0.2
NAMES = [f"c{(7 * k) % N:02d}{'.fits' if k % 5 == 4 else '.npy'}" for k in range(N)]


def write_cutouts(folder: Path) -> Path:
    """Write twenty cutouts with masks and positions, not in the order of their names."""
    for name, image, mask in zip(NAMES, STACK, MASKS, strict=True):
        if name.endswith(".fits"):
            fits.PrimaryHDU(image).writeto(folder / name)
        else:
            np.save(folder / name, image)
        np.save(folder / f"mask-{name}.npy", mask)
    table = {
        "cutout_path": NAMES,
        "mask_path": [f"mask-{name}.npy" for name in NAMES],
        "label": [k % 2 for k in range(N)],
        "ra": [10.3 + k // 2 for k in range(N)],
        "dec": [0.0] * N,
        "note": [f"note {k}" for k in range(N)],
    }
    path = folder / "cutouts.parquet"
    parquet.write_table(pyarrow.table(table), path)
    return path


def make(manifest: Path, out: str = "pack", **options: Any) -> PackResult:
    given: dict[str, Any] = {"data_origin": "made-up", "shard_bytes": SHARD_BYTES} | options
    return write_pack(manifest, manifest.parent / out, **given)


def run(*arguments: object) -> Result:
    return invoke(command.app, *arguments)


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
