"""What the files of a pack are called, and how one is told from damage.

A pack is a folder. ``shard-00000.npy``, ... hold cutouts, (N, 3, H, W) float32 in nanomaggies,
bands g, r, z. ``mask-00000.npy``, ..., bool and of the same shapes, lie beside them or not at all;
True is bad. ``manifest.parquet`` has one row per cutout; it is written last, so that a folder with
a manifest is complete. Its schema says under the key ``dhs`` where the cutouts are from.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dhs.manifest.format import PARTS
from fastnorm.io.cutout import named
from fastnorm.io.numpy_files import read_header

FLUX_UNIT = "nanomaggy"
MOST_SHARDS = 100_000


def shard_name(number: int) -> str:
    return f"shard-{number:05d}.npy"


def mask_name(shard: str) -> str:
    """The name of the masks that belong to a shard."""
    return shard.replace("shard", "mask")


def part_path(out: Path, shard: str) -> Path:
    """Where the rows of a finished shard are kept until all are finished."""
    return out / PARTS / Path(shard).with_suffix(".parquet")


def pixel_sha256(pixels: NDArray[np.float32]) -> str:
    """The checksum that a manifest gives: of the bytes of a cutout, little-endian."""
    return hashlib.sha256(np.ascontiguousarray(pixels, "<f4").data).hexdigest()


def mask_sha256(mask: NDArray[np.bool_]) -> str:
    return hashlib.sha256(np.ascontiguousarray(mask).data).hexdigest()


def open_stack(path: Path, dtype: str) -> NDArray[Any]:
    """Map a file of cutouts or masks into memory, to be read.

    Parameters
    ----------
    path : Path
    dtype : str
        ``"<f4"`` or ``"?"``.

    Returns
    -------
    (N, 3, H, W) memory-mapped array

    Raises
    ------
    OSError
        It cannot be opened.
    ValueError
        It is cut short, or of another dtype, order or number of axes.
    """
    with path.open("rb") as stream, named(path):
        shape, is_fortran, found = read_header(path, stream, os.fstat(stream.fileno()).st_size)
        offset = stream.tell()
    if found != np.dtype(dtype) or len(shape) != 4 or shape[1] != 3:
        raise ValueError(
            f"{path} has dtype {found} and shape {shape}; allowed are {np.dtype(dtype)} and "
            "(N, 3, rows, columns)."
        )
    if is_fortran:
        raise ValueError(f"{path} is in Fortran order; allowed is C order.")
    return np.memmap(path, found, "r", offset, shape)
