"""Raw cutouts by number: from the memory-mapped shards of a pack, or from one file each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dhs.pack import Pack
from fastnorm.io import CutoutError, read_cutouts

Rows = NDArray[np.int64]


class Source(Protocol):
    """Cutouts of one shape, in nanomaggies.

    Attributes
    ----------
    shape : (int, int, int)
        Bands, rows and columns.
    has_masks : bool
    """

    shape: tuple[int, ...]
    has_masks: bool

    def read(self, rows: Rows, out: NDArray[np.float32]) -> None:
        """Copy cutouts into ``out``, (B, C, H, W), in the order of ``rows``."""

    def read_masks(self, rows: Rows, out: NDArray[np.bool_]) -> None:
        """Copy masks likewise; True means bad."""


class PackRows:
    """Rows of a pack.

    Parameters
    ----------
    pack : Pack
    rows : (N,) int64
        Those of the manifest that row 0, 1, ... of this source are.
    """

    def __init__(self, pack: Pack, rows: Rows) -> None:
        # Plain and flat: to slice a numpy.memmap costs half as much as to copy the cutout.
        self._shards = [_flat(shard) for shard in pack.shards]
        self._masks = [_flat(mask) for mask in pack.masks or ()]
        self._shard, self._row = pack.shard_index[rows], pack.row[rows]
        self.shape: tuple[int, ...] = tuple(pack.cutout_shape)
        self.has_masks = pack.masks is not None

    def read(self, rows: Rows, out: NDArray[np.float32]) -> None:
        self._copy(self._shards, rows, out)

    def read_masks(self, rows: Rows, out: NDArray[np.bool_]) -> None:
        self._copy(self._masks, rows, out)

    def _copy(self, stacks: Sequence[NDArray[Any]], rows: Rows, out: NDArray[Any]) -> None:
        shard, row = self._shard[rows], self._row[rows]
        order, flat = np.lexsort((row, shard)), _flat(out)
        # In the order of the disk, each to its place: one copy of every cutout.
        for place, k, source in zip(
            order.tolist(), shard[order].tolist(), row[order].tolist(), strict=True
        ):
            flat[place] = stacks[k][source]


def _flat(stack: NDArray[Any]) -> NDArray[Any]:
    """A view of (N, C, H, W) as (N, C * H * W)."""
    return np.asarray(stack).reshape(len(stack), math.prod(stack.shape[1:]))


class FileRows:
    """Cutouts of one file each.

    Parameters
    ----------
    paths : sequence of Path

    Raises
    ------
    CutoutError
        The first file cannot be read.
    """

    has_masks = False

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self.shape: tuple[int, ...] = self._pixels(0).shape

    def read(self, rows: Rows, out: NDArray[np.float32]) -> None:
        for place, row in enumerate(rows.tolist()):
            pixels = self._pixels(row)
            if pixels.shape != self.shape:
                raise CutoutError(
                    self._paths[row],
                    f"has shape {pixels.shape}; the cutouts of this dataset have {self.shape}.",
                )
            out[place] = pixels

    def read_masks(self, rows: Rows, out: NDArray[np.bool_]) -> None:
        out.fill(False)

    def _pixels(self, row: int) -> NDArray[np.float32]:
        path = self._paths[row]
        cutouts = list(read_cutouts(path))
        if len(cutouts) != 1:
            raise CutoutError(path, f"holds {len(cutouts)} cutouts; allowed is one per file.")
        return cutouts[0].pixels
