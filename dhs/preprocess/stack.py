"""Preprocess a raw three-band cutout, through the functions that existing scripts call."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

import fastnorm
from dhs.constants import STAMP_SIZE
from dhs.utils import radial_profile_model
from fastnorm import LEGACY_ANNULUS, Annulus
from fastnorm.kinds import flag

MODES = ("raw_robust", "residual_radial_profile")
NO_CROP = -1
"""Size of a crop that leaves the image whole, in existing scripts and files."""


def center_crop(img: NDArray[Any], target_size: int) -> NDArray[Any]:
    """Return the central square of the last two axes, of side ``target_size``, as a view.

    A ``target_size`` of -1 returns the whole image.

    Raises
    ------
    ValueError
        ``target_size`` is 0, below -1, or larger than the image.
    """
    if target_size == NO_CROP:
        return img
    height, width = img.shape[-2:]
    if target_size < 1 or target_size > min(height, width):
        raise ValueError(
            f"target_size={target_size} does not fit an image of {height} x {width}; "
            f"it must be 1 to {min(height, width)}, or {NO_CROP} for the whole image."
        )
    top, left = (height - target_size) // 2, (width - target_size) // 2
    return img[..., top : top + target_size, left : left + target_size]


def preprocess_stack(
    img3: ArrayLike,
    mode: str,
    crop: bool = True,
    crop_size: int | None = None,
    clip_range: float = 10.0,
    annulus_r_in: float | None = None,
    annulus_r_out: float | None = None,
) -> NDArray[np.float32]:
    """Crop, normalise and clip the bands of one cutout.

    Parameters
    ----------
    img3 : (C, H, W) array
        Bands in nanomaggies, usually g, r and z.
    mode : {"raw_robust", "residual_radial_profile"}
        ``residual_radial_profile`` also subtracts the azimuthal median profile of every
        normalised band.
    crop : bool
        Crop the centre first.
    crop_size : int, optional
        Side of the crop in pixels: 64 if None, no crop if 0 or -1.
    clip_range : float
        Limit of the result: ``[-clip_range, clip_range]``.
    annulus_r_in, annulus_r_out : float, optional
        Radii in pixels, both or neither; the legacy ``(20, 32)`` by default.

    Returns
    -------
    (C, H', W') float32 array
        Result without NaN.

    Raises
    ------
    ValueError
        The mode is unknown, one radius is given without the other, the crop is larger than the
        image or below -1, ``clip_range`` is not positive, or the input is not three-dimensional.

    Warns
    -----
    fastnorm.AnnulusWarning
        The annulus lies inside the galaxy, as the legacy one does at 101 x 101.
    """
    if mode not in MODES:
        raise ValueError(f"mode={mode!r} is not known; use one of {', '.join(map(repr, MODES))}.")
    if annulus_r_in == 0 and annulus_r_out == 0:
        raise ValueError(
            f"annulus_r_in={annulus_r_in!r} and annulus_r_out={annulus_r_out!r} are an empty "
            "annulus; None for both means the legacy (20, 32) here, as 0 does in training files."
        )
    annulus = Annulus.given_or(
        annulus_r_in, annulus_r_out, lambda: LEGACY_ANNULUS, ("annulus_r_in", "annulus_r_out")
    )
    if not clip_range > 0:
        raise ValueError(f"clip_range={clip_range!r} must be above 0; models expect 10.")
    crop = flag("crop", crop)
    bands = np.asarray(img3)
    if bands.ndim != 3:
        raise ValueError(f"img3 has shape {bands.shape}; expected (bands, H, W).")
    if crop_size is not None and crop_size < NO_CROP:
        raise ValueError(
            f"crop_size={crop_size!r} is not allowed: give a side in pixels, None for "
            f"{STAMP_SIZE}, or 0 or {NO_CROP} for no crop."
        )
    if crop and crop_size not in (0, NO_CROP):
        bands = center_crop(bands, STAMP_SIZE if crop_size is None else crop_size)
    with np.errstate(over="ignore"):
        bands = bands.astype(np.float32)
    if mode == "raw_robust":
        return _normalize(bands, annulus, clip_range)
    normalized = _normalize(np.where(np.isnan(bands), np.float32(0), bands), annulus, None)
    with np.errstate(invalid="ignore"):
        residual = np.stack([band - radial_profile_model(band) for band in normalized])
    residual[np.isnan(residual)] = 0
    limit = np.float32(clip_range)
    return np.clip(residual, -limit, limit, out=residual)


def _normalize(
    bands: NDArray[np.float32], annulus: Annulus, clip_range: float | None
) -> NDArray[np.float32]:
    result: NDArray[np.float32] = fastnorm.normalize_outer_annulus(
        bands, annulus.r_in, annulus.r_out, clip=clip_range, nan_to_zero=clip_range is not None
    )
    return result
