"""Raw cutouts by number: from the memory-mapped shards of a pack, or from one file each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dhs.pack import Pack
from dhs.pack.cutouts import Layout, MaskedCutout, check_layout, read_cutout

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

    def read(
        self, rows: Rows, out: NDArray[np.float32], masks: NDArray[np.bool_] | None = None
    ) -> None:
        """Copy cutouts into ``out``, (B, C, H, W), in the order of ``rows``.

        And masks likewise, True means bad, into ``masks``, which is given where there are any.
        """


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

    def read(
        self, rows: Rows, out: NDArray[np.float32], masks: NDArray[np.bool_] | None = None
    ) -> None:
        self._copy(self._shards, rows, out)
        if masks is not None:
            self._copy(self._masks, rows, masks)

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
    folder : Path
        Where relative paths start.
    cutouts : sequence of str
        Files.
    masks : sequence of str, optional
        Theirs, beside what their own files say.

    Raises
    ------
    CutoutError
        The first file cannot be read.
    """

    def __init__(
        self, folder: Path, cutouts: Sequence[str], masks: Sequence[str] | None = None
    ) -> None:
        self._folder, self._cutouts, self._masks = folder, cutouts, masks
        first = self._read(0)
        _, height, width = first.pixels.shape
        self._layout = Layout((height, width), first.mask is not None, cutouts[0])
        self.shape: tuple[int, ...] = first.pixels.shape
        self.has_masks = self._layout.has_masks

    def read(
        self, rows: Rows, out: NDArray[np.float32], masks: NDArray[np.bool_] | None = None
    ) -> None:
        for place, row in enumerate(rows.tolist()):
            found = self._read(row)
            check_layout(found, self._layout, self._folder / self._cutouts[row])
            out[place] = found.pixels
            if masks is not None:
                masks[place] = found.mask

    def _read(self, row: int) -> MaskedCutout:
        return read_cutout(
            self._folder, self._cutouts[row], self._masks[row] if self._masks else None
        )
