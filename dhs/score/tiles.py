"""A picture of many cutouts, each with a caption."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path
from numpy.typing import NDArray

from dhs.figures import EDGE, MINUS, SMALL, add_axes, figure_with_heading
from fastnorm.figure import colour_picture, mark_masked
from fastnorm.text import printable

MOST_DRAWN = 500
MOST_PER_ROW = 8
# Inches. One row of few cutouts is as wide as its heading, and its cutouts are larger.
PANEL, LARGEST_PANEL, GAP, LEAST_WIDTH = 1.5, 4.0, 0.1, 7.4
CAPTION_LINE, CAPTION_EDGE = 0.115, 0.115
CAPTION_SIZE, PIXEL_ROUNDING = SMALL - 1, 1.1
CUT = "\N{HORIZONTAL ELLIPSIS}"


class Tile(NamedTuple):
    """A cutout to draw.

    ``pixels``: (3, H, W), in nanomaggies. ``mask``: like ``pixels``, True is bad, or None.
    ``words`` are the first lines of the caption, ``id`` the next; ``position`` is the last, "" if
    not known.
    """

    pixels: NDArray[np.float32]
    mask: NDArray[np.bool_] | None
    words: Sequence[str]
    id: str
    position: str


def tiles_figure(heading: Sequence[str], tiles: Sequence[Tile], origin: str) -> Figure:
    """Draw cutouts in rows; a single one, or a few, are drawn larger.

    Parameters
    ----------
    heading : sequence of str
        Lines above; the first is large.
    tiles : sequence of Tile
        At least one.
    origin : str
        Data origin of the cutouts.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        ``tiles`` is empty.
    """
    if not tiles:
        raise ValueError("cutouts is empty; give at least one cutout to draw.")
    columns = min(len(tiles), MOST_PER_ROW)
    room = (LEAST_WIDTH - 2 * EDGE + GAP) / columns - GAP
    panel = min(max(room, PANEL), LARGEST_PANEL)
    is_placed = any(tile.position for tile in tiles)
    captions = [_caption(tile, panel, is_placed) for tile in tiles]
    below = CAPTION_EDGE + CAPTION_LINE * max(len(lines) for lines in captions)
    rows = -(-len(tiles) // columns)
    width = max(2 * EDGE + columns * (panel + GAP) - GAP, LEAST_WIDTH)
    about = [*heading, f"{_about(tiles)}; origin of the cutouts: {printable(origin)}"]
    figure = figure_with_heading((width, EDGE + rows * (panel + below)), about)
    style: dict[str, Any] = {"size": CAPTION_SIZE, "va": "top", "linespacing": 1.1}
    for place, (tile, lines) in enumerate(zip(tiles, captions, strict=True)):
        line, column = divmod(place, columns)
        left = EDGE + column * (panel + GAP)
        bottom = EDGE + (rows - line) * (panel + below) - panel
        axes = add_axes(figure, left, bottom, panel, panel)
        axes.imshow(colour_picture(tile.pixels), origin="lower", interpolation="nearest")
        mark_masked(axes, None if tile.mask is None else tile.mask.max(axis=0))
        axes.set_axis_off()
        where = (left / width, (bottom - 0.03) / figure.get_figheight())
        figure.text(*where, "\n".join(lines), parse_math=False, **style)
    return figure


def _about(tiles: Sequence[Tile]) -> str:
    sides = sorted({tile.pixels.shape[-1] for tile in tiles})
    size = f"{sides[0]}" if len(sides) == 1 else f"{sides[0]} to {sides[-1]}"
    parts = ["z, r, g as red, green, blue", f"{size} pixels a side"]
    if any(tile.mask is not None and tile.mask.any() for tile in tiles):
        parts.append("purple: masked in any band")
    is_placed = any(tile.position for tile in tiles)
    parts.append("RA and Dec in degrees" if is_placed else "positions not known")
    return "; ".join(parts)


def _caption(tile: Tile, width: float, is_placed: bool) -> list[str]:
    """Break the caption of a tile into lines of a width in inches; an id has at most two."""
    name = printable(tile.id)
    first, rest = _split(name, width)
    second, more = _split(rest, width)
    if more:
        # Both ends of a long id tell objects apart.
        second = CUT + _split(rest[::-1], width - _letter(CUT))[0][::-1]
    last = [tile.position or "position not known"] if is_placed else []
    return [*tile.words, first, *([second] if second else []), *last]


def _split(text: str, width: float) -> tuple[str, str]:
    """Split a text where it exceeds a width in inches."""
    ends = np.cumsum([_letter(letter) for letter in text])
    count = int(np.searchsorted(ends, width, "right"))
    return text[:count], text[count:]


@lru_cache
def _letter(letter: str) -> float:
    """Return the width of a letter of a caption in inches."""
    font = FontProperties(size=CAPTION_SIZE)
    width = text_to_path.get_text_width_height_descent(letter, font, False)[0] / 72
    # A picture in pixels rounds the place of every letter, which widens a line.
    return float(width) * PIXEL_ROUNDING


def position(ra: float, dec: float) -> str:
    """Return a position in degrees, or "" if a coordinate is NaN."""
    if np.isnan(ra + dec):
        return ""
    return f"{ra:.5f}  {dec:+.5f}".replace("-", MINUS)


def label_name(label: float) -> str:
    """Name a label; NaN, which is not known, is ""."""
    return {1.0: "lens", 0.0: "non-lens"}.get(float(label), "")
