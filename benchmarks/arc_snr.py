"""Print the table of both signal-to-noise ratios of arcs (``python -m benchmarks.arc_snr``).

Hosts are simulated noise, white or smoothed, so the ratio of a matched filter is known: mean over
standard deviation of its amplitude in independent noise. ``--cutouts`` adds real hosts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from dhs.constants import BANDS, CUTOUT_SIZE
from dhs.injection import PSF, Injected, inject, sample_lens_params, sample_source_params
from fastnorm.io import read_cutouts

THETA_E_ARCSEC = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0)
R_MAG = 22.0
SIGMA_NMGY = 0.0025
"""Noise of a pixel in r, as in cutouts of DR10."""
FWHM_PIXELS = 2.0
FWHM_PER_SIGMA = 2.3548
Images = NDArray[np.float32]


def noise(count: int, fwhm_pixels: float, rng: np.random.Generator) -> Images:
    """Draw images of noise, (count, 3, 101, 101), smoothed to a FWHM.

    Parameters
    ----------
    count : int
        Number of images.
    fwhm_pixels : float
        FWHM of the smoothing, pixels; 0 for white noise.
    rng : numpy.random.Generator
        Source of the noise.

    Returns
    -------
    (count, 3, 101, 101) float32
        Noise of standard deviation `SIGMA_NMGY`.
    """
    images = rng.standard_normal((count, len(BANDS), CUTOUT_SIZE, CUTOUT_SIZE))
    if fwhm_pixels:
        images = gaussian_filter(images, fwhm_pixels / FWHM_PER_SIGMA, mode="wrap", axes=(2, 3))
    scaled: Images = (SIGMA_NMGY * images / images.std()).astype(np.float32)
    return scaled


def injected(hosts: Images, theta_e_arcsec: float) -> Injected:
    """Inject arcs with one Einstein radius and magnitude; all else is drawn from the priors."""
    rng = np.random.default_rng(round(100 * theta_e_arcsec))
    radii = np.full(len(hosts), theta_e_arcsec)
    lens = sample_lens_params(rng, radii)
    source = sample_source_params(rng, radii, r_mag_range=(R_MAG, R_MAG))
    return inject(hosts, lens, source, PSF.moffat(1.3))


def simulated(found: Injected, seen: Images) -> NDArray[np.float64]:
    """Return mean over standard deviation of the amplitudes of r-band arcs in images of noise."""
    weights = found.arc[:, 1].reshape(len(found.arc), -1).astype(np.float64)
    weights /= np.square(weights).sum(axis=1)[:, None]
    amplitudes = 1 + seen.reshape(-1, weights.shape[1]) @ weights.T
    ratio: NDArray[np.float64] = amplitudes.mean(axis=0) / amplitudes.std(axis=0)
    return ratio


def real_hosts(folder: Path, count: int) -> Images:
    """Read the npz files of a folder, repeated to ``count`` hosts."""
    paths = sorted(folder.glob("*.npz"))
    read = [cutout.pixels for path in paths for cutout in read_cutouts(path)]
    finite = [pixels for pixels in read if np.isfinite(pixels).all()]
    return np.resize(np.stack(finite), (count, *finite[0].shape)).astype(np.float32)


def main(
    count: Annotated[int, typer.Option(help="Injections for each Einstein radius.")] = 200,
    cutouts: Annotated[Path | None, typer.Option(help="Folder of real hosts.")] = None,
) -> None:
    """Print the means of both ratios in r for each Einstein radius, as a Markdown table."""
    rng = np.random.default_rng(0)
    kinds = {"white": 0.0, "smoothed": FWHM_PIXELS}
    hosts = {name: noise(count, fwhm, rng) for name, fwhm in kinds.items()}
    others = {name: noise(1200, fwhm, rng) for name, fwhm in kinds.items()}
    if cutouts is not None:
        hosts["real"] = real_hosts(cutouts, count)
    print("| theta_E | hosts | aperture | matched | simulated | matched / aperture |")
    print("|---|---|---:|---:|---:|---:|")
    for theta_e in THETA_E_ARCSEC:
        for name, images in hosts.items():
            found = injected(images, theta_e)
            aperture, matched = (
                found.table[column].to_numpy() for column in ("arc_snr_r", "arc_snr_matched_r")
            )
            truth = f"{simulated(found, others[name]).mean():.1f}" if name in others else ""
            print(
                f"| {theta_e:.1f} | {name} | {aperture.mean():.1f} | {matched.mean():.1f} "
                f"| {truth} | {np.median(matched / aperture):.2f} |"
            )


if __name__ == "__main__":
    typer.run(main)
