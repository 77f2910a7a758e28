"""The cutouts with the highest scores, read again where they were scored, and their picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dhs.arguments import integer
from dhs.data.rows import Files, PackRows
from dhs.manifest.columns import CUTOUT_PATH, Manifest, with_ids
from dhs.pack import open_pack, read_manifest
from dhs.score.rows import places_of
from dhs.score.table import ScoreTable
from dhs.score.tiles import MOST_DRAWN, Tile, label_name, position, tiles_figure
from dhs.statistics.digits import digits_to_tell_apart
from fastnorm.io import CutoutError, Rejected, read_cutouts
from fastnorm.io.maskbits import MaskBits
from fastnorm.text import printable

FEWEST_DIGITS, MOST_DIGITS = 4, 6
"""Digits of a score after the point."""

Pixels = tuple[NDArray[np.float32], NDArray[np.bool_] | None]


class Shown(NamedTuple):
    """A cutout to draw.

    ``rank``: 1 for the highest score of the table. ``row``: row in it. ``pixels``: (3, H, W), in
    nanomaggies. ``mask``: like ``pixels``, True is bad, or None.
    """

    rank: int
    row: int
    pixels: NDArray[np.float32]
    mask: NDArray[np.bool_] | None


class Best(NamedTuple):
    """Result of `read_best`: the ``cutouts`` by falling score, and the ``rejected`` ones."""

    cutouts: list[Shown]
    rejected: list[Rejected]


def read_best(table: ScoreTable, top: int, ids: Sequence[str] = ()) -> Best:
    """Read the cutouts with the highest scores; earlier rows win ties.

    Parameters
    ----------
    table : ScoreTable
    top : int
        Number of cutouts, from 1 to 500.
    ids : sequence of str
        Ids to read instead, in this order.

    Returns
    -------
    Best

    Raises
    ------
    ValueError
        ``top`` or an id is not allowed, or the pack or manifest is damaged.
    OSError
        The pack or manifest that was scored is gone.
    """
    integer("top", top, 1, MOST_DRAWN)
    order = np.argsort(-table.logits, kind="stable")
    if ids:
        rows = places_of(ids, table.ids, table.path)
        ranks = np.argsort(order)[rows] + 1
    else:
        rows = order[:top]
        ranks = np.arange(len(rows)) + 1
    read, found = _reader(table), Best([], [])
    for rank, row in zip(ranks.tolist(), rows.tolist(), strict=True):
        try:
            found.cutouts.append(Shown(rank, row, *read(row)))
        except CutoutError as error:
            found.rejected.append(Rejected(error.path, error.reason))
    return found


def _reader(table: ScoreTable) -> Callable[[int], Pixels]:
    """Return a function that reads the cutout of a row where it was scored."""
    bits = MaskBits.parse(table.metadata.get("mask_bits") or str(MaskBits()))
    source = table.metadata.get("input")
    # Earlier tables have no record of their input; those of a pack have its folder in every row.
    folders = set(table.paths) if source is None else {source["path"]}
    path = Path(next(iter(folders)))
    if source is None and not (len(folders) == 1 and path.is_dir()):
        return lambda row: _from_file(table, row, bits)
    if not path.exists():
        raise FileNotFoundError(
            f"{path}, whose cutouts {table.path} has scores of, does not exist; run dhs show in "
            "the folder where dhs score ran, or put it back."
        )
    if path.is_dir():
        pack = open_pack(path)
        rows, ids = PackRows(pack), Manifest(pack.table, str(path)).ids()
        read: Callable[[int], Pixels] = rows.cutout
    else:
        manifest = Manifest(with_ids(read_manifest(path)[0], str(path)), str(path))
        files = Files(manifest, path.parent, CUTOUT_PATH, "the files", bits)
        ids = manifest.ids()
        read = lambda place: files.cutout(place)[:2]  # noqa: E731
    places = {identity: place for place, identity in enumerate(ids.tolist())}

    def by_id(row: int) -> Pixels:
        identity = str(table.ids[row])
        if identity not in places:
            reason = f"has no cutout {identity}; it is not what was scored."
            raise CutoutError(path, reason)
        return read(places[identity])

    return by_id


def _from_file(table: ScoreTable, row: int, bits: MaskBits) -> Pixels:
    path, identity = Path(table.paths[row]), str(table.ids[row])
    for cutout in read_cutouts(path, [], mask_bits=bits):
        if printable(cutout.id) == identity:
            return cutout.pixels, cutout.mask
    raise CutoutError(path, f"has no cutout {identity} that can be read; score the file again.")


def best_figure(table: ScoreTable, cutouts: Sequence[Shown], heading: str = "") -> Figure:
    """Draw cutouts with their rank, score, label, id and position.

    Parameters
    ----------
    table : ScoreTable
    cutouts : sequence of Shown
        At least one, by falling score.
    heading : str
        First line above; by default it says that these are the highest scores.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        ``cutouts`` is empty.
    """
    said = heading or f"Highest scores of {len(table):,} cutouts"
    scores = table.scores[[shown.row for shown in cutouts]].tolist()
    digits = digits_to_tell_apart(scores, FEWEST_DIGITS, MOST_DIGITS)
    tiles = [_tile(table, shown, digits) for shown in cutouts]
    origin = table.metadata.get("data_origin") or "not stated"
    return tiles_figure([f"{said}: {table.name}"], tiles, origin)


def _tile(table: ScoreTable, shown: Shown, digits: int) -> Tile:
    row = shown.row
    is_flat = table.flat_bands is not None and table.flat_bands[row] > 0
    ra, dec, label = (
        float(table.known[key][row]) if key in table.known else np.nan
        for key in ("ra", "dec", "label")
    )
    words = [f"{shown.rank}", f"{table.scores[row]:.{digits}f}", label_name(label)]
    lines = ["  ".join(filter(None, words)), *(["flat band"] if is_flat else [])]
    return Tile(shown.pixels, shown.mask, lines, str(table.ids[row]), position(ra, dec))
