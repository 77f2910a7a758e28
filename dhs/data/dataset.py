"""Datasets of labelled cutouts, opened from the sections of a training configuration."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from dhs.data.config import DatasetConfig, SplitConfig
from dhs.data.rows import FileRows, Files, PackRows, Source
from dhs.device import copies
from dhs.manifest.columns import MASK_PATH, Manifest, rows_fingerprint, with_ids
from dhs.manifest.splits import SPLITS
from dhs.pack import MANIFEST, Pack, open_pack, read_manifest
from fastnorm.io.maskbits import MaskBits

STAGED = 1024
"""Cutouts copied to a device at a time: 125 MB for 101 x 101 pixels."""


class LensDataset:
    """The cutouts of one split, with labels.

    Parameters
    ----------
    config : DatasetConfig
        Section ``dataset`` of a configuration.
    split : str or None
        ``train``, ``val`` or ``test``. None means ``split_config.split_value``, or all cutouts if
        that is None, too.
    split_config : SplitConfig
        Section ``split`` of a configuration.

    Attributes
    ----------
    table : pandas.DataFrame
        Rows of the split.
    labels : (N,) float32 array
        0 or 1.
    weights : (N,) float32 array or None
        Sample weights.
    ids : (N,) array of str
        Ids of the cutouts.
    shape : (int, int, int)
        Number of bands, rows and columns of a cutout.
    size : int
        Side of the cutouts in pixels.
    data_origin : str
        Origin of the cutouts.
    mask_bits : MaskBits
        Bits of MASKBITS that mark bad pixels of FITS files.
    fingerprint : str
        The sha256 of ids, labels, weights, pixels and masks of the split. Without a pack, the paths
        replace pixels and masks.

    Raises
    ------
    TypeError
        ``split`` is a section, not a name.
    ValueError
        A setting is invalid; the two splits contradict each other; a column is missing; a label, id
        or weight is invalid; an object is in two splits; the split is empty; the cutouts are not
        square; or the pack is incomplete.
    CutoutError
        A file cannot be read.
    """

    def __init__(
        self,
        config: DatasetConfig,
        split: str | None = None,
        split_config: SplitConfig = SplitConfig(),  # noqa: B008
    ) -> None:
        if isinstance(split, SplitConfig):
            raise TypeError(
                "split is a SplitConfig; give the section as split_config=, and as split the name "
                "of a split, or None."
            )
        if split is not None and split not in SPLITS:
            raise ValueError(f"split={split!r} is not known; use one of {', '.join(SPLITS)}.")
        config, split_config = config.checked(), split_config.checked()
        if split is not None and split_config.split_value not in (None, split):
            raise ValueError(
                f"split={split!r} contradicts split_value={split_config.split_value!r}; leave one "
                "of them out."
            )
        split = split or split_config.split_value
        self.config, self.split = config, split
        self.name = config.parquet_path if config.mode == "pack" else config.manifest_path
        table, metadata, pack = _open(config)
        manifest = Manifest(table, self.name)
        self.data_origin = self._origin(metadata)
        self.mask_bits = MaskBits.parse(metadata.get("mask_bits") or str(MaskBits()))
        labels, ids = manifest.labels(config.label_col), manifest.ids()
        weights_col = config.sample_weight_col
        weights = manifest.weights(weights_col) if weights_col else None
        splits = manifest.splits(**split_config.model_dump(exclude={"split_value"}))
        chosen = np.arange(len(table)) if split is None else np.flatnonzero(splits == split)
        if not chosen.size:
            raise ValueError(f"{self.name} has no cutouts{f' in {split!r}' if split else ''}.")
        self.table = table.iloc[chosen].reset_index(drop=True)
        self.labels, self.ids = labels[chosen], ids[chosen]
        self.weights = None if weights is None else weights[chosen]
        self._source: Source
        if pack is not None:
            self._source = PackRows(pack, chosen)
        else:
            folder = Path(config.manifest_path).parent
            if MASK_PATH in table:
                manifest.files(MASK_PATH, "the masks")
            files = Files(manifest, folder, config.cutout_path_col, "cutout_path_col")
            self._source = FileRows(files, chosen)
        self.shape = self._source.shape
        self.size = self.shape[-1]
        if self.shape[-2] != self.size:
            raise ValueError(f"{self.name} has cutouts of {self.shape}; they must be square.")
        self.fingerprint = self._fingerprint()

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, rows: ArrayLike, *, out: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Read raw cutouts in the given order.

        Parameters
        ----------
        rows : (B,) integer array
            Positions in the split; a position may occur several times.
        out : (B, 3, H, W) contiguous float32 tensor on the CPU, optional
            Memory for the images. Allocating fresh memory takes as long as the copy.

        Returns
        -------
        images : (B, 3, H, W) float32 tensor
            Cutouts in nanomaggies; ``out`` if it is given.
        mask : (B, 3, H, W) bool tensor, or None
            True marks a bad pixel.

        Raises
        ------
        CutoutError
            A file cannot be read.
        TypeError, ValueError
            ``rows`` are not positions in this split, or ``out`` does not fit them.
        """
        wanted = self._positions(rows)
        shape = (len(wanted), *self.shape)
        images = torch.empty(shape, dtype=torch.float32, device="cpu") if out is None else out
        found = (images.shape, images.dtype, images.device.type, images.is_contiguous())
        if found != (shape, torch.float32, "cpu", True):
            raise ValueError(
                f"out is {images.dtype} {tuple(images.shape)} with strides {images.stride()} on "
                f"{images.device}; these rows need contiguous float32 {shape} on the CPU."
            )
        if not self._source.has_masks:
            self._source.read(wanted, images.numpy())
            return images, None
        mask = torch.empty(shape, dtype=torch.bool, device="cpu")
        self._source.read(wanted, images.numpy(), mask.numpy())
        return images, mask

    def _positions(self, rows: ArrayLike) -> NDArray[np.int64]:
        wanted = np.asarray(rows)
        if wanted.ndim != 1 or (wanted.size and wanted.dtype.kind not in "iu"):
            raise TypeError(
                f"rows has dtype {wanted.dtype} and shape {wanted.shape}; expected integers of "
                "shape (B,)."
            )
        wrong = wanted[(wanted < 0) | (wanted >= len(self))]
        if wrong.size:
            raise ValueError(f"rows has {wrong[0]}; positions are 0 to {len(self) - 1}.")
        return wanted.astype(np.int64)

    def resident(self, device: torch.device) -> tuple[Tensor, Tensor | None]:
        """Copy all cutouts and masks of the split to a device.

        Returns
        -------
        images : (N, 3, H, W) float32 tensor
            Cutouts in nanomaggies.
        mask : (N, 3, H, W) bool tensor, or None
            True marks a bad pixel.

        Raises
        ------
        CutoutError
            A file cannot be read.
        ValueError
            The GPU has too little free memory.
        """
        count, is_gpu = len(self), device.type == "cuda"
        shape = (count, *self.shape)
        if is_gpu:
            needed = math.prod(shape) * (5 if self._source.has_masks else 4)
            free = torch.cuda.mem_get_info(device)[0]
            if needed > free:
                raise ValueError(
                    f"resident=True: the {count} cutouts take {needed / 1e9:.1f} GB, but {device} "
                    f"has only {free / 1e9:.1f} GB free; set dataset.resident=false."
                )
        images = torch.empty(shape, dtype=torch.float32, device=device)
        bad = (
            torch.empty(shape, dtype=torch.bool, device=device) if self._source.has_masks else None
        )
        stage = copies.stage((min(count, STAGED), *shape[1:]), torch.float32, device)
        for start in range(0, count, STAGED):
            rows = np.arange(start, min(start + STAGED, count))
            part, mask = self.read(rows, out=stage[: len(rows)])
            images[start : start + len(rows)] = part
            if bad is not None and mask is not None:
                bad[start : start + len(rows)] = mask
        return images, bad

    def _origin(self, metadata: dict[str, Any]) -> str:
        theirs, ours = str(metadata.get("data_origin") or ""), self.config.data_origin
        if theirs and ours and theirs != ours:
            raise ValueError(
                f"data_origin={ours!r} contradicts {self.name}, which has {theirs!r}; remove it."
            )
        if not (theirs or ours):
            raise ValueError(
                f"{self.name} does not state where its cutouts come from; set dataset.data_origin "
                "to survey and release."
            )
        return theirs or ours

    def _fingerprint(self) -> str:
        pixels = "sha256" if "sha256" in self.table else self.config.cutout_path_col
        columns = [self.ids, self.labels.astype(int), self.table[pixels]]
        columns += [self.table[name] for name in ("mask_sha256",) if name in self.table]
        if self.weights is not None:
            columns.append(self.weights)
        return rows_fingerprint(*columns)


def _open(config: DatasetConfig) -> tuple[pd.DataFrame, dict[str, Any], Pack | None]:
    if config.mode == "pack":
        path = Path(config.parquet_path)
        pack = open_pack(path.parent if path.name == MANIFEST else path)
        return pack.table, pack.metadata, pack
    table, metadata = read_manifest(config.manifest_path)
    Manifest(table, config.manifest_path).column(config.cutout_path_col, "cutout_path_col")
    table = with_ids(table, config.manifest_path, config.cutout_path_col)
    return table, metadata, None
