"""Priors of the injections, read from ``configs/injection_priors.yaml``, and draws from them.

Conventions as in `dhs.injection`.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Annotated

import numpy as np
import yaml
from numpy.typing import ArrayLike, NDArray
from pydantic import AfterValidator, Field

from dhs.arguments import broadcast, integer, real_array
from dhs.config.section import Section
from dhs.constants import AB_ZEROPOINT_MAG
from dhs.injection.params import MOST_ARCSEC, MOST_CLUMPS, LensParams, SourceParams


def _is_ordered(ends: tuple[float, float]) -> tuple[float, float]:
    if not ends[0] <= ends[1]:
        raise ValueError(f"{ends} is not a valid range: the first value must be at most the second")
    return ends


Range = Annotated[tuple[float, float], AfterValidator(_is_ordered)]
IntegerRange = Annotated[tuple[int, int], AfterValidator(_is_ordered)]


class SourcePriors(Section):
    """Section ``source_params``, whose values the file explains."""

    r_mag_range: Range
    beta_frac_range: Range
    re_arcsec_range: Range
    n_range: Range
    q_range: Range
    g_minus_r_mu_sigma: tuple[float, float]
    r_minus_z_mu_sigma: tuple[float, float]
    clumps_prob: Annotated[float, Field(ge=0, le=1)]
    clumps_n_range: IntegerRange
    clumps_frac_range: Range


class LensPriors(Section):
    """Section ``lens_params``."""

    shear_sigma: Annotated[float, Field(ge=0)]
    center_sigma_arcsec: Annotated[float, Field(ge=0)]
    q_lens_range: Range


class Model2Conditioning(Section):
    """Section ``model2_conditioning``."""

    q_scatter: Annotated[float, Field(ge=0)]
    q_floor: Annotated[float, Field(gt=0, le=1)]


class Preprocessing(Section):
    """Section ``preprocessing``."""

    annulus_r_in: float
    annulus_r_out: float
    corrected_annulus_r_in: float
    corrected_annulus_r_out: float
    clip_range: Annotated[float, Field(gt=0)]


class InjectionPriors(Section):
    """All sections of ``configs/injection_priors.yaml``."""

    source_params: SourcePriors
    lens_params: LensPriors
    model2_conditioning: Model2Conditioning
    preprocessing: Preprocessing


@cache
def injection_priors() -> InjectionPriors:
    """Read the priors from ``configs/injection_priors.yaml``.

    Raises
    ------
    pydantic.ValidationError
        The file has an unknown key, lacks a key, or has a value that is not allowed.
    """
    text = resources.files("dhs.configs").joinpath("injection_priors.yaml").read_text("utf-8")
    return InjectionPriors.model_validate(yaml.safe_load(text))


_SOURCE = injection_priors().source_params
_LENS = injection_priors().lens_params
_MODEL2 = injection_priors().model2_conditioning


def sample_source_params(
    rng: np.random.Generator,
    theta_e_arcsec: ArrayLike,
    *,
    r_mag_range: tuple[float, float] = _SOURCE.r_mag_range,
    beta_frac_range: tuple[float, float] = _SOURCE.beta_frac_range,
    re_arcsec_range: tuple[float, float] = _SOURCE.re_arcsec_range,
    n_range: tuple[float, float] = _SOURCE.n_range,
    q_range: tuple[float, float] = _SOURCE.q_range,
    g_minus_r_mu_sigma: tuple[float, float] = _SOURCE.g_minus_r_mu_sigma,
    r_minus_z_mu_sigma: tuple[float, float] = _SOURCE.r_minus_z_mu_sigma,
    clumps_prob: float = _SOURCE.clumps_prob,
    clumps_n_range: tuple[int, int] = _SOURCE.clumps_n_range,
    clumps_frac_range: tuple[float, float] = _SOURCE.clumps_frac_range,
) -> SourceParams:
    """Draw sources behind lenses with given Einstein radii.

    Every default comes from ``configs/injection_priors.yaml``. One quantity after the other is
    drawn for all lenses, in the order of the arguments. The angle of a position follows its
    distance, and the position angle follows the axis ratio.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of the random numbers.
    theta_e_arcsec : float or (B,) array_like
        Einstein radii, above 0, arcsec.
    r_mag_range : (float, float)
        AB magnitude of the unlensed source in r.
    beta_frac_range : (float, float)
        Distance from the centre of the stamp in Einstein radii, uniform in area.
    re_arcsec_range : (float, float)
        Half-light radius along the major axis, arcsec.
    n_range, q_range : (float, float)
        Sersic index and axis ratio.
    g_minus_r_mu_sigma, r_minus_z_mu_sigma : (float, float)
        Mean and standard deviation of the colours, AB magnitudes.
    clumps_prob : float
        Probability that a source has clumps, in [0, 1].
    clumps_n_range : (int, int)
        Number of clumps of a source with clumps, both ends included.
    clumps_frac_range : (float, float)
        Fraction of the flux in the clumps.

    Returns
    -------
    SourceParams

    Raises
    ------
    TypeError, ValueError
        An Einstein radius is not above 0, a range is invalid, or a range leads to values that
        `SourceParams` rejects.
    """
    _check_generator(rng)
    theta_e = _radii(theta_e_arcsec)
    count = theta_e.size
    ranges = {
        "r_mag_range": r_mag_range,
        "beta_frac_range": beta_frac_range,
        "re_arcsec_range": re_arcsec_range,
        "n_range": n_range,
        "q_range": q_range,
        "clumps_n_range": clumps_n_range,
        "clumps_frac_range": clumps_frac_range,
    }
    for name, ends in ranges.items():
        _check_range(name, ends)
    for name, pair in (
        ("g_minus_r_mu_sigma", g_minus_r_mu_sigma),
        ("r_minus_z_mu_sigma", r_minus_z_mu_sigma),
    ):
        if real_array(name, pair).shape != (2,):
            raise ValueError(f"{name}={pair!r} is not allowed: give (mean, standard deviation).")
        real_array(f"{name}[1]", pair[1], low=0.0)
    real_array("clumps_prob", clumps_prob, 0.0, 1.0)
    real_array("beta_frac_range", beta_frac_range, low=0.0)
    for i, end in enumerate(clumps_n_range):
        integer(f"clumps_n_range[{i}]", end, 1, MOST_CLUMPS)

    r_mag = rng.uniform(*r_mag_range, count)
    low, high = beta_frac_range
    distance = theta_e * np.sqrt(rng.uniform(low**2, high**2, count))
    angle = rng.uniform(0, 2 * np.pi, count)
    re = rng.uniform(*re_arcsec_range, count)
    n = rng.uniform(*n_range, count)
    q = rng.uniform(*q_range, count)
    phi = rng.uniform(0, np.pi, count)
    g_minus_r = rng.normal(*g_minus_r_mu_sigma, count)
    r_minus_z = rng.normal(*r_minus_z_mu_sigma, count)
    has_clumps = rng.random(count) < clumps_prob
    number = rng.integers(clumps_n_range[0], clumps_n_range[1], count, endpoint=True)
    share = rng.uniform(*clumps_frac_range, count)
    return SourceParams(
        beta_x_arcsec=distance * np.cos(angle),
        beta_y_arcsec=distance * np.sin(angle),
        re_arcsec=re,
        n_sersic=n,
        q=q,
        phi_rad=phi,
        flux_nmgy_g=flux_of_magnitude(r_mag + g_minus_r),
        flux_nmgy_r=flux_of_magnitude(r_mag),
        flux_nmgy_z=flux_of_magnitude(r_mag - r_minus_z),
        n_clumps=np.where(has_clumps, number, 0).astype(np.float64),
        clump_frac=np.where(has_clumps, share, 0.0),
    )


def sample_lens_params(
    rng: np.random.Generator,
    theta_e_arcsec: ArrayLike,
    *,
    shear_sigma: float = _LENS.shear_sigma,
    center_sigma_arcsec: float = _LENS.center_sigma_arcsec,
    q_lens_range: tuple[float, float] = _LENS.q_lens_range,
    q_host: ArrayLike | None = None,
    phi_host_rad: ArrayLike | None = None,
    q_scatter: float = _MODEL2.q_scatter,
    q_floor: float = _MODEL2.q_floor,
) -> LensParams:
    """Draw lenses with given Einstein radii.

    Every default comes from ``configs/injection_priors.yaml``. One quantity after the other is
    drawn for all lenses: shear (g1, g2), centre (x, y), axis ratio, angle.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of the random numbers.
    theta_e_arcsec : float or (B,) array_like
        Einstein radii, above 0, arcsec.
    shear_sigma : float
        Standard deviation of each component of the shear, at least 0.
    center_sigma_arcsec : float
        Standard deviation of each coordinate of the centre, arcsec, at least 0.
    q_lens_range : (float, float)
        Range of the axis ratio of the mass, uniform, if ``q_host`` is not given (Model 1).
    q_host : float or (B,) array_like, optional
        Axis ratio of the host's light (Model 2):
        ``q_lens = clip(q_host + N(0, q_scatter), q_floor, 1)``.
    phi_host_rad : float or (B,) array_like, optional
        Position angle of the mass, radians. Uniform by default.
    q_scatter, q_floor : float
        Scatter and lower limit of the axis ratio in Model 2.

    Returns
    -------
    LensParams

    Raises
    ------
    TypeError, ValueError
        A value is out of its range, or lengths do not broadcast.
    """
    _check_generator(rng)
    theta_e = _radii(theta_e_arcsec)
    count = theta_e.size
    for name, value in (
        ("shear_sigma", shear_sigma),
        ("center_sigma_arcsec", center_sigma_arcsec),
        ("q_scatter", q_scatter),
    ):
        real_array(name, value, low=0.0)
    real_array("q_floor", q_floor, 0.0, 1.0, low_is_allowed=False)
    _check_range("q_lens_range", q_lens_range)

    g1, g2 = rng.normal(0, shear_sigma, (2, count))
    x0, y0 = rng.normal(0, center_sigma_arcsec, (2, count))
    if q_host is None:
        q_lens: NDArray[np.float64] = rng.uniform(*q_lens_range, count)
    else:
        light = real_array("q_host", q_host, 0.0, 1.0, low_is_allowed=False)
        light = broadcast("q_host", light, count)
        q_lens = np.clip(light + rng.normal(0, q_scatter, count), q_floor, 1.0)
    phi = rng.uniform(0, np.pi, count)
    if phi_host_rad is not None:
        phi = broadcast("phi_host_rad", real_array("phi_host_rad", phi_host_rad), count)
    return LensParams(
        theta_e_arcsec=theta_e,
        shear_g1=g1,
        shear_g2=g2,
        x0_arcsec=x0,
        y0_arcsec=y0,
        q_lens=q_lens,
        phi_lens_rad=phi,
    )


def flux_of_magnitude(magnitude: ArrayLike) -> NDArray[np.float64]:
    """Convert AB magnitudes to fluxes in nanomaggies: ``10^((22.5 - m) / 2.5)``."""
    exponent = (AB_ZEROPOINT_MAG - np.asarray(magnitude, np.float64)) / 2.5
    flux: NDArray[np.float64] = np.power(10.0, exponent)
    return flux


def _radii(theta_e_arcsec: ArrayLike) -> NDArray[np.float64]:
    name = "theta_e_arcsec"
    radii = real_array(name, theta_e_arcsec, 0.0, MOST_ARCSEC, low_is_allowed=False)
    if radii.ndim > 1:
        raise ValueError(f"{name} has shape {radii.shape}; expected a number or shape (B,).")
    return np.atleast_1d(radii)


def _check_generator(rng: object) -> None:
    if not isinstance(rng, np.random.Generator):
        raise TypeError(
            f"rng is of type {type(rng).__name__}; give a numpy.random.Generator, for example "
            "numpy.random.default_rng(seed)."
        )


def _check_range(name: str, ends: tuple[float, float]) -> None:
    values = real_array(name, ends)
    if values.shape != (2,) or values[0] > values[1]:
        raise ValueError(
            f"{name}={ends!r} is not a valid range: give (low, high) with low <= high."
        )
