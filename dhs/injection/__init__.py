"""Injection of lensed arcs into images of galaxies.

Every function and every field of this package follows these conventions:

- Angles on the sky are in arcsec. x = column, y = row; the origin is the centre of the stamp,
  ``((W - 1) / 2, (H - 1) / 2)`` in pixels.
- Position angles are measured anticlockwise from +x to the major axis, in radians.
- Einstein radii follow the product-average convention,
  ``kappa = theta_E / (2 sqrt(q x^2 + y^2 / q))``, as in lenstronomy and caustics.
- External shear deflects by ``(g1 x + g2 y, g2 x - g1 y)`` about the origin.
- The half-light radius of a Sersic profile is measured along the major axis, as in Tractor and
  GALFIT. ``b_n`` is solved exactly. (lenstronomy's ``R_sersic`` is this radius times sqrt(q).)
- Fluxes are total fluxes of the unlensed source, in nanomaggies, for each of g, r and z.
- Images are (B, 3, H, W) float32 with bands g, r, z, in nanomaggies per pixel.
"""

from __future__ import annotations

from dhs.injection.engine import Injected, arc_snr, inject
from dhs.injection.lens import (
    image_positions,
    magnification,
    shear_deflection,
    sie_deflection,
    source_position,
)
from dhs.injection.matched import arc_snr_matched
from dhs.injection.noise import Noise
from dhs.injection.params import LensParams, SourceParams
from dhs.injection.priors import injection_priors, sample_lens_params, sample_source_params
from dhs.injection.psf import PSF, PSFCentreWarning, PSFNormalisationWarning
from dhs.injection.rendering import backends, render
from dhs.injection.source import sersic_b, sersic_total_flux
from dhs.injection.stamps import GalaxyStamps

__all__ = [
    "PSF",
    "GalaxyStamps",
    "Injected",
    "LensParams",
    "Noise",
    "PSFCentreWarning",
    "PSFNormalisationWarning",
    "SourceParams",
    "arc_snr",
    "arc_snr_matched",
    "backends",
    "image_positions",
    "inject",
    "injection_priors",
    "magnification",
    "render",
    "sample_lens_params",
    "sample_source_params",
    "sersic_b",
    "sersic_total_flux",
    "shear_deflection",
    "sie_deflection",
    "source_position",
]
