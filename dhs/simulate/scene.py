"""The objects of one simulated cutout and its observing conditions, as numbers without pixels.

Everything is drawn from the random streams of the seed and the number of the cutout, the host
first. The host, its surroundings and the observation do not depend on whether there is an arc.
Conventions as in `dhs.injection`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from dhs.constants import BANDS, CUTOUT_SIZE, PIXEL_SCALE
from dhs.injection.params import LEAST_HALF_LIGHT_ARCSEC, LensParams, SourceParams
from dhs.injection.priors import flux_of_magnitude, sample_lens_params, sample_source_params
from dhs.injection.streams import Purpose, generator
from dhs.simulate.config import Bell, Limit, SurveyConfig, Trend

MARGIN = 16
"""Extra pixels rendered beyond each edge of a cutout, because the PSF spreads light inwards."""

PADDED_SIZE = CUTOUT_SIZE + 2 * MARGIN
_HALF_SIDE = PADDED_SIZE / 2 * PIXEL_SCALE
_ARCMIN2 = (2 * _HALF_SIDE / 60) ** 2
NO_TIER, BRIGHT, LIMIT = "", "bright", "limit"


class Galaxy(NamedTuple):
    """One Sersic profile, with position, half-light radius and angles as in `SourceParams`.

    ``flux``: g, r, z, nanomaggies. ``arm_contrast``: 0 for no spiral arms. ``arm_pitch`` and
    ``arm_phase``: radians.
    """

    x: float
    y: float
    re: float
    n: float
    q: float
    phi: float
    flux: tuple[float, float, float]
    n_clumps: int = 0
    clump_frac: float = 0.0
    arm_contrast: float = 0.0
    arm_pitch: float = 1.0
    arm_phase: float = 0.0


class Star(NamedTuple):
    """A point source: ``x``, ``y`` in arcsec from the centre, ``flux`` (g, r, z) in nanomaggies."""

    x: float
    y: float
    flux: tuple[float, float, float]


@dataclass(frozen=True)
class Scene:
    """The parameters of one cutout, before it is rendered.

    Attributes
    ----------
    number : int
        Number of the cutout in the survey.
    galaxies : list of Galaxy
        The one or two profiles of the host, then its neighbours.
    stars : list of Star
    fwhm : (3,) float64
        FWHM of the PSF in g, r, z, arcsec.
    psf_ivar : (3,) float64
        Inverse variance of the flux of a point source, nanomaggies^-2.
    host : dict
        Parameters of the host, by column of the manifest.
    tier : str
        ``""`` for no arc, ``"bright"`` or ``"limit"``.
    lens : LensParams or None
        Lens of the arc.
    source : SourceParams or None
        Source of the arc.
    arc_snr_r : float or None
        Signal-to-noise ratio in r that the arc is scaled to, if the tier needs this.
    """

    number: int
    galaxies: list[Galaxy]
    stars: list[Star]
    fwhm: NDArray[np.float64]
    psf_ivar: NDArray[np.float64]
    host: dict[str, Any]
    tier: str
    lens: LensParams | None
    source: SourceParams | None
    arc_snr_r: float | None


def draw_scene(config: SurveyConfig, seed: int, number: int, lens_fraction: float) -> Scene:
    """Draw the parameters of one cutout.

    Parameters
    ----------
    config : SurveyConfig
        Settings of the sky.
    seed : int
        Random seed of the survey, in [0, 2**63 - 1].
    number : int
        Number of the cutout, in [0, 2**63 - 1].
    lens_fraction : float
        Probability of an arc, in [0, 1].

    Returns
    -------
    Scene
    """
    rng = generator(seed, number, Purpose.HOST)
    host, columns = _draw_host(config, rng)
    rng = generator(seed, number, Purpose.SURROUNDINGS)
    galaxies, stars = _draw_surroundings(config, rng, columns)
    fwhm, psf_ivar = _draw_observation(config, generator(seed, number, Purpose.OBSERVATION))
    tier = NO_TIER
    label, kind = generator(seed, number, Purpose.LABEL).random(2)
    if label < lens_fraction:
        tier = BRIGHT if kind < config.lenses.bright_fraction else LIMIT
    lens, source, arc_snr_r = _draw_arc(
        config, generator(seed, number, Purpose.PARAMETERS), tier, columns
    )
    return Scene(
        number=number,
        galaxies=host + galaxies,
        stars=stars,
        fwhm=fwhm,
        psf_ivar=psf_ivar,
        host=columns,
        tier=tier,
        lens=lens,
        source=source,
        arc_snr_r=arc_snr_r,
    )


def _draw_host(
    config: SurveyConfig, rng: np.random.Generator
) -> tuple[list[Galaxy], dict[str, Any]]:
    hosts = config.hosts
    r_mag = float(_magnitudes(rng, hosts.r_mag_range, hosts.log10_counts_per_mag, 1)[0])
    is_late = bool(rng.random() < hosts.late_fraction)
    kind = config.late if is_late else config.early
    x, y = (float(offset) for offset in rng.normal(0, hosts.center_sigma_arcsec, 2))
    phi = float(rng.uniform(0, math.pi))
    g_minus_r = _on_trend(rng, kind.g_minus_r, r_mag)
    r_minus_z = _on_trend(rng, kind.r_minus_z, r_mag)
    re = _half_light_radius(rng, kind.log10_re_arcsec, r_mag)
    if is_late:
        profiles = _draw_spiral(config, rng, r_mag, g_minus_r, r_minus_z, (x, y, re, phi))
    else:
        n, q = _cut(rng, config.early.n_sersic), _cut(rng, config.early.q)
        flux = _fluxes(r_mag, g_minus_r, r_minus_z)
        profiles = [Galaxy(x, y, re, n, q, phi, flux)]
    main = profiles[0]
    g, r, z = (sum(profile.flux[band] for profile in profiles) for band in range(3))
    columns = {
        "host_type": "late" if is_late else "early",
        "host_r_mag": r_mag,
        "host_g_minus_r": 2.5 * math.log10(r / g),
        "host_r_minus_z": 2.5 * math.log10(z / r),
        "host_re_arcsec": re,
        "host_n_sersic": main.n,
        "host_q": main.q,
        "host_phi_rad": phi,
        "host_x_arcsec": x,
        "host_y_arcsec": y,
        "host_bulge_fraction": profiles[1].flux[1] / r if is_late else 0.0,
        "host_arm_contrast": main.arm_contrast,
    }
    return profiles, columns


def _draw_spiral(
    config: SurveyConfig,
    rng: np.random.Generator,
    r_mag: float,
    g_minus_r: float,
    r_minus_z: float,
    place: tuple[float, float, float, float],
) -> list[Galaxy]:
    """Draw disc and bulge; ``place`` is x, y, half-light radius of the disc, position angle."""
    late = config.late
    x, y, re, phi = place
    # A thick disc with a random inclination (Hubble 1926).
    cosine, thin = rng.random(), late.thickness**2
    q = math.sqrt(cosine**2 * (1 - thin) + thin)
    share = rng.uniform(*late.bulge_fraction_range)
    bulge_re = max(re * rng.uniform(*late.bulge_re_of_disc_range), LEAST_HALF_LIGHT_ARCSEC)
    bulge_n = rng.uniform(*late.bulge_n_range)
    contrast = rng.uniform(*late.arm_contrast_range)
    pitch = math.radians(rng.uniform(*late.arm_pitch_deg_range)) * rng.choice((-1, 1))
    phase = rng.uniform(0, 2 * math.pi)
    knots = int(rng.integers(*late.knots_n_range, endpoint=True))
    in_knots = rng.uniform(*late.knots_fraction_range) if knots else 0.0
    disc_mag = r_mag - 2.5 * math.log10(max(1 - share, 1e-9))
    bulge_mag = r_mag - 2.5 * math.log10(max(share, 1e-9))
    redder = late.bulge_redder_mag
    disc_flux = _fluxes(disc_mag, g_minus_r, r_minus_z)
    bulge_flux = _fluxes(bulge_mag, g_minus_r + redder[0], r_minus_z + redder[1])
    disc = Galaxy(
        x, y, re, 1.0, q, phi, disc_flux, knots, in_knots, float(contrast), float(pitch), phase
    )
    return [disc, Galaxy(x, y, bulge_re, bulge_n, max(q, 0.6), phi, bulge_flux)]


def _draw_surroundings(
    config: SurveyConfig, rng: np.random.Generator, host: dict[str, Any]
) -> tuple[list[Galaxy], list[Star]]:
    field = config.neighbours
    count = int(rng.poisson(field.per_arcmin2 * _ARCMIN2))
    mags = _magnitudes(rng, field.r_mag_range, field.log10_counts_per_mag, count)
    places = rng.uniform(-_HALF_SIDE, _HALF_SIDE, (count, 2))
    galaxies = []
    for r_mag, (x, y) in zip(mags, places, strict=True):
        g_minus_r = _cut(rng, field.g_minus_r)
        r_minus_z = rng.normal(field.r_minus_z_of_g_minus_r * g_minus_r, field.r_minus_z_sigma)
        re = _half_light_radius(rng, field.log10_re_arcsec, r_mag)
        n, q = rng.uniform(*field.n_range), rng.uniform(*field.q_range)
        flux = _fluxes(r_mag, g_minus_r, r_minus_z)
        galaxies.append(Galaxy(x, y, re, n, q, rng.uniform(0, math.pi), flux))

    has_companions = rng.random() < field.companions_prob
    count = int(rng.integers(*field.companions_n_range, endpoint=True)) if has_companions else 0
    spread = field.companions_spread_arcsec
    for _ in range(count):
        x, y = rng.normal(0, spread, 2)
        r_mag = host["host_r_mag"] + rng.uniform(*field.companions_fainter_mag_range)
        reddening = rng.normal(0, field.companions_colour_sigma, 2)
        early = config.early
        g_minus_r = _on_trend(rng, early.g_minus_r, host["host_r_mag"]) + reddening[0]
        r_minus_z = _on_trend(rng, early.r_minus_z, host["host_r_mag"]) + reddening[1]
        re = _half_light_radius(rng, early.log10_re_arcsec, r_mag)
        n, q = _cut(rng, early.n_sersic), _cut(rng, early.q)
        flux = _fluxes(r_mag, g_minus_r, r_minus_z)
        galaxies.append(Galaxy(x, y, re, n, q, rng.uniform(0, math.pi), flux))

    points = config.stars
    count = int(rng.poisson(points.per_arcmin2 * _ARCMIN2))
    mags = _magnitudes(rng, points.r_mag_range, points.log10_counts_per_mag, count)
    stars = []
    for r_mag in mags:
        x, y = rng.uniform(-_HALF_SIDE, _HALF_SIDE, 2)
        g_minus_r = rng.uniform(*points.g_minus_r_range)
        r_minus_z = rng.normal(points.r_minus_z_of_g_minus_r * g_minus_r, points.r_minus_z_sigma)
        stars.append(Star(x, y, _fluxes(r_mag, g_minus_r, r_minus_z)))
    return galaxies, stars


def _draw_observation(
    config: SurveyConfig, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    seen = config.observation
    in_r = _cut(rng, seen.psf_fwhm_r_arcsec)
    scatter = seen.psf_fwhm_scatter
    in_g = in_r * rng.normal(seen.psf_fwhm_g_of_r, scatter)
    in_z = in_r * rng.normal(seen.psf_fwhm_z_of_r, scatter)
    depth = [_cut(rng, getattr(seen, f"depth_5sigma_mag_{band}")) for band in BANDS]
    return np.array([in_g, in_r, in_z]), (5 / flux_of_magnitude(depth)) ** 2


def _draw_arc(
    config: SurveyConfig, rng: np.random.Generator, tier: str, host: dict[str, Any]
) -> tuple[LensParams | None, SourceParams | None, float | None]:
    if tier == NO_TIER:
        return None, None, None
    lenses = config.lenses
    chosen = lenses.bright if tier == BRIGHT else lenses.limit
    theta_e = rng.uniform(*chosen.theta_e_arcsec_range)
    drawn = sample_lens_params(
        rng, theta_e, q_host=host["host_q"], phi_host_rad=host["host_phi_rad"]
    )
    # The centre of the mass also follows the light.
    centred = {"x0_arcsec": host["host_x_arcsec"], "y0_arcsec": host["host_y_arcsec"]}
    lens = LensParams(**(drawn.arrays() | centred))
    colours: dict[str, Any] = {
        "g_minus_r_mu_sigma": lenses.g_minus_r_mu_sigma,
        "r_minus_z_mu_sigma": lenses.r_minus_z_mu_sigma,
        "clumps_prob": lenses.clumps_prob,
    }
    if isinstance(chosen, Limit):
        return (
            lens,
            sample_source_params(rng, theta_e, **colours),
            float(rng.uniform(*chosen.arc_snr_r_range)),
        )
    source = sample_source_params(rng, theta_e, r_mag_range=chosen.r_mag_range, **colours)
    return lens, source, None


def _cut(rng: np.random.Generator, bell: Bell) -> float:
    """Draw from a Gaussian truncated at both ends, with one uniform random number."""
    low, high = ndtr((np.array([bell.low, bell.high]) - bell.mean) / bell.sigma)
    value = bell.mean + bell.sigma * float(ndtri(low + (high - low) * rng.random()))
    return min(max(value, bell.low), bell.high)


def _on_trend(rng: np.random.Generator, trend: Trend, r_mag: float) -> float:
    middle = trend.value + trend.per_mag * (r_mag - trend.at_r_mag)
    return float(rng.normal(middle, trend.sigma))


def _half_light_radius(rng: np.random.Generator, trend: Trend, r_mag: float) -> float:
    # A smaller galaxy is a point source in any seeing.
    return max(10 ** _on_trend(rng, trend, r_mag), LEAST_HALF_LIGHT_ARCSEC)


def _magnitudes(
    rng: np.random.Generator, ends: tuple[float, float], slope: float, count: int
) -> NDArray[np.float64]:
    """Draw magnitudes whose counts grow by ``slope`` dex per magnitude."""
    # Counting from the faint end avoids an overflow.
    weakest = 10 ** (slope * (ends[0] - ends[1]))
    result: NDArray[np.float64] = (
        ends[1] + np.log10(weakest + (1 - weakest) * rng.random(count)) / slope
    )
    return result


def _fluxes(r_mag: float, g_minus_r: float, r_minus_z: float) -> tuple[float, float, float]:
    g, r, z = flux_of_magnitude([r_mag + g_minus_r, r_mag, r_mag - r_minus_z])
    return float(g), float(r), float(z)
