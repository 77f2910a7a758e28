"""Normalisation of astropy NDData and CCDData."""

from __future__ import annotations

from fastnorm.nddata.convert import normalize, read

__all__ = ["normalize", "read"]
