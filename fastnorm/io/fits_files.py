"""Reader of Legacy Surveys FITS cutouts with the HDUs IMAGE, INVVAR and MASKBITS.

A pixel is bad in a band if its inverse variance is not above 0, if MASKBITS marks it (see
`fastnorm.io.maskbits`), or if an HDU MASK, which this package writes, is not 0.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastnorm.io.cutout import (
    BANDS,
    Cutout,
    CutoutError,
    check_floating,
    check_good_pixels,
    check_mask,
    check_pixels,
    check_size,
    degrees,
)
from fastnorm.io.fits_open import opened
from fastnorm.io.maskbits import MaskBits

NORMALISED = "ANNRIN"
"""Header card that marks a normalised image."""
IMAGE_NAMES = ("IMAGE", "SCI")
BESIDE = ("INVVAR", "MASKBITS", "MASK", "UNCERT")
NANOMAGGY = re.compile(r"(nanomagg(y|ie|ies)|nmgy)( */ *pix(el)?| +pix(el)?(-1|\^-1|\*\*-1))?")
"""Names of the unit of pixels, in lower case."""


class FitsImage(NamedTuple):
    """The image of a FITS file in the bands g, r, z.

    ``unit`` is the astropy HDU, and ``planes`` are the indices of its g, r and z planes.
    ``pixels`` is (3, H, W) float32 in nanomaggies. ``mask`` has that shape, True is bad; it is
    None if the file has no mask. ``invvar`` has that shape, in nanomaggy^-2, or is None.
    """

    unit: Any
    planes: list[int]
    pixels: NDArray[np.float32]
    mask: NDArray[np.bool_] | None
    invvar: NDArray[Any] | None


def read_fits(path: Path, stem: str, mask_bits: MaskBits) -> Cutout:
    """Read the image of a FITS file and its mask, position and pixel scale.

    Parameters
    ----------
    path : Path
        The file.
    stem : str
        Id of the cutout.
    mask_bits : MaskBits
        Bits of MASKBITS that make a pixel bad.

    Returns
    -------
    Cutout

    Raises
    ------
    CutoutError
        The file has no image of the bands g, r, z in nanomaggies, the image is already
        normalised, another HDU does not match it, or too few annulus pixels are good.
    ImportError
        astropy is missing.
    """
    with opened(path) as units:
        image = read_image(path, units, mask_bits)
        header = image.unit.header
        ra, dec = _position(header)
        scale = _pixel_scale(header)
    check_good_pixels(path, image.pixels, image.mask)
    return Cutout(stem, image.pixels, ra, dec, path, image.mask, scale)


def read_image(path: Path, units: Any, mask_bits: MaskBits) -> FitsImage:
    """Find the image among the HDUs of a file, and read it with its mask and inverse variance.

    Parameters
    ----------
    path : Path
        The file.
    units : astropy.io.fits.HDUList
        The open file; see `fastnorm.io.fits_open.opened`.
    mask_bits : MaskBits
        Bits of MASKBITS that make a pixel bad.

    Returns
    -------
    FitsImage

    Raises
    ------
    CutoutError
        The file has no usable image; see `read_fits`.
    """
    unit = _find_image(path, units)
    planes = _band_planes(path, unit)
    check_floating(path, unit.data.dtype)
    pixels = check_pixels(path, unit.data[planes])
    found: list[NDArray[np.bool_]] = []
    weights = None
    if (invvar := _beside(path, units, "INVVAR", unit)) is not None:
        weights = np.array(invvar.data[planes])
        # The negation makes NaN bad, too.
        found.append(~(weights > 0))
    if (bits := _beside(path, units, "MASKBITS", unit)) is not None:
        if bits.data.dtype.kind not in "iu":
            raise CutoutError(path, f"MASKBITS has dtype {bits.data.dtype}; expected integers.")
        found.append(mask_bits.mask(bits.data[0] if bits.data.ndim == 3 else bits.data))
    if (mask := _beside(path, units, "MASK", unit)) is not None:
        flags = mask.data[planes] if mask.shape == unit.shape else mask.data
        found.append(check_mask(path, flags, pixels.shape, "its HDU MASK"))
    return FitsImage(unit, planes, pixels, np.logical_or.reduce(found) if found else None, weights)


def name_of(unit: Any) -> str:
    """Return the name of an HDU, or the card that the cutout service uses for it, in capitals."""
    return str(unit.header.get("EXTNAME") or unit.header.get("IMAGETYP", "")).strip().upper()


def tidy_bands(header: Any) -> None:
    """Set the band cards of a header to g, r and z, if it has band cards."""
    named = [name for name in header if re.fullmatch(r"BAND(S|\d)", name)]
    for name in named:
        if name not in ("BANDS", "BAND0", "BAND1", "BAND2"):
            del header[name]
    if named:
        header["BANDS"] = "".join(BANDS)
    for k, band in enumerate(BANDS):
        if f"BAND{k}" in header:
            header[f"BAND{k}"] = band


def _find_image(path: Path, units: Any) -> Any:
    images = [unit for unit in units if unit.is_image and unit.shape]
    others = [unit for unit in images if name_of(unit) not in BESIDE]
    called = [unit for unit in others if name_of(unit) in IMAGE_NAMES]
    if not others:
        raise CutoutError(path, "has no image; expected one of shape (3, rows, columns).")
    image = (called or others)[0]
    rivals = [unit for unit in others if unit.shape == image.shape]
    if not called and len(rivals) > 1:
        names = ", ".join(repr(name_of(unit) or "PRIMARY") for unit in rivals)
        raise CutoutError(
            path,
            f"has {len(rivals)} images of the same shape, {names}; set EXTNAME to IMAGE in the one "
            "to read.",
        )
    if NORMALISED in image.header:
        radii = image.header[NORMALISED], image.header.get("ANNROUT")
        raise CutoutError(
            path,
            f"is already normalised, with the annulus ({radii[0]}, {radii[1]}); use the original, "
            "in nanomaggies.",
        )
    _check_unit(path, image.header)
    check_size(path, "its image", math.prod(image.shape) * abs(image.header["BITPIX"]) // 8)
    return image


def _check_unit(path: Path, header: Any) -> None:
    unit = str(header.get("BUNIT", "")).strip()
    if unit and not NANOMAGGY.fullmatch(unit.lower()):
        raise CutoutError(
            path,
            f"is in {unit!r} (BUNIT); expected nanomaggy. Convert it: 1 nanomaggy is 3.631e-6 "
            "Jy, AB magnitude 22.5.",
        )


def _band_planes(path: Path, image: Any) -> list[int]:
    """Return the indices of the g, r and z planes of an image."""
    shape, bands = image.shape, _bands(image.header)
    if len(shape) == 2 and 0 not in shape:
        raise CutoutError(
            path,
            f"its image has shape {shape}, one band; expected g, r and z in one image of shape "
            "(3, rows, columns): fits.PrimaryHDU(numpy.stack([g, r, z]), header).",
        )
    if len(shape) == 3 and 0 not in shape and bands:
        if len(bands) != shape[0] or any(bands.count(band) != 1 for band in BANDS):
            raise CutoutError(
                path,
                f"has {shape[0]} planes, and its header lists the bands {bands!r}; expected one "
                f"band per plane, and each of {', '.join(BANDS)} once.",
            )
        return [bands.index(band) for band in BANDS]
    if len(shape) != 3 or shape[0] != len(BANDS) or 0 in shape:
        reason = (
            f"its image has shape {shape}; expected (3, rows, columns) with bands g, r, z first "
            "(NAXIS3), or more bands, listed in the card BANDS."
        )
        raise CutoutError(path, reason)
    return list(range(len(BANDS)))


def _bands(header: Any) -> str:
    """Return the bands in a header, from ``BANDS`` or ``BAND0``, ``BAND1``, ...; empty if none."""
    one_by_one = [str(header[f"BAND{k}"]).strip() for k in range(10) if f"BAND{k}" in header]
    text = str(header.get("BANDS", "")) or "".join(one_by_one)
    return re.sub(r"[\s,;/]", "", text).lower()


def _beside(path: Path, units: Any, name: str, image: Any) -> Any:
    """Return INVVAR, MASKBITS or MASK of an image, or None; check shapes before reading pixels."""
    numbers = [k for k, unit in enumerate(units) if unit.is_image and name_of(unit) == name]
    if len(numbers) > 1:
        listed = " and ".join(map(str, numbers))
        raise CutoutError(path, f"has {name} {len(numbers)} times (HDUs {listed}); keep one.")
    unit = units[numbers[0]] if numbers else None
    if unit is None:
        return None
    plane = image.shape[1:]
    allowed = {
        "INVVAR": [image.shape],
        "MASKBITS": [plane, (1, *plane)],
        "MASK": [plane, image.shape, (len(BANDS), *plane)],
    }[name]
    if unit.shape not in allowed:
        shapes = " or ".join(map(str, dict.fromkeys(allowed)))
        raise CutoutError(
            path, f"{name} has shape {unit.shape}; to fit the image it must be {shapes}."
        )
    ours, theirs = _bands(image.header), _bands(unit.header)
    if unit.shape == image.shape and theirs and theirs != ours:
        raise CutoutError(path, f"{name} has the bands {theirs!r}, but the image has {ours!r}.")
    return unit


def _pixel_scale(header: Any) -> float | None:
    """Return the side of a square pixel of equal area in arcsec, or None if unknown."""
    if not str(header.get("CTYPE1", "")).startswith("RA--"):
        return None
    if "CD1_1" in header:
        matrix, unsaid, step = "CD", (0.0, 0.0, 0.0, 0.0), 1.0
    else:
        matrix, unsaid = "PC", (1.0, 0.0, 0.0, 1.0)
        steps = [degrees(header.get(name, 1.0)) for name in ("CDELT1", "CDELT2")]
        step = math.prod(math.nan if value is None else value for value in steps)
    entries = zip(("1_1", "1_2", "2_1", "2_2"), unsaid, strict=True)
    a, b, c, d = (degrees(header.get(f"{matrix}{place}", value)) for place, value in entries)
    if a is None or b is None or c is None or d is None:
        return None
    scale = 3600 * math.sqrt(abs(step * (a * d - b * c)))
    return scale if math.isfinite(scale) and scale > 0 else None


def _position(header: Any) -> tuple[float | None, float | None]:
    ra, dec = degrees(header.get("RA")), degrees(header.get("DEC"))
    if ra is not None and dec is not None:
        return ra, dec
    axes = str(header.get("CTYPE1", ""))[:4], str(header.get("CTYPE2", ""))[:4]
    centre = (header["NAXIS1"] + 1) / 2, (header["NAXIS2"] + 1) / 2
    reference = degrees(header.get("CRPIX1")), degrees(header.get("CRPIX2"))
    # The reference point is the position of the object only if it is in the middle.
    is_centred = all(
        pixel is not None and abs(pixel - middle) <= 1
        for pixel, middle in zip(reference, centre, strict=True)
    )
    if axes == ("RA--", "DEC-") and is_centred:
        return degrees(header.get("CRVAL1")), degrees(header.get("CRVAL2"))
    return None, None
