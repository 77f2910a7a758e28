"""Random footprints, and their statistics by NumPy alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Case = tuple[NDArray[Any], NDArray[np.bool_], NDArray[np.bool_] | None]


def random_case(seed: int) -> Case:
    """Draw an image, a footprint and, every other time, a mask."""
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(3, 26, 2))
    image = rng.normal(rng.normal(), 1, shape).astype(rng.choice(["float32", "float64"]))
    if seed % 3 == 0:
        image = np.round(image, 1)  # ties
    if seed % 5 == 0:
        image[rng.random(shape) < 0.2] = np.nan
    footprint = rng.random(shape) < rng.choice([0.01, 0.1, 0.5, 0.97])
    footprint.reshape(-1)[rng.integers(image.size)] = True
    mask = rng.random(shape) < 0.3 if seed % 2 else None
    return image, footprint, mask


def statistics_of(
    image: NDArray[Any], footprint: NDArray[np.bool_], mask: NDArray[np.bool_] | None
) -> tuple[float, float]:
    """Return the median and MAD, 0 without a pixel."""
    values = image[footprint if mask is None else footprint & ~mask]
    values = values[~np.isnan(values)]
    if values.size == 0:
        return 0.0, 0.0
    median = np.median(values)
    return float(median), float(np.median(np.abs(values - median)))
