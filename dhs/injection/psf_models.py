"""Radial profiles of PSFs, chosen by name, for NumPy arrays and torch tensors alike.

To add a PSF model, add an entry to `PSF_MODELS`; `DEFAULT_PSF_MODEL` is what grids use.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from dhs.arguments import real_array

MOFFAT_BETA = 3.5
DEFAULT_PSF_MODEL = "moffat"


class Profile(NamedTuple):
    """A circular profile: 1 in the centre, 1/2 at half its FWHM, and nowhere rising with r.

    ``value`` is a function of ``u = sharpness * (r / FWHM)^2``, an array or a tensor.
    """

    sharpness: float
    value: Callable[[Any], Any]


def _moffat(beta: float = MOFFAT_BETA) -> Profile:
    """``(1 + (r / alpha)^2)^-beta`` (Moffat 1969, A&A 3, 455), ``beta`` in (1, 100]."""
    beta = float(real_array("beta", beta, 1.0, 100.0, low_is_allowed=False, ndim=0))
    return Profile(4 * (2 ** (1 / beta) - 1), lambda u: (1 + u) ** -beta)


def _gaussian() -> Profile:
    return Profile(4.0, lambda u: np.exp2(-u) if isinstance(u, np.ndarray) else (-u).exp2())


PSF_MODELS: Mapping[str, Callable[..., Profile]] = {"moffat": _moffat, "gaussian": _gaussian}
"""Functions that return a profile, by the name of the model; their arguments are its options."""


def psf_profile(model: str = DEFAULT_PSF_MODEL, **options: float) -> Profile:
    """Return the profile of a PSF model.

    Parameters
    ----------
    model : str
        A name in `PSF_MODELS`.
    **options
        ``beta`` of the Moffat profile, in (1, 100].

    Raises
    ------
    ValueError
        The model is not known, does not take an option, or the option is out of its range.
    """
    if model not in PSF_MODELS:
        known = ", ".join(map(repr, PSF_MODELS))
        raise ValueError(f"model={model!r} is not known; expected one of {known}.")
    make = PSF_MODELS[model]
    unknown = set(options) - set(inspect.signature(make).parameters)
    if unknown:
        raise ValueError(f"model={model!r} does not take {', '.join(sorted(unknown))}.")
    return make(**options)
