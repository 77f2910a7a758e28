"""FITS cutouts in the format of the Legacy Surveys, built with astropy only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.stats import median_absolute_deviation
from astropy.wcs import WCS
from numpy.typing import NDArray

from fastnorm.io import Cutout, CutoutError, read_cutouts
from fastnorm.io.maskbits import MaskBits

SIDE = 101
RA, DEC = 150.1, 2.2
ROW, COLUMN = 15, 45
UNSEEN = slice(0, 10)
# Bit numbers of DR10, from https://www.legacysurvey.org/dr10/bitmasks/.
BITS = {
    "NPRIMARY": 0,
    "BRIGHT": 1,
    "SATUR_G": 2,
    "SATUR_R": 3,
    "SATUR_Z": 4,
    "ALLMASK_G": 5,
    "ALLMASK_R": 6,
    "ALLMASK_Z": 7,
    "WISEM1": 8,
    "WISEM2": 9,
    "BAILOUT": 10,
    "MEDIUM": 11,
    "GALAXY": 12,
    "CLUSTER": 13,
    "SATUR_I": 14,
    "ALLMASK_I": 15,
}


def sky(side: int = SIDE) -> WCS:
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crpix = [(side + 1) / 2, (side + 1) / 2]
    wcs.wcs.crval = [RA, DEC]
    wcs.wcs.cd = np.array([[-0.262, 0], [0, 0.262]]) / 3600
    return wcs


def legacy_units(seed: int = 0, bands: str = "grz", side: int = SIDE) -> fits.HDUList:
    """Build IMAGE, INVVAR and MASKBITS, with ten unobserved rows in r and one pixel for each bit.

    Some of those rows are in the annulus, and their values are far from the sky.
    """
    rng = np.random.default_rng(seed)
    pixels = rng.normal(0, 0.02, (len(bands), side, side)).astype(np.float32)
    invvar = rng.uniform(1e3, 1e4, pixels.shape).astype(np.float32)
    red = bands.index("r")
    invvar[red, UNSEEN] = 0
    pixels[red, UNSEEN] = 1
    maskbits = np.zeros((side, side), np.int32)
    for bit in BITS.values():
        maskbits[ROW, COLUMN + bit] = 1 << bit
    image = fits.PrimaryHDU(pixels, sky(side).to_header())
    image.header["BANDS"] = bands
    image.header["SURVEY"] = "LegacySurvey"
    image.header["BRICK"] = ("1501p022", "of the centre")
    return fits.HDUList(
        [
            image,
            fits.ImageHDU(invvar, image.header, name="INVVAR"),
            fits.ImageHDU(maskbits, sky(side).to_header(), name="MASKBITS"),
        ]
    )


def save_legacy(path: Path, **options: Any) -> Path:
    legacy_units(**options).writeto(path, checksum=True)
    return path


def expected_mask(side: int = SIDE) -> NDArray[np.bool_]:
    """Return the pixels of `legacy_units` that are bad by default, written out by hand."""
    bad = np.zeros((3, side, side), bool)
    bad[1, UNSEEN] = True
    for name in ("BRIGHT", "MEDIUM", "CLUSTER"):
        bad[:, ROW, COLUMN + BITS[name]] = True
    for k, band in enumerate("GRZ"):
        for kind in ("SATUR", "ALLMASK"):
            bad[k, ROW, COLUMN + BITS[f"{kind}_{band}"]] = True
    return bad


def read(path: Path, mask_bits: str = "dr10") -> Cutout:
    (cutout,) = read_cutouts(path, mask_bits=MaskBits.parse(mask_bits))
    return cutout


def refusal(path: Path) -> str:
    with pytest.raises(CutoutError) as caught:
        list(read_cutouts(path))
    return caught.value.reason


def normalised_by_astropy(
    pixels: NDArray[np.float32], bad: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Normalise by the median and MAD of good pixels 32.5 to 45 pixels from the centre."""
    y, x = np.indices(pixels.shape[1:]) - SIDE // 2
    radius = np.hypot(y, x)
    ring = (radius >= 32.5) & (radius < 45)
    result = []
    for plane, mask in zip(pixels, bad, strict=True):
        good = plane[ring & ~mask]
        scale = np.float32(np.float64(median_absolute_deviation(good)) + 1e-8)
        result.append((plane - np.median(good)) / scale)
    return np.stack(result)
