"""Labelled cutouts: what a training configuration says of them, and the pixels behind it."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from dhs.data.config import DatasetConfig, SplitConfig
from dhs.data.rows import FileRows, PackRows, Source
from dhs.manifest.columns import ID, Manifest
from dhs.manifest.paths import refuse_escapes
from dhs.manifest.splits import SPLITS
from dhs.pack import MANIFEST, Pack, open_pack, read_manifest
from fastnorm.io.maskbits import MaskBits

MASK_PATH = "mask_path"
STAGED = 1024
"""Cutouts on their way to a device at a time: 125 MB of 101 x 101 pixels."""


class LensDataset:
    """The cutouts of one split, with labels.

    Parameters
    ----------
    config : DatasetConfig
    split : str or None
        ``train``, ``val``, ``test``, or None for all.
    split_config : SplitConfig

    Attributes
    ----------
    table : pandas.DataFrame
        Rows of the split.
    labels : (N,) float32
    weights : (N,) float32 or None
    ids : (N,) array of str
    shape : (int, int, int)
        Of a cutout: bands, rows, columns.
    size : int
        Side of the cutouts, in pixels.
    data_origin : str
    mask_bits : MaskBits
        Which of MASKBITS made a pixel of a FITS file bad.
    fingerprint : str
        The sha256 over ids, labels, weights, pixels and masks of the split; over the paths instead
        of pixels and masks where there is no pack.

    Raises
    ------
    ValueError
        A column is missing, a label is neither 0 nor 1, an id is there twice, a weight is no
        weight, something is in two splits, or the split is empty; the cutouts are no squares, or
        the pack is not whole.
    CutoutError
        A file cannot be read.
    """

    def __init__(
        self,
        config: DatasetConfig,
        split: str | None,
        split_config: SplitConfig = SplitConfig(),  # noqa: B008
    ) -> None:
        if split is not None and split not in SPLITS:
            raise ValueError(f"split={split!r} is not known; allowed are {', '.join(SPLITS)}.")
        self.config, self.split = config, split
        self.name = config.parquet_path if config.mode == "pack" else config.manifest_path
        table, metadata, pack = _open(config)
        manifest = Manifest(table, self.name)
        self.data_origin = self._origin(metadata)
        self.mask_bits = MaskBits.parse(metadata.get("mask_bits") or str(MaskBits()))
        labels, ids = manifest.labels(config.label_col), manifest.ids()
        weights_col = config.sample_weight_col
        weights = manifest.weights(weights_col) if weights_col else None
        splits = manifest.splits(**split_config.model_dump())
        chosen = np.arange(len(table)) if split is None else np.flatnonzero(splits == split)
        if not chosen.size:
            raise ValueError(f"{self.name} holds no cutouts{f' of {split!r}' if split else ''}.")
        self.table = table.iloc[chosen].reset_index(drop=True)
        self.labels, self.ids = labels[chosen], ids[chosen]
        self.weights = None if weights is None else weights[chosen]
        self._source: Source
        if pack is not None:
            self._source = PackRows(pack, chosen)
        else:
            start = Path(config.manifest_path).parent
            paths = manifest.column(config.cutout_path_col, "cutout_path_col")
            refuse_escapes(self.name, config.cutout_path_col, paths)
            masks = None
            if MASK_PATH in table:
                whole = manifest.column(MASK_PATH, "the masks")
                refuse_escapes(self.name, MASK_PATH, whole)
                masks = whole.iloc[chosen].tolist()
            self._source = FileRows(start, paths.iloc[chosen].tolist(), masks)
        self.shape = self._source.shape
        self.size = self.shape[-1]
        if self.shape[-2] != self.size:
            raise ValueError(f"{self.name} holds cutouts of {self.shape}; allowed are squares.")
        self.fingerprint = self._fingerprint()

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, rows: ArrayLike, *, out: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Raw cutouts, in the order asked for.

        Parameters
        ----------
        rows : (B,) integers
            Positions in the split, repeats allowed.
        out : (B, 3, H, W) contiguous float32 tensor on the CPU, optional
            Where to put the images; fresh memory costs as much as the copy.

        Returns
        -------
        images : (B, 3, H, W) float32
            In nanomaggies; ``out`` if that is given.
        mask : (B, 3, H, W) bool, or None
            True means bad.

        Raises
        ------
        CutoutError
            A file cannot be read.
        TypeError, ValueError
            The rows are none of this split, or ``out`` does not fit them.
        """
        wanted = self._positions(rows)
        shape = (len(wanted), *self.shape)
        images = torch.empty(shape) if out is None else out
        found = (images.shape, images.dtype, images.device.type, images.is_contiguous())
        if found != (shape, torch.float32, "cpu", True):
            raise ValueError(
                f"out is {images.dtype} {tuple(images.shape)} of strides {images.stride()} on "
                f"{images.device}; these rows need contiguous float32 {shape} on the CPU."
            )
        if not self._source.has_masks:
            self._source.read(wanted, images.numpy())
            return images, None
        mask = torch.empty(shape, dtype=torch.bool)
        self._source.read(wanted, images.numpy(), mask.numpy())
        return images, mask

    def _positions(self, rows: ArrayLike) -> NDArray[np.int64]:
        wanted = np.asarray(rows)
        if wanted.ndim != 1 or (wanted.size and wanted.dtype.kind not in "iu"):
            raise TypeError(
                f"rows has dtype {wanted.dtype} and shape {wanted.shape}; allowed are integers "
                "(B,)."
            )
        wrong = wanted[(wanted < 0) | (wanted >= len(self))]
        if wrong.size:
            raise ValueError(f"rows holds {wrong[0]}; allowed is 0 to {len(self) - 1}.")
        return wanted.astype(np.int64)

    def resident(self, device: torch.device) -> tuple[Tensor, Tensor | None]:
        """All cutouts of the split, and masks, on a device.

        Returns
        -------
        images : (N, 3, H, W) float32
        mask : (N, 3, H, W) bool, or None

        Raises
        ------
        ValueError
            The GPU has less memory free.
        """
        count, is_gpu = len(self), device.type == "cuda"
        shape = (count, *self.shape)
        if is_gpu:
            needed = math.prod(shape) * (5 if self._source.has_masks else 4)
            free = torch.cuda.mem_get_info(device)[0]
            if needed > free:
                raise ValueError(
                    f"resident=True: the {count} cutouts take {needed / 1e9:.1f} GB, and {device} "
                    f"has {free / 1e9:.1f} GB free; set dataset.resident=false."
                )
        images = torch.empty(shape, device=device)
        bad = (
            torch.empty(shape, dtype=torch.bool, device=device) if self._source.has_masks else None
        )
        stage = torch.empty((min(count, STAGED), *shape[1:]), pin_memory=is_gpu)
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
                f"data_origin={ours!r} contradicts {self.name}, which says {theirs!r}; remove it."
            )
        if not (theirs or ours):
            raise ValueError(
                f"{self.name} does not say where its cutouts are from; set dataset.data_origin, "
                "to survey and release."
            )
        return theirs or ours

    def _fingerprint(self) -> str:
        pixels = "sha256" if "sha256" in self.table else self.config.cutout_path_col
        columns = [self.ids, self.labels.astype(int), self.table[pixels]]
        columns += [self.table[name] for name in ("mask_sha256",) if name in self.table]
        if self.weights is not None:
            columns.append(self.weights)
        digest = hashlib.sha256()
        for row in zip(*columns, strict=True):
            digest.update("\t".join(map(str, row)).encode() + b"\n")
        return digest.hexdigest()


def _open(config: DatasetConfig) -> tuple[pd.DataFrame, dict[str, Any], Pack | None]:
    if config.mode == "pack":
        path = Path(config.parquet_path)
        pack = open_pack(path.parent if path.name == MANIFEST else path)
        return pack.table, pack.metadata, pack
    table, metadata = read_manifest(config.manifest_path)
    if ID not in table:
        paths = Manifest(table, config.manifest_path).column(
            config.cutout_path_col, "cutout_path_col"
        )
        table = table.assign(**{ID: [Path(path).stem for path in paths]})
    return table, metadata, None
