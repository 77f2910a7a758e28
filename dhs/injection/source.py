"""The source: exact Sersic profiles, and clumps with a fraction of the flux.

Conventions as in `dhs.injection`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaincinv, gammaln

from dhs.arguments import real_array
from dhs.injection.params import MOST_ARCSEC, SERSIC_INDEX_RANGE, SourceParams
from dhs.injection.streams import Purpose, generator

CLUMP_SCATTER = 0.7  # standard deviation of a position, in half-light radii
CLUMP_SIZE_RANGE = (0.10, 0.30)  # standard deviation of a clump, in half-light radii
SMALLEST_CLUMP_ARCSEC = 0.04  # the finest sub-pixels still resolve this


def sersic_b(n_sersic: ArrayLike) -> NDArray[np.float64]:
    """Compute the scale ``b_n`` of a Sersic profile exactly.

    ``b_n`` solves ``P(2n, b_n) = 1/2``, where P is the regularised lower incomplete gamma
    function (Ciotti & Bertin 1999, A&A 352, 447, eq. 4). No fitting formula is used.

    Parameters
    ----------
    n_sersic : array_like
        Sersic index, in [0.3, 8].

    Returns
    -------
    ndarray of float64

    Raises
    ------
    TypeError, ValueError
        An index is not a number or is out of range.

    Examples
    --------
    >>> float(round(sersic_b(1.0), 10))
    1.67834699
    """
    n = real_array("n_sersic", n_sersic, *SERSIC_INDEX_RANGE)
    b: NDArray[np.float64] = gammaincinv(2 * n, 0.5)
    return b


def sersic_total_flux(
    n_sersic: ArrayLike,
    re_arcsec: ArrayLike,
    q: ArrayLike = 1.0,
    intensity_at_re: ArrayLike = 1.0,
) -> NDArray[np.float64]:
    """Compute the total flux of a Sersic profile ``I_e exp(-b_n ((R / r_e)^(1/n) - 1))``.

    The flux is ``2 pi n r_e^2 q I_e e^b b^(-2n) Gamma(2n)``: Graham & Driver (2005, PASA 22,
    118), eq. 4.

    Parameters
    ----------
    n_sersic : array_like
        Sersic index, in [0.3, 8].
    re_arcsec : array_like
        Half-light radius along the major axis, arcsec. R is the elliptical radius, which
        equals the distance from the centre on the major axis.
    q : array_like
        Axis ratio, in (0, 1].
    intensity_at_re : array_like
        Surface brightness at the half-light radius, nanomaggies per arcsec^2.

    Returns
    -------
    ndarray of float64
        Nanomaggies, with the broadcast shape.

    Raises
    ------
    TypeError, ValueError
        An argument is not a number or is out of range.

    Examples
    --------
    >>> float(round(sersic_total_flux(1.0, 0.5), 10))
    2.9871236854
    """
    n = real_array("n_sersic", n_sersic, *SERSIC_INDEX_RANGE)
    re = real_array("re_arcsec", re_arcsec, 0.0, MOST_ARCSEC, low_is_allowed=False)
    q = real_array("q", q, 0.0, 1.0, low_is_allowed=False)
    intensity = real_array("intensity_at_re", intensity_at_re)
    b = sersic_b(n)
    log_shape = b - 2 * n * np.log(b) + gammaln(2 * n)
    total: NDArray[np.float64] = 2 * np.pi * n * re**2 * q * intensity * np.exp(log_shape)
    return total


class Clumps(NamedTuple):
    """Round Gaussian clumps of B sources, up to M per source, with weight 0 for unused entries.

    ``x, y`` (B, M): position relative to the centre of the source, along its axes, arcsec.
    ``sigma`` (B, M): standard deviation, arcsec. ``weight`` (B, M): fraction of the
    total flux of the source.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    sigma: NDArray[np.float64]
    weight: NDArray[np.float64]


def draw_clumps(source: SourceParams, seed: int, ids: NDArray[np.integer[Any]]) -> Clumps:
    """Draw the clumps of every source, which depend only on the seed and the id.

    All clumps of a source have the same flux. Their positions are Gaussian with a standard
    deviation of 0.7 half-light radii, flattened like the source. Their sizes are uniform between
    0.1 and 0.3 half-light radii, but at least 0.04 arcsec.

    Parameters
    ----------
    source : SourceParams
        B sources.
    seed : int
        Random seed.
    ids : (B,) array of int
        Ids of the injections.

    Returns
    -------
    Clumps
    """
    count, most = len(source), int(source.n_clumps.max(initial=0))
    x, y, weight = (np.zeros((count, most)) for _ in range(3))
    sigma = np.ones((count, most))
    for i in np.flatnonzero(source.n_clumps * source.clump_frac > 0):
        n, re = int(source.n_clumps[i]), source.re_arcsec[i]
        rng = generator(seed, int(ids[i]), Purpose.CLUMPS)
        x[i, :n] = CLUMP_SCATTER * re * rng.standard_normal(n)
        y[i, :n] = CLUMP_SCATTER * re * rng.standard_normal(n) * source.q[i]
        size = re * rng.uniform(*CLUMP_SIZE_RANGE, n)
        sigma[i, :n] = np.maximum(size, SMALLEST_CLUMP_ARCSEC)
        weight[i, :n] = source.clump_frac[i] / n
    return Clumps(x, y, sigma, weight)
