"""Arcs of a chosen size and brightness in cutouts from files."""

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
from dhs.injection.rendering import render
from dhs.injection.streams import Purpose, generator
from fastnorm.io import Cutout

# Larger ones leave a cutout of 101 pixels, or are none that are known.
MOST_THETA_E_ARCSEC = 10.0
R_MAG_RANGE = (10.0, 30.0)
MOST_PSF_FWHM_ARCSEC = 5.0
FEWEST_PIXELS_PER_SIDE = SIDE // 2 + 1


@dataclass(frozen=True, eq=False)
class InjectedCutout:
    """A host, its arc, and both.

    Attributes
    ----------
    cutout : Cutout
        The host as it was read.
    arc : (3, H, W) float32
        Seen through the PSF, without noise; nanomaggies.
    stamp : (3, H, W) float32
        Host and arc.
    row : dict
        The columns of the table of `dhs.injection.inject`.
    """

    cutout: Cutout
    arc: NDArray[np.float32]
    stamp: NDArray[np.float32]
    row: dict[str, Any]


class CutoutInjector:
    """Injects arcs of one Einstein radius and one magnitude; all else is drawn from the priors.

    What is drawn for a host depends on the seed and the host's id alone. Its axis ratio is not
    known, so that the mass is drawn without it (Model 1).

    Parameters
    ----------
    theta_e_arcsec : float
        In (0, 10].
    r_mag : float
        AB magnitude of the unlensed source in r, in [10, 30].
    psf_fwhm_arcsec : float
        Of a Moffat PSF in r, in (0, 5]; those in g and z follow from it.
    seed : int
        In [0, 2**63 - 1].
    backend : str, optional
        As of `dhs.injection.render`.

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
        self.psf = PSF.moffat(psf_fwhm_arcsec)
        self.seed = integer("seed", seed, 0, MOST_ID)
        self.backend = backend
        # A backend that cannot be had is refused before any file is read.
        render(None, SourceParams(0.0, 0.0, 1.0, 1.0), (1, 1), backend=backend)

    def inject(self, cutout: Cutout) -> InjectedCutout:
        """Inject one arc.

        Raises
        ------
        ValueError
            A pixel of the host is not finite, or it has less than 32 pixels on a side.
        """
        height, width = cutout.pixels.shape[1:]
        if min(height, width) < FEWEST_PIXELS_PER_SIDE:
            raise ValueError(
                f"has {height} x {width} pixels; allowed are {FEWEST_PIXELS_PER_SIDE} per side and "
                "more, so that the PSF and an annulus of sky fit in."
            )
        bad = ~np.isfinite(cutout.pixels)
        if bad.any():
            band, row, column = (int(i) for i in np.argwhere(bad)[0])
            raise ValueError(
                f"{int(bad.sum())} of its pixels are NaN or infinite, the first in band "
                f"{BANDS[band]} at row {row}, column {column}; fill them, or leave it out."
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
    """What a script may want to read of an injection, for JSON; what is not finite is None."""
    names = ["theta_e_arcsec", "magnification", *(f"arc_snr_{band}" for band in BANDS)]
    numbers = {name: float(injected.row[name]) for name in names}
    return {name: value if math.isfinite(value) else None for name, value in numbers.items()}


def _number_of(name: str) -> int:
    """An id from a name, so that a host's arc does not depend on which others are read."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") >> 1
