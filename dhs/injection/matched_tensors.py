"""Sums for `dhs.injection.matched.arc_snr_matched` on the device of the images."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from dhs.injection.matched import MOST_LAG, REJECTED_SIGMA, Lags


def matched_sums(
    arc: Tensor, hosts: Tensor, median: Tensor, sigma: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute what `dhs.injection.matched.snr_of` needs, without waiting for the device.

    Parameters
    ----------
    arc : (B, 3, H, W) float32 tensor
        Light of the arcs alone, nanomaggies.
    hosts : (B, 3, H, W) float32 tensor
        Images of the hosts, nanomaggies.
    median, sigma : (B, 3) float64 tensors
        Median of the host's outer annulus and 1.4826 times its MAD, nanomaggies.
    mask : bool tensor, broadcastable to ``hosts``, optional
        True means bad: left out, in all bands, like pixels that are not finite.

    Returns
    -------
    (Tensor, Tensor, Tensor)
        ``energy`` (B, 3), ``variance`` (B, 3) and ``pixels`` (B, 1), float64.
    """
    energy = arc.square().sum((2, 3), dtype=torch.float64)
    scale = torch.where(energy > 0, energy.sqrt(), 1.0).float()[:, :, None, None]
    noise, is_noise = _noise(hosts, median, sigma, mask)
    size, weights, _ = _lags(*arc.shape[2:], arc.device)
    pairs = _autocorrelation(is_noise.float(), size)
    covariance = _autocorrelation(noise, size) / pairs.clamp(min=1)
    terms = weights * covariance * _autocorrelation(arc / scale, size)
    pixels = is_noise.sum((2, 3), dtype=torch.float64)
    return energy, terms.sum((2, 3), dtype=torch.float64), pixels


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
    _, _, region = _lags(*hosts.shape[2:], hosts.device)
    is_noise = region & ~is_near_source
    count = is_noise.sum((2, 3), keepdim=True).clamp(min=1)
    excess.masked_fill_(~is_noise, 0.0)
    mean = (excess.sum((2, 3), keepdim=True, dtype=torch.float64) / count).float()
    return excess.sub_(mean).masked_fill_(~is_noise, 0.0), is_noise


def _autocorrelation(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Sum the products of pixels at every lag, like `Lags.autocorrelation`."""
    seen = torch.fft.rfft2(images, size)
    power = seen.real.square() + seen.imag.square()
    rows = torch.fft.rfft(power, dim=2)[:, :, : MOST_LAG + 1] / size[0]
    rows = torch.cat([rows[:, :, 1:].flip(2), rows.conj()], 2)
    sums: Tensor = torch.fft.irfft(rows, size[1])
    return sums[..., : MOST_LAG + 1]


@lru_cache(maxsize=16)
def _lags(height: int, width: int, device: torch.device) -> tuple[tuple[int, int], Tensor, Tensor]:
    """Return size, weights and region of `Lags`, kept on the device."""
    lags = Lags.of(height, width)
    weights, region = torch.from_numpy(lags.weights), torch.from_numpy(lags.region)
    return lags.size, weights.to(device), region.to(device)
