"""File format of a pack, and checks of its files.

A pack is a folder. ``shard-00000.npy``, ... contain cutouts, (N, 3, H, W) float32 in nanomaggies,
bands g, r, z. ``mask-00000.npy``, ... are optional, bool, and have the same shapes; True is bad.
``manifest.parquet`` has one row per cutout. It is written last, so a folder with a manifest is
complete. The key ``dhs`` of its schema records the origin of the cutouts.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dhs.manifest.format import PARTS
from dhs.pack.stack import StackFile
from fastnorm.io.cutout import named
from fastnorm.io.numpy_files import read_header
from fastnorm.paths import open_file

FLUX_UNIT = "nanomaggy"
MOST_SHARDS = 100_000


def shard_name(number: int) -> str:
    """Return the file name of a shard."""
    return f"shard-{number:05d}.npy"


def mask_name(shard: str) -> str:
    """Return the file name of the masks of a shard."""
    return shard.replace("shard", "mask")


def part_path(out: Path, shard: str) -> Path:
    """Return the file with the rows of a finished shard, kept until all shards are finished."""
    return out / PARTS / Path(shard).with_suffix(".parquet")


def pixel_sha256(pixels: NDArray[np.float32]) -> str:
    """Return the SHA-256 of a cutout's little-endian bytes, as in a manifest."""
    return hashlib.sha256(np.ascontiguousarray(pixels, "<f4").data).hexdigest()


def mask_sha256(mask: NDArray[np.bool_]) -> str:
    """Return the SHA-256 of a mask's bytes, as in a manifest."""
    return hashlib.sha256(np.ascontiguousarray(mask).data).hexdigest()


def open_stack(path: Path, dtype: str) -> StackFile:
    """Open a file of cutouts or masks for reading.

    Parameters
    ----------
    path : Path
        File to open.
    dtype : str
        ``"<f4"`` for cutouts or ``"?"`` for masks.

    Returns
    -------
    StackFile
        Of shape (N, 3, H, W).

    Raises
    ------
    OSError
        The file cannot be opened.
    ValueError
        The file is truncated, or has a different dtype, order or number of axes.
    """
    with named(path), open_file(path) as stream:
        shape, is_fortran, found = read_header(path, stream, os.fstat(stream.fileno()).st_size)
        offset = stream.tell()
    if found != np.dtype(dtype) or len(shape) != 4 or shape[1] != 3:
        raise ValueError(
            f"{path} has dtype {found} and shape {shape}; expected {np.dtype(dtype)} and "
            "(N, 3, rows, columns)."
        )
    if is_fortran:
        raise ValueError(f"{path} is in Fortran order; expected C order.")
    return StackFile(path, found, offset, shape)
