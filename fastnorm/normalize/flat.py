"""Flat images: most of their footprint is one value, so that the MAD is 0.

The definition divides them by ``eps`` alone: every pixel becomes 0 or reaches the clip limit. Zeros
beyond the edge of a survey, and NaN turned to 0, do that.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnorm.annulus import AnnulusWarning
from fastnorm.footprint import Footprint
from fastnorm.io import BANDS
from fastnorm.normalize.cpu import footprint_median_mad

MOST_NAMED = 10
EFFECT = "more than half of their annulus is one value or NaN, so their scale means nothing"


def is_flat(
    images: NDArray[Any], footprint: Footprint, mask: NDArray[np.bool_] | None = None
) -> NDArray[np.bool_]:
    """Tell which images have a MAD of 0, with NaN as 0 or left out.

    Parameters
    ----------
    images : (..., H, W) array
        The images.
    footprint : Footprint
        Pixels that the statistics use. An image without a finite pixel there is flat.
    mask : bool array, broadcastable to ``images``, optional
        True is bad.

    Returns
    -------
    (...) bool array

    Raises
    ------
    ValueError
        The footprint does not fit the images.
    """
    is_nan = np.isnan(images)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AnnulusWarning)
        _, mad = footprint_median_mad(images, footprint, mask=mask)
        flat = np.asarray(mad == 0)
        if is_nan.any():
            zeroed = np.where(is_nan, images.dtype.type(0), images)
            flat |= footprint_median_mad(zeroed, footprint, mask=mask)[1] == 0
    return flat


def named_bands(flat: NDArray[np.bool_]) -> str:
    """Return the names of the flat bands of one cutout, such as ``g, z``."""
    return ", ".join(band for band, is_one in zip(BANDS, flat, strict=True) if is_one)


def describe_flat(cutouts: Iterable[tuple[str, object]], count: int) -> str:
    """Describe flat bands in one sentence.

    Parameters
    ----------
    cutouts : iterable of (str, object)
        Names of the cutouts, and their flat bands or the number of these.
    count : int
        Number of flat bands.

    Returns
    -------
    str
        It names the first few cutouts.
    """
    names = [f"{name} ({bands})" for name, bands in cutouts]
    left = len(names) - MOST_NAMED
    shown = ", ".join(names[:MOST_NAMED]) + (f" and {left:,} more" if left > 0 else "")
    return f"flat bands (MAD 0): {count:,}, of {len(names):,} cutouts: {shown}; {EFFECT}."
