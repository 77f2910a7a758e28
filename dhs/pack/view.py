"""Packs opened for reading, with their manifest and shards."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
from numpy.typing import NDArray

from dhs.constants import BANDS
from dhs.manifest.format import MANIFEST, PARTS
from dhs.manifest.table import is_number, is_text, metadata_of, read_table
from dhs.pack.format import FLUX_UNIT, mask_name, open_stack
from dhs.pack.stack import StackFile
from fastnorm.paths import local_path, require_file

FLAT = "flat_bands"
_NEEDED = ("shard", "row", "sha256", "galaxy_id")
_FULL = (*_NEEDED, "label")
"""Columns without missing values; a pack of a folder has no labels."""
_FINGERPRINTED = ("sha256", "label", "galaxy_id", "split")
_SHARD_NAME = re.compile(r"shard-[0-9]{5}\.npy")


def _is_label(kind: pyarrow.DataType) -> bool:
    """Accept numbers and text, which users of labels check, but no decimals, which JSON lacks."""
    return (is_number(kind) and not pyarrow.types.is_decimal(kind)) or is_text(kind)


_TYPES: tuple[tuple[tuple[str, ...], str, Callable[[pyarrow.DataType], bool]], ...] = (
    (("shard", "sha256", "mask_sha256", "split"), "text", is_text),
    (("galaxy_id",), "text", partial(is_text, or_integers=True)),
    (("label",), "a number", _is_label),
    (("ra", "dec", FLAT), "a number", is_number),
)
_MADE_SO = {"bands": list(BANDS), "flux_unit": FLUX_UNIT}


@dataclass(frozen=True, eq=False)
class Pack:
    """An open pack, with one entry of ``table``, ``shard_index`` and ``row`` per cutout.

    Attributes
    ----------
    folder : Path
        Folder of the pack.
    table : pandas.DataFrame
        All columns of the manifest.
    metadata : dict
        Metadata of the manifest.
    data_origin : str
        Survey and release of the cutouts.
    shard_names : list of str
        File names of the shards.
    shards : list of dhs.pack.stack.StackFile
        (N, 3, H, W) float32, nanomaggies, bands g, r, z. ``shards[k][row]`` reads a cutout.
    masks : list of dhs.pack.stack.StackFile, or None
        (N, 3, H, W) bool; True is bad.
    shard_index : (N,) int32
        Index of the cutout's shard in ``shards``.
    row : (N,) int64
        Row of the cutout in its shard.
    cutout_shape : (int, int, int)
        (3, H, W).
    fingerprint : str
        SHA-256 of the checksums, labels, ids and splits (if any), in the order of the manifest.
    """

    folder: Path
    table: pd.DataFrame = field(repr=False)
    metadata: dict[str, Any] = field(repr=False)
    data_origin: str
    shard_names: list[str] = field(repr=False)
    shards: list[StackFile] = field(repr=False)
    masks: list[StackFile] | None = field(repr=False)
    shard_index: NDArray[np.int32] = field(repr=False)
    row: NDArray[np.int64] = field(repr=False)

    def __len__(self) -> int:
        return len(self.row)

    @property
    def cutout_shape(self) -> tuple[int, ...]:
        return self.shards[0].shape[1:]

    def flat_bands(self) -> dict[str, int]:
        """Return the number of flat bands of the cutouts that have any, by id.

        It is empty if the manifest does not state it, as that of a simulated survey does not.
        """
        if FLAT not in self.table:
            return {}
        flat = self.table[self.table[FLAT] > 0]
        return dict(zip(map(str, flat["galaxy_id"]), map(int, flat[FLAT]), strict=True))

    @cached_property
    def fingerprint(self) -> str:
        columns = {name: self.table[name].tolist() for name in _FINGERPRINTED if name in self.table}
        return hashlib.sha256(json.dumps(columns).encode()).hexdigest()


def open_pack(folder: str | Path) -> Pack:
    """Open a pack, and check that every shard is whole and has the rows of the manifest.

    This reads no pixels; `dhs.pack.verify_pack` does. It does not check labels, ids and splits,
    which is left to the code that uses them.

    Parameters
    ----------
    folder : str or Path
        Folder from `dhs.pack.write_pack` or `dhs.simulate.write_survey`.

    Returns
    -------
    Pack

    Raises
    ------
    FileNotFoundError
        There is no manifest (the pack is still being written), or a shard is missing.
    ValueError
        The manifest has no data origin, lacks a column, or lists a row that does not exist or is
        listed twice; or a shard is truncated or has a different dtype or shape.
    """
    folder = local_path(folder)
    path = folder / MANIFEST
    require_file(path)
    if not path.is_file():
        raise FileNotFoundError(_why_no_manifest(folder))
    table = read_table(path)
    metadata = metadata_of(table, path)
    _check_metadata(metadata, path)
    _check_columns(table, path)
    frame = table.to_pandas()
    numbers, found = pd.factorize(frame["shard"], sort=True)
    names = [str(name) for name in found]
    wrong = next((name for name in names if not _SHARD_NAME.fullmatch(name)), None)
    if wrong is not None:
        raise ValueError(f"{path} names a shard {wrong!r}; names must be like shard-00000.npy.")
    shards = _open_stacks(folder, names, "<f4")
    masks = _open_masks(folder, names, shards, has_masks="mask_sha256" in frame)
    index, row = numbers.astype(np.int32), frame["row"].to_numpy(np.int64)
    _check_rows(index, row, names, shards, path)
    return Pack(folder, frame, metadata, metadata["data_origin"], names, shards, masks, index, row)


def _why_no_manifest(folder: Path) -> str:
    if not folder.is_dir():
        return f"the folder {folder} does not exist; give the folder of a pack."
    if (folder / PARTS).is_dir():
        return (
            f"{folder} is still being written: it has no {MANIFEST} yet. Wait until it is "
            "finished. If the run was interrupted, or cutouts were rejected, run the command that "
            "created it again to resume."
        )
    return (
        f"{folder} is not a pack: it has no {MANIFEST}. Create one with dhs pack or dhs simulate."
    )


def _check_metadata(metadata: dict[str, Any], path: Path) -> None:
    origin = metadata.get("data_origin")
    if not isinstance(origin, str) or not origin:
        raise ValueError(
            f"{path} does not say where its cutouts are from (data_origin in its metadata 'dhs'); "
            "pack them again with --data-origin."
        )
    for key, expected in _MADE_SO.items():
        if metadata.get(key, expected) != expected:
            raise ValueError(
                f"{path} has {key}={metadata[key]!r} in its metadata; expected {expected!r}."
            )


def _check_columns(table: pyarrow.Table, path: Path) -> None:
    missing = [name for name in _NEEDED if name not in table.column_names]
    if missing:
        raise ValueError(
            f"{path} has no column {', '.join(missing)}; it is not the manifest of a pack."
        )
    if not len(table):
        raise ValueError(f"{path} has no rows.")
    given = [name for name in _FULL if name in table.column_names]
    empty = [name for name in given if table[name].null_count]
    if empty:
        raise ValueError(f"{path} has rows without {', '.join(empty)}.")
    for names, what, is_allowed in _TYPES:
        wrong = [n for n in names if n in table.column_names and not is_allowed(table[n].type)]
        if wrong:
            raise ValueError(
                f"{path}: {wrong[0]} is of type {table[wrong[0]].type}; it must be {what}."
            )
    if not pyarrow.types.is_integer(table["row"].type):
        raise ValueError(f"{path}: row is of type {table['row'].type}; it must be an integer.")


def _open_stacks(folder: Path, names: list[str], dtype: str) -> list[StackFile]:
    missing = [name for name in names if not (folder / name).exists()]
    if missing:
        raise FileNotFoundError(
            f"{folder} lacks {len(missing)} of the {len(names)} files of its manifest: "
            f"{', '.join(missing[:3])}; restore them or pack the cutouts again."
        )
    stacks = [open_stack(folder / name, dtype) for name in names]
    for name, stack in zip(names, stacks, strict=True):
        if stack.shape[1:] != stacks[0].shape[1:]:
            raise ValueError(
                f"{folder / name} has cutouts of shape {stack.shape[1:]}, but {names[0]} has shape "
                f"{stacks[0].shape[1:]}; all cutouts of a pack must have one shape."
            )
    return stacks


def _open_masks(
    folder: Path, names: list[str], shards: list[StackFile], *, has_masks: bool
) -> list[StackFile] | None:
    files = [mask_name(name) for name in names]
    if not has_masks:
        stray = [name for name in files if (folder / name).exists()]
        if stray:
            raise ValueError(
                f"{folder} has {stray[0]}, but its manifest has no mask_sha256; remove the masks "
                "or pack the cutouts again."
            )
        return None
    masks = _open_stacks(folder, files, "?")
    for name, mask, shard in zip(files, masks, shards, strict=True):
        if mask.shape != shard.shape:
            raise ValueError(
                f"{folder / name} has shape {mask.shape}, but its cutouts have shape {shard.shape}."
            )
    return masks


def _check_rows(
    index: NDArray[np.int32],
    row: NDArray[np.int64],
    names: list[str],
    shards: list[StackFile],
    path: Path,
) -> None:
    counts = np.array([len(shard) for shard in shards], np.int64)
    outside = np.flatnonzero((row < 0) | (row >= counts[index]))
    if outside.size:
        first = outside[0]
        raise ValueError(
            f"{path} lists {outside.size} rows that do not exist, the first row {row[first]} of "
            f"{names[index[first]]}, which has {counts[index[first]]} rows."
        )
    # With all shards joined into one, every row has its own place.
    place = np.r_[0, counts.cumsum()][index] + row
    twice = np.flatnonzero(np.bincount(place) > 1)
    if twice.size:
        first = np.flatnonzero(place == twice[0])[0]
        raise ValueError(
            f"{path} lists {twice.size} rows more than once, the first row {row[first]} of "
            f"{names[index[first]]}."
        )
