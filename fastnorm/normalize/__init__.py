"""Normalisation of arrays and tensors; ``fastnorm`` re-exports the public functions."""

from __future__ import annotations

from fastnorm.normalize.cpu import (
    annulus_median_mad,
    footprint_median_mad,
    normalize_footprint,
    normalize_outer_annulus,
)

__all__ = [
    "annulus_median_mad",
    "footprint_median_mad",
    "normalize_footprint",
    "normalize_outer_annulus",
]
