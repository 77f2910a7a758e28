"""Injection on one device, like `dhs.injection.inject` but for tensors and without a table.

Conventions as in `dhs.injection`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dhs.constants import BANDS, PIXEL_SCALE
from dhs.device.copies import to_device
from dhs.injection.engine import SIGMA_PER_MAD, SNR_ANNULUS
from dhs.injection.matched import snr_of
from dhs.injection.matched_tensors import matched_sums
from dhs.injection.noise import Noise
from dhs.injection.params import LensParams, SourceParams
from dhs.injection.psf import SIDE, padded_size
from dhs.injection.psf_models import Profile, psf_profile
from dhs.injection.rendering import render
from dhs.injection.transfer import send
from fastnorm.annulus import Annulus
from fastnorm.normalize import annulus_median_mad


class InjectedTensors(NamedTuple):
    """Result of `inject_tensors`.

    ``stamps`` (B, 3, H, W) float32: hosts with their arcs, nanomaggies, on the device of the
    hosts. ``measured``: (B,) float64 arrays on the CPU: ``magnification``, ``flux_out_BAND``,
    ``arc_snr_BAND`` and ``arc_snr_matched_BAND``, same as in `dhs.injection.inject`.
    """

    stamps: Tensor
    measured: dict[str, NDArray[np.float64]]


def inject_tensors(
    hosts: Tensor,
    lens: LensParams,
    source: SourceParams,
    fwhm_arcsec: NDArray[np.float64],
    noise: Noise,
    seed: int,
    ids: NDArray[np.int64],
    *,
    mask: Tensor | None = None,
    backend: str | None = None,
) -> InjectedTensors:
    """Inject one arc into each host, on the device of the hosts.

    The host waits for a GPU once, to read what is measured, and once more to read the arcs if
    noise is drawn for them.

    Parameters
    ----------
    hosts : (B, 3, H, W) float32 tensor
        Images of the hosts, nanomaggies, finite.
    lens : LensParams
        B lenses.
    source : SourceParams
        B sources.
    fwhm_arcsec : (B, 3) float64
        FWHM of the PSFs in g, r, z, arcsec; see `psf_kernels`.
    noise : Noise
        Noise of the arcs. It is drawn on the CPU, where its random streams are.
    seed : int
        Random seed, in [0, 2**63 - 1].
    ids : (B,) int64
        Ids of the injections.
    mask : bool tensor, broadcastable to ``hosts``, optional
        True means bad: left out of the noise of ``arc_snr_matched_BAND``, and of nothing else.
    backend : str, optional
        See `dhs.injection.render`.

    Returns
    -------
    InjectedTensors

    Raises
    ------
    ValueError
        Same as in `dhs.injection.inject`.
    """
    height, width = hosts.shape[2:]
    unit = dataclasses.replace(source, **{f"flux_nmgy_{band}": 1.0 for band in BANDS})
    rendered = render(
        lens, unit, (height, width), bands=("r",), seed=seed, ids=ids, backend=backend
    )
    light = rendered if isinstance(rendered, Tensor) else torch.from_numpy(rendered)
    light = to_device(light, hosts.device)
    flux, fwhm = send([source.fluxes(), fwhm_arcsec], hosts.device)
    arc = convolve(light, psf_kernels(fwhm.to(hosts.dtype))) * flux[:, :, None, None]
    annulus = Annulus.default(height, width)
    median, mad = annulus_median_mad(hosts, annulus.r_in, annulus.r_out)
    is_inside, pixels = _snr_annulus(height, width, hosts.device)
    sigmas = SIGMA_PER_MAD * mad.double()
    sums = [
        light.sum((1, 2, 3), dtype=torch.float64)[:, None],
        arc.sum((2, 3), dtype=torch.float64),
        (arc * is_inside).sum((2, 3), dtype=torch.float64),
        mad.double(),
        *matched_sums(arc, hosts, median.double(), sigmas, mask),
    ]
    magnification, flux_out, signal, mads, *matched = _read_together(sums)
    sigma = SIGMA_PER_MAD * mads
    added = arc
    if noise.gain is not None or noise.texture is not None:
        noisy = noise.apply(arc.cpu().numpy(), sigma, seed, ids)
        added = to_device(torch.from_numpy(noisy), hosts.device)
    with np.errstate(divide="ignore", invalid="ignore"):
        snr = signal / (sigma * np.sqrt(pixels))
    energy, variance, noise_pixels = matched
    in_filter = snr_of(energy, variance, noise_pixels, sigma)
    measured = {"magnification": magnification[:, 0]}
    for k, band in enumerate(BANDS):
        measured |= {f"flux_out_{band}": flux_out[:, k], f"arc_snr_{band}": snr[:, k]}
        measured[f"arc_snr_matched_{band}"] = in_filter[:, k]
    return InjectedTensors(hosts + added, measured)


def psf_kernels(
    fwhm: Tensor,
    pixel_scale: float = PIXEL_SCALE,
    side: int = SIDE,
    profile: Profile = psf_profile(),  # noqa: B008
) -> Tensor:
    """Compute images of PSFs on the device of their widths.

    The images are those of `dhs.injection.PSF.of_profile`.

    Parameters
    ----------
    fwhm : (B, 3) tensor
        Full width at half maximum, arcsec.
    pixel_scale : float
        Arcsec per pixel.
    side : int
        Pixels per side, odd.
    profile : Profile
        See `dhs.injection.psf_models.psf_profile`.

    Returns
    -------
    (B, 3, side, side) tensor
        Each image sums to 1.
    """
    half = side // 2
    offset = torch.arange(half + 1, device=fwhm.device, dtype=fwhm.dtype) * pixel_scale
    square = offset[:, None] ** 2 + offset**2
    quadrant: Tensor = profile.value(profile.sharpness / fwhm[:, :, None, None] ** 2 * square)
    mirrored = torch.arange(-half, half + 1, device=fwhm.device).abs()
    images = quadrant[:, :, mirrored][..., mirrored]
    normalised: Tensor = images / images.sum((2, 3), keepdim=True)
    return normalised


def convolve(images: Tensor, kernels: Tensor) -> Tensor:
    """Convolve images with PSFs, like `dhs.injection.PSF.convolve`.

    Parameters
    ----------
    images : (B, 1, H, W) tensor
        Images in one band.
    kernels : (B, 3, h, w) tensor
        PSFs with odd sides, centred on the middle pixel.

    Returns
    -------
    (B, 3, H, W) tensor
    """
    height, width = images.shape[2:]
    rows, columns = kernels.shape[2:]
    size = padded_size(height, width, rows, columns)
    seen = torch.fft.rfft2(images, size) * torch.fft.rfft2(kernels, size)
    # The PSF is centred, not at the corner, which shifts the result by half its size.
    top, left = rows // 2, columns // 2
    whole: Tensor = torch.fft.irfft2(seen, size)
    return whole[:, :, top : top + height, left : left + width]


@lru_cache(maxsize=16)
def _snr_annulus(height: int, width: int, device: torch.device) -> tuple[Tensor, int]:
    """Return the pixels of `SNR_ANNULUS` as 0 and 1, kept on the device, and their number."""
    is_inside = SNR_ANNULUS.contains(height, width)
    return torch.from_numpy(is_inside.astype(np.float32)).to(device), int(is_inside.sum())


def _read_together(columns: Sequence[Tensor]) -> list[NDArray[np.float64]]:
    """Read tensors (B, n) from their device in one copy."""
    ends = np.cumsum([column.shape[1] for column in columns])[:-1]
    return np.split(torch.cat(list(columns), 1).cpu().numpy(), ends, axis=1)
