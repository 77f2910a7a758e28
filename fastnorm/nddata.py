"""`astropy.nddata` in and out: images with unit, mask, uncertainty and WCS.

Needs astropy: ``pip install 'dhs-fastnorm[cli]'``.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from astropy import units
from astropy.nddata import (
    InverseVariance,
    NDData,
    NDUncertainty,
    StdDevUncertainty,
    UnknownUncertainty,
    VarianceUncertainty,
)
from astropy.wcs import WCS
from numpy.typing import NDArray

from fastnorm.annulus import Annulus
from fastnorm.cutout import check_floating, check_pixels
from fastnorm.fits_files import bad_pixels, band_planes, beside, find_image, opened
from fastnorm.lock import DEFINITION_VERSION
from fastnorm.maskbits import MaskBits
from fastnorm.normalize import normalize_outer_annulus

Data = TypeVar("Data", bound=NDData)

NANOMAGGY = units.Unit("nmgy")
EPS = 1e-8
MOST_NUMBERED = 99

# How an uncertainty changes where the data are divided by a scale.
_POWER: dict[type[NDUncertainty], int] = {
    StdDevUncertainty: -1,
    VarianceUncertainty: -2,
    InverseVariance: 2,
}


def normalize(
    data: Data,
    r_in: float | None = None,
    r_out: float | None = None,
    *,
    clip: float | None = None,
    nan_to_zero: bool = False,
    backend: str | None = None,
) -> Data:
    """Normalise images by the median and MAD of their outer annulus.

    Parameters
    ----------
    data : NDData or CCDData
        Of shape (H, W), or (..., H, W) with one image per band, in nanomaggies. Masked pixels,
        True is bad, leave the statistics. Never modified.
    r_in, r_out : float, optional
        Radii of the annulus in pixels; by default 65 and 90 % of the half-width, which is
        (32.5, 45.0) for 101 x 101 pixels.
    clip, nan_to_zero, backend
        As of `fastnorm.normalize_outer_annulus`.

    Returns
    -------
    NDData or CCDData
        Of the same class, without unit, with the same mask and WCS; a standard deviation, variance
        or inverse variance is scaled along, whatever ``clip`` does. Its ``meta`` are those of
        ``data`` and, as FITS cards, the annulus and what else was done.

    Raises
    ------
    TypeError
        It is no NDData, or its uncertainty is of a kind that cannot be scaled.
    ValueError
        The unit is not nanomaggy, or it is normalised already; one radius is given without the
        other; or as of `fastnorm.normalize_outer_annulus`.
    """
    if not isinstance(data, NDData):
        raise TypeError(
            f"data is a {type(data).__name__}; give an NDData or CCDData, or call "
            "fastnorm.normalize_outer_annulus for arrays."
        )
    _check_unit(data)
    images = np.asarray(data.data)
    annulus = _annulus(images.shape, r_in, r_out)
    mask = None if data.mask is None else np.broadcast_to(data.mask, images.shape)
    result, median, scale = normalize_outer_annulus(
        images,
        annulus.r_in,
        annulus.r_out,
        mask=mask,
        clip=clip,
        nan_to_zero=nan_to_zero,
        backend=backend,
        return_stats=True,
    )
    meta = copy.deepcopy(data.meta)
    meta.update(cards(annulus, clip, nan_to_zero, median, scale))
    kind: Any = type(data)
    done: Data = kind(
        result,
        uncertainty=_scaled(data.uncertainty, scale),
        mask=None if data.mask is None else np.array(mask),
        wcs=data.wcs,
        meta=meta,
        unit=units.dimensionless_unscaled,
        psf=data.psf,
    )
    return done


def read(path: str | Path, mask_bits: MaskBits = MaskBits()) -> NDData:  # noqa: B008
    """Read a FITS cutout of the Legacy Surveys.

    Parameters
    ----------
    path : str or Path
        As of `fastnorm.io.read_cutouts`, FITS.
    mask_bits : MaskBits
        Which of MASKBITS make a pixel bad.

    Returns
    -------
    NDData
        (3, H, W) float32 in nanomaggies, bands g, r, z; the WCS of the sky; as uncertainty the
        inverse variance, and a mask, where the file has them; the header as ``meta``.

    Raises
    ------
    CutoutError
        It cannot be used.
    """
    path = Path(path)
    with opened(path) as found:
        image = find_image(path, found)
        planes = band_planes(path, image)
        check_floating(path, image.data.dtype)
        pixels = check_pixels(path, image.data[planes])
        mask = bad_pixels(path, found, image, mask_bits)
        invvar = beside(path, found, "INVVAR", image)
        weights = None if invvar is None else np.array(invvar.data[planes])
        header = image.header.copy()
    return NDData(
        pixels,
        uncertainty=None if weights is None else InverseVariance(weights, unit=NANOMAGGY**-2),
        mask=mask,
        wcs=WCS(header).celestial if "CTYPE1" in header else None,
        meta=header,
        unit=NANOMAGGY,
    )


def cards(
    annulus: Annulus,
    clip: float | None,
    nan_to_zero: bool,
    median: NDArray[Any],
    scale: NDArray[Any],
) -> dict[str, Any]:
    """What was done to an image, as FITS cards; ``MEDIAN1`` and ``SCALE1`` are of its first plane.

    Where nothing was clipped, an image was ``IMAGE * SCALEn + MEDIANn`` nanomaggies. Of more than
    99 planes, which have no cards of eight letters, they are left out.
    """
    done: dict[str, Any] = {
        "ANNRIN": annulus.r_in,
        "ANNROUT": annulus.r_out,
        "NORMEPS": EPS,
        "NORMCLIP": "none" if clip is None else float(clip),
        "NANTO0": nan_to_zero,
        "NORMDEF": DEFINITION_VERSION,
    }
    middles, widths = np.ravel(median).tolist(), np.ravel(scale).tolist()
    if len(middles) <= MOST_NUMBERED:
        for k, (middle, width) in enumerate(zip(middles, widths, strict=True), 1):
            done[f"MEDIAN{k}"], done[f"SCALE{k}"] = middle, width
    return done


def _check_unit(data: NDData) -> None:
    if isinstance(data.meta, Mapping) and "ANNRIN" in data.meta:
        radii = data.meta["ANNRIN"], data.meta.get("ANNROUT")
        raise ValueError(
            f"data is normalised already, with the annulus ({radii[0]}, {radii[1]}); give the "
            "original, in nanomaggies."
        )
    if data.unit != NANOMAGGY:
        raise ValueError(
            f"data has the unit {str(data.unit)!r}; allowed is nanomaggy, units.Unit('nmgy'). "
            "Convert it; 1 nanomaggy is 3.631e-6 Jy, AB magnitude 22.5."
        )


def _annulus(shape: tuple[int, ...], r_in: float | None, r_out: float | None) -> Annulus:
    if (r_in is None) != (r_out is None):
        raise ValueError(
            f"r_in={r_in!r} and r_out={r_out!r}: give both radii, or neither for the default."
        )
    if r_in is not None and r_out is not None:
        return Annulus(r_in, r_out)
    if len(shape) < 2:
        raise ValueError(f"data has shape {shape}; allowed are (H, W) and (..., H, W).")
    return Annulus.default(*shape[-2:])


def _scaled(uncertainty: NDUncertainty | None, scale: NDArray[Any]) -> NDUncertainty | None:
    if uncertainty is None:
        return None
    power = _POWER.get(type(uncertainty))
    if power is None:
        what = "unknown" if isinstance(uncertainty, UnknownUncertainty) else "not known here"
        raise TypeError(
            f"data has an uncertainty of the kind {type(uncertainty).__name__}, {what}; allowed "
            f"are {', '.join(kind.__name__ for kind in _POWER)}. Convert it, or set it to None."
        )
    given = np.asarray(uncertainty.array)
    values = given * np.asarray(scale, np.float64)[..., None, None] ** power
    return type(uncertainty)(values.astype(given.dtype), unit=units.dimensionless_unscaled)
