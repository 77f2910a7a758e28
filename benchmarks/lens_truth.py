"""Brute-force rendering of lensed Sersic sources on 32 x 32 sub-pixels, without the engine."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from scipy.special import gammaincinv, gammaln

from dhs.constants import CUTOUT_SIZE, PIXEL_SCALE
from dhs.injection import LensParams, SourceParams

FINE, COARSE = 32, 8
NEAR_ARCSEC = 1.0  # distance from the source within which its profile is steep
NEAR_LENS_PIXELS = 4
Grid = NDArray[np.float64]


def _light(lens: dict[str, float], source: dict[str, float], x: Grid, y: Grid) -> tuple[Grid, Grid]:
    """Return light per pixel of a source of flux 1, and distance from it in the source plane."""
    q, theta_e = min(lens["q_lens"], 1 - 1e-9), lens["theta_e_arcsec"]
    cos, sin = np.cos(lens["phi_lens_rad"]), np.sin(lens["phi_lens_rad"])
    from_x, from_y = x - lens["x0_arcsec"], y - lens["y0_arcsec"]
    along, across = cos * from_x + sin * from_y, cos * from_y - sin * from_x
    r = np.maximum(np.hypot(along, across), 1e-12)
    f = np.sqrt(1 - q * q)
    alpha = theta_e * np.sqrt(q) / f * np.arcsin(f * along / r)
    beta = theta_e * np.sqrt(q) / f * np.arcsinh(f * across / (q * r))
    to_x = x - (cos * alpha - sin * beta) - lens["shear_g1"] * x - lens["shear_g2"] * y
    to_y = y - (sin * alpha + cos * beta) - lens["shear_g2"] * x + lens["shear_g1"] * y
    to_x, to_y = to_x - source["beta_x_arcsec"], to_y - source["beta_y_arcsec"]
    cos, sin = np.cos(source["phi_rad"]), np.sin(source["phi_rad"])
    along, across = cos * to_x + sin * to_y, (cos * to_y - sin * to_x) / source["q"]
    n, re = source["n_sersic"], source["re_arcsec"]
    b = gammaincinv(2 * n, 0.5)
    total = np.exp(np.log(2 * np.pi * n * re**2 * source["q"]) - 2 * n * np.log(b) + gammaln(2 * n))
    radius = np.hypot(along, across)
    return PIXEL_SCALE**2 / total * np.exp(-b * (radius / re) ** (1 / n)), radius


def _mean(lens: dict[str, float], source: dict[str, float], x: Grid, y: Grid, side: int) -> Grid:
    place = ((np.arange(side) + 0.5) / side - 0.5) * PIXEL_SCALE
    total = np.zeros(x.shape)
    for step in place:
        total += _light(lens, source, x[:, None] + place, y[:, None] + step)[0].mean(axis=1)
    return total / side


def truth(lens: LensParams, source: SourceParams, console: Console) -> Grid:
    """Render (B, 101, 101) images, flux 1: 32 x 32 sub-pixels near the source, 8 x 8 elsewhere."""
    offset = (np.arange(CUTOUT_SIZE) - (CUTOUT_SIZE - 1) / 2) * PIXEL_SCALE
    x, y = (grid.ravel() for grid in np.meshgrid(offset, offset))
    images = np.empty((len(source), CUTOUT_SIZE, CUTOUT_SIZE))
    for i in track(range(len(source)), "32 x 32 sub-pixels", console=console, transient=True):
        one = {name: float(values[i]) for name, values in lens.arrays().items()}
        other = {name: float(values[i]) for name, values in source.arrays().items()}
        _, radius = _light(one, other, x, y)
        is_near = radius < NEAR_ARCSEC
        from_lens = np.hypot(x - one["x0_arcsec"], y - one["y0_arcsec"])
        is_near |= from_lens < NEAR_LENS_PIXELS * PIXEL_SCALE
        image = _mean(one, other, x, y, COARSE)
        image[is_near] = _mean(one, other, x[is_near], y[is_near], FINE)
        images[i] = image.reshape(CUTOUT_SIZE, CUTOUT_SIZE)
    return images
