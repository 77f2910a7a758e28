"""Images of a simulated survey: cutouts of galaxies, some of them with an arc.

Light is rendered without noise and convolved with the PSF of its cutout. Then the noise of the
sky and of its own photons is added. Conventions as in `dhs.injection`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dhs.arguments import MOST_ID, id_array, integer, real_array
from dhs.constants import AB_ZEROPOINT_MAG, BANDS, CUTOUT_SIZE, PIXEL_SCALE
from dhs.injection.engine import arc_snr
from dhs.injection.params import LensParams, SourceParams
from dhs.injection.priors import flux_of_magnitude
from dhs.injection.psf import PSF, SIDE
from dhs.injection.psf_models import Profile, psf_profile
from dhs.injection.rendering import render
from dhs.injection.streams import Purpose, generator
from dhs.simulate.config import SurveyConfig, survey_config
from dhs.simulate.scene import MARGIN, NO_TIER, PADDED_SIZE, Galaxy, Scene, Star, draw_scene

DATA_ORIGIN = "simulated"
LENS_FRACTION = 0.2

MOST_GALAXIES = 4096
"""Largest number of galaxies in a cutout.

The clumps of galaxy k of cutout i use the random stream with id ``4096 i + k``.
"""

MOST_CUTOUTS = MOST_ID // MOST_GALAXIES
_INSIDE = slice(MARGIN, MARGIN + CUTOUT_SIZE)
_IN_STAMP_ARCSEC = CUTOUT_SIZE / 2 * PIXEL_SCALE
# The profile of a spiral arm is exp(ARM_SHARPNESS cos(angle)). Arms fade inside the bulge.
_ARM_SHARPNESS = 1.5
_ARMLESS_RADII = 0.4

LENS_COLUMNS = tuple(LensParams.ranges)
SOURCE_COLUMNS = tuple(SourceParams.ranges)


class Simulated(NamedTuple):
    """Result of `simulate_cutouts`.

    ``images`` (N, 3, 101, 101) float32, nanomaggies. ``rows``: one dictionary per cutout, with
    the columns of the manifest that do not refer to a file; see `dhs.simulate.files`.
    """

    images: NDArray[np.float32]
    rows: list[dict[str, Any]]


def simulate_cutouts(
    numbers: Sequence[int] | NDArray[np.integer[Any]],
    seed: int,
    lens_fraction: float = LENS_FRACTION,
    config: SurveyConfig | None = None,
) -> Simulated:
    """Simulate cutouts of a survey.

    A cutout depends only on its number, the seed and the settings.

    Parameters
    ----------
    numbers : (N,) sequence of int
        Numbers of the cutouts in the survey, in [0, 2**51 - 1]. All N cutouts are held in
        memory, twice.
    seed : int
        Random seed of the survey, in [0, 2**63 - 1].
    lens_fraction : float
        Probability that a cutout has an arc, in [0, 1].
    config : SurveyConfig, optional
        Settings of the sky. By default ``configs/simulated_survey.yaml``.

    Returns
    -------
    Simulated

    Raises
    ------
    TypeError, ValueError
        A number, the seed or the fraction is out of its range.
    """
    seed, share = check_settings(seed, lens_fraction)
    chosen = id_array(np.asarray(numbers, np.int64), len(numbers))
    if len(chosen) and int(chosen.max()) >= MOST_CUTOUTS:
        integer("numbers", int(chosen.max()), 0, MOST_CUTOUTS - 1)
    settings = survey_config() if config is None else config
    scenes = [draw_scene(settings, seed, int(number), share) for number in chosen]
    if not scenes:
        return Simulated(np.empty((0, len(BANDS), CUTOUT_SIZE, CUTOUT_SIZE), np.float32), [])
    fwhm = np.array([scene.fwhm for scene in scenes])
    profile = psf_profile("moffat", beta=settings.observation.moffat_beta)
    psf = PSF.of_profile(profile, fwhm[:, 1], fwhm_g_arcsec=fwhm[:, 0], fwhm_z_arcsec=fwhm[:, 2])
    light = _galaxy_light(scenes, seed)
    images = psf.convolve(light)[:, :, _INSIDE, _INSIDE]
    for image, scene, kernel in zip(images, scenes, psf.images, strict=True):
        for star in scene.stars:
            image += _star_light(star, scene.fwhm, kernel, profile)
    sigma = _sky_sigma(scenes, psf)
    truths = _add_arcs(images, scenes, psf, sigma, seed)
    sky = _sky_light(settings)
    noisy = np.empty((len(scenes), len(BANDS), CUTOUT_SIZE, CUTOUT_SIZE), np.float32)
    for i, scene in enumerate(scenes):
        # The photon noise of an object follows from the ratio of its light to the sky's light.
        spread = sigma[i][:, None, None] * np.sqrt(1 + np.clip(images[i], 0, None) / sky)
        rng = generator(seed, scene.number, Purpose.SKY)
        noisy[i] = images[i] + spread * rng.standard_normal(images[i].shape)
    rows = [_row(scene, seed, truth) for scene, truth in zip(scenes, truths, strict=True)]
    return Simulated(noisy, rows)


def check_settings(seed: int, lens_fraction: float) -> tuple[int, float]:
    """Check the seed and the fraction of arcs, and return both.

    Raises
    ------
    TypeError, ValueError
        The seed is not an integer in [0, 2**63 - 1], or the fraction is not a number in [0, 1].
    """
    share = float(real_array("lens_fraction", lens_fraction, 0.0, 1.0, ndim=0))
    return integer("seed", seed, 0, MOST_ID), share


def _galaxy_light(scenes: list[Scene], seed: int) -> NDArray[np.float32]:
    """Render hosts and neighbours without the PSF, (N, 3, padded, padded), all at once."""
    places = [(i, k) for i, scene in enumerate(scenes) for k in range(len(scene.galaxies))]
    galaxies = [scenes[i].galaxies[k] for i, k in places]
    x, y, re, n, q, phi = np.array([galaxy[:6] for galaxy in galaxies]).T
    source = SourceParams(
        beta_x_arcsec=x,
        beta_y_arcsec=y,
        re_arcsec=re,
        n_sersic=n,
        q=q,
        phi_rad=phi,
        n_clumps=np.array([galaxy.n_clumps for galaxy in galaxies], np.float64),
        clump_frac=np.array([galaxy.clump_frac for galaxy in galaxies]),
    )
    ids = [scenes[i].number * MOST_GALAXIES + k for i, k in places]
    # All bands have the same shape, so only one band with flux 1 is rendered.
    shape = (PADDED_SIZE, PADDED_SIZE)
    unit = render(None, source, shape, bands=("r",), seed=seed, ids=ids)[:, 0]
    light = np.zeros((len(scenes), len(BANDS), *shape), np.float32)
    for (i, _), galaxy, profile in zip(places, galaxies, unit, strict=True):
        shape_of_light = profile * _spiral_arms(galaxy) if galaxy.arm_contrast > 0 else profile
        for plane, flux in zip(light[i], galaxy.flux, strict=True):
            plane += np.float32(flux) * shape_of_light
    return light


def _spiral_arms(galaxy: Galaxy) -> NDArray[np.float32]:
    """Compute two logarithmic arms as a factor on the disc, with mean 1 along any ellipse."""
    place = (np.arange(PADDED_SIZE) - (PADDED_SIZE - 1) / 2) * PIXEL_SCALE
    dx, dy = place[None, :] - galaxy.x, place[:, None] - galaxy.y
    cosine, sine = np.cos(galaxy.phi), np.sin(galaxy.phi)
    along, across = dx * cosine + dy * sine, (dy * cosine - dx * sine) / galaxy.q
    radius = np.maximum(np.hypot(along, across) / galaxy.re, 1e-3)
    winding = np.log(radius) / np.tan(galaxy.arm_pitch)
    angle = 2 * (np.arctan2(across, along) - winding) + galaxy.arm_phase
    arms = np.exp(_ARM_SHARPNESS * np.cos(angle)) / np.i0(_ARM_SHARPNESS)
    visible = radius**2 / (radius**2 + _ARMLESS_RADII**2)
    factor: NDArray[np.float32] = (1 + galaxy.arm_contrast * visible * (arms - 1)).astype(
        np.float32
    )
    return factor


def _star_light(
    star: Star, fwhm: NDArray[np.float64], kernel: NDArray[np.float64], profile: Profile
) -> NDArray[np.float32]:
    """Compute the light of a star, (3, 101, 101), with the normalisation of the PSF image."""
    place = (np.arange(CUTOUT_SIZE) - (CUTOUT_SIZE - 1) / 2) * PIXEL_SCALE
    square = (place[None, :] - star.x) ** 2 + (place[:, None] - star.y) ** 2
    narrow = profile.sharpness / fwhm**2
    peak = np.array(star.flux) * kernel[:, SIDE // 2, SIDE // 2]
    light: NDArray[np.float64] = peak[:, None, None] * profile.value(narrow[:, None, None] * square)
    return light.astype(np.float32)


def _sky_sigma(scenes: list[Scene], psf: PSF) -> NDArray[np.float64]:
    """Compute the standard deviation of a sky pixel, (N, 3), nanomaggies.

    The best estimate of a point source's flux has the weights p / sum(p^2), where p is the PSF.
    Hence ``1 / psf_ivar = sigma^2 / sum(p^2)``.
    """
    ivar = np.array([scene.psf_ivar for scene in scenes])
    sigma: NDArray[np.float64] = np.sqrt((psf.images**2).sum(axis=(2, 3)) / ivar)
    return sigma


def _sky_light(config: SurveyConfig) -> NDArray[np.float64]:
    """Return the sky's light per pixel in g, r, z, (3, 1, 1), nanomaggies."""
    level = [getattr(config.observation, f"sky_mag_per_arcsec2_{band}") for band in BANDS]
    return (flux_of_magnitude(level) * PIXEL_SCALE**2)[:, None, None]


def _add_arcs(
    images: NDArray[np.float32],
    scenes: list[Scene],
    psf: PSF,
    sigma: NDArray[np.float64],
    seed: int,
) -> list[dict[str, Any]]:
    """Add the arcs to the images, and return their true parameters, empty where there is no arc."""
    rows = [i for i, scene in enumerate(scenes) if scene.tier != NO_TIER]
    truths: list[dict[str, Any]] = [{} for _ in scenes]
    if not rows:
        return truths
    lens = LensParams(**_joined([scenes[i].lens for i in rows]))
    source = SourceParams(**_joined([scenes[i].source for i in rows]))
    one = {f"flux_nmgy_{band}": 1.0 for band in BANDS}
    unit = dataclasses.replace(source, **one)
    ids = [scenes[i].number * MOST_GALAXIES + MOST_GALAXIES - 1 for i in rows]
    light = render(lens, unit, bands=("r",), seed=seed, ids=ids)
    flux = source.fluxes()
    seen = PSF(psf.images[rows]).convolve(light)
    snr = arc_snr(seen, sigma[rows] / flux)
    scale = np.ones(len(rows))
    for k, i in enumerate(rows):
        target = scenes[i].arc_snr_r
        if target is not None:
            scale[k] = target / snr[k, 1]
    flux, snr = flux * scale[:, None], snr * scale[:, None]
    magnification = light.sum(axis=(1, 2, 3), dtype=np.float64)
    for k, i in enumerate(rows):
        for plane, arc, brightness in zip(images[i], seen[k], flux[k], strict=True):
            plane += np.float32(brightness) * arc
        truths[i] = {name: float(values[k]) for name, values in lens.arrays().items()}
        truths[i] |= {f"source_{name}": float(v[k]) for name, v in source.arrays().items()}
        truths[i] |= {
            f"source_flux_nmgy_{b}": float(f) for b, f in zip(BANDS, flux[k], strict=True)
        }
        truths[i]["source_r_mag"] = AB_ZEROPOINT_MAG - 2.5 * float(np.log10(flux[k, 1]))
        truths[i]["magnification"] = float(magnification[k])
        truths[i]["arc_snr_r"] = float(snr[k, 1])
    return truths


def _joined(drawn: Sequence[LensParams | SourceParams | None]) -> dict[str, NDArray[np.float64]]:
    each = [params.arrays() for params in drawn if params is not None]
    return {name: np.concatenate([arrays[name] for arrays in each]) for name in each[0]}


def _row(scene: Scene, seed: int, truth: dict[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "galaxy_id": f"simulated-{seed}-{scene.number:08d}",
        "label": int(scene.tier != NO_TIER),
        "tier": scene.tier,
    }
    row |= {f"psfsize_{b}": float(v) for b, v in zip(BANDS, scene.fwhm, strict=True)}
    row |= {f"psfdepth_{b}": float(v) for b, v in zip(BANDS, scene.psf_ivar, strict=True)}
    own = 2 if scene.host["host_type"] == "late" else 1
    row |= scene.host
    row["n_neighbours"] = sum(_is_inside(galaxy) for galaxy in scene.galaxies[own:])
    row["n_stars"] = sum(_is_inside(star) for star in scene.stars)
    return row | truth


def _is_inside(object_: Galaxy | Star) -> bool:
    return bool(max(abs(object_.x), abs(object_.y)) < _IN_STAMP_ARCSEC)
