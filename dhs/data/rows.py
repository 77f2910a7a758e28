"""Raw cutouts by number, from the shards of a pack or from one file each.

Training, grids and scoring all read pixels and masks here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dhs.manifest.columns import MASK_PATH, Manifest
from dhs.manifest.paths import refuse_escapes
from dhs.pack import Pack
from dhs.pack.cutouts import Layout, MaskedCutout, check_layout, read_cutout
from dhs.pack.stack import StackFile
from fastnorm.io.maskbits import MaskBits

Rows = NDArray[np.int64]


class Source(Protocol):
    """Cutouts of one shape, in nanomaggies.

    Attributes
    ----------
    shape : (int, int, int)
        Number of bands, rows and columns.
    has_masks : bool
        True if the cutouts have masks.
    """

    shape: tuple[int, ...]
    has_masks: bool

    def read(
        self, rows: Rows, out: NDArray[np.float32], masks: NDArray[np.bool_] | None = None
    ) -> None:
        """Copy cutouts and masks into arrays, in the order of ``rows``.

        Parameters
        ----------
        rows : (B,) int64 array
            Rows of this source.
        out : (B, C, H, W) float32 array
            Array for the cutouts, in nanomaggies.
        masks : (B, C, H, W) bool array, optional
            Array for the masks, required if ``has_masks``. True marks a bad pixel.
        """


class PackRows:
    """Rows of a pack.

    Parameters
    ----------
    pack : Pack
    rows : (N,) int64, optional
        Rows of the manifest that become row 0, 1, ... of this source; by default all.
    """

    def __init__(self, pack: Pack, rows: Rows | None = None) -> None:
        chosen = slice(None) if rows is None else rows
        self._shards, self._masks = pack.shards, pack.masks or []
        self._shard, self._row = pack.shard_index[chosen], pack.row[chosen]
        self.shape: tuple[int, ...] = tuple(pack.cutout_shape)
        self.has_masks = pack.masks is not None

    def cutout(self, row: int) -> tuple[NDArray[np.float32], NDArray[np.bool_] | None]:
        """Read the pixels and the mask of one cutout, (C, H, W)."""
        shard, place = int(self._shard[row]), int(self._row[row])
        return self._shards[shard][place], self._masks[shard][place] if self.has_masks else None

    def read(
        self, rows: Rows, out: NDArray[np.float32], masks: NDArray[np.bool_] | None = None
    ) -> None:
        """Copy cutouts and masks into arrays, in the order of ``rows``.

        Parameters
        ----------
        rows : (B,) int64 array
            Rows of this source.
        out : (B, C, H, W) float32 array
            Array for the cutouts, in nanomaggies.
        masks : (B, C, H, W) bool array, optional
            Array for the masks, required if the pack has masks. True marks a bad pixel.
        """
        self._copy(self._shards, rows, out)
        if masks is not None:
            self._copy(self._masks, rows, masks)

    def _copy(self, stacks: Sequence[StackFile], rows: Rows, out: NDArray[Any]) -> None:
        shard, row = self._shard[rows], self._row[rows]
        # Read in disk order; each cutout is copied once, to its final place.
        order = np.lexsort((row, shard))
        first = np.flatnonzero(np.diff(shard[order], prepend=-1))
        for places in np.split(order, first[1:]) if len(order) else ():
            stacks[shard[places[0]]].read(row[places].tolist(), out, places.tolist())


class Files:
    """The cutout files of a manifest, one cutout of any shape per file.

    Parameters
    ----------
    manifest : Manifest
    folder : Path
        Folder that relative paths start from.
    column : str
        Column of the files.
    key : str
        Name of the setting that chose the column, for messages.
    mask_bits : MaskBits
        MASKBITS that make a pixel of a FITS file bad.

    Attributes
    ----------
    paths : list of str
    masks : list of (str or None)
        Mask files, in addition to the masks in the cutouts' own files.

    Raises
    ------
    ValueError
        A path is missing or leads out of the folder.
    """

    def __init__(
        self,
        manifest: Manifest,
        folder: Path,
        column: str,
        key: str,
        mask_bits: MaskBits = MaskBits(),  # noqa: B008
    ) -> None:
        self.folder, self._mask_bits = folder, mask_bits
        self.paths = manifest.files(column, key)
        table = manifest.table
        masks = table[MASK_PATH].tolist() if MASK_PATH in table else [None] * len(table)
        self.masks = [None if pd.isna(mask) or mask == "" else str(mask) for mask in masks]
        refuse_escapes(manifest.name, column, self.paths)
        refuse_escapes(manifest.name, MASK_PATH, self.masks)

    def path(self, row: int) -> Path:
        """Return the path of the file of one cutout."""
        return self.folder / self.paths[row]

    def cutout(self, row: int) -> MaskedCutout:
        """Read one cutout.

        Raises
        ------
        CutoutError
            A file cannot be read, or the mask does not fit.
        """
        return read_cutout(self.folder, self.paths[row], self.masks[row], self._mask_bits)


class FileRows:
    """Rows of `Files` whose cutouts all have the same shape.

    Parameters
    ----------
    files : Files
    rows : (N,) int64
        Files that become row 0, 1, ... of this source.

    Raises
    ------
    CutoutError
        The first file cannot be read.
    """

    def __init__(self, files: Files, rows: Rows) -> None:
        self._files, self._rows = files, rows
        first = files.cutout(rows[0])
        _, height, width = first.pixels.shape
        self._layout = Layout((height, width), first.mask is not None, files.paths[rows[0]])
        self.shape: tuple[int, ...] = first.pixels.shape
        self.has_masks = self._layout.has_masks

    def read(
        self, rows: Rows, out: NDArray[np.float32], masks: NDArray[np.bool_] | None = None
    ) -> None:
        """Copy cutouts and masks into arrays, in the order of ``rows``.

        Parameters
        ----------
        rows : (B,) int64 array
            Rows of this source.
        out : (B, C, H, W) float32 array
            Array for the cutouts, in nanomaggies.
        masks : (B, C, H, W) bool array, optional
            Array for the masks, required if the cutouts have masks. True marks a bad pixel.

        Raises
        ------
        CutoutError
            A file cannot be read, or its cutout differs from the first one in size or in having
            a mask.
        """
        for place, row in enumerate(self._rows[rows].tolist()):
            found = self._files.cutout(row)
            check_layout(found, self._layout, self._files.path(row))
            out[place] = found.pixels
            if masks is not None:
                masks[place] = found.mask
