"""Constants of the survey and of the published pipeline."""

from __future__ import annotations

from fastnorm.io import BANDS as BANDS

STAMP_SIZE = 64
"""Side of a centre-cropped stamp, in pixels."""

CUTOUT_SIZE = 101
"""Side of a whole cutout, in pixels."""

PIXEL_SCALE = 0.262
"""Pixel scale of the Legacy Surveys' cutouts, in arcsec per pixel."""

AB_ZEROPOINT_MAG = 22.5
"""AB magnitude of one nanomaggy."""

CORE_BOX = 10
"""Side of the central box, in pixels."""

CORE_RADIUS = 5
"""Radius of the central disc, in pixels."""

SEED_DEFAULT = 1337
