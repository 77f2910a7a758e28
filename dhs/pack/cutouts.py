"""Reading of one cutout and its mask from the files in a row of a manifest."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dhs.constants import PIXEL_SCALE
from fastnorm.io import Cutout, CutoutError, count_cutouts, read_cutouts
from fastnorm.io.cutout import check_good_pixels, check_mask
from fastnorm.io.maskbits import MaskBits
from fastnorm.io.numpy_files import load_mask

SCALE_OFF = 0.01
"""Largest relative error of a pixel scale; beyond it, a cutout is from another survey."""


class Layout(NamedTuple):
    """Properties shared by all cutouts of a pack.

    ``plane``: rows and columns. ``has_masks``: whether each cutout has a mask. ``model``: the
    file that these properties come from.
    """

    plane: tuple[int, int]
    has_masks: bool
    model: str


class MaskedCutout(NamedTuple):
    """A cutout and its mask.

    ``pixels``: (3, H, W) float32. ``mask``: (3, H, W) bool, or None. ``ra``, ``dec``: position
    from the file, degrees, or None.
    """

    pixels: NDArray[np.float32]
    mask: NDArray[np.bool_] | None
    ra: float | None
    dec: float | None


def read_cutout(
    folder: Path,
    cutout: str,
    mask: str | None,
    mask_bits: MaskBits = MaskBits(),  # noqa: B008
) -> MaskedCutout:
    """Read the only cutout of a file, with its mask.

    Parameters
    ----------
    folder : Path
        Base folder of relative paths.
    cutout : str
        File of the cutout.
    mask : str or None
        File of a mask. A pixel is bad if this mask or the cutout's own file flags it.
    mask_bits : MaskBits
        Bits of MASKBITS that make a pixel of a FITS file bad.

    Returns
    -------
    MaskedCutout

    Raises
    ------
    CutoutError
        A file has no cutout, several cutouts, or no matching mask; the cutout has a different
        pixel scale; or its mask leaves too little sky.
    """
    path = folder / cutout
    count = count_cutouts(path)
    if count > 1:
        reason = f"has {count} cutouts, but each row of a manifest needs a file with one."
        raise CutoutError(path, reason)
    (found,) = read_cutouts(path, mask_bits=mask_bits)
    require_pixel_scale(found)
    bad = found.mask
    if mask is not None:
        what = f"its mask {mask}"
        try:
            named = load_mask(folder / mask)
        except CutoutError as error:
            raise CutoutError(path, f"{what}: {error.reason}") from error
        fitted = check_mask(path, named, found.pixels.shape, what)
        bad = fitted if bad is None else bad | fitted
        check_good_pixels(path, found.pixels, bad)
    return MaskedCutout(found.pixels, bad, found.ra, found.dec)


def require_pixel_scale(cutout: Cutout) -> None:
    """Raise a CutoutError if a file states a pixel scale other than 0.262 arcsec."""
    scale = cutout.pixel_scale
    if scale is not None and abs(scale / PIXEL_SCALE - 1) > SCALE_OFF:
        reason = (
            f"has pixels of {scale:.3g} arcsec (WCS); expected {PIXEL_SCALE} arcsec, because "
            "lenses and seeing would have a different size. Fetch it at that scale, or resample it."
        )
        raise CutoutError(cutout.path, reason)


def check_layout(found: MaskedCutout, layout: Layout, path: Path) -> None:
    """Check that a cutout has the layout of its pack.

    Parameters
    ----------
    found : MaskedCutout
        The cutout.
    layout : Layout
        Layout of the pack.
    path : Path
        File of the cutout, for the error message.

    Raises
    ------
    CutoutError
        The cutout has a different size, or only some of the cutouts have a mask.
    """
    plane = found.pixels.shape[1:]
    if plane != layout.plane:
        sizes = [" x ".join(map(str, sides)) for sides in (plane, layout.plane)]
        reason = (
            f"has {sizes[0]} pixels, but {layout.model} has {sizes[1]}; all cutouts must have the "
            "same size."
        )
        raise CutoutError(path, reason)
    if (found.mask is not None) != layout.has_masks:
        have = ("no mask", "one") if layout.has_masks else ("a mask", "none")
        rows, columns = layout.plane
        reason = (
            f"has {have[0]}, but {layout.model} has {have[1]}; all or none must have a mask. If "
            "all pixels of those without one are good, list a mask of zeros in the column "
            f"mask_path of every row: numpy.save('good.npy', numpy.zeros(({rows}, {columns}), "
            "bool)). Masks of the cutouts themselves still count."
        )
        raise CutoutError(path, reason)
