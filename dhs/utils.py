"""Radii, masks, robust statistics and profiles: the names that existing scripts import.

Thin on purpose: the definition of the normalisation lives in `fastnorm`. The
defaults here are those of the published models, the legacy annulus among them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

import fastnorm
from fastnorm.annulus import Annulus, radius_map
from fastnorm.reference import median_mad


def radial_rmap(H: int, W: int) -> NDArray[np.float64]:  # noqa: N803
    """Distance of every pixel from the centre pixel ``(H // 2, W // 2)``, in pixels, (H, W)."""
    return radius_map(H, W)


def radial_mask(H: int, W: int, r_in: float, r_out: float) -> NDArray[np.bool_]:  # noqa: N803
    """True where ``r_in <= r < r_out``, shape (H, W); radii in pixels, of any size."""
    radius = radius_map(H, W)
    return (radius >= r_in) & (radius < r_out)


def default_annulus_radii(H: int, W: int) -> tuple[float, float]:  # noqa: N803
    """The corrected radii in pixels, ``(0.65 * R, 0.90 * R)`` with ``R = min(H, W) // 2``."""
    annulus = Annulus.default(H, W)
    return annulus.r_in, annulus.r_out


def robust_median_mad(x: ArrayLike, eps: float = 1e-8) -> tuple[float, float]:
    """Median and ``MAD + eps`` of the values that are not NaN.

    Parameters
    ----------
    x : array of any shape
        float32 values are compared and subtracted in float32, others in float64.
    eps : float
        Added to the MAD, in float64.

    Returns
    -------
    median, scale : float
        ``(0.0, eps)`` where nothing is defined.
    """
    values = _floating(x).reshape(-1)
    median, mad = median_mad(values)
    return float(median), float(mad) + eps


def normalize_outer_annulus(
    img: ArrayLike, r_in: float = 20, r_out: float = 32
) -> NDArray[np.floating[Any]]:
    """Normalise images by the median and MAD of their outer annulus.

    The default is the legacy annulus, which all published models were trained
    with and which is wrong for 101 x 101 cutouts: pass ``(32.5, 45.0)`` there.

    Parameters
    ----------
    img : (..., H, W) array
    r_in, r_out : float
        Radii in pixels.

    Returns
    -------
    (..., H, W) array
        NaN stays NaN; nothing is clipped. See `fastnorm.normalize_outer_annulus`.

    Raises
    ------
    ValueError
        The radii are not in order, or fewer than 100 pixels lie between them.

    Warns
    -----
    fastnorm.AnnulusWarning
        The annulus lies inside the galaxy.
    """
    result: NDArray[np.floating[Any]] = fastnorm.normalize_outer_annulus(
        _floating(img), r_in, r_out
    )
    return result


def azimuthal_median_profile(img: ArrayLike, r_max: int = 32) -> NDArray[np.float32]:
    """Median over the ring ``k <= r < k + 1`` for ``k`` in 0 to ``r_max - 1``.

    Parameters
    ----------
    img : (H, W) array
    r_max : int
        Number of rings, each one pixel wide.

    Returns
    -------
    (r_max,) float32
        NaN where a ring holds a NaN, 0 where it holds no pixel.
    """
    image = np.asarray(img)
    ring = np.floor(radius_map(*image.shape)).astype(np.intp)
    profile = np.zeros(r_max, dtype=np.float32)
    for k in range(r_max):
        values = image[ring == k]
        if values.size:
            with np.errstate(over="ignore", invalid="ignore"):
                profile[k] = np.nan if np.isnan(values).any() else np.median(values)
    return profile


def radial_profile_model(img: ArrayLike, r_max: int = 32) -> NDArray[np.float32]:
    """The azimuthal median profile painted back on the image, (H, W) float32.

    Pixels beyond the last ring take its value.
    """
    image = np.asarray(img)
    ring = np.minimum(np.floor(radius_map(*image.shape)).astype(np.intp), r_max - 1)
    return azimuthal_median_profile(image, r_max)[ring]


def center_slices(H: int, W: int, box: int) -> tuple[slice, slice]:  # noqa: N803
    """Rows and columns of the box of side ``box`` around the centre pixel."""
    top, left = H // 2 - box // 2, W // 2 - box // 2
    return slice(top, top + box), slice(left, left + box)


def _floating(values: ArrayLike) -> NDArray[np.floating[Any]]:
    array = np.asarray(values)
    return array if np.issubdtype(array.dtype, np.floating) else array.astype(np.float64)
