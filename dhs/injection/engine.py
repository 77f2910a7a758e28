"""Injection of lensed arcs, convolved with the PSF, into images of real hosts."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dhs.arguments import MOST_ID, id_array, integer, refuse_more_than_numbers
from dhs.constants import BANDS, PIXEL_SCALE
from dhs.injection.matched import SIGMA_PER_MAD, arc_snr_matched
from dhs.injection.noise import Noise
from dhs.injection.params import LensParams, SourceParams
from dhs.injection.psf import PSF
from dhs.injection.rendering import render
from dhs.injection.stamps import GalaxyStamps
from fastnorm.annulus import Annulus
from fastnorm.normalize import annulus_median_mad

if TYPE_CHECKING:
    import pandas as pd

# The inner radius excludes the host's core. No arc from the priors reaches the outer radius.
SNR_ANNULUS = Annulus(4.0, 16.0)


class Injected(NamedTuple):
    """Result of `inject`.

    ``stamps`` (B, 3, H, W) float32: hosts with their arcs, nanomaggies.
    ``arc`` (B, 3, H, W) float32: the arcs alone, convolved with the PSF, without noise,
    nanomaggies. ``table``: one row per injection; see `inject`.
    """

    stamps: NDArray[np.float32]
    arc: NDArray[np.float32]
    table: pd.DataFrame


def inject(
    hosts: NDArray[Any],
    lens: LensParams,
    source: SourceParams,
    psf: PSF,
    noise: Noise | None = None,
    seed: int = 0,
    ids: ArrayLike | None = None,
    *,
    pixel_scale: float = PIXEL_SCALE,
    oversample: int = 4,
    galaxy_stamps: GalaxyStamps | None = None,
    backend: str | None = None,
) -> Injected:
    """Inject one arc into each host.

    Conventions as in `dhs.injection`. Injection ``ids[i]`` of a ``seed`` does not depend on the
    batch, the order, or the number of threads or workers.

    Parameters
    ----------
    hosts : (B, 3, H, W) array of float
        Images in g, r, z, nanomaggies, finite. The outer annulus, where the noise is measured,
        must hold at least 100 pixels.
    lens : LensParams
        B lenses, or one for all.
    source : SourceParams
        B sources, or one for all.
    psf : PSF
        One for all, or one per host.
    noise : Noise, optional
        Noise of the arc. By default, no noise is added.
    seed : int
        Random seed, in [0, 2**63 - 1].
    ids : (B,) array_like of int, optional
        Ids of the injections. By default 0, 1, 2, ...
    pixel_scale : float
        Arcsec per pixel.
    oversample : int
        Finest sampling per pixel side, in [1, 8]; see `render`.
    galaxy_stamps : GalaxyStamps, optional
        Images to lens in place of Sersic profiles: ``stamps`` of `render`.
    backend : str, optional
        See `render`.

    Returns
    -------
    Injected
        The table has these columns: ``injection_id``, ``seed``, every parameter under its name,
        ``magnification`` (flux of the lensed source inside the stamp, before the PSF, divided by
        the flux of the unlensed source), ``flux_in_BAND`` (unlensed flux, nanomaggies),
        ``flux_out_BAND`` (lensed flux inside the stamp, after the PSF, nanomaggies),
        ``host_sigma_BAND`` (1.4826 MAD of the host's outer annulus, nanomaggies),
        ``arc_snr_BAND`` (arc flux between 4 and 16 pixels from the centre, divided by the noise
        of that many host pixels, as if white), ``arc_snr_matched_BAND`` (amplitude of the
        noiseless arc over its standard deviation under the correlated noise of the host; see
        `dhs.injection.arc_snr_matched`), ``poisson_noise`` and ``texture_noise`` (whether they
        were on), ``gain_BAND`` and ``texture_BAND`` (NaN where off).

    Raises
    ------
    TypeError, ValueError
        ``hosts`` is not (B, 3, H, W) or not finite, lengths do not broadcast, or an argument is
        out of its range. The message names the field, index, value and range.
    """
    hosts = _open_hosts(hosts)
    noise = Noise() if noise is None else noise
    for name, value, kind in (
        ("lens", lens, LensParams),
        ("source", source, SourceParams),
        ("psf", psf, PSF),
        ("noise", noise, Noise),
        ("galaxy_stamps", galaxy_stamps, GalaxyStamps),
    ):
        is_optional = name == "galaxy_stamps" and value is None
        if not (is_optional or isinstance(value, kind)):
            raise TypeError(f"{name} is of type {type(value).__name__}; give a {kind.__name__}.")
    count, shape = len(hosts), hosts.shape[2:]
    seed, numbers = integer("seed", seed, 0, MOST_ID), id_array(ids, count)
    lens, source = lens.broadcast_to(count), source.broadcast_to(count)
    # A profile has the same shape in all bands, so it is rendered and transformed only once.
    bands = ("r",) if galaxy_stamps is None else BANDS
    light = render(
        lens,
        _of_unit_flux(source),
        shape,
        pixel_scale,
        oversample,
        bands=bands,
        stamps=galaxy_stamps,
        seed=seed,
        ids=numbers,
        backend=backend,
    )
    light = light if isinstance(light, np.ndarray) else light.cpu().numpy()
    arc = psf.convolve(light) * source.fluxes()[:, :, None, None].astype(np.float32)
    median, sigma = _host_noise(hosts)
    stamps = hosts + noise.apply(arc, sigma, seed, numbers)
    magnification = light[:, bands.index("r")].sum(axis=(1, 2), dtype=np.float64)
    matched = arc_snr_matched(arc, hosts, median, sigma)
    table = _table(lens, source, arc, sigma, matched, magnification, seed, numbers, noise)
    return Injected(stamps, arc, table)


def arc_snr(arc: NDArray[np.float32], sigma: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute the signal-to-noise ratio of arcs between 4 and 16 pixels from the centre.

    The same pixels count for every arc, and their noise is taken as white. For pixels weighted by
    the arc, under correlated noise, see `arc_snr_matched`.

    Parameters
    ----------
    arc : (B, 3, H, W) float32
        Light of the arcs alone.
    sigma : (B, 3) float64
        Standard deviation of a host pixel, in the same unit.

    Returns
    -------
    (B, 3) float64
        Sum of the arc divided by ``sigma sqrt(pixels)``; infinite or NaN where ``sigma`` is 0.
    """
    is_inside = SNR_ANNULUS.contains(*arc.shape[2:])
    signal = arc[:, :, is_inside].sum(axis=2, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        snr: NDArray[np.float64] = signal / (sigma * np.sqrt(is_inside.sum()))
    return snr


def _open_hosts(hosts: Any) -> NDArray[np.float32]:
    refuse_more_than_numbers("hosts", hosts)
    images = np.asarray(hosts)
    if images.dtype.kind != "f":
        raise TypeError(f"hosts has dtype {images.dtype}; give floats, in nanomaggies.")
    if images.ndim != 4 or images.shape[1] != len(BANDS) or 0 in images.shape:
        raise ValueError(
            f"hosts has shape {images.shape}; expected (B, 3, H, W) with bands g, r, z."
        )
    with np.errstate(over="ignore"):  # overflow is rejected below
        narrow = images.astype(np.float32, copy=False)
    if not np.isfinite(narrow).all():
        index = tuple(int(i) for i in np.argwhere(~np.isfinite(narrow))[0])
        raise ValueError(
            f"hosts[{', '.join(map(str, index))}]={images[index]} is not allowed: every pixel "
            "must be finite in float32. Fill bad pixels or exclude the host."
        )
    return narrow


def _of_unit_flux(source: SourceParams) -> SourceParams:
    one = {f"flux_nmgy_{band}": 1.0 for band in BANDS}
    return dataclasses.replace(source, **one)


def _host_noise(
    hosts: NDArray[np.float32],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return median and standard deviation of the pixels of the outer annulus, (B, 3) each."""
    annulus = Annulus.default(*hosts.shape[2:])
    median, mad = annulus_median_mad(hosts, annulus.r_in, annulus.r_out)
    return np.asarray(median, np.float64), SIGMA_PER_MAD * np.asarray(mad, np.float64)


def _table(
    lens: LensParams,
    source: SourceParams,
    arc: NDArray[np.float32],
    sigma: NDArray[np.float64],
    matched: NDArray[np.float64],
    magnification: NDArray[np.float64],
    seed: int,
    ids: NDArray[np.int64],
    noise: Noise,
) -> pd.DataFrame:
    import pandas as pd

    columns: dict[str, Any] = {"injection_id": ids, "seed": np.full(len(ids), seed)}
    columns |= lens.arrays() | source.arrays()
    columns["magnification"] = magnification
    flux_out = arc.sum(axis=(2, 3), dtype=np.float64)
    snr = arc_snr(arc, sigma)
    for k, band in enumerate(BANDS):
        columns[f"flux_in_{band}"] = source.fluxes()[:, k]
        columns[f"flux_out_{band}"] = flux_out[:, k]
        columns[f"host_sigma_{band}"] = sigma[:, k]
        columns[f"arc_snr_{band}"] = snr[:, k]
        columns[f"arc_snr_matched_{band}"] = matched[:, k]
    columns["poisson_noise"] = noise.gain is not None
    columns["texture_noise"] = noise.texture is not None
    for name, values in (("gain", noise.gain), ("texture", noise.texture)):
        wide = np.broadcast_to(np.nan if values is None else values, (len(ids), len(BANDS)))
        columns |= {f"{name}_{band}": wide[:, k] for k, band in enumerate(BANDS)}
    return pd.DataFrame(columns)
