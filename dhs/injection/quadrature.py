"""The plan that every rendering backend follows: how many samples each pixel takes, and where.

The level of a pixel sets its samples. A pixel takes one sample at its centre, 2 x 2, or o x o
samples (o is ``oversample``), or it is split into o x o cells that take 1, 3 x 3 or 4o x 4o
samples each. An isothermal lens does not stretch images along a radius. In the source plane,
a pixel of a lensed image is therefore at most as large as a pixel of an unlensed image, and its
quadrature error follows from its smallest distance to the centre of the source. Levels are
therefore rings around the source. Pixels close to the lens, which compresses light there, take
more samples. docs/injection.md shows the rings.
"""

from __future__ import annotations

from functools import cache
from math import factorial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from dhs.injection.params import LensParams, SourceParams
from dhs.injection.source import Clumps, sersic_b
from fastnorm.kernels import lens_columns as column

# Allowed errors at this oversample, in units of the brightest pixel. They are smallest where
# many errors of the same sign add up.
USUAL_OVERSAMPLE = 4
PIXEL_TOLERANCES = (5e-5, 2e-3, 2e-3)
CELL_TOLERANCES = (2e-5, 1e-3)
# Fainter light is not rendered, in units of the brightest pixel.
FAINTEST = 1e-8
# The brightest pixel is about as bright as the profile at this radius, in pixels.
PEAK_RADIUS = 0.4
CELL_NODES_PER_SIDE = 3
CLUMP_REACH_SIGMAS = 4.5
SERIES_TOLERANCE = 2e-8
MOST_TERMS = 16384

# As a function of t = b (R / r_e)^(1/n), every profile is exp(-t).
_T = np.geomspace(1e-3, 60.0, 96)
_LOG_T = np.log(_T)


class Nodes(NamedTuple):
    """Sample positions within a pixel, level after level.

    ``x, y``: offsets from the centre of the pixel, pixels. ``weight``: sums to 1 in every
    level. The samples of a level are ``start[level]`` to ``start[level + 1]``.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    weight: NDArray[np.float64]
    start: NDArray[np.int32]


class Plan(NamedTuple):
    """Input of a rendering backend, with the columns that `lens_columns` defines.

    ``table`` (B, COLUMNS) and ``clumps`` (B, M, CLUMP_COLUMNS), both float64.
    ``flux`` (B, bands) float64, nanomaggies. ``shape``: (H, W) of the stamps.
    ``pixel_scale``: arcsec per pixel.
    """

    table: NDArray[np.float64]
    clumps: NDArray[np.float64]
    flux: NDArray[np.float64]
    nodes: Nodes
    shape: tuple[int, int]
    pixel_scale: float


@cache
def sample_nodes(oversample: int) -> Nodes:
    """Return the nodes of every set: Gauss-Legendre for smooth light, otherwise uniform."""
    sets = (
        _gauss_legendre(1),
        _gauss_legendre(min(2, oversample)),
        _gauss_legendre(oversample),
        _uniform(oversample),
        _gauss_legendre(CELL_NODES_PER_SIDE),
        _uniform(4 * oversample),
    )
    x, y, weight = [], [], []
    for place, share in sets:
        x.append(np.tile(place, place.size))
        y.append(np.repeat(place, place.size))
        weight.append(np.outer(share, share).ravel())
    start = np.cumsum([0] + [part.size for part in x]).astype(np.int32)
    return Nodes(np.concatenate(x), np.concatenate(y), np.concatenate(weight), start)


def _gauss_legendre(side: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    place, weight = np.polynomial.legendre.leggauss(side)
    return place / 2, weight / 2


def _uniform(side: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return (np.arange(side) + 0.5) / side - 0.5, np.full(side, 1 / side)


def make_plan(
    lens: LensParams | None,
    source: SourceParams,
    clumps: Clumps,
    flux: NDArray[np.float64],
    shape: tuple[int, int],
    pixel_scale: float,
    oversample: int,
) -> Plan:
    """Turn checked parameters into the tables of a plan.

    Parameters
    ----------
    lens : LensParams or None
        B lenses. None renders the unlensed sources.
    source : SourceParams
        B sources.
    clumps : Clumps
        Clumps of the sources.
    flux : (B, bands) float64
        Flux of each source in each band, nanomaggies.
    shape : (int, int)
        Rows and columns of a stamp.
    pixel_scale : float
        Arcsec per pixel.
    oversample : int
        Finest sampling of smooth light per pixel side.

    Returns
    -------
    Plan
    """
    count = len(source)
    table = np.zeros((count, column.COLUMNS))
    table[:, column.TERMS] = 4
    if lens is not None:
        _fill_lens(table, lens)
    _fill_source(table, source, pixel_scale, oversample)
    share = 1 - np.where(source.n_clumps > 0, source.clump_frac, 0)
    table[:, column.AMPLITUDE] *= share
    clump_table = _clump_table(clumps, pixel_scale)
    table[:, column.CLUMPS] = np.where(source.clump_frac > 0, source.n_clumps, 0)
    _fill_reach(table, lens, clump_table, pixel_scale)
    return Plan(table, clump_table, flux, sample_nodes(oversample), shape, pixel_scale)


def series_coefficients(plan: Plan, multiple: int = 4) -> NDArray[np.float32]:
    """Return ``(-1)^k / (2k + 1)`` for the most terms of any lens, rounded up to a multiple."""
    most = int(plan.table[:, column.TERMS].max(initial=4))
    k = np.arange(-(-most // multiple) * multiple)
    return ((-1.0) ** k / (2 * k + 1)).astype(np.float32)


def _fill_lens(table: NDArray[np.float64], lens: LensParams) -> None:
    q = lens.q_lens
    table[:, column.LENS_X], table[:, column.LENS_Y] = lens.x0_arcsec, lens.y0_arcsec
    table[:, column.LENS_COS] = np.cos(lens.phi_lens_rad)
    table[:, column.LENS_SIN] = np.sin(lens.phi_lens_rad)
    table[:, column.LENS_Q] = q
    table[:, column.LENS_SQUASH] = (1 - q) * (1 + q)
    table[:, column.LENS_STRENGTH] = 2 * lens.theta_e_arcsec * np.sqrt(q)
    table[:, column.SHEAR_1], table[:, column.SHEAR_2] = lens.shear_g1, lens.shear_g2
    table[:, column.THETA_E] = lens.theta_e_arcsec
    # The series of arctan(z) / z has a ratio of at most f = (1 - q) / (1 + q).
    ratio = np.maximum((1 - q) / (1 + q), 1e-12)
    terms = np.log(SERIES_TOLERANCE) / np.log(np.minimum(ratio, 1 - 1e-12))
    table[:, column.TERMS] = np.clip(4 * np.ceil(terms / 4), 4, MOST_TERMS)


def _fill_source(
    table: NDArray[np.float64], source: SourceParams, pixel_scale: float, oversample: int
) -> None:
    n, re, q = source.n_sersic, source.re_arcsec, source.q
    b = sersic_b(n)
    table[:, column.SOURCE_X], table[:, column.SOURCE_Y] = (
        source.beta_x_arcsec,
        source.beta_y_arcsec,
    )
    table[:, column.SOURCE_COS] = np.cos(source.phi_rad)
    table[:, column.SOURCE_SIN] = np.sin(source.phi_rad)
    table[:, column.SOURCE_INVERSE_Q] = 1 / q
    table[:, column.HALF_POWER] = 0.5 / n
    table[:, column.LOG2_SCALE] = np.log2(b * np.log2(np.e)) - np.log2(re) / n
    log_total = np.log(2 * np.pi * n * re**2 * q) - 2 * n * np.log(b) + gammaln(2 * n)
    table[:, column.AMPLITUDE] = pixel_scale**2 * np.exp(-log_total)

    _fill_rings(table, source, b, pixel_scale, oversample)


def _fill_rings(
    table: NDArray[np.float64],
    source: SourceParams,
    b: NDArray[np.float64],
    pixel_scale: float,
    oversample: int,
) -> None:
    """Fill in the radii within which each further level is needed, computed in logarithms."""
    n, log_re, q = source.n_sersic[:, None], np.log(source.re_arcsec)[:, None], source.q[:, None]
    log_radius = log_re + n * (_LOG_T - np.log(b)[:, None])
    peak = np.exp(np.log(b)[:, None] + (np.log(PEAK_RADIUS * pixel_scale) - log_re) / n)
    log_light = np.minimum(peak - _T, 50.0)
    # The second derivative of the profile is at most the square of this rate (on the minor axis).
    log_rate = (np.log(_T / n * (1 + _T / n)) / 2 - np.log(q)) - log_radius
    allowed = (USUAL_OVERSAMPLE / oversample) ** 2

    def rings(
        size: float, sides: tuple[int, ...], tolerances: tuple[float, ...], share: float
    ) -> NDArray[np.float64]:
        found = []
        for side, tolerance in zip(sides, tolerances, strict=True):
            log_most = np.log(tolerance * allowed / (share * _gauss_legendre_error(side)))
            log_step = log_rate + np.log(size)
            found.append(_last(log_light + 2 * side * log_step > log_most, log_radius))
        # A pixel of one level lies inside the rings of all lower levels.
        return np.minimum.accumulate(found, axis=0).T ** 2

    sides: tuple[int, ...] = (1, min(2, oversample), oversample)
    first, last = column.PIXEL_RINGS, column.PIXEL_RINGS + 3
    table[:, first:last] = rings(pixel_scale, sides, PIXEL_TOLERANCES, 1.0)
    sides, share = (1, CELL_NODES_PER_SIDE), 1 / oversample**2
    first, last = column.CELL_RINGS, column.CELL_RINGS + 2
    table[:, first:last] = rings(pixel_scale / oversample, sides, CELL_TOLERANCES, share)
    is_bright = log_light > np.log(PIXEL_TOLERANCES[-1] * allowed)
    table[:, column.BRIGHT_RING] = _last(is_bright, log_radius) ** 2
    table[:, column.REACH] = _last(log_light > np.log(FAINTEST), log_radius)


def _gauss_legendre_error(side: int) -> float:
    """Compute the error of ``side`` nodes on a unit Gaussian, per (rate * interval)^(2 side).

    The second derivative of the Gaussian is the square of the rate. Davis & Rabinowitz (1984),
    Methods of Numerical Integration, eq. 2.7.12.
    """
    constant = factorial(side) ** 4 / ((2 * side + 1) * factorial(2 * side) ** 3)
    return float(constant * factorial(2 * side) / (2**side * factorial(side)))


def _last(is_wanted: NDArray[np.bool_], log_radius: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the first tabulated radius beyond all wanted ones, or 0 if none is wanted."""
    last = is_wanted.shape[1] - 1 - np.argmax(is_wanted[:, ::-1], axis=1)
    beyond = np.minimum(last + 1, is_wanted.shape[1] - 1)
    rows = np.arange(len(last))
    return np.where(is_wanted[rows, last], np.exp(log_radius[rows, beyond]), 0)


def _clump_table(clumps: Clumps, pixel_scale: float) -> NDArray[np.float64]:
    table = np.zeros((*clumps.x.shape, column.CLUMP_COLUMNS))
    table[..., column.CLUMP_X], table[..., column.CLUMP_Y] = clumps.x, clumps.y
    table[..., column.CLUMP_RATE] = np.log2(np.e) / (2 * clumps.sigma**2)
    density = clumps.weight / (2 * np.pi * clumps.sigma**2)
    table[..., column.CLUMP_AMPLITUDE] = pixel_scale**2 * density
    table[..., column.CLUMP_REACH] = CLUMP_REACH_SIGMAS * clumps.sigma
    return table


def _fill_reach(
    table: NDArray[np.float64],
    lens: LensParams | None,
    clumps: NDArray[np.float64],
    pixel_scale: float,
) -> None:
    """Convert the reach in the source plane to an image radius that contains all the light."""
    if clumps.shape[1]:
        x, y, reach = (clumps[..., i] for i in (column.CLUMP_X, column.CLUMP_Y, column.CLUMP_REACH))
        farthest = np.where(clumps[..., column.CLUMP_AMPLITUDE] > 0, np.hypot(x, y) + reach, 0)
        table[:, column.REACH] = np.maximum(table[:, column.REACH], farthest.max(axis=1))
    table[:, column.REACH] += np.hypot(table[:, column.SOURCE_X], table[:, column.SOURCE_Y])
    if lens is not None:
        squash = np.sqrt(np.maximum((1 - lens.q_lens) * (1 + lens.q_lens), 1e-12))
        deflection = lens.theta_e_arcsec * np.sqrt(lens.q_lens) / squash
        table[:, column.REACH] += deflection * np.arcsinh(squash / lens.q_lens)
        room = 1 - np.hypot(lens.shear_g1, lens.shear_g2)
        with np.errstate(divide="ignore"):
            reach = np.where(room > 0, table[:, column.REACH] / np.maximum(room, 1e-300), np.inf)
        table[:, column.REACH] = reach
    table[:, column.REACH] += pixel_scale
