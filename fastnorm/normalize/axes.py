"""The axes of images: the check that a footprint fits them, which tells of bands that come last."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastnorm.annulus import Annulus
from fastnorm.footprint import EllipticalAnnulus, Footprint
from fastnorm.normalize.arrays import is_tensor

MOST_BANDS = 16


def has_bands_last(lead: Sequence[int], height: int, width: int) -> bool:
    """Return whether images (..., H, W) look like one image (H, W, bands), or several.

    Parameters
    ----------
    lead : sequence of int
        Shape before the last two axes.
    height, width : int
        The last two axes.
    """
    return width <= MOST_BANDS and width < height and len(lead) > 0 and lead[-1] == height


def check_fit(footprint: Footprint, images: Any) -> None:
    """Raise an error if a footprint does not fit the last two axes of images.

    Raises
    ------
    ValueError
        The footprint has too few pixels or is of another shape; or the bands come last, and an
        annulus would be two strips.
    """
    *lead, height, width = images.shape
    if not has_bands_last(lead, height, width):
        footprint.pixels(height, width)
        return
    try:
        footprint.pixels(height, width)
    except ValueError as error:
        raise ValueError(f"{_advice(images)} If not, {error}") from None
    if not isinstance(footprint, Annulus | EllipticalAnnulus):
        return
    if not footprint.contains(height, width)[height // 2].any():
        raise ValueError(
            f"{_advice(images)} If not, choose another annulus: {footprint} has no pixel beside "
            f"the centre of an image of {height} x {width}."
        )


def _advice(images: Any) -> str:
    move = "images.movedim(-1, -3)" if is_tensor(images) else "np.moveaxis(images, -1, -3)"
    return (
        f"Images of shape {tuple(images.shape)} seem to have their bands last; the axes are "
        f"(..., H, W): {move}."
    )
