"""Readers of cutout files and writers of results."""

from __future__ import annotations

from fastnorm.io.cutout import BANDS, INSTALL_EXTRA, Cutout, CutoutError, CutoutWarning, Rejected
from fastnorm.io.read import SUFFIXES, count_cutouts, find_cutouts, read_cutouts

__all__ = [
    "BANDS",
    "INSTALL_EXTRA",
    "SUFFIXES",
    "Cutout",
    "CutoutError",
    "CutoutWarning",
    "Rejected",
    "count_cutouts",
    "find_cutouts",
    "read_cutouts",
]
