"""Checks of pixelised PSFs: negative pixels, and where the peak is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dhs.arguments import element
from dhs.constants import BANDS

NEGATIVE_SHARE = 1e-3
"""Largest flux of the negative pixels of a PSF, as a fraction of its sum, that is set to 0."""
OFF_CENTRE = 0.1
"""Largest distance of a PSF's peak from the middle, in pixels, that is not worth a warning."""


def without_negatives(kernels: NDArray[np.float64]) -> tuple[NDArray[np.float64], str | None]:
    """Set small negative pixels to 0, which interpolation leaves in the wings.

    Parameters
    ----------
    kernels : (..., h, w) float64 array
        Finite values.

    Returns
    -------
    (..., h, w) float64 array
    str or None
        What was done, for a warning.

    Raises
    ------
    ValueError
        The negative pixels of an image have more than `NEGATIVE_SHARE` of its sum.
    """
    is_negative = kernels < 0
    if not is_negative.any():
        return kernels, None
    lost = -np.where(is_negative, kernels, 0).sum(axis=(-2, -1))
    total = kernels.sum(axis=(-2, -1))
    is_bad = lost > NEGATIVE_SHARE * total
    if is_bad.any():
        index = tuple(int(i) for i in np.argwhere(is_negative & is_bad[..., None, None])[0])
        raise ValueError(
            f"psf{element(index)}={kernels[index]:g} is not allowed: it must be a finite number in "
            f"[0, inf). Negative pixels are set to 0 if they have at most {NEGATIVE_SHARE:g} of "
            "the sum of their image, as interpolation leaves them; these have more."
        )
    worst = float((lost[lost > 0] / total[lost > 0]).max())
    said = (
        f"the PSF has {int(is_negative.sum()):,} negative pixels, the lowest {kernels.min():.3g}, "
        f"with at most {worst:.2g} of the sum of an image; they are set to 0, and it is normalised."
    )
    return np.where(is_negative, 0.0, kernels), said


def off_centre(kernels: NDArray[np.float64]) -> str | None:
    """Describe the PSF whose peak is farthest from the middle; None if all are close to it.

    Parameters
    ----------
    kernels : (B, 3, h, w) float64 array
        Not negative; the sides are odd.
    """
    rows, columns = kernels.shape[-2:]
    middle = kernels[..., rows // 2, columns // 2]
    place = kernels.reshape(*kernels.shape[:-2], -1).argmax(axis=-1)
    # Among equal peaks the one in the middle counts.
    place = np.where(
        middle >= kernels.max(axis=(-2, -1)), (rows // 2) * columns + columns // 2, place
    )
    row, column = np.divmod(place, columns)
    down = row - rows // 2 + _vertex(kernels, row, column, axis=-2)
    right = column - columns // 2 + _vertex(kernels, row, column, axis=-1)
    distance = np.hypot(down, right)
    if distance.max() <= OFF_CENTRE:
        return None
    stamp, band = (int(i) for i in np.unravel_index(distance.argmax(), distance.shape))
    count = int((distance > OFF_CENTRE).sum())
    return (
        f"the peak of psf[{stamp}, {band}] ({BANDS[band]}) is {distance[stamp, band]:.2f} pixels "
        f"off its middle ({down[stamp, band]:+.2f} rows, {right[stamp, band]:+.2f} columns): every "
        f"arc moves by that. {count:,} of {distance.size:,} images are off by more than "
        f"{OFF_CENTRE:g}; centre them."
    )


def _vertex(
    kernels: NDArray[np.float64], row: NDArray[np.intp], column: NDArray[np.intp], axis: int
) -> NDArray[np.float64]:
    """Return where a parabola through the peak and its neighbours has its top, in pixels."""
    size = kernels.shape[axis]
    if size < 3:
        return np.zeros(row.shape)
    along = row if axis == -2 else column
    is_inside = (along > 0) & (along < size - 1)
    stamp, band = np.indices(row.shape)
    values = []
    for step in (-1, 0, 1):
        moved = np.where(is_inside, along + step, along)
        at = (moved, column) if axis == -2 else (row, moved)
        values.append(kernels[stamp, band, at[0], at[1]])
    before, peak, after = values
    bend = before - 2 * peak + after
    return np.where(bend < 0, 0.5 * (before - after) / np.where(bend < 0, bend, 1), 0.0)
