"""Fraction of a galaxy's light inside an annulus."""

from __future__ import annotations

import math

import numpy as np

from fastnorm import Annulus
from fastnorm.annulus import radius_map

DISC_SCALE = 8.0
"""Scale length in pixels of the exponential disc for comparing annuli."""


def light_share(annulus: Annulus, size: int, scale: float = DISC_SCALE) -> float:
    """Return the fraction of the light of a face-on exponential disc inside an annulus.

    Parameters
    ----------
    annulus : Annulus
        Annulus, radii in pixels.
    size : int
        Side of the square image in pixels. The disc is centred on it; light outside the image
        does not count.
    scale : float
        Scale length of the disc in pixels.

    Returns
    -------
    float
        0 to 1. The profile is ``exp(-r / scale)``, evaluated at the centres of the pixels.

    Raises
    ------
    ValueError
        ``scale`` is not positive and finite.
    """
    if not 0 < scale < math.inf:
        raise ValueError(f"scale={scale!r} must be above 0 and finite; give pixels, such as 8.")
    radius = radius_map(size, size)
    light = np.exp(-radius / scale)
    return float(light[annulus.contains(size, size)].sum() / light.sum())
