"""How much of a galaxy's light an annulus holds."""

from __future__ import annotations

import math

import numpy as np

from fastnorm import Annulus
from fastnorm.annulus import radius_map

DISC_SCALE = 8.0
"""Scale length in pixels of the exponential disc that annuli are compared by."""


def light_share(annulus: Annulus, size: int, scale: float = DISC_SCALE) -> float:
    """Share of the light of a face-on exponential disc, on a square image, in an annulus.

    Parameters
    ----------
    annulus : Annulus
    size : int
        Side of the image in pixels; the disc is centred on it, and what lies outside of the image
        does not count.
    scale : float
        Scale length of the disc, pixels.

    Returns
    -------
    float
        0 to 1; the profile is ``exp(-r / scale)``, taken at the centres of the pixels.

    Raises
    ------
    ValueError
        ``scale`` is not above 0 and finite.
    """
    if not 0 < scale < math.inf:
        raise ValueError(f"scale={scale!r} is not above 0 and finite; give pixels, as 8.")
    radius = radius_map(size, size)
    light = np.exp(-radius / scale)
    is_member = (radius >= annulus.r_in) & (radius < annulus.r_out)
    return float(light[is_member].sum() / light.sum())
