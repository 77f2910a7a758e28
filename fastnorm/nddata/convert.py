"""Normalisation of `astropy.nddata` images with unit, mask, uncertainty and WCS.

This module needs astropy, in the extra ``[cli]``.
"""

from __future__ import annotations

import copy
import math
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
    VarianceUncertainty,
)
from astropy.wcs import WCS
from numpy.typing import NDArray

from fastnorm.annulus import Annulus
from fastnorm.checksums import DEFINITION_VERSION
from fastnorm.io.cutout import too_few_good
from fastnorm.io.fits_files import read_image, tidy_bands
from fastnorm.io.fits_open import opened
from fastnorm.io.fits_warnings import legible
from fastnorm.io.maskbits import MaskBits
from fastnorm.normalize import normalize_outer_annulus
from fastnorm.paths import local_path

Data = TypeVar("Data", bound=NDData)

NANOMAGGY = units.Unit("nmgy")
EPS = 1e-8
MOST_NUMBERED = 99

POWERS = {"StdDevUncertainty": -1, "VarianceUncertainty": -2, "InverseVariance": 2}
"""Power of the scale that multiplies an uncertainty when the data are divided by the scale."""
_KINDS = (StdDevUncertainty, VarianceUncertainty, InverseVariance)

COMMENTS = {
    "ANNRIN": "inner radius of the annulus, pixels",
    "ANNROUT": "outer radius of the annulus, pixels",
    "NORMEPS": "added to the MAD",
    "NORMCLIP": "limit of the values, or none",
    "NANTO0": "NaN counted as 0",
    "NORMDEF": "version of the definition",
    "MEDIAN": "subtracted, nanomaggy",
    "SCALE": "divided by: MAD + NORMEPS, nanomaggy",
}
"""Comments of the cards that `cards` returns, by keyword without the plane number."""


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
        Images in nanomaggies, shape (H, W), or (..., H, W) with one image per band. Masked pixels
        (True is bad) are excluded from the statistics. Never modified.
    r_in, r_out : float, optional
        Radii of the annulus in pixels; 65 and 90 % of the half-width by default, which is
        (32.5, 45.0) for 101 x 101 pixels.
    clip : float, optional
        Limit the result to ``[-clip, clip]``; NaN stays NaN.
    nan_to_zero : bool
        Replace NaN by 0 before the statistics and after the division.
    backend : str, optional
        A name from `fastnorm.backends`; the fastest available by default.

    Returns
    -------
    NDData or CCDData
        Normalised data of the same class, without unit and with the same WCS. The mask also marks
        pixels whose inverse variance is not above 0. A standard deviation, variance or inverse
        variance is scaled with the data, independently of ``clip``. ``meta`` contains that of
        ``data`` and the cards of `cards`.

    Raises
    ------
    TypeError
        ``data`` is not an NDData, its uncertainty has a type that cannot be scaled, or its mask
        is neither bool nor 0 and 1.
    ValueError
        The unit is not nanomaggy, ``data`` is already normalised, only one radius is given, too
        few annulus pixels are good, or an argument is invalid; see
        `fastnorm.normalize_outer_annulus`.
    """
    if not isinstance(data, NDData):
        raise TypeError(
            f"data is of type {type(data).__name__}; expected an NDData or CCDData. Call "
            "fastnorm.normalize_outer_annulus for arrays."
        )
    _check_unit(data)
    images = np.asarray(data.data)
    annulus = _annulus(images.shape, r_in, r_out)
    mask = _mask(data, images.shape)
    if (fault := too_few_good(images, mask, annulus)) is not None:
        raise ValueError(f"data cannot be normalised: {fault}")
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
    # Otherwise astropy would write the original unit.
    meta.update(cards(annulus, clip, nan_to_zero, median, scale) | {"BUNIT": ""})
    kind: Any = type(data)
    done: Data = kind(
        result,
        uncertainty=_scaled(data, scale),
        mask=mask,
        wcs=data.wcs,
        meta=meta,
        unit=units.dimensionless_unscaled,
        psf=data.psf,
        **({"flags": data.flags} if hasattr(data, "flags") else {}),
    )
    return done


def read(path: str | Path, mask_bits: MaskBits = MaskBits()) -> NDData:  # noqa: B008
    """Read a FITS cutout of the Legacy Surveys.

    Parameters
    ----------
    path : str or Path
        FITS file; see `fastnorm.io.read_cutouts`.
    mask_bits : MaskBits
        Bits of MASKBITS that make a pixel bad.

    Returns
    -------
    NDData
        (3, H, W) float32 in nanomaggies, bands g, r, z, with the celestial WCS and the header as
        ``meta``. It has the inverse variance as uncertainty, and a mask, if the file has them.

    Raises
    ------
    CutoutError
        The file is not usable.
    """
    path = local_path(path)
    with opened(path) as found:
        image = read_image(path, found, mask_bits)
        header = legible(path, image.unit.header)
        sky = WCS(header, naxis=2) if "CTYPE1" in header else None
    tidy_bands(header)
    weights = image.invvar
    return NDData(
        image.pixels,
        uncertainty=None if weights is None else InverseVariance(weights, unit=NANOMAGGY**-2),
        mask=image.mask,
        wcs=sky.celestial if sky is not None and sky.has_celestial else None,
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
    """Return FITS cards that record a normalisation.

    ``MEDIAN1`` and ``SCALE1`` belong to the first plane. Where nothing was clipped, the original
    plane n is ``IMAGE * SCALEn + MEDIANn`` nanomaggies. These cards are omitted for more than 99
    planes, since keywords have at most eight characters.

    Parameters
    ----------
    annulus : Annulus
        The annulus of the statistics.
    clip : float or None
        Limit of the result.
    nan_to_zero : bool
        Whether NaN became 0.
    median, scale : arrays of any shape
        Median and ``MAD + eps`` of every plane, in nanomaggies.

    Returns
    -------
    dict
        Card values by keyword.
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
            done[f"MEDIAN{k}"], done[f"SCALE{k}"] = _card_value(middle), _card_value(width)
    return done


def _card_value(number: float) -> float | str:
    """Return a number, or its name if it is not finite, since FITS has only finite numbers."""
    return number if math.isfinite(number) else str(number)


def _check_unit(data: NDData) -> None:
    if isinstance(data.meta, Mapping) and "ANNRIN" in data.meta:
        radii = data.meta["ANNRIN"], data.meta.get("ANNROUT")
        raise ValueError(
            f"data is already normalised, with the annulus ({radii[0]}, {radii[1]}); give the "
            "original data, in nanomaggies."
        )
    if data.unit not in (NANOMAGGY, NANOMAGGY / units.pix):
        found = "no unit" if data.unit is None else f"the unit {str(data.unit)!r}"
        raise ValueError(
            f"data has {found}; expected nanomaggy, units.Unit('nmgy'). Convert it: 1 nanomaggy "
            "is 3.631e-6 Jy, AB magnitude 22.5."
        )


def _annulus(shape: tuple[int, ...], r_in: float | None, r_out: float | None) -> Annulus:
    if len(shape) < 2:
        raise ValueError(f"data has shape {shape}; expected (H, W) or (..., H, W).")
    return Annulus.given_or(r_in, r_out, lambda: Annulus.default(*shape[-2:]))


def _mask(data: NDData, shape: tuple[int, ...]) -> NDArray[np.bool_] | None:
    """Combine the mask with the pixels whose inverse variance is not above 0."""
    bad = None
    if data.mask is not None:
        given = np.asarray(data.mask)
        if given.dtype != bool and not (given.dtype.kind in "iu" and np.isin(given, (0, 1)).all()):
            raise TypeError(
                f"data has a mask of dtype {given.dtype}; expected bool, or 0 and 1 (1 is bad)."
            )
        try:
            bad = np.broadcast_to(given.astype(bool), shape).copy()
        except ValueError:
            raise ValueError(
                f"data has a mask of shape {given.shape}, which does not broadcast to the shape of "
                f"the images, {shape}."
            ) from None
    if isinstance(data.uncertainty, InverseVariance):
        unseen = np.broadcast_to(~(np.asarray(data.uncertainty.array) > 0), shape)
        if unseen.any():
            bad = unseen.copy() if bad is None else bad | unseen
    return bad


def _scaled(data: NDData, scale: NDArray[Any]) -> NDUncertainty | None:
    uncertainty: NDUncertainty | None = data.uncertainty
    if uncertainty is None:
        return None
    kind = next((kind for kind in _KINDS if isinstance(uncertainty, kind)), None)
    if kind is None:
        raise TypeError(
            f"data has an uncertainty of type {type(uncertainty).__name__}; expected one of "
            f"{', '.join(POWERS)}. Convert it, or set it to None."
        )
    power = POWERS[kind.__name__]
    given = np.asarray(uncertainty.array)
    factor = np.asarray(scale, np.float64)[..., None, None] ** power
    if uncertainty.unit is not None:
        # The unit is a power of that of the data: sigma, variance or inverse variance.
        factor = factor * uncertainty.unit.to(data.unit**-power)
    dtype = given.dtype if given.dtype.kind == "f" else np.float64
    return kind((given * factor).astype(dtype), unit=units.dimensionless_unscaled)
