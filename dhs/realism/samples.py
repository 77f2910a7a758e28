"""Draw real lenses and injections for the realism check from packs, files and grids."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dhs.checkpoint import Checkpoint
from dhs.data import DatasetConfig, LensDataset
from dhs.model.inference import Rows
from dhs.pack import MANIFEST
from dhs.pack.cutouts import require_pixel_scale
from dhs.realism.probe import one_of_each
from dhs.score.input import require_same_mask_bits
from dhs.selection.folder import GRID
from dhs.selection.grid_result import GridResult
from dhs.selection.images import InjectedRows
from fastnorm.io import Cutout, CutoutError, Rejected, find_cutouts, read_cutouts
from fastnorm.paths import local_path

HOST = "host_id"
LENS = 1


class Sample(NamedTuple):
    """Cutouts of one side, real or injected.

    ``rows``: reads the cutouts. ``groups``: group of each cutout; cutouts of different groups are
    independent. ``metadata``: origin of the cutouts, for the record. ``rejected``: cutouts that
    cannot be used.
    """

    rows: Rows
    groups: NDArray[np.str_]
    metadata: dict[str, Any]
    rejected: list[Rejected]


def is_grid_folder(path: Path) -> bool:
    """Return whether a path is the folder of a selection grid."""
    return (path / GRID).exists()


class Draw:
    """Draws samples of cutouts that a checkpoint can take.

    Parameters
    ----------
    loaded : Checkpoint
    label_col : str
        Column of the labels in packs.
    sample : int
        Largest number of cutouts per side.
    rng : numpy.random.Generator
    """

    def __init__(
        self, loaded: Checkpoint, label_col: str, sample: int, rng: np.random.Generator
    ) -> None:
        self._made, self._label_col, self._sample, self._rng = loaded, label_col, sample, rng

    def of(self, paths: Sequence[str | Path], split: str | None) -> Sample:
        """Draw lenses from one pack, or cutouts from files, folders and patterns.

        Raises
        ------
        ValueError
            There is no lens or no usable cutout, ``split`` is given without a pack, or a pack
            holds cutouts of a different size.
        OSError
            A file cannot be read.
        """
        if len(paths) == 1 and (local_path(paths[0]) / MANIFEST).exists():
            return self._of_pack(str(paths[0]), split)
        if split is not None:
            raise ValueError(
                f"split={split!r} needs a pack, but {', '.join(map(str, paths))} is not a pack; "
                "leave it out."
            )
        return self._of_files(paths)

    def of_grid(self, folder: Path, least_snr: float | None) -> Sample:
        """Draw one injection per host, excluding failed ones, from a selection grid.

        Raises
        ------
        SpecMismatchError
            The grid and the checkpoint have different preprocessing.
        ValueError
            The folder is not a grid, or no injection is left.
        OSError
            A file cannot be read.
        """
        grid = GridResult(folder)
        self._made.spec.require_same(grid.spec, str(self._made.path), str(folder))
        ids, hosts = _injections(grid, least_snr)
        if not ids.size:
            least = "" if least_snr is None else f" with an arc_snr_r of at least {least_snr:g}"
            raise ValueError(f"{folder} has no successful injections{least}.")
        # Two injections into one host are not independent, so draw before computing features.
        single = one_of_each(hosts, self._rng)
        chosen = single[self._some(len(single))]
        metadata = {
            "grid": str(folder),
            "injections_fingerprint": grid.metadata["injections_fingerprint"],
            "scored_by": grid.metadata["checkpoint"]["fingerprint"],
            "data_origin": grid.metadata["data_origin"],
            "least_snr": least_snr,
            "found": len(ids),
            "hosts": len(single),
            "drawn": len(chosen),
        }
        return Sample(InjectedRows(folder, ids[chosen].tolist()), hosts[chosen], metadata, [])

    def _of_pack(self, name: str, split: str | None) -> Sample:
        config = DatasetConfig(parquet_path=name, label_col=self._label_col)
        data = LensDataset(config, split)
        if data.size != self._made.size:
            raise ValueError(
                f"{name} has cutouts of {data.size} x {data.size} pixels; the checkpoint expects "
                f"{self._made.size} x {self._made.size}."
            )
        require_same_mask_bits(self._made.mask_bits, str(data.mask_bits), name)
        lenses = np.flatnonzero(data.labels == LENS)
        if not lenses.size:
            of_split = "" if split is None else f" of {split!r}"
            raise ValueError(f"{name} has no cutout{of_split} with {self._label_col} {LENS}.")
        rows = lenses[self._some(len(lenses))]
        groups = data.table[HOST].to_numpy(str) if HOST in data.table else data.ids
        metadata = {
            "pack": name,
            "fingerprint": data.fingerprint,
            "data_origin": data.data_origin,
            "label_col": self._label_col,
            "split": split,
            "found": len(lenses),
            "drawn": len(rows),
        }
        return Sample(_Some(data, rows), groups[rows], metadata, [])

    def _of_files(self, paths: Sequence[str | Path]) -> Sample:
        """Draw cutouts from files; reservoir sampling (Vitter 1985, algorithm R) limits memory."""
        rejected: list[Rejected] = []
        kept: list[Cutout] = []
        found, size = 0, self._made.size
        files = find_cutouts(paths, rejected)
        bits = self._made.mask_bits
        for cutout in chain.from_iterable(
            read_cutouts(path, rejected, mask_bits=bits) for path in files
        ):
            height, width = cutout.pixels.shape[-2:]
            if (height, width) != (size, size):
                reason = (
                    f"{cutout.id} has {height} x {width} pixels; the checkpoint expects "
                    f"{size} x {size}."
                )
                rejected.append(Rejected(cutout.path, reason))
                continue
            try:
                require_pixel_scale(cutout)
            except CutoutError as error:
                rejected.append(Rejected(error.path, error.reason))
                continue
            found += 1
            if len(kept) < self._sample:
                kept.append(cutout)
            elif (place := int(self._rng.integers(found))) < self._sample:
                kept[place] = cutout
        if not kept:
            first = rejected[0]
            raise ValueError(
                f"{', '.join(map(str, paths))}: no cutout is usable, {len(rejected)} rejected; the "
                f"first, {first.path}: {first.reason}"
            )
        metadata = {
            "files": [str(path) for path in paths],
            "data_origin": None,
            "found": found,
            "drawn": len(kept),
        }
        groups = np.array([f"{cutout.path} {cutout.id}" for cutout in kept], str)
        return Sample(_Images(kept), groups, metadata, rejected)

    def _some(self, count: int) -> NDArray[np.int64]:
        """Draw positions below ``count``, at most a sample's size, in rising order."""
        return np.sort(self._rng.permutation(count)[: self._sample])


class _Some:
    """A subset of the rows of a dataset."""

    def __init__(self, data: LensDataset, rows: NDArray[np.int64]) -> None:
        self._data, self._rows = data, rows

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor | None]:
        return self._data.read(self._rows[rows])


class _Images:
    """Cutouts in memory."""

    def __init__(self, cutouts: Sequence[Cutout]) -> None:
        self._images = torch.from_numpy(np.array([cutout.pixels for cutout in cutouts]))
        self._masks: Tensor | None = None
        if any(cutout.mask is not None for cutout in cutouts):
            self._masks = torch.zeros_like(self._images, dtype=torch.bool)
            for bad, cutout in zip(self._masks, cutouts, strict=True):
                if cutout.mask is not None:
                    bad[:] = torch.from_numpy(cutout.mask)

    def __len__(self) -> int:
        return len(self._images)

    def read(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor | None]:
        wanted = torch.from_numpy(rows)
        return self._images[wanted], None if self._masks is None else self._masks[wanted]


def _injections(
    grid: GridResult, least_snr: float | None
) -> tuple[NDArray[np.int64], NDArray[np.str_]]:
    """Return ids and hosts of the injections that did not fail and reach ``least_snr``."""
    ids, hosts = [np.empty(0, np.int64)], [np.empty(0, str)]
    for part in grid.batches("injection_id", HOST, "arc_snr_r", "failure"):
        is_wanted = part["failure"] == ""
        if least_snr is not None:
            is_wanted &= part["arc_snr_r"] >= least_snr
        ids.append(part["injection_id"][is_wanted])
        hosts.append(part[HOST][is_wanted].astype(str))
    return np.concatenate(ids), np.concatenate(hosts)
