"""Seeing and depth of one cutout, from its header, its inverse variances, or its sky.

``psfdepth`` is the inverse variance of the flux of a point source, ``sum(PSF^2 * invvar)`` over the
pixels, in nanomaggies^-2. The catalogues of the Legacy Surveys have the same quantity
(https://www.legacysurvey.org/dr10/catalogs, ``psfdepth_r``: 5 / sqrt(psfdepth) is the flux of a
5-sigma point source).
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import fastnorm
from dhs.constants import BANDS, PIXEL_SCALE
from dhs.injection.psf import LEAST_FWHM_ARCSEC, MOST_FWHM_ARCSEC, PSF, SIDE
from dhs.injection.psf_models import psf_profile
from dhs.pack.cutouts import read_cutout
from fastnorm.annulus import MINIMUM_PIXELS
from fastnorm.io.cutout import degrees
from fastnorm.io.fits_files import read_image
from fastnorm.io.fits_open import opened
from fastnorm.io.maskbits import MaskBits
from fastnorm.io.read import FITS_SUFFIXES

SEEING_CARDS = ("PSFSIZE_R", "SEEING_R", "FWHM_R", "PSFSIZE", "PSF_FWHM", "SEEING", "FWHM")
"""Header cards of the FWHM of the PSF in r, or in all bands; the first one present is used."""

_UNITS = {"arcsec": 1.0, "arcseconds": 1.0, "pixel": PIXEL_SCALE, "pixels": PIXEL_SCALE}
_UNITS |= {'"': 1.0, "pix": PIXEL_SCALE}
# A comment that begins with the unit in brackets (FITS standard 4.0, section 4.3.2).
_IN_BRACKETS = re.compile(r"\[([^\]]*)\]")
CLIP, MOST_ROUNDS = 3.0, 10
_R = BANDS.index("r")


class SeeingCard(NamedTuple):
    """A header card of the seeing and its unit, ``arcsec`` or ``pixel``, as the user states it."""

    name: str
    unit: str

    @classmethod
    def parse(cls, text: str) -> SeeingCard:
        """Parse ``NAME=UNIT``.

        Raises
        ------
        ValueError
            The text has another form, or the unit is neither arcsec nor pixel.
        """
        name, _, unit = text.partition("=")
        if not name.strip() or unit.strip().lower() not in _UNITS:
            raise ValueError(
                f"--seeing-card {text} is not NAME=arcsec or NAME=pixel, for example FWHM=pixel."
            )
        return cls(name.strip(), unit.strip().lower())


class Opened(NamedTuple):
    """The band r of a cutout, and the rest of its file that seeing and depth depend on.

    ``pixels`` (H, W) float32, nanomaggies. ``is_good`` (H, W) bool. ``invvar`` (H, W),
    nanomaggies^-2, or None. ``header``: FITS header of the image, or None. ``ra``, ``dec``:
    degrees, or None.
    """

    pixels: NDArray[np.float32]
    is_good: NDArray[np.bool_]
    invvar: NDArray[Any] | None
    header: Any
    ra: float | None
    dec: float | None


def open_cutout(folder: Path, cutout: str, mask: str | None, mask_bits: MaskBits) -> Opened:
    """Read the only cutout of a file in r, with all that seeing and depth are measured from.

    Parameters
    ----------
    folder : Path
        Base folder of relative paths.
    cutout : str
        File of the cutout.
    mask : str or None
        File of a mask.
    mask_bits : MaskBits
        Bits of MASKBITS that make a pixel of a FITS file bad.

    Returns
    -------
    Opened

    Raises
    ------
    fastnorm.io.CutoutError
        The file cannot be used; see `dhs.pack.cutouts.read_cutout`.
    """
    found = read_cutout(folder, cutout, mask, mask_bits)
    pixels = found.pixels[_R]
    is_good = np.isfinite(pixels) if found.mask is None else np.isfinite(pixels) & ~found.mask[_R]
    invvar = header = None
    if cutout.lower().endswith(FITS_SUFFIXES):
        with opened(folder / cutout) as units:
            image = read_image(folder / cutout, units, mask_bits)
            invvar = None if image.invvar is None else image.invvar[_R]
            header = image.unit.header.copy()
    return Opened(pixels, is_good, invvar, header, found.ra, found.dec)


def seeing_of_header(header: Any, stated: SeeingCard | None = None) -> tuple[float, str]:
    """Find the FWHM of the PSF in a FITS header.

    Parameters
    ----------
    header : astropy.io.fits.Header
    stated : SeeingCard, optional
        Card to read, with its unit. By default, the first of `SEEING_CARDS` in the header, which
        must give its unit in brackets at the start of its comment.

    Returns
    -------
    fwhm : float
        Arcsec.
    name : str
        Name of the card.

    Raises
    ------
    ValueError
        There is no card, its unit is unknown, or its value is not a width. The message is a
        phrase.
    """
    names = SEEING_CARDS if stated is None else (stated.name,)
    name = next((name for name in names if name in header), None)
    if name is None:
        raise ValueError(f"its header has no card {' or '.join(names)}")
    given, comment = header[name], str(header.comments[name])
    unit = stated.unit if stated is not None else ""
    if not unit and (said := _IN_BRACKETS.match(comment.strip())):
        unit = said[1].strip().lower()
    if unit not in _UNITS:
        raise ValueError(
            f"its card {name} does not begin its comment with the unit, [arcsec] or [pixel]; "
            f"state it with --seeing-card {name}=arcsec or {name}=pixel"
        )
    value = degrees(given)
    fwhm = math.nan if value is None else value * _UNITS[unit]
    if not LEAST_FWHM_ARCSEC <= fwhm <= MOST_FWHM_ARCSEC:
        raise ValueError(
            f"its card {name} is {given!r} {unit}; expected a width of {LEAST_FWHM_ARCSEC:g} to "
            f"{MOST_FWHM_ARCSEC:g} arcsec"
        )
    return fwhm, name


def psfdepth_of_invvar(invvar: NDArray[Any], fwhm: float) -> float:
    """Compute the inverse variance of the flux of a point source in the middle of an image.

    Parameters
    ----------
    invvar : (H, W) array
        Inverse variance of every pixel, nanomaggies^-2; what is not above 0 counts as 0.
    fwhm : float
        FWHM of the PSF, arcsec; the PSF is that of the injections.

    Returns
    -------
    float
        ``sum(PSF^2 * invvar)``, nanomaggies^-2; 0 if no pixel was observed.
    """
    weights = np.asarray(invvar, np.float64)
    weights = np.where(np.isfinite(weights) & (weights > 0), weights, 0.0)
    psf = _psf(fwhm)
    rows, row_of_psf = _overlap(weights.shape[0])
    columns, column_of_psf = _overlap(weights.shape[1])
    return float((psf[row_of_psf, column_of_psf] ** 2 * weights[rows, columns]).sum())


def psfdepth_of_sky(pixels: NDArray[np.float32], is_good: NDArray[np.bool_], fwhm: float) -> float:
    """Estimate the inverse variance of the flux of a point source from the noise of the sky.

    The noise is that of the good pixels in the outer annulus: 1.4826 MAD, after 3-sigma clipping
    of the objects in it. Light that is left makes the depth too shallow. Noise that is correlated
    between pixels, as in resampled images, makes it too deep.

    Parameters
    ----------
    pixels : (H, W) float32
        Nanomaggies.
    is_good : (H, W) bool
    fwhm : float
        FWHM of the PSF, arcsec.

    Returns
    -------
    float
        ``sum(PSF^2) / sigma^2``, nanomaggies^-2.

    Raises
    ------
    ValueError
        There are too few good pixels, or they have no noise. The message is a phrase.
    """
    annulus = fastnorm.Annulus.default(*pixels.shape)
    sky = pixels[annulus.mask(*pixels.shape) & is_good].astype(np.float64)
    if len(sky) < MINIMUM_PIXELS:
        raise ValueError(f"only {len(sky)} pixels of its sky are good; {MINIMUM_PIXELS} are needed")
    sigma = _clipped_sigma(sky)
    if not sigma > 0:
        raise ValueError("its sky has no noise: most pixels have one value")
    return float((_psf(fwhm) ** 2).sum() / sigma**2)


def _clipped_sigma(values: NDArray[np.float64]) -> float:
    for _ in range(MOST_ROUNDS):
        median = np.median(values)
        sigma = float(np.median(np.abs(values - median)) * 1.482602218505602)
        kept = values[np.abs(values - median) <= CLIP * sigma]
        if len(kept) == len(values):
            break
        values = kept
    return sigma


def _psf(fwhm: float) -> NDArray[np.float64]:
    image: NDArray[np.float64] = PSF.of_profile(psf_profile(), fwhm).images[0, _R]
    return image


def _overlap(side: int) -> tuple[slice, slice]:
    """Return the pixels that the PSF covers in an image of this side, and those of the PSF."""
    start = side // 2 - SIDE // 2
    first, last = max(start, 0), min(start + SIDE, side)
    return slice(first, last), slice(first - start, last - start)
