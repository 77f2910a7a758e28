"""The cutouts with the highest scores, read again where they were scored, and their picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dhs.arguments import integer
from dhs.data.rows import Files, PackRows
from dhs.figures import EDGE, MINUS, SMALL, add_axes, figure_with_heading
from dhs.manifest.columns import CUTOUT_PATH, Manifest, with_ids
from dhs.pack import open_pack, read_manifest
from dhs.score.table import ScoreTable
from fastnorm.figure import colour_picture
from fastnorm.io import CutoutError, Rejected, read_cutouts
from fastnorm.io.maskbits import MaskBits
from fastnorm.text import printable

MOST_DRAWN = 500
PER_ROW, MOST_LETTERS = 8, 22
# Inches.
PANEL, GAP, CAPTION = 1.5, 0.1, 0.46
MASKED = (0.8, 0.475, 0.655, 0.55)
"""Colour of masked pixels: Okabe and Ito's reddish purple, half transparent."""

Pixels = tuple[NDArray[np.float32], NDArray[np.bool_] | None]


class Shown(NamedTuple):
    """A cutout to draw.

    ``rank``: 1 for the highest score. ``row``: row in the table. ``pixels``: (3, H, W), in
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


def read_best(table: ScoreTable, top: int) -> Best:
    """Read the cutouts with the highest scores; earlier rows win ties.

    Parameters
    ----------
    table : ScoreTable
    top : int
        Number of cutouts, from 1 to 500.

    Returns
    -------
    Best

    Raises
    ------
    ValueError
        ``top`` is not allowed, or the pack or manifest is damaged.
    OSError
        The pack or manifest that was scored is gone.
    """
    integer("top", top, 1, MOST_DRAWN)
    read, found = _reader(table), Best([], [])
    order = np.argsort(-table.logits, kind="stable")[:top].tolist()
    for rank, row in enumerate(order, 1):
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


def best_figure(table: ScoreTable, cutouts: Sequence[Shown]) -> Figure:
    """Draw cutouts with their rank, score, id and position, eight in a row.

    Parameters
    ----------
    table : ScoreTable
    cutouts : sequence of Shown
        At least one, by falling score.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        ``cutouts`` is empty.
    """
    if not cutouts:
        raise ValueError("cutouts is empty; give at least one cutout to draw.")
    lines = -(-len(cutouts) // PER_ROW)
    width = 2 * EDGE + PER_ROW * (PANEL + GAP) - GAP
    side = cutouts[0].pixels.shape[-1]
    origin = table.metadata.get("data_origin") or "not stated"
    heading = [
        f"Highest scores of {len(table):,} cutouts: {table.name}",
        f"z, r, g as red, green, blue; {side} pixels a side; purple: masked in any band; "
        f"origin of the cutouts: {printable(origin)}",
    ]
    figure = figure_with_heading((width, EDGE + lines * (PANEL + CAPTION)), heading)
    for place, shown in enumerate(cutouts):
        line, column = divmod(place, PER_ROW)
        left = EDGE + column * (PANEL + GAP)
        bottom = EDGE + (lines - line) * (PANEL + CAPTION) - PANEL
        axes = add_axes(figure, left, bottom, PANEL, PANEL)
        axes.imshow(colour_picture(shown.pixels), origin="lower", interpolation="nearest")
        if shown.mask is not None and shown.mask.any():
            marks = np.multiply.outer(shown.mask.max(axis=0), MASKED)
            axes.imshow(marks, origin="lower", interpolation="nearest")
        axes.set_axis_off()
        where = (left / width, (bottom - 0.03) / figure.get_figheight())
        text = f"{shown.rank}  {_caption(table, shown.row)}"
        style: dict[str, Any] = {
            "size": SMALL - 1,
            "va": "top",
            "linespacing": 1.1,
            "parse_math": False,
        }
        figure.text(*where, text, **style)
    return figure


def _caption(table: ScoreTable, row: int) -> str:
    is_flat = table.flat_bands is not None and table.flat_bands[row] > 0
    name = printable(str(table.ids[row]))
    if len(name) > MOST_LETTERS:
        half = MOST_LETTERS // 2 - 1
        name = f"{name[:half]}..{name[-half:]}"
    ra, dec = (table.known[key][row] if key in table.known else np.nan for key in ("ra", "dec"))
    position = f"{ra:.5f}  {dec:+.5f}".replace("-", MINUS)
    return "\n".join(
        (
            f"{table.scores[row]:.4f}" + ("  flat band" if is_flat else ""),
            name,
            "position not known" if np.isnan(ra + dec) else position,
        )
    )
