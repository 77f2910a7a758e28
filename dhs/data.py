"""Labelled cutouts: what a training configuration says of them, and the pixels behind it."""

from __future__ import annotations

import difflib
import hashlib
import math
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from dhs.pack import MANIFEST, Pack, open_pack, read_manifest
from dhs.rows import FileRows, PackRows, Source
from dhs.spec import PreprocessSpec
from dhs.splits import SPLITS, assign_splits, find_leaks

STAGED = 1024
"""Cutouts on their way to a device at a time: 125 MB of 101 x 101 pixels."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DatasetConfig(_Section):
    """Section ``dataset`` of a training.

    Attributes
    ----------
    parquet_path : str
        A pack, or its manifest; for mode ``pack``.
    mode : {"pack", "file_manifest"}
    preprocessing : str
        As ``mode`` of `dhs.preprocess.preprocess_stack`.
    label_col : str
        Column of the labels, 0 or 1.
    seed : int
        Of everything random in a training.
    manifest_path : str
        A table of cutout files, .parquet or .csv; for mode ``file_manifest``.
    cutout_path_col : str
        Column of the files; relative ones start from the folder of the manifest.
    sample_weight_col : str
        Column of the sample weights; none if empty.
    crop, crop_size
        As of `dhs.preprocess.preprocess_stack`.
    annulus_r_in, annulus_r_out : float
        Radii in pixels; both 0 mean the legacy annulus (20, 32).
    clip_range : float
    data_origin : str
        Where the cutouts are from, if the manifest does not say it.
    resident : bool
        Hold all cutouts on the device.
    """

    parquet_path: str = ""
    mode: Literal["pack", "file_manifest"] = "pack"
    preprocessing: str = "raw_robust"
    label_col: str = "label"
    seed: Annotated[int, Field(ge=0)] = 1337
    manifest_path: str = ""
    cutout_path_col: str = "cutout_path"
    sample_weight_col: str = ""
    crop: bool = False
    crop_size: Annotated[int, Field(ge=0)] = 64
    annulus_r_in: float = 0.0
    annulus_r_out: float = 0.0
    clip_range: float = 10.0
    data_origin: str = ""
    resident: bool = False

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        self.spec()
        name = "parquet_path" if self.mode == "pack" else "manifest_path"
        if not getattr(self, name):
            raise ValueError(f"mode {self.mode} needs {name}")
        return self

    def spec(self) -> PreprocessSpec:
        """The preprocessing of these settings."""
        return PreprocessSpec(
            mode=self.preprocessing,
            crop=self.crop,
            crop_size=self.crop_size,
            clip_range=self.clip_range,
            annulus_r_in=self.annulus_r_in,
            annulus_r_out=self.annulus_r_out,
        )


class SplitConfig(_Section):
    """Section ``split``: how to split where the manifest does not; see `dhs.splits`."""

    train_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.7
    seed: int = 42
    split_col: str = "split"


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
    fingerprint : str
        The sha256 over ids, labels and pixels of the split; over paths where there is no pack.

    Raises
    ------
    ValueError
        A column is missing, a label is neither 0 nor 1, an id is there twice or in two splits,
        a weight is no weight, or the split is empty; or the pack is not whole.
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
        table, about, pack = _open(config)
        self.name = config.parquet_path if config.mode == "pack" else config.manifest_path
        labels = self._labels(table)
        ids = table["galaxy_id"].to_numpy(str)
        chosen = self._chosen(table, ids, split_config)
        self.table = table.iloc[chosen].reset_index(drop=True)
        self.labels, self.ids = labels[chosen], ids[chosen]
        self.weights = self._weights()
        self.data_origin = self._origin(about)
        self._source = self._open_rows(pack, chosen)
        self.shape = self._source.shape
        self.size = self.shape[-1]
        self.fingerprint = self._fingerprint()

    def _open_rows(self, pack: Pack | None, chosen: NDArray[np.int64]) -> Source:
        if pack is not None:
            return PackRows(pack, chosen)
        start = Path(self.config.manifest_path).parent
        return FileRows([start / path for path in self.table[self.config.cutout_path_col]])

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, rows: ArrayLike, *, out: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Raw cutouts, in the order asked for.

        Parameters
        ----------
        rows : (B,) integers
            Positions in the split, repeats allowed.
        out : (B, 3, H, W) float32 tensor on the CPU, optional
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
        if (images.shape, images.dtype, images.device.type) != (shape, torch.float32, "cpu"):
            raise ValueError(
                f"out is {images.dtype} {tuple(images.shape)} on {images.device}; these rows need "
                f"float32 {shape} on the CPU."
            )
        self._source.read(wanted, images.numpy())
        if not self._source.has_masks:
            return images, None
        mask = torch.empty(shape, dtype=torch.bool)
        self._source.read_masks(wanted, mask.numpy())
        return images, mask

    def _positions(self, rows: ArrayLike) -> NDArray[np.int64]:
        wanted = np.asarray(rows)
        if wanted.ndim != 1 or wanted.dtype.kind not in "iu":
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

    def _column(self, table: pd.DataFrame, name: str, key: str) -> pd.Series:
        if name in table.columns:
            return table[name]
        nearest = difflib.get_close_matches(name, list(table.columns), 1)
        hint = f"; did you mean {nearest[0]!r}?" if nearest else f": {', '.join(table.columns)}."
        raise ValueError(f"{self.name} has no column {name!r} ({key}){hint}")

    def _labels(self, table: pd.DataFrame) -> NDArray[np.float32]:
        column = self._column(table, self.config.label_col, "label_col")
        labels = pd.to_numeric(column, errors="coerce").to_numpy(np.float64)
        wrong = np.flatnonzero(~np.isin(labels, (0, 1)))
        if wrong.size:
            raise ValueError(
                f"{self.name}: {wrong.size} labels in {self.config.label_col!r} are neither 0 nor "
                f"1, the first {column.iloc[wrong[0]]!r} in row {wrong[0]}."
            )
        return np.asarray(labels, np.float32)

    def _weights(self) -> NDArray[np.float32] | None:
        name = self.config.sample_weight_col
        if not name:
            return None
        column = self._column(self.table, name, "sample_weight_col")
        weights: NDArray[np.float32] = pd.to_numeric(column, errors="coerce").to_numpy(np.float32)
        wrong = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))
        if wrong.size:
            raise ValueError(
                f"{self.name}: {wrong.size} weights in {name!r} are not finite and at least 0, "
                f"the first of {self.ids[wrong[0]]}."
            )
        return weights

    def _chosen(
        self, table: pd.DataFrame, ids: NDArray[np.str_], config: SplitConfig
    ) -> NDArray[np.int64]:
        twice = table["galaxy_id"][table["galaxy_id"].duplicated()]
        if len(twice):
            raise ValueError(
                f"{self.name}: {len(twice)} ids are there twice, the first {twice.iloc[0]!r}; "
                "every cutout needs a galaxy_id of its own."
            )
        ra, dec = (table[c].to_numpy(float) if c in table else None for c in ("ra", "dec"))
        if config.split_col in table:
            splits = table[config.split_col].to_numpy(str)
            leaks = find_leaks(ids, ra, dec, splits)
            if leaks:
                raise ValueError(
                    f"{self.name}: {len(leaks)} leaks between splits, the first: {leaks[0]}. "
                    "Split it anew, with dhs pack."
                )
        else:
            splits = assign_splits(
                ids, ra, dec, train_fraction=config.train_fraction, seed=config.seed
            )
        chosen = (
            np.arange(len(table)) if self.split is None else np.flatnonzero(splits == self.split)
        )
        if not chosen.size:
            what = "no cutouts" if self.split is None else f"no cutouts of the split {self.split!r}"
            raise ValueError(f"{self.name} holds {what}.")
        return chosen

    def _origin(self, about: dict[str, Any]) -> str:
        theirs, ours = str(about.get("data_origin") or ""), self.config.data_origin
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
        digest = hashlib.sha256()
        pixels = "sha256" if "sha256" in self.table else self.config.cutout_path_col
        rows = zip(self.ids, self.labels.astype(int), self.table[pixels], strict=True)
        for row in rows:
            digest.update("\t".join(map(str, row)).encode() + b"\n")
        return digest.hexdigest()


def _open(config: DatasetConfig) -> tuple[pd.DataFrame, dict[str, Any], Pack | None]:
    if config.mode == "pack":
        path = Path(config.parquet_path)
        pack = open_pack(path.parent if path.name == MANIFEST else path)
        return pack.table, pack.metadata, pack
    path = Path(config.manifest_path)
    table, about = read_manifest(path)
    if config.cutout_path_col not in table:
        raise ValueError(
            f"{path} has no column {config.cutout_path_col!r} (cutout_path_col): "
            f"{', '.join(table.columns)}."
        )
    if "galaxy_id" not in table:
        table = table.assign(galaxy_id=[Path(p).stem for p in table[config.cutout_path_col]])
    return table, about, None
