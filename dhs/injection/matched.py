"""Signal-to-noise ratio of arcs in a matched filter, under the noise of their own host.

The filter weights every pixel by the noiseless arc. With ``C(lag)`` the covariance of noise pixels,
the amplitude of the arc has the standard deviation ``sqrt(sum_ij arc_i arc_j C(i - j)) / sum_i
arc_i^2``; the ratio is its inverse (Turin 1960, IRE Transactions on Information Theory 6, 311). For
white noise, it is ``sqrt(sum_i arc_i^2) / sigma``. Pixels of coadded images are correlated, which
lowers it. `dhs.injection.matched_tensors` computes the same on a device.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from fastnorm.annulus import Annulus, radius_map
from fastnorm.dispatch import threads

SIGMA_PER_MAD = 1.482602218505602

MOST_LAG = 6
"""Largest lag of the covariance, pixels. Smaller lags miss noise that is correlated over 4 pixels;
larger ones add scatter."""

REJECTED_SIGMA = 4.0
"""A pixel this far from the median in any band is a source, and so are its neighbours."""

FEWEST_NOISE_PIXELS = 1500
"""With fewer pixels the ratio of one host scatters by more than 20 %, so it is NaN."""

LEAST_VARIANCE = 0.1
"""Least variance of the filter's sum, in units of that of white noise. An estimate from few pixels
can be negative."""


def arc_snr_matched(
    arc: NDArray[np.float32],
    hosts: NDArray[np.float32],
    median: NDArray[np.float64],
    sigma: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Compute the matched-filter signal-to-noise ratio of arcs.

    It is the amplitude of the arc over the standard deviation of that amplitude under the noise
    of the host, with position, shape and PSF of the arc known. Noise pixels are those from the
    inner radius of the host's outer annulus outwards, corners included, without sources. Their
    covariance is measured up to lags of 6 pixels.

    Parameters
    ----------
    arc : (B, 3, H, W) float32
        Light of the arcs alone, without noise, nanomaggies.
    hosts : (B, 3, H, W) float32
        Images of the hosts, nanomaggies. Pixels that are not finite in every band are left out.
    median, sigma : (B, 3) float64
        Median of the host's outer annulus and 1.4826 times its MAD, nanomaggies.

    Returns
    -------
    (B, 3) float64
        Dimensionless. NaN with fewer than 1,500 noise pixels; infinite or NaN where ``sigma``
        is 0.
    """
    energy = np.square(arc, dtype=np.float64).sum(axis=(2, 3))
    scale = np.where(energy > 0, np.sqrt(energy), 1.0)[:, :, None, None].astype(np.float32)
    noise, is_noise = _noise(hosts, median, sigma)
    lags = Lags.of(*arc.shape[2:])
    pairs = lags.autocorrelation(is_noise.astype(np.float32))
    covariance = lags.autocorrelation(noise) / np.maximum(pairs, 1)
    terms = lags.weights * covariance * lags.autocorrelation(arc / scale)
    variance = terms.sum(axis=(2, 3), dtype=np.float64)
    return snr_of(energy, variance, is_noise.sum(axis=(2, 3)), sigma)


def snr_of(
    energy: NDArray[np.float64],
    variance: NDArray[np.float64],
    pixels: NDArray[np.float64],
    sigma: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Compute the ratio from sums over the images.

    Parameters
    ----------
    energy : (B, 3) float64
        Sum of the squares of the arc's pixels.
    variance : (B, 3) float64
        Variance of the noise weighted by the arc and summed, in units of ``sigma^2 energy``.
    pixels : (B, 1) float64
        Number of noise pixels.
    sigma : (B, 3) float64
        Standard deviation of a host pixel, in the unit of the arc.

    Returns
    -------
    (B, 3) float64
    """
    # np.maximum keeps NaN.
    with np.errstate(divide="ignore", invalid="ignore"):
        snr = np.sqrt(energy / np.maximum(variance, LEAST_VARIANCE)) / sigma
    kept: NDArray[np.float64] = np.where(pixels >= FEWEST_NOISE_PIXELS, snr, np.nan)
    return kept


class Lags:
    """Lags between pixels of images of one size.

    Attributes
    ----------
    size : (int, int)
        Size of a transform. Products that wrap around belong to lags above the largest.
    weights : (13, 7) float32
        How often each lag counts: rows are lags from -6 to 6, columns from 0 to 6. Lags with a
        column above 0 count for their negatives too, and those longer than 6 pixels not at all.
    region : (H, W) bool
        Where noise is measured.
    """

    def __init__(self, height: int, width: int) -> None:
        self.size = (
            scipy.fft.next_fast_len(height + MOST_LAG, real=True),
            scipy.fft.next_fast_len(width + MOST_LAG, real=True),
        )
        rows, columns = np.arange(-MOST_LAG, MOST_LAG + 1)[:, None], np.arange(MOST_LAG + 1)
        is_near = rows**2 + columns**2 <= MOST_LAG**2
        self.weights: NDArray[np.float32] = (is_near * (1 + (columns > 0))).astype(np.float32)
        inner = Annulus.default(height, width).r_in
        self.region: NDArray[np.bool_] = radius_map(height, width) >= inner

    @staticmethod
    @lru_cache(maxsize=16)
    def of(height: int, width: int) -> Lags:
        """Return the lags of images of one size, kept for the next call."""
        return Lags(height, width)

    def autocorrelation(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Sum the products of pixels at every lag, (B, C, 13, 7)."""
        workers = threads.num_threads()
        seen = scipy.fft.rfft2(images, self.size, workers=workers)
        power = seen.real**2 + seen.imag**2
        # Few lags are wanted, so most rows are dropped before the second transform. The power is
        # real, so the lags from -6 to -1 are the conjugates of those from 6 to 1.
        rows = scipy.fft.rfft(power, axis=2, workers=workers)[:, :, : MOST_LAG + 1] / self.size[0]
        rows = np.concatenate([rows[:, :, :0:-1], rows.conj()], axis=2)
        sums: NDArray[np.float32] = scipy.fft.irfft(rows, self.size[1], workers=workers)
        return sums[..., : MOST_LAG + 1]


def _noise(
    hosts: NDArray[np.float32], median: NDArray[np.float64], sigma: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return the noise (B, 3, H, W) in units of sigma, and where it is, (B, 1, H, W)."""
    unit = np.where(sigma > 0, sigma, 1.0)[:, :, None, None].astype(np.float32)
    with np.errstate(invalid="ignore", over="ignore"):
        excess = (hosts - median[:, :, None, None].astype(np.float32)) / unit
    # A comparison with NaN is False.
    is_source = ~(np.abs(excess) <= REJECTED_SIGMA).all(axis=1, keepdims=True)
    wide = np.pad(is_source, ((0, 0), (0, 0), (1, 1), (1, 1)))
    rows = wide[:, :, :-2] | wide[:, :, 1:-1] | wide[:, :, 2:]
    is_near_source = rows[..., :-2] | rows[..., 1:-1] | rows[..., 2:]
    is_noise = Lags.of(*hosts.shape[2:]).region & ~is_near_source
    count = np.maximum(is_noise.sum(axis=(2, 3), keepdims=True), 1)
    excess = np.where(is_noise, excess, np.float32(0))
    mean = (excess.sum(axis=(2, 3), keepdims=True, dtype=np.float64) / count).astype(np.float32)
    return np.where(is_noise, excess - mean, np.float32(0)), is_noise
