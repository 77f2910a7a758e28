"""Flat bands of cutouts under the preprocessing of a model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dhs.preprocess.spec import PreprocessSpec
from fastnorm.normalize.flat import is_flat


def count_flat_bands(
    specs: Sequence[PreprocessSpec], images: NDArray[np.float32], mask: NDArray[np.bool_] | None
) -> NDArray[np.int8]:
    """Count the flat bands of every cutout; see `fastnorm.normalize.flat`.

    Parameters
    ----------
    specs : sequence of PreprocessSpec
        Preprocessing of the models, each with its own annulus and crop.
    images : (N, 3, size, size) float32 array
        Cutouts in nanomaggies.
    mask : bool array like ``images``, or None
        True is bad.

    Returns
    -------
    (N,) int8 array
        The largest number under any of the specs.
    """
    size, most = images.shape[-1], np.zeros(len(images), np.int8)
    for spec in dict.fromkeys(specs):
        side = spec.side(size)
        first = (size - side) // 2
        window = (..., slice(first, first + side), slice(first, first + side))
        bad = None if mask is None else mask[window]
        flat = is_flat(images[window], spec.annulus, bad)
        most = np.maximum(most, flat.sum(axis=-1, dtype=np.int8))
    return most
