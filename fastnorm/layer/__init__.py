"""The normalisation as a PyTorch layer and as an operator."""

from __future__ import annotations

from fastnorm.layer.module import FootprintNorm, OuterAnnulusNorm

__all__ = ["FootprintNorm", "OuterAnnulusNorm"]
