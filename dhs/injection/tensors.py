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

from dhs.constants import BANDS
from dhs.device.copies import to_device
from dhs.injection.engine import SNR_ANNULUS
from dhs.injection.matched import SIGMA_PER_MAD, snr_of
from dhs.injection.matched_tensors import HostNoise, host_noise, matched_sums
from dhs.injection.noise import Noise
from dhs.injection.params import LensParams, SourceParams
from dhs.injection.psf_tensors import convolve, psf_transfer, transform_size
from dhs.injection.rendering import render
from dhs.injection.transfer import send


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
    of_hosts: HostNoise | None = None,
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
        FWHM of the PSFs in g, r, z, arcsec; see `dhs.injection.psf_tensors.psf_transfer`.
    noise : Noise
        Noise of the arcs. It is drawn on the CPU, where its random streams are.
    seed : int
        Random seed, in [0, 2**63 - 1].
    ids : (B,) int64
        Ids of the injections.
    mask : bool tensor, broadcastable to ``hosts``, optional
        True means bad: left out of the noise of ``arc_snr_matched_BAND``, and of nothing else.
    of_hosts : HostNoise, optional
        Noise of the hosts, if it was measured before: `dhs.injection.matched_tensors.host_noise`.
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
    plain = dataclasses.replace(source, **{f"flux_nmgy_{band}": 1.0 for band in BANDS})
    rendered = render(
        lens, plain, (height, width), bands=("r",), seed=seed, ids=ids, backend=backend
    )
    light = rendered if isinstance(rendered, Tensor) else torch.from_numpy(rendered)
    light = to_device(light, hosts.device)
    flux, fwhm = send([source.fluxes(), fwhm_arcsec], hosts.device)
    # Everything is measured on arcs of unit flux in every band.
    unit = convolve(light, psf_transfer(fwhm.to(hosts.dtype), transform_size(height, width)))
    if of_hosts is None:
        of_hosts = host_noise(hosts, mask)
    totals, pixels = _summed_pixels(height, width, hosts.device)
    sums = [
        light.sum((1, 2, 3), dtype=torch.float64)[:, None],
        (unit.flatten(2) @ totals).double().flatten(1),
        of_hosts.mad,
        of_hosts.pixels,
        *matched_sums(unit, of_hosts),
    ]
    magnification, lights, mads, noise_pixels, energy, variance = _read_together(sums)
    sigma = SIGMA_PER_MAD * mads
    arc = flux[:, :, None, None]
    if noise.gain is None and noise.texture is None:
        stamps = torch.addcmul(hosts, unit, arc)
    else:
        noisy = noise.apply((unit * arc).cpu().numpy(), sigma, seed, ids)
        stamps = hosts + to_device(torch.from_numpy(noisy), hosts.device)
    fluxes = source.fluxes()
    whole, inside = np.moveaxis(lights.reshape(len(ids), len(BANDS), 2), 2, 0) * fluxes
    with np.errstate(divide="ignore", invalid="ignore"):
        snr = inside / (sigma * np.sqrt(pixels))
    in_filter = snr_of(energy * fluxes**2, variance, noise_pixels, sigma)
    measured = {"magnification": magnification[:, 0]}
    for k, band in enumerate(BANDS):
        measured |= {f"flux_out_{band}": whole[:, k], f"arc_snr_{band}": snr[:, k]}
        measured[f"arc_snr_matched_{band}"] = in_filter[:, k]
    return InjectedTensors(stamps, measured)


@lru_cache(maxsize=16)
def _summed_pixels(height: int, width: int, device: torch.device) -> tuple[Tensor, int]:
    """Return all pixels and those of `SNR_ANNULUS` as two columns of 0 and 1, kept on the device.

    Also return the number of pixels of the annulus.
    """
    is_inside = SNR_ANNULUS.contains(height, width)
    columns = np.stack([np.ones_like(is_inside), is_inside], axis=-1).reshape(-1, 2)
    return torch.from_numpy(columns.astype(np.float32)).to(device), int(is_inside.sum())


def _read_together(columns: Sequence[Tensor]) -> list[NDArray[np.float64]]:
    """Read tensors (B, n) from their device in one copy."""
    ends = np.cumsum([column.shape[1] for column in columns])[:-1]
    return np.split(torch.cat(list(columns), 1).cpu().numpy(), ends, axis=1)
