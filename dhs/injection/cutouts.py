"""Injection of arcs of a chosen size and brightness into cutouts from files."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dhs.arguments import MOST_ID, integer, real_array
from dhs.constants import BANDS
from dhs.injection.engine import inject
from dhs.injection.params import LensParams, SourceParams
from dhs.injection.priors import sample_lens_params, sample_source_params
from dhs.injection.psf import PSF, SIDE
from dhs.injection.psf_models import psf_profile
from dhs.injection.rendering import render
from dhs.injection.streams import Purpose, generator
from fastnorm.io import Cutout

# A larger Einstein radius does not fit into 101 pixels, and no such galaxy lens is known.
MOST_THETA_E_ARCSEC = 10.0
R_MAG_RANGE = (10.0, 30.0)
MOST_PSF_FWHM_ARCSEC = 5.0
FEWEST_PIXELS_PER_SIDE = SIDE // 2 + 1


@dataclass(frozen=True, eq=False)
class InjectedCutout:
    """A host, its arc, and the sum of both.

    Attributes
    ----------
    cutout : Cutout
        The host as read from its file.
    arc : (3, H, W) float32
        The arc alone, convolved with the PSF, without noise, nanomaggies.
    stamp : (3, H, W) float32
        Host plus arc, nanomaggies.
    row : dict
        One row of the table of `dhs.injection.inject`.
    """

    cutout: Cutout
    arc: NDArray[np.float32]
    stamp: NDArray[np.float32]
    row: dict[str, Any]


class CutoutInjector:
    """Injects arcs with one Einstein radius and one magnitude, and draws the rest from the priors.

    The draws for a host depend only on the seed and the host's id. The axis ratio of the host is
    unknown, so the axis ratio of the mass does not depend on it (Model 1).

    Parameters
    ----------
    theta_e_arcsec : float
        Einstein radius, in (0, 10] arcsec.
    r_mag : float
        AB magnitude of the unlensed source in r, in [10, 30].
    psf_fwhm_arcsec : float
        FWHM of the PSF in r, in (0, 5] arcsec. The FWHM in g and z follow from it.
    seed : int
        Random seed, in [0, 2**63 - 1].
    backend : str, optional
        See `dhs.injection.render`.

    Raises
    ------
    TypeError, ValueError
        An argument is out of its range, or the backend is not known.
    BackendUnavailableError
        The backend cannot run here.
    """

    def __init__(
        self,
        theta_e_arcsec: float,
        r_mag: float,
        psf_fwhm_arcsec: float = 1.3,
        seed: int = 1,
        backend: str | None = None,
    ) -> None:
        name = "theta_e"
        real_array(name, theta_e_arcsec, 0.0, MOST_THETA_E_ARCSEC, low_is_allowed=False, ndim=0)
        real_array("r_mag", r_mag, *R_MAG_RANGE, ndim=0)
        name = "psf_fwhm"
        real_array(name, psf_fwhm_arcsec, 0.0, MOST_PSF_FWHM_ARCSEC, low_is_allowed=False, ndim=0)
        self.theta_e_arcsec, self.r_mag = float(theta_e_arcsec), float(r_mag)
        self.psf = PSF.of_profile(psf_profile(), psf_fwhm_arcsec)
        self.seed = integer("seed", seed, 0, MOST_ID)
        self.backend = backend
        # An unavailable backend fails here, before any file is read.
        render(None, SourceParams(0.0, 0.0, 1.0, 1.0), (1, 1), backend=backend)

    def inject(self, cutout: Cutout) -> InjectedCutout:
        """Inject one arc into a cutout.

        Raises
        ------
        ValueError
            A pixel of the host is not finite, or the host has fewer than 32 pixels on a side.
        """
        height, width = cutout.pixels.shape[1:]
        if min(height, width) < FEWEST_PIXELS_PER_SIDE:
            raise ValueError(
                f"has {height} x {width} pixels; it must have at least {FEWEST_PIXELS_PER_SIDE} "
                "per side, so that the PSF and an annulus of sky fit."
            )
        bad = ~np.isfinite(cutout.pixels)
        if bad.any():
            band, row, column = (int(i) for i in np.argwhere(bad)[0])
            raise ValueError(
                f"{int(bad.sum())} of its pixels are NaN or infinite, the first in band "
                f"{BANDS[band]} at row {row}, column {column}; fill them or exclude the cutout."
            )
        number = _number_of(cutout.id)
        lens, source = self._draw(number)
        result = inject(
            cutout.pixels[None],
            lens,
            source,
            self.psf,
            seed=self.seed,
            ids=[number],
            backend=self.backend,
        )
        return InjectedCutout(
            cutout, result.arc[0], result.stamps[0], result.table.iloc[0].to_dict()
        )

    def _draw(self, number: int) -> tuple[LensParams, SourceParams]:
        rng = generator(self.seed, number, Purpose.PARAMETERS)
        lens = sample_lens_params(rng, self.theta_e_arcsec)
        mags = (self.r_mag, self.r_mag)
        return lens, sample_source_params(rng, self.theta_e_arcsec, r_mag_range=mags)


def summary(injected: InjectedCutout) -> dict[str, Any]:
    """Return the main numbers of an injection for JSON, with None where one is not finite."""
    ratios = [f"{name}_{band}" for name in ("arc_snr", "arc_snr_matched") for band in BANDS]
    names = ["theta_e_arcsec", "magnification", *ratios]
    numbers = {name: float(injected.row[name]) for name in names}
    return {name: value if math.isfinite(value) else None for name, value in numbers.items()}


def _number_of(name: str) -> int:
    """Hash a name to an id, so that a host's arc does not depend on the other hosts."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") >> 1
