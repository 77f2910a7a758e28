"""Sums for `dhs.injection.matched.arc_snr_matched` on the device of the images."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dhs.injection.matched import MOST_LAG, REJECTED_SIGMA, SIGMA_PER_MAD, Lags
from dhs.injection.psf_tensors import fast_length
from fastnorm.annulus import Annulus
from fastnorm.normalize import annulus_median_mad


class HostNoise(NamedTuple):
    """The noise of hosts.

    ``median``, ``mad`` (B, 3) float64: of the outer annulus, nanomaggies. ``covariance``
    (B, 3, 13, 7) float32: at every lag of `dhs.injection.matched.Lags`, in units of the variance.
    ``pixels`` (B, 1) float64: number of noise pixels.
    """

    median: Tensor
    mad: Tensor
    covariance: Tensor
    pixels: Tensor


def host_noise(hosts: Tensor, mask: Tensor | None = None) -> HostNoise:
    """Measure the noise of hosts, without waiting for the device.

    Parameters
    ----------
    hosts : (B, 3, H, W) float32 tensor
        Images of the hosts, nanomaggies.
    mask : bool tensor, broadcastable to ``hosts``, optional
        True means bad: left out of the covariance, in all bands, like pixels that are not finite.

    Returns
    -------
    HostNoise
    """
    height, width = hosts.shape[2:]
    annulus = Annulus.default(height, width)
    median, mad = (
        values.double() for values in annulus_median_mad(hosts, annulus.r_in, annulus.r_out)
    )
    noise, is_noise = _noise(hosts, median, SIGMA_PER_MAD * mad, mask)
    pairs = _autocorrelation(is_noise.float())
    covariance = _autocorrelation(noise) / pairs.clamp(min=1)
    return HostNoise(median, mad, covariance, is_noise.sum((2, 3), dtype=torch.float64))


def matched_sums(arc: Tensor, noise: HostNoise) -> tuple[Tensor, Tensor]:
    """Compute what `dhs.injection.matched.snr_of` needs, without waiting for the device.

    Parameters
    ----------
    arc : (B, 3, H, W) float32 tensor
        Light of the arcs alone, in any unit.
    noise : HostNoise
        Noise of their hosts.

    Returns
    -------
    (Tensor, Tensor)
        ``energy`` (B, 3), in the unit of the arc squared, and ``variance`` (B, 3), float64.
    """
    found = _autocorrelation(arc)
    # The lag of 0 is the sum of the squares.
    energy = found[:, :, MOST_LAG, 0].double()
    weights, _ = _lags(*arc.shape[2:], arc.device)
    terms = (weights * noise.covariance * found).sum((2, 3), dtype=torch.float64)
    return energy, terms / torch.where(energy > 0, energy, 1.0)


def _noise(
    hosts: Tensor, median: Tensor, sigma: Tensor, mask: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return the noise (B, 3, H, W) in units of sigma, and where it is, (B, 1, H, W)."""
    unit = torch.where(sigma > 0, sigma, 1.0).float()[:, :, None, None]
    excess = (hosts - median.float()[:, :, None, None]).div_(unit)
    # A comparison with NaN is False.
    is_source = ~(excess.abs() <= REJECTED_SIGMA)
    if mask is not None:
        is_source = is_source | mask
    is_source = is_source.any(1, keepdim=True)
    wide = torch.nn.functional.pad(is_source, (1, 1, 1, 1))
    rows = wide[:, :, :-2] | wide[:, :, 1:-1] | wide[:, :, 2:]
    is_near_source = rows[..., :-2] | rows[..., 1:-1] | rows[..., 2:]
    _, region = _lags(*hosts.shape[2:], hosts.device)
    is_noise = region & ~is_near_source
    count = is_noise.sum((2, 3), keepdim=True).clamp(min=1)
    excess.masked_fill_(~is_noise, 0.0)
    mean = (excess.sum((2, 3), keepdim=True, dtype=torch.float64) / count).float()
    return excess.sub_(mean).masked_fill_(~is_noise, 0.0), is_noise


def _autocorrelation(images: Tensor) -> Tensor:
    """Sum the products of pixels at every lag, like `Lags.autocorrelation`."""
    height, width = images.shape[2:]
    size = fast_length(height + MOST_LAG), fast_length(width + MOST_LAG)
    rows, columns = _waves(size, images.device)
    power = torch.view_as_real(torch.fft.rfft2(images, size)).flatten(3).square_()
    # Few lags are wanted, of which half the plane is enough: two products with cosines and sines.
    cosines, sines = (power @ columns).chunk(2, dim=3)
    sums: Tensor = rows[0] @ cosines - rows[1] @ sines
    return sums


@lru_cache(maxsize=16)
def _waves(size: tuple[int, int], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the tables of a transform back from power, kept on the device.

    ``rows`` (2, 13, rows): cosines and sines for lags from -6 to 6. ``columns`` (columns + 2, 14):
    for lags from 0 to 6, cosines and then sines, twice for the squares of two parts.
    """

    def phases(lags: NDArray[np.int64], length: int, frequencies: int) -> NDArray[np.float64]:
        return np.outer(np.arange(frequencies) * (2 * np.pi / length), lags)

    lags = np.arange(-MOST_LAG, MOST_LAG + 1)
    along = phases(lags, size[0], size[0]).T
    rows = np.stack([np.cos(along), np.sin(along)])
    half = size[1] // 2 + 1
    across = phases(lags[MOST_LAG:], size[1], half)
    # Frequencies but the first and the last stand for their negatives too.
    twice = np.where((np.arange(half) % (half - 1)) == 0, 1.0, 2.0)[:, None]
    columns = np.concatenate([np.cos(across), np.sin(across)], axis=1) * twice
    tables = rows / (size[0] * size[1]), np.repeat(columns, 2, axis=0)
    there = [torch.from_numpy(table).to(device, torch.float32) for table in tables]
    return there[0], there[1]


@lru_cache(maxsize=16)
def _lags(height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return weights and region of `Lags`, kept on the device."""
    lags = Lags.of(height, width)
    return torch.from_numpy(lags.weights).to(device), torch.from_numpy(lags.region).to(device)
