"""The normalisation as a PyTorch layer and as an operator."""

from __future__ import annotations

from fastnorm.layer.mismatch import FootprintMismatchError, MissingFootprintWarning
from fastnorm.layer.module import FootprintNorm, OuterAnnulusNorm
from fastnorm.layer.weights import with_footprint

__all__ = [
    "FootprintMismatchError",
    "FootprintNorm",
    "MissingFootprintWarning",
    "OuterAnnulusNorm",
    "with_footprint",
]
