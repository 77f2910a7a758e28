"""Cutouts of a pack or manifest, which have no scores, for a picture of them."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dhs.arguments import integer
from dhs.data.rows import Files, PackRows
from dhs.manifest.columns import CUTOUT_PATH, Manifest, with_ids
from dhs.manifest.format import MANIFEST
from dhs.pack import open_pack, read_manifest
from dhs.score.known import Known, known_of
from dhs.score.tiles import MOST_DRAWN, Tile, label_name, position, tiles_figure
from fastnorm.io import CutoutError, Rejected
from fastnorm.text import printable

Read = Callable[[int], tuple[NDArray[np.float32], NDArray[np.bool_] | None, Known]]


class ShownRow(NamedTuple):
    """A cutout to draw.

    ``row``: row of the manifest, from 0. ``pixels``: (3, H, W), in nanomaggies. ``mask``: like
    ``pixels``, True is bad, or None. ``ra``, ``dec``: degrees, and ``label``: NaN if not known.
    """

    row: int
    id: str
    pixels: NDArray[np.float32]
    mask: NDArray[np.bool_] | None
    ra: float
    dec: float
    label: float


class ShownRows(NamedTuple):
    """Result of `shown_rows`.

    ``path``: the pack or manifest. ``total``: number of its rows. ``origin``: its data origin.
    ``rows``: those that were read, ``rejected``: those that were not. ``notes``: lines on columns
    with values that are not allowed.
    """

    path: Path
    total: int
    origin: str
    rows: list[ShownRow]
    rejected: list[Rejected]
    notes: list[str]


def shown_rows(path: Path, ids: Sequence[str] = (), limit: int = 50) -> ShownRows:
    """Read cutouts of a pack or manifest.

    Parameters
    ----------
    path : Path
        Folder of a pack, or a manifest, ``.parquet`` or ``.csv``, with a column ``cutout_path``.
    ids : sequence of str
        Ids to read, in this order; without them, the first rows are read.
    limit : int
        Number of first rows, from 1 to 500.

    Returns
    -------
    ShownRows

    Raises
    ------
    ValueError
        ``limit`` or an id is not allowed, or the pack or manifest is damaged.
    OSError
        The table cannot be read.
    """
    integer("limit", limit, 1, MOST_DRAWN)
    notes: list[str] = []
    if path.is_dir() or (path.name == MANIFEST and "shard" in read_manifest(path)[0]):
        pack = open_pack(path if path.is_dir() else path.parent)
        table, origin = pack.table, pack.data_origin
        ids_there = Manifest(table, str(path)).ids()
        known = _known(table, path, notes)
        read = _of_pack(PackRows(pack), known)
    else:
        table, metadata = read_manifest(path)
        manifest = Manifest(with_ids(table, str(path)), str(path))
        files = Files(manifest, path.parent, CUTOUT_PATH, "the files")
        ids_there, origin = manifest.ids(), metadata.get("data_origin") or "not stated"
        known = _known(table, path, notes)
        read = _of_files(files, known)
    rows = places_of(ids, ids_there, path) if ids else np.arange(min(limit, len(table)))
    found = ShownRows(path, len(table), str(origin), [], [], notes)
    for row in rows.tolist():
        try:
            pixels, mask, at = read(row)
        except CutoutError as error:
            found.rejected.append(Rejected(error.path, error.reason))
            continue
        values = (row, str(ids_there[row]), pixels, mask, at.ra, at.dec, at.label)
        found.rows.append(ShownRow(*values))
    return found


def _known(table: pd.DataFrame, path: Path, notes: list[str]) -> list[Known]:
    return [Known(*row) for row in known_of(table, printable(path), notes).tolist()]


def _of_pack(rows: PackRows, known: Sequence[Known]) -> Read:
    return lambda row: (*rows.cutout(row), known[row])


def _of_files(files: Files, known: Sequence[Known]) -> Read:
    def read(row: int) -> tuple[NDArray[np.float32], NDArray[np.bool_] | None, Known]:
        cutout = files.cutout(row)
        return cutout.pixels, cutout.mask, known[row].at(cutout.ra, cutout.dec)

    return read


def places_of(ids: Sequence[str], there: NDArray[np.str_], path: Path) -> NDArray[np.int64]:
    """Return the rows of chosen ids.

    Parameters
    ----------
    ids : sequence of str
        The chosen ids; at most 500.
    there : (N,) array of str
        Unique ids of a table.
    path : Path
        The table, for messages.

    Returns
    -------
    (len(ids),) int64 array

    Raises
    ------
    ValueError
        An id is not in the table (the message names the nearest) or chosen twice, or they are
        more than 500.
    """
    if len(ids) > MOST_DRAWN:
        raise ValueError(f"{len(ids)} ids are given; a picture has at most {MOST_DRAWN}.")
    places = {identity: place for place, identity in enumerate(there.tolist())}
    for k, identity in enumerate(ids):
        if identity not in places:
            nearest = difflib.get_close_matches(identity, places, 1)
            hint = f"did you mean {nearest[0]}?" if nearest else f"its first is {there[0]!r}."
            raise ValueError(f"{path} has no cutout {identity!r}; {hint}")
        if identity in ids[:k]:
            raise ValueError(f"the id {identity!r} is given twice; give it once.")
    return np.array([places[identity] for identity in ids], np.int64)


def rows_figure(found: ShownRows) -> Figure:
    """Draw the cutouts of `shown_rows` with row, label, id and position.

    Raises
    ------
    ValueError
        No cutout was read.
    """
    tiles = [
        Tile(
            item.pixels,
            item.mask,
            ["  ".join(filter(None, [f"row {item.row}", label_name(item.label)]))],
            item.id,
            position(item.ra, item.dec),
        )
        for item in found.rows
    ]
    heading = f"{len(tiles):,} of {found.total:,} cutouts: {printable(found.path.absolute().name)}"
    return tiles_figure([heading], tiles, found.origin)
