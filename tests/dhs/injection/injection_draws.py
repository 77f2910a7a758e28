"""Helpers of the injection tests: draws from the priors, and the same lenses in lenstronomy."""

from __future__ import annotations

from typing import Any

import numpy as np
from lenstronomy.LensModel.lens_model import LensModel
from lenstronomy.Util.param_util import phi_q2_ellipticity

from dhs.injection import LensParams, SourceParams, sample_lens_params, sample_source_params


def draws(
    count: int, seed: int, *, theta_e: tuple[float, float] = (0.5, 3.0), **source_options: Any
) -> tuple[LensParams, SourceParams]:
    """Draw lenses and sources from the priors, with uniform Einstein radii."""
    rng = np.random.default_rng(seed)
    radii = rng.uniform(*theta_e, count)
    return sample_lens_params(rng, radii), sample_source_params(rng, radii, **source_options)


def lenstronomy_lens(lens: LensParams, profile: str, i: int) -> tuple[Any, list[dict[str, float]]]:
    """Return lenstronomy's model and keywords of one lens: this profile plus a shear."""
    e1, e2 = phi_q2_ellipticity(lens.phi_lens_rad[i], lens.q_lens[i])
    ellipsoid = {
        "theta_E": lens.theta_e_arcsec[i],
        "e1": e1,
        "e2": e2,
        "center_x": lens.x0_arcsec[i],
        "center_y": lens.y0_arcsec[i],
    }
    if profile == "EPL":
        ellipsoid["gamma"] = 2.0
    shear = {"gamma1": lens.shear_g1[i], "gamma2": lens.shear_g2[i], "ra_0": 0.0, "dec_0": 0.0}
    return LensModel([profile, "SHEAR"]), [ellipsoid, shear]
