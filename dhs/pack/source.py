"""The list of the cutouts to pack, checked as a whole before any cutout is read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow
from numpy.typing import NDArray

from dhs.arguments import existing
from dhs.manifest.columns import id_of
from dhs.manifest.format import MANIFEST
from dhs.manifest.naming import Naming
from dhs.manifest.origin import agreed_origin
from dhs.manifest.paths import path_faults
from dhs.manifest.splits import SPLITS, find_leaks
from dhs.manifest.table import is_number, is_text, metadata_of, read_content, read_table
from fastnorm.io import find_cutouts
from fastnorm.paths import local_path
from fastnorm.text import one_line

RESERVED = ("shard", "row", "sha256", "mask_sha256", "flat_bands")
MOST_NAMED = 5
NO_NAMES = Naming()


@dataclass(frozen=True, eq=False)
class Source:
    """A checked manifest, with one entry of each array per row.

    Attributes
    ----------
    path : Path
        File of the manifest, or folder of cutouts without one.
    folder : Path
        Base folder of relative paths.
    sha256 : str
        SHA-256 of the file, or of the names of the files in a folder.
    table : pyarrow.Table
        All columns of the file; those of a folder are the names of its files.
    data_origin : str
        Survey and release of the cutouts.
    cutouts : list of str
        Files of the cutouts.
    masks : list of str or None
        Files of the masks.
    ids : (N,) array of str
    label : (N,) int8, or None
        None if a folder is given whose cutouts have no labels.
    split : (N,) array of str, or None
    ra, dec : (N,) float64, or None
        Degrees; NaN where unknown.
    """

    path: Path
    folder: Path
    sha256: str
    table: pyarrow.Table = field(repr=False)
    data_origin: str
    cutouts: list[str] = field(repr=False)
    masks: list[str] | None = field(repr=False)
    ids: NDArray[np.str_] = field(repr=False)
    label: NDArray[np.int8] | None = field(repr=False)
    split: NDArray[np.str_] | None = field(repr=False)
    ra: NDArray[np.float64] | None = field(repr=False)
    dec: NDArray[np.float64] | None = field(repr=False)

    def __len__(self) -> int:
        return len(self.cutouts)


def read_source(path: str | Path, data_origin: str | None, naming: Naming = NO_NAMES) -> Source:
    """Read a manifest, or list a folder of cutouts, and check every row.

    Parameters
    ----------
    path : str or Path
        ``.parquet`` or ``.csv`` with columns ``cutout_path`` and ``label``, or a folder; see
        `dhs.pack.write_pack`.
    data_origin : str, optional
        Survey and release of the cutouts. By default, the metadata of the manifest.
    naming : Naming
        Names of columns that are not those of a manifest.

    Returns
    -------
    Source

    Raises
    ------
    OSError
        The file cannot be read.
    ValueError
        The file is not a manifest or has faults; the message lists each fault with the number
        of rows and the first few. The folder has no cutouts, or is a pack. Or the data origin is
        missing or contradicts the manifest.
    """
    given = existing(local_path(path))
    is_folder = given.is_dir()
    path = given / MANIFEST if is_folder and (given / MANIFEST).is_file() else given
    if path.is_dir():
        table = _listed(path)
        content = "\n".join(table["cutout_path"].to_pylist()).encode(errors="surrogateescape")
        folder = path
    else:
        content = read_content(path)
        table = read_table(path, content, naming.text_columns())
        folder = path.parent
    if is_folder and "shard" in table.column_names:
        raise ValueError(f"{given} is a pack already; use it as it is.")
    origin = _origin(data_origin, metadata_of(table, path).get("data_origin"), path)
    own, table = table.column_names, naming.applied(table, path)
    _refuse(path, list(_column_faults(table, own, needs_labels=not is_folder)))
    cutouts = _text(table, "cutout_path")
    ids = _text(table, "galaxy_id") if "galaxy_id" in table.column_names else _stems(cutouts)
    rows = _Rows(table, cutouts, ids)
    _refuse(path, list(rows.faults()))
    positions = (rows.numbers.get(name) for name in ("ra", "dec"))
    label = rows.numbers.get("label")
    source = Source(
        path,
        folder,
        hashlib.sha256(content).hexdigest(),
        table,
        origin,
        list(cutouts),
        None if rows.masks is None else list(rows.masks),
        np.array(ids, str),
        None if label is None else label.astype(np.int8),
        None if rows.split is None else np.array(rows.split, str),
        *positions,
    )
    if source.split is not None:
        refuse_leaks(path, source.ids, source.ra, source.dec, source.split)
    return source


def _listed(folder: Path) -> pyarrow.Table:
    """List the cutouts in a folder, to any depth, sorted."""
    names = [path.relative_to(folder).as_posix() for path in find_cutouts([folder])]
    return pyarrow.table({"cutout_path": pyarrow.array(names, pyarrow.string())})


def refuse_inside(source: Source, out: Path) -> None:
    """Refuse to write a pack into the folder of cutouts that it is made from.

    Raises
    ------
    ValueError
        The next run would take its shards for cutouts.
    """
    if source.path.is_dir() and out.resolve().is_relative_to(source.path.resolve()):
        raise ValueError(
            f"{out} is in the folder of the cutouts, {source.path}, and would be read as one of "
            "them; give a folder elsewhere."
        )


def refuse_leaks(
    path: Path,
    ids: NDArray[np.str_],
    ra: NDArray[np.float64] | None,
    dec: NDArray[np.float64] | None,
    split: NDArray[np.str_],
) -> None:
    """Check that no id and no HEALPix pixel is in two splits.

    Parameters
    ----------
    path : Path
        File of the manifest, for the error message.
    ids : (N,) array of str
    ra, dec : (N,) float64, or None
        Degrees; NaN where unknown.
    split : (N,) array of str

    Raises
    ------
    ValueError
        An id or a pixel is in two splits. The message names the first few.
    """
    leaks = find_leaks(ids, ra, dec, split)
    if leaks:
        raise ValueError(
            f"{path}: its splits leak in {len(leaks):,} places: {_some(leaks)}. Fix the column "
            "split, or remove it to split by position on the sky."
        )


def _origin(given: str | None, inherited: object, path: Path) -> str:
    origin = agreed_origin(given, inherited, path)
    if origin is None:
        raise ValueError(
            f"{path} does not say where its cutouts are from; give --data-origin with survey and "
            "release, for example legacysurvey-dr10."
        )
    return origin


def _refuse(path: Path, faults: list[str]) -> None:
    if faults:
        raise ValueError("\n  ".join([f"{path} cannot be packed:", *map(one_line, faults)]))


def _some(things: Sequence[object] | NDArray[np.intp]) -> str:
    """List the first few, followed by dots if there are more."""
    shown = "; ".join(map(str, things[:MOST_NAMED]))
    return shown if len(things) <= MOST_NAMED else f"{shown}; ..."


def _column_faults(
    table: pyarrow.Table, own: Sequence[str], *, needs_labels: bool
) -> Iterator[str]:
    """Describe the faults of the columns, regardless of their values; the file has ``own``."""
    names = table.column_names
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        yield f"duplicate columns: {', '.join(twice)}."
        return
    needed = ("cutout_path", "label")[: 1 + needs_labels]
    missing = [name for name in needed if name not in names]
    if missing:
        yield f"no column {', '.join(missing)}; its columns are {', '.join(own) or 'none'}."
        yield _advice(missing)
    reserved = [name for name in RESERVED if name in names]
    if reserved:
        yield (
            f"columns reserved for packs: {', '.join(reserved)}; rename them, or use the folder "
            "directly if it already is a pack."
        )
    if ("ra" in names) != ("dec" in names):
        yield "only one of ra and dec; give both, in degrees."
    if not len(table):
        yield "no rows."
    for name in ("cutout_path", "mask_path", "galaxy_id", "split"):
        if name in names and not is_text(table[name].type, or_integers=name == "galaxy_id"):
            yield f"{name} is of type {table[name].type}; it must be text."
    for name in ("label", "sample_weight", "ra", "dec"):
        if name in names and not is_number(table[name].type):
            yield f"{name} is of type {table[name].type}; it must be a number."


def _advice(missing: Sequence[str]) -> str:
    """Return how columns of other names are used."""
    ways = []
    if "cutout_path" in missing:
        ways.append("path_pattern='cutouts/{NAME}.fits' for the files")
        ways.append("id_col='NAME' for the ids")
    if "label" in missing:
        ways.append("label_col='NAME' for the labels")
    return f"Name columns of your table: {', '.join(ways)}; or rename them."


def _text(table: pyarrow.Table, name: str) -> NDArray[np.object_]:
    """Return a column as text, with empty strings for nulls."""
    column = table[name].cast(pyarrow.string()).fill_null("")
    return np.array(column.to_pylist(), object)


def _stems(paths: Sequence[str] | NDArray[np.object_]) -> NDArray[np.object_]:
    return np.array([id_of(path) if path else "" for path in paths], object)


class _Rows:
    """The columns that are checked row by row."""

    def __init__(
        self, table: pyarrow.Table, cutouts: NDArray[np.object_], ids: NDArray[np.object_]
    ) -> None:
        names = table.column_names
        self.cutouts, self.ids = cutouts, ids
        self.masks = _text(table, "mask_path") if "mask_path" in names else None
        self.split = _text(table, "split") if "split" in names else None
        self.numbers: dict[str, NDArray[np.float64]] = {
            name: table[name].cast(pyarrow.float64(), safe=False).to_numpy()
            for name in ("label", "sample_weight", "ra", "dec")
            if name in names
        }

    def faults(self) -> Iterator[str]:
        """Describe all faults of the rows."""
        yield from self._text_faults()
        yield from self._number_faults()

    def _text_faults(self) -> Iterator[str]:
        empty = np.flatnonzero(self.cutouts == "")
        if empty.size:
            yield f"{empty.size:,} rows without a cutout_path: row {_some(empty)}"
        for name, values in (("cutout_path", self.cutouts), ("mask_path", self.masks)):
            yield from path_faults(name, () if values is None else values)
        for name, values in (("galaxy_id", self.ids), ("mask_path", self.masks)):
            if values is not None:
                yield from self._wrong(values == "", f"without a {name}", None)
        for name, values in (("galaxy_id", self.ids), ("cutout_path", self.cutouts)):
            given = pd.Series(values)
            is_twice = given.duplicated(keep=False).to_numpy() & (values != "")
            yield from self._wrong(is_twice, f"with the {name} of another row", values)
        if self.split is not None:
            is_unknown = ~np.isin(self.split.astype(str), SPLITS)
            yield from self._wrong(
                is_unknown, f"whose split is not one of {', '.join(SPLITS)}", self.split
            )

    def _number_faults(self) -> Iterator[str]:
        if (label := self.numbers.get("label")) is not None:
            is_wrong = ~np.isin(label, (0, 1))
            yield from self._wrong(is_wrong, "whose label is neither 0 nor 1", label)
        if (weight := self.numbers.get("sample_weight")) is not None:
            is_wrong = ~(np.isfinite(weight) & (weight >= 0))
            what = "whose sample_weight is not finite and at least 0"
            yield from self._wrong(is_wrong, what, weight)
        if "ra" not in self.numbers:
            return
        ra, dec = self.numbers["ra"], self.numbers["dec"]
        is_half = np.isnan(ra) != np.isnan(dec)
        yield from self._wrong(is_half, "with only one of ra and dec", None)
        yield from self._wrong((ra < 0) | (ra > 360), "whose ra is not in [0, 360] degrees", ra)
        yield from self._wrong(np.abs(dec) > 90, "whose dec is not in [-90, 90] degrees", dec)

    def _wrong(
        self, is_wrong: NDArray[np.bool_], what: str, values: NDArray[np.generic] | None
    ) -> Iterator[str]:
        """Describe a kind of faulty rows: their number and the first few files and values."""
        rows = np.flatnonzero(is_wrong)
        if rows.size:
            named = [
                f"{self.cutouts[row]}" + ("" if values is None else f" ({values[row]})")
                for row in rows[: MOST_NAMED + 1]
            ]
            yield f"{rows.size:,} rows {what}: {_some(named)}"
