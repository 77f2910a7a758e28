"""Settings of a simulated survey, read from ``configs/simulated_survey.yaml`` and checked.

The file explains every value.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, model_validator

from dhs.config.file import read_config_file
from dhs.config.section import Section
from dhs.injection.params import MOST_CLUMPS, SERSIC_INDEX_RANGE
from dhs.injection.priors import injection_priors

SURVEY_CONFIG_FILE = "simulated_survey.yaml"


def _is_ordered(ends: tuple[float, float]) -> tuple[float, float]:
    if not ends[0] <= ends[1]:
        raise ValueError(f"{ends} is not a valid range: the first value must be at most the second")
    return ends


_Ordered = AfterValidator(_is_ordered)
_Sersic = Annotated[float, Field(ge=SERSIC_INDEX_RANGE[0], le=SERSIC_INDEX_RANGE[1])]

Share = Annotated[float, Field(ge=0, le=1)]
AxisRatio = Annotated[float, Field(gt=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Pitch = Annotated[float, Field(gt=0, lt=90)]

Range = Annotated[tuple[float, float], _Ordered]
ShareRange = Annotated[tuple[Share, Share], _Ordered]
AxisRatioRange = Annotated[tuple[AxisRatio, AxisRatio], _Ordered]
PositiveRange = Annotated[tuple[Positive, Positive], _Ordered]
PitchRange = Annotated[tuple[Pitch, Pitch], _Ordered]
SersicRange = Annotated[tuple[_Sersic, _Sersic], _Ordered]
Number = Annotated[int, Field(ge=0, le=MOST_CLUMPS)]
NumberRange = Annotated[tuple[Number, Number], _Ordered]


class Bell(Section):
    """A Gaussian truncated at both ends."""

    mean: float
    sigma: Positive
    low: float
    high: float

    @model_validator(mode="after")
    def _ends_hold_the_mean(self) -> Self:
        if not self.low <= self.mean <= self.high:
            raise ValueError(
                f"mean={self.mean:g} must be between low={self.low:g} and high={self.high:g}"
            )
        return self


class Trend(Section):
    """A Gaussian around a mean that is linear in the r magnitude."""

    at_r_mag: float
    value: float
    per_mag: float
    sigma: NotNegative


class Observation(Section):
    """Section ``observation``."""

    psf_fwhm_r_arcsec: Bell
    psf_fwhm_g_of_r: Positive
    psf_fwhm_z_of_r: Positive
    psf_fwhm_scatter: Annotated[float, Field(ge=0, le=0.2)]
    moffat_beta: Annotated[float, Field(gt=1, le=100)]
    depth_5sigma_mag_g: Bell
    depth_5sigma_mag_r: Bell
    depth_5sigma_mag_z: Bell
    sky_mag_per_arcsec2_g: float
    sky_mag_per_arcsec2_r: float
    sky_mag_per_arcsec2_z: float


class Hosts(Section):
    """Section ``hosts``."""

    r_mag_range: Range
    log10_counts_per_mag: Positive
    late_fraction: Share
    center_sigma_arcsec: NotNegative


class Early(Section):
    """Section ``early``."""

    g_minus_r: Trend
    r_minus_z: Trend
    log10_re_arcsec: Trend
    n_sersic: Bell
    q: Bell


class Late(Section):
    """Section ``late``."""

    g_minus_r: Trend
    r_minus_z: Trend
    log10_re_arcsec: Trend
    thickness: AxisRatio
    bulge_fraction_range: ShareRange
    bulge_re_of_disc_range: PositiveRange
    bulge_n_range: SersicRange
    bulge_redder_mag: tuple[float, float]
    arm_contrast_range: ShareRange
    arm_pitch_deg_range: PitchRange
    knots_n_range: NumberRange
    knots_fraction_range: ShareRange


class Neighbours(Section):
    """Section ``neighbours``."""

    per_arcmin2: NotNegative
    r_mag_range: Range
    log10_counts_per_mag: Positive
    g_minus_r: Bell
    r_minus_z_of_g_minus_r: float
    r_minus_z_sigma: NotNegative
    log10_re_arcsec: Trend
    n_range: SersicRange
    q_range: AxisRatioRange
    companions_prob: Share
    companions_n_range: NumberRange
    companions_fainter_mag_range: Range
    companions_spread_arcsec: NotNegative
    companions_colour_sigma: NotNegative


class Stars(Section):
    """Section ``stars``."""

    per_arcmin2: NotNegative
    r_mag_range: Range
    log10_counts_per_mag: Positive
    g_minus_r_range: Range
    r_minus_z_of_g_minus_r: float
    r_minus_z_sigma: NotNegative


class Bright(Section):
    """Section ``lenses.bright``."""

    theta_e_arcsec_range: PositiveRange
    r_mag_range: Range


class Limit(Section):
    """Section ``lenses.limit``."""

    theta_e_arcsec_range: PositiveRange
    arc_snr_r_range: PositiveRange


class Lenses(Section):
    """Section ``lenses``."""

    bright_fraction: Share
    bright: Bright
    limit: Limit
    g_minus_r_mu_sigma: tuple[float, NotNegative]
    r_minus_z_mu_sigma: tuple[float, NotNegative]
    clumps_prob: Share


class SurveyConfig(Section):
    """All sections of ``configs/simulated_survey.yaml``."""

    observation: Observation
    hosts: Hosts
    early: Early
    late: Late
    neighbours: Neighbours
    stars: Stars
    lenses: Lenses

    def resolved(self) -> dict[str, Any]:
        """Return all settings of the sky for JSON: this file and the priors of the arcs."""
        priors = injection_priors()
        used = {"source_params", "lens_params", "model2_conditioning"}
        return {
            "survey": self.model_dump(mode="json"),
            "injection_priors": priors.model_dump(mode="json", include=used),
        }

    def sha256(self) -> str:
        """Return the SHA-256 of `resolved` as canonical JSON, in hexadecimal."""
        text = json.dumps(self.resolved(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


@cache
def survey_config() -> SurveyConfig:
    """Read the default settings from ``configs/simulated_survey.yaml``.

    Raises
    ------
    ValueError
        The file has an unknown key, lacks a key, or has a value that is not allowed. The
        message names each.
    """
    with resources.as_file(resources.files("dhs.configs").joinpath(SURVEY_CONFIG_FILE)) as path:
        return read_survey_config(path)


def read_survey_config(path: str | Path) -> SurveyConfig:
    """Read the settings of a survey from a file with all keys of the default file.

    ``configs/simulated_survey.yaml`` lists every key with its meaning.

    Raises
    ------
    OSError
        The file cannot be read.
    ValueError
        Same as in `dhs.config.file.read_config_file`.
    """
    return read_config_file(path, SurveyConfig)
