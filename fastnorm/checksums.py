"""The lock: a synthetic cutout and the checksums of its normalisation.

The checksums come from the pipeline behind the published models. Code that
reproduces them feeds those models bit-identical images.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnorm.annulus import LEGACY_ANNULUS, Annulus

DEFINITION_VERSION = 1
"""Version of the normalisation; it increases when the same radii give different values."""

EXPECTED_CHECKSUMS = {
    LEGACY_ANNULUS: "7e25b9e366471bda",
    Annulus(32.5, 45.0): "1b21317c14b7e67c",
}
"""Checksum of the normalised cutout (NaN to 0, clip 10) by annulus."""


def synthetic_cutout() -> NDArray[np.float32]:
    """Return a round galaxy in three bands with sky noise, (3, 101, 101) float32."""
    rng = np.random.default_rng(42)
    offset = np.arange(101) - 50
    squared_radius = offset[:, None] ** 2 + offset[None, :] ** 2
    bands = []
    for flux, background, noise in ((5.0, 0.1, 0.05), (8.0, 0.15, 0.07), (3.5, 0.08, 0.04)):
        sky = background + noise * rng.standard_normal((101, 101))
        bands.append(flux * np.exp(-squared_radius / (2 * 6.0**2)) + sky)
    return np.stack(bands).astype(np.float32)


def checksum(out: NDArray[Any]) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of ``out`` rounded to 6 decimals."""
    return hashlib.sha256(np.round(out, decimals=6).tobytes()).hexdigest()[:16]
