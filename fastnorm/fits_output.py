"""FITS in, FITS out: an image is normalised, and all that goes with it stays."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnorm.annulus import Annulus
from fastnorm.cutout import check_floating, check_pixels
from fastnorm.fits_files import bad_pixels, band_planes, find_image, name_of, opened
from fastnorm.maskbits import MaskBits
from fastnorm.normalize import normalize_outer_annulus
from fastnorm.output import atomic_path

if TYPE_CHECKING:
    from astropy.io.fits import ImageHDU


def normalize_file(
    path: str | Path,
    out: str | Path,
    annulus: Annulus | None = None,
    *,
    clip: float | None = None,
    nan_to_zero: bool = False,
    mask_bits: MaskBits = MaskBits(),  # noqa: B008
    backend: str | None = None,
) -> None:
    """Normalise the image of a FITS file into another one.

    Its header, WCS included, and all other units are kept as they are, but for INVVAR, which is
    scaled along, and a unit MASK with the pixels that were left out of the statistics, 1 is bad.
    Radii, medians and scales are cards of the image, see `fastnorm.nddata.cards`. Of an image with
    more bands, g, r and z are kept.

    Parameters
    ----------
    path : str or Path
        As of `fastnorm.io.read_cutouts`, FITS.
    out : str or Path
        ``.fits``; appears whole.
    annulus : Annulus, optional
        By default 65 and 90 % of the half-width, (32.5, 45.0) for 101 x 101 pixels.
    clip, nan_to_zero, backend
        As of `fastnorm.normalize_outer_annulus`.
    mask_bits : MaskBits
        Which of MASKBITS make a pixel bad.

    Raises
    ------
    CutoutError
        The file cannot be used.
    ValueError
        As of `fastnorm.normalize_outer_annulus`; or ``out`` is ``path``.
    OSError
        ``out`` cannot be written.
    """
    from astropy.io import fits

    from fastnorm.nddata import cards

    path, out = Path(path), Path(out)
    if os.path.realpath(path) == os.path.realpath(out):
        raise ValueError(f"out={str(out)!r} is what is read, and would be replaced; name another.")
    with opened(path) as units:
        image = find_image(path, units)
        planes = band_planes(path, image)
        check_floating(path, image.data.dtype)
        pixels = check_pixels(path, image.data[planes])
        mask = bad_pixels(path, units, image, mask_bits)
        used = annulus or Annulus.default(*pixels.shape[1:])
        result, median, scale = normalize_outer_annulus(
            pixels,
            used.r_in,
            used.r_out,
            mask=mask,
            clip=clip,
            nan_to_zero=nan_to_zero,
            backend=backend,
            return_stats=True,
        )
        done = _replaced(image, result)
        done.header.update(cards(used, clip, nan_to_zero, median, scale))
        done.header["BUNIT"] = ("", "MAD of the outer annulus")
        written: list[Any] = []
        for unit in units:
            name = name_of(unit)
            if unit is image:
                written.append(done)
            elif name == "INVVAR" and unit.is_image and unit.shape:
                factor = scale.astype(np.float64)[:, None, None] ** 2
                written.append(_replaced(unit, unit.data[planes] * factor))
                written[-1].header["BUNIT"] = ("", "of the normalised image")
            elif name != "MASK":
                # Of its own: the file is closed before the result is written.
                written.append(unit.copy())
    if mask is not None:
        flags = fits.ImageHDU(mask.astype(np.uint8), name="MASK")
        flags.header["MASKBITS"] = str(mask_bits)
        written.append(flags)
    with atomic_path(out) as temporary:
        fits.HDUList(written).writeto(temporary, checksum=True)


def _replaced(unit: Any, data: Any) -> ImageHDU:
    """An uncompressed unit with the header of another, and other pixels."""
    from astropy.io import fits

    kind = fits.PrimaryHDU if isinstance(unit, fits.PrimaryHDU) else fits.ImageHDU
    header = unit.header.copy()
    if "BANDS" in header:
        header["BANDS"] = "grz"
    return kind(np.ascontiguousarray(data, np.float32), header)
