"""Radii, masks, robust statistics and profiles, under the names that existing scripts import.

The functions are thin, because `fastnorm` defines the normalisation. Their defaults are those of
the published models, including the legacy annulus.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

import fastnorm
from fastnorm.annulus import Annulus, radius_map
from fastnorm.io.numpy_files import read_arrays
from fastnorm.reference import median_mad


def radial_rmap(H: int, W: int) -> NDArray[np.float64]:  # noqa: N803
    """Return the distance of each pixel from the pixel ``(H // 2, W // 2)``, in pixels, (H, W)."""
    return radius_map(H, W)


def radial_mask(H: int, W: int, r_in: float, r_out: float) -> NDArray[np.bool_]:  # noqa: N803
    """Return a mask that is True where ``r_in <= r < r_out``.

    Parameters
    ----------
    H, W : int
        Height and width of the image in pixels.
    r_in, r_out : float
        Radii in pixels, without limits.

    Returns
    -------
    (H, W) bool array
    """
    radius = radius_map(H, W)
    return (radius >= r_in) & (radius < r_out)


def default_annulus_radii(H: int, W: int) -> tuple[float, float]:  # noqa: N803
    """Return the corrected radii in pixels: 0.65 and 0.90 times ``min(H, W) // 2``."""
    annulus = Annulus.default(H, W)
    return annulus.r_in, annulus.r_out


def robust_median_mad(x: ArrayLike, eps: float = 1e-8) -> tuple[float, float]:
    """Return the median and ``MAD + eps`` of the values that are not NaN.

    Parameters
    ----------
    x : array of any shape
        float32 values are compared and subtracted in float32, others in float64.
    eps : float
        Constant added to the MAD, in float64.

    Returns
    -------
    median, scale : float
        ``(0.0, eps)`` if there are no values.
    """
    values = _floating(x).reshape(-1)
    median, mad = median_mad(values)
    return float(median), float(mad) + eps


def normalize_outer_annulus(
    img: ArrayLike, r_in: float = 20, r_out: float = 32
) -> NDArray[np.floating[Any]]:
    """Normalise images by the median and MAD of their outer annulus.

    The default is the legacy annulus of all published models. It is wrong for 101 x 101 cutouts;
    pass ``(32.5, 45.0)`` for them.

    Parameters
    ----------
    img : (..., H, W) array
        Images.
    r_in, r_out : float
        Radii in pixels.

    Returns
    -------
    (..., H, W) array
        Normalised images. NaN stays NaN, and nothing is clipped; see
        `fastnorm.normalize_outer_annulus`.

    Raises
    ------
    ValueError
        ``r_in`` is not below ``r_out``, or fewer than 100 pixels lie between them.

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
    """Return the medians over the rings ``k <= r < k + 1`` for ``k`` from 0 to ``r_max - 1``.

    Parameters
    ----------
    img : (H, W) array
        Image.
    r_max : int
        Number of rings, each one pixel wide.

    Returns
    -------
    (r_max,) float32 array
        NaN if a ring has a NaN, 0 if it has no pixels.
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
    """Return an image (H, W), float32, of the azimuthal median profile.

    Pixels beyond the last ring get the value of the last ring.
    """
    image = np.asarray(img)
    ring = np.minimum(np.floor(radius_map(*image.shape)).astype(np.intp), r_max - 1)
    return azimuthal_median_profile(image, r_max)[ring]


def center_slices(H: int, W: int, box: int) -> tuple[slice, slice]:  # noqa: N803
    """Return the rows and columns of the central box.

    Parameters
    ----------
    H, W : int
        Height and width of the image in pixels.
    box : int
        Side of the box in pixels, an even number; of an odd one the even number below is used.

    Returns
    -------
    rows, columns : slice
        Slices with ``box // 2`` pixels to both sides of ``(H // 2, W // 2)``.
    """
    half = box // 2
    return slice(H // 2 - half, H // 2 + half), slice(W // 2 - half, W // 2 + half)


def decode_npz_blob(blob: bytes) -> dict[str, NDArray[Any]]:
    """Return the arrays of an ``.npz`` in memory, by name.

    Raises
    ------
    TypeError
        ``blob`` is not bytes.
    fastnorm.io.CutoutError
        The bytes are not an ``.npz`` of plain arrays; a kind of ValueError.
    """
    if not isinstance(blob, bytes | bytearray | memoryview):
        raise TypeError(f"blob is a {type(blob).__name__}; give the bytes of an .npz.")
    return read_arrays(Path("blob"), io.BytesIO(blob))


def _floating(values: ArrayLike) -> NDArray[np.floating[Any]]:
    array = np.asarray(values)
    return array if np.issubdtype(array.dtype, np.floating) else array.astype(np.float64)
